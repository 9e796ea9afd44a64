"""The blocking client: the async one, run on a thread of its own, for programs without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from holdfast.client import AsyncClient, AsyncHandle, AsyncHandler, GeneratorHandler
from holdfast.engine.committer import STOPPED
from holdfast.errors import WrongPlace
from holdfast.views import AskView, InvocationView, StepView

R = TypeVar("R")
T = TypeVar("T")

LEFT_OVER_SECONDS = 1.0  # for tasks of the user's to end in, when the loop does


class LoopThread:
    """An event loop in a daemon thread: a program that forgets to end its `with` block can still exit."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()  # between `stop` and calls of other threads: none is left on a loop that ended
        self._stopping = False
        self._thread = threading.Thread(target=self._loop.run_forever, name="holdfast-engine", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs the coroutine on the loop and waits for it. Raises EngineStopped after `stop`, WrongPlace on the loop's
        own thread, which would wait for itself."""
        if threading.current_thread() is self._thread:
            work.close()
            raise WrongPlace(
                "the blocking client was used on the engine's own thread",
                cause="it was called in handler code or in an async step body; the answer could never come",
                fix="call it in a sync step body, which has a thread of its own, or outside",
            )
        with self._lock:
            if self._stopping:
                work.close()
                raise STOPPED.with_traceback(None)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise STOPPED.with_traceback(None) from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancels what is left on the loop, ends it and the thread."""
        with self._lock:
            self._stopping = True
            left_over = asyncio.run_coroutine_threadsafe(_end_all(), self._loop)
        left_over.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=LEFT_OVER_SECONDS)


class Handle(Generic[R]):
    """One invocation, by id."""

    def __init__(self, thread: LoopThread, handle: AsyncHandle[R]) -> None:
        self.id = handle.id
        self._thread = thread
        self._handle = handle

    def result(self, timeout: float | None = None) -> R:
        """As AsyncHandle.result: waits, `timeout` seconds at most."""
        return self._thread.call(self._handle.result(timeout))

    def status(self) -> InvocationView:
        """What the store knows of it now."""
        return self._thread.call(self._handle.status())

    def cancel(self, reason: str = "cancelled by the client") -> None:
        """As AsyncHandle.cancel."""
        self._thread.call(self._handle.cancel(reason))

    def resume(self) -> None:
        """As AsyncHandle.resume."""
        self._thread.call(self._handle.resume())

    def journal(self) -> list[StepView]:
        """As AsyncHandle.journal."""
        return self._thread.call(self._handle.journal())

    def inputs(self, step: str) -> Any:
        """As AsyncHandle.inputs."""
        return self._thread.call(self._handle.inputs(step))


class Client:
    """What `with Holdfast(...)` gives. May be used from several threads."""

    def __init__(self, thread: LoopThread, client: AsyncClient) -> None:
        self._thread = thread
        self._client = client

    @overload
    def start(self, handler: AsyncHandler[R], /, *args: Any, id: str | None = None, **kwargs: Any) -> Handle[R]: ...

    @overload
    def start(self, handler: GeneratorHandler[R], /, *args: Any, id: str | None = None, **kwargs: Any) -> Handle[R]: ...

    @overload
    def start(self, handler: str, /, *args: Any, id: str | None = None, **kwargs: Any) -> Handle[Any]: ...

    def start(self, handler: Any, /, *args: Any, id: str | None = None, **kwargs: Any) -> Handle[Any]:
        """As AsyncClient.start."""
        return Handle(self._thread, self._thread.call(self._client.start(handler, *args, id=id, **kwargs)))

    def attach(self, id: str) -> Handle[Any]:
        """As AsyncClient.attach."""
        return Handle(self._thread, self._thread.call(self._client.attach(id)))

    def resolve(self, promise: str, value: Any = None) -> None:
        """As AsyncClient.resolve."""
        self._thread.call(self._client.resolve(promise, value))

    def reject(self, promise: str, reason: str) -> None:
        """As AsyncClient.reject."""
        self._thread.call(self._client.reject(promise, reason))

    def asks(self) -> list[AskView]:
        """As AsyncClient.asks."""
        return self._thread.call(self._client.asks())

    def answer(self, ask: str, value: Any) -> None:
        """As AsyncClient.answer."""
        self._thread.call(self._client.answer(ask, value))

    def resume(self, id: str) -> None:
        """As AsyncClient.resume."""
        self._thread.call(self._client.resume(id))

    def list(self, *, status: str | None = None, target: str | None = None, limit: int = 100) -> list[InvocationView]:
        """As AsyncClient.list."""
        return self._thread.call(self._client.list(status=status, target=target, limit=limit))

    def backup(self, path: str | Path) -> None:
        """As AsyncClient.backup."""
        self._thread.call(self._client.backup(path))
