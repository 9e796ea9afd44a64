"""One line of JSON for one measurement, beside what it must reach."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

Figure = float | int | str | Mapping[str, float | int]


@dataclass
class Report:
    """`below` and `above` name figures and what they must stay under or get over."""

    workload: str
    shape: str
    figures: Mapping[str, Figure]
    below: Mapping[str, float] = field(default_factory=dict)
    above: Mapping[str, float] = field(default_factory=dict)

    def missed(self) -> list[str]:
        return [name for name, bound in self.below.items() if not self._number(name) < bound] + [
            name for name, bound in self.above.items() if not self._number(name) > bound
        ]

    def line(self) -> str:
        reach = {name: f"< {bound:g}" for name, bound in self.below.items()}
        reach |= {name: f"> {bound:g}" for name, bound in self.above.items()}
        fields: dict[str, object] = {"workload": self.workload, "shape": self.shape}
        fields |= {name: round(value, 4) if isinstance(value, float) else value for name, value in self.figures.items()}
        fields |= {"reach": reach, "ok": not (missed := self.missed()), "missed": missed}
        fields |= {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
        return json.dumps(fields)

    def _number(self, name: str) -> float:
        value = self.figures[name]
        if isinstance(value, float | int):
            return value
        raise TypeError(f"{self.workload}: figure {name!r} is bounded but is no number: {value!r}")
