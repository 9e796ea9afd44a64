"""What the machine asks of the outside. Imperative: nothing here has happened yet.

The engine obeys a command only after the commit that covers what led to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from holdfast.core.entries import PromiseInfo
from holdfast.core.retry import Retry


class Once:
    """What follows when a step was begun and nobody knows what came of it: `check` is called, or a person asked, whose
    answer `answers` reads. With neither the handler is told."""

    __slots__ = ("answers", "check")

    def __init__(self, *, check: Callable[..., Any] | None = None, answers: Any = None) -> None:
        self.check = check  # called as the body would be; looks what came of it, and does nothing
        self.answers = answers  # has decode(text), which gives a Verdict, and schema()


class StepSpec:
    """What a step runs and how. Lives in memory only: functions and arguments are never stored."""

    __slots__ = (
        "args",
        "codec",
        "context",
        "digest",
        "fn",
        "kwargs",
        "name",
        "once",
        "reopened",
        "retry",
        "threaded",
        "timeout",
    )

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
        once: Once | None = None,
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
        self.once = once
        self.reopened = 0  # how often the invocation had been opened again when it was asked for


@dataclass(frozen=True, slots=True)
class RunStep:
    """Run a step's body and send its completion."""

    step: str
    spec: StepSpec


@dataclass(frozen=True, slots=True)
class FindOut:
    """Find out what came of a step that was begun in another life, and send its completion."""

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
    id: str = ""  # by which others settle it


@dataclass(frozen=True, slots=True)
class WithdrawPromise:
    """Close a promise nobody waits for any more."""

    promise: str


class CallSpec:
    """Another handler to be run, and how. Lives in memory only; `text` becomes the other invocation's input."""

    __slots__ = ("delay", "digest", "handler", "headers", "id", "key", "name", "text")

    def __init__(
        self, name: str, handler: Any, text: bytes, *, digest: bytes, key: str | None, id: str,
        delay: float = 0.0, headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.handler = handler
        self.text = text
        self.digest = digest  # of handler, key and arguments
        self.key = key
        self.id = id  # of the other invocation
        self.delay = delay  # seconds until it may begin
        self.headers = headers


@dataclass(frozen=True, slots=True)
class CallHandler:
    """Run another handler and send what comes of it."""

    call: str
    spec: CallSpec


@dataclass(frozen=True, slots=True)
class CancelCall:
    """Cancel an invocation that was called; nobody waits for it any more."""

    call: str
    id: str


@dataclass(frozen=True, slots=True)
class Attach:
    """Send what comes of an invocation that is there already."""

    call: str
    id: str


@dataclass(frozen=True, slots=True)
class SharePromise:
    """Make a promise of a workflow, or wait for the one that is there."""

    promise: str
    id: str
    info: PromiseInfo


@dataclass(frozen=True, slots=True)
class SendCall:
    """Start another handler, and wait for nothing."""

    spec: CallSpec


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Send a named message to another invocation."""

    id: str
    name: str
    text: bytes


@dataclass(frozen=True, slots=True)
class CancelOther:
    """Ask another invocation to end."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SettleShared:
    """Settle a promise of a workflow."""

    id: str
    text: bytes
    ok: bool


@dataclass(frozen=True, slots=True)
class SetState:
    """Write a value of the object, or remove it (None)."""

    name: str
    text: bytes | None


@dataclass(frozen=True, slots=True)
class AppendItem:
    """Add an element to a list of the object."""

    name: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Return:
    """The handler returned this."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raise:
    """The handler raised this."""

    error: BaseException
    deeds: bytes = b""  # digests of what it wanted done since the last entry


@dataclass(frozen=True, slots=True)
class EndCancelled:
    """The handler ended by the cancel that was asked for."""

    reason: str


# What the handler waits for: asked for again by every replay until it has come.
Ask = RunStep | FindOut | OpenPromise | CallHandler | Attach | SharePromise
# What is done and not waited for: once, with the commit of what led to it.
Deed = (
    CancelStep | WithdrawPromise | CancelCall | SendCall | SendSignal | CancelOther | SettleShared | SetState
    | AppendItem
)  # fmt: skip
End = Return | Raise | EndCancelled
Command = Ask | Deed | End
DEEDS = (
    CancelStep, WithdrawPromise, CancelCall, SendCall, SendSignal, CancelOther, SettleShared, SetState, AppendItem,
)  # fmt: skip
DIGEST_BYTES = 8


def digest_of(deed: Deed) -> bytes:
    """What tells a deed from others, in every process."""
    shown = repr(deed)
    if isinstance(deed, SendCall):
        spec = deed.spec
        shown = repr((spec.id, spec.handler.target, spec.key, spec.text, spec.delay))
    return blake2b(shown.encode("utf-8", "backslashreplace"), digest_size=DIGEST_BYTES).digest()
