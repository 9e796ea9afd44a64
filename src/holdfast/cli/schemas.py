"""JSON schemas, as far as a terminal needs them: what a value is called, and how a typed-in text becomes one.

Promises: a text is read as the schema says, never as it looks: "yes" for a text field stays a text. What the schema
does not settle is read as JSON. Refuses: to validate to the end. The server does, with the real types.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

Schema = dict[str, Any]

YES = ("y", "yes", "true")
NO = ("n", "no", "false")
DEPTH_MAX = 20  # of references that name references


def follow(schema: Schema, root: Schema) -> Schema:
    """The schema a reference stands for. References lead into the document only: `#/$defs/Name`."""
    for _ in range(DEPTH_MAX):
        name = schema.get("$ref")
        if not isinstance(name, str) or not name.startswith("#/"):
            return schema
        found: Any = root
        for part in name[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
        schema = found if isinstance(found, dict) else {}
    return {}


def optional(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """The schema without its null, and whether null is allowed."""
    schema = follow(schema, root)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(choices, list):
        return schema, False
    others = [choice for choice in choices if follow(choice, root).get("type") != "null"]
    nullable = len(others) < len(choices)
    return (follow(others[0], root), nullable) if len(others) == 1 else (schema, nullable)


def choices(schema: Schema) -> list[Any] | None:
    """The values of an enum."""
    if "const" in schema:
        return [schema["const"]]
    found = schema.get("enum")
    return found if isinstance(found, list) and found else None


def fields(schema: Schema) -> dict[str, Schema] | None:
    """The named fields of an object; None for what is no object with fields."""
    found = schema.get("properties")
    return found if schema.get("type") == "object" and isinstance(found, dict) and found else None


def name_of(schema: Schema, root: Schema) -> str:
    """What a person calls the type."""
    schema, nullable = optional(schema, root)
    if (values := choices(schema)) is not None:
        name = " | ".join(str(value) for value in values)
    elif (kind := schema.get("type")) == "boolean":
        name = "yes or no"
    elif kind == "string":
        name = {"date-time": "date and time", "date": "date", "time": "time"}.get(schema.get("format", ""), "text")
    elif kind == "integer":
        name = "whole number"
    elif kind == "number":
        name = "number"
    elif kind == "array":
        items = schema.get("items")
        name = f"list of {name_of(items, root)}" if isinstance(items, dict) and items else "list"
    elif kind == "null":
        name = "nothing"
    elif (inner := fields(schema)) is not None:
        name = "{" + ", ".join(inner) + "}"
    else:
        name = "JSON"
    return f"{name}, or nothing" if nullable else name


def read_text(text: str, schema: Schema, root: Schema) -> Any:
    """The value a person meant by a text. Raises ValueError saying what was expected."""
    schema, nullable = optional(schema, root)
    if nullable and text in ("", "null"):
        return None
    if (values := choices(schema)) is not None:
        return _choice(text, values)
    match schema.get("type"):
        case "string":
            return _text(text, schema)
        case "boolean":
            return _yes_or_no(text)
        case "integer" | "number" as kind:
            return _number(text, schema, whole=kind == "integer")
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        if not schema or "anyOf" in schema:  # anything goes, so a bare word may be the text it looks like
            return text
        name = name_of(schema, root)
        raise ValueError(name if name == "JSON" else f"{name}, as JSON") from None


def _text(text: str, schema: Schema) -> str:
    if schema.get("format") == "date":
        try:
            date.fromisoformat(text)
        except ValueError:
            raise ValueError("a date such as 2026-12-24") from None
    return text


def _choice(text: str, values: list[Any]) -> Any:
    for value in values:
        if text == str(value):
            return value
    raise ValueError("one of " + ", ".join(str(value) for value in values))


def _yes_or_no(text: str) -> bool:
    word = text.strip().lower()
    if word in YES:
        return True
    if word in NO:
        return False
    raise ValueError("yes or no")


def _number(text: str, schema: Schema, *, whole: bool) -> float:
    try:
        number: float = int(text) if whole else _finite(text)
    except ValueError:
        raise ValueError("a whole number" if whole else "a number") from None
    if "minimum" in schema and number < schema["minimum"]:
        raise ValueError(f"at least {schema['minimum']}")
    if "maximum" in schema and number > schema["maximum"]:
        raise ValueError(f"at most {schema['maximum']}")
    return number


def _finite(text: str) -> float:
    """JSON has no infinity and no NaN."""
    number = float(text)
    if number - number != 0:
        raise ValueError(text)
    return int(text) if text.lstrip("+-").isdigit() else number
