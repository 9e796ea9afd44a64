"""Runs that go on from a point of a journal: retry, restart, fork.

Promises: a result that is recorded stays recorded (G2, G6): another outcome of a step is a new invocation; what was
sent and written before the point is not done again. Refuses: code that does not fit the journal up to that point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import entries as records
from holdfast.core.commands import DIGEST_BYTES
from holdfast.core.entries import NOTES, Entry
from holdfast.core.ids import check_id, make_id
from holdfast.core.invocation import Move, Status, move
from holdfast.core.mismatch import label
from holdfast.core.payload import INLINE
from holdfast.engine import rehearsal
from holdfast.errors import (
    BadArguments,
    HandlerFault,
    HoldfastError,
    IdConflict,
    UnknownInvocation,
    Unreadable,
    WrongStatus,
)
from holdfast.stores.base import BlobRow, EntryRow, InvocationRow, RewriteRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

BLOBS_ALL = 1 << 62
REOPENED_BY = {Status.FAILED: Move.REOPEN, Status.CANCELLED: Move.REVIVE}  # with its caller
MESSAGE_CHARS = 1_000  # of a failure, by which it is known again: a longer one may be cut where it is quoted


class Reruns:
    """Second runs over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def retry(self, id: str) -> None:
        """Opens a failed invocation again. The failure it ended with is taken out of its journal, with what followed
        from it; what was finished and is still wanted is kept. Called invocations whose failure it was, or which it
        cancelled by its failure, are opened too. Raises UnknownInvocation, UnknownHandler, WrongStatus."""
        self._engine.check_open()
        self._reopen(await self._engine.known(id), Move.REOPEN)
        await self._engine.durable()

    async def restart(self, id: str, from_step: str | None, new_id: str | None) -> str:
        """A new invocation of the same input, with the journal as it was before `from_step` completed; from the
        beginning without it. The new one's id. Raises UnknownInvocation, UnknownHandler, BadArguments, IdConflict;
        WrongStatus when the code does not fit that journal."""
        self._engine.check_open()
        row = await self._engine.known(id)
        if from_step is None:
            return await self._copy(row, None, new_id, f"{id} from the start")
        journal = rehearsal.journal_of(self._engine.driver, row.n)
        return await self._copy(row, journal[: _place(journal, row, from_step)], new_id, f"{id} from {from_step}")

    async def fork(self, id: str, step: str, text: bytes, new_id: str | None) -> str:
        """A new invocation of the same input, with the journal up to `step` and another result of that; its id.

        `text` is the result's JSON. Raises as `restart`, and BadArguments when the result does not fit the step.
        """
        self._engine.check_open()
        row = await self._engine.known(id)
        journal = rehearsal.journal_of(self._engine.driver, row.n)
        place = _place(journal, row, step)
        edited = _edited(journal[place], INLINE + text)
        return await self._copy(row, [*journal[:place], edited], new_id, f"{id} from {step}, edited", edited=True)

    def _reopen(self, row: InvocationRow, by: Move) -> None:
        engine = self._engine
        move(Status(row.status), by, row.id)  # looked at before anything is written
        if row.began is None:
            engine.rows.reopen(row, by, -1, 0)
            return
        handler = engine.handler(row.target)
        try:
            journal = rehearsal.journal_of(engine.driver, row.n)
            failing = _failing(journal, row)
            done = _deeds(row)
            kept, called = rehearsal.reopened(engine.driver, row, handler, journal, failing, done)
        except (HandlerFault, HoldfastError) as fault:
            raise WrongStatus(
                f"invocation {row.id!r} cannot be opened at its failing point: {fault.what}",
                cause="its code and its journal do not fit",
                fix="put the old code back, or restart it from a step",
            ) from None
        for id in called:  # whose failure it was, or which it cancelled by failing
            child = engine.rows.find(id)
            if child is not None and child.parent == row.n and child.call is not None and child.status in REOPENED_BY:
                self._reopen(child, REOPENED_BY[Status(child.status)])
        deeds = None if failing < len(journal) else len(done) // DIGEST_BYTES
        obeyed = len(kept) + (deeds is None)
        kept.append(records.Reopened(max(engine.clock.now(), row.updated), deeds))
        if failing < len(journal):
            engine.committer.batch.rewrites.append(RewriteRow(row.n, failing))
        self._write(row.n, kept, failing)
        engine.rows.reopen(row, by, obeyed, len(kept))

    async def _copy(
        self, row: InvocationRow, prefix: list[Entry] | None, new_id: str | None, origin: str, *, edited: bool = False
    ) -> str:
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
        begun = prefix is not None and row.began is not None
        entries = self._adopted(row, id, prefix, edited) if prefix is not None and begun else []
        n = engine.claim(id)
        now = engine.clock.now()
        obeyed = len(entries) - edited  # what follows from an edited result was never done
        new = row._replace(
            n=n, id=id, status=Status.QUEUED, updated=engine.rows.joins(n), wake_at=None, parent=None, call=None,
            outcome=records.encode(records.Woken(obeyed)) if begun else None, origin=origin, build=engine.build,
            created=now, began=row.began if begun else None, in_queue=0,
        )  # fmt: skip
        engine.committer.batch.starts.append(new)
        self._write(n, entries, 0)
        blobs = dict(engine.store.blob_digests(row.n))
        bodies = engine.store.blobs(row.n, -BLOBS_ALL, BLOBS_ALL) if blobs else []
        engine.committer.batch.blobs += [BlobRow(n, number, blobs[number], body) for number, body in bodies]
        engine.rows.added(new, len(entries))
        await engine.durable()
        return id

    def _adopted(self, row: InvocationRow, id: str, prefix: list[Entry], edited: bool) -> list[Entry]:
        driver, handler = self._engine.driver, self._engine.handler(row.target)
        try:
            return rehearsal.adopted(driver, row, handler, prefix, id)
        except (HandlerFault, HoldfastError) as fault:
            if edited and isinstance(fault, Unreadable):
                step = label(prefix[-1])
                raise BadArguments(f"the result does not fit {step!r}", cause=fault.what, fix="send another") from None
            raise WrongStatus(
                f"invocation {row.id!r} cannot be run again from there: {fault.what}",
                cause="its code and its journal do not fit",
                fix="put the old code back, or take an earlier step",
            ) from None

    def _write(self, n: int, journal: list[Entry], first: int) -> None:
        self._engine.committer.batch.entries += [
            EntryRow(n, seq, records.encode(entry)) for seq, entry in enumerate(journal) if seq >= first
        ]


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
        case records.StepErrored() | records.StepUnknown():
            return records.StepCompleted(
                entry.at, entry.step, entry.digest, payload, entry.inputs, entry.failure.attempts, entry.started
            )
        case records.CallCompleted() | records.CallErrored():
            return records.CallCompleted(entry.at, entry.call, entry.digest, payload, entry.child)
        case records.PromiseSettled():
            return records.PromiseSettled(entry.at, entry.promise, payload, ok=True)
        case _:
            raise BadArguments(f"{label(entry)!r} has no result to edit", fix="name a step, a call or a promise")


def _deeds(row: InvocationRow) -> bytes:
    """Digests of what a failed one had wanted done since its last entry."""
    outcome = None if row.outcome is None else records.decode_outcome(row.outcome)
    return outcome.deeds if isinstance(outcome, records.Raised) else b""


def _failing(journal: list[Entry], row: InvocationRow) -> int:
    """Where the failure or the cancel came from that the invocation ended with; the journal's end when the handler
    itself made it."""
    outcome = None if row.outcome is None else records.decode_outcome(row.outcome)
    if isinstance(outcome, records.Cancelled):
        cancels = [index for index, entry in enumerate(journal) if isinstance(entry, records.CancelRequested)]
        return cancels[-1] if cancels else len(journal)
    if not isinstance(outcome, records.Raised):
        return len(journal)
    failure = outcome.failure
    waits = [index for index, entry in enumerate(journal) if not isinstance(entry, (*NOTES, records.Reopened))]
    for index in reversed(waits):
        entry = journal[index]
        if not isinstance(entry, (records.StepErrored, records.StepUnknown, records.CallErrored)):
            continue
        text = (entry.failure.message or entry.failure.type)[:MESSAGE_CHARS]
        # One that the handler raised in its place tells of it in its traceback; a TerminalError has none.
        if text in failure.message or text in failure.details or (not failure.details and index == waits[-1]):
            return index
    return len(journal)
