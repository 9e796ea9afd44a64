"""Drives one invocation at a time: an entry into its machine, the machine's commands into rows and bodies.

Promises: an entry and all that follows from it are one commit; bodies start, waiters wake and rows count only after
it. Refuses: to choose which invocation runs; that is the engine's.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast.core import entries as records
from holdfast.core.commands import (
    AppendItem,
    CancelStep,
    Command,
    EndCancelled,
    FindOut,
    OpenPromise,
    Raise,
    Return,
    RunStep,
    SetState,
    WithdrawPromise,
)
from holdfast.core.entries import Completion, Entry, Failure, Note, Outcome, Paused, Woken
from holdfast.core.invocation import Move, Status, move
from holdfast.core.machine import LIVE, Machine
from holdfast.core.patches import install
from holdfast.core.payload import INLINE, BlobIndex, pack, unpack
from holdfast.core.state import StateView
from holdfast.core.tasks import Step
from holdfast.engine.bodies import Bodies
from holdfast.engine.committer import Committer
from holdfast.engine.gates import Gate
from holdfast.engine.links import Links
from holdfast.engine.objects import ObjectState, Unwritten
from holdfast.engine.once import OnceSteps
from holdfast.engine.ports import Clock
from holdfast.engine.reasons import deadlock, describe, obeyed_of, reason_of, tries_of
from holdfast.engine.resident import Resident
from holdfast.engine.starts import join_headers, split_headers
from holdfast.engine.timers import Timers
from holdfast.engine.watcher import Watcher
from holdfast.errors import HandlerFault, HoldfastError, StoreCorrupt, TerminalError, Unreadable
from holdfast.objects import context_of
from holdfast.service import Handler, Registry
from holdfast.steps import plan_thread
from holdfast.stores.base import BlobRow, EntryRow, InvocationRow, MoveRow, PromiseRow, SettleRow, Store

log = logging.getLogger("holdfast")

INLINE_BYTES = 256  # below it a payload cannot hold anything worth storing apart


class Driver:
    """The flow of one invocation through machine, store and bodies."""

    def __init__(
        self, store: Store, committer: Committer, clock: Clock, registry: Registry, deps: dict[str, Any],
        watcher: Watcher,
    ) -> None:  # fmt: skip
        self.store = store
        self._committer = committer
        self._unwritten = Unwritten(committer)
        self._clock = clock
        self._registry = registry
        self._deps = deps
        self._watcher = watcher
        self.bodies = Bodies(self, committer, clock)
        self.once = OnceSteps(self, committer)
        self.timers: Timers
        self.links: Links

    def create(self, row: InvocationRow, handler: Handler, text: bytes, headers: Mapping[str, str]) -> Resident:
        """A new invocation that begins now; its row and what its first run asked for are in the open batch."""
        resident = self._fresh(row, handler, text, headers)
        resident.begins = row.began
        self._run(resident, lambda: self._begin(resident, headers))
        return resident

    def enqueue(self, row: InvocationRow, handler: Handler, text: bytes, headers: Mapping[str, str]) -> InvocationRow:
        """A new invocation that waits for its turn; its row is in the open batch."""
        queued = self._fresh(row, handler, text, headers).row._replace(began=None)
        self._committer.batch.starts.append(queued)
        return queued

    def load(self, row: InvocationRow, handler: Handler) -> Resident:
        """An invocation brought back by replay, or begun from the queue. What cannot be replayed is paused. Raises
        Unreadable and StoreCorrupt for a row that `Rows.read` leaves out."""
        begins = None
        if row.began is None:
            begins = max(self._clock.now(), row.updated)  # not before its time, should the clock have been set back
            row = row._replace(began=begins)
        resident = self.resident(row, handler, fresh=False)
        resident.length = self.store.length(row.n)  # before what may be damaged: more may come for it all the same
        if begins is None:
            resident.obeyed = obeyed_of(row, resident.length)
            if row.outcome is not None:
                resident.begins = row.began  # the row must not say of what is done now that it is to be done
        if resident.status is Status.PAUSED:
            self._move(resident, move(resident.status, Move.RESUME), None, None)
        elif resident.status is Status.QUEUED:
            resident.status = move(resident.status, Move.BEGIN)
            resident.wake_at = None
            resident.begins = row.began
        try:
            resident.tries = {tried.step: tried for tried in tries_of(row)}
            journal = [records.decode_entry(body) for body in self.store.entries(row.n)]
            resident.text, headers = split_headers(self.read(row.n, row.input))
        except HoldfastError as error:
            if begins is not None:
                resident.begins = None  # it has not begun, and does not keep its key from others (G10)
                resident.row = row._replace(began=None)
            self.pause(resident, error)
            return resident
        self._run(resident, lambda: self._replay(resident, journal, headers))
        return resident

    def deliver(self, resident: Resident, entry: Completion, value: Any = LIVE) -> None:
        """Records an entry and lets the handler go on."""
        self.append(resident, entry)
        if resident.pausing:
            self._follow(resident, entry, value)
            self.tell(resident)  # it is kept until this is durable: then the next entry's place can be read
        else:
            self._run(resident, lambda: resident.machine.receive(entry, value))

    def fire_due(self, resident: Resident) -> None:
        """Fires every timer that is due, each with its own entry, in order, and tries steps again whose time has
        come."""
        resident.armed = None
        now = self._clock.now()
        while not resident.machine.ended and not resident.pausing and (entry := resident.machine.due(now)) is not None:
            self.deliver(resident, entry)
        if not resident.machine.ended and not resident.pausing:
            self.bodies.try_again(resident)
            self.write_status(resident)

    def settle(self, resident: Resident, local: str, value: bytes, *, ok: bool) -> None:
        """Delivers a promise's settlement. Raises Unreadable when the value does not fit the promise's type."""
        step = resident.machine.waiting[local]
        decoded = step.read(value, ok=ok)
        resident.promises.pop(local, None)
        said = self._said(resident, step, decoded, self.pack(resident, value), ok=ok)
        if said is None:
            self.once.again(resident, step)
        else:
            self.deliver(resident, *said)

    def returned(self, resident: Resident, local: str, child: str, text: bytes) -> None:
        """Delivers the result of an invocation that was called or attached to."""
        step = resident.machine.waiting[local]
        digest = b"" if step.spec is None else step.spec.digest
        try:
            value = step.codec.decode(text)
        except Unreadable as error:  # attached to as something it is not
            self.refused(resident, local, child, describe(error), error.code)
            return
        entry = records.CallCompleted(self.now(resident), local, digest, self.pack(resident, text), child)
        self.deliver(resident, entry, value)

    def refused(self, resident: Resident, local: str, child: str, failure: Failure, code: str) -> None:
        """Delivers that an invocation which was called or attached to has not returned."""
        step = resident.machine.waiting[local]
        digest = b"" if step.spec is None else step.spec.digest
        self.deliver(resident, records.CallErrored(self.now(resident), local, digest, failure, child, code))

    def signal(self, resident: Resident, name: str, text: bytes) -> None:
        """Delivers a signal."""
        # As it is: it may be received now, and parts that are stored apart could not be read before they are durable.
        self.deliver(resident, records.SignalArrived(self.now(resident), name, INLINE + text))

    def settle_or_pause(self, resident: Resident, local: str, value: bytes, *, ok: bool) -> None:
        """As `settle`, for a value that is settled already: one that does not fit pauses who waits for it."""
        try:
            self.settle(resident, local, value, ok=ok)
        except Unreadable as error:
            self.pause(resident, error)

    def cancel(self, resident: Resident, reason: str) -> None:
        """Delivers a cancel; the handler's clean-up still runs durably (G7)."""
        self.deliver(resident, records.CancelRequested(self.now(resident), reason))

    def cancel_paused(self, resident: Resident, reason: str) -> None:
        """The same for one that is paused and still in memory: once its bodies have ended it goes on, to clean up."""
        if not resident.machine.cancelling:
            self.cancel(resident, reason)
        if resident.status is Status.PAUSED:
            self._move(resident, move(resident.status, Move.RESUME), None, Woken(resident.obeyed))

    def pause(self, resident: Resident, error: BaseException | Paused) -> None:
        """Stops for a person. Bodies that run may finish and are recorded; nothing new begins."""
        resident.pausing = True
        self.bodies.pause(resident)
        outcome = error if isinstance(error, Paused) else reason_of(error, self._clock.now())
        outcome = msgspec.structs.replace(outcome, obeyed=resident.obeyed)
        # First line only, and never a step's own text: it may quote what was sent and received.
        log.error("%s is paused: %s", resident.id, outcome.reason.partition("\n")[0].partition(": ")[0])
        self._move(resident, move(self._awake(resident), Move.PAUSE), None, outcome)

    def read(self, n: int, payload: bytes) -> bytes:
        """The JSON text of a stored payload. Raises Unreadable."""
        if payload[:1] == INLINE:
            return payload[1:]
        return unpack(payload, lambda first, last: self.store.blobs(n, first, last))

    def resident(self, row: InvocationRow, handler: Handler, *, fresh: bool) -> Resident:
        """An invocation in memory that has not run yet."""
        install()
        assert row.began is not None  # for the type checker: whoever loads a queued one says when it begins
        read = functools.partial(self.read, row.n)
        machine = Machine(row.id, created=row.began, seed=row.seed, read=read, plan_thread=plan_thread)
        resident = Resident(row, handler, machine, Gate(row.lock, row.lane, handler.limit), fresh=fresh)
        if row.key is not None and handler.service is not None:
            resident.state = self.state_of(handler.service, row.key)
        return resident

    def state_of(self, service: str, key: str) -> ObjectState:
        """The state of one key, to be read and written."""
        return ObjectState(self.store, service, key, self._unwritten)

    def call_handler(self, resident: Resident, headers: Mapping[str, str]) -> None:
        """Lets a handler run to its first wait."""
        handler = resident.handler
        args, kwargs = handler.arguments.decode(resident.text)
        machine = resident.machine
        if resident.state is not None:
            machine.state = StateView(machine, resident.state, writes=not handler.shared)
        machine.context = context_of(machine, self._deps, self._registry, headers, handler, resident.key)
        machine.begin(handler.fn, machine.context, *args, **kwargs)

    def _fresh(self, row: InvocationRow, handler: Handler, text: bytes, headers: Mapping[str, str]) -> Resident:
        begun = row if row.began is not None else row._replace(began=row.created)
        resident = self.resident(begun, handler, fresh=True)
        resident.texts = BlobIndex()
        resident.text = text
        resident.row = row._replace(input=self.pack(resident, join_headers(text, headers)))
        return resident

    def _begin(self, resident: Resident, headers: Mapping[str, str]) -> None:
        resident.machine.go_live()
        self.call_handler(resident, headers)

    def _replay(self, resident: Resident, journal: list[Entry], headers: Mapping[str, str]) -> None:
        machine = resident.machine
        machine.recall(journal)
        machine.replaying = resident.obeyed >= 0
        self.call_handler(resident, headers)
        machine.replay(journal, resident.obeyed)
        if not machine.promised:
            return
        rows = self.store.promises_of(resident.n)
        locals = {row.id: resident.local_of(row) for row in rows}
        resident.promises = {locals[row.id]: row.id for row in rows if row.status == 0}
        for row in rows:  # settled while the invocation was paused
            local = locals[row.id]
            promise = machine.waiting.get(local)
            if row.status in (1, 2) and promise is not None and promise.id == row.id and row.value is not None:
                ok = row.status == 1
                value = promise.read(self.read(resident.n, row.value), ok=ok)
                said = self._said(resident, promise, value, row.value, ok=ok)
                if said is not None:  # else it is begun again in place of being asked about
                    self.append(resident, said[0])
                    machine.receive(*said)

    def _said(
        self, resident: Resident, step: Step[Any], value: Any, payload: bytes, *, ok: bool
    ) -> tuple[Completion, Any] | None:
        # What a settlement completes, and with which value; None for one that says a step was not done.
        if step.kind == "step":
            return self.once.told(resident, step, value, ok=ok)
        return records.PromiseSettled(self.now(resident), step.local, payload, ok), value

    def _run(self, resident: Resident, go: Callable[[], None]) -> None:
        try:
            go()
        except (HandlerFault, HoldfastError) as fault:
            self.pause(resident, fault)
            return
        except Exception as error:
            # Damaged bytes that came this far, or a mistake in here: it stops this invocation and not what called us,
            # which is the admission or the timers of all the others (G10).
            log.exception("invocation %s cannot go on", resident.id)
            self.pause(resident, error)
            return
        if self.links.crowded:
            self._keep_back(resident)
        else:
            self._obey_all(resident)

    def _obey_all(self, resident: Resident) -> None:
        commands = resident.machine.take_commands()
        try:
            self.links.look(commands)
        except (StoreCorrupt, Unreadable) as damage:
            self.pause(resident, damage)  # before any of it is done: all of it is asked for again at the resume
            return
        over = any(isinstance(command, Return) for command in commands)
        self._keep_notes(resident, resident.machine.take_notes(), over=over)
        resident.owes = False
        resident.obeyed = resident.length  # what follows is in the same batch
        for command in commands:
            self._obey(resident, command)
            if resident.pausing:
                return
        if not resident.machine.ended:
            self.write_status(resident)

    def _keep_back(self, resident: Resident) -> None:
        self._keep_notes(resident, resident.machine.take_notes(), over=False)
        self.bodies.sort_out(resident)
        if resident.owes:
            return
        resident.owes = True
        tries = (*self.bodies.tries(resident), *resident.tries.values())
        self._move(resident, self._awake(resident), None, Woken(resident.obeyed, tries))
        resident.begins = resident.row.began  # the row must say when all is done
        self._committer.after(self._make_good, resident)

    def _make_good(self, resident: Resident) -> None:
        # One that was paused meanwhile asks again at its resume, all others at the next start of the engine.
        if resident.owes and not (resident.pausing or resident.status.ended or self._watcher.stopping):
            self._obey_all(resident)

    def _keep_notes(self, resident: Resident, notes: list[Note], *, over: bool) -> None:
        for note in notes:
            if isinstance(note, records.StateRead):
                if over:
                    continue  # nothing has seen it but the result, and there will be no replay
                if note.value is not None:
                    note = msgspec.structs.replace(note, value=self.pack(resident, note.value[1:]))  # noqa: PLW2901
            elif isinstance(note, records.Emitted):
                note = msgspec.structs.replace(note, value=self.pack(resident, note.value[1:]))  # noqa: PLW2901
            self.append(resident, note)

    def _follow(self, resident: Resident, entry: Completion, value: Any) -> None:
        # A paused handler sees what is recorded, for a body it gives up by it must not be recorded any more: a replay
        # would find a completion that nobody waits for. All else it asks for, it asks for again at the resume.
        try:
            resident.machine.receive(entry, value)
        except (HandlerFault, HoldfastError):
            return  # the resume meets the same fault, and says so
        resident.machine.take_notes()
        for command in resident.machine.take_commands():
            if isinstance(command, CancelStep):
                self._obey(resident, command)

    def _obey(self, resident: Resident, command: Command) -> None:
        match command:
            case FindOut(step, spec) if step in resident.machine.unknown:
                self.once.find_out(resident, step, spec)
            case RunStep(step, spec) | FindOut(step, spec):
                self.bodies.ask(resident, step, spec)
            case CancelStep():
                self.bodies.give_up(resident, command.step)
                self._withdraw(resident, command.step)
            case OpenPromise():
                self.open_promise(resident, command)
            case WithdrawPromise():
                self._withdraw(resident, command.promise)
            case SetState() | AppendItem():
                assert resident.state is not None  # for the type checker: the command comes from its view
                resident.state.write(self._committer.batch, command)
            case Return():
                self._return(resident, command.value)
            case Raise(error, deeds):
                # A TerminalError is an answer like any other, and no reason to wake anybody.
                level = logging.INFO if isinstance(error, TerminalError) else logging.ERROR
                log.log(level, "%s failed with %s", resident.id, type(error).__name__)
                self.end(resident, Move.FAIL, records.Raised(describe(error), deeds))
            case EndCancelled():
                self.end(resident, Move.CANCEL, records.Cancelled(command.reason))
            case _:
                self.links.obey(resident, command)

    def open_promise(self, resident: Resident, command: OpenPromise) -> None:
        """Makes a promise, unless it is there already."""
        if command.promise in resident.promises:
            return
        resident.promises[command.promise] = command.id
        about = records.encode(command.info)
        row = PromiseRow(command.id, resident.n, self.now(resident), about, 0, None, None)
        self._committer.batch.promises.append(row)

    def _withdraw(self, resident: Resident, local: str) -> None:
        id = resident.promises.pop(local, None)
        if id is not None:
            self._committer.batch.settles.append(SettleRow(id, 3, self.now(resident), b""))

    def _return(self, resident: Resident, value: Any) -> None:
        try:
            text, _ = resident.handler.returns.encode_checked(value)
            payload = self.pack(resident, text)
        except HoldfastError as problem:
            self.pause(resident, problem)
            return
        self.end(resident, Move.COMPLETE, records.Returned(payload), text)

    def end(self, resident: Resident, by: Move, outcome: Outcome, text: bytes = b"") -> None:
        """Ends an invocation; `text` is the result's JSON."""
        for local in list(resident.promises):
            self._withdraw(resident, local)
        self.bodies.end(resident)
        view = resident.machine.state
        # Who failed, or was cancelled with its caller, may be opened again, and reads the lists that it has emptied.
        # Whoever empties them next takes away those elements too.
        if view is not None and resident.state is not None and by in {Move.COMPLETE, Move.KILL}:
            for name in view.cleared:
                resident.state.trim(self._committer.batch, name)
        self._move(resident, move(self._awake(resident), by), None, outcome)
        self.links.ended(resident, outcome, text)

    def write_status(self, resident: Resident) -> None:
        """Whether there is work in hand, or when it goes on."""
        if resident.owes:
            return
        deadline = resident.next_deadline()
        status = Status.READY if resident.busy else Status.SUSPENDED
        wake_at = deadline if status is Status.SUSPENDED else None
        if status is Status.SUSPENDED and deadline is None and not resident.machine.waiting:
            self.pause(resident, deadlock(resident))
            return
        unwritten = resident.fresh or resident.begins is not None
        if unwritten or status is not resident.status or wake_at != resident.wake_at:
            awake = self._awake(resident)
            tries = self.bodies.tries(resident) if status is Status.SUSPENDED else ()
            outcome = records.Woken(resident.obeyed, tries) if tries else None
            self._move(resident, move(awake, Move.SUSPEND) if status is Status.SUSPENDED else awake, wake_at, outcome)
        elif status is Status.SUSPENDED:
            self.tell(resident)
        if deadline is not None and (resident.armed is None or deadline < resident.armed):
            armed = self.timers.arm(resident.n, deadline, stored=status is Status.SUSPENDED)
            resident.armed = deadline if armed else None

    def _move(self, resident: Resident, status: Status, wake_at: int | None, outcome: Outcome | None) -> None:
        body = None if outcome is None else records.encode(outcome)
        now = self.now(resident)
        batch = self._committer.batch
        if resident.fresh:
            resident.fresh = False
            batch.starts.append(
                resident.row._replace(status=status, updated=now, wake_at=wake_at, outcome=body, began=resident.begins)
            )
        else:
            batch.moves.append(MoveRow(resident.n, status, now, wake_at, body, resident.begins))
        resident.begins = None
        resident.status = status
        resident.wake_at = wake_at
        self.tell(resident)

    def tell(self, resident: Resident) -> None:
        """The engine is told that it has gone on, and again when that is durable."""
        self._watcher.moved(resident)
        resident.unsettled += 1
        self._committer.after(self._settled, resident)

    def _settled(self, resident: Resident) -> None:
        resident.unsettled -= 1
        if not resident.unsettled:
            self._watcher.settled(resident)

    def _awake(self, resident: Resident) -> Status:
        return move(resident.status, Move.WAKE) if resident.status is Status.SUSPENDED else resident.status

    def append(self, resident: Resident, entry: Entry) -> None:
        """Adds to the journal, in the open batch."""
        self._committer.batch.entries.append(EntryRow(resident.n, resident.length, records.encode(entry)))
        resident.length += 1
        self._watcher.recorded(resident.n)

    def pack(self, resident: Resident, text: bytes) -> bytes:
        """The payload of a JSON text; large parts go into the open batch."""
        if len(text) < INLINE_BYTES:
            return INLINE + text
        if resident.texts is None:
            resident.texts = BlobIndex(self.store.blob_digests(resident.n))
        packed = pack(text, resident.texts)
        self._committer.batch.blobs.extend(BlobRow(resident.n, *blob) for blob in packed.blobs)
        return packed.payload

    def now(self, resident: Resident) -> int:
        """The time, in milliseconds; an invocation's never goes back."""
        return max(self._clock.now(), resident.machine.at)
