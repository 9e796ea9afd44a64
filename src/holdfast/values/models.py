"""Hints that msgspec does not know: pydantic models, models of the openai client, unions of TypedDicts.

Promises: pydantic is imported only when a hint needs it. Refuses: hints whose values pydantic would read back as
one-shot iterators.
"""

from __future__ import annotations

import collections.abc
import functools
import operator
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from holdfast.values.hints import Mentions, mentions

_Write = Callable[[Any], bytes]
_UNIONS = (Union, types.UnionType)
PYDANTIC_MIN = (2, 11)  # before it, what was written by field names could not be read beside what has aliases


def pydantic_codec(hint: Any, found: Mentions) -> tuple[Sequence[_Write], Callable[[bytes], Any], _Write]:
    """Of a hint that pydantic handles whole: writers in order of preference, the reader, and a writer for any part."""
    from pydantic import VERSION, ConfigDict, PydanticUserError, TypeAdapter
    from pydantic_core import to_json

    if tuple(map(int, VERSION.split(".")[:2])) < PYDANTIC_MIN:
        raise TypeError(f"pydantic {VERSION} is too old; install 2.11 or later")
    hint = without_dict_unions(hint)
    if mentions(hint).iterables:
        raise TypeError("pydantic reads Iterable back as an iterator that can be used once; declare a list")
    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    adapter: TypeAdapter[Any]
    try:
        adapter = TypeAdapter(hint, config=config)
    except PydanticUserError:
        adapter = TypeAdapter(hint)  # a class with a configuration of its own
    adapter.rebuild()  # what was put off until the first use: names that cannot be resolved are an error now

    def write(value: Any, by_alias: bool, exclude_unset: bool) -> bytes:
        return adapter.dump_json(value, by_alias=by_alias, exclude_unset=exclude_unset, round_trip=True, warnings=False)

    # First as it looks on the wire, with unset fields left out: the openai client tells "unset" from "null". That
    # loses what was put into an unset default (items.append) and what serialization_alias renames, so the second
    # writes everything under field names. Code that fills unset fields would fill them anew at each read.
    writers = (
        functools.partial(write, by_alias=True, exclude_unset=not found.unsteady),
        functools.partial(write, by_alias=False, exclude_unset=False),
    )
    lenient = _lenient_class(hint)

    def read(data: bytes) -> Any:
        try:
            return adapter.validate_json(data, by_alias=True, by_name=True)
        except Exception:
            if lenient is None or not isinstance(fields := msgspec.json.decode(data), dict):
                raise
            return lenient.model_construct(**fields)

    return writers, read, to_json


def _lenient_class(hint: Any) -> Any:
    """A model class with a `model_construct` of its own, such as those of the openai client.

    They are built from whatever a server sent, unchecked. A server that only resembles OpenAI's sends fields that do
    not validate; to refuse its answer would lose what has been paid for.
    """
    members = [member for member in get_args(hint) if member is not type(None)]
    if get_origin(hint) in _UNIONS and len(members) == 1:
        hint = members[0]
    construct = getattr(hint, "model_construct", None)
    if construct is None:
        return None
    from pydantic import BaseModel

    return hint if construct.__func__ is not BaseModel.model_construct.__func__ else None  # type: ignore[attr-defined]


def without_dict_unions(hint: Any) -> Any:
    """The hint with unions of TypedDicts, and those that hold an Iterable, read as plain dicts, which they are.

    Neither library can handle the message parameters of the openai client: msgspec takes one TypedDict in a union,
    pydantic turns their Iterable fields into iterators, and both drop keys that are not declared.
    """
    args = get_args(hint)
    if _is_typed_dict(hint):
        return dict[str, Any] if mentions(hint).iterables else hint
    if not args or get_origin(hint) in (Annotated, collections.abc.Callable):
        return hint
    changed = tuple(without_dict_unions(arg) for arg in args)
    if get_origin(hint) in _UNIONS:
        dicts = [arg for arg in changed if _is_typed_dict(arg) or arg == dict[str, Any]]
        if len(dicts) > 1:
            changed = (*(arg for arg in changed if arg not in dicts), dict[str, Any])
        return hint if changed == args else functools.reduce(operator.or_, changed)
    if changed == args:
        return hint
    return hint.copy_with(changed) if hasattr(hint, "copy_with") else get_origin(hint)[changed]


def _is_typed_dict(hint: Any) -> bool:
    """Also for typing_extensions' own, which typing.is_typeddict does not know before 3.13."""
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__required_keys__")


def detail(failure: Exception | None) -> str:
    """What a library's error says, in one line, with the path in our form."""
    if failure is None:
        return "it cannot be written"
    errors = getattr(failure, "errors", None)
    if errors is None or type(failure).__module__ != "pydantic_core._pydantic_core":
        return str(failure).partition("\n")[0] or type(failure).__name__
    found = errors(include_url=False)
    first = found[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{first['msg']}, got {type(first['input']).__name__} - at `${path}`{more}"
