"""The JSON schema of a type hint, for forms, errors and OpenAPI.

Promises: a hint that has no schema is described by `{}`, which allows anything, and is no error. Refuses: to decide
what a value may be; the codec does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from holdfast.values.hints import MISSING, mentions
from holdfast.values.models import without_dict_unions

_DEFS: Final = "#/$defs/"
_write = msgspec.json.Encoder(order="sorted").encode


def schema_of(hint: Any) -> str:
    """The JSON schema as JSON text; `{}` for a hint that has none."""
    return msgspec.json.encode(schema_for(hint)).decode()


def schema_for(hint: Any) -> dict[str, Any]:
    """The JSON schema as data; `{}` for a hint that has none."""
    if hint is MISSING or hint is Any:
        return {}
    hint = without_dict_unions(hint)
    makers: list[Callable[[Any], dict[str, Any]]] = [_by_pydantic]
    if not mentions(hint).pydantic:
        makers.insert(0, msgspec.json.schema)
    for make in makers:
        try:
            return make(hint)
        except (ImportError, TypeError, ValueError, RuntimeError):
            continue  # a type that can be read but not described, such as a callable's, or pydantic is not there
    return {}


def _by_pydantic(hint: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(hint).json_schema()


def is_object(schema: Mapping[str, Any]) -> bool:
    """True if every value of the schema is a JSON object."""
    return _is_object(schema, schema.get("$defs", {}), frozenset())


def _is_object(schema: Any, defs: Mapping[str, Any], above: frozenset[str]) -> bool:
    if not isinstance(schema, Mapping):
        return False
    if schema.get("type") == "object":
        return True
    ref = schema.get("$ref", "")
    if ref.startswith(_DEFS) and ref not in above:
        return _is_object(defs.get(ref[len(_DEFS) :]), defs, above | {ref})
    for choice in ("anyOf", "oneOf"):
        if members := schema.get(choice):
            return all(_is_object(member, defs, above) for member in members)
    return any(_is_object(member, defs, above) for member in schema.get("allOf", ()))


class Definitions:
    """One table for the `$defs` of many schemas; `at` is where the document keeps it ("#/components/schemas/").

    Two definitions of one name that differ, or that refer to ones that differ, are told apart by a number.
    """

    def __init__(self, at: str = _DEFS) -> None:
        self.table: dict[str, Any] = {}
        self._at = at
        self._texts: dict[str, bytes] = {}  # by name in the table: the definition with all that it refers to

    def take(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema without its `$defs`, which are in the table now, its references made to fit."""
        defs: Mapping[str, Any] = schema.get("$defs", {})
        names = {name: self._name(name, _write(_closure(name, defs))) for name in defs}
        for name, new in names.items():
            self.table[new] = self._moved(defs[name], names)
        moved: dict[str, Any] = self._moved({key: part for key, part in schema.items() if key != "$defs"}, names)
        return moved

    def _name(self, name: str, text: bytes) -> str:
        base = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
        new, count = base, 1
        while self._texts.setdefault(new, text) != text:
            count += 1
            new = f"{base}_{count}"
        return new

    def _moved(self, part: Any, names: Mapping[str, str]) -> Any:
        if isinstance(part, Mapping):
            return {key: self._moved(inner, names) for key, inner in part.items()}
        if isinstance(part, list):
            return [self._moved(inner, names) for inner in part]
        # In "$ref", and in a discriminator's mapping.
        if isinstance(part, str) and part.startswith(_DEFS) and part[len(_DEFS) :] in names:
            return self._at + names[part[len(_DEFS) :]]
        return part


def _closure(name: str, defs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    queue = [name]
    while queue:
        here = queue.pop()
        if here in defs and here not in found:
            found[here] = defs[here]
            queue += re.findall(r'"#/\$defs/([^"]+)"', _write(defs[here]).decode())
    return found
