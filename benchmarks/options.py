"""What the command line says to a workload."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Floor


@dataclass
class Options:
    """`folder` is empty and goes away afterwards."""

    folder: Path
    quick: bool = False
    full: bool = False
    floor: Floor = field(init=False)

    def __post_init__(self) -> None:
        self.floor = Floor(self.folder)

    def size(self, normal: int) -> int:
        return max(1, normal // 10) if self.quick else normal
