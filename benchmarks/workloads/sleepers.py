"""Thousands of invocations asleep for an hour, kill -9, start again: what waiting costs, and whether boot grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import child
from benchmarks.measure import stored_bytes
from benchmarks.options import Options
from benchmarks.report import Report

MODULE = "benchmarks.child_sleepers"
COUNTS = (10_000,)
COUNTS_FULL = (10_000, 100_000)


def empty_bytes(folder: Path) -> int:
    """A database in which only the warm-up ran: what is there before the first sleeper."""
    path = folder / "empty.db"
    with child(MODULE, "start", path, 1) as process:
        process.hear()
        process.kill()
    return stored_bytes(path)


def measure(options: Options) -> Iterator[Report]:
    empty = empty_bytes(options.folder)
    for full_count in COUNTS_FULL if options.full else COUNTS:
        count = options.size(full_count)
        path = options.folder / f"sleepers-{count}.db"
        options.floor.sample()
        with child(MODULE, "start", path, count) as process:
            started = process.hear()
            process.kill()
        size = stored_bytes(path) - empty
        with child(MODULE, "again", path, count) as process:
            back = process.hear()
            age = process.age
        options.floor.sample()
        many = count / 10_000
        yield Report(
            "sleepers",
            f"{count} asleep",
            {
                "f_us": options.floor.seconds * 1e6,
                "started_s": started["started_s"],
                "starts_s": count / started["started_s"],
                "cpu_us": started["cpu_us"],
                "settle_s": started["settle_s"],
                "added_mb": started["added_mb"],
                "of_it_sqlite_mb": started["sqlite_mb"],
                "disk_bytes_each": size / count,
                "boot_s": back["boot_s"],
                "first_run_s": back["first_s"],
                "first_run_from_exec_s": age,
                "added_mb_again": back["added_mb"],
            },
            # The same shape at ten times the number: starting takes ten times as long, all else stays.
            below={
                "started_s": 2.0 * max(1.0, many),
                "added_mb": 20.0,
                "disk_bytes_each": 1_000.0,
                "first_run_from_exec_s": 0.5,
            },
        )
