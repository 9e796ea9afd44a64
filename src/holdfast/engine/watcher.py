"""Whom a driver tells how its invocations go on."""

from __future__ import annotations

from typing import Protocol

from holdfast.engine.resident import Resident


class Watcher(Protocol):
    """The engine, as the driver sees it."""

    stopping: bool

    def moved(self, resident: Resident) -> None:
        """The invocation has gone on; not durable yet."""

    def settled(self, resident: Resident) -> None:
        """All the invocation has done is durable."""

    def recorded(self, n: int) -> None:
        """There is more in the journal."""
