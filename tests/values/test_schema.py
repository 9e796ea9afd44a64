"""The JSON schema of a type hint, for forms."""

import io

import msgspec
import pytest

from holdfast.values import MISSING, Definitions, is_object, schema_for, schema_of
from tests.values.kinds import Card, Cash, Colour, Hotel, Leg, Loose, Stop, Ticket, Tree, shown


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
    ids=shown,
)
def test_a_hint_has_the_schema_of_its_json(hint, part):
    assert msgspec.json.decode(schema_of(hint)) == part


def test_models_and_dataclasses_are_described_by_their_fields():
    assert msgspec.json.decode(schema_of(Hotel))["required"] == ["name"]
    assert "city" in schema_of(Stop)


def test_unions_that_only_pydantic_can_tell_apart_are_described_by_it():
    assert len(schema_for(Stop | Tree)["anyOf"]) == 2


def test_unions_of_typed_dicts_are_plain_objects_as_they_are_read():
    from openai.types.chat import ChatCompletionMessageParam

    assert schema_for(list[ChatCompletionMessageParam])["items"]["type"] == "object"


def test_a_part_without_a_type_does_not_hide_the_rest():
    assert schema_for(Loose)["$defs"]["Loose"]["properties"] == {"payload": {}}


def test_a_definition_that_only_refers_to_itself_is_no_object():
    assert not is_object({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}})
    assert not is_object({"$ref": "#/$defs/gone"})
    assert is_object({"allOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"type": "object"}}})


def test_definitions_of_many_schemas_share_a_table():
    definitions = Definitions("#/components/schemas/")
    assert definitions.take(schema_for(Leg)) == {"$ref": "#/components/schemas/Leg"}
    stops = definitions.take(schema_for(list[Stop]))
    assert stops["items"] == {"$ref": "#/components/schemas/Stop"}
    assert definitions.take(schema_for(Card | Cash))["discriminator"]["mapping"] == {
        "card": "#/components/schemas/Card",
        "cash": "#/components/schemas/Cash",
    }
    assert set(definitions.table) == {"Leg", "Stop", "Colour", "Card", "Cash"}
    assert definitions.table["Leg"]["properties"]["stops"]["items"] == {"$ref": "#/components/schemas/Stop"}
    assert definitions.table["Colour"] == schema_for(Colour)["$defs"]["Colour"]
    assert "#/$defs/" not in msgspec.json.encode(definitions.table).decode()


def test_two_definitions_of_one_name_are_told_apart_also_by_what_they_refer_to():
    def schema(kind):
        return {"$ref": "#/$defs/A", "$defs": {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {"type": kind}}}

    definitions = Definitions()
    refs = [definitions.take(schema(kind))["$ref"] for kind in ("string", "integer", "string")]
    assert refs == ["#/$defs/A", "#/$defs/A_2", "#/$defs/A"]
    assert definitions.table["A_2"] == {"items": {"$ref": "#/$defs/B_2"}}
    assert definitions.table["B_2"] == {"type": "integer"}


def test_names_that_a_document_cannot_hold_are_changed():
    schema = {"$ref": "#/$defs/Seite[ö]", "$defs": {"Seite[ö]": {"type": "null"}}}
    assert Definitions().take(schema) == {"$ref": "#/$defs/Seite___"}


def test_a_typed_dict_with_optional_keys_is_an_object():
    assert is_object(schema_for(Ticket))
