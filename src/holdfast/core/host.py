"""What a handler's loop is part of: its machine while it lives, nobody once it was dropped from memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from holdfast.core.tasks import Future, Step


class Evicted(BaseException):
    """Thrown into every coroutine of an invocation that is dropped from memory. Never seen outside this package."""


class Host(Protocol):
    """The machine, as its loop sees it."""

    replaying: bool

    def abandon(self, step: Step[Any]) -> None:
        """Nobody waits for this step any more."""

    def ask_thread(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Run a function in a thread, as a step."""
        ...

    def random_bytes(self, size: int) -> bytes:
        """Random bytes that are the same on replay."""
        ...


class Nobody:
    """The host of a dropped loop: with it in the machine's place, loop and machine no longer hold each other."""

    replaying = True

    def abandon(self, step: Step[Any]) -> None:
        """There is nothing left to stop."""

    def ask_thread(self, *_: Any) -> Future[Any]:
        """Not any more."""
        raise closed()

    def random_bytes(self, *_: Any) -> bytes:
        """Not any more."""
        raise closed()


def closed() -> RuntimeError:
    """What asyncio says of a closed loop, for code that kept this one longer than its handler lived."""
    return RuntimeError("the event loop of this handler is closed")
