"""One process's event loop in virtual time: when nothing is ready, the clock jumps to the next timer.

Promises: what runs, and when, depends on the seed only; no thread, no file, no real waiting. What a real engine gives
to other threads runs here too, after a delay drawn from the seed. `abandon` is the process dying: nothing it would
have done happens any more.
"""

import asyncio
import heapq
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from random import Random
from typing import Any

EPOCH_MS = 1_700_000_000_123  # no whole second, as no real start is
TURNS_MAX = 50_000  # of one life: five times what any needs; it spins, and would take the machine with it
HOP_SECONDS_MAX = 0.002  # from another thread to the loop and back


class Crash(BaseException):  # no error: the end of a process
    """The process dies here."""


class Time:
    """Virtual seconds since the world began, and the wall clock that people and errands of NTP move about."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.offset_ms = 0
        self.wall_max = EPOCH_MS

    def now(self) -> int:
        """Milliseconds since 1970."""
        wall = EPOCH_MS + self.offset_ms + int(self.seconds * 1000)
        self.wall_max = max(self.wall_max, wall)
        return wall

    def latest(self) -> int:
        """The latest wall clock anyone has seen."""
        return max(self.now(), self.wall_max)

    def step(self, ms: int) -> None:
        """Somebody sets the wall clock."""
        self.offset_ms += ms


class Dice:
    """The engine's chance."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)


class Handle:
    """A callback due now, or at a time."""

    __slots__ = ("_cancelled", "_when", "args", "callback", "context")

    def __init__(
        self, when: float, callback: Callable[..., Any] | None, args: tuple[Any, ...], context: Context
    ) -> None:
        self._when = when
        self.callback = callback
        self.args = args
        self.context = context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when


class VirtualLoop(asyncio.AbstractEventLoop):
    """The main loop of one life of the engine."""

    def __init__(self, time: Time, random: Random, complain: Callable[[str, BaseException | None], None]) -> None:
        self.clock = time
        self.turns = 0  # callbacks run
        self.turns_max: int | None = None  # the process dies after so many
        self.bell: tuple[int, Callable[[], None]] | None = None  # is rung after so many
        self.dead = False
        self.work_seconds: Callable[[], float] = float  # how long a thread is held by what it was given
        self._random = random
        self._complain = complain
        self._ready: deque[Handle] = deque()
        self._heap: list[tuple[float, int, Handle]] = []
        self._order = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._hop_at = 0.0
        self._stopping = False

    def run(self, main: Coroutine[Any, Any, Any], until: float) -> str:
        """Runs `main` to its end ("ended"), to the process's death ("crashed"), or to a time ("late")."""
        asyncio.events._set_running_loop(self)
        try:
            task = self.create_task(main)
            task.add_done_callback(self._main_ended)
            return self._turn(until)
        except Crash:
            return "crashed"
        finally:
            asyncio.events._set_running_loop(None)

    def _turn(self, until: float) -> str:
        ready = self._ready
        while not self._stopping:
            if not ready and not self._jump(until):
                return "late"
            handle = ready.popleft()
            callback = handle.callback
            if callback is None:
                continue
            if self.turns == self.turns_max:
                return "crashed"
            if self.turns == TURNS_MAX:
                self._complain(f"{TURNS_MAX} turns of the loop, the last one of {callback!r}", None)
                return "late"
            self.turns += 1
            if self.bell is not None and self.turns >= self.bell[0]:
                self.call_soon(self.bell[1])
                self.bell = None
            try:
                handle.context.run(callback, *handle.args)
            except Crash:
                raise
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  # as asyncio: reported, and the others go on
                self._complain(f"exception in callback {callback!r}", error)
            self._wake_due()
        return "ended"

    def _wake_due(self) -> None:
        # A blocking call inside a callback moves the clock: what came due meanwhile runs after what was ready.
        heap, now = self._heap, self.clock.seconds
        while heap and heap[0][0] <= now:
            handle = heapq.heappop(heap)[2]
            if handle.callback is not None:
                self._ready.append(handle)

    def _jump(self, until: float) -> bool:
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
        if not heap or heap[0][0] > until:
            self.clock.seconds = max(self.clock.seconds, until)
            return False
        self.clock.seconds = max(self.clock.seconds, heap[0][0])
        self._wake_due()
        return True

    def abandon(self) -> None:
        """Drops everything. Coroutines are closed here, in order, and not whenever the collector comes by."""
        self.dead = True
        self._ready.clear()
        self._heap.clear()
        asyncio.events._set_running_loop(self)
        with warnings.catch_warnings():  # of what was dropped before it began
            warnings.simplefilter("ignore", RuntimeWarning)
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False
                    _close(task.get_coro())
        asyncio.events._set_running_loop(None)
        self._tasks.clear()
        self._ready.clear()
        self._heap.clear()

    def time(self) -> float:
        return self.clock.seconds

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:
        handle = Handle(0.0, callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:
        """From another thread: a moment later, in the order of calling."""
        self._hop_at = max(self._hop_at, self.clock.seconds + self.hop())
        return self.call_at(self._hop_at, callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self.clock.seconds + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:
        handle = Handle(when, callback, args, copy_context() if context is None else context)
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, handle))
        return handle

    def hop(self) -> float:
        """How long the way to another thread is."""
        return self._random.random() * HOP_SECONDS_MAX

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > 256:
            self._tasks = [task for task in self._tasks if not task.done()]
        return task

    def stop(self) -> None:
        self._stopping = True

    def _main_ended(self, task: asyncio.Task[Any]) -> None:
        self.stop()
        if not task.cancelled() and task.exception() is not None:
            self._complain("the program ended", task.exception())

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self._complain(context.get("message", "unhandled error"), context.get("exception"))


class SimLane:
    """The writer thread: commits one after another, each as long as the disk of the seed takes."""

    def __init__(self, loop: VirtualLoop, latency: Callable[[], float]) -> None:
        self.at_work = False  # a commit that runs now does not hold the loop
        self._loop = loop
        self._latency = latency
        self._free_at = 0.0

    def submit(self, work: Callable[[], None]) -> None:
        self._free_at = max(self._free_at, self._loop.time() + self._loop.hop()) + self._latency()
        self._loop.call_at(self._free_at, self._run, work)

    def seconds(self) -> float:
        return self._loop.time()

    async def close(self) -> None:
        await asyncio.sleep(max(0.0, self._free_at - self._loop.time()))

    def _run(self, work: Callable[[], None]) -> None:
        self.at_work = True
        try:
            work()
        finally:
            self.at_work = False


class SimThreads:
    """The threads for sync bodies. One is called as a thread takes it, and what it gave is heard of when it ends."""

    def __init__(self, idle_max: int) -> None:
        self._loop: Any = asyncio.get_running_loop()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._loop.call_later(self._loop.hop(), self._run, call, future)
        return future

    def close(self) -> None:
        """They are nothing that could stay."""

    def _run(self, call: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            tell = partial(future.set_result, call())
        except Exception as error:  # noqa: BLE001  # carried to the step
            tell = partial(future.set_exception, error)
        self._loop.call_later(self._loop.work_seconds(), tell)


def _close(coro: Any) -> None:
    with suppress(BaseException):  # a process that dies asks nobody
        coro.close()
