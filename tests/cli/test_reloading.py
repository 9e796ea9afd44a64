"""The process that keeps another one running: on change, after a kill, and until Ctrl-C."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.cli import reloading
from holdfast.cli.codes import UNLOADED, Exit
from holdfast.cli.reloading import Keeper

# Writes a line with its pid at its start and its end.
CHILD = """
import os, signal, sys, time
from pathlib import Path
log = Path("log")
def note(word):
    with log.open("a") as file:
        file.write(f"{word} {os.getpid()}\\n")
def stop(*_):
    note("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("begin")
exec(Path("app.py").read_text())
time.sleep(60)
"""


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        (path / "child").write_text(CHILD)
        (path / "app.py").write_text("")

    def log(self) -> list[str]:
        path = self.path / "log"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def pid(self) -> int:
        return int((self.path / "log").read_text().splitlines()[-1].split()[1])

    async def until(self, told: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not told():
                await asyncio.sleep(0.02)

    def keep(self, *steps: Callable[[], Callable[[], bool]], ends: bool = False) -> Exit:
        """Runs the keeper; each step acts and says what to wait for. Then SIGTERM, unless it ends by itself."""

        async def run() -> Exit:
            keeper = Keeper([sys.executable, "child"], [self.path], self.said.append)
            running = asyncio.create_task(keeper.run())
            await self.until(lambda: self.log() == ["begin"])
            await asyncio.sleep(0.3)  # the watcher has no way to say that it watches
            for step in steps:
                await self.until(step())
            if not ends:
                os.kill(os.getpid(), signal.SIGTERM)
            return await asyncio.wait_for(running, 30)

        return asyncio.run(run())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reloading, "SETTLED_MS", 0)
    return Folder(tmp_path)


def test_a_change_ends_the_old_process_before_the_new_one_begins(folder: Folder) -> None:
    def change() -> Callable[[], bool]:
        (folder.path / "app.py").write_text("x = 1\n")
        return lambda: folder.log() == ["begin", "end", "begin"]

    assert folder.keep(change) is Exit.OK
    assert folder.log() == ["begin", "end", "begin", "end"]
    assert folder.said == ["app.py changed: starting anew"]


def test_a_killed_process_is_started_again(folder: Folder) -> None:
    def kill() -> Callable[[], bool]:
        os.kill(folder.pid(), signal.SIGKILL)
        return lambda: folder.log() == ["begin", "begin"]

    assert folder.keep(kill) is Exit.OK
    assert folder.said == ["the server was ended by SIGKILL: starting again"]


def test_code_that_fails_waits_for_the_next_change(folder: Folder) -> None:
    def spoil() -> Callable[[], bool]:
        (folder.path / "app.py").write_text(f"sys.exit({UNLOADED})\n")
        return lambda: "waiting for a change" in folder.said

    def mend() -> Callable[[], bool]:
        (folder.path / "app.py").write_text("x = 2\n")
        return lambda: folder.log() == ["begin", "end", "begin", "begin"]

    assert folder.keep(spoil, mend) is Exit.OK
    assert folder.log()[-1] == "end"


@pytest.mark.parametrize("code,exit", [(5, Exit.UNREACHABLE), (2, Exit.USAGE), (77, Exit.FAILED)])
def test_what_no_change_would_mend_ends_the_keeper_as_the_child(code: int, exit: Exit, folder: Folder) -> None:
    def spoil() -> Callable[[], bool]:
        (folder.path / "app.py").write_text(f"sys.exit({code})\n")
        return lambda: folder.log() == ["begin", "end", "begin"]

    assert folder.keep(spoil, ends=True) is exit
    assert "waiting for a change" not in folder.said


def test_an_orderly_end_ends_the_keeper(folder: Folder) -> None:
    def end() -> Callable[[], bool]:
        os.kill(folder.pid(), signal.SIGTERM)
        return lambda: folder.log() == ["begin", "end"]

    assert folder.keep(end, ends=True) is Exit.OK
    assert folder.log() == ["begin", "end"]


def test_a_second_ctrl_c_is_passed_on(folder: Folder) -> None:
    (folder.path / "app.py").write_text(
        "signal.signal(signal.SIGTERM, lambda *_: (note('asked'), signal.signal(signal.SIGTERM, stop)))"
    )

    def ask() -> Callable[[], bool]:
        os.kill(os.getpid(), signal.SIGINT)
        return lambda: folder.log() == ["begin", "asked"]

    assert folder.keep(ask) is Exit.OK
    assert folder.log() == ["begin", "asked", "end"]
