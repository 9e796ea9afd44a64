"""The JSON schema of a type hint, for forms and for errors."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.values.hints import MISSING, mentions


def schema_of(hint: Any) -> str:
    """The JSON schema as JSON text; `{}`, which allows anything, for a hint that has none."""
    if hint is MISSING or hint is Any:
        return "{}"
    try:
        if mentions(hint).pydantic:
            from pydantic import TypeAdapter

            return msgspec.json.encode(TypeAdapter(hint).json_schema()).decode()
        return msgspec.json.encode(msgspec.json.schema(hint)).decode()
    except (TypeError, ValueError, RuntimeError):  # a type that can be read but not described, such as a callable's
        return "{}"
