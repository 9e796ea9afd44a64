"""Values as JSON, by type hints, both ways.

Promises: what is delivered live is what a replay would read; a value that cannot be kept is refused by name, path and
type before anything is stored. Refuses: pickle, guessing a type that was not declared, and losing part of a value.
"""

from holdfast.values.arguments import ArgumentsCodec
from holdfast.values.codec import VALUE_BYTES_MAX, ValueCodec, codec_for, encode_value
from holdfast.values.hints import MISSING, returns_of
from holdfast.values.inputs import digest, show_inputs
from holdfast.values.schema import Definitions, is_object, schema_for, schema_of

__all__ = [
    "MISSING",
    "VALUE_BYTES_MAX",
    "ArgumentsCodec",
    "Definitions",
    "ValueCodec",
    "codec_for",
    "digest",
    "encode_value",
    "is_object",
    "returns_of",
    "schema_for",
    "schema_of",
    "show_inputs",
]
