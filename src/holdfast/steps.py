"""What a step's body may know about itself, and how `ctx.run`'s arguments become a step."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from holdfast.core.commands import StepSpec
from holdfast.core.ids import idempotency_key
from holdfast.core.retry import Retry
from holdfast.errors import BadArguments, BadHandler, UnknownDependency, Unserialisable, WrongPlace
from holdfast.once import Policy, plan_once
from holdfast.values import MISSING, ValueCodec, codec_for, digest, encode_value, returns_of

STEP_NAME_CHARS_MAX = 100

_current: ContextVar[StepInfo | None] = ContextVar("holdfast_step", default=None)


class _Known:
    """What is known of a function that was a step before."""

    __slots__ = ("codec", "name")

    def __init__(self) -> None:
        self.codec: ValueCodec | None = None
        self.name: str | None = None


_known: WeakKeyDictionary[Callable[..., Any], _Known] = WeakKeyDictionary()


class StepInfo:
    """The running step, as its body sees it."""

    __slots__ = ("_deps", "_emit", "_reopened", "_seed", "attempt", "cancelled", "id", "invocation")

    def __init__(
        self, id: str, invocation: str, attempt: int, seed: int, deps: Mapping[str, Any],
        emit: Callable[[int, bytes], None], reopened: int = 0,
    ) -> None:  # fmt: skip
        self.id = id  # unique within the invocation, the same in every attempt
        self.invocation = invocation
        self.attempt = attempt  # from 1, counted anew after a restart of the process
        self.cancelled = False  # True once nobody waits for the result: a body in a thread should look, and stop
        self._seed = seed
        self._reopened = reopened
        self._deps = deps
        self._emit = emit

    @property
    def idempotency_key(self) -> str:
        """35 characters that are the same in every attempt and every process, and no other step has (G2)."""
        return idempotency_key(self._seed, self.invocation, self.id, self._reopened)

    def dep(self, name: str) -> Any:
        """A dependency registered as Holdfast(deps={name: ...}). Raises UnknownDependency."""
        return find_dep(self._deps, name)

    def emit(self, event: Any, type: Any = MISSING) -> None:
        """Tells the watchers of the invocation something now, such as the next words of an answer, written as `type` or
        as what it is. It is not kept after the step: what must not be missed belongs into the result. From any
        thread."""
        self._emit(self.attempt, encode_value(event, type))

    def bind(self) -> None:
        """Makes this the running step of the current context. Called by the engine."""
        _current.set(self)


def step() -> StepInfo:
    """The step whose body is running. Raises WrongPlace outside a body."""
    info = _current.get()
    if info is None:
        raise WrongPlace(
            "holdfast.step() was called where no step is running",
            cause="it was called in handler code, or in a thread the body started without its context",
            fix="call it in the function given to ctx.run",
        )
    return info


def secrets_of(deps: Mapping[str, Any]) -> dict[int, str]:
    """The name of each dependency by its id. Given to a step as an argument it is shown by name: keys and clients are
    never stored. None, booleans and numbers are no secrets, and are the same object wherever they occur."""
    return {id(value): name for name, value in deps.items() if not isinstance(value, int | float | None)}


def find_dep(deps: Mapping[str, Any], name: str) -> Any:
    """A dependency by name. Raises UnknownDependency."""
    try:
        return deps[name]
    except KeyError:
        known = ", ".join(sorted(deps)) or "none"
        raise UnknownDependency(
            f"no dependency {name!r} is registered; known: {known}", fix=f"Holdfast(..., deps={{{name!r}: ...}})"
        ) from None


def plan_step(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    name: str | None = None,
    key: str | None = None,
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    returns: Any = MISSING,
    once: Policy = False,
    threaded: bool = False,
) -> StepSpec:
    """The step for a call of `fn`. Raises BadArguments for options that cannot be."""
    known = _known_of(fn)
    known_name = _name_of(fn, known) if name is None else _checked_name(name)
    codec = _codec_of(fn, known) if returns is MISSING else codec_for(returns)
    seconds = _seconds(timeout)
    if once is not False and seconds is not None and not is_async(fn):
        raise BadArguments(
            f"step {known_name!r} is declared once and has a timeout, but it runs in a thread",
            cause="nothing can stop a thread: after the timeout it may still do what it was to do",
            fix="write it as async def, or give the timeout to the client it uses",
        )
    policy = None
    if once is not False:
        policy = plan_once(once, codec, lambda: returns_of(fn) if returns is MISSING else returns)
    return StepSpec(
        known_name, fn, args, kwargs,
        digest=digest(args, kwargs, key), codec=codec, context=copy_context(), retry=retry, timeout=seconds,
        threaded=threaded, once=policy,
    )  # fmt: skip


def plan_thread(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepSpec:
    """The step for a function given to asyncio.to_thread in a handler. It is often a library's own: an annotation of
    its that has no JSON form is passed over, and plain JSON is kept."""
    try:
        return plan_step(fn, args, kwargs, threaded=True)
    except (BadHandler, Unserialisable):
        return plan_step(fn, args, kwargs, threaded=True, returns=Any)


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether a body runs on the engine's loop; any other runs in a thread."""
    code = getattr(fn, "__code__", None)
    if code is not None and not hasattr(fn, "__wrapped__"):
        return bool(code.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def _known_of(fn: Callable[..., Any]) -> _Known:
    # A bound method is a new object at each access: remember its function instead.
    anchor = fn.__func__ if isinstance(fn, types.MethodType) else fn
    try:
        found = _known.get(anchor)
        if found is None:
            found = _known[anchor] = _Known()
    except TypeError:  # not hashable, or cannot be weakly referenced
        return _Known()
    return found


def _codec_of(fn: Callable[..., Any], known: _Known) -> ValueCodec:
    if known.codec is None:
        known.codec = codec_for(returns_of(fn))
    return known.codec


def _name_of(fn: Callable[..., Any], known: _Known) -> str:
    if known.name is not None:
        return known.name
    if not callable(fn):
        raise BadArguments(
            f"ctx.run was given {type(fn).__name__}, not a function",
            cause="the function was called already: ctx.run(f(x)) instead of ctx.run(f, x)",
            fix="give the function and its arguments: ctx.run(function, argument, ...)",
        )
    inner: Any = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    known.name = _checked_name(getattr(inner, "__name__", type(inner).__name__))
    return known.name


def _checked_name(name: str) -> str:
    if name and len(name) <= STEP_NAME_CHARS_MAX and name.isprintable() and not set(name) & set("/#"):
        return name
    raise BadArguments(
        f"{name[:60]!r} cannot be the name of a step",
        cause=f"a name is 1 to {STEP_NAME_CHARS_MAX} printable characters without '/' and '#'",
        fix="give another name=...",
    )


def _seconds(timeout: float | timedelta | None) -> float | None:
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if seconds > 0:
        return seconds
    raise BadArguments(f"a step's timeout is {seconds} seconds", fix="give a positive number or leave it out")
