"""Handlers and the groups they come in.

A handler stays the function it was: it can be called in a test without an engine. Refuses: sync functions, which
would block every other invocation, and async generators, which have no result.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from holdfast.errors import BadHandler, UnknownHandler
from holdfast.values import ArgumentsCodec, ValueCodec, codec_for, returns_of, schema_for

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class Handler:
    """A registered handler: its stored name, its function and how its values are written."""

    def __init__(self, target: str, fn: Callable[..., Any]) -> None:
        self.target = target  # "Service/handler", or "handler" for a plain function
        self.fn = fn
        self.arguments = ArgumentsCodec(fn, skip=1)
        self.returns: ValueCodec = codec_for(returns_of(fn))

    def returns_schema(self) -> dict[str, Any]:
        """The JSON schema of the result."""
        return schema_for(returns_of(self.fn))


class Service:
    """A named group of stateless handlers.

    `name` is stored with every invocation: 1 to 100 letters, digits and underscores. Raises BadHandler otherwise.
    """

    def __init__(self, name: str) -> None:
        self.name = _checked(name, "service")
        self.handlers: dict[str, Handler] = {}

    def handler(self, fn: F) -> F:
        """Registers an `async def` or generator function under its own name and returns it unchanged.

        Its first parameter is the context. Raises BadHandler for any other kind of function.
        """
        name = check_function(fn)
        if name in self.handlers:
            raise BadHandler(f"service {self.name!r} has a handler {name!r} already", fix="rename one of the two")
        self.handlers[name] = Handler(f"{self.name}/{name}", fn)
        return fn


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
