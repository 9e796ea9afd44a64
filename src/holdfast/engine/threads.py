"""Threads for sync step bodies.

Daemons, and not concurrent.futures': the interpreter waits for those at its end, so one body that never returns would
keep a stopped program alive for ever. A thread that is still busy when the engine stops is left behind.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Work = tuple[Callable[[], Any], Future[Any]]


class Threads:
    """Threads, made when none is idle. How much runs at once is for who gives the work."""

    def __init__(self, idle_max: int) -> None:
        """So many are kept when they have nothing to do."""
        self._idle_max = idle_max
        self._idle = 0  # less those whose work is on its way to them
        self._made = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Runs `call` in a thread, now. Raises RuntimeError when the system has none for it."""
        future: Future[Any] = Future()
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._run, name=f"holdfast-step_{self._made + 1}", daemon=True).start()
                self._made += 1
            self._work.put((call, future))
        return future

    def close(self) -> None:
        """Ends the threads that are idle, and each other one when its body returns."""
        with self._lock:
            self._idle_max = 0
            for _ in range(self._idle):
                self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            call, future = work
            tell = _work(call, future)
            with self._lock:
                stays = self._idle < self._idle_max
                self._idle += stays  # before the news: whoever hears it may have the next work for this thread
            tell()
            del work, call, future, tell  # an idle thread must not keep the last body's arguments alive
            if not stays:
                return


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
