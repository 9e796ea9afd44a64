"""Signals: named messages that arrived, and who waits for the next of a name. First come, first served, both ways."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.core.tasks import Step


class Mailbox:
    """One invocation's. A name has letters or receivers, never both."""

    __slots__ = ("_letters", "_receivers", "count")

    def __init__(self) -> None:
        self.count = 0  # letters nobody has received yet
        self._letters: dict[str, deque[bytes]] = {}  # payloads
        self._receivers: dict[str, deque[Step[Any]]] = {}

    def post(self, name: str, payload: bytes) -> Step[Any] | None:
        """Keeps the letter, or names the receiver it is for."""
        receivers = self._receivers.get(name)
        if receivers:
            return receivers.popleft()
        self._letters.setdefault(name, deque()).append(payload)
        self.count += 1
        return None

    def take(self, name: str, receiver: Step[Any]) -> bytes | None:
        """The oldest letter; without one the receiver waits for the next."""
        letters = self._letters.get(name)
        if letters:
            self.count -= 1
            return letters.popleft()
        self._receivers.setdefault(name, deque()).append(receiver)
        return None

    def receiver(self, name: str) -> Step[Any] | None:
        """Who would get the next letter of that name."""
        return next(iter(self._receivers.get(name, ())), None)

    def leave(self, receiver: Step[Any]) -> None:
        """The receiver does not wait any more."""
        for receivers in self._receivers.values():
            if receiver in receivers:
                receivers.remove(receiver)
