"""Threads for sync step bodies.

Daemons, and not concurrent.futures': the interpreter waits for those at its end, so one body that never returns would
keep a stopped program alive for ever. A thread that is still busy when the engine stops is left behind.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Work = tuple[Callable[[], Any], Future[Any]]


class Threads:
    """At most `count_max` threads, made when needed; more work waits in order."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._count = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Runs `call` in a thread. Cancelling the future before it begins takes it back."""
        future: Future[Any] = Future()
        self._work.put((call, future))
        with self._lock:
            # Each piece of work takes one idle thread; a thread is made when none is left for it.
            self._idle -= 1
            if self._idle < 0 and self._count < self._count_max:
                self._count += 1
                self._idle += 1
                threading.Thread(target=self._run, name=f"holdfast-step_{self._count}", daemon=True).start()
        return future

    def hold(self) -> None:
        """Takes back all work that no thread has begun."""
        with self._lock, contextlib.suppress(queue.Empty):
            while True:
                work = self._work.get_nowait()
                if work is not None:
                    self._idle += 1
                    work[1].cancel()

    def close(self) -> None:
        """Ends the threads that are idle, and each other one when its body returns."""
        with self._lock:
            for _ in range(self._count):
                self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            call, future = work
            tell = _work(call, future)
            with self._lock:
                self._idle += 1  # before the news: whoever hears it may have the next work for this thread
            tell()
            del work, call, future, tell  # an idle thread must not keep the last body's arguments alive


def _work(call: Callable[[], Any], future: Future[Any]) -> Callable[[], None]:
    if not future.set_running_or_notify_cancel():
        return lambda: None
    try:
        return functools.partial(future.set_result, call())
    except StopIteration as error:  # asyncio's futures take none: the news of it would be lost. As in a coroutine:
        wrapped = RuntimeError("the body raised StopIteration")
        wrapped.__cause__ = error
        return functools.partial(future.set_exception, wrapped)
    except BaseException as error:  # noqa: BLE001  # carried to the step, as a task would carry it
        return functools.partial(future.set_exception, error)
