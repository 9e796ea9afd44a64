"""What the machine asks of the outside. Imperative: nothing here has happened yet.

The engine obeys a command only after the commit that covers what led to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from hashlib import blake2b
from typing import Any

import msgspec

from holdfast.core.entries import PromiseInfo
from holdfast.core.retry import Retry


class Once:
    """What follows when a step was begun and nobody knows what came of it: `check` is called, or a person asked, whose
    answer `answers` reads. With neither the handler is told."""

    __slots__ = ("answers", "check")

    def __init__(self, *, check: Callable[..., Any] | None = None, answers: Any = None) -> None:
        self.check = check  # called as the body would be; looks what came of it, and does nothing
        self.answers = answers  # has decode(text), which gives a Verdict, and schema()


class StepSpec(msgspec.Struct, eq=False):
    """What a step runs and how. Lives in memory only: functions and arguments are never stored."""

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    digest: bytes  # of the scalar arguments
    codec: Any  # has encode_checked(value) and decode(text)
    context: Context  # the caller's context variables, copied
    retry: Retry | None = None
    timeout: float | None = None  # seconds an attempt may take
    threaded: bool = False  # run in a thread whatever the function looks like
    once: Once | None = None
    reopened: int = 0  # how often the invocation had been opened again when it was asked for


class RunStep(msgspec.Struct, frozen=True):
    """Run a step's body and send its completion."""

    step: str
    spec: StepSpec


class FindOut(msgspec.Struct, frozen=True):
    """Find out what came of a step that was begun in another life, and send its completion."""

    step: str
    spec: StepSpec


class CancelStep(msgspec.Struct, frozen=True):
    """Stop the body; nobody waits for it any more."""

    step: str


class OpenPromise(msgspec.Struct, frozen=True):
    """Make a promise others can settle."""

    promise: str
    info: PromiseInfo
    id: str = ""  # by which others settle it


class WithdrawPromise(msgspec.Struct, frozen=True):
    """Close a promise nobody waits for any more."""

    promise: str


class CallSpec(msgspec.Struct, eq=False):
    """Another handler to be run, and how. Lives in memory only; `text` becomes the other invocation's input."""

    name: str
    handler: Any
    text: bytes
    digest: bytes  # of handler, key and arguments
    key: str | None
    id: str  # of the other invocation
    delay: float = 0.0  # seconds until it may begin
    headers: Mapping[str, str] | None = None


class CallHandler(msgspec.Struct, frozen=True):
    """Run another handler and send what comes of it."""

    call: str
    spec: CallSpec


class CancelCall(msgspec.Struct, frozen=True):
    """Cancel an invocation that was called; nobody waits for it any more."""

    call: str
    id: str


class Attach(msgspec.Struct, frozen=True):
    """Send what comes of an invocation that is there already."""

    call: str
    id: str


class SharePromise(msgspec.Struct, frozen=True):
    """Make a promise of a workflow, or wait for the one that is there."""

    promise: str
    id: str
    info: PromiseInfo


class SendCall(msgspec.Struct, frozen=True):
    """Start another handler, and wait for nothing."""

    spec: CallSpec


class SendSignal(msgspec.Struct, frozen=True):
    """Send a named message to another invocation."""

    id: str
    name: str
    text: bytes


class CancelOther(msgspec.Struct, frozen=True):
    """Ask another invocation to end."""

    id: str
    reason: str


class SettleShared(msgspec.Struct, frozen=True):
    """Settle a promise of a workflow."""

    id: str
    text: bytes
    ok: bool


class SetState(msgspec.Struct, frozen=True):
    """Write a value of the object, or remove it (None)."""

    name: str
    text: bytes | None


class AppendItem(msgspec.Struct, frozen=True):
    """Add an element to a list of the object."""

    name: str
    text: bytes


class Return(msgspec.Struct, frozen=True):
    """The handler returned this."""

    value: Any


class Raise(msgspec.Struct, frozen=True):
    """The handler raised this."""

    error: BaseException
    deeds: bytes = b""  # digests of what it wanted done since the last entry


class EndCancelled(msgspec.Struct, frozen=True):
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
