"""A typed form in the terminal, made from a JSON schema: yes or no, a choice, a number, a text, field by field.

Promises: a value that cannot be read is asked for again, with what was expected. Refuses: to guess a form for what has
no simple one; that is asked for as JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.cli.schemas import Schema, choices, fields, follow, name_of, optional, read_text
from holdfast.cli.screen import Screen

INDENT = "  "


def fill(screen: Screen, schema: Schema) -> Any:
    """The value a person enters. Raises EOFError when the terminal closes."""
    return _value(screen, schema, schema, label="", depth=0)


def choose(screen: Screen, lines: list[str]) -> int:
    """The place of the line a person chooses. Raises EOFError as `fill`."""
    for number, line in enumerate(lines, 1):
        screen.ask_line(f"{number:>3}  {line}")

    def read(text: str) -> int:
        if text.isdigit() and 0 < int(text) <= len(lines):
            return int(text) - 1
        raise ValueError(f"a number from 1 to {len(lines)}")

    place: int = _ask(screen, f"1 to {len(lines)}", read, "which", 0)
    return place


def _value(screen: Screen, schema: Schema, root: Schema, *, label: str, depth: int) -> Any:
    plain, nullable = optional(schema, root)
    inner = fields(plain)
    if inner is not None:
        if nullable and not _wanted(screen, label, depth):
            return None
        return _fields(screen, plain, inner, root, label=label, depth=depth)
    values = choices(plain)
    if values is not None and len(values) > 1:
        return _choice(screen, values, label=label, depth=depth, nullable=nullable)
    return _ask(screen, name_of(schema, root), lambda text: read_text(text, schema, root), label, depth)


def _fields(
    screen: Screen, schema: Schema, inner: dict[str, Schema], root: Schema, *, label: str, depth: int
) -> dict[str, Any]:
    if label:
        screen.ask_line(f"{INDENT * depth}{label}:")
    required = schema.get("required", [])
    found: dict[str, Any] = {}
    for name, kind in inner.items():
        below = depth + 1 if label else depth
        if name not in required and fields(optional(kind, root)[0]) is None:
            value = _or_default(screen, kind, root, name, below)
            if value is not _LEFT_OUT:
                found[name] = value
        elif name in required:
            found[name] = _value(screen, kind, root, label=name, depth=below)
        elif _wanted(screen, name, below):  # and not asked again if it may be null
            found[name] = _value(screen, optional(kind, root)[0], root, label=name, depth=below)
    return found


_LEFT_OUT = object()


def _or_default(screen: Screen, schema: Schema, root: Schema, name: str, depth: int) -> Any:
    default = follow(schema, root).get("default")
    shown = (
        {None: "none", True: "yes", False: "no"}.get(default, default) if isinstance(default, bool | None) else default
    )
    hint = f"{name_of(schema, root)}; Enter for {shown}"
    return _ask(screen, hint, lambda text: read_text(text, schema, root) if text else _LEFT_OUT, name, depth)


def _wanted(screen: Screen, label: str, depth: int) -> bool:
    answer: bool = _ask(
        screen, "yes or no", lambda text: read_text(text, {"type": "boolean"}, {}), f"give {label or 'one'}?", depth
    )
    return answer


def _choice(screen: Screen, values: list[Any], *, label: str, depth: int, nullable: bool) -> Any:
    if label:
        screen.ask_line(f"{INDENT * depth}{label}:")
    for number, value in enumerate(values, 1):
        screen.ask_line(f"{INDENT * (depth + 1)}{number}  {value}")

    def read(text: str) -> Any:
        if not text and nullable:
            return None
        # A value that is written like a number is meant before a number that counts lines.
        for value in values:
            if text == str(value):
                return value
        if text.isdigit() and 0 < int(text) <= len(values):
            return values[int(text) - 1]
        raise ValueError(f"a number from 1 to {len(values)}, or the value itself")

    return _ask(screen, "number or value" + ("; Enter for none" if nullable else ""), read, label, depth)


def _ask(screen: Screen, hint: str, read: Callable[[str], Any], label: str, depth: int) -> Any:
    prompt = f"{label} ({hint}): " if label else f"{hint}: "
    while True:
        text = screen.ask(INDENT * depth + prompt)
        try:
            return read(text.strip())
        except ValueError as error:
            screen.ask_line(f"{INDENT * depth}expected {error}")
