"""A server with thousands of sleepers and nothing to do: its share of a CPU, and how soon after a start it answers."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import child
from benchmarks.options import Options
from benchmarks.report import Report

COUNT = 10_000
STARTS = 5
SETTLE_SECONDS = 2.0  # what a start leaves to do, such as a checkpoint
WATCH_SECONDS = 10.0


def fill(path: Path, count: int) -> None:
    with child("benchmarks.child_sleepers", "start", path, count) as process:
        process.hear()


def serving_seconds(path: Path) -> float:
    """From the start of the process to its first answer."""
    with child("benchmarks.child_idle", path) as process:
        answer(str(process.hear()["address"]))
        return process.age


def answer(address: str) -> None:
    connection = http.client.HTTPConnection(address)
    connection.request("GET", "/health")
    if connection.getresponse().status != http.client.OK:
        raise RuntimeError("the server is not well")
    connection.close()


def idle_share(path: Path) -> tuple[float, float]:
    """Percent of one CPU, and how often a second the process is woken."""
    with child("benchmarks.child_idle", path) as process:
        process.hear()
        time.sleep(SETTLE_SECONDS)
        cpu, woken = process.spent()
        time.sleep(WATCH_SECONDS)
        cpu_after, woken_after = process.spent()
    return (cpu_after - cpu) / WATCH_SECONDS * 100, (woken_after - woken) / WATCH_SECONDS


def measure(options: Options) -> Iterator[Report]:
    count = options.size(COUNT)
    path = options.folder / "idle.db"
    options.floor.sample()
    fill(path, count)
    starts = sorted(serving_seconds(path) for _ in range(STARTS))
    percent, wakes = idle_share(path)
    options.floor.sample()
    yield Report(
        "idle",
        f"{count} asleep, served over HTTP",
        {
            "f_us": options.floor.seconds * 1e6,
            "cpu_percent": percent,
            "wakes_s": wakes,
            "serving_s": starts[len(starts) // 2],
            "serving_worst_s": starts[-1],
        },
        below={"cpu_percent": 0.5, "serving_s": 0.5},
    )
