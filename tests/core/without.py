"""Turns one fix of the loop off, so that a test can show that its failure would be seen. For child processes only:
a patch of asyncio stays for the life of a process. Call `turn_off` before anything imports tests.core.case."""

import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from holdfast.core import loop, patches, tasks


def _task_hashes() -> None:
    tasks.Task.__hash__ = asyncio.Task.__hash__
    tasks.Future.__hash__ = asyncio.Future.__hash__
    tasks.Step.__hash__ = asyncio.Future.__hash__


def _generator_hooks() -> None:
    loop.sys = SimpleNamespace(**vars(sys) | {"set_asyncgen_hooks": lambda *_: None})


def _eviction() -> None:
    def drop(self: loop.HandlerLoop) -> None:
        self._dead = True
        self._tasks.clear()
        self._ready.clear()

    loop.HandlerLoop.evict = drop


def _eviction_by_throw() -> None:
    loop._until_it_ends = lambda context, throw: context.run(throw.__self__.close)


def _cancel_retries() -> None:
    loop.HandlerLoop._defer = lambda *_: False


def _digests() -> None:
    from tests.core import case

    case.digest = lambda *_: b""


def _no(patch: str) -> Callable[[], Any]:
    return lambda: setattr(patches, patch, lambda: None)


FIXES: dict[str, Callable[[], Any]] = {
    "task hashes": _task_hashes,
    "ordered sets": _no("_patch_sets"),
    "gather hashes": _no("_patch_gather"),
    "all tasks": _no("_patch_all_tasks"),
    "steps in wait": _no("_patch_wait"),
    "anyio scopes": _no("_patch_anyio_scopes"),
    "generator hooks": _generator_hooks,
    "eviction": _eviction,
    "eviction by throw": _eviction_by_throw,
    "unawaited": _no("_patch_unawaited"),
    "cancel retries": _cancel_retries,
    "anyio threads": _no("_patch_anyio_threads"),
    "eager tasks": _no("_patch_eager_tasks"),
    "uuid": _no("_patch_uuid"),
    "digests": _digests,
}


def turn_off(fix: str) -> None:
    if fix:
        FIXES[fix]()
