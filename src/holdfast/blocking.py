"""The blocking client: the async one, run on a thread of its own, for programs without an event loop."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from holdfast.client import AsyncClient, AsyncHandler, GeneratorHandler
from holdfast.engine.committer import STOPPED
from holdfast.errors import EngineStopped, WrongPlace
from holdfast.handle import AsyncHandle
from holdfast.service import Handler
from holdfast.values import MISSING
from holdfast.views import AskView, CheckView, InfoView, InvocationView, PromiseView, ScheduleView, StepView
from holdfast.watching import EventView

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
    """One invocation, by id. Every method is that of AsyncHandle, and waits."""

    def __init__(self, thread: LoopThread, handle: AsyncHandle[R]) -> None:
        self.id = handle.id
        self._thread = thread
        self._handle = handle

    def __repr__(self) -> str:
        return f"Handle({self.id!r})"

    def result(self, timeout: float | None = None) -> R:
        """As AsyncHandle.result: waits, `timeout` seconds at most."""
        return self._thread.call(self._handle.result(timeout))

    def status(self, *, whole: bool = True) -> InvocationView:
        """As AsyncHandle.status."""
        return self._thread.call(self._handle.status(whole=whole))

    def cancel(self, reason: str = "cancelled by the client") -> None:
        """As AsyncHandle.cancel."""
        self._thread.call(self._handle.cancel(reason))

    def kill(self, reason: str = "by the client") -> None:
        """As AsyncHandle.kill."""
        self._thread.call(self._handle.kill(reason))

    def pause(self, reason: str = "paused by the client") -> None:
        """As AsyncHandle.pause."""
        self._thread.call(self._handle.pause(reason))

    def resume(self) -> None:
        """As AsyncHandle.resume."""
        self._thread.call(self._handle.resume())

    def retry(self) -> None:
        """As AsyncHandle.retry."""
        self._thread.call(self._handle.retry())

    def restart(self, *, from_step: str | None = None, new_id: str | None = None) -> Handle[R]:
        """As AsyncHandle.restart."""
        return Handle(self._thread, self._thread.call(self._handle.restart(from_step=from_step, new_id=new_id)))

    def fork(self, step: str, result: Any, type: Any = MISSING, *, new_id: str | None = None) -> Handle[R]:
        """As AsyncHandle.fork."""
        return Handle(self._thread, self._thread.call(self._handle.fork(step, result, type, new_id=new_id)))

    def purge(self) -> None:
        """As AsyncHandle.purge."""
        self._thread.call(self._handle.purge())

    def signal(self, name: str, value: Any = None, type: Any = MISSING) -> None:
        """As AsyncHandle.signal."""
        self._thread.call(self._handle.signal(name, value, type))

    def watch(self, after: str | None = None) -> Iterator[EventView]:
        """As AsyncHandle.watch."""
        return _each(self._thread, self._handle.watch(after))

    def journal(self, after: int = 0, limit: int | None = None) -> list[StepView]:
        """As AsyncHandle.journal."""
        return self._thread.call(self._handle.journal(after, limit))

    def inputs(self, step: str) -> Any:
        """As AsyncHandle.inputs."""
        return self._thread.call(self._handle.inputs(step))


class Client:
    """What `with Holdfast(...)` gives. May be used from several threads. Every method is that of AsyncClient, and
    waits."""

    def __init__(self, thread: LoopThread, client: AsyncClient) -> None:
        self._thread = thread
        self._client = client

    @overload
    def start(
        self, handler: AsyncHandler[R], /, *args: Any, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> Handle[R]: ...  # fmt: skip

    @overload
    def start(
        self, handler: GeneratorHandler[R], /, *args: Any, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> Handle[R]: ...  # fmt: skip

    @overload
    def start(
        self, handler: str, /, *args: Any, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> Handle[Any]: ...  # fmt: skip

    def start(
        self, handler: Any, /, *args: Any, id: str | None = None, key: str | None = None,
        delay: float | timedelta | None = None, idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> Handle[Any]:  # fmt: skip
        """As AsyncClient.start."""
        started = self._client.start(
            handler, *args, id=id, key=key, delay=delay, idempotency_key=idempotency_key, headers=headers, **kwargs
        )
        return Handle(self._thread, self._thread.call(started))

    def call(
        self, handler: Any, /, *args: Any, id: str | None = None, key: str | None = None,
        idempotency_key: str | None = None, timeout: float | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """As AsyncClient.call."""
        called = self._client.call(
            handler, *args, id=id, key=key, idempotency_key=idempotency_key, timeout=timeout, **kwargs
        )
        return self._thread.call(called)

    def attach(self, id: str) -> Handle[Any]:
        """As AsyncClient.attach."""
        return Handle(self._thread, self._thread.call(self._client.attach(id)))

    def signal(self, id: str, name: str, value: Any = None, type: Any = MISSING) -> None:
        """As AsyncClient.signal."""
        self._thread.call(self._client.signal(id, name, value, type))

    def resolve(self, promise: str, value: Any = None, type: Any = MISSING) -> None:
        """As AsyncClient.resolve."""
        self._thread.call(self._client.resolve(promise, value, type))

    def reject(self, promise: str, reason: str) -> None:
        """As AsyncClient.reject."""
        self._thread.call(self._client.reject(promise, reason))

    def promise(self, id: str) -> PromiseView:
        """As AsyncClient.promise."""
        return self._thread.call(self._client.promise(id))

    def promises(self) -> list[PromiseView]:
        """As AsyncClient.promises."""
        return self._thread.call(self._client.promises())

    def asks(self) -> list[AskView]:
        """As AsyncClient.asks."""
        return self._thread.call(self._client.asks())

    def answer(self, ask: str, value: Any, type: Any = MISSING) -> None:
        """As AsyncClient.answer."""
        self._thread.call(self._client.answer(ask, value, type))

    def cancel(self, id: str, reason: str = "cancelled by the client") -> None:
        """As AsyncClient.cancel."""
        self._thread.call(self._client.cancel(id, reason))

    def kill(self, id: str, reason: str = "by the client") -> None:
        """As AsyncClient.kill."""
        self._thread.call(self._client.kill(id, reason))

    def pause(self, id: str, reason: str = "paused by the client") -> None:
        """As AsyncClient.pause."""
        self._thread.call(self._client.pause(id, reason))

    def resume(self, id: str) -> None:
        """As AsyncClient.resume."""
        self._thread.call(self._client.resume(id))

    def retry(self, id: str) -> None:
        """As AsyncClient.retry."""
        self._thread.call(self._client.retry(id))

    def restart(self, id: str, *, from_step: str | None = None, new_id: str | None = None) -> Handle[Any]:
        """As AsyncClient.restart."""
        return Handle(self._thread, self._thread.call(self._client.restart(id, from_step=from_step, new_id=new_id)))

    def fork(self, id: str, step: str, result: Any, type: Any = MISSING, *, new_id: str | None = None) -> Handle[Any]:
        """As AsyncClient.fork."""
        return Handle(self._thread, self._thread.call(self._client.fork(id, step, result, type, new_id=new_id)))

    def purge(self, id: str) -> None:
        """As AsyncClient.purge."""
        self._thread.call(self._client.purge(id))

    def purge_ended(self, older_than: timedelta) -> int:
        """As AsyncClient.purge_ended."""
        return self._thread.call(self._client.purge_ended(older_than))

    def list(
        self, *, status: str | None = None, target: str | None = None, key: str | None = None,
        parent: str | None = None, before: str | None = None, limit: int = 100,
    ) -> list[InvocationView]:  # fmt: skip
        """As AsyncClient.list."""
        listed = self._client.list(status=status, target=target, key=key, parent=parent, before=before, limit=limit)
        return self._thread.call(listed)

    def objects(self, service: str, *, after: str = "", limit: int = 100) -> builtins.list[str]:
        """As AsyncClient.objects."""
        return self._thread.call(self._client.objects(service, after=after, limit=limit))

    def state(self, service: str, key: str) -> dict[str, Any]:
        """As AsyncClient.state."""
        return self._thread.call(self._client.state(service, key))

    def set_state(self, service: str, key: str, name: str, value: Any, type: Any = MISSING) -> None:
        """As AsyncClient.set_state."""
        self._thread.call(self._client.set_state(service, key, name, value, type))

    def schedules(self) -> builtins.list[ScheduleView]:
        """As AsyncClient.schedules."""
        return self._thread.call(self._client.schedules())

    def pause_schedule(self, id: str) -> None:
        """As AsyncClient.pause_schedule."""
        self._thread.call(self._client.pause_schedule(id))

    def resume_schedule(self, id: str) -> None:
        """As AsyncClient.resume_schedule."""
        self._thread.call(self._client.resume_schedule(id))

    def trigger_schedule(self, id: str) -> Handle[Any]:
        """As AsyncClient.trigger_schedule."""
        return Handle(self._thread, self._thread.call(self._client.trigger_schedule(id)))

    def watch(self, id: str, *, after: str | None = None) -> Iterator[EventView]:
        """As AsyncHandle.watch."""
        return _each(self._thread, self._client.watch(id, after=after))

    def handlers(self) -> builtins.list[Handler]:
        """As AsyncClient.handlers."""
        return self._client.handlers()

    def check(self) -> builtins.list[CheckView]:
        """As AsyncClient.check."""
        return self._thread.call(self._client.check())

    def info(self) -> InfoView:
        """As AsyncClient.info."""
        return self._thread.call(self._client.info())

    def backup(self, path: str | Path) -> None:
        """As AsyncClient.backup."""
        self._thread.call(self._client.backup(path))


def _each(thread: LoopThread, events: AsyncIterator[EventView]) -> Iterator[EventView]:
    event = thread.call(_next(events))
    while event is not None:
        yield event
        try:
            event = thread.call(_next(events))
        except EngineStopped:  # it was not asked for anything at that moment, and could not end by itself
            return


async def _next(events: AsyncIterator[EventView]) -> EventView | None:
    return await anext(events, None)
