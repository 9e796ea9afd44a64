"""`name=value ...` on the command line, as the JSON body of a call.

Promises: each value is read as the handler's schema says, and a name it does not have is refused here, with those it
has, before anything is sent.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from holdfast.cli.schemas import Schema, fields, follow, name_of, read_text
from holdfast.errors import BadCommand


def body_of(target: str, pairs: list[str], body: str | None, schema: Schema) -> bytes:
    """The body of a call: `--body` as it is ("-" reads stdin), or one made of name=value. Raises BadCommand."""
    if body is not None:
        if pairs:
            raise _refused(
                "both name=value and --body were given",
                "--body is all of the input",
                "put everything into one of the two",
            )
        return json_bytes(sys.stdin.read() if body == "-" else body, "--body")
    return msgspec.json.encode(_object(target, pairs, schema)) if pairs else b""


def json_bytes(text: str, what: str) -> bytes:
    """The text as JSON bytes. Raises BadCommand if it is none."""
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise _refused(
            f"{what} is no JSON: {error}",
            "a text in JSON has quotes of its own, which the shell takes away",
            "quote the whole for the shell: '\"text\"', '{\"name\": 1}'",
        ) from None
    return text.encode()


def json_or_text(text: str) -> Any:
    """A value whose type nobody declared: JSON if it is that, else the text itself."""
    return read_text(text, {}, {})


def _object(target: str, pairs: list[str], schema: Schema) -> dict[str, Any]:
    top = follow(schema, schema)
    known = fields(top) or {}
    other = top.get("additionalProperties", not known)
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise _refused(f"{pair!r} is not name=value", _takes(target, known, schema), f"write {_example(known)}")
        if name not in known and not other:
            raise _refused(f"{target} takes no {name!r}", _takes(target, known, schema), f"write {_example(known)}")
        if name in values:
            raise _refused(f"{name!r} is given twice", "", "give each name once; a list is written name='[1, 2]'")
        kind = known.get(name, other if isinstance(other, dict) else {})
        try:
            values[name] = read_text(text, kind, schema)
        except ValueError as error:
            raise _refused(
                f"{name}={text}: expected {error}", _takes(target, known, schema), "mend the value"
            ) from None
    return values


def _takes(target: str, known: dict[str, Schema], root: Schema) -> str:
    if not known:
        return f"{target} takes no arguments"
    return f"{target} takes " + ", ".join(f"{name} ({name_of(kind, root)})" for name, kind in known.items())


def _example(known: dict[str, Schema]) -> str:
    return " ".join(f"{name}=..." for name in known) or "no arguments"


def _refused(what: str, cause: str, fix: str) -> BadCommand:
    return BadCommand(what, cause=cause, fix=fix)
