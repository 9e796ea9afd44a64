"""Wakes invocations when their time has come.

Promises: never early, in order of (deadline, number); deadlines within the horizon are in memory, the others are rows,
so months of sleepers cost nothing (G5, G9). Refuses: to know why somebody waits.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from holdfast.engine.ports import Clock
from holdfast.engine.reasons import as_failure
from holdfast.errors import HoldfastError
from holdfast.stores.base import Store

HORIZON_MS = 60_000
REFILL_MAX = 1_000  # rows read at once; if there are more, the horizon is drawn in to the last one
CROWDED_SECONDS = 0.01  # between such refills, for the commits that move the rows already woken
WAIT_SECONDS_MAX = 30.0  # a wall clock that is set forward is noticed after this long


class Timers:
    """A heap of near deadlines over the store's rows."""

    def __init__(
        self, store: Store, clock: Clock, wake: Callable[[int], bool], failed: Callable[[HoldfastError], None]
    ) -> None:
        """`wake` is told a number whose time has come; it answers False for one that has to wait for its turn, which
        `next_held` gives it. `failed` is told why no more can be woken."""
        self._store = store
        self._clock = clock
        self._wake = wake
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[int, int]] = []
        self._known: set[tuple[int, int]] = (
            set()
        )  # what is in the heap: whoever is woken arms again, twice if told twice
        self._horizon = 0
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for: int | None = None
        self._crowded = False
        self._held: dict[int, None] = {}  # due, and waiting for their turn; longest due first
        self._stopped = False

    def start(self) -> None:
        """Reads the near deadlines and begins to wake. Raises StoreError."""
        self._wake_due()

    def arm(self, n: int, deadline: int, *, stored: bool) -> bool:
        """Wakes `n` at `deadline` (milliseconds). `stored`: its row says so too, and a far one is left there; False
        then, for a row that is changed before it is read again wakes nobody.

        There is no disarm: a wake that finds nothing due does nothing.
        """
        if stored and deadline > self._horizon:
            return False
        self._push((deadline, n))
        if self._armed_for is None or deadline < self._armed_for:
            self._arm()
        return True

    def stop(self) -> None:
        """Wakes nobody any more."""
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()

    @property
    def held(self) -> int:
        """How many are due and wait for their turn."""
        return len(self._held)

    def next_held(self) -> int | None:
        """The longest due of them, who has its turn now."""
        if not self._held or self._stopped:
            return None
        n = next(iter(self._held))
        was_full = self._is_full()
        del self._held[n]
        if was_full:
            self._arm()  # there may be more in the store
        return n

    def _tick(self) -> None:
        try:
            self._wake_due()
        except Exception as error:  # noqa: BLE001  # lost in a callback of the loop, nobody would be woken any more
            self._failed(as_failure(error))

    def _wake_due(self) -> None:
        now = self._clock.now()
        if now >= self._next_refill() and not self._is_full():
            self._refill(now)
        while self._heap and self._heap[0][0] <= now:
            # One that has to wait steps aside: what holds the room may wait for a timer behind it.
            item = heapq.heappop(self._heap)
            self._known.discard(item)
            n = item[1]
            if not self._wake(n):
                self._held[n] = None
        self._arm()

    def _is_full(self) -> bool:
        return len(self._held) >= REFILL_MAX  # more would only wait here instead of in the store

    def _next_refill(self) -> int:
        return self._horizon if self._crowded else self._horizon - HORIZON_MS // 2

    def _refill(self, now: int) -> None:
        due = self._store.due(now + HORIZON_MS, REFILL_MAX)
        self._crowded = len(due) == REFILL_MAX
        self._horizon = due[-1][0] if self._crowded else now + HORIZON_MS
        for item in due:
            self._push(item)

    def _push(self, item: tuple[int, int]) -> None:
        if item not in self._known:
            self._known.add(item)
            heapq.heappush(self._heap, item)

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._stopped:
            return
        moments = [self._heap[0][0]] if self._heap else []
        if not self._is_full():
            moments.append(self._next_refill())
        self._armed_for = min(moments, default=None)
        wait = WAIT_SECONDS_MAX
        if self._armed_for is not None:
            wait = max(CROWDED_SECONDS if self._crowded else 0.0, (self._armed_for - self._clock.now()) / 1000)
        self._handle = self._loop.call_later(min(wait, WAIT_SECONDS_MAX), self._tick)
