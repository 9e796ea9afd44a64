"""The JSON schema of a type hint, for forms."""

import io

import msgspec
import pytest

from holdfast.values import MISSING, schema_of
from tests.values.kinds import Hotel, Stop


@pytest.mark.parametrize(
    "hint, part",
    [
        (bool, {"type": "boolean"}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (MISSING, {}),
        (object, {}),
        (io.BytesIO, {}),
        (Hotel | io.BytesIO, {}),
    ],
    ids=str,
)
def test_a_hint_has_the_schema_of_its_json(hint, part):
    assert msgspec.json.decode(schema_of(hint)) == part


def test_models_and_dataclasses_are_described_by_their_fields():
    assert msgspec.json.decode(schema_of(Hotel))["required"] == ["name"]
    assert "city" in schema_of(Stop)
