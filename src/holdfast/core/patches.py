"""The places in the standard library and anyio that would carry a handler past its loop, or give it another order in
each process.

Each patch asks whether a handler is running and else does what was there before, so other code sees no change. They
are put on what the original code looks up at call time, so names imported before Holdfast are covered too.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
import warnings
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from holdfast.core.loop import HandlerLoop, _get_running_loop
from holdfast.core.tasks import Future, Step

_done: set[str] = set()


def running() -> HandlerLoop | None:
    """The loop of the handler that runs in this thread right now."""
    loop = _get_running_loop()
    return loop if isinstance(loop, HandlerLoop) else None


def install() -> None:
    """Puts the patches in place. Called for each invocation: anyio may be imported at any time."""
    if "asyncio" not in _done:
        _done.add("asyncio")
        _patch_sets()
        _patch_wait()
        _patch_gather()
        _patch_all_tasks()
        _patch_uuid()
        _patch_unawaited()
        if sys.version_info >= (3, 12):
            _patch_eager_tasks()
    if "anyio" not in _done and "anyio" in sys.modules:
        _done.add("anyio")
        _patch_anyio_threads()
        _patch_anyio_scopes()


def _patch_sets() -> None:
    # asyncio.as_completed and asyncio.wait make their tasks from `set(awaitables)`. The hash of a coroutine is its
    # address, so in another process step 11 would take the id, and silently the result, of step 0. The module's own
    # name `set` is what they look up.
    def ordered(items: Iterable[Any] = ()) -> Any:
        if items and running() is not None:
            return dict.fromkeys(items).keys()
        return set(items)

    asyncio.tasks.set = ordered  # type: ignore[attr-defined]


def _patch_wait() -> None:
    # asyncio.wait refuses coroutines, which would be lost in the task it makes. A Step passes for one, but is a future.
    real = asyncio.tasks.coroutines  # type: ignore[attr-defined]

    def iscoroutine(thing: Any) -> bool:
        return not isinstance(thing, Step) and real.iscoroutine(thing)

    asyncio.tasks.coroutines = _shadow(real, iscoroutine=iscoroutine)  # type: ignore[attr-defined]


def _patch_gather() -> None:
    # gather makes its future past create_future. In the sets that asyncio.wait gives back it has to have its place too.
    gathering = vars(asyncio.tasks)["_GatheringFuture"]
    original = gathering.__hash__

    def order(self: Any) -> int:
        if not isinstance(self.get_loop(), HandlerLoop):
            return int(original(self))
        self._order = getattr(self, "_order", None)
        return Future.__hash__(self)

    gathering.__hash__ = order


def _patch_all_tasks() -> None:
    # all_tasks walks one set of the tasks of all loops, whose order is that of the whole process.
    original = asyncio.all_tasks

    def all_tasks(loop: Any = None) -> set[asyncio.Task[Any]]:
        of = running() if loop is None else loop
        return set(of.live_tasks()) if isinstance(of, HandlerLoop) else original(loop)

    asyncio.all_tasks = asyncio.tasks.all_tasks = all_tasks


def _patch_uuid() -> None:
    # uuid4 reads os.urandom through the name `os` in its module.
    real = uuid.os  # type: ignore[attr-defined]

    def urandom(size: int) -> bytes:
        loop = running()
        return loop.host.random_bytes(size) if loop is not None else real.urandom(size)

    uuid.os = _shadow(real, urandom=urandom)  # type: ignore[attr-defined]


def _patch_unawaited() -> None:
    # Python warns of a coroutine that was dropped before it began. In a handler that is parked this is no mistake.
    original = vars(warnings)["_warn_unawaited_coroutine"]

    def warn(coro: Any) -> None:
        loop = running()
        if loop is None or not loop.is_dead():
            original(coro)

    vars(warnings)["_warn_unawaited_coroutine"] = warn


def _shadow(module: Any, **instead: Any) -> SimpleNamespace:
    names = {name: getattr(module, name) for name in dir(module) if not name.startswith("__")}
    return SimpleNamespace(**(names | instead))


def _patch_eager_tasks() -> None:
    # langgraph calls the eager factory directly, past create_task.
    original: Callable[..., Any] = asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        if isinstance(loop, HandlerLoop):
            return loop.create_task(coro, **options)
        return original(loop, coro, **options)

    asyncio.eager_task_factory = factory  # type: ignore[attr-defined,unused-ignore]
    asyncio.tasks.eager_task_factory = factory  # type: ignore[attr-defined,unused-ignore]


def _patch_anyio_threads() -> None:
    # anyio.to_thread has threads of its own, which would wake the handler past the journal.
    from anyio._backends import _asyncio as backend

    original = backend.AsyncIOBackend.run_sync_in_worker_thread

    async def run_sync_in_worker_thread(
        _cls: Any, func: Callable[..., Any], args: tuple[Any, ...], *rest: Any, **options: Any
    ) -> Any:
        loop = running()
        if loop is not None:
            return await loop.host.ask_thread(func, args, {})
        return await original(func, args, *rest, **options)

    backend.AsyncIOBackend.run_sync_in_worker_thread = classmethod(run_sync_in_worker_thread)  # type: ignore[assignment]


def _patch_anyio_scopes() -> None:
    # A scope cancels its child scopes by walking a set of them, and theirs are plain hashes: addresses.
    from anyio._backends import _asyncio as backend

    original = backend.CancelScope.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        if running() is not None:
            self._child_scopes = _Ordered()

    backend.CancelScope.__init__ = init  # type: ignore[method-assign]


class _Ordered(dict[Any, None]):
    """As much of a set as anyio uses, in order of adding."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)

    remove = dict.__delitem__
