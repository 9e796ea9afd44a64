"""Forms from schemas: what is asked, how an answer is read, and that a wrong one is asked for again."""

from typing import Any

import pytest

from holdfast.cli.forms import fill
from holdfast.cli.screen import Screen


class Typist(Screen):
    """A screen in front of which somebody types the given lines."""

    def __init__(self, *lines: str) -> None:
        super().__init__(json=False)
        self.lines = list(lines)
        self.seen: list[str] = []

    def ask(self, prompt: str) -> str:
        self.seen.append(prompt)
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)

    def ask_line(self, text: str) -> None:
        self.seen.append(text)


WISH = {
    "$ref": "#/$defs/Wish",
    "$defs": {
        "Wish": {
            "type": "object",
            "required": ["cost", "board", "hotel"],
            "properties": {
                "cost": {"type": "integer", "minimum": 1},
                "board": {"enum": ["none", "half", "full"]},
                "hotel": {"$ref": "#/$defs/Hotel"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                "pets": {"type": "boolean", "default": False},
                "car": {"anyOf": [{"$ref": "#/$defs/Hotel"}, {"type": "null"}], "default": None},
            },
        },
        "Hotel": {"type": "object", "required": ["stars"], "properties": {"stars": {"type": "integer"}}},
    },
}


@pytest.mark.parametrize(
    "schema,lines,value",
    [
        ({"type": "boolean"}, ["y"], True),
        ({"type": "boolean"}, ["maybe", "no"], False),
        ({"type": "string"}, [" 3 "], "3"),
        ({"type": "string"}, [""], ""),
        ({"type": "number"}, ["x", "2.5"], 2.5),
        ({"enum": ["none", "half"]}, ["2"], "half"),
        ({"enum": ["none", "half"]}, ["half"], "half"),
        ({"enum": ["2", "1"]}, ["1"], "1"),  # the value, not the line's number
        ({"enum": ["none", "half"]}, ["3", "0", "1"], "none"),
        ({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, [""], None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, [""], None),
        ({"type": "array", "items": {"type": "string"}}, ["a, b", '["a", "b"]'], ["a", "b"]),
        ({}, ['{"free": 1}'], {"free": 1}),
        ({}, ["free"], "free"),
        (WISH, ["120", "2", "4", "", "", "n"], {"cost": 120, "board": "half", "hotel": {"stars": 4}}),
        (
            WISH,
            ["0", "1", "full", "4", "a view", "y", "y", "2"],
            {"cost": 1, "board": "full", "hotel": {"stars": 4}, "note": "a view", "pets": True, "car": {"stars": 2}},
        ),
        ({"anyOf": [WISH["$defs"]["Hotel"], {"type": "null"}]}, ["no"], None),  # type: ignore[index]
    ],
)
def test_a_form_gives_the_value(schema: dict[str, Any], lines: list[str], value: Any) -> None:
    typist = Typist(*lines)
    assert fill(typist, schema) == value
    assert typist.lines == []


def test_what_is_asked_can_be_understood() -> None:
    typist = Typist("0", "1", "2", "4", "", "", "n")
    fill(typist, WISH)
    assert typist.seen == [
        "cost (whole number): ",
        "expected at least 1",
        "cost (whole number): ",
        "board:",
        "  1  none",
        "  2  half",
        "  3  full",
        "board (number or value): ",
        "hotel:",
        "  stars (whole number): ",
        "note (text, or nothing; Enter for none): ",
        "pets (yes or no; Enter for no): ",
        "give car? (yes or no): ",
    ]


def test_a_closed_terminal_ends_the_form() -> None:
    with pytest.raises(EOFError):
        fill(Typist("120"), WISH)
