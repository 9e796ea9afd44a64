"""Looks into values of any shape to say where and why one cannot be kept. Only on the way to an error.

Promises: the path of the first thing that is wrong, in the value's own order. Refuses nothing and changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any, NamedTuple

import msgspec

DEPTH_MAX = 200  # levels of a value; pydantic's JSON reader stops near here too
_SIMPLE = (str, int, float, bool, type(None))


class Problem(NamedTuple):
    """Where a value cannot be kept, what is there, and what to do about it."""

    path: str
    found: str
    fix: str = ""


def type_name(kind: type) -> str:
    """A type as the user would write it: builtins bare, others with their module."""
    if kind is type(None):
        return "None"
    if kind.__module__ in {"builtins", "__main__"}:
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _a(value: object) -> str:
    """Its type with the article: "an int", "a myapp.Model"; "None" has none."""
    name = type_name(type(value))
    return name if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def is_record(value: object) -> bool:
    """True for what has named fields: pydantic models, dataclasses, msgspec Structs, named tuples."""
    kind = type(value)
    return (
        hasattr(kind, "model_fields")
        or dataclasses.is_dataclass(value)
        or isinstance(value, msgspec.Struct)
        or (isinstance(value, tuple) and hasattr(kind, "_fields"))
    )


def fields_of(value: Any) -> Iterator[tuple[str, object]]:
    """The named fields of a record with their values; a model's extra fields too, its private ones not."""
    kind = type(value)
    if hasattr(kind, "model_fields"):
        yield from vars(value).items()
        yield from (value.__pydantic_extra__ or {}).items()
    elif isinstance(value, tuple):
        yield from zip(kind._fields, value, strict=True)
    elif isinstance(value, msgspec.Struct):
        yield from ((name, getattr(value, name, None)) for name in value.__struct_fields__)
    else:
        yield from ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))


def children(value: object) -> Iterator[tuple[str, object]]:
    """What a container holds, each with its part of the path. Nothing for anything else."""
    if isinstance(value, dict):
        yield from ((f".{key}" if isinstance(key, str) else f"[{key!r}]", item) for key, item in value.items())
    elif is_record(value):
        yield from ((f".{name}", item) for name, item in fields_of(value))
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("{...}", item) for item in value)


def first_problem(value: object, write: Callable[[Any], bytes] | None = None) -> Problem | None:
    """The first thing in the value that JSON cannot hold under any type hint, or that `write` cannot.

    Without `write`, types unknown to us are left alone: a model may have its own way to write them.
    """
    above: set[int] = set()  # ids of the containers we are inside of
    stack: list[tuple[str, object, Iterator[tuple[str, object]]]] = []
    path, item = "$", value
    while True:
        problem = _problem_here(path, item, above, len(stack), write)
        if problem is not None:
            return problem
        above.add(id(item))
        stack.append((path, item, children(item)))
        while stack:
            path, item, rest = stack[-1]
            below = next(rest, None)
            if below is not None:
                path, item = path + below[0], below[1]
                break
            above.discard(id(item))
            stack.pop()
        else:
            return None


def _problem_here(
    path: str, item: object, above: set[int], depth: int, write: Callable[[Any], bytes] | None
) -> Problem | None:
    if type(item) in _SIMPLE:
        return _scalar_problem(path, item)
    if id(item) in above:
        return Problem(path, f"{_a(item)} that contains itself", "break the circle")
    if depth > DEPTH_MAX:
        return _too_deep(path)
    if hasattr(item, "get_secret_value"):
        return Problem(path, f"{_a(item)}, and secrets are not stored", "register it as a dependency: deps={...}")
    if isinstance(item, (dict, list, tuple, set, frozenset)) or is_record(item):
        return None
    if write is not None and _fails(write, item):
        if isinstance(item, bytes):
            fix = "give the model ConfigDict(ser_json_bytes='base64', val_json_bytes='base64')"
            return Problem(path, "bytes that are not valid UTF-8, and pydantic writes bytes as text", fix)
        return Problem(path, f"{_a(item)}, which has no JSON form")
    return None


def _too_deep(path: str) -> Problem:
    return Problem(path[:80] + "...", f"more than {DEPTH_MAX} levels deep", "return it in a flatter shape")


def _scalar_problem(path: str, item: object) -> Problem | None:
    if type(item) is float and not isfinite(item):
        return Problem(path, f"the float {item!r}, which JSON cannot hold", "return None, or a string, in its place")
    if type(item) is str:
        try:
            item.encode()
        except UnicodeEncodeError:
            return Problem(
                path,
                "a str with a lone surrogate, which is not valid UTF-8",
                "decode the bytes it came from with errors='replace', or return bytes",
            )
    return None


def _fails(write: Callable[[Any], bytes], item: object) -> bool:
    try:
        write(item)
    except Exception:  # noqa: BLE001 (a serializer of the user's may raise anything)
        return True
    return False


def plain_problem(value: Any, path: str = "$", depth: int = 0) -> Problem | None:
    """The first thing in the value that is not plain JSON: None, bool, int, float, str, list, tuple, dict of str keys.

    Exact types only: a str enum or a defaultdict would come back as something else.
    """
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return None
    if kind is float:
        return None if isfinite(value) else _scalar_problem(path, value)
    if depth > DEPTH_MAX:
        return _too_deep(path)
    if kind is list or kind is tuple:
        for index, item in enumerate(value):
            if type(item) is not str and (found := plain_problem(item, f"{path}[{index}]", depth + 1)) is not None:
                return found
        return None
    if kind is not dict:
        return Problem(path, _a(value))
    for key, item in value.items():
        if type(key) is not str:
            return Problem(path, f"a dict with a key of type {type_name(type(key))}")
        if type(item) is not str and (found := plain_problem(item, f"{path}.{key}", depth + 1)) is not None:
            return found
    return None


def difference(value: Any, decoded: Any, path: str = "$", depth: int = 0) -> Problem | None:
    """What was lost between a value and what its JSON reads back as.

    Not a loss: int read as float, tuple as list, plain data read as something richer, private attributes of models.
    """
    if value is decoded or equal(value, decoded):
        return None
    if depth > DEPTH_MAX:
        return _too_deep(path)
    if is_record(value) or is_record(decoded):
        if _class(value) is not _class(decoded):
            return _swapped(path, value, decoded)
        return _fields_difference(dict(fields_of(value)), dict(fields_of(decoded)), path, depth)
    if isinstance(value, dict) and isinstance(decoded, dict):
        return _fields_difference(value, decoded, path, depth)
    if isinstance(value, (list, tuple)) and isinstance(decoded, (list, tuple)):
        if len(value) != len(decoded):
            return Problem(path, f"{_a(value)} of length {len(value)} that reads back with length {len(decoded)}")
        pairs = zip(value, decoded, strict=True)
        problems = (difference(a, b, f"{path}[{i}]", depth + 1) for i, (a, b) in enumerate(pairs))
        return next((problem for problem in problems if problem is not None), None)
    return _leaf_difference(value, decoded, path)


def _leaf_difference(value: object, decoded: object, path: str) -> Problem | None:
    if type(value) in _SIMPLE:
        same = type(value) is type(decoded)
        return Problem(path, f"{_a(value)} that reads back as another one") if same else None
    if type(value) is type(decoded) or type(decoded) not in {*_SIMPLE, dict, list}:
        return None
    return _swapped(path, value, decoded)


def _fields_difference(value: dict[Any, Any], decoded: dict[Any, Any], path: str, depth: int) -> Problem | None:
    for key, item in value.items():
        here = f"{path}.{key}" if isinstance(key, str) else f"{path}[{key!r}]"
        if key not in decoded:
            return Problem(here, "a field or key that the declared type does not have")
        problem = difference(item, decoded[key], here, depth + 1)
        if problem is not None:
            return problem
    return None


def _swapped(path: str, value: object, decoded: object) -> Problem:
    return Problem(path, f"{_a(value)} that reads back as {_a(decoded)}")


def equal(value: object, decoded: object) -> bool:
    """Equality that never raises: some types answer == with an array, or fail."""
    try:
        return (value == decoded) is True
    except Exception:  # noqa: BLE001 (a user's __eq__ may raise anything)
        return False


def _class(value: object) -> object:
    """A record's class; Page and Page[int] of a generic model are one."""
    meta = getattr(type(value), "__pydantic_generic_metadata__", None)
    return (meta and meta["origin"]) or type(value)
