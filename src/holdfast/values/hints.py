"""Type hints of functions: what a step returns, what a handler takes, and what a hint mentions.

Promises: names written as strings are resolved where the function was defined, one annotation at a time, so that a
name which cannot be resolved only matters if it is the one asked for. Refuses: a hint it cannot resolve.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import typing
import weakref
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec

from holdfast.errors import BadHandler


class _Missing(Enum):
    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing.MISSING  # no annotation; None is a hint of its own

_SHOWN = 120  # characters of a hint in a message
_EMPTY_FACTORIES: tuple[object, ...] = (list, dict, set, frozenset, tuple, str, int, float, bool, None)
_ITERABLES = (collections.abc.Iterable, collections.abc.Iterator, collections.abc.Generator)
_returns: dict[int, tuple[weakref.ref[Any], Any]] = {}


def hint_of(value: Any) -> Any:
    """The type a value without a declared one is written by: its own, or Any for what JSON has itself."""
    if isinstance(value, tuple):
        return type(value) if hasattr(value, "_fields") else Any
    return Any if value is None or isinstance(value, (list, dict)) or type(value) is object else type(value)


def returns_of(fn: Callable[..., Any]) -> Any:
    """The return annotation of any callable, MISSING when there is none. Raises BadHandler if it cannot be resolved.

    A generator function's is the third argument of Generator[...]; a sync function that returns Awaitable[T] has T.
    """
    fn = getattr(fn, "__func__", fn)  # a bound method is made anew at each access: not a key
    known = _returns.get(id(fn))
    if known is not None and known[0]() is fn:
        return known[1]
    hint = _returns_of(fn)
    key = id(fn)
    with contextlib.suppress(TypeError):  # not everything takes a weak reference
        # By id and not in a WeakKeyDictionary, which calls __hash__ and __eq__ of callable objects and costs twice.
        _returns[key] = (weakref.ref(fn, lambda _: _returns.pop(key, None)), hint)
    return hint


def _returns_of(fn: Any) -> Any:
    if isinstance(fn, functools.partial):
        return returns_of(fn.func)
    if isinstance(fn, type):
        return fn
    if not _has_annotations(fn):
        call = inspect.getattr_static(type(fn), "__call__", None)
        return _returns_of(call) if _has_annotations(call) else MISSING
    hint = resolve(fn, "return")
    if inspect.isgeneratorfunction(fn):
        return _argument(hint, collections.abc.Generator, 2)
    if inspect.isasyncgenfunction(fn):
        return MISSING
    if not inspect.iscoroutinefunction(fn):
        for kind, index in ((collections.abc.Coroutine, 2), (collections.abc.Awaitable, 0)):
            if get_origin(hint) is kind:
                return get_args(hint)[index]
    return hint


def _has_annotations(fn: object) -> bool:
    return isinstance(getattr(fn, "__annotations__", None), dict)


def _argument(hint: Any, origin: Any, index: int) -> Any:
    args = get_args(hint)
    return args[index] if get_origin(hint) is origin and len(args) > index else MISSING


def resolve(fn: Any, name: str) -> Any:
    """One annotation of a function (`name` is a parameter or "return"), strings resolved; MISSING when absent."""
    annotation = getattr(fn, "__annotations__", {}).get(name, MISSING)
    if annotation is MISSING or isinstance(annotation, type):
        return annotation
    inner = inspect.unwrap(fn)
    shim = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        resolved: Any = typing.get_type_hints(
            shim, getattr(inner, "__globals__", {}), _closure(inner), include_extras=True
        )[name]
    except Exception as problem:
        where = "return annotation" if name == "return" else f"annotation of {name!r}"
        raise BadHandler(
            f"the {where} {annotation!r} of {title(fn)} cannot be resolved: {problem}",
            cause="the name is imported under TYPE_CHECKING only, or it is local to a function",
            fix="import or define it at module level" + ("; or pass returns=..." if name == "return" else ""),
        ) from problem
    return None if resolved is type(None) else resolved


def _closure(fn: Any) -> dict[str, Any]:
    """Names a nested function caught; a class it uses in its body can then be used in its annotations as strings."""
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None)
    if code is None or not cells:
        return {}
    found = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def title(fn: Any) -> str:
    """A function as shown in messages: its name without the scopes it was defined in."""
    fn = fn.func if isinstance(fn, functools.partial) else fn
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return f"{name.rpartition('<locals>.')[2]}()"


def show(hint: Any) -> str:
    """A hint as the user wrote it, near enough."""
    if isinstance(hint, type) and not get_args(hint):
        return hint.__qualname__.rpartition("<locals>.")[2]
    text = str(hint).replace("typing.", "")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@dataclasses.dataclass(slots=True)
class Mentions:
    """What a hint mentions anywhere inside, fields of classes included."""

    pydantic: bool = False
    unsteady: bool = False  # a model whose unset fields are filled by code: a clock, a uuid
    sets: bool = False
    iterables: bool = False


def mentions(hint: Any) -> Mentions:
    """Walks a hint once; codecs are cached, so this is not on a hot path."""
    found = Mentions()
    seen: list[Any] = []  # a list: hints need not be hashable, and are few
    queue = [hint]
    ids: set[int] = set()
    while queue:
        item = queue.pop()
        if id(item) in ids:
            continue
        ids.add(id(item))
        seen.append(item)  # keeps it alive, so that its id stays its own
        queue.extend(_look_at(item, found))
    return found


def _look_at(item: Any, found: Mentions) -> list[Any]:
    origin = get_origin(item)
    if origin is Annotated:
        base, *metadata = get_args(item)
        if any(_is_pydantic(type(mark)) for mark in metadata):
            found.pydantic = True
        return [base]
    if origin is typing.Literal:
        return []
    if origin in {set, frozenset, collections.abc.Set, collections.abc.MutableSet} or item in (set, frozenset):
        found.sets = True
    if origin in _ITERABLES:
        found.iterables = True
    if isinstance(item, TypeVar):
        return [item.__bound__, *item.__constraints__]
    if hasattr(item, "__supertype__"):  # NewType
        return [item.__supertype__]
    if type(item).__name__ == "TypeAliasType":  # not in typing before 3.12
        return [item.__value__]
    inside = [arg for arg in get_args(item) if not isinstance(arg, str)]
    if isinstance(origin, type):
        inside.append(origin)
    if isinstance(item, type):
        inside += _look_at_class(item, found)
    return inside


def _look_at_class(item: Any, found: Mentions) -> list[Any]:
    if _is_pydantic(item):
        found.pydantic = True
        fields = getattr(item, "model_fields", {}) or {}
        for field in fields.values():
            if field.default_factory not in _EMPTY_FACTORIES:
                found.unsteady = True
        return [field.annotation for field in fields.values()]
    if dataclasses.is_dataclass(item) or issubclass(item, msgspec.Struct) or hasattr(item, "__annotations__"):
        return _annotations(item)
    return []


def _annotations(item: Any) -> list[Any]:
    if item.__module__ == "builtins":
        return []
    try:
        return list(typing.get_type_hints(item, include_extras=True).values())
    except Exception:  # noqa: BLE001 (resolving names runs the user's modules)
        return []  # the codec will say what cannot be resolved, with the hint in hand


def _is_pydantic(kind: type) -> bool:
    if "pydantic" not in sys.modules:
        return False
    return kind.__module__.partition(".")[0] in {"pydantic", "pydantic_core"} or hasattr(
        kind, "__get_pydantic_core_schema__"
    )
