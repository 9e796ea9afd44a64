"""The async client: everything a program asks of a running engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from holdfast.builds import VERSION
from holdfast.core.ids import check_id, make_id
from holdfast.core.invocation import Status
from holdfast.engine import rehearsal
from holdfast.engine.engine import Engine
from holdfast.engine.objects import ObjectState
from holdfast.engine.starts import Order, check_headers, idempotent_id
from holdfast.errors import BadArguments, BadTimer, UnknownPromise
from holdfast.handle import AsyncHandle
from holdfast.service import Handler, run_id
from holdfast.values import MISSING, codec_for, encode_value
from holdfast.views import (
    AskView,
    CheckView,
    InfoView,
    InvocationView,
    PromiseView,
    ScheduleView,
    is_question,
    moment,
    plain,
    view_ask,
    view_invocation,
    view_promise,
)
from holdfast.watching import EventView

R = TypeVar("R")

LIST_MAX = 1_000  # rows in one answer
DELAY_SECONDS_MAX = 100 * 366 * 86_400

AsyncHandler = Callable[..., Coroutine[Any, Any, R]]
GeneratorHandler = Callable[..., Generator[Any, Any, R]]

_raw = msgspec.json.Decoder(msgspec.Raw).decode


class AsyncClient:
    """What `async with Holdfast(...)` gives."""

    def __init__(self, engine: Engine, store: str = "") -> None:
        self._engine = engine
        self._store = store
        self._since = engine.clock.now()

    @overload
    async def start(
        self, handler: AsyncHandler[R], /, *args: Any, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> AsyncHandle[R]: ...  # fmt: skip

    @overload
    async def start(
        self, handler: GeneratorHandler[R], /, *args: Any, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> AsyncHandle[R]: ...  # fmt: skip

    @overload
    async def start(
        self, handler: str, /, *args: Any, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> AsyncHandle[Any]: ...  # fmt: skip

    async def start(
        self, handler: Any, /, *args: Any, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> AsyncHandle[Any]:  # fmt: skip
        """Starts a handler, given as the function or by name ("Service/handler"), and returns once that is durable.

        id: names the invocation; one that is in use is attached to, if handler, key and input are the same.
        idempotency_key: the same for keys that others make, in place of an id: of one handler and key, one start.
        key: of an object or workflow. delay: seconds until it may begin. headers: what ctx.headers shows.

        Raises UnknownHandler, BadArguments, BadTimer, IdConflict, StoreError, EngineStopped.
        """
        found = self._engine.registry.find(handler)
        text = found.arguments.encode(args, kwargs)
        return await self._start(found, text, id, key, delay, idempotency_key, headers)

    async def start_json(
        self, target: str, body: bytes, *, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncHandle[Any]:  # fmt: skip
        """The same by stored name with the arguments as JSON text: of a handler whose one argument is a JSON object
        that object, else an object of the arguments by name."""
        found = self._engine.registry.find(target)
        return await self._start(found, found.arguments.encode_json(body), id, key, delay, idempotency_key, headers)

    async def call(
        self, handler: Any, /, *args: Any, id: str | None = None, key: str | None = None,
        idempotency_key: str | None = None, timeout: float | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Starts a handler and waits for what it returns. Raises as `start` and as AsyncHandle.result."""
        handle = await self.start(handler, *args, id=id, key=key, idempotency_key=idempotency_key, **kwargs)
        return await handle.result(timeout)

    async def attach(self, id: str) -> AsyncHandle[Any]:
        """The handle of an invocation that was started before. Raises UnknownInvocation."""
        row = self._engine.row(id)
        return AsyncHandle(self._engine, id, None if row is None else self._engine.handler_of(row.target))

    async def signal(self, id: str, name: str, value: Any = None, type: Any = MISSING) -> None:
        """Sends a named message to an invocation, for ctx.receive, written as `type` or as what it is. Raises
        UnknownInvocation, WrongStatus, BadArguments, TooMany."""
        await self.signal_json(id, name, encode_value(value, type))

    async def signal_json(self, id: str, name: str, body: bytes) -> None:
        """The same with the value as JSON text."""
        await self._engine.control.signal(id, name, _json(body))

    async def resolve(self, promise: str, value: Any = None, type: Any = MISSING) -> None:
        """Settles a promise with a value, written as `type` or as what it is; returns once that is durable. Raises
        UnknownPromise, AlreadySettled, BadArguments when the value does not fit the promise's type."""
        await self.resolve_json(promise, encode_value(value, type))

    async def resolve_json(self, promise: str, body: bytes) -> None:
        """The same with the value as JSON text."""
        self._engine.check_open()
        await self._engine.settling.settle(promise, _json(body), ok=True)

    async def reject(self, promise: str, reason: str) -> None:
        """Settles a promise with an error: its waiter gets a TerminalError. Raises UnknownPromise, AlreadySettled."""
        self._engine.check_open()
        await self._engine.settling.settle(promise, codec_for(str).encode(reason), ok=False)

    async def promise(self, id: str) -> PromiseView:
        """A promise or ask, settled or not. Raises UnknownPromise."""
        store = self._engine.reading()
        row = store.promise(id)
        if row is None:
            raise UnknownPromise(f"no promise has the id {id!r}", fix="check the id, or list the open questions")
        invocation = store.get(row.n) if row.n else None
        return view_promise(row, None if invocation is None else invocation.id)

    async def promises(self) -> list[PromiseView]:
        """Every open promise, questions among them, oldest first; 1,000 at most."""
        store = self._engine.reading()
        rows = store.open_promises(LIST_MAX)
        ids = {n: row.id for n in {row.n for row in rows} if (row := store.get(n)) is not None}
        return [view_promise(row, ids.get(row.n)) for row in rows]

    async def asks(self) -> list[AskView]:
        """The inbox: open questions, oldest first."""
        store = self._engine.reading()
        looked_at = LIST_MAX
        while True:  # what is open and no question is passed over, however much of it there is
            rows = store.open_promises(looked_at)
            asked = [row for row in rows if is_question(row)]
            if len(asked) >= LIST_MAX or len(rows) < looked_at:
                break
            looked_at *= 4
        ids = {n: row.id for n in {row.n for row in asked} if (row := store.get(n)) is not None}
        return [view_ask(row, ids.get(row.n, "")) for row in asked[:LIST_MAX]]

    async def answer(self, ask: str, value: Any, type: Any = MISSING) -> None:
        """Answers a question of the inbox. As `resolve`."""
        await self.resolve(ask, value, type)

    async def cancel(self, id: str, reason: str = "cancelled by the client") -> None:
        """Asks an invocation to end; its clean-up runs. Raises UnknownInvocation, WrongStatus."""
        await self._engine.control.cancel(id, reason)

    async def kill(self, id: str, reason: str = "by the client") -> None:
        """Ends an invocation at once, and those it called; no clean-up runs. Raises UnknownInvocation, WrongStatus."""
        await self._engine.control.kill(id, reason)

    async def pause(self, id: str, reason: str = "paused by the client") -> None:
        """Stops an invocation until `resume`. Raises UnknownInvocation, WrongStatus."""
        await self._engine.control.pause(id, reason)

    async def resume(self, id: str) -> None:
        """Lets a paused invocation go on. Raises UnknownInvocation, WrongStatus."""
        await self._engine.control.resume(id)

    async def retry(self, id: str) -> None:
        """Opens a failed invocation again at its failing point. Raises UnknownInvocation, WrongStatus."""
        await self._engine.reruns.retry(id)

    async def restart(self, id: str, *, from_step: str | None = None, new_id: str | None = None) -> AsyncHandle[Any]:
        """As AsyncHandle.restart."""
        return await (await self.attach(id)).restart(from_step=from_step, new_id=new_id)

    async def fork(
        self, id: str, step: str, result: Any, type: Any = MISSING, *, new_id: str | None = None
    ) -> AsyncHandle[Any]:
        """As AsyncHandle.fork."""
        return await (await self.attach(id)).fork(step, result, type, new_id=new_id)

    async def fork_json(self, id: str, step: str, body: bytes, *, new_id: str | None = None) -> AsyncHandle[Any]:
        """The same with the result as JSON text."""
        return await (await self.attach(id)).fork_json(step, _json(body), new_id=new_id)

    async def purge(self, id: str) -> None:
        """Deletes an ended invocation with its journal. Raises UnknownInvocation, WrongStatus."""
        await self._engine.control.purge(id)

    async def purge_ended(self, older_than: timedelta) -> int:
        """Deletes the invocations that ended that long ago or longer; how many there were."""
        return await self._engine.control.purge_ended(self._engine.clock.now() - int(older_than.total_seconds() * 1000))

    async def objects(self, service: str, *, after: str = "", limit: int = 100) -> list[str]:
        """Keys of an object that have state, in order, those after `after`; `limit` at most 1,000. Raises
        BadArguments."""
        _check_limit(limit)
        return self._engine.reading().object_keys(service, after, limit)

    async def state(self, service: str, key: str) -> dict[str, Any]:
        """All state of one key as plain data, lists as lists. Raises Unreadable."""
        found = ObjectState(self._engine.reading(), service, key).all()
        return {
            name: [plain(one) for one in text] if isinstance(text, list) else plain(text)
            for name, text in found.items()
        }

    async def set_state(self, service: str, key: str, name: str, value: Any, type: Any = MISSING) -> None:
        """Writes a value of an object from outside, as `type` or as what it is, or removes it (None). Raises
        WrongStatus while a handler that may write it has not ended."""
        text = None if value is None else encode_value(value, type)
        await self._engine.control.set_state(service, key, name, text)

    async def schedules(self) -> list[ScheduleView]:
        """Every schedule, by id."""
        return [
            ScheduleView(
                id, stored.target, stored.rule, stored.zone, stored.missed, moment(stored.next_at),
                moment(stored.last_at), stored.last_id, stored.paused,
            )
            for id, stored in self._engine.schedules.all()
        ]  # fmt: skip

    async def pause_schedule(self, id: str) -> None:
        """Lets a schedule fire no more. Raises UnknownSchedule."""
        await self._engine.schedules.pause(id, paused=True)

    async def resume_schedule(self, id: str) -> None:
        """Lets a schedule fire again. Raises UnknownSchedule."""
        await self._engine.schedules.pause(id, paused=False)

    async def trigger_schedule(self, id: str) -> AsyncHandle[Any]:
        """Fires a schedule now, beside its times. Raises UnknownSchedule, UnknownHandler."""
        return await self.attach(await self._engine.schedules.trigger(id))

    def watch(self, id: str, *, after: str | None = None) -> AsyncIterator[EventView]:
        """As AsyncHandle.watch."""
        return AsyncHandle(self._engine, id, None).watch(after)

    async def check(self) -> list[CheckView]:
        """Replays every unfinished invocation that has begun against the code at hand, without running a body, and says
        which it would stop."""
        store = self._engine.reading()
        numbers = []  # all at once: one that moves from status to status meanwhile would be missed, or met twice
        for status in (Status.QUEUED, Status.READY, Status.SUSPENDED, Status.PAUSED):
            before: int | None = None
            while rows := store.list(status=int(status), before=before, limit=LIST_MAX):
                before = rows[-1].n
                numbers += [row.n for row in rows if row.began is not None]
        checked = []
        for n in numbers:
            await asyncio.sleep(0)  # what runs goes on meanwhile
            row = self._engine.reading().get(n)
            if row is not None and not Status(row.status).ended:
                problem = self._problem(row)
                checked.append(CheckView(row.id, row.target, problem is None, problem))
        return checked

    def handlers(self) -> list[Handler]:
        """Every handler of this process."""
        return self._engine.registry.all()

    async def info(self) -> InfoView:
        """How the engine is."""
        engine = self._engine
        counts = {Status(status).name.lower(): count for status, count in engine.reading().counts().items()}
        services = sorted({handler.service or handler.name for handler in self.handlers()})
        uptime = (engine.clock.now() - self._since) / 1000
        running = len(engine.admission.running)
        return InfoView(VERSION, engine.build, self._store, uptime, running, engine.residents_count, counts, services)

    async def backup(self, path: str | Path) -> None:
        """Writes a consistent copy of the store to a new file while everything goes on. Raises StoreError."""
        await self._engine.backup(Path(path))

    async def _start(
        self, handler: Handler, text: bytes, id: str | None, key: str | None, delay: float | timedelta | None,
        idempotency_key: str | None, headers: Mapping[str, str] | None,
    ) -> AsyncHandle[Any]:  # fmt: skip
        handler.check_key(key)
        engine = self._engine
        id = _id_of(handler, id, key, idempotency_key)
        known = make_id(engine.clock.now(), engine.entropy.bits(72)) if id is None else check_id(id)
        not_before = None if not delay else engine.clock.now() + _milliseconds(delay)
        await engine.submit(Order(known, handler, text, key, check_headers(headers), not_before, fresh=id is None))
        return AsyncHandle(engine, known, handler)

    def _problem(self, row: Any) -> str | None:
        handler = self._engine.handler_of(row.target)
        if handler is None:
            return f"no handler {row.target!r} is registered"
        return rehearsal.problem_of(self._engine.driver, row, handler)

    def _number(self, id: str) -> int:
        row = self._engine.row(id)
        return 0 if row is None else row.n

    # Last, because below it `list[...]` would mean this method to a type checker.
    async def list(
        self, *, status: str | None = None, target: str | None = None, key: str | None = None,
        parent: str | None = None, before: str | None = None, limit: int = 100,
    ) -> list[InvocationView]:  # fmt: skip
        """Invocations, newest first. `status` is "ready", "suspended", "queued", "paused", "done", "failed",
        "cancelled" or "killed"; `target` a stored handler name, or "Service/" for all of a service; `parent` the id of
        who called them; `before` the id of the last one already seen; `limit` at most 1,000. Raises BadArguments,
        UnknownInvocation."""
        known = {known.name.lower(): known for known in Status}
        if status is not None and status not in known:
            raise BadArguments(f"{status!r} is not a status", fix="use one of: " + ", ".join(known))
        _check_limit(limit)
        store = self._engine.reading()
        rows = store.list(
            status=None if status is None else int(known[status]), target=target, key=key,
            parent=None if parent is None else self._number(parent),
            before=None if before is None else self._number(before), limit=limit,
        )  # fmt: skip
        parents: dict[int, str] = {}
        for n in {row.parent for row in rows if row.parent is not None}:
            above = store.get(n)
            if above is not None:
                parents[n] = above.id
        return [view_invocation(row, parents.get(row.parent or 0)) for row in rows]


def _id_of(handler: Handler, id: str | None, key: str | None, idempotency_key: str | None) -> str | None:
    """The id that a start is to have, by whatever names it. Raises BadArguments."""
    if id is not None and idempotency_key is not None:
        raise BadArguments("the start was given an id and an idempotency key", fix="give one of the two")
    if handler.main and handler.service is not None and key is not None:
        named = run_id(handler.service, key)
        if id not in {None, named}:
            raise BadArguments(f"a start of {handler.target!r} is named by its key: {named!r}", fix="leave the id out")
        return named
    return id if idempotency_key is None else idempotent_id(handler, key, idempotency_key)


def _check_limit(limit: int) -> None:
    if not 0 < limit <= LIST_MAX:
        raise BadArguments(f"limit is {limit}", fix=f"use 1 to {LIST_MAX}")


def _milliseconds(delay: float | timedelta) -> int:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    if not 0 <= seconds <= DELAY_SECONDS_MAX:
        raise BadTimer(f"cannot begin in {seconds} seconds", fix="give 0 seconds to 100 years")
    return int(seconds * 1000)


def _json(body: bytes) -> bytes:
    """JSON text from outside. Raises BadArguments."""
    try:
        return bytes(_raw(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadArguments(f"the value is no JSON: {error}", fix='send JSON, such as true, 12 or "text"') from None
