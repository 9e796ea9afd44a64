"""The async client: everything a program asks of a running engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from holdfast.core import entries as records
from holdfast.core.invocation import Status
from holdfast.core.payload import unpack
from holdfast.engine.engine import Engine
from holdfast.errors import (
    BadArguments,
    InvocationCancelled,
    InvocationFailed,
    InvocationPaused,
    TerminalError,
    UnknownInvocation,
)
from holdfast.service import Handler
from holdfast.stores.base import Store
from holdfast.values import codec_for
from holdfast.views import (
    AskView,
    InvocationView,
    StepView,
    plain,
    view_ask,
    view_body,
    view_entry,
    view_invocation,
    view_open_promise,
)

R = TypeVar("R")

LIST_MAX = 1_000  # rows in one answer

AsyncHandler = Callable[..., Coroutine[Any, Any, R]]
GeneratorHandler = Callable[..., Generator[Any, Any, R]]


class AsyncHandle(Generic[R]):
    """One invocation, by id."""

    def __init__(self, engine: Engine, id: str, handler: Handler | None) -> None:
        self.id = id
        self._engine = engine
        self._handler = handler

    async def result(self, timeout: float | None = None) -> R:
        """What the handler returned; waits for it, `timeout` seconds at most.

        Raises TerminalError or InvocationFailed if it failed, InvocationCancelled, InvocationPaused (resume it, and
        ask again), TimeoutError, EngineStopped.
        """
        async with asyncio.timeout(timeout):
            outcome = await self._engine.result(self.id)
        match outcome:
            case records.Returned(value):
                return self._decode(value)
            case records.Raised(failure) if failure.status is not None:
                raise TerminalError(failure.message, status=failure.status)
            case records.Raised(failure):
                raise InvocationFailed(self.id, failure.type, failure.message, failure.details)
            case records.Cancelled(reason):
                raise InvocationCancelled(f"invocation {self.id!r} was cancelled: {reason}")
            case records.Paused(_, reason, _):
                raise InvocationPaused(self.id, reason)

    async def status(self) -> InvocationView:
        """What the store knows of it now."""
        return view_invocation(await self._stored())

    async def cancel(self, reason: str = "cancelled by the client") -> None:
        """Asks it to end. Its clean-up still runs; `result` tells when it is over. A second cancel does not disturb the
        clean-up. Raises WrongStatus if it has ended, or is paused and cannot be brought back to clean up."""
        await self._engine.cancel(self.id, reason)

    async def resume(self) -> None:
        """Lets it go on after a pause. Raises WrongStatus if it is not paused."""
        await self._engine.resume(self.id)

    async def journal(self) -> list[StepView]:
        """Everything that came, in order, and after it what is being worked on or waited for."""
        row = await self._stored()
        store = self._engine.reading()
        asked = {records.decode_info(promise.about).step: promise for promise in store.promises_of(row.n)}
        read = _reader(store, row.n)
        views = [view_entry(records.decode_entry(body), read, asked) for body in store.entries(row.n)]
        resident = self._engine.resident(row.n)
        bodies = resident.bodies.values() if resident is not None else ()
        views += [view_body(body) for body in bodies]
        views += [view_open_promise(promise) for promise in asked.values() if promise.status == 0]
        return views

    async def inputs(self, step: str) -> Any:
        """What a recorded step was asked: its arguments, as plain JSON data. Raises UnknownInvocation if the journal
        has no such step."""
        row = await self._stored()
        store = self._engine.reading()
        for body in store.entries(row.n):
            entry = records.decode_entry(body)
            if isinstance(entry, (records.StepCompleted, records.StepErrored)) and entry.step == step:
                return plain(_reader(store, row.n)(entry.inputs))
        raise UnknownInvocation(f"invocation {self.id!r} has no recorded step {step!r}", fix="see its journal()")

    async def _stored(self) -> Any:
        row = self._engine.row(self.id)
        if row is None:  # started in this very moment
            await self._engine.durable()
            row = self._engine.row(self.id)
        return row

    def _decode(self, payload: bytes) -> R:
        row = self._engine.row(self.id)
        assert row is not None  # for the type checker: it has an outcome
        text = _reader(self._engine.reading(), row.n)(payload)
        codec = codec_for(Any) if self._handler is None else self._handler.returns
        value: R = codec.decode(text)
        return value


class AsyncClient:
    """What `async with Holdfast(...)` gives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @overload
    async def start(
        self, handler: AsyncHandler[R], /, *args: Any, id: str | None = None, **kwargs: Any
    ) -> AsyncHandle[R]: ...

    @overload
    async def start(
        self, handler: GeneratorHandler[R], /, *args: Any, id: str | None = None, **kwargs: Any
    ) -> AsyncHandle[R]: ...

    @overload
    async def start(self, handler: str, /, *args: Any, id: str | None = None, **kwargs: Any) -> AsyncHandle[Any]: ...

    async def start(self, handler: Any, /, *args: Any, id: str | None = None, **kwargs: Any) -> AsyncHandle[Any]:
        """Starts a handler, given as the function or by name ("Service/handler"), and returns once that is durable.

        With an `id` that is in use it attaches, if handler and input are the same. Raises UnknownHandler,
        BadArguments, IdConflict, StoreError, EngineStopped.
        """
        known, found = await self._engine.submit(handler, args, kwargs, id)
        return AsyncHandle(self._engine, known, found)

    async def attach(self, id: str) -> AsyncHandle[Any]:
        """The handle of an invocation that was started before. Raises UnknownInvocation."""
        row = self._engine.row(id)
        return AsyncHandle(self._engine, id, None if row is None else self._engine.handler_of(row.target))

    async def resolve(self, promise: str, value: Any = None) -> None:
        """Settles a promise with a value; returns once that is durable. Raises UnknownPromise, AlreadySettled,
        BadArguments when the value does not fit the promise's type."""
        await self._engine.settle(promise, codec_for(_hint_of(value)).encode(value), ok=True)

    async def reject(self, promise: str, reason: str) -> None:
        """Settles a promise with an error: its waiter gets a TerminalError. Raises UnknownPromise, AlreadySettled."""
        await self._engine.settle(promise, codec_for(str).encode(reason), ok=False)

    async def asks(self) -> list[AskView]:
        """The inbox: open questions, oldest first."""
        store = self._engine.reading()
        rows = store.open_promises(LIST_MAX)
        views = []
        for row in rows:
            invocation = store.get(row.n)
            view = view_ask(row, "" if invocation is None else invocation.id)
            if view.question:
                views.append(view)
        return views

    async def answer(self, ask: str, value: Any) -> None:
        """Answers a question of the inbox. Raises as `resolve`."""
        await self.resolve(ask, value)

    async def resume(self, id: str) -> None:
        """Lets a paused invocation go on. Raises UnknownInvocation, WrongStatus."""
        await self._engine.resume(id)

    async def list(
        self, *, status: str | None = None, target: str | None = None, limit: int = 100
    ) -> list[InvocationView]:
        """Invocations, newest first. `status` is "ready", "suspended", "paused", "done", "failed" or "cancelled";
        `target` a stored handler name; `limit` at most 1,000. Raises BadArguments."""
        known = {known.name.lower(): known for known in Status}
        if status is not None and status not in known:
            raise BadArguments(f"{status!r} is not a status", fix="use one of: " + ", ".join(known))
        if not 0 < limit <= LIST_MAX:
            raise BadArguments(f"limit is {limit}", fix=f"use 1 to {LIST_MAX}")
        wanted = None if status is None else int(known[status])
        rows = self._engine.reading().list(status=wanted, target=target, limit=limit)
        return [view_invocation(row) for row in rows]

    async def backup(self, path: str | Path) -> None:
        """Writes a consistent copy of the store to a new file while everything goes on. Raises StoreError."""
        await self._engine.backup(Path(path))


def _reader(store: Store, n: int) -> Callable[[bytes], bytes]:
    return lambda payload: unpack(payload, lambda first, last: store.blobs(n, first, last))


def _hint_of(value: Any) -> Any:
    return Any if value is None or isinstance(value, (list, dict, tuple)) else type(value)
