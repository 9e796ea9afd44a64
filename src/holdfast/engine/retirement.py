"""Deletes what has ended long ago and rates that are whole again, slice by slice, while everything goes on.

Promises: nothing that somebody may still wait for. Refuses: to hurry; a store with years in it is thinned out slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from holdfast.engine.gates import RATES
from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

LOOK_SECONDS = 60.0
RATES_SLICE = 100  # lanes looked at in one commit

log = logging.getLogger("holdfast")


class Retirement:
    """The retention of one engine."""

    def __init__(self, engine: Engine, retention: timedelta | None) -> None:
        self._engine = engine
        self._retention = retention
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Looks no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while not self._engine.stopping:
            try:
                if self._retention is not None:
                    await self._purge(self._retention)
                await self._forget_rates()
            except HoldfastError as error:  # the store has failed, or is full: who commits next says so aloud
                log.warning("nothing is deleted now: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _purge(self, retention: timedelta) -> None:
        before = self._engine.clock.now() - int(retention.total_seconds() * 1000)
        count = await self._engine.control.purge_ended(before)
        if count:
            log.info("deleted %d invocations that ended more than %s ago", count, retention)

    async def _forget_rates(self) -> None:
        engine, after = self._engine, ""
        engine.check_open()
        while names := engine.store.state_names(*RATES, after, RATES_SLICE):
            engine.gates.forget_rates(names)
            await engine.durable()
            after = names[-1]
