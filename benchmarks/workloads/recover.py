"""Chains of slow steps killed half way: how long until all is done, and which bodies ran twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.child_recover import STEP_SECONDS, STEPS
from benchmarks.children import child
from benchmarks.options import Options
from benchmarks.report import Report

MODULE = "benchmarks.child_recover"
LANES = 200


def lines(side: Path) -> list[str]:
    return side.read_text(encoding="ascii").split() if side.exists() else []


def wait_for_half(side: Path, lanes: int) -> None:
    """Until half of all bodies have ended, and the next ones are half way."""
    while sum(line.endswith(".") for line in lines(side)) < lanes * STEPS // 2:
        time.sleep(0.001)
    time.sleep(STEP_SECONDS / 2)


def measure(options: Options) -> Iterator[Report]:
    lanes = options.size(LANES)
    path, side = options.folder / "recover.db", options.folder / "bodies"
    options.floor.sample()
    with child(MODULE, "start", path, side, lanes) as process:
        process.hear()
        wait_for_half(side, lanes)
        process.kill()
    begun_before = Counter(line for line in lines(side) if not line.endswith("."))
    ended_before = {line.removesuffix(".") for line in lines(side) if line.endswith(".")}
    with child(MODULE, "again", path, side, lanes) as process:
        back = process.hear()
        age = process.age
    options.floor.sample()

    begun = Counter(line for line in lines(side) if not line.endswith("."))
    twice = [name for name, times in begun.items() if times > 1]
    # Each lane has one body in flight at most; a second run of any other body was paid for twice without need.
    lanes_twice = Counter(name.partition("/")[0] for name in twice)
    remaining = max(STEPS - sum(f"{lane}/{number}" in ended_before for number in range(STEPS)) for lane in range(lanes))
    yield Report(
        "recover",
        f"{lanes} x {STEPS} steps of {STEP_SECONDS * 1000:g} ms",
        {
            "f_us": options.floor.seconds * 1e6,
            "ended_before_kill": len(ended_before),
            "in_flight_at_kill": len(begun_before) - len(ended_before),
            "remaining_work_s": remaining * STEP_SECONDS,
            "done_s": back["done_s"],
            "done_from_exec_s": age,
            "over_remaining_s": age - remaining * STEP_SECONDS,
            "cpu_s": back["cpu_s"],
            "twice": len(twice),
            "twice_after_end": len(ended_before.intersection(twice)),
            "twice_beyond_one_a_lane": sum(times - 1 for times in lanes_twice.values()),
            "run_thrice": sum(times > 2 for times in begun.values()),
            "lost": lanes
            - back["right"]
            + sum(len({n for n in begun if n.startswith(f"{lane}/")}) < STEPS for lane in range(lanes)),
        },
        below={"over_remaining_s": 0.5, "twice_beyond_one_a_lane": 1, "run_thrice": 1, "lost": 1},
    )
