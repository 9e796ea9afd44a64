"""docs/examples/*.md come true: every request and command of the pages is made, and answered with what stands there.

A section has a folder and a server of its own. A command that was `Killed` is killed where KILLED says. Compared as the
page of HTTP is. `python -m tests.examples.test_pages` writes into the pages what is answered now.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.offline import Fault, OfflineServer, Request
from holdfast import Holdfast, HttpOptions
from holdfast.stores.sqlite import SqliteStore
from tests.examples.plays import PLAYS
from tests.http.serving import Serving
from tests.http.test_page import Play, steady
from tests.tidy.tree import ROOT

HELD = 600.0  # seconds: longer than any test, so that the request is in flight at the kill
SETTLE = 0.3  # seconds in which what was answered before reaches the journal
PAGES = sorted((ROOT / "docs" / "examples").glob("*.md"))
SECTION = re.compile(r"^## ([A-FP]\d+) .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
SERVE = re.compile(r"^holdfast serve (examples\.\w+):hf$")
MILLISECONDS = re.compile(r" +\d+ ms")
KILLED: dict[str, Fault | Callable[[list[Request]], bool]] = {  # what is in flight at the kill, or was asked before it
    "A1": Fault("slow", path="/v1/chat/completions", turn=2, seconds=HELD),
    "B1": Fault("slow", path="/v1/current.json", contains="Denver", seconds=HELD),
    "B2": lambda log: bool(log) and log[0].outcome == "answered",
    "B3": Fault("slow", path="/v1/responses", turn=1, seconds=HELD),
    "B5": Fault("slow", path="/v1/responses", seconds=HELD),
    "B6": Fault("slow", path="/v1/responses", contains="specialist for auto", seconds=HELD),
    "B8": Fault("slow", path="/v1/responses", turn=1, seconds=HELD),
    "B11": Fault("slow", path="/v1/responses", turn=1, seconds=HELD),
    "C1": Fault("slow", path="/reminders", seconds=HELD),
    "A2": lambda log: len(log) > 1 and log[1].outcome == "answered",
    "B13": Fault("slow", path="/bookings/trip-3-flight-2", contains="DELETE", seconds=HELD),
    "B17": Fault("slow", path="/v1/chat/completions", contains="author of reports", seconds=HELD),
    "D1": Fault("slow", path="/v1/chat/completions", contains="writer of replies", seconds=HELD),
    "F1": Fault("slow", path="/v1/current.json", contains="Lisbon", seconds=HELD),
    "F2": Fault("slow", path="/v1/chat/completions", contains="city guide for hotels", seconds=HELD),
    "P1": Fault("late", path="/v1/payments", seconds=HELD),
}


class Reader:
    """Does what a section says, line after line, in a folder of its own."""

    def __init__(self, id: str, folder: Path, services: OfflineServer, running: contextlib.ExitStack) -> None:
        self._id, self._folder, self._services, self._running = id, folder, services, running
        self._play: Play | None = None  # of the server that runs

    def does(self, line: str, expected: str) -> tuple[str, str]:
        """The line with the ids of this run, and what it printed."""
        if served := SERVE.match(line):
            self._serve(served[1])
            return line, ""
        if line.startswith("curl "):
            assert self._play is not None, "nothing is served yet"
            return self._play.request(line)
        self._running.close()  # the server: a store has one owner
        if expected.strip() == "Killed":
            self._kill(line)
            return line, expected
        return line, self._start(line).communicate(timeout=60)[0]

    def _serve(self, module: str) -> None:
        program = self._running.enter_context(stored_in(self._folder, importlib.import_module(module).hf))
        self._play = Play(self._running.enter_context(Serving(program, HttpOptions(port=0, admin_port=0)).running()))

    def _kill(self, line: str) -> None:
        at = KILLED[self._id]
        self._services.reset()
        if isinstance(at, Fault):
            self._services.order(at)
        child = self._start(line)
        self._services.wait_for(is_held if isinstance(at, Fault) else at)
        time.sleep(SETTLE)
        child.kill()
        child.communicate()
        self._services.clear_faults()

    def _start(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *shlex.split(line)[1:]],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )


def is_held(log: list[Request]) -> bool:
    return any(request.outcome == "open" and request.fault for request in log)


@contextlib.contextmanager
def stored_in(folder: Path, program: Holdfast) -> Iterator[Holdfast]:
    """The program with its file in the folder, as if it had been started there."""
    own = program._store, program._path
    program._store = SqliteStore(folder / program._path.name)
    program._path = program._store.path
    try:
        yield program
    finally:
        program._store, program._path = own


def played(id: str, section: str, folder: Path, services: OfflineServer) -> str:
    """The section with what is answered."""
    services.reset()
    with contextlib.ExitStack() as running:
        reader = Reader(id, folder, services, running)

        def block(match: re.Match[str]) -> str:
            parts = re.split(r"^\$ (.*)$", match[1], flags=re.MULTILINE)[1:]
            done = [reader.does(line, expected) for line, expected in zip(parts[::2], parts[1::2], strict=True)]
            return "```\n" + "".join(f"$ {line}\n{printed.strip()}".strip() + "\n" for line, printed in done) + "```"

        return BLOCK.sub(block, section)


def sections() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in SECTION.finditer(page.read_text(encoding="utf-8")):
            yield found[1], found[0]


def lines(text: str) -> list[str]:
    return [re.sub(" +", " ", MILLISECONDS.sub(" N ms", line)) for line in steady(text)]


@pytest.mark.parametrize("id, section", [pytest.param(id, text, id=id) for id, text in sections()])
def test_every_line_of_the_section_gives_what_stands_below_it(id, section, shared_server, tmp_path, monkeypatch):
    monkeypatch.setenv("OFFLINE_URL", shared_server.url)
    assert lines(played(id, section, tmp_path, shared_server)) == lines(section)


def test_every_example_that_has_a_play_has_a_section():
    assert {name.partition("_")[0].upper() for name in PLAYS} == {id for id, _ in sections()}


def write_pages() -> None:
    with OfflineServer() as services:
        os.environ["OFFLINE_URL"] = services.url
        for page in PAGES:

            def section(match: re.Match[str]) -> str:
                with tempfile.TemporaryDirectory() as folder:
                    return played(match[1], match[0], Path(folder), services)

            page.write_text(SECTION.sub(section, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write_pages()
    os._exit(0)
