"""What invocations do to each other: call, send, attach, signal, cancel, settle promises they share.

Promises: an invocation and its caller's command are one commit, its end and what the caller gets are one commit, so
every call happens exactly once (G4); a caller that is parked is woken by its row. A call that would wait for its own
caller is refused with the chain. Refuses: to run anything itself.

Nothing is delivered in the midst of another handler's turn: it is put off to just before the batch is closed.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core import entries as records
from holdfast.core.commands import (
    Attach,
    CallHandler,
    CallSpec,
    CancelCall,
    CancelOther,
    Command,
    SendCall,
    SendSignal,
    SettleShared,
    SharePromise,
)
from holdfast.core.entries import Failure, Outcome
from holdfast.core.invocation import Move, Status
from holdfast.core.mismatch import other_call
from holdfast.engine.reasons import as_failure, describe, nobody, unread
from holdfast.engine.resident import Resident
from holdfast.engine.starts import Order, split_headers
from holdfast.engine.waits import Waits
from holdfast.errors import (
    HoldfastError,
    IdConflict,
    InvocationCancelled,
    StoreCorrupt,
    Unreadable,
)
from holdfast.stores.base import InvocationRow, KeyRow, PromiseRow, SettleRow, WaiterRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

DELIVERIES_MAX = 500  # in one batch; what handlers ask for after so many waits for the next
LETTERS_MAX = 10_000  # signals of handlers, who cannot be refused, that one may leave unread before it is paused

log = logging.getLogger("holdfast")


class End(NamedTuple):
    """How an invocation ended, for those who wait for it."""

    id: str
    outcome: Outcome
    text: bytes  # of a result, JSON


class Links:
    """Between the invocations of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waits = Waits(engine)
        self._later: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._asked: set[tuple[int, str]] = set()  # calls that are to be looked at
        self._ends: dict[str, End] = {}  # that are not durable yet
        self._waited = False  # somebody was attached to another, in this life
        self._waiting: dict[str, list[int]] = {}  # waiters that are not durable yet, by subject
        self._shared: dict[str, PromiseRow] = {}  # promises made or settled that are not durable yet
        self._forgotten: Counter[str] = Counter()  # owners of promises whose purge is not durable yet
        self._delivered = 0  # in the open batch

    @property
    def crowded(self) -> bool:
        """Whether so much was delivered in the open batch that what handlers ask for now waits for the next: of two
        that answer each other neither ever waits for anything, and the batch would never be closed."""
        return self._delivered >= DELIVERIES_MAX

    def later(self, call: Callable[..., None], *args: Any) -> None:
        """Calls before the open batch is closed, but not in the midst of what runs now."""
        self._later.append((call, args))
        _ = self._engine.committer.batch

    def flush(self) -> None:
        """Does all that was put off."""
        while self._later and self._engine.failure is None:
            if not self._delivered:
                self._engine.committer.after(self._begin_anew)
            self._delivered += 1
            call, args = self._later.popleft()
            try:
                call(*args)
            except (StoreCorrupt, Unreadable) as damage:
                self._damaged(args[0], damage)
            except Exception as error:  # noqa: BLE001  # what was to be told would be lost if all went on
                self._engine.fail(as_failure(error))

    def _begin_anew(self) -> None:
        self._delivered = 0

    def _damaged(self, whom: Any, damage: HoldfastError) -> None:
        # Damage stops who met it, and no other (G10): it asks again. A deed (known by the id it is for) would not be
        # asked for again, for others of its turn are done: nothing of this batch is.
        if isinstance(whom, str):
            self._engine.fail(damage)
            return
        resident = self._engine.resident(whom) if isinstance(whom, int) else whom
        if isinstance(resident, Resident) and not resident.pausing and not resident.status.ended:
            self._engine.driver.pause(resident, damage)
        else:
            log.error("nothing could be delivered to %s: %s", whom, damage)

    def look(self, commands: list[Command]) -> None:
        """Reads what deeds will need, before any is done. Raises StoreCorrupt, Unreadable."""
        try:
            for command in commands:
                self._look(command)
        except (StoreCorrupt, Unreadable):
            raise
        except Exception as error:  # noqa: BLE001  # it would leave half a turn to be committed
            self._engine.fail(as_failure(error))

    def _look(self, command: Command) -> None:
        rows = self._engine.rows
        match command:
            case SendSignal(id) | CancelOther(id) | CancelCall(_, id):
                row = rows.find(id)
                if row is not None and self._engine.resident(row.n) is None:
                    rows.length(row.n)
            case SendCall(spec):
                rows.find(spec.id)
            case SettleShared(id):
                self.shared(id)

    def obey(self, resident: Resident, command: Command) -> None:
        """A handler wants something of another invocation."""
        match command:
            case CallHandler(local, spec):
                self._asked.add((resident.n, local))
                self.later(self._call, resident, local, spec)
            case Attach(local, id):
                self.later(self._attach, resident, local, id)
            case SharePromise():
                self.later(self._share, resident, command)
            case SendCall(spec):
                self.later(self._send, spec.id, resident, spec)
            case SendSignal(id, name, text):
                self.later(self._signal, id, name, text)
            case CancelOther(id, reason):
                self.later(self._cancel, id, reason)
            case CancelCall(local, id):
                self.later(self._cancel_called, id, resident, local)
            case SettleShared(id, text, ok):
                self.later(self._settle_shared, id, text, ok)
            case _:
                raise AssertionError(command)

    def ended(self, resident: Resident, outcome: Outcome, text: bytes) -> None:
        """An invocation has ended, in the open batch: all who wait for it are told."""
        self.tell(resident.row, End(resident.id, outcome, text))

    def tell(self, row: InvocationRow, end: End) -> None:
        """Tells the caller of an invocation that has ended, and all who are attached to it."""
        if row.parent is not None and row.call is not None:
            self.later(self._deliver, row.parent, row.call, end)
        self._ends[end.id] = end
        self._engine.committer.after(self._is_told, end.id)
        if self._engine.is_new(row.n) and not self._waited:
            return  # nobody can be attached to it, and the store need not be asked
        waiters = self._waiters(end.id)
        if waiters and all(self._ready(n) is not None for n in waiters):
            self._dismiss(end.id)  # else they stay noted: the result is kept for those who ask for it again
        for n in waiters:
            self.later(self._deliver_all, n, end)

    def _is_told(self, id: str) -> None:
        del self._ends[id]

    def settle_shared(self, id: str, text: bytes, ok: bool) -> bool:
        """Settles a promise of a workflow; False if it is settled already."""
        engine = self._engine
        row = self.shared(id)
        if row is not None and row.status:
            return False
        now, value = engine.clock.now(), b"\0" + text
        batch = engine.committer.batch
        if row is None:
            settled = PromiseRow(id, 0, now, records.encode(records.PromiseInfo("")), 1 if ok else 2, now, value)
            batch.promises.append(settled)
        else:
            settled = row._replace(status=1 if ok else 2, settled=now, value=value)
            batch.settles.append(SettleRow(id, settled.status, now, value))
        self._keep_shared(settled)
        for n in self._dismiss(id):
            self.later(self._deliver_promise, n, id)
        return True

    def shared(self, id: str) -> PromiseRow | None:
        """A promise of a workflow, as it will be once the open batches are durable."""
        if id in self._shared:
            return self._shared[id]
        return None if _owner(id) in self._forgotten else self._engine.store.promise(id)

    def forget(self, workflow: KeyRow) -> None:
        """The promises of a workflow's key are being deleted; those made from now on are others."""
        owner = ":".join(workflow)
        self._forgotten[owner] += 1
        self._engine.committer.after(self._forgot, owner)

    def is_shared(self, workflow: KeyRow) -> bool:
        """Whether something is being done to the promises of a workflow's key."""
        owner = ":".join(workflow)
        return any(_owner(id) == owner for id in (*self._shared, *self._waiting))

    def _forgot(self, owner: str) -> None:
        self._forgotten[owner] -= 1
        if not self._forgotten[owner]:
            del self._forgotten[owner]

    def shared_waiters(self, id: str) -> list[Resident]:
        """Those in memory that wait for a promise of a workflow, who know its type; if none is, one that was parked."""
        waiters = self._waiters(id)
        known = [resident for n in waiters if (resident := self._engine.resident(n)) is not None]
        return known or [resident for n in waiters[:1] if (resident := self._engine.bring_back(n)) is not None]

    def post(self, row: InvocationRow, name: str, text: bytes) -> None:
        """Gives a signal to an invocation that has not ended."""
        engine = self._engine
        resident = engine.bring_back(row.n)
        row = engine.rows.get(row.n) or row  # one that could not be brought back is paused now
        if resident is not None:
            if not resident.machine.ended:
                self._post(resident, name, text)
        else:  # with what led to it, also where the row is not durable yet: a crash between two commits would lose it
            entry = records.SignalArrived(max(engine.clock.now(), row.updated), name, b"\0" + text)
            engine.rows.append(row, entry)

    def _post(self, resident: Resident, name: str, text: bytes) -> None:
        mailbox = resident.machine.mailbox
        before = mailbox.count
        self._engine.driver.signal(resident, name, text)
        if before < mailbox.count and not mailbox.count % LETTERS_MAX and not resident.pausing:
            fix = "receive them in the handler, then resume it; a resume alone gives it room for as many again"
            self._engine.driver.pause(resident, unread(resident.id, mailbox.count, fix))

    def ask_to_end(self, row: InvocationRow, reason: str) -> None:
        """Cancels an invocation that has not ended, as far as that can be done without a word to who asked."""
        engine = self._engine
        resident = engine.bring_back(row.n)
        row = engine.rows.get(row.n) or row
        if resident is None:
            if row.began is None:
                engine.rows.end(row, Move.CANCEL, records.Cancelled(reason))
            else:
                engine.rows.cancel(row, reason)
        elif row.began is None:  # it could not be loaded
            engine.driver.end(resident, Move.CANCEL, records.Cancelled(reason))
        elif resident.pausing:
            engine.driver.cancel_paused(resident, reason)
        elif not resident.machine.ended and not resident.machine.cancelling:
            engine.driver.cancel(resident, reason)

    def _call(self, resident: Resident, local: str, spec: CallSpec) -> None:
        engine = self._engine
        self._asked.discard((resident.n, local))
        if not _still_waits(resident, local):
            return
        row = engine.rows.find(spec.id)
        order = _order(resident, spec, local)
        if row is None:
            refusal: HoldfastError | None = self._waits.refusal(resident, spec)
            if refusal is None:
                engine.create(order)
        elif row.parent == resident.n and row.call == local:
            refusal = None
            if self._is_other(order, row):
                engine.driver.pause(resident, other_call(local, (row.target, row.key), (spec.handler.target, spec.key)))
                return
        else:
            refusal = self._conflict(order, row) or self._waits.refusal_to_join(resident, row)
            if refusal is None:
                self._wait(resident, spec.id)
        if refusal is not None:
            self._refuse(resident, local, spec.id, refusal)
        elif row is not None and Status(row.status).ended:
            self._deliver(resident.n, local, self._end_of(row))

    def _conflict(self, order: Order, row: InvocationRow) -> HoldfastError | None:
        try:
            return self._engine.conflict(order, row)
        except Unreadable as damage:  # of the one that is there: it stops that one, and not who calls it (G10)
            return damage

    def _is_other(self, order: Order, row: InvocationRow) -> bool:
        """Whether a call that has begun is not the one that the code makes now."""
        if not isinstance(self._conflict(order, row), IdConflict):
            return False
        try:
            text, _ = split_headers(self._engine.driver.read(row.n, row.input))
            order.handler.arguments.decode(text)
        except HoldfastError:
            return (row.target, row.key) != (order.handler.target, order.key)  # else damage, of that one alone (G10)
        return True

    def _send(self, id: str, resident: Resident, spec: CallSpec) -> None:
        engine = self._engine
        row = engine.rows.find(id)
        order = _order(resident, spec, None)
        if row is None:
            if spec.delay:
                order.not_before = engine.driver.now(resident) + math.ceil(spec.delay * 1000)
            engine.create(order)
        elif row.parent != resident.n and (refusal := self._conflict(order, row)) is not None:
            log.warning("%s: nothing is sent: %s", resident.id, refusal)

    def _attach(self, resident: Resident, local: str, id: str) -> None:
        if not _still_waits(resident, local):
            return
        row = self._engine.rows.find(id)
        if row is None:
            self._refuse(resident, local, id, nobody(id, resident))
        elif Status(row.status).ended:
            self._deliver(resident.n, local, self._end_of(row))
        elif (refusal := self._waits.refusal_to_join(resident, row)) is not None:
            self._refuse(resident, local, id, refusal)
        else:
            self._wait(resident, id)

    def _share(self, resident: Resident, command: SharePromise) -> None:
        if not _still_waits(resident, command.promise):
            return
        row = self.shared(command.id)
        if row is None:
            about = records.encode(command.info)
            made = PromiseRow(command.id, 0, self._engine.clock.now(), about, 0, None, None)
            self._engine.committer.batch.promises.append(made)
            self._keep_shared(made)
        elif row.status:
            self._deliver_promise(resident.n, command.id)
            return
        self._wait(resident, command.id)

    def _wait(self, resident: Resident, subject: str) -> None:
        if resident.n in self._waiters(subject):
            return
        self._waited = True
        self._engine.committer.batch.waiters.append(WaiterRow(subject, resident.n))
        self._waiting.setdefault(subject, []).append(resident.n)
        self._engine.committer.after(self._is_durable, subject, resident.n)

    def _is_durable(self, subject: str, n: int) -> None:
        waiting = self._waiting.get(subject, [])
        if n in waiting:
            waiting.remove(n)
            if not waiting:
                del self._waiting[subject]

    def _waiters(self, subject: str) -> list[int]:
        fresh = self._waiting.get(subject, ())
        return sorted({*self._engine.store.waiters(subject), *fresh})

    def _dismiss(self, subject: str) -> list[int]:
        """All who wait, and nobody does any more."""
        waiters = self._waiters(subject)
        if waiters:
            self._waiting.pop(subject, None)
            self._engine.committer.batch.unwaits.append(subject)
        return waiters

    def _keep_shared(self, row: PromiseRow) -> None:
        self._shared[row.id] = row
        self._engine.committer.after(self._drop_shared, row)

    def _drop_shared(self, row: PromiseRow) -> None:
        if self._shared.get(row.id) is row:
            del self._shared[row.id]

    def _refuse(self, resident: Resident, local: str, child: str, error: HoldfastError) -> None:
        failure = Failure(
            type(error).__name__, f"{error.what}; {error.cause}" if error.cause else error.what, error.fix
        )
        self._deliver_refusal(resident.n, local, child, failure, error.code)

    def _deliver_refusal(self, n: int, local: str, child: str, failure: Failure, code: str) -> None:
        resident = self._ready(n)
        if resident is not None and local in resident.machine.waiting:
            self._engine.driver.refused(resident, local, child, failure, code)

    def _end_of(self, row: InvocationRow) -> End:
        fresh = self._ends.get(row.id)
        if fresh is not None:
            return fresh
        assert row.outcome is not None  # for the type checker: it has ended, and durably so
        try:
            outcome = records.decode_outcome(row.outcome)
            if isinstance(outcome, (records.Paused, records.Woken)):
                raise Unreadable(f"the end of {row.id!r} is none", cause="the stored bytes are damaged")
            text = self._engine.driver.read(row.n, outcome.value) if isinstance(outcome, records.Returned) else b""
        except Unreadable as damage:
            return End(row.id, records.Raised(describe(damage)), b"")
        return End(row.id, outcome, text)

    def _deliver_all(self, n: int, end: End) -> None:
        resident = self._ready(n)
        if resident is None:
            self._wake(n)
            return
        for local, step in list(resident.machine.waiting.items()):
            if step.kind in {"attach", "call"} and step.id == end.id:
                self._deliver(n, local, end)

    def _deliver(self, n: int, local: str, end: End) -> None:
        resident = self._ready(n)
        if resident is None:
            self._wake(n)
            return
        if local not in resident.machine.waiting or (n, local) in self._asked:
            return  # who has yet to be looked at may ask for something else by now, and finds this end
        driver = self._engine.driver
        match end.outcome:
            case records.Returned():
                driver.returned(resident, local, end.id, end.text)
            case records.Raised(failure):
                driver.refused(resident, local, end.id, failure, "HF503")
            case records.Cancelled(reason):
                failure = Failure("InvocationCancelled", f"invocation {end.id!r} was cancelled: {reason}")
                driver.refused(resident, local, end.id, failure, InvocationCancelled.code)

    def _deliver_promise(self, n: int, id: str) -> None:
        resident = self._ready(n)
        row = self.shared(id)
        if resident is None:
            self._wake(n)
            return
        if row is None or row.value is None:
            return
        text = self._engine.driver.read(0, row.value)
        for local, step in list(resident.machine.waiting.items()):
            if step.kind == "shared" and step.id == id and not resident.pausing:
                self._engine.driver.settle_or_pause(resident, local, text, ok=row.status == 1)

    def _ready(self, n: int) -> Resident | None:
        """The invocation, if it is in memory and takes completions."""
        resident = self._engine.resident(n)
        return None if resident is None or resident.pausing or resident.machine.ended else resident

    def _wake(self, n: int) -> None:
        # Its row says that there is something for it; what, it finds when it asks again.
        if self._engine.resident(n) is None:  # else it is paused, and asks at its resume
            self._engine.rows.wake(n)

    def _settle_shared(self, id: str, text: bytes, ok: bool) -> None:
        self.settle_shared(id, text, ok)  # settled before: the first one counts

    def _signal(self, id: str, name: str, text: bytes) -> None:
        row = self._engine.rows.find(id)
        if row is not None and not Status(row.status).ended:
            self.post(row, name, text)

    def _cancel_called(self, id: str, resident: Resident, local: str) -> None:
        row = self._engine.rows.find(id)
        if row is not None and row.parent == resident.n and row.call == local:  # one it began, and did not only join
            self._cancel(id, f"its caller {resident.id} does not wait for it any more")

    def _cancel(self, id: str, reason: str) -> None:
        row = self._engine.rows.find(id)
        if row is not None and not Status(row.status).ended:
            self.ask_to_end(row, reason)


def _owner(promise: str) -> str:
    """What the id of a workflow's promise begins with: the service and the key."""
    return promise.rpartition(":")[0]


def _still_waits(resident: Resident, local: str) -> bool:
    """Whether a handler still waits for what it asked for earlier in this turn."""
    return not resident.pausing and local in resident.machine.waiting


def _order(resident: Resident, spec: CallSpec, local: str | None) -> Order:
    headers = dict(spec.headers or {})
    return Order(spec.id, spec.handler, spec.text, spec.key, headers, parent=resident.n, call=local)
