"""From typed-in text to JSON: by the schema, never by looks."""

import json
from typing import Any

import pytest

from holdfast.cli.arguments import body_of, json_bytes, json_or_text
from holdfast.cli.commands.options import iso, seconds
from holdfast.cli.schemas import name_of, read_text
from holdfast.errors import BadCommand

TEXT = {"type": "string"}
WHOLE = {"type": "integer", "minimum": 1, "maximum": 9}
DAY = {"type": "string", "format": "date"}
BOOL = {"type": "boolean"}
MAYBE = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
LEVEL = {"enum": ["low", "high", 3]}
CLAIM = {"type": "object", "properties": {"id": TEXT, "n": WHOLE}, "required": ["id"]}


@pytest.mark.parametrize(
    "text,schema,value",
    [
        ("yes", TEXT, "yes"), ("1", TEXT, "1"), ("", TEXT, ""), ('"a"', TEXT, '"a"'), ("null", TEXT, "null"),
        ("yes", BOOL, True), ("N", BOOL, False), ("true", BOOL, True), ("7", WHOLE, 7),
        ("1.5", {"type": "number"}, 1.5),
        ("2", {"type": "number"}, 2), ("1e3", {"type": "number"}, 1000.0), ("", MAYBE, None), ("null", MAYBE, None),
        ("4", MAYBE, 4), ("low", LEVEL, "low"), ("3", LEVEL, 3), ("[1]", {"type": "array"}, [1]),
        ('{"id": "a"}', CLAIM, {"id": "a"}), ("word", {}, "word"), ("1", {}, 1), ('{"a": 1}', {}, {"a": 1}),
        ("x", {"const": "x"}, "x"), ("2026-12-24", DAY, "2026-12-24"),
    ],
)  # fmt: skip
def test_a_text_is_read_as_its_schema_says(text: str, schema: dict[str, Any], value: Any) -> None:
    found = read_text(text, schema, schema)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text,schema,expected",
    [
        ("maybe", BOOL, "yes or no"), ("x", WHOLE, "a whole number"), ("1.5", WHOLE, "a whole number"),
        ("0", WHOLE, "at least 1"), ("10", WHOLE, "at most 9"), ("nan", {"type": "number"}, "a number"),
        ("inf", {"type": "number"}, "a number"), ("mid", LEVEL, "one of low, high, 3"), ("x", CLAIM, "{id, n}"),
        ("a, b", {"type": "array"}, "list, as JSON"), ("2026-13-45", DAY, "a date such as"),
        ("", DAY, "a date such as"), ("x", {"type": "object"}, "^JSON$"),
    ],
)  # fmt: skip
def test_a_text_that_does_not_fit_is_refused_with_what_would(text: str, schema: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read_text(text, schema, schema)


def test_references_are_followed_and_never_for_ever() -> None:
    root = {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": BOOL, "Round": {"$ref": "#/$defs/Round"}, "a/b~c": TEXT}}
    assert name_of({"$ref": "#/$defs/A"}, root) == "yes or no"
    assert name_of({"$ref": "#/$defs/a~1b~0c"}, root) == "text"
    assert name_of({"$ref": "#/$defs/Round"}, root) == "JSON"
    assert name_of({"$ref": "#/$defs/Nowhere"}, root) == "JSON"
    assert name_of({"$ref": "https://elsewhere"}, root) == "JSON"


@pytest.mark.parametrize(
    "schema,name",
    [
        (BOOL, "yes or no"), (MAYBE, "whole number, or nothing"), (LEVEL, "low | high | 3"), (CLAIM, "{id, n}"),
        ({"type": "string", "format": "date-time"}, "date and time"), ({"type": "array"}, "list"),
        ({"type": "array", "items": {"$ref": "#/$defs/A"}, "$defs": {"A": TEXT}}, "list of text"), ({}, "JSON"),
        ({"type": "null"}, "nothing"),
        ({"anyOf": [TEXT, WHOLE]}, "JSON"),
    ],
)  # fmt: skip
def test_types_have_names_for_people(schema: dict[str, Any], name: str) -> None:
    assert name_of(schema, schema) == name


def test_arguments_become_one_object() -> None:
    schema = {"type": "object", "properties": {"name": TEXT, "times": WHOLE}, "required": ["name"]}
    body = body_of("Greeter/greet", ["name=a=b", "times=2"], None, schema)
    assert json.loads(body) == {"name": "a=b", "times": 2}
    assert body_of("Greeter/greet", [], None, schema) == b""


@pytest.mark.parametrize(
    "pairs,what",
    [
        (["nme=x"], "takes no 'nme'"), (["name"], "is not name=value"), (["name=a", "name=b"], "given twice"),
        (["times=x"], "expected a whole number"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_with_those_that_do(pairs: list[str], what: str) -> None:
    schema = {"type": "object", "properties": {"name": TEXT, "times": WHOLE}}
    with pytest.raises(BadCommand, match=what) as failure:
        body_of("Greeter/greet", pairs, None, schema)
    assert "name (text), times (whole number)" in str(failure.value) or what == "given twice"


def test_a_handler_that_takes_anything_takes_any_name() -> None:
    assert json.loads(body_of("A/b", ["x=1", "y=z"], None, {"type": "object", "additionalProperties": True})) == {
        "x": 1,
        "y": "z",
    }


def test_a_body_is_json_or_refused() -> None:
    assert body_of("A/b", [], '{"a":1}', {}) == b'{"a":1}'
    with pytest.raises(BadCommand, match="--body is no JSON"):
        body_of("A/b", [], "{a:1}", {})
    with pytest.raises(BadCommand, match="both"):
        body_of("A/b", ["a=1"], "{}", {})
    with pytest.raises(BadCommand, match="the value is no JSON"):
        json_bytes("hello", "the value")
    assert json_or_text("hello") == "hello"
    assert json_or_text("[1]") == [1]


@pytest.mark.parametrize(
    "text,length,written",
    [("90", 90, "P0DT90S"), ("1.5s", 1.5, "P0DT1.5S"), ("500ms", 0.5, "P0DT0.5S"), ("2h", 7200, "P0DT7200S"),
     ("30d", 2_592_000, "P30DT0S"), ("15min", 900, "P0DT900S"), ("1 w", 604_800, "P7DT0S")],
)  # fmt: skip
def test_lengths_of_time(text: str, length: float, written: str) -> None:
    assert seconds(text) == length
    assert iso(length) == written


@pytest.mark.parametrize("text", ["", "soon", "-3s", "3y", "1h30m", "nan"])
def test_lengths_that_are_none(text: str) -> None:
    with pytest.raises(Exception, match="write a number and a unit"):
        seconds(text)
