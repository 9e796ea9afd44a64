"""Deletes what has ended long ago, slice by slice, while everything goes on.

Promises: nothing that somebody may still wait for. Refuses: to hurry; a store with years in it is thinned out slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

LOOK_SECONDS = 60.0

log = logging.getLogger("holdfast")


class Retirement:
    """The retention of one engine."""

    def __init__(self, engine: Engine, retention: timedelta | None) -> None:
        self._engine = engine
        self._retention = retention
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look, if there is a retention."""
        if self._retention is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._retention))

    async def stop(self) -> None:
        """Looks no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, retention: timedelta) -> None:
        while True:
            until = self._engine.clock.now() - int(retention.total_seconds() * 1000)
            try:
                count = await self._engine.control.purge_ended(until)
            except HoldfastError as error:  # the store has failed, or is full: who commits next says so aloud
                log.warning("nothing is deleted now: %s", error)
            else:
                if count:
                    log.info("deleted %d invocations that ended more than %s ago", count, retention)
            await asyncio.sleep(LOOK_SECONDS)
