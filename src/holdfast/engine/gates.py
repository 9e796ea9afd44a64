"""Who may begin: one writer of an object's key at a time, so many of a limited handler, so often.

Promises: of one key never two have begun and not ended (G4); what waits, waits in order of arrival, in the store and
not in memory, and is found again after a restart. Refuses: to start anything; it names who may, the engine begins it.

Memory holds the locks and lanes of invocations that are resident; of parked holders the store knows.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from holdfast.engine.committer import Committer
from holdfast.engine.ports import Clock
from holdfast.errors import Unreadable
from holdfast.service import Limit
from holdfast.stores.base import StateRow, Store

RATES = ("", "rate")  # the state in which each lane keeps its rate, by name
CANDIDATES_MAX = 32  # of a lane that are looked at together: those at its head may wait for their keys
SCAN_SLICE = 64  # locks or lanes looked at in one turn of the loop after a start


class Gate(NamedTuple):
    """What an invocation must pass before it begins."""

    lock: str | None
    lane: str | None
    limit: Limit | None


OPEN = Gate(None, None, None)


class Gates:
    """All locks and lanes of an engine."""

    def __init__(
        self, store: Store, committer: Committer, clock: Clock, admit: Callable[[int], None],
        guard: Callable[..., None],
    ) -> None:  # fmt: skip
        """`admit` is told the number of one that may try to begin now; `guard` calls what the loop calls back."""
        self._guard = guard
        self._store = store
        self._committer = committer
        self._clock = clock
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._held: dict[str, int] = {}  # locks of residents, and of those whose end is not durable yet
        self._borrowed: Counter[str] = Counter()  # locks of keys whose state a person changes, not durable yet
        self._arriving: Counter[str] = Counter()  # locks and lanes of queued rows that are not durable yet
        self._running: dict[str, int] = {}  # begun and not ended, by lane; parked ones too
        self._heads: dict[str, dict[int, None]] = {}  # by lane: those whose key is free, and there was no place
        self._rates: dict[str, int] = {}  # by lane: when its allowance is whole again, in milliseconds
        self._wakes: dict[str, asyncio.TimerHandle] = {}  # lanes that wait for their rate
        self._stopped = False

    def start(self) -> None:
        """Finds those whose turn it is, slice by slice: their holder may have ended just before the crash."""
        # Lanes first: they name in order of arrival, locks in order of their names.
        self._loop.call_soon(self._guard, self._scan, self._store.queued_lanes, self.advance_lane, "")
        self._loop.call_soon(self._guard, self._scan, self._store.queued_locks, self.advance_lock, "")

    def stop(self) -> None:
        """Names nobody any more."""
        self._stopped = True
        for handle in self._wakes.values():
            handle.cancel()

    def enter(self, n: int, gate: Gate, *, queued: bool) -> bool:
        """Takes lock and lane if both are free and it is this one's turn. `queued`: its row waits in the store."""
        lock, lane, limit = gate
        if lock is not None and not self._is_free(lock, n if queued else None):
            return False
        if lane is not None and limit is not None and not self._has_room(lane, limit, queued=queued):
            if queued and lock is not None:
                self._heads.setdefault(lane, {})[n] = None
            return False
        if lock is not None:
            self._held[lock] = n
        if lane is not None and limit is not None:
            self._running[lane] = self._count(lane) + 1
            self._spend(lane, limit)
        return True

    def arriving(self, gate: Gate) -> None:
        """A row that waits for this gate was added to the open batch."""
        for name in gate[:2]:
            if name is not None:
                self._arriving[name] += 1

    def arrived(self, gate: Gate) -> None:
        """It is durable."""
        for name in gate[:2]:
            if name is not None:
                self._arriving[name] -= 1
                if not self._arriving[name]:
                    del self._arriving[name]

    def hold(self, n: int, gate: Gate, *, resumed: bool) -> None:
        """One that had begun is back in memory. `resumed`: while paused it was not counted."""
        if gate.lock is not None:
            self._held[gate.lock] = n
        if resumed:
            self.place(gate)
        elif gate.lane is not None and gate.limit is not None:
            self._count(gate.lane)  # looked up now: at its end the store would not count it any more

    def place(self, gate: Gate) -> None:
        """One that was paused counts again, also where that is more than the limit."""
        if gate.lane is not None and gate.limit is not None:
            self._running[gate.lane] = self._count(gate.lane) + 1

    def forget(self, n: int, gate: Gate) -> None:
        """It is parked or paused, and durable so: the store knows its lock."""
        if gate.lock is not None and self._held.get(gate.lock) == n:
            del self._held[gate.lock]

    def pause(self, lock: str | None, lane: str | None) -> None:
        """One is paused, and durably so: it keeps its lock if it has begun, and another may take its place in the
        lane."""
        self._leave_lane(lane)
        if lock is not None:
            self.advance_lock(lock)

    def leave(self, n: int, gate: Gate, *, paused: bool) -> None:
        """It has ended, and durably so. `paused`: it was not counted any more."""
        self.forget(n, gate)
        if not paused:
            self._leave_lane(gate.lane)
        if gate.lock is not None:
            self.advance_lock(gate.lock)

    def borrow(self, lock: str) -> None:
        """Nobody begins with the lock before what is in the open batch is durable."""
        self._borrowed[lock] += 1
        self._committer.after(self._give_back, lock)

    def holder(self, lock: str) -> int | None:
        """Who has begun with the lock and not ended."""
        held = self._held.get(lock)
        return self._store.holder(lock) if held is None else held

    def advance_lock(self, lock: str) -> None:
        """Names the next of a lock, if it is free."""
        if not self._stopped and self.holder(lock) is None:
            for n in self._store.queued_for_lock(lock, 1):
                self._admit(n)

    def advance_lane(self, lane: str) -> None:
        """Names some of those who wait in a lane; they try in order."""
        self._wakes.pop(lane, None)
        if self._stopped:
            return
        heads = self._heads.get(lane)
        if heads is None:
            named = self._store.queued_for_lane(lane, CANDIDATES_MAX)
        else:  # of the others each waits for its key, and is named when that is free
            named = heapq.nsmallest(CANDIDATES_MAX, heads)
            for n in named:
                del heads[n]
            if not heads:
                del self._heads[lane]
        for n in named:
            self._admit(n)

    def advance(self, lock: str | None, lane: str | None) -> None:
        """Names those who may try now."""
        if lock is not None:
            self.advance_lock(lock)
        if lane is not None:
            self.advance_lane(lane)

    def _give_back(self, lock: str) -> None:
        self._borrowed[lock] -= 1
        if not self._borrowed[lock]:
            del self._borrowed[lock]
            self.advance_lock(lock)

    def _is_free(self, lock: str, n: int | None) -> bool:
        if lock in self._held or lock in self._borrowed or (n is None and lock in self._arriving):
            return False
        if self._store.holder(lock) is not None:
            return False
        first = self._store.queued_for_lock(lock, 1)
        return not first or first[0] == n

    def _has_room(self, lane: str, limit: Limit, *, queued: bool) -> bool:
        if not queued and (lane in self._arriving or self._store.queued_for_lane(lane, 1)):
            return False
        if limit.concurrency is not None and self._count(lane) >= limit.concurrency:
            return False
        if limit.rate is None:
            return True
        wait = self._whole_again(lane, limit) - limit.period_ms - self._clock.now()
        if wait <= 0:
            return True
        if lane not in self._wakes:
            self._wakes[lane] = self._loop.call_later(wait / 1000, self._guard, self.advance_lane, lane)
        return False

    def _whole_again(self, lane: str, limit: Limit) -> int:
        # The generic cell rate algorithm: one number says how much of the allowance is used, and grows by a share of
        # the period with each beginning. A window with a count would let twice the rate through at its edge.
        assert limit.rate is not None  # for the type checker: the callers have looked
        now = self._clock.now()
        known = self._rates.get(lane)
        if known is None:
            known = self._stored_rate(lane)
        # It is never further ahead than the period, unless the clock was set back.
        known = self._rates[lane] = min(known, now + limit.period_ms)
        return max(known, now) + -(-limit.period_ms // limit.rate)

    def _spend(self, lane: str, limit: Limit) -> None:
        if limit.rate is not None:
            self._rates[lane] = at = self._whole_again(lane, limit)
            self._committer.batch.states.append(StateRow(*RATES, lane, b"%d" % at))

    def _stored_rate(self, lane: str) -> int:
        try:
            return int(self._store.state(*RATES, lane) or 0)
        except (Unreadable, ValueError):  # damage costs the lane what it remembers, and no more (G10)
            return 0

    def _count(self, lane: str) -> int:
        if lane not in self._running:
            self._running[lane] = self._store.lane_running(lane)
        return self._running[lane]

    def _leave_lane(self, lane: str | None) -> None:
        if lane is None:
            return
        if lane in self._running:
            self._running[lane] -= 1
            if self._running[lane] <= 0:
                del self._running[lane]
                if lane not in self._wakes:
                    self._rates.pop(lane, None)
        self.advance_lane(lane)

    def _scan(self, names: Callable[[str, int], list[str]], advance: Callable[[str], None], after: str) -> None:
        if self._stopped:
            return
        found = names(after, SCAN_SLICE)
        for name in found:
            advance(name)
        if len(found) == SCAN_SLICE:
            self._loop.call_soon(self._guard, self._scan, names, advance, found[-1])
