"""What a person does to an invocation: cancel, kill, pause, resume, retry, restart, fork, purge.

Promises: each returns once it is durable; a result that is recorded stays recorded (G2, G6): another outcome of a step
is a new invocation. Refuses: moves that the state table does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import entries as records
from holdfast.core.entries import Entry, Paused
from holdfast.core.ids import check_id, make_id, number
from holdfast.core.invocation import Move, Status, move
from holdfast.core.mismatch import label
from holdfast.core.payload import INLINE, compress
from holdfast.engine import rehearsal
from holdfast.engine.objects import LIST
from holdfast.errors import (
    BadArguments,
    HandlerFault,
    HoldfastError,
    IdConflict,
    TooMany,
    UnknownInvocation,
    Unreadable,
    WrongStatus,
)
from holdfast.stores.base import BlobRow, EntryRow, InvocationRow, RewriteRow, StateRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

CHILDREN_MAX = 100_000  # that are looked at
PURGE_SLICE = 100  # invocations purged in one commit
BLOBS_ALL = 1 << 62
MAIL_MAX = 1_000  # signals an invocation has not received yet


class Control:
    """Task control over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def cancel(self, id: str, reason: str) -> None:
        """Asks an invocation to end; its clean-up runs. Raises UnknownInvocation, WrongStatus, BadArguments."""
        engine = self._open("cancel", reason)
        row = await engine.known(id)
        _check_running(row)
        if row.began is None or (engine.resting and engine.resident(row.n) is None):
            engine.links.ask_to_end(row, reason)
            await engine.durable()
            return
        # A paused one goes on, to clean up.
        resident = engine.resident(row.n) or engine.load_row(row)
        if resident is None or resident.pausing:
            raise WrongStatus(
                f"invocation {id!r} is paused and cannot run its clean-up",
                cause="its code and its journal do not fit, or a step's fault is not mended",
                fix="mend the cause and resume it first, or kill it",
            )
        if resident.machine.ended:  # in this very turn
            raise _over(id)
        if not resident.machine.cancelling:  # a second one would break off the clean-up that the first began
            engine.driver.cancel(resident, reason)
        await engine.durable()

    async def kill(self, id: str, reason: str) -> None:
        """Ends an invocation at once, and those it called; no clean-up runs. Raises UnknownInvocation, WrongStatus,
        BadArguments."""
        engine = self._open("kill", reason)
        row = await engine.known(id)
        _check_running(row)
        killed = [row]
        self._kill(row, reason)
        while killed:  # those they called, once all of them are known
            await engine.durable()
            called = [child for above in killed for child in engine.rows.children(above.n, CHILDREN_MAX)]
            killed = [child for child in called if child.call is not None and not Status(child.status).ended]
            for child in killed:
                self._kill(child, f"its caller was killed: {reason}")
        await engine.durable()  # those that had just ended of themselves too

    async def pause(self, id: str, reason: str) -> None:
        """Stops an invocation until it is resumed; bodies that run may finish and are recorded. Raises
        UnknownInvocation, WrongStatus, BadArguments."""
        engine = self._open("pause", reason)
        row = await engine.known(id)
        _check_running(row)
        if row.status == Status.PAUSED:
            raise WrongStatus(f"invocation {id!r} is paused already", fix="resume it to let it go on")
        why = Paused("HF505", reason, engine.clock.now())
        resident = engine.resident(row.n)
        if resident is None:
            engine.rows.pause(row, why)
        elif not resident.pausing and not resident.machine.ended:
            engine.driver.pause(resident, why)
        await engine.durable()

    async def resume(self, id: str) -> None:
        """Lets a paused invocation go on. Raises UnknownInvocation, WrongStatus."""
        engine = self._open()
        row = await engine.known(id)
        resident = engine.resident(row.n)
        if resident is not None:
            move(resident.status, Move.RESUME)  # somebody else's resume may not be durable yet
            raise WrongStatus(
                f"invocation {id!r} still waits for a body that runs", fix="resume it again when that has ended"
            )
        if row.began is None:
            status = move(Status(row.status), Move.REQUEUE)
            if row.wake_at is None:
                engine.rows.arrive(row._replace(status=status))
            else:
                engine.rows.move(row, status, None, row.wake_at)
        elif engine.resting:
            outcome = records.Woken(engine.rows.obeyed(row))
            engine.rows.move(row, move(Status(row.status), Move.RESUME), outcome)
        else:
            move(Status(row.status), Move.RESUME)
            engine.load_row(row)
        await engine.durable()

    async def retry(self, id: str) -> None:
        """Opens a failed invocation again. The failure it ended with is taken out of its journal, with what followed
        from it; what was finished and is still wanted is kept. Raises UnknownInvocation, WrongStatus."""
        engine = self._open()
        row = await engine.known(id)
        status = move(Status(row.status), Move.REOPEN)
        handler = engine.handler(row.target)
        journal = rehearsal.journal_of(engine.driver, row.n)
        failing = _failing(journal, row)
        kept = journal
        if failing is not None:
            await self._retry_child(row, journal[failing])
            try:
                kept = rehearsal.reopened(engine.driver, row, handler, journal, failing)
            except (HandlerFault, HoldfastError) as fault:
                raise WrongStatus(
                    f"invocation {id!r} cannot be opened at its failing point: {fault.what}",
                    cause="its code and its journal do not fit",
                    fix="put the old code back, or restart it from a step",
                ) from None
            batch = engine.committer.batch
            batch.rewrites.append(RewriteRow(row.n, failing))
            batch.entries += [
                EntryRow(row.n, seq, records.encode(entry)) for seq, entry in enumerate(kept[failing:], failing)
            ]
        engine.rows.move(row, status, records.Woken(len(kept) if failing is None else failing))
        gate = engine.rows.gate(row)
        if gate is not None:
            engine.gates.arriving(gate)
            engine.committer.after(engine.gates.arrived, gate)
        await engine.durable()

    async def restart(self, id: str, from_step: str | None, new_id: str | None) -> str:
        """A new invocation of the same input, with the journal as it was before `from_step` completed; from the
        beginning without it. The new one's id. Raises UnknownInvocation, BadArguments, IdConflict."""
        engine = self._open()
        row = await engine.known(id)
        journal = [] if from_step is None else rehearsal.journal_of(engine.driver, row.n)
        end = 0 if from_step is None else _place(journal, row, from_step)
        return await self._copy(row, journal[:end], new_id, f"{id} from {from_step or 'the start'}")

    async def fork(self, id: str, step: str, text: bytes, new_id: str | None) -> str:
        """A new invocation of the same input, with the journal up to `step` and another result of that; its id.

        `text` is the result's JSON. Raises UnknownInvocation, BadArguments, IdConflict; WrongStatus when the code
        cannot take that result there.
        """
        engine = self._open()
        row = await engine.known(id)
        journal = rehearsal.journal_of(engine.driver, row.n)
        place = _place(journal, row, step)
        edited = _edited(journal[place], INLINE + text)
        prefix = [*journal[:place], edited]
        handler = engine.handler(row.target)
        try:
            with rehearsal.rehearsed(engine.driver, row._replace(outcome=None), handler, prefix):
                pass
        except Unreadable as error:
            raise BadArguments(f"the result does not fit step {step!r}", cause=error.what, fix="send another") from None
        except (HandlerFault, HoldfastError) as fault:
            raise WrongStatus(
                f"invocation {id!r} cannot be forked at {step!r}: {fault.what}", fix="fork it under the code it ran by"
            ) from None
        return await self._copy(row, prefix, new_id, f"{id} from {step}, edited")

    async def purge(self, id: str) -> None:
        """Deletes an ended invocation with its journal. Its id is free again. Raises UnknownInvocation, WrongStatus."""
        engine = self._open()
        row = await engine.known(id)
        if not Status(row.status).ended or engine.resident(row.n) is not None:
            raise WrongStatus(f"invocation {id!r} has not ended", fix="cancel or kill it first")
        parent = None if row.parent is None else engine.rows.get(row.parent)
        if parent is not None and not Status(parent.status).ended:
            raise WrongStatus(
                f"invocation {id!r} was called by {parent.id!r}, which has not ended and may need its result",
                fix="purge it when the caller has ended",
            )
        engine.committer.batch.purges.append(row.n)
        await engine.durable()

    async def purge_ended(self, before: int) -> int:
        """Deletes what ended before a moment (milliseconds), slice by slice; how many there were."""
        engine = self._open()
        count = 0
        while True:
            due = engine.store.ended_before(before, PURGE_SLICE)
            numbers = [n for n in due if engine.resident(n) is None]
            if not numbers:
                return count
            engine.committer.batch.purges += numbers
            await engine.durable()
            count += len(numbers)

    async def signal(self, id: str, name: str, text: bytes) -> None:
        """Sends a named message. Raises UnknownInvocation, WrongStatus, TooMany, BadArguments when it does not fit who
        waits for it."""
        engine = self._open()
        row = await engine.known(id)
        _check_running(row)
        resident = engine.bring_back(row.n)
        if resident is not None:
            box = resident.machine.mailbox
            receiver = box.receiver(name)
            if receiver is not None:
                try:
                    receiver.codec.decode(text)
                except Unreadable as error:
                    raise BadArguments(
                        f"the value does not fit signal {name!r} of {id!r}", cause=error.what, fix="send another value"
                    ) from None
            elif box.count >= MAIL_MAX:
                raise TooMany(
                    f"invocation {id!r} has {box.count} signals it has not received",
                    cause="it is sent more than it reads, or nothing reads signals of this name",
                    fix="send them later, or receive them in the handler",
                )
        engine.links.post(row, name, text)
        await engine.durable()

    async def set_state(self, service: str, key: str, name: str, text: bytes | None) -> None:
        """Writes or removes a value of an object from outside. Raises WrongStatus while a handler of the key that may
        write has not ended, or when the name is a list's."""
        engine = self._open()
        await engine.durable()
        holder = engine.gates.holder(f"{service}/{key}")
        if holder is not None:
            row = engine.rows.get(holder)
            raise WrongStatus(
                f"{service}/{key} is being written by {'?' if row is None else row.id!r}",
                fix="wait for it to end, or change the state in a handler",
            )
        body = engine.store.state(service, key, name)
        if body is not None and body[:1] == LIST and text is not None:
            raise WrongStatus(f"state {name!r} of {service}/{key} is a list", fix="remove it first")
        engine.committer.batch.states.append(StateRow(service, key, name, None if text is None else compress(text)))
        await engine.durable()

    async def _retry_child(self, row: InvocationRow, entry: Entry) -> None:
        if isinstance(entry, records.CallErrored):
            child = self._engine.rows.find(entry.child)
            if child is not None and child.parent == row.n and child.status == Status.FAILED:
                await self.retry(child.id)

    def _kill(self, row: InvocationRow, reason: str) -> None:
        engine = self._engine
        outcome = records.Cancelled(f"killed: {reason}")
        resident = engine.resident(row.n)
        if resident is None:
            engine.rows.end(row, Move.KILL, outcome)
        elif not resident.machine.ended:
            engine.driver.end(resident, Move.KILL, outcome)
            resident.machine.evict()

    async def _copy(self, row: InvocationRow, prefix: list[Entry], new_id: str | None, origin: str) -> str:
        engine = self._engine
        id = make_id(engine.clock.now(), engine.entropy.bits(72)) if new_id is None else check_id(new_id)
        if engine.rows.find(id) is not None:
            raise IdConflict(f"the id {id!r} is in use", fix="give another id, or leave it out and one is made")
        handler = engine.handler(row.target)
        if handler.main:
            raise BadArguments(
                f"{row.target!r} is a workflow's main handler, which runs once per key",
                fix="start the workflow with another key",
            )
        n = number(engine.next_counter(), id)
        now = engine.clock.now()
        batch = engine.committer.batch
        new = row._replace(
            n=n, id=id, status=Status.QUEUED, updated=now, wake_at=None, parent=None, call=None, build=engine.build,
            outcome=records.encode(records.Woken(len(prefix))) if prefix else None, origin=origin,
            created=now, began=row.began if prefix else None,
        )  # fmt: skip
        batch.starts.append(new)
        batch.entries += [EntryRow(n, seq, records.encode(entry)) for seq, entry in enumerate(prefix)]
        blobs = dict(engine.store.blob_digests(row.n))
        bodies = engine.store.blobs(row.n, -BLOBS_ALL, BLOBS_ALL) if blobs else []
        batch.blobs += [BlobRow(n, number, blobs[number], body) for number, body in bodies]
        engine.rows.added(new)
        gate = engine.rows.gate(row)
        if gate is not None:
            engine.gates.arriving(gate)
            engine.committer.after(engine.gates.arrived, gate)
        await engine.durable()
        return id

    def _open(self, what: str = "", reason: str = "") -> Engine:
        self._engine.check_open()
        given: object = reason
        if not isinstance(given, str):
            raise BadArguments(f"the reason of a {what} is {type(reason).__name__}", fix="give a text, or leave it out")
        return self._engine


def _check_running(row: InvocationRow) -> None:
    if Status(row.status).ended:
        raise _over(row.id)


def _over(id: str) -> WrongStatus:
    return WrongStatus(f"invocation {id!r} has ended already", fix="there is nothing to do; restart it for a new run")


def _place(journal: list[Entry], row: InvocationRow, step: str) -> int:
    for index, entry in enumerate(journal):
        if label(entry) == step:
            return index
    known = ", ".join(label(entry) for entry in journal[:10]) or "none"
    raise UnknownInvocation(
        f"invocation {row.id!r} has no recorded step {step!r}; it has {known}", fix="see its journal"
    )


def _edited(entry: Entry, payload: bytes) -> Entry:
    match entry:
        case records.StepCompleted():
            return records.StepCompleted(
                entry.at, entry.step, entry.digest, payload, entry.inputs, entry.attempts, entry.started
            )
        case records.StepErrored():
            return records.StepCompleted(
                entry.at, entry.step, entry.digest, payload, entry.inputs, entry.failure.attempts, entry.started
            )
        case records.CallCompleted() | records.CallErrored():
            return records.CallCompleted(entry.at, entry.call, entry.digest, payload, entry.child)
        case records.PromiseSettled():
            return records.PromiseSettled(entry.at, entry.promise, payload, ok=True)
        case _:
            raise BadArguments(f"{label(entry)!r} has no result to edit", fix="name a step, a call or a promise")


def _failing(journal: list[Entry], row: InvocationRow) -> int | None:
    """Where the failure came from that the invocation ended with; None when the handler itself made it."""
    outcome = None if row.outcome is None else records.decode_outcome(row.outcome)
    if not isinstance(outcome, records.Raised):
        return None
    for index in range(len(journal) - 1, -1, -1):
        entry = journal[index]
        if (
            isinstance(entry, (records.StepErrored, records.CallErrored))
            and entry.failure.message in outcome.failure.message
        ):
            return index
    return None
