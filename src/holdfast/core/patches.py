"""Four places in the standard library and anyio that would carry a handler past its loop.

Each patch asks whether a handler is running and else does what was there before, so other code sees no change. They
are put on what the original code looks up at call time, so names imported before Holdfast are covered too.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from holdfast.core.loop import HandlerLoop, _get_running_loop

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
        _patch_uuid()
        if sys.version_info >= (3, 12):
            _patch_eager_tasks()
    if "anyio" not in _done and "anyio" in sys.modules:
        _done.add("anyio")
        _patch_anyio()


def _patch_sets() -> None:
    # asyncio.as_completed and asyncio.wait make their tasks from `set(awaitables)`. The hash of a coroutine is its
    # address, so in another process step 11 would take the id, and silently the result, of step 0. The module's own
    # name `set` is what they look up.
    def ordered(items: Iterable[Any] = ()) -> Any:
        if items and running() is not None:
            return dict.fromkeys(items).keys()
        return set(items)

    asyncio.tasks.set = ordered  # type: ignore[attr-defined]


def _patch_uuid() -> None:
    # uuid4 reads os.urandom through the name `os` in its module.
    real = uuid.os  # type: ignore[attr-defined]

    def urandom(size: int) -> bytes:
        loop = running()
        return loop.host.random_bytes(size) if loop is not None else real.urandom(size)

    shadow = SimpleNamespace(**{name: getattr(real, name) for name in dir(real) if not name.startswith("__")})
    shadow.urandom = urandom
    uuid.os = shadow  # type: ignore[attr-defined]


def _patch_eager_tasks() -> None:
    # langgraph calls the eager factory directly, past create_task.
    original: Callable[..., Any] = asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        if isinstance(loop, HandlerLoop):
            return loop.create_task(coro, **options)
        return original(loop, coro, **options)

    asyncio.eager_task_factory = factory  # type: ignore[attr-defined,unused-ignore]
    asyncio.tasks.eager_task_factory = factory  # type: ignore[attr-defined,unused-ignore]


def _patch_anyio() -> None:
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
