"""The only sources of time, chance and other threads. Simulations give their own; the rest of the engine is a function
of what these say."""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time."""

    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...


class Entropy(Protocol):
    """Chance."""

    def bits(self, count: int) -> int:
        """A number of so many random bits."""
        ...


class Lane(Protocol):
    """Where work goes that would hold the loop: one piece after another, in the order of submit."""

    def submit(self, work: Callable[[], None]) -> None:
        """Runs `work` soon, beside the loop. It must not raise; it tells the loop by call_soon_threadsafe."""
        ...

    def seconds(self) -> float:
        """A stopwatch: how long a commit took decides where the next one runs."""
        ...

    async def close(self) -> None:
        """Waits for all that was submitted."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000


class SystemEntropy:
    """The operating system's randomness."""

    def bits(self, count: int) -> int:
        """A number of so many random bits."""
        return secrets.randbits(count)


class WriterThread:
    """A lane that is one thread. A daemon: a disk that hangs must not keep the process from ending."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="holdfast-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Runs `work` on the thread, after all that was submitted before."""
        self._work.put(work)

    def seconds(self) -> float:
        """Of the machine's finest clock."""
        return time.perf_counter()

    async def close(self) -> None:
        """Ends the thread after all that was submitted."""
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
