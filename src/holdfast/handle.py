"""One invocation, as an async program holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

from holdfast.core import entries as records
from holdfast.core.machine import OUTCOMES
from holdfast.engine.engine import Engine
from holdfast.engine.starts import split_headers
from holdfast.errors import (
    InvocationCancelled,
    InvocationFailed,
    InvocationPaused,
    TerminalError,
    UnknownInvocation,
    Unreadable,
)
from holdfast.service import Handler
from holdfast.standing import journal_of, queue_of, reader
from holdfast.stores.base import InvocationRow
from holdfast.values import MISSING, codec_for, encode_value
from holdfast.views import InvocationView, StepView, plain, view_invocation
from holdfast.watching import EventView, watch

R = TypeVar("R")


class AsyncHandle(Generic[R]):
    """One invocation, by id."""

    def __init__(self, engine: Engine, id: str, handler: Handler | None) -> None:
        self.id = id
        self._engine = engine
        self._handler = handler

    def __repr__(self) -> str:
        return f"AsyncHandle({self.id!r})"

    async def result(self, timeout: float | None = None) -> R:
        """What the handler returned; waits for it, `timeout` seconds at most.

        Raises TerminalError or InvocationFailed if it failed, InvocationCancelled, InvocationPaused (resume it, and
        ask again), TimeoutError, EngineStopped.
        """
        text = await self.result_json(timeout)
        codec = codec_for(Any) if self._handler is None else self._handler.returns
        value: R = codec.decode(text)
        return value

    async def result_json(self, timeout: float | None = None) -> bytes:
        """The same as JSON text. Raises as `result`."""
        async with asyncio.timeout(timeout):
            n, outcome = await self._engine.outcome(self.id)
        match outcome:
            case records.Returned(value):
                return reader(self._engine.reading(), n)(value)
            case records.Raised(failure) if failure.status is not None:
                raise TerminalError(failure.message, status=failure.status)
            case records.Raised(failure):
                raise InvocationFailed(self.id, failure.type, failure.message, failure.details)
            case records.Cancelled(reason):
                raise InvocationCancelled(f"invocation {self.id!r} was cancelled: {reason}")
            case records.Paused(_, reason, _):
                raise InvocationPaused(self.id, reason)
            case records.Woken():
                raise AssertionError(outcome)  # no end: Engine.outcome waits for one

    async def status(self, *, whole: bool = True) -> InvocationView:
        """What the store knows of it now: if `whole`, with input, output and traceback, and why one that is queued has
        not begun."""
        row = await self._stored()
        store = self._engine.reading()
        read = reader(store, row.n)
        view = view_invocation(row, self._parent(row))
        if not whole:
            return view
        try:
            view.input = plain(split_headers(read(row.input))[0])
            outcome = None if row.outcome is None else records.decode_outcome(row.outcome)
            if isinstance(outcome, records.Returned):
                view.output = plain(read(outcome.value))
            elif isinstance(outcome, records.Raised):
                view.details = outcome.failure.details or None
        except Unreadable as damage:
            view.reason = view.reason or str(damage)
        view.queue = queue_of(self._engine, row)
        return view

    async def cancel(self, reason: str = "cancelled by the client") -> None:
        """Asks it to end. Its clean-up still runs; `result` tells when it is over. A second cancel does not disturb the
        clean-up. Raises WrongStatus if it has ended, or is paused and cannot be brought back to clean up."""
        await self._engine.control.cancel(self.id, reason)

    async def kill(self, reason: str = "by the client") -> None:
        """Ends it at once, and those it called; no clean-up runs. Raises WrongStatus if it has ended."""
        await self._engine.control.kill(self.id, reason)

    async def pause(self, reason: str = "paused by the client") -> None:
        """Stops it until `resume`. Bodies that run may finish. Raises WrongStatus if it has ended or is paused."""
        await self._engine.control.pause(self.id, reason)

    async def resume(self) -> None:
        """Lets it go on after a pause. Raises WrongStatus if it is not paused."""
        await self._engine.control.resume(self.id)

    async def retry(self) -> None:
        """Opens it again after it has failed, at the failing point. Raises WrongStatus if it has not failed."""
        await self._engine.reruns.retry(self.id)

    async def restart(self, *, from_step: str | None = None, new_id: str | None = None) -> AsyncHandle[R]:
        """A new run of the same input, with the journal as it was before `from_step`. Raises UnknownInvocation for a
        step it does not have, IdConflict."""
        return self._sibling(await self._engine.reruns.restart(self.id, from_step, new_id))

    async def fork(self, step: str, result: Any, type: Any = MISSING, *, new_id: str | None = None) -> AsyncHandle[R]:
        """A new run of the same input, with the journal up to `step` and this as its result, written as `type` or as
        what it is. Raises UnknownInvocation, BadArguments when the result does not fit, IdConflict."""
        return await self.fork_json(step, encode_value(result, type), new_id=new_id)

    async def fork_json(self, step: str, text: bytes, *, new_id: str | None = None) -> AsyncHandle[R]:
        """The same with the result as JSON text."""
        return self._sibling(await self._engine.reruns.fork(self.id, step, text, new_id))

    async def purge(self) -> None:
        """Deletes it with its journal; its id is free again. Raises WrongStatus if it has not ended."""
        await self._engine.control.purge(self.id)

    async def signal(self, name: str, value: Any = None, type: Any = MISSING) -> None:
        """Sends it a named message, for ctx.receive, written as `type` or as what it is; returns once that is durable.
        Raises WrongStatus if it has ended, BadArguments when the value does not fit who waits for it, TooMany."""
        await self._engine.control.signal(self.id, name, encode_value(value, type))

    def watch(self, after: str | None = None) -> AsyncIterator[EventView]:
        """What happens to it, from the beginning or after the event with the id `after`, until it has ended. Raises
        UnknownInvocation, BadArguments."""
        return watch(self._engine, self.id, after)

    async def journal(self, after: int = 0, limit: int | None = None) -> list[StepView]:
        """Everything that came, in order, and after it what is being worked on or waited for. Of a long one, `limit`
        lines from the place `after` on; what is waited for comes with the last of them. Raises Unreadable,
        BadArguments."""
        return journal_of(self._engine, await self._stored(), after, limit)

    async def inputs(self, step: str) -> Any:
        """What a recorded step was asked: its arguments, as plain JSON data. Raises UnknownInvocation if the journal
        has no such step."""
        row = await self._stored()
        store = self._engine.reading()
        for body in store.entries(row.n):
            entry = records.decode_entry(body)
            if isinstance(entry, OUTCOMES) and entry.step == step:
                return plain(reader(store, row.n)(entry.inputs))
        raise UnknownInvocation(f"invocation {self.id!r} has no recorded step {step!r}", fix="see its journal()")

    def _sibling(self, id: str) -> AsyncHandle[R]:
        return AsyncHandle(self._engine, id, self._handler)

    def _parent(self, row: InvocationRow) -> str | None:
        parent = None if row.parent is None else self._engine.reading().get(row.parent)
        return None if parent is None else parent.id

    async def _stored(self) -> InvocationRow:
        row = self._engine.row(self.id)
        return row if row is not None else await self._engine.known(self.id)  # started in this very moment
