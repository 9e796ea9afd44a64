"""Invocations that are rows: not in memory, changed where they lie.

Promises: a change that is not durable yet is seen by everything that looks here, so nothing acts on what is no longer
so. What was added to a journal while nobody ran it is obeyed when it is loaded next (entries.Woken says from where).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from holdfast.core import entries as records
from holdfast.core.entries import CancelRequested, Completion, Outcome, Paused
from holdfast.core.invocation import Move, Status, move
from holdfast.engine.gates import Gate
from holdfast.engine.links import End
from holdfast.engine.reasons import obeyed_of, reason_of, tries_of, was_queued
from holdfast.errors import HoldfastError, StoreCorrupt, StoreError, Unreadable
from holdfast.stores.base import EntryRow, InvocationRow, KeyRow, MoveRow, SettleRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

WITHDRAWN = 3  # PromiseRow.status

log = logging.getLogger("holdfast")


class Rows:
    """The stored side of an engine's invocations."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[int, InvocationRow | None] = {}  # changed here and not durable yet, as they will be
        self._lengths: dict[int, int] = {}  # of their journals
        self._ending: set[int] = set()  # those whose cancel is not durable yet
        self._changes: dict[int, int] = {}  # how many of these changes are on their way
        self.left_out: set[int] = set()  # those that cannot be read
        self._last = (0, 0)  # who joined a queue last: when, and its number

    def get(self, n: int) -> InvocationRow | None:
        """The invocation as it stands, with what is not durable yet."""
        resident = self._engine.resident(n)
        if resident is not None:
            return resident.row._replace(status=resident.status, wake_at=resident.wake_at)
        return self._open[n] if n in self._open else self._engine.store.get(n)

    def find(self, id: str) -> InvocationRow | None:
        """The same by id."""
        n = self._engine.number_of(id)
        if n is None:
            row = self._engine.store.find(id)
            return row if row is None or row.n not in self._open else self._open[row.n]
        return self.get(n)

    def read(self, n: int) -> InvocationRow | None:
        """The durable row, if it can be read, and what it says of how far the invocation was obeyed."""
        try:
            row = self._engine.store.get(n)
            if row is not None:
                self.unheard(row)
        except (StoreCorrupt, Unreadable) as error:  # it stops one invocation (G10), and cannot be marked: what was
            # done of it already is not known, and not guessed.
            log.error("an invocation cannot be read and is left out until the next start: %s", error)  # noqa: TRY400
            self.left_out.add(n)
        except StoreError as error:
            self._engine.fail(error)
        else:
            return row
        return None

    def children(self, n: int, limit: int) -> list[InvocationRow]:
        """Those an invocation has called or sent, as they stand."""
        stored = {row.n: row for row in self._engine.store.children(n, limit)}
        stored.update((row.n, row) for row in self._open.values() if row is not None and row.parent == n)
        return [self.get(child) or row for child, row in stored.items()]

    def is_open(self, n: int) -> bool:
        """Whether something of it is not durable yet: it must not be loaded now."""
        return n in self._open

    @property
    def open_count(self) -> int:
        """Of how many something is not durable yet."""
        return len(self._open)

    def joins(self, n: int) -> int:
        """The time at which one joins its queue: behind all who did, also while the clock stands still or is set
        back."""
        at = max(self._engine.clock.now(), self._last[0])
        self._last = (at if (at, n) > self._last else at + 1, n)
        return self._last[0]

    def added(self, row: InvocationRow, length: int = 0) -> None:
        """A new one with a journal of that length was put into the open batch, and waits for its turn."""
        self._change(row.n, row)
        self._lengths[row.n] = length
        self._queue(row)

    def purge(self, row: InvocationRow) -> None:
        """Deletes one that has ended; if it is a workflow's main run, all that is kept for its key too."""
        batch = self._engine.committer.batch
        batch.purges.append(row.n)
        self._change(row.n, None)
        workflow = self.workflow_of(row)
        if workflow is not None:
            batch.forgets.append(workflow)
            self._engine.links.forget(workflow)
            self._engine.gates.borrow(f"{workflow.service}/{workflow.key}")  # the next run must not see any of it

    def workflow_of(self, row: InvocationRow) -> KeyRow | None:
        """The key of the workflow, if this is its main run."""
        handler = self._engine.handler_of(row.target)
        if handler is None or not handler.main or handler.service is None or row.key is None:
            return None
        return KeyRow(handler.service, row.key)

    def touch(self, row: InvocationRow) -> None:
        """Something of it that is not in its row was put into the open batch."""
        self._change(row.n, row)

    def wake(self, n: int) -> None:
        """There is something for one that is suspended: it will be loaded."""
        row = self.get(n)
        if row is not None and row.status == Status.SUSPENDED:
            self._go_on(row)

    def append(self, row: InvocationRow, entry: Completion) -> None:
        """Adds to a journal that nobody is running. One that is suspended will be loaded."""
        n = row.n
        length = self.length(n)
        self._engine.committer.batch.entries.append(EntryRow(n, length, records.encode(entry)))
        self._change(n, row)
        self._lengths[n] = length + 1
        self._engine.recorded(n)
        if row.status in {Status.READY, Status.SUSPENDED}:
            self._go_on(row)  # a queued one has nothing to say yet, a paused one has said it

    def cancel(self, row: InvocationRow, reason: str) -> None:
        """Asks one that has begun to end. A paused one goes on, to clean up."""
        if not self._is_ending(row.n):  # a second one would break off the clean-up that the first began
            self._ending.add(row.n)
            self.append(row, records.CancelRequested(max(self._engine.clock.now(), row.updated), reason))
        if row.status == Status.PAUSED:
            try:
                self.resume(row)
            except Unreadable as damage:  # it stays paused, and hears of the cancel when it can be resumed
                log.error("%s is cancelled and cannot go on: %s", row.id, damage)  # noqa: TRY400

    def resume(self, row: InvocationRow) -> None:
        """Lets a paused one go on, or wait for its turn again if it had not had it. Raises WrongStatus."""
        status = move(Status(row.status), Move.RESUME, row.id)
        if not was_queued(row):
            self.move(row, status, records.Woken(self.obeyed(row)))
            return
        self._write(row, move(Status.PAUSED, Move.REQUEUE), self._woken(row), row.wake_at, at=self.joins(row.n))
        self._queue(row)

    def reopen(self, row: InvocationRow, by: Move, obeyed: int, length: int) -> None:
        """Lets one that has ended wait for its turn again, with a new journal of that length; the deeds of `obeyed`
        entries were done. Raises WrongStatus."""
        outcome = None if row.began is None else records.Woken(obeyed)
        self._write(row, move(Status(row.status), by), outcome, None, at=self.joins(row.n))
        self._lengths[row.n] = length
        self._queue(row._replace(wake_at=None))

    def move(self, row: InvocationRow, status: Status, outcome: Outcome | None) -> None:
        """Changes a status."""
        gates, after = self._engine.gates, row._replace(status=status)
        if _counts(row) and not _counts(after):
            self._engine.committer.after(gates.pause, row.n, row.lock, row.lane)
        elif _counts(after) and not _counts(row):
            gates.place(row.n, self.gate(row))
        self._write(row, status, outcome, None)

    def arrive(self, row: InvocationRow) -> None:
        """The time of one that was to begin later has come: it joins its queue, in the order of these times."""
        self._write(row, Status.QUEUED, None, None, at=row.wake_at)
        self._queue(row._replace(wake_at=None))

    def pause(self, row: InvocationRow, why: HoldfastError | Paused) -> None:
        """Pauses one that is not in memory, or cannot be. One that has not begun keeps its time. Raises WrongStatus."""
        paused = why if isinstance(why, Paused) else reason_of(why, self._engine.clock.now())
        queued = row.status == Status.QUEUED or (row.status == Status.PAUSED and was_queued(row))
        paused = msgspec.structs.replace(paused, obeyed=self.obeyed(row))
        status = Status.READY if row.status == Status.SUSPENDED else Status(row.status)
        if status is not Status.PAUSED:  # one that is, has another reason now
            status = move(status, Move.PAUSE)
        if queued:
            self._write(row, status, paused, row.wake_at, in_queue=1)
            self._engine.committer.after(self._engine.gates.advance, row.lock, row.lane)  # whoever is behind it may go
        else:
            self.move(row, status, paused)

    def gate(self, row: InvocationRow) -> Gate:
        """What it must pass, or has passed."""
        handler = self._engine.handler_of(row.target)
        return Gate(row.lock, row.lane, None if handler is None else handler.limit)

    def end(self, row: InvocationRow, by: Move, outcome: Outcome) -> None:
        """Ends one that is not in memory: without its clean-up, or never begun. Raises WrongStatus."""
        status = move(Status(row.status), by)
        now = self._engine.clock.now()
        for promise in self._engine.store.promises_of(row.n):
            if not promise.status and not self._engine.settling.is_under_way(promise.id):
                self._engine.committer.batch.settles.append(SettleRow(promise.id, WITHDRAWN, now, b""))
        self._write(row, status, outcome, None)
        self._engine.links.tell(row, End(row.id, outcome, b""))
        self._engine.committer.after(self._ended, row)

    def obeyed(self, row: InvocationRow) -> int:
        """Of how many entries the deeds were done; -1 for one that has not begun."""
        return -1 if row.began is None else obeyed_of(row, self._engine.store.length(row.n))

    def unheard(self, row: InvocationRow) -> int:
        """How many entries were added to a journal while nobody ran it."""
        return self.length(row.n) - max(0, self.obeyed(row))

    def length(self, n: int) -> int:
        """How many entries a journal will have."""
        known = self._lengths.get(n)
        return self._engine.store.length(n) if known is None else known

    def _ended(self, row: InvocationRow) -> None:
        self._engine.tell(row.n)
        self._engine.gates.leave(row.n, self.gate(row))

    def _is_ending(self, n: int) -> bool:
        try:
            stored = self._engine.store.entries(n)[: self.length(n)]  # what is beyond is being taken out
        except (StoreCorrupt, Unreadable):
            stored = []  # who loads it will say so, and a second cancel does nothing
        return n in self._ending or any(_is_cancel(body) for body in stored)

    def _go_on(self, row: InvocationRow) -> None:
        """Something has come for one that nobody runs: it will be loaded."""
        try:
            woken = self._woken(row)
        except Unreadable as damage:
            if row.status == Status.SUSPENDED:  # a READY one is left out, as it is
                self.pause(row, damage)
        else:
            self.move(row, Status.READY, woken)

    def _woken(self, row: InvocationRow) -> Outcome | None:
        return None if row.began is None else records.Woken(self.obeyed(row), tries_of(row))

    def _queue(self, row: InvocationRow) -> None:
        if row.wake_at is None:
            gate = self.gate(row)
            self._engine.gates.arriving(gate)
            self._engine.committer.after(self._engine.gates.arrived, gate)

    def _write(
        self, row: InvocationRow, status: Status, outcome: Outcome | None, wake_at: int | None, *,
        at: int | None = None, in_queue: int = 0,
    ) -> None:  # fmt: skip
        body = None if outcome is None else records.encode(outcome)
        now = self._engine.clock.now() if at is None else at
        self._engine.committer.batch.moves.append(MoveRow(row.n, status, now, wake_at, body, in_queue=in_queue))
        self._change(row.n, row._replace(status=status, updated=now, wake_at=wake_at, outcome=body, in_queue=in_queue))

    def _change(self, n: int, row: InvocationRow | None) -> None:
        self._open[n] = row
        self._changes[n] = self._changes.get(n, 0) + 1
        self._engine.committer.after(self._settle, n)

    def _settle(self, n: int) -> None:
        self._changes[n] -= 1
        if not self._changes[n]:
            del self._changes[n]
            self._lengths.pop(n, None)
            self._ending.discard(n)
            row = self._open.pop(n)
            if row is not None:
                self._engine.row_settled(row)


def _is_cancel(body: bytes) -> bool:
    try:
        return isinstance(records.decode_entry(body), CancelRequested)
    except Unreadable:
        return False  # who loads it will say so


def _counts(row: InvocationRow) -> bool:
    """Whether it takes a place under its limit."""
    return row.began is not None and row.status in {Status.READY, Status.SUSPENDED}
