"""Callbacks that wait for their turn or their time on a handler's loop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.core.loop import HandlerLoop


def _nothing() -> None:
    """In place of a callback that was cancelled."""


class Handle:
    """A callback due now."""

    __slots__ = ("_cancelled", "args", "callback", "context")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self._cancelled = False

    def cancel(self) -> None:
        """The callback will not run, nor what it holds be kept."""
        self._cancelled = True
        self.callback, self.args = _nothing, ()

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled


class TimerHandle(Handle):
    """A callback due when its time is delivered."""

    __slots__ = ("_loop", "_when", "id")

    def __init__(
        self, id: str, when: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context,
        loop: HandlerLoop,
    ) -> None:  # fmt: skip
        super().__init__(callback, args, context)
        self.id = id
        self._when = when
        self._loop = loop

    def when(self) -> float:
        """Seconds since 1970."""
        return self._when

    def cancel(self) -> None:
        """The timer will not fire."""
        super().cancel()
        self._loop.timers.pop(self.id, None)
