"""Starts a part of a workload as a process of its own, reads its lines, and kills it the hard way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Child:
    """A process that says what it measured as lines of JSON on its standard output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._born = time.perf_counter()

    @property
    def age(self) -> float:
        """Seconds since the process was asked for, so with the interpreter's own start."""
        return time.perf_counter() - self._born

    def hear(self) -> dict[str, Any]:
        """The child's next line. Raises RuntimeError if it ended without one; its own error stands above."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended without a result (exit status {self._process.wait()})")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def say(self, line: str) -> None:
        """One line to the child's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def spent(self) -> tuple[float, int]:
        """CPU seconds of all its threads so far, and how often they were given a CPU."""
        stats = [
            (thread / "schedstat").read_text(encoding="ascii").split()
            for thread in Path(f"/proc/{self._process.pid}/task").iterdir()
        ]
        return sum(int(nanoseconds) for nanoseconds, _, _ in stats) / 1e9, sum(int(times) for _, _, times in stats)

    def kill(self) -> None:
        """SIGKILL: nothing of the child's own runs after it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def child(module: str, *arguments: object) -> Iterator[Child]:
    """Runs `python -m module arguments` and makes sure that it has ended."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        started = Child(process)
        try:
            yield started
        finally:
            started.kill()


def tell(**fields: object) -> None:
    """The child's side: one line to whoever started it."""
    print(json.dumps(fields), flush=True)
