"""Examples in real child processes: started, watched at the offline services, killed with SIGKILL, started again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.offline import Fault, OfflineServer, Request

ROOT = Path(__file__).parents[2]
HELD = 600.0  # seconds: longer than any test, so that a held request is in flight when the process is killed
SETTLE = 0.3  # seconds in which what was answered beside the held request reaches the journal
SECRET = "sk-this-must-never-reach-the-disk"


class Runner:
    """Starts one example again and again over the same file."""

    def __init__(self, module: str, server: OfflineServer, folder: Path) -> None:
        self.server = server
        self.db = folder / "agent.db"
        self.secret = SECRET
        self._module = module
        self._children: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """A child process of the example."""
        named = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
        real = {f"{name}_API_KEY": SECRET for name in ("OPENAI", "SERPER", "BROWSERLESS")}
        urls = {f"{name}_BASE_URL": self.server.url for name in ("SERPER", "BROWSERLESS")}
        here = {"OPENAI_BASE_URL": f"{self.server.url}/v1", "REMINDER_KEY": SECRET, "OFFLINE_URL": self.server.url}
        child = subprocess.Popen(
            [sys.executable, "-m", self._module, "--db", str(self.db), *arguments],
            cwd=ROOT,
            env={**named, **real, **urls, **here, "PYTHONUNBUFFERED": "1"},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._children.append(child)
        return child

    def finish(self, *arguments: str) -> str:
        """What the example prints when it is left alone."""
        child = self.start(*arguments)
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        return out

    def kill_at(self, *arguments: str, path: str, turn: int | None = None, contains: str = "") -> list[Request]:
        """Starts the example and kills it while such a request is in flight. The log up to there."""
        self.server.order(Fault("slow", path=path, turn=turn, contains=contains, seconds=HELD))
        child = self.start(*arguments)
        self.server.wait_for(lambda log: any(request.outcome == "open" and request.fault for request in log))
        time.sleep(SETTLE)
        self.kill(child)
        self.server.clear_faults()
        return self.server.wait_for(lambda log: all(request.outcome != "open" for request in log))

    def kill(self, child: subprocess.Popen[str]) -> None:
        """SIGKILL: no clean-up, no flush."""
        child.kill()
        child.wait()

    def paid_twice(self) -> dict[str, int]:
        """Requests that were answered more than once, with the count."""
        answered = Counter(f"{r.path} {r.digest}" for r in self.server.requests() if r.outcome == "answered")
        return {asked: count for asked, count in answered.items() if count > 1}

    def close(self) -> None:
        for child in self._children:
            self.kill(child)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    stream.close()


@pytest.fixture
def server() -> Iterator[OfflineServer]:
    with OfflineServer() as made:
        yield made


@pytest.fixture
def runner(server: OfflineServer, tmp_path: Path) -> Iterator[Callable[[str], Runner]]:
    made: list[Runner] = []

    def make(module: str) -> Runner:
        made.append(Runner(module, server, tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[OfflineServer]:
    """For examples that run in this process: their clients are opened once and stay with it."""
    with OfflineServer() as made, pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "SERPER_API_KEY", "BROWSERLESS_API_KEY", "WEATHERAPI_API_KEY"):
            patch.delenv(name, raising=False)
        yield made
