"""Whom a driver tells how its invocations go on."""

from __future__ import annotations

from typing import Protocol

from holdfast.core.commands import Command
from holdfast.core.entries import Outcome
from holdfast.engine.resident import Resident


class Watcher(Protocol):
    """The engine, as the driver sees it."""

    stopping: bool

    @property
    def crowded(self) -> bool:
        """Whether what handlers ask for now waits for the next batch."""

    def moved(self, resident: Resident) -> None:
        """The invocation has gone on; not durable yet."""

    def settled(self, resident: Resident) -> None:
        """All the invocation has done is durable."""

    def obey(self, resident: Resident, command: Command) -> None:
        """The handler wants something of another invocation."""

    def ended(self, resident: Resident, outcome: Outcome, text: bytes) -> None:
        """The invocation has ended, in the open batch; `text` is the result's JSON."""

    def recorded(self, n: int) -> None:
        """There is more in the journal."""
