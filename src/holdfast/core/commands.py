"""What the machine asks of the outside. Imperative: nothing here has happened yet.

The engine obeys a command only after the commit that covers what led to it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from holdfast.core.entries import PromiseInfo
from holdfast.core.retry import Retry


class StepSpec:
    """What a step runs and how. Lives in memory only: functions and arguments are never stored."""

    __slots__ = ("args", "codec", "context", "digest", "fn", "kwargs", "name", "retry", "threaded", "timeout")

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        digest: bytes,
        codec: Any,
        context: Context,
        retry: Retry | None = None,
        timeout: float | None = None,
        threaded: bool = False,
    ) -> None:
        self.name = name
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.digest = digest  # of the scalar arguments
        self.codec = codec  # has encode_checked(value) and decode(text)
        self.context = context  # the caller's context variables, copied
        self.retry = retry
        self.timeout = timeout  # seconds an attempt may take
        self.threaded = threaded  # run in a thread whatever the function looks like


@dataclass(frozen=True, slots=True)
class RunStep:
    """Run a step's body and send its completion."""

    step: str
    spec: StepSpec


@dataclass(frozen=True, slots=True)
class CancelStep:
    """Stop the body; nobody waits for it any more."""

    step: str


@dataclass(frozen=True, slots=True)
class OpenPromise:
    """Make a promise others can settle."""

    promise: str
    info: PromiseInfo


@dataclass(frozen=True, slots=True)
class WithdrawPromise:
    """Close a promise nobody waits for any more."""

    promise: str


@dataclass(frozen=True, slots=True)
class Return:
    """The handler returned this."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raise:
    """The handler raised this."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class EndCancelled:
    """The handler ended by the cancel that was asked for."""

    reason: str


Command = RunStep | CancelStep | OpenPromise | WithdrawPromise | Return | Raise | EndCancelled
