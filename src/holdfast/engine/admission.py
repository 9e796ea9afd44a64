"""Who is brought to memory next: the order of work that waits for room.

Promises: who is ready, whose gate may be open and whose timer is due have equal shares of the room, each in its order,
and nobody begins beside them while they wait; a burst never holds the loop. Refuses: to hold more numbers than the
limits say; the store has the rest.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from holdfast.core.invocation import Status

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine
    from holdfast.engine.limits import Limits
    from holdfast.engine.timers import Timers
    from holdfast.stores.base import InvocationRow

ADMIT_SLICE = 16  # invocations brought back in one turn of the loop, so that replays do not hold it


class Admission:
    """The line before an engine."""

    def __init__(self, engine: Engine, limits: Limits, timers: Timers) -> None:
        self._engine = engine
        self._limits = limits
        self.running: set[int] = set()
        self._left = 0  # so many ran and do not any more, since the line was looked at
        self._backlog: deque[int] = deque()
        self._spilt = False  # the store has more ready invocations than the backlog holds
        self._timers = timers
        self._lines = deque((self._try_ready, self._try_named, self._try_due))
        self._admitting = False

    def has_room(self) -> bool:
        """Whether a new invocation may begin at once: there is room, and nobody waits for it."""
        waited_for = self._backlog or self._spilt or self._engine.gates.waiting or self._timers.held
        # What was left in this turn of the loop counts: a chain of sends, each over in the turn in which it began,
        # would have no end in it.
        full = len(self.running) + self._left >= self._limits.running
        return not (waited_for or full or self._engine.resting)

    def is_full(self) -> bool:
        """Whether as many run as may."""
        return len(self.running) >= self._limits.running

    def enter(self, n: int) -> None:
        """One has work in hand."""
        self.running.add(n)

    def leave(self, n: int) -> None:
        """It has none any more."""
        if n in self.running:
            self.running.discard(n)
            self._left += 1
            self.soon()

    def fill(self) -> None:
        """Reads who is ready. Raises StoreError."""
        engine = self._engine
        rows = engine.rows
        # Those being changed would be read again in every turn until that is durable, and what cannot be read for ever.
        known = engine.residents_count + rows.open_count + len(rows.left_out)
        ready = engine.store.ready(known + self._limits.backlog)
        unknown = (n for n in ready if engine.resident(n) is None and not rows.is_open(n))
        self._backlog.extend(n for n in unknown if n not in rows.left_out)
        self._spilt = len(ready) == known + self._limits.backlog

    def queue(self, n: int) -> None:
        """One that is ready, or queued for room alone."""
        self._spilt = self._spilt or len(self._backlog) >= self._limits.backlog
        if not self._spilt:  # else it is behind those that the store has
            self._backlog.append(n)
        self.soon()

    def soon(self) -> None:
        """Looks at the line in the next turn of the loop."""
        if not self._admitting and not self._engine.stopping and not self._engine.resting:
            self._admitting = True
            self._engine.loop.call_soon(self._engine.guard, self._admit)

    def _admit(self) -> None:
        self._admitting = False
        self._left = 0
        for _ in range(ADMIT_SLICE):
            if self._engine.stopping or self.is_full() or not self._try_one():
                return
        self.soon()

    def _try_one(self) -> bool:
        """Tries one of the next line in which somebody waits; False if nobody waits in any."""
        for _ in range(len(self._lines)):
            self._lines.rotate(-1)
            if self._lines[-1]():
                return True
        return False

    def _try_ready(self) -> bool:
        if not self._backlog and self._spilt:
            self.fill()
        if not self._backlog:
            return False
        row = self._row(self._backlog.popleft())
        if row is not None:
            self._admit_row(row)
        return True

    def _try_named(self) -> bool:
        turn = self._engine.gates.next()
        if turn is None:
            return False
        since, n = turn
        row = self._row(n)
        if row is not None and row.updated == since:  # else it has left that queue, and has another turn where it is
            self._admit_row(row)
        return True

    def _try_due(self) -> bool:
        n = self._timers.next_held()
        if n is None:
            return False
        self._engine.wake(n)
        return True

    def _row(self, n: int) -> InvocationRow | None:
        """One that is not in memory. While it is being changed nothing is done: it comes again when that is durable."""
        engine = self._engine
        return None if engine.rows.is_open(n) or engine.resident(n) is not None else engine.rows.read(n)

    def _admit_row(self, row: InvocationRow) -> None:
        if row.status == Status.READY:
            self._engine.load_row(row)
        elif row.status == Status.QUEUED and row.wake_at is None:
            # Without its handler it passes no gate: loading it says why.
            known = self._engine.handler_of(row.target) is not None
            if not known or self._engine.gates.enter(row.n, self._engine.rows.gate(row), since=row.updated):
                self._engine.load_row(row)
