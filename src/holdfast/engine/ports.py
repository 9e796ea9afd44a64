"""The only sources of time and chance. Simulations give their own; everything else in the engine is a function."""

from __future__ import annotations

import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time."""

    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...


class Entropy(Protocol):
    """Chance."""

    def bits(self, count: int) -> int:
        """A number of so many random bits."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000


class SystemEntropy:
    """The operating system's randomness."""

    def bits(self, count: int) -> int:
        """A number of so many random bits."""
        return secrets.randbits(count)
