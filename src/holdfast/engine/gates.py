"""Who may begin: one writer of an object's key at a time, so many of a limited handler, so often.

Promises: of one key never two have begun and not ended (G4); what waits, waits in order of arrival, in the store and
not in memory, and is found again after a restart; who waits for a key keeps nobody of another key from a place.
Refuses: to start anything; it names who may, the admission begins it.

Memory holds the locks and lanes of invocations that are resident; of parked holders the store knows. Of a lane's queue
it holds how far it was looked through. Who was passed, for its key was held, comes back when the key is free: so each
is looked at once, however many wait.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from holdfast.engine import rates
from holdfast.engine.committer import Committer
from holdfast.engine.ports import Clock
from holdfast.engine.timers import WAIT_SECONDS_MAX
from holdfast.errors import Unreadable
from holdfast.service import Limit
from holdfast.stores.base import InvocationRow, StateRow, Store

RATES = ("", "rate")  # the state in which each lane keeps its rate, by name
RATE_KEPT_MS = 3_600_000  # a whole allowance is remembered so long, should the clock be set back
SCAN_SLICE = 64  # locks or lanes looked at in one turn of the loop after a start

Turn = tuple[int, int]  # of one that is queued: (updated, n)
FIRST: Turn = (-(1 << 63), 0)  # before all of them


class Gate(NamedTuple):
    """What an invocation must pass before it begins."""

    lock: str | None
    lane: str | None
    limit: Limit | None


OPEN = Gate(None, None, None)


class Lane:
    """What is known of a lane in which somebody runs or waits."""

    __slots__ = ("again", "full", "inside", "passed", "spent", "wake")

    def __init__(self) -> None:
        self.inside: set[int] | None = None  # who has a place, parked ones too; None: as the store says
        self.passed = FIRST  # all up to there have been looked at
        self.again: list[Turn] = []  # those of them that are to be looked at again, sorted
        self.full = False  # the last that tried found no place
        self.spent: rates.Spent | None = None  # of its rate; None: as the store says
        self.wake: asyncio.TimerHandle | None = None  # it waits for its rate

    def look_again(self, turn: Turn) -> None:
        """One that was looked at may try once more."""
        at = bisect_left(self.again, turn)
        if self.again[at : at + 1] != [turn]:
            self.again.insert(at, turn)


class Gates:
    """All locks and lanes of an engine."""

    def __init__(
        self, store: Store, committer: Committer, clock: Clock, *, read: Callable[[int], InvocationRow | None],
        admit: Callable[[], None], guard: Callable[..., None],
    ) -> None:  # fmt: skip
        """`read` gives a row, or None if it is damaged; `admit` is told when `next` has somebody; `guard` calls what
        the loop calls back."""
        self._guard = guard
        self._store = store
        self._committer = committer
        self._clock = clock
        self._read = read
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._held: dict[str, int] = {}  # locks of residents, and of those whose end is not durable yet
        self._borrowed: Counter[str] = Counter()  # locks of keys whose state a person changes, not durable yet
        self._arriving: Counter[tuple[str, str | None]] = Counter()  # gates of queued rows that are not durable yet
        self._lanes: dict[str, Lane] = {}
        self._turns: dict[str | Turn, None] = {}  # lanes that may have a place, and those whose key may be free
        self._damaged: set[int] = set()  # queued, and cannot be read
        self._stopped = False

    def start(self) -> None:
        """Finds those whose turn it is, slice by slice: their holder may have ended just before the crash."""
        # Lanes first: they name in order of arrival, locks in order of their names.
        self._loop.call_soon(self._guard, self._scan, self._store.queued_lanes, self.advance_lane, "")
        self._loop.call_soon(self._guard, self._scan, self._store.queued_locks, self.advance_lock, "")

    def stop(self) -> None:
        """Names nobody any more."""
        self._stopped = True
        for lane in self._lanes.values():
            if lane.wake is not None:
                lane.wake.cancel()

    @property
    def waiting(self) -> bool:
        """Whether somebody may try now."""
        return bool(self._turns)

    def next(self) -> Turn | None:
        """The next who may try now: of each lane and each key in turn, and of a lane in order of arrival. What comes of
        it is told by `enter`; one that cannot try now is told of by `offer`, once it can."""
        while self._turns:
            turn = next(iter(self._turns))
            del self._turns[turn]
            if not isinstance(turn, str):
                return turn
            lane = self._lanes[turn]
            ahead = [lane.again.pop(0)] if lane.again else self._store.queued_for_lane(turn, lane.passed, 1)
            if ahead:
                lane.passed = max(lane.passed, ahead[0])
                self._turns[turn] = None
                return ahead[0]
        return None

    def offer(self, row: InvocationRow) -> None:
        """One that waits is durably so and may try: it is new in its queue, or has been changed."""
        if row.lock is not None:
            self.advance_lock(row.lock)  # names it, if it is the first
        else:
            self._offer(row)

    def enter(self, n: int, gate: Gate, *, since: int | None) -> bool:
        """Takes lock and lane if both are free and it is this one's turn. `since`: its row waits in the store."""
        lock, name, limit = gate
        if lock is not None and not self._is_free(lock, None if since is None else n):
            return False
        if name is not None and limit is not None:
            lane = self._lane(name)
            if not self._has_room(name, limit, queued=since is not None):
                if since is not None:  # the next place is for the first of those who found none
                    lane.full = True
                    lane.look_again((since, n))
                    self._turns.pop(name, None)
                return False
            self._inside(name, limit).add(n)
            self._spend(name, limit)
        if lock is not None:
            self._held[lock] = n
        return True

    def arriving(self, gate: Gate) -> None:
        """A row that waits for this gate was added to the open batch."""
        self._arriving["lock", gate.lock] += 1
        self._arriving["lane", gate.lane] += 1

    def arrived(self, gate: Gate) -> None:
        """It is durable."""
        for name in (("lock", gate.lock), ("lane", gate.lane)):
            self._arriving[name] -= 1
            if not self._arriving[name]:
                del self._arriving[name]

    def hold(self, n: int, gate: Gate, *, resumed: bool) -> None:
        """One that had begun is back in memory. `resumed`: while paused it was not counted."""
        if gate.lock is not None:
            self._held[gate.lock] = n
        if resumed:
            self.place(n, gate)

    def place(self, n: int, gate: Gate) -> None:
        """One that was paused counts again, also where that is more than the limit."""
        if gate.lane is not None and gate.limit is not None:
            self._inside(gate.lane, gate.limit).add(n)

    def forget(self, n: int, gate: Gate) -> None:
        """It is parked or paused, and durable so: the store knows its lock."""
        if gate.lock is not None and self._held.get(gate.lock) == n:
            del self._held[gate.lock]

    def pause(self, n: int, lock: str | None, lane: str | None) -> None:
        """It is paused, and durably so: it keeps its lock if it has begun, and another may take its place in the
        lane."""
        if lane is not None:
            self._leave_lane(lane, n)
        if lock is not None:
            self.advance_lock(lock)

    def leave(self, n: int, gate: Gate) -> None:
        """It has ended, and durably so."""
        self.forget(n, gate)
        self.pause(n, gate.lock, gate.lane)

    def borrow(self, lock: str) -> None:
        """Nobody begins with the lock before what is in the open batch is durable."""
        self._borrowed[lock] += 1
        self._committer.after(self._give_back, lock)

    def holder(self, lock: str) -> int | None:
        """Who has begun with the lock and not ended."""
        held = self._held.get(lock)
        return self._store.holder(lock) if held is None else held

    def ahead(self, lock: str, n: int | None) -> int | None:
        """Who has a lock or, if nobody does, is first in its queue; None if that is `n`, or nobody."""
        holder = self.holder(lock)
        first = self._first(lock) if holder is None else holder
        return None if first == n else first

    def taken(self, gate: Gate, places_max: int) -> set[int]:
        """Who holds the places of a lane, if none is left; of a limit with more places than that, nobody."""
        _, name, limit = gate
        if name is None or limit is None or limit.concurrency is None or limit.concurrency > places_max:
            return set()
        inside = self._inside(name, limit)
        return inside if len(inside) >= limit.concurrency else set()

    def advance_lock(self, lock: str) -> None:
        """Names the next of a lock, if it is free."""
        if self._stopped or self.holder(lock) is not None:
            return
        while (n := self._first(lock)) is not None:
            row = self._read(n)
            if row is not None:
                self._offer(row)
                return
            self._damaged.add(n)  # those behind it may go (G10)

    def advance_lane(self, name: str) -> None:
        """There may be a place in a lane: those who wait for it may try."""
        if self._stopped:
            return
        lane = self._lane(name)
        lane.full = False
        if lane.again or self._store.queued_for_lane(name, lane.passed, 1):
            self._turns[name] = None
            self._admit()
        else:
            self._forget_lane(name)

    def forget_rates(self, names: list[str]) -> None:
        """Of these lanes the store remembers a rate: those that have long been whole again need not be."""
        before = self._clock.now() - RATE_KEPT_MS
        for name in names:
            if name not in self._lanes and self._stored_rate(name).whole_at < before:
                self._committer.batch.states.append(StateRow(*RATES, name, None))

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

    def _offer(self, row: InvocationRow) -> None:
        turn = (row.updated, row.n)
        if row.lane is None:
            self._turns[turn] = None
        else:
            lane = self._lane(row.lane)
            if turn <= lane.passed:
                lane.look_again(turn)
            if lane.full:
                return
            self._turns[row.lane] = None
        self._admit()

    def _is_free(self, lock: str, n: int | None) -> bool:
        if lock in self._held or lock in self._borrowed or (n is None and ("lock", lock) in self._arriving):
            return False
        return self._store.holder(lock) is None and self._first(lock) in {None, n}

    def _first(self, lock: str) -> int | None:
        """The first who waits for a lock, of those that can be read."""
        waiting = self._store.queued_for_lock(lock, 1 + len(self._damaged))
        return next((n for n in waiting if n not in self._damaged), None)

    def _has_room(self, name: str, limit: Limit, *, queued: bool) -> bool:
        if not queued and (("lane", name) in self._arriving or self._store.queued_for_lane(name, FIRST, 1)):
            return False
        if limit.concurrency is not None and len(self._inside(name, limit)) >= limit.concurrency:
            return False
        if limit.rate is None:
            return True
        wait = self._spent(name).wait(self._clock.now(), limit.rate, limit.period_ms)
        if not wait:
            return True
        lane = self._lane(name)
        if lane.wake is None:
            seconds = min(wait / 1000, WAIT_SECONDS_MAX)
            lane.wake = self._loop.call_later(seconds, self._guard, self._rate_allows, name)
        return False

    def _rate_allows(self, name: str) -> None:
        self._lane(name).wake = None
        self.advance_lane(name)

    def _spend(self, name: str, limit: Limit) -> None:
        if limit.rate is not None:
            spent = self._spent(name)
            spent.spend(self._clock.now(), limit.period_ms)
            self._committer.batch.states.append(StateRow(*RATES, name, rates.write(spent)))

    def _spent(self, name: str) -> rates.Spent:
        lane = self._lane(name)
        if lane.spent is None:
            lane.spent = self._stored_rate(name)
        return lane.spent

    def _stored_rate(self, name: str) -> rates.Spent:
        try:
            return rates.read(self._store.state(*RATES, name))
        except Unreadable:  # damage costs the lane what it remembers, and no more (G10)
            return rates.Spent(0, [])

    def _inside(self, name: str, limit: Limit) -> set[int]:
        lane = self._lane(name)
        if lane.inside is None:  # where all may be inside, it is enough to know whose beginning may not be durable yet
            lane.inside = set() if limit.concurrency is None else set(self._store.lane_running(name))
        return lane.inside

    def _leave_lane(self, name: str, n: int) -> None:
        inside = self._lane(name).inside
        if inside is not None and n not in inside:  # it was paused before, or never began
            self._forget_lane(name)
            return
        if inside is not None:
            inside.discard(n)
        self.advance_lane(name)

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane()
        return lane

    def _forget_lane(self, name: str) -> None:
        """Of a lane that nobody is in and nobody waits for, the store knows all."""
        lane = self._lane(name)
        if not lane.inside and lane.wake is None and not self._store.queued_for_lane(name, FIRST, 1):
            del self._lanes[name]
            self._turns.pop(name, None)

    def _scan(self, names: Callable[[str, int], list[str]], advance: Callable[[str], None], after: str) -> None:
        if self._stopped:
            return
        found = names(after, SCAN_SLICE)
        for name in found:
            advance(name)
        if len(found) == SCAN_SLICE:
            self._loop.call_soon(self._guard, self._scan, names, advance, found[-1])
