"""The engine: which invocation runs, which waits in memory, which is only a row.

Promises: a start is acknowledged after it is durable (G1), one per id (G6); memory is bounded by running invocations,
boot by live work (G9). Refuses: to do the work itself; the driver does one invocation, the committer all writing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from holdfast.core import entries as records
from holdfast.core.ids import counter_of, number
from holdfast.core.invocation import Status
from holdfast.engine.admission import Admission
from holdfast.engine.bus import Bus
from holdfast.engine.committer import STOPPED, Committer
from holdfast.engine.control import Control
from holdfast.engine.driver import Driver
from holdfast.engine.effects import Effects
from holdfast.engine.gates import Gates
from holdfast.engine.guard import Watchdog, install_guard
from holdfast.engine.limits import Limits
from holdfast.engine.links import Links
from holdfast.engine.ports import Clock, Entropy, Lane, WriterThread
from holdfast.engine.reasons import as_failure
from holdfast.engine.reruns import Reruns
from holdfast.engine.resident import Resident
from holdfast.engine.retirement import Retirement
from holdfast.engine.rows import Rows
from holdfast.engine.schedules import Plan, Schedules
from holdfast.engine.settling import Settling
from holdfast.engine.starts import Order, conflict, split_headers
from holdfast.engine.timers import Timers
from holdfast.errors import (
    HoldfastError,
    IdConflict,
    UnknownHandler,
    UnknownInvocation,
)
from holdfast.service import Handler, Registry
from holdfast.stores.base import InvocationRow, Store, refuse_coded

SAY_SECONDS = 0.5  # of waiting for steps at the end, before that is said
STARTS_MAX = 128  # not durable yet; more wait, so that a burst of starts is not a burst of memory

log = logging.getLogger("holdfast")


class Engine:
    """One store's owner. Lives on one asyncio loop; not safe to call from elsewhere."""

    def __init__(
        self, store: Store, registry: Registry, *, deps: Mapping[str, Any], limits: Limits, clock: Clock,
        entropy: Entropy, lane: Callable[[], Lane] = WriterThread, build: str = "", plans: Iterable[Plan] = (),
        retention: timedelta | None = None, resting: bool = False,
    ) -> None:  # fmt: skip
        """`build` is recorded with every start, `plans` are the schedules of the program, after `retention` what has
        ended is deleted. A `resting` engine changes rows and runs nothing: what it starts or wakes goes on with the
        next that does not rest."""
        self.store = store
        self.clock = clock
        self.entropy = entropy
        self.resting = resting
        self.stopping = False
        self._closed = False
        self._let_go = False  # of the store
        self.failure: HoldfastError | None = None
        self.over = asyncio.Event()  # set when the engine has failed, or by who wants a server to end
        self.build = build
        self.registry = registry
        self._deps = dict(deps)
        self._limits = limits
        self._lane = lane
        self._plans = list(plans)
        self._retention = retention
        self._residents: dict[int, Resident] = {}
        self._numbers: dict[str, int] = {}  # of ids that are in memory or not durable yet
        self._parkable: OrderedDict[int, Resident] = OrderedDict()  # suspended, longest unused first
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._acks: dict[asyncio.Future[None], None] = {}  # in order: a set of futures walks by address
        self._starts = asyncio.Semaphore(STARTS_MAX)

    async def start(self) -> None:
        """Opens the store, brings back what was running and begins to wake sleepers. Raises StoreError."""
        self.loop = asyncio.get_running_loop()
        self.store.open()
        limits = self._limits
        self.bus = Bus(self.clock.now())
        self.links = Links(self)
        self.rows = Rows(self)
        self.settling = Settling(self)
        self.committer = Committer(
            self.store, self._lane(), full_seconds=limits.full_seconds, failed=self.fail, before=self.links.flush
        )
        self.driver = Driver(self.store, self.committer, self.clock, self.registry, self._deps, self)
        self._effects = Effects(
            self.driver.bodies, self.clock, self.entropy, self._deps,
            bodies_max=limits.bodies, threads_max=limits.threads, bus=self.bus,
        )  # fmt: skip
        self._timers = Timers(self.store, self.clock, self._wake_for_timer, self.fail)
        self.admission = Admission(self, limits, self._timers)
        self.gates = Gates(
            self.store, self.committer, self.clock, read=self.rows.read, admit=self.admission.soon, guard=self.guard
        )
        self.control = Control(self)
        self.reruns = Reruns(self)
        self._retirement = Retirement(self, self._retention)
        self.schedules = Schedules(self, self._plans)
        self.driver.bodies.effects = self._effects
        self._effects.once = self.driver.once
        self.driver.timers = self._timers
        self.driver.links = self.links
        install_guard()
        self._watchdog = Watchdog(self.loop, limits.stuck_seconds)
        self._watchdog.start()
        try:
            refuse_coded(self.store)
            self._first = self._counter = counter_of(self.store.last_number())
            if not self.resting:
                self.admission.fill()
                self._timers.start()
                self.gates.start()
                self.schedules.start()
                self._retirement.start()
        except BaseException:  # nobody will call stop(): the lock and the threads must not stay
            await self.stop()
            raise
        self.admission.soon()

    async def stop(self) -> None:
        """Begins nothing new, waits a while for bodies that run, records them, and lets go of the store."""
        if self._closed:
            return
        self._closed = self.stopping = True
        self._timers.stop()
        self.gates.stop()
        self.schedules.stop()
        self._effects.hold()
        await self._retirement.stop()
        await self._drain()
        await self._effects.close()
        await self.committer.close()
        self._watchdog.stop()
        for resident in list(self._residents.values()):
            self._drop(resident)
        self._tell_all(self.failure or STOPPED)
        self.bus.close()
        self._let_go = True
        self.store.close()

    async def submit(self, order: Order) -> None:
        """Starts an invocation, or finds the one that has the id, and returns once it is durable.

        Raises IdConflict, StoreError, EngineStopped.
        """
        self.check_open()
        async with self._starts:
            self.check_open()
            is_new = order.fresh or not self._exists(order)
            if is_new:
                self.create(order)
            await self.durable()
            if not is_new:
                self._exists(order)  # one that was queued in this turn can be compared only now

    async def outcome(self, id: str) -> tuple[int, records.Outcome]:
        """The number of an invocation, and how it ended or why it is paused; waits for either. Raises
        UnknownInvocation, StoreError, EngineStopped."""
        while True:
            self.check_running()
            n = self._numbers.get(id)
            if n is None or n not in self._residents or _is_over(self._residents[n].status):
                row = self.row(id)
                if row is not None and row.outcome is not None and _is_over(row.status):
                    return row.n, records.decode_outcome(row.outcome)
                n = self._numbers[id] if row is None else row.n
            waiter = self.loop.create_future()
            waiters = self._waiters.setdefault(n, [])
            waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                waiters.remove(waiter)
                if not waiters and self._waiters.get(n) is waiters:
                    del self._waiters[n]
                raise

    async def backup(self, path: Any) -> None:
        """Copies the store while it is in use."""
        self.check_open()
        await self.committer.backup(path)

    def create(self, order: Order) -> None:
        """Starts an invocation whose id is free: at once if there is room and its gate is open, else in its turn."""
        n = self.claim(order.id)
        now = self.clock.now()
        gate = order.gate
        try:
            begins = order.not_before is None and self.admission.has_room() and self.gates.enter(n, gate, since=None)
        except BaseException:
            del self._numbers[order.id]  # who asks for it would wait for ever
            raise
        row = InvocationRow(
            n, order.id, order.handler.target, Status.READY if begins else Status.QUEUED,
            now, now if begins else self.rows.joins(n), self.entropy.bits(64) - (1 << 63), order.not_before, b"", None,
            began=now if begins else None, key=order.key, lock=gate.lock, lane=gate.lane, parent=order.parent,
            call=order.call, build=self.build,
        )  # fmt: skip
        if begins:
            self.admission.enter(n)
            self._residents[n] = self.driver.create(row, order.handler, order.text, order.headers)
        else:
            self.rows.added(self.driver.enqueue(row, order.handler, order.text, order.headers))

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

    async def known(self, id: str) -> InvocationRow:
        """The invocation, once all that was done to it is durable. Raises UnknownInvocation, StoreError."""
        await self.durable()
        row = self.row(id)
        while row is not None and self.rows.is_open(row.n):
            await self.durable()
            row = self.row(id)
        if row is None:
            raise UnknownInvocation(f"no invocation has the id {id!r}", fix="check the id, or list what there is")
        return row

    async def quiet(self, n: int) -> None:
        """Returns once nothing of an invocation that is not in memory is on its way to the store."""
        while self.rows.is_open(n):
            await self.durable()

    def handler_of(self, target: str) -> Handler | None:
        """The handler of a stored name, if this process has it."""
        try:
            return self.registry.find(target)
        except UnknownHandler:
            return None

    def resident(self, n: int) -> Resident | None:
        """The invocation in memory."""
        return self._residents.get(n)

    def number_of(self, id: str) -> int | None:
        """The number of an invocation that is in memory or not durable yet."""
        return self._numbers.get(id)

    @property
    def residents_count(self) -> int:
        """How many invocations are in memory."""
        return len(self._residents)

    def handler(self, target: str) -> Handler:
        """The handler of a stored name. Raises UnknownHandler."""
        return self.registry.find(target)

    def claim(self, id: str) -> int:
        """The number of a new invocation, whose id is taken from now on."""
        self._counter += 1
        n = self._numbers[id] = number(self._counter, id)
        return n

    def is_new(self, n: int) -> bool:
        """Whether it was started in this life of the engine."""
        return counter_of(n) > self._first

    def bring_back(self, n: int) -> Resident | None:
        """An invocation in memory that has begun and goes on, loaded if need be. None for one that is paused, queued or
        over, or when nothing may run here."""
        resident = self._residents.get(n)
        if resident is not None or self.resting or self.stopping or self.rows.is_open(n):
            return resident
        row = self.rows.read(n)
        if row is None or row.status not in {Status.READY, Status.SUSPENDED}:
            return None
        return self.load_row(row)

    def load_row(self, row: InvocationRow) -> Resident | None:
        """Brings an invocation back to memory; None if it could not be, and is paused. Raises as `Driver.load`."""
        try:
            handler = self.registry.find(row.target)
        except UnknownHandler as error:
            self.rows.pause(row, error)
            return None
        resident = self.driver.load(row, handler)
        self._numbers[row.id] = row.n
        self._residents[row.n] = resident
        if row.began is not None and row.status != Status.QUEUED:
            self.gates.hold(row.n, resident.gate, resumed=row.status == Status.PAUSED)
        self.moved(resident)
        if not resident.unsettled:
            self.settled(resident)
        return resident if row.n in self._residents else None

    def recorded(self, n: int) -> None:
        """From the driver: there is more in a journal."""
        if n in self.bus.watched:
            self.committer.after(self.bus.recorded, n)

    def moved(self, resident: Resident) -> None:
        """From the driver: an invocation has gone on."""
        self._parkable.pop(resident.n, None)
        if resident.status is Status.READY:
            self.admission.enter(resident.n)
        elif not resident.busy:
            self.admission.leave(resident.n)

    def settled(self, resident: Resident) -> None:
        """From the driver: all an invocation has done is durable."""
        n = resident.n
        if self._residents.get(n) is not resident:
            return
        if resident.status.ended or resident.status is Status.PAUSED:
            self.tell(n)
            if not resident.busy:
                self._drop(resident)
                if resident.status.ended:
                    self.gates.leave(n, resident.gate)
                else:
                    self.gates.pause(n, resident.gate.lock, resident.gate.lane)
        elif resident.pausing:  # it was cancelled, and goes on by replay
            if not resident.busy:
                self._drop(resident)
                self.admission.queue(n)
        elif resident.status is Status.SUSPENDED:
            self._parkable[n] = resident
            while len(self._parkable) > self._limits.waiting:
                self._drop(next(iter(self._parkable.values())))

    def row_settled(self, row: InvocationRow) -> None:
        """From the rows: all that was done to one that is not in memory is durable."""
        if row.n not in self._residents:
            self._numbers.pop(row.id, None)
            self.tell(row.n)
        if self.stopping or self.resting:
            return
        if row.status == Status.READY:
            self.admission.queue(row.n)
        elif row.status != Status.QUEUED:
            return
        elif row.wake_at is not None:
            self._timers.arm(row.n, row.wake_at, stored=True)
        elif row.lock is None and row.lane is None:
            self.admission.queue(row.n)
        else:  # it may have been named while it was changed, and was passed over
            self.gates.offer(row)

    def tell(self, n: int) -> None:
        """Wakes those who wait for a result; they look at the row."""
        self.bus.recorded(n)
        for waiter in self._waiters.pop(n, ()):
            if not waiter.done():
                waiter.set_result(None)

    def check_open(self) -> None:
        """Raises what keeps new work out: StoreError, EngineStopped."""
        self.check_running()
        self.committer.check()

    def check_running(self) -> None:
        """Raises why the engine has ended: StoreError, EngineStopped."""
        # Without the traceback of its last raise: one error is raised for many callers, and would grow with each.
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        if self.stopping:
            raise STOPPED.with_traceback(None)

    async def durable(self) -> None:
        """Returns once everything so far is durable. Raises what stopped the store."""
        if self.failure is not None:  # in this very turn of the loop: nobody would be told any more
            raise self.failure.with_traceback(None)
        ack: asyncio.Future[None] = self.loop.create_future()
        self._acks[ack] = None
        self.committer.after(_acknowledge, ack)
        try:
            await ack
        finally:
            del self._acks[ack]

    def _exists(self, order: Order) -> bool:
        row = self.rows.find(order.id)
        if row is None:
            return False
        refusal = self.conflict(order, row)
        if refusal is not None:
            raise refusal
        return True

    def conflict(self, order: Order, row: InvocationRow) -> IdConflict | None:
        """Why an order cannot be for the invocation that has its id already, if it cannot."""
        resident = self._residents.get(row.n)
        if resident is not None:
            text: bytes | None = resident.text
        elif self.rows.is_open(row.n) and self.store.get(row.n) is None:
            text = None  # queued in this very turn: large parts of its input are not in the store yet
        else:
            text, _ = split_headers(self.driver.read(row.n, row.input))
        return conflict(order, row.target, row.key, text)

    def _wake_for_timer(self, n: int) -> bool:
        if n not in self._residents:
            self.admission.soon()
            return False
        self.wake(n)
        return True

    def wake(self, n: int) -> None:
        """One whose time has come goes on, or joins its queue."""
        resident = self._residents.get(n)
        if resident is None:
            row = None if self.rows.is_open(n) else self.rows.read(n)
            if row is None or row.wake_at is None:
                return
            if row.wake_at > self.clock.now():  # armed for a timer that was cancelled since
                self._timers.arm(n, row.wake_at, stored=True)
            elif row.status == Status.QUEUED:
                self.rows.arrive(row)
            elif row.status == Status.SUSPENDED:
                resident = self.load_row(row)
        if resident is not None and not resident.pausing and not resident.machine.ended:
            self.driver.fire_due(resident)

    def _drop(self, resident: Resident) -> None:
        self._residents.pop(resident.n, None)
        self._numbers.pop(resident.id, None)
        self._parkable.pop(resident.n, None)
        self.admission.leave(resident.n)
        self.gates.forget(resident.n, resident.gate)
        resident.machine.evict()

    def _tell_all(self, error: HoldfastError) -> None:
        waiting = [waiter for waiters in self._waiters.values() for waiter in waiters]
        for waiter in (*waiting, *self._acks):
            if not waiter.done():
                waiter.set_exception(error)
        self._waiters.clear()

    async def _drain(self) -> None:
        begun = self.loop.time()
        said = False
        while self.failure is None and self.loop.time() < begun + self._limits.drain_seconds:
            bodies = [body for resident in self._residents.values() for body in resident.bodies.values()]
            active = sum(body.active for body in bodies)
            if not active:
                return
            if not said and self.loop.time() > begun + SAY_SECONDS:
                said = True
                log.warning("stopping: waits up to %g s for steps that run: %d", self._limits.drain_seconds, active)
            await asyncio.sleep(0.01)

    def guard(self, call: Callable[..., None], *args: Any) -> None:
        """Calls from a callback of the loop: an exception would be lost, and all that hangs on it wait for ever."""
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001  # whatever it is, the engine cannot go on
            self.fail(as_failure(error))

    def fail(self, error: HoldfastError) -> None:
        """Stops at once: nothing more is acknowledged."""
        if self.failure is not None:
            return
        log.error("the engine stops, nothing more is acknowledged: %s", error, exc_info=error.__cause__)
        self.failure = error
        self.stopping = True
        self.committer.halt(error)
        self._timers.stop()
        self.gates.stop()
        self.schedules.stop()
        self._effects.cancel()
        self._tell_all(error)
        self.bus.close()
        self.over.set()


def _is_over(status: int) -> bool:
    return status >= Status.PAUSED


def _acknowledge(ack: asyncio.Future[None]) -> None:
    if not ack.done():
        ack.set_result(None)
