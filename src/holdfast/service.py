"""Handlers and the groups they come in: services, objects, workflows.

A handler stays the function it was: it can be called in a test without an engine. Refuses: sync functions, which
would block every other invocation, and async generators, which have no result.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, overload

import msgspec

from holdfast.errors import BadArguments, BadHandler, UnknownHandler
from holdfast.values import ArgumentsCodec, ValueCodec, codec_for, returns_of, schema_for

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["service", "object", "workflow"]

KEY_CHARS_MAX = 200
LANE_BYTES_MAX = 200  # of an argument that is told in a lane's name

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of a handler may run; what is over it waits in order, also across restarts.

    concurrency: invocations at once. Paused ones do not count.
    rate, per: at most so many beginnings in any so many seconds (or a timedelta).
    by: the name of an argument: each of its values has a limit of its own. "key" of an object is its key.

    Raises BadHandler for numbers that cannot be.
    """

    concurrency: int | None = None
    rate: int | None = None
    per: float | timedelta = 1.0
    by: str | None = None

    def __post_init__(self) -> None:
        given = [number for number in (self.concurrency, self.rate) if number is not None]
        if not given or min(given) < 1 or self.period_ms < 1:
            raise BadHandler(
                f"{self} limits nothing, or everything",
                fix="give concurrency=N, or rate=N and per=SECONDS, each at least 1 and per at least 0.001",
            )

    @property
    def period_ms(self) -> int:
        """`per` in milliseconds."""
        seconds = self.per.total_seconds() if isinstance(self.per, timedelta) else self.per
        return int(seconds * 1000)


class Handler:
    """A registered handler: its stored name, its function and how its values are written."""

    def __init__(
        self, name: str, fn: Callable[..., Any], *, service: str | None = None, kind: Kind = "service",
        shared: bool = False, main: bool = False, limit: Limit | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.service = service  # None for a plain function
        self.target = name if service is None else f"{service}/{name}"
        self.kind: Kind = kind
        self.shared = shared  # reads state only, beside the writer
        self.main = main  # a workflow's: once per key
        self.limit = limit
        self.fn = fn
        self.doc = inspect.getdoc(fn) or ""
        self.arguments = ArgumentsCodec(fn, skip=1)
        self.returns: ValueCodec = codec_for(returns_of(fn))
        if limit is not None and limit.by is not None and not self._can_limit_by(limit.by):
            raise BadHandler(
                f"{self.target!r} has no argument {limit.by!r} to limit by", fix="name one of its arguments, or 'key'"
            )

    @property
    def keyed(self) -> bool:
        """Whether it is called with a key."""
        return self.kind != "service"

    def returns_schema(self) -> dict[str, Any]:
        """The JSON schema of the result."""
        return schema_for(returns_of(self.fn))

    def check_key(self, key: str | None) -> None:
        """Raises BadArguments when a key is missing, needless or too long."""
        if not self.keyed:
            if key is not None:
                raise BadArguments(f"{self.target!r} is no object's handler and takes no key", fix="leave the key out")
            return
        if not is_key(key):
            raise BadArguments(
                f"{self.target!r} was given the key {key!r:.60}",
                cause=f"its {self.kind} is addressed by a key of 1 to {KEY_CHARS_MAX} printable characters",
                fix="pass key=...",
            )

    def lock(self, key: str | None) -> str | None:
        """The name of what only one invocation at a time may hold: an object's key, for who writes its state."""
        if key is None or self.shared:
            return None
        return f"{self.service}/{key}"

    def lane(self, key: str | None, text: bytes) -> str | None:
        """The name under which the limit counts this invocation. `text` is its input."""
        if self.limit is None:
            return None
        if self.limit.by is None:
            return self.target
        value = key if self.limit.by == "key" else self._argument(self.limit.by, text)
        return f"{self.target}={value}"

    def _argument(self, name: str, text: bytes) -> str:
        """An argument as part of a lane's name: its JSON, or a digest of that."""
        given = _members(text).get(name)
        value = self.arguments.default(name) if given is None else bytes(given)
        if len(value) <= LANE_BYTES_MAX:
            return value.decode()
        return hashlib.blake2b(value, digest_size=16).hexdigest()

    def _can_limit_by(self, name: str) -> bool:
        return (name == "key" and self.keyed) or name in list(inspect.signature(self.fn).parameters)[1:]


class Service:
    """A named group of stateless handlers.

    `name` is stored with every invocation: 1 to 100 letters, digits and underscores. Raises BadHandler otherwise.
    """

    kind: Kind = "service"

    def __init__(self, name: str) -> None:
        self.name = _checked(name, "service")
        self.handlers: dict[str, Handler] = {}

    @overload
    def handler(self, fn: F, /) -> F: ...

    @overload
    def handler(self, /, *, limit: Limit | None = None) -> Callable[[F], F]: ...

    def handler(self, fn: F | None = None, /, *, limit: Limit | None = None) -> F | Callable[[F], F]:
        """Registers an `async def` or generator function under its own name and returns it unchanged.

        Its first parameter is the context. `limit` bounds how much of it runs. Raises BadHandler for any other kind of
        function.
        """
        return self._decorate(fn, limit=limit)

    def _decorate(self, fn: F | None, **options: Any) -> F | Callable[[F], F]:
        def register(fn: F) -> F:
            name = check_function(fn)
            if name in self.handlers:
                raise BadHandler(
                    f"{self.kind} {self.name!r} has a handler {name!r} already", fix="rename one of the two"
                )
            self.handlers[name] = Handler(name, fn, service=self.name, kind=self.kind, **options)
            return fn

        return register if fn is None else register(fn)


class Object(Service):
    """A named group of handlers over keyed state: one writer at a time for each key, in order of arrival (G4)."""

    kind: Kind = "object"

    @overload
    def handler(self, fn: F, /) -> F: ...

    @overload
    def handler(self, /, *, shared: bool = False, limit: Limit | None = None) -> Callable[[F], F]: ...

    def handler(
        self, fn: F | None = None, /, *, shared: bool = False, limit: Limit | None = None
    ) -> F | Callable[[F], F]:
        """As of a service; `shared` makes it a reader that runs beside the writer and may not write."""
        return self._decorate(fn, shared=shared, limit=limit)


class Workflow(Service):
    """A keyed group whose main handler runs once per key; the others signal it, query it and resolve its promises
    while it runs, and after."""

    kind: Kind = "workflow"

    @overload
    def main(self, fn: F, /) -> F: ...

    @overload
    def main(self, /, *, limit: Limit | None = None) -> Callable[[F], F]: ...

    def main(self, fn: F | None = None, /, *, limit: Limit | None = None) -> F | Callable[[F], F]:
        """Registers the main handler; a second start with the same key attaches to the first. Raises BadHandler if
        there is one already."""
        if any(handler.main for handler in self.handlers.values()):
            raise BadHandler(f"workflow {self.name!r} has a main handler already", fix="make the other one a handler")
        return self._decorate(fn, main=True, limit=limit)

    @overload
    def handler(self, fn: F, /) -> F: ...

    @overload
    def handler(self, /, *, limit: Limit | None = None) -> Callable[[F], F]: ...

    def handler(self, fn: F | None = None, /, *, limit: Limit | None = None) -> F | Callable[[F], F]:
        """Registers a handler that runs beside the main one. It may read state, not write it."""
        return self._decorate(fn, shared=True, limit=limit)

    def run_id(self, key: str) -> str:
        """The id of the main handler's invocation for a key."""
        return run_id(self.name, key)


def is_key(key: object) -> bool:
    """Whether it can be the key of an object or a workflow."""
    return isinstance(key, str) and 0 < len(key) <= KEY_CHARS_MAX and key.isprintable()


def run_id(workflow: str, key: str) -> str:
    """The id of a workflow's main invocation."""
    return f"{workflow}:{key}"


class Registry:
    """All handlers an engine knows, by stored name and by function."""

    def __init__(self) -> None:
        self._by_target: dict[str, Handler] = {}
        self._by_function: dict[Callable[..., Any], Handler] = {}

    def add(self, handler: Handler) -> None:
        """Raises BadHandler when the name is taken."""
        if handler.target in self._by_target:
            raise BadHandler(f"two handlers are called {handler.target!r}", fix="rename one of the two")
        self._by_target[handler.target] = handler
        self._by_function[handler.fn] = handler

    def all(self) -> list[Handler]:
        """Every handler, in order of registration."""
        return list(self._by_target.values())

    def find(self, wanted: Callable[..., Any] | str) -> Handler:
        """The handler by function or stored name. Raises UnknownHandler."""
        table: dict[Any, Handler] = self._by_target if isinstance(wanted, str) else self._by_function
        found = table.get(wanted)
        if found is not None:
            return found
        shown = repr(wanted) if isinstance(wanted, str) else getattr(wanted, "__qualname__", repr(wanted))
        known = ", ".join(sorted(self._by_target)) or "none"
        raise UnknownHandler(
            f"no handler {shown} is registered; known: {known}",
            cause="its service was not given to Holdfast(services=[...]), or it was renamed or removed",
            fix="register it with @service.handler or @hf.handler before the engine starts",
        )


def check_function(fn: Callable[..., Any]) -> str:
    """The name a handler function will have. Raises BadHandler if it cannot be a handler."""
    name = _checked(getattr(fn, "__name__", ""), "handler")
    if inspect.isasyncgenfunction(fn):
        raise BadHandler(
            f"{name!r} is an async generator, which has no result",
            fix="return a value; a generator handler is a plain `def` that yields what ctx.run gives",
        )
    if not inspect.iscoroutinefunction(fn) and not inspect.isgeneratorfunction(fn):
        raise BadHandler(
            f"{name!r} is a plain function; it would block every other invocation while it runs",
            cause="a handler waits for its steps, and only `async def` or a generator can wait",
            fix="write `async def`, and run blocking work as steps: await ctx.run(function, ...)",
        )
    if not inspect.signature(fn).parameters:
        raise BadHandler(f"{name!r} takes no parameters", fix="its first parameter is the context: def handler(ctx)")
    return name


def _checked(name: str, what: str) -> str:
    if _NAME.fullmatch(name):
        return name
    raise BadHandler(
        f"{name!r} cannot be the name of a {what}",
        cause="the name is stored and used in addresses: 1 to 100 letters, digits and underscores",
        fix="give it a plain name; a lambda has none",
    )
