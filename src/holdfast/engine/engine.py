"""The engine: which invocation runs, which waits in memory, which is only a row.

Promises: a start is acknowledged after it is durable (G1), one per id (G6); memory is bounded by running invocations,
boot by live work (G9). Refuses: to do the work itself; the driver does one invocation, the committer all writing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.core import entries as records
from holdfast.core.ids import check_id, counter_of, make_id, number
from holdfast.core.invocation import Move, Status, move
from holdfast.engine.committer import STOPPED, Committer
from holdfast.engine.driver import Driver
from holdfast.engine.effects import Effects
from holdfast.engine.guard import Watchdog, install_guard
from holdfast.engine.limits import Limits
from holdfast.engine.ports import Clock, Entropy, Lane, WriterThread
from holdfast.engine.resident import Resident
from holdfast.engine.timers import Timers
from holdfast.errors import (
    AlreadySettled,
    BadArguments,
    HoldfastError,
    IdConflict,
    StoreCorrupt,
    StoreError,
    UnknownHandler,
    UnknownInvocation,
    UnknownPromise,
    Unreadable,
    WrongStatus,
)
from holdfast.service import Handler, Registry
from holdfast.stores.base import InvocationRow, PromiseRow, SettleRow, Store

STARTS_MAX = 128  # not durable yet; more wait, so that a burst of starts is not a burst of memory
SHOWN_BYTES = 100  # of a refused value
ADMIT_SLICE = 32  # invocations brought back in one turn of the loop, so that replays do not hold it

log = logging.getLogger("holdfast")


class Engine:
    """One store's owner. Lives on one asyncio loop; not safe to call from elsewhere."""

    def __init__(
        self, store: Store, registry: Registry, *, deps: Mapping[str, Any], limits: Limits, clock: Clock,
        entropy: Entropy, lane: Callable[[], Lane] = WriterThread,
    ) -> None:  # fmt: skip
        self.store = store
        self.stopping = False
        self._closed = False
        self._let_go = False  # of the store
        self.failure: HoldfastError | None = None
        self.over = asyncio.Event()  # set when the engine has failed, or by who wants a server to end
        self._registry = registry
        self._deps = dict(deps)
        self._limits = limits
        self._clock = clock
        self._entropy = entropy
        self._lane = lane
        self._residents: dict[int, Resident] = {}
        self._numbers: dict[str, int] = {}  # of ids that are in memory or not durable yet
        self._running: set[int] = set()
        self._parkable: OrderedDict[int, Resident] = OrderedDict()  # suspended, longest unused first
        self._backlog: deque[int] = deque()
        self._backlog_spilt = False  # the store has more ready invocations than the backlog holds
        self._admitting = False
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._acks: dict[asyncio.Future[None], None] = {}  # in order: a set of futures walks by address
        self._settling: set[str] = set()
        self._starts = asyncio.Semaphore(STARTS_MAX)

    async def start(self) -> None:
        """Opens the store, brings back what was running and begins to wake sleepers. Raises StoreError."""
        loop = asyncio.get_running_loop()
        self.store.open()
        limits = self._limits
        self._committer = Committer(self.store, self._lane(), full_seconds=limits.full_seconds, failed=self._fail)
        self._driver = Driver(self.store, self._committer, self._clock, self._deps, self)
        self._effects = Effects(
            self._driver, self._clock, self._entropy, self._deps,
            bodies_max=limits.bodies, threads_max=limits.threads,
        )  # fmt: skip
        self._timers = Timers(self.store, self._clock, self._wake_for_timer, self._fail)
        self._driver.effects = self._effects
        self._driver.timers = self._timers
        self._loop = loop
        install_guard()
        self._watchdog = Watchdog(loop, limits.stuck_seconds)
        self._watchdog.start()
        try:
            self._counter = counter_of(self.store.last_number())
            self._fill_backlog()
            self._timers.start()
        except BaseException:  # nobody will call stop(): the lock and the threads must not stay
            await self.stop()
            raise
        self._admit_soon()

    async def stop(self) -> None:
        """Begins nothing new, waits a while for bodies that run, records them, and lets go of the store."""
        if self._closed:
            return
        self._closed = self.stopping = True
        self._timers.stop()
        self._effects.hold()
        await self._drain()
        await self._effects.close()
        await self._committer.close()
        self._watchdog.stop()
        for resident in list(self._residents.values()):
            self._drop(resident)
        self._tell_all(self.failure or STOPPED)
        self._let_go = True
        self.store.close()

    async def submit(
        self, wanted: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any], id: str | None
    ) -> tuple[str, Handler]:
        """Starts an invocation, or finds the one that has the id, and returns once it is durable.

        Raises UnknownHandler, BadArguments, IdConflict, StoreError, EngineStopped.
        """
        self._check_open()
        handler = self._registry.find(wanted)
        text = handler.arguments.encode(args, kwargs)
        id = make_id(self._clock.now(), self._entropy.bits(72)) if id is None else check_id(id)
        async with self._starts:
            self._check_open()
            is_new = not self._exists(id, handler, text)
            if is_new:
                self._create(id, handler, text)
            await self.durable()
            if not is_new:
                self._exists(id, handler, text)  # one that was queued in this turn can be compared only now
        return id, handler

    async def result(self, id: str) -> records.Outcome:
        """How the invocation ended, or why it is paused; waits for either. Raises UnknownInvocation, StoreError,
        EngineStopped."""
        while True:
            self._check_running()
            row = self.row(id)
            if row is not None and row.outcome is not None:
                return records.decode_outcome(row.outcome)
            n = self._numbers[id] if row is None else row.n
            waiter = self._loop.create_future()
            waiters = self._waiters.setdefault(n, [])
            waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                waiters.remove(waiter)
                if not waiters and self._waiters.get(n) is waiters:
                    del self._waiters[n]
                raise

    async def settle(self, id: str, text: bytes, *, ok: bool) -> None:
        """Resolves (`text` is the value's JSON) or rejects (the reason's) a promise; returns once it is durable.

        Raises UnknownPromise, AlreadySettled, BadArguments, StoreError, EngineStopped; UnknownHandler or WrongStatus
        when the code that waits for it is not there, so that nobody can tell whether the value fits.
        """
        self._check_open()
        row = self._open_promise(id)
        info = records.decode_info(row.about)
        invocation = self.store.get(row.n)
        resident = self._residents.get(row.n)
        if resident is None and invocation is not None and invocation.status != Status.PAUSED:
            resident = self._load(invocation)
        if resident is not None and resident.pausing and not resident.busy:
            await self.durable()  # its pause is being written; then it is as any other paused one
            await self.settle(id, text, ok=ok)
            return
        settle = SettleRow(id, 1 if ok else 2, self._clock.now(), b"\0" + text)
        try:
            if resident is not None:  # a paused one too, while its bodies run: they and this are one line of history
                wanted = info.step in resident.machine.waiting
                if wanted:
                    self._driver.settle(resident, info.step, text, ok=ok)
            elif invocation is not None:
                handler = self._registry.find(invocation.target)
                wanted = self._driver.paused_waits_for(invocation, handler, info.step, text, ok=ok)
            else:
                wanted = False
        except Unreadable as error:
            raise BadArguments(
                f"the value {text[:SHOWN_BYTES].decode(errors='replace')} does not fit promise {id!r}",
                cause=error.what.replace("the stored JSON", "it"),
                fix=f"send JSON of this schema: {info.schema}",
            ) from None
        if not wanted:
            raise _settled_already(id, "nobody waits for it any more")
        self._committer.batch.settles.append(settle)
        self._settling.add(id)
        self._committer.after(self._settling.discard, id)
        await self.durable()

    async def cancel(self, id: str, reason: str) -> None:
        """Asks an invocation to end; returns once that is durable. Raises UnknownInvocation, WrongStatus,
        BadArguments."""
        self._check_open()
        if not isinstance(reason, str):
            raise BadArguments(f"the reason of a cancel is {type(reason).__name__}", fix="give a text, or leave it out")
        await self.durable()
        row = self._known_row(id)
        if Status(row.status).ended:
            raise WrongStatus(f"invocation {id!r} has ended already", fix="there is nothing to cancel")
        resident = self._residents.get(row.n) or self._load(row)
        if resident is None or resident.pausing:
            raise WrongStatus(
                f"invocation {id!r} is paused and cannot run its clean-up",
                cause="its code and its journal do not fit, or a step's fault is not mended",
                fix="mend the cause and resume it first",
            )
        if resident.machine.ended:  # in this very turn
            raise WrongStatus(f"invocation {id!r} has ended already", fix="there is nothing to cancel")
        if not resident.machine.cancelling:  # a second one would break off the clean-up that the first began
            self._driver.cancel(resident, reason)
        await self.durable()

    async def resume(self, id: str) -> None:
        """Lets a paused invocation go on; returns once that is durable. Raises UnknownInvocation, WrongStatus."""
        self._check_open()
        await self.durable()
        row = self._known_row(id)
        move(Status(row.status), Move.RESUME)
        resident = self._residents.get(row.n)
        if resident is not None:
            move(resident.status, Move.RESUME)  # somebody else's resume may not be durable yet
            raise WrongStatus(
                f"invocation {id!r} still waits for a body that runs", fix="resume it again when that has ended"
            )
        self._load(row)
        await self.durable()

    async def backup(self, path: Any) -> None:
        """Copies the store while it is in use."""
        self._check_open()
        await self._committer.backup(path)

    def reading(self) -> Store:
        """The store, to read from, also while the engine stops. Raises EngineStopped when it was let go."""
        if self._let_go:
            raise STOPPED.with_traceback(None)
        return self.store

    def row(self, id: str) -> InvocationRow | None:
        """The invocation as the store has it; None while its start is not durable. Raises UnknownInvocation,
        EngineStopped."""
        row = self.reading().find(id)
        if row is None and id not in self._numbers:
            raise UnknownInvocation(f"no invocation has the id {id!r}", fix="check the id, or list what there is")
        return row

    def handler_of(self, target: str) -> Handler | None:
        """The handler of a stored name, if this process has it."""
        try:
            return self._registry.find(target)
        except UnknownHandler:
            return None

    def resident(self, n: int) -> Resident | None:
        """The invocation in memory, to look at."""
        return self._residents.get(n)

    def moved(self, resident: Resident) -> None:
        """From the driver: an invocation has gone on."""
        self._parkable.pop(resident.n, None)
        if resident.status is Status.READY:
            self._running.add(resident.n)
        elif resident.n in self._running and not resident.busy:
            self._running.discard(resident.n)
            self._admit_soon()

    def settled(self, resident: Resident) -> None:
        """From the driver: all an invocation has done is durable."""
        if self._residents.get(resident.n) is not resident:
            return
        if resident.status.ended or resident.status is Status.PAUSED:
            self._tell(resident.n)
            if not resident.busy:
                self._drop(resident)
        elif resident.status is Status.SUSPENDED:
            self._parkable[resident.n] = resident
            while len(self._parkable) > self._limits.waiting:
                self._drop(next(iter(self._parkable.values())))

    def _check_open(self) -> None:
        self._check_running()
        self._committer.check()

    def _check_running(self) -> None:
        # Without the traceback of its last raise: one error is raised for many callers, and would grow with each.
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        if self.stopping:
            raise STOPPED.with_traceback(None)

    def _exists(self, id: str, handler: Handler, text: bytes) -> bool:
        n = self._numbers.get(id)
        resident = None if n is None else self._residents.get(n)
        if resident is not None:
            target, earlier = resident.handler.target, resident.text
        else:
            row = self.store.find(id)
            if row is None:
                return n is not None  # queued in this very turn
            target, earlier = row.target, self._driver.read(row.n, row.input)
        if target != handler.target:
            differs = f"another handler, {target!r}"
        elif earlier != text:
            differs = "another input"
        else:
            return True
        raise IdConflict(
            f"the id {id!r} belongs to an invocation of {differs}",
            cause="an id names one piece of work for ever",
            fix="use another id, or attach to the one that is there",
        )

    def _create(self, id: str, handler: Handler, text: bytes) -> None:
        self._counter += 1
        n = number(self._counter, id)
        seed = self._entropy.bits(64) - (1 << 63)
        self._numbers[id] = n
        room = len(self._running) < self._limits.running and not self._backlog
        created = self._clock.now()
        if room:
            self._residents[n] = self._driver.create(n, id, handler, seed=seed, created=created, text=text, run=True)
            return
        self._driver.create(n, id, handler, seed=seed, created=created, text=text, run=False)
        self._running.discard(n)  # READY, but not in memory
        self._committer.after(self._queue, n, id)

    def _queue(self, n: int, id: str) -> None:
        if self._numbers.get(id) not in self._residents:
            self._numbers.pop(id, None)
        if len(self._backlog) < self._limits.backlog:
            self._backlog.append(n)
        else:
            self._backlog_spilt = True
        self._admit_soon()

    def _fill_backlog(self) -> None:
        known = len(self._residents)
        ready = self.store.ready(known + self._limits.backlog)
        self._backlog.extend(n for n in ready if n not in self._residents)
        self._backlog_spilt = len(ready) == known + self._limits.backlog

    def _admit_soon(self) -> None:
        if not self._admitting and not self.stopping:
            self._admitting = True
            self._loop.call_soon(self._admit)

    def _admit(self) -> None:
        self._admitting = False
        for _ in range(ADMIT_SLICE):
            if self.stopping or len(self._running) >= self._limits.running:
                return
            if not self._backlog and self._backlog_spilt:
                try:
                    self._fill_backlog()
                except StoreError as error:
                    self._fail(error)
                    return
            if not self._backlog:
                self._timers.unblock()
                return
            row = self._read_row(self._backlog.popleft())
            if row is not None and row.status == Status.READY and row.n not in self._residents:
                self._load(row)
        self._admit_soon()

    def _load(self, row: InvocationRow) -> Resident | None:
        try:
            handler = self._registry.find(row.target)
        except UnknownHandler as error:
            self._driver.pause_row(row, error)
            self._committer.after(self._tell, row.n)
            return None
        self._numbers[row.id] = row.n
        resident = self._driver.load(row, handler)
        self._residents[row.n] = resident
        self.moved(resident)
        if not resident.unsettled:
            self.settled(resident)
        return resident if row.n in self._residents else None

    def _read_row(self, n: int) -> InvocationRow | None:
        try:
            return self.store.get(n)
        except StoreCorrupt as error:  # damage in one row stops one invocation (G10); it cannot even be marked
            log.error("an invocation cannot be read and is left out until the next start: %s", error)  # noqa: TRY400
            return None
        except StoreError as error:
            self._fail(error)
            return None

    def _wake_for_timer(self, n: int) -> bool:
        resident = self._residents.get(n)
        if resident is None:
            if len(self._running) >= self._limits.running:
                return False
            row = self._read_row(n)
            if row is None or row.status != Status.SUSPENDED or row.wake_at is None:
                return True
            if row.wake_at > self._clock.now():  # armed for a timer that was cancelled since
                self._timers.arm(n, row.wake_at, stored=True)
                return True
            resident = self._load(row)
        if resident is not None and not resident.pausing and not resident.machine.ended:
            self._driver.fire_due(resident)
        return True

    def _open_promise(self, id: str) -> PromiseRow:
        row = self.store.promise(id)
        if row is None:
            raise UnknownPromise(f"no promise has the id {id!r}", fix="check the id; list the open ones with asks()")
        if row.status == 3:
            raise _settled_already(id, "it was withdrawn: its deadline passed, or the invocation has ended")
        if row.status or id in self._settling:
            raise _settled_already(id, "someone settled it before")
        return row

    def _known_row(self, id: str) -> InvocationRow:
        row = self.row(id)
        if row is None:
            raise UnknownInvocation(f"no invocation has the id {id!r}", fix="check the id, or list what there is")
        return row

    def _drop(self, resident: Resident) -> None:
        self._residents.pop(resident.n, None)
        self._numbers.pop(resident.id, None)
        self._parkable.pop(resident.n, None)
        self._running.discard(resident.n)
        resident.machine.evict()

    def _tell(self, n: int) -> None:
        for waiter in self._waiters.pop(n, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _tell_all(self, error: HoldfastError) -> None:
        waiting = [waiter for waiters in self._waiters.values() for waiter in waiters]
        for waiter in (*waiting, *self._acks):
            if not waiter.done():
                waiter.set_exception(error)
        self._waiters.clear()

    async def durable(self) -> None:
        """Returns once everything so far is durable. Raises what stopped the store."""
        ack: asyncio.Future[None] = self._loop.create_future()
        self._acks[ack] = None
        self._committer.after(_acknowledge, ack)
        try:
            await ack
        finally:
            del self._acks[ack]

    async def _drain(self) -> None:
        until = self._loop.time() + self._limits.drain_seconds
        while self.failure is None and self._loop.time() < until:
            bodies = [body for resident in self._residents.values() for body in resident.bodies.values()]
            if not any(body.future is not None for body in bodies):
                return
            await asyncio.sleep(0.01)

    def _fail(self, error: HoldfastError) -> None:
        if self.failure is not None:
            return
        log.error("the engine stops, nothing more is acknowledged: %s", error)
        self.failure = error
        self.stopping = True
        self._timers.stop()
        self._effects.cancel()
        self._tell_all(error)
        self.over.set()


def _acknowledge(ack: asyncio.Future[None]) -> None:
    if not ack.done():
        ack.set_result(None)


def _settled_already(id: str, why: str) -> AlreadySettled:
    return AlreadySettled(f"promise {id!r} cannot be settled", cause=why, fix="nothing: its value never changes")
