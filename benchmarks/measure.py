"""The ruler: the disk's floor F, quantiles, CPU, memory and bytes on disk. Knows no workload.

F is the p50 of overwriting 4 KB in place and syncing it, in the folder the workload writes to: no engine can make one
step durable faster. It is sampled between the parts of a workload, so that a busy machine slows both alike.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import apsw

BLOCK = b"\xa5" * 4096


@dataclass
class Floor:
    """Samples of F in one folder."""

    folder: Path
    samples: list[float] = field(default_factory=list)

    def sample(self, count: int = 200) -> None:
        path = self.folder / "floor"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.pwrite(handle, BLOCK * 16, 0)
            os.fsync(handle)  # the blocks exist now: what follows overwrites in place
            for index in range(count):
                begin = time.perf_counter()
                os.pwrite(handle, BLOCK, (index % 16) * len(BLOCK))
                os.fdatasync(handle)
                self.samples.append(time.perf_counter() - begin)
        finally:
            os.close(handle)
            path.unlink()

    @property
    def seconds(self) -> float:
        return quantile(self.samples, 0.5)


def quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def gaps(stamps: Sequence[float]) -> list[float]:
    """From each stamp to the next: if a body stamps the clock, one whole step each."""
    return [after - before for before, after in pairwise(stamps)]


class Spent:
    """Wall and CPU seconds from its making to `stop`. CPU counts every thread of this process."""

    def __init__(self) -> None:
        self.wall = -time.perf_counter()
        self.cpu = -time.process_time()

    def stop(self) -> Spent:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()
        return self


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def stored_bytes(database: Path) -> int:
    """What the database would take if everything in its WAL were moved home: measured on a copy, so that the engine
    that owns the file, or will recover it, is not disturbed."""
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        copy = Path(folder) / database.name
        for suffix in ("", "-wal"):
            source = Path(f"{database}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        connection = apsw.Connection(str(copy))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        return copy.stat().st_size
