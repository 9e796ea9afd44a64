"""Who is brought to memory next: the order of work that waits for room.

Promises: of ready invocations the longest waiting first, then those whose gate may be open; a burst never holds the
loop. Refuses: to hold more numbers than the limits say; the store has the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.core.invocation import Status
from holdfast.errors import StoreError

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine
    from holdfast.engine.limits import Limits
    from holdfast.stores.base import InvocationRow

ADMIT_SLICE = 32  # invocations brought back in one turn of the loop, so that replays do not hold it


class Admission:
    """The line before an engine."""

    def __init__(self, engine: Engine, limits: Limits, unblock: Callable[[], None]) -> None:
        """`unblock` is told when there is room that nobody in the line wants."""
        self._engine = engine
        self._limits = limits
        self._unblock = unblock
        self.running: set[int] = set()
        self._backlog: deque[int] = deque()
        self._spilt = False  # the store has more ready invocations than the backlog holds
        self._named: dict[int, None] = {}  # those whose gate may be open now
        self._admitting = False

    def has_room(self) -> bool:
        """Whether a new invocation may begin at once."""
        return not self._engine.resting and len(self.running) < self._limits.running and not self._backlog

    def is_full(self) -> bool:
        """Whether as many run as may."""
        return len(self.running) >= self._limits.running

    def fill(self) -> None:
        """Reads who is ready. Raises StoreError."""
        engine = self._engine
        # Those being changed would be read again in every turn until that is durable.
        known = engine.residents_count + engine.rows.open_count
        ready = engine.store.ready(known + self._limits.backlog)
        self._backlog.extend(n for n in ready if engine.resident(n) is None and not engine.rows.is_open(n))
        self._spilt = len(ready) == known + self._limits.backlog

    def queue(self, n: int) -> None:
        """One that is ready, or queued for room alone."""
        if len(self._backlog) < self._limits.backlog:
            self._backlog.append(n)
        else:
            self._spilt = True
        self.soon()

    def name(self, n: int) -> None:
        """From the gates: its turn may have come."""
        self._named[n] = None
        self.soon()

    def soon(self) -> None:
        """Looks at the line in the next turn of the loop."""
        if not self._admitting and not self._engine.stopping and not self._engine.resting:
            self._admitting = True
            self._engine.loop.call_soon(self._engine.guard, self._admit)

    def _admit(self) -> None:
        self._admitting = False
        for _ in range(ADMIT_SLICE):
            if self._engine.stopping or self.is_full():
                return
            if not self._backlog and self._spilt:
                try:
                    self.fill()
                except StoreError as error:
                    self._engine.fail(error)
                    return
            n = self._next()
            if n is None:
                self._unblock()
                return
            if self._engine.rows.is_open(n):
                self._engine.committer.after(self.name, n)  # its turn must not be lost for a signal it gets just now
                continue
            row = None if self._engine.resident(n) else self._engine.rows.read(n)
            if row is not None:
                self._admit_row(row)
        self.soon()

    def _next(self) -> int | None:
        if self._backlog:
            return self._backlog.popleft()
        n = next(iter(self._named), None)
        if n is not None:
            del self._named[n]
        return n

    def _admit_row(self, row: InvocationRow) -> None:
        if row.status == Status.READY:
            self._engine.load_row(row)
        elif row.status == Status.QUEUED and row.wake_at is None:
            # Without its handler it passes no gate: loading it says why.
            known = self._engine.handler_of(row.target) is not None
            if not known or self._engine.gates.enter(row.n, self._engine.rows.gate(row), queued=True):
                self._engine.load_row(row)
