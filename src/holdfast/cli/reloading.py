"""Keeps one server process running for `holdfast dev`: a new one when a file changes or when it was killed.

Promises: the old process has ended before the new one starts, for the store has one owner. Ctrl-C reaches the child
once, as SIGTERM, and again when it is pressed again. The child ends with this process, also when that is killed.
Refuses: to wait for a change of code where none would help. Then it ends as the child did.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from watchfiles import PythonFilter, awatch

from holdfast.cli.codes import UNLOADED, Exit
from holdfast.engine.ports import SystemClock

SETTLED_MS = 2_000  # a process that was killed sooner than this would be killed again


class Keeper:
    """Runs `command` while it watches `folders`; `say` tells the person what happens."""

    def __init__(self, command: list[str], folders: list[Path], say: Callable[[str], None]) -> None:
        self._command = command
        self._folders = folders
        self._say = say
        self._news = asyncio.Event()  # a file changed, or it is time to stop
        self._changed: set[str] = set()
        self._stopping = False
        self._child: asyncio.subprocess.Process | None = None

    async def run(self) -> Exit:
        """Until Ctrl-C, SIGTERM or the child's own orderly end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        over = asyncio.Event()
        watching = asyncio.create_task(self._watch(over))
        try:
            while not self._stopping:
                self._news.clear()
                began = SystemClock().now()
                code = await self._live()
                if self._news.is_set():
                    continue
                if code == 0:
                    break
                if self._was_killed(code, began):
                    continue
                if code > 0 and code != UNLOADED:
                    return Exit(code) if code in {*Exit} else Exit.FAILED
                self._say("waiting for a change")
                await self._news.wait()
        finally:
            over.set()
            await watching
        return Exit.OK

    async def _live(self) -> int:
        """One life of the child; its exit code."""
        # A group of its own: the terminal's Ctrl-C would reach it beside our signal, and a second one ends it at once.
        child = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.PIPE, process_group=0)
        self._child = child
        ended, news = asyncio.create_task(child.wait()), asyncio.create_task(self._news.wait())
        await asyncio.wait({ended, news}, return_when=asyncio.FIRST_COMPLETED)
        news.cancel()
        if not ended.done():
            if not self._stopping:
                self._say(f"{', '.join(sorted(self._changed))} changed: starting anew")
            self._changed.clear()
            self._terminate()
        code = await ended
        self._child = None
        return code

    def _was_killed(self, code: int, began: int) -> bool:
        if code > 0 or SystemClock().now() - began < SETTLED_MS:
            return False
        self._say(f"the server was ended by {signal.Signals(-code).name}: starting again")
        return True

    async def _watch(self, over: asyncio.Event) -> None:
        async for changes in awatch(*self._folders, watch_filter=PythonFilter(), stop_event=over):
            self._changed |= {Path(name).name for _, name in changes}
            self._news.set()

    def _stop(self) -> None:
        if self._stopping:
            self._terminate()
        self._stopping = True
        self._news.set()

    def _terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may end in this very moment
            if self._child is not None:
                self._child.terminate()
