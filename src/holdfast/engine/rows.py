"""Invocations that are rows: not in memory, changed where they lie.

Promises: a change that is not durable yet is seen by everything that looks here, so nothing acts on what is no longer
so. What was added to a journal while nobody ran it is obeyed when it is loaded next (entries.Woken says from where).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast.core import entries as records
from holdfast.core.entries import Completion, Outcome, Paused
from holdfast.core.invocation import Move, Status, move
from holdfast.engine.gates import Gate
from holdfast.engine.links import End
from holdfast.engine.reasons import obeyed_of, reason_of
from holdfast.engine.starts import gate_of_row
from holdfast.errors import HoldfastError
from holdfast.stores.base import EntryRow, InvocationRow, MoveRow, SettleRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

WITHDRAWN = 3  # PromiseRow.status


class Rows:
    """The stored side of an engine's invocations."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[int, InvocationRow] = {}  # changed here and not durable yet, as they will be
        self._lengths: dict[int, int] = {}  # of their journals
        self._changes: dict[int, int] = {}  # how many of these changes are on their way

    def get(self, n: int) -> InvocationRow | None:
        """The invocation as it stands, with what is not durable yet."""
        resident = self._engine.resident(n)
        if resident is not None:
            return resident.row._replace(status=resident.status, wake_at=resident.wake_at)
        return self._open.get(n) or self._engine.store.get(n)

    def find(self, id: str) -> InvocationRow | None:
        """The same by id."""
        n = self._engine.number_of(id)
        if n is not None:
            return self.get(n)
        row = self._engine.store.find(id)
        return None if row is None else self._open.get(row.n, row)

    def children(self, n: int, limit: int) -> list[InvocationRow]:
        """Those an invocation has called or sent, as they stand."""
        stored = {row.n: row for row in self._engine.store.children(n, limit)}
        stored.update((row.n, row) for row in self._open.values() if row.parent == n)
        return [self.get(child) or row for child, row in stored.items()]

    def is_open(self, n: int) -> bool:
        """Whether something of it is not durable yet: it must not be loaded now."""
        return n in self._open

    @property
    def open_count(self) -> int:
        """Of how many something is not durable yet."""
        return len(self._open)

    def added(self, row: InvocationRow) -> None:
        """A new one was put into the open batch, and waits for its turn."""
        self._change(row)

    def wake(self, n: int) -> None:
        """There is something for one that is suspended: it will be loaded."""
        row = self.get(n)
        if row is not None and row.status == Status.SUSPENDED:
            self.move(row, move(Status.SUSPENDED, Move.WAKE), self._woken(row))
            self._engine.committer.after(self._engine.admission.queue, n)

    def append(self, row: InvocationRow, entry: Completion) -> None:
        """Adds to a journal that nobody is running. One that is suspended will be loaded."""
        n = row.n
        woken = self._woken(row)
        length = self._lengths.get(n, -1)
        if length < 0:
            length = self._engine.store.length(n)
        self._engine.committer.batch.entries.append(EntryRow(n, length, records.encode(entry)))
        self._change(row)
        self._lengths[n] = length + 1
        self._engine.recorded(n)
        if woken is None or row.status not in {Status.READY, Status.SUSPENDED}:
            return  # a queued one has nothing to say yet, a paused one has said it
        self.move(row, Status.READY, woken)
        if row.status == Status.SUSPENDED:
            self._engine.committer.after(self._engine.admission.queue, n)

    def move(self, row: InvocationRow, status: Status, outcome: Outcome | None, wake_at: int | None = None) -> None:
        """Changes a status."""
        body = None if outcome is None else records.encode(outcome)
        now = self._engine.clock.now()
        self._engine.committer.batch.moves.append(MoveRow(row.n, status, now, wake_at, body))
        self._change(row._replace(status=status, updated=now, wake_at=wake_at, outcome=body))

    def arrive(self, row: InvocationRow) -> None:
        """The time of one that was to begin later has come: it joins its queue."""
        gate = self.gate(row)
        self.move(row, Status.QUEUED, None)
        if gate is not None:
            self._engine.gates.arriving(gate)
            self._engine.committer.after(self._engine.gates.arrived, gate)

    def pause(self, row: InvocationRow, why: HoldfastError | Paused) -> None:
        """Pauses one that is not in memory, or cannot be. Raises WrongStatus."""
        paused = why if isinstance(why, Paused) else reason_of(why, self._engine.clock.now())
        obeyed = self.obeyed(row)
        status = Status.READY if row.status == Status.SUSPENDED else Status(row.status)
        if status is not Status.PAUSED:  # one that is, has another reason now
            status = move(status, Move.PAUSE)
        # One that is to begin later keeps its time, for the resume.
        self.move(
            row, status, msgspec.structs.replace(paused, obeyed=obeyed), row.wake_at if row.began is None else None
        )

    def gate(self, row: InvocationRow) -> Gate | None:
        """What it must pass; None when that cannot be told, for its handler is gone."""
        handler = self._engine.handler_of(row.target)
        return None if handler is None else gate_of_row(handler, row)

    def end(self, row: InvocationRow, by: Move, outcome: Outcome) -> None:
        """Ends one that is not in memory: without its clean-up, or never begun. Raises WrongStatus."""
        status = move(Status(row.status), by)
        now = self._engine.clock.now()
        for promise in self._engine.store.promises_of(row.n):
            if not promise.status:
                self._engine.committer.batch.settles.append(SettleRow(promise.id, WITHDRAWN, now, b""))
        self.move(row, status, outcome)
        self._engine.links.tell(row, End(row.id, outcome, b""))
        self._engine.committer.after(self._ended, row)

    def _ended(self, row: InvocationRow) -> None:
        engine = self._engine
        engine.tell(row.n)
        gate = self.gate(row)
        if gate is not None:
            counted = row.status in {Status.READY, Status.SUSPENDED} and row.began is not None
            engine.gates.leave(row.n, gate, paused=not counted)
        elif row.lock is not None:
            engine.gates.advance_lock(row.lock)

    def obeyed(self, row: InvocationRow) -> int:
        """Of how many entries the deeds were done; -1 for one that has not begun."""
        return -1 if row.began is None else obeyed_of(row, self._engine.store.length(row.n))

    def _woken(self, row: InvocationRow) -> Outcome | None:
        return None if row.began is None else records.Woken(self.obeyed(row))

    def _change(self, row: InvocationRow) -> None:
        self._open[row.n] = row
        self._changes[row.n] = self._changes.get(row.n, 0) + 1
        self._engine.committer.after(self._settle, row.n)

    def _settle(self, n: int) -> None:
        self._changes[n] -= 1
        if not self._changes[n]:
            del self._changes[n]
            self._lengths.pop(n, None)
            self._engine.row_settled(self._open.pop(n))
