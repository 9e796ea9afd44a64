"""Every error a user can meet, in one tree; those of requests over HTTP are in http/refusals.py.

Promises: each error says what happened and to which thing, then the likely cause and the next step, and carries a
code that docs/errors.md explains. Refuses: an error without a next step.

    HoldfastError
    ├── UsageError               the caller asked for something that cannot be
    │   ├── UnknownHandler       HF101
    │   ├── BadArguments         HF102
    │   ├── IdConflict           HF103
    │   ├── UnknownInvocation    HF104
    │   ├── UnknownPromise       HF105
    │   ├── BadTimer             HF106
    │   ├── BadHandler           HF107
    │   ├── WrongPlace           HF108
    │   ├── AlreadySettled       HF109
    │   ├── UnknownDependency    HF110
    │   ├── WrongStatus          HF111
    │   ├── WouldDeadlock        HF112
    │   ├── TooMany              HF113
    │   ├── UnknownSchedule      HF114
    │   └── BadCommand HF701, AppNotLoaded HF702: the command line
    ├── ValueProblem             a value that cannot be stored or read back
    │   ├── Unserialisable       HF201
    │   ├── TooLarge             HF202
    │   └── Unreadable           HF203
    ├── StoreError               the disk or the file
    │   ├── StoreFull            HF401
    │   ├── StoreFailed          HF402
    │   ├── StoreCorrupt         HF403
    │   ├── StoreLocked          HF404
    │   ├── StoreTooNew          HF405
    │   ├── StoreReadOnly        HF406
    │   └── StoreForeign         HF407
    ├── TerminalError            HF501   raised by users: final, never retried
    ├── StepFailed               HF502   retries are used up
    ├── InvocationFailed         HF503
    ├── InvocationCancelled      HF504
    ├── InvocationPaused         HF505
    ├── EngineStopped            HF506
    ├── OutcomeUnknown           HF507   of a step declared once
    ├── NotDone                  HF508   raised by users: nothing was done
    ├── RequestError             HF600
    └── Unreachable HF703, TimedOut HF704: the command line, with nobody to talk to, or not in time

    HandlerFault(BaseException)  handler code did what cannot be replayed; SDKs cannot swallow it
    └── HandlerIO HF301, HandlerStuck HF302, Mismatch HF303, ForeignWake HF304, HandlerMissing HF305
"""

from __future__ import annotations

import re
from typing import Any, ClassVar


def explain(code: str, what: str, cause: str, fix: str) -> str:
    """One error text: the fact first, then why it is likely so and what to do."""
    lines = [f"[{code}] {what}"]
    if cause:
        lines.append(f"  likely cause: {cause}")
    if fix:
        lines.append(f"  next step: {fix}")
    return "\n".join(lines)


class HoldfastError(Exception):
    """Base of all errors Holdfast raises.

    `what` names the fact and the thing; `cause` the likely reason; `fix` the next step.
    """

    code: ClassVar[str] = "HF000"

    def __init__(self, what: str, *, cause: str = "", fix: str = "") -> None:
        super().__init__(explain(self.code, what, cause, fix))
        self.what = what
        self.cause = cause
        self.fix = fix


class UsageError(HoldfastError):
    """The caller asked for something that cannot be; nothing was stored."""

    code = "HF100"


class UnknownHandler(UsageError):
    """No handler is registered under that name."""

    code = "HF101"


class BadArguments(UsageError):
    """The arguments do not fit the handler's signature or types."""

    code = "HF102"


class IdConflict(UsageError):
    """The id belongs to an invocation of another handler or with another input."""

    code = "HF103"


class UnknownInvocation(UsageError):
    """No invocation has that id."""

    code = "HF104"


class UnknownPromise(UsageError):
    """No promise has that id."""

    code = "HF105"


class BadTimer(UsageError):
    """A delay that is negative, not a number, or ends beyond year 9999."""

    code = "HF106"


class BadHandler(UsageError):
    """A function that cannot be a handler."""

    code = "HF107"


class WrongPlace(UsageError):
    """A durable call outside the running handler it belongs to."""

    code = "HF108"


class AlreadySettled(UsageError):
    """The promise has its value already; it never changes."""

    code = "HF109"


class UnknownDependency(UsageError):
    """No dependency is registered under that name."""

    code = "HF110"


class WrongStatus(UsageError):
    """The invocation's status does not allow this."""

    code = "HF111"


class WouldDeadlock(UsageError):
    """The call waits, through others, for its own caller; it could never return."""

    code = "HF112"


class TooMany(UsageError):
    """A queue or mailbox is full."""

    code = "HF113"


class UnknownSchedule(UsageError):
    """No schedule has that id."""

    code = "HF114"


class ValueProblem(HoldfastError):
    """A value that cannot be stored, or stored bytes that cannot be read."""

    code = "HF200"


class Unserialisable(ValueProblem):
    """The value has no JSON form under its type hint."""

    code = "HF201"


class TooLarge(ValueProblem):
    """The value is larger than the limit."""

    code = "HF202"


class Unreadable(ValueProblem):
    """Stored bytes do not decode; one invocation stops, no other."""

    code = "HF203"


class StoreError(HoldfastError):
    """The store could not do what was asked; nothing was acknowledged."""

    code = "HF400"


class StoreFull(StoreError):
    """No space left; the batch was rolled back whole."""

    code = "HF401"


class StoreFailed(StoreError):
    """A write or sync failed; the store has stopped for good (G11)."""

    code = "HF402"


class StoreCorrupt(StoreError):
    """The file's pages do not hold together."""

    code = "HF403"


class StoreLocked(StoreError):
    """Another process has the file."""

    code = "HF404"


class StoreTooNew(StoreError):
    """The file was written by a newer Holdfast."""

    code = "HF405"


class StoreReadOnly(StoreError):
    """The folder or file cannot be written."""

    code = "HF406"


class StoreForeign(StoreError):
    """The file is a database of another program or has other tables, or was written with another codec."""

    code = "HF407"


class TerminalError(HoldfastError):
    """Raise it in a step or a handler to fail for good: no retry, it travels to the caller with its status.

    `status` is an HTTP status, 400 to 599. Raises BadArguments for any other.
    """

    code = "HF501"

    def __init__(self, message: object, *, status: int = 500) -> None:
        if type(status) is not int or not 400 <= status <= 599:
            raise BadArguments(f"TerminalError: the status is {status!r}", fix="give an HTTP status from 400 to 599")
        super().__init__(str(message))
        self.status = status

    def __str__(self) -> str:
        return self.what


class StepFailed(HoldfastError):
    """A step whose retries are used up. The same object shape live and on replay, whatever the body raised.

    `step` is the step's id, `error_type` the class name the body raised, `attempts` how many were made,
    `details` the body's traceback as text.
    """

    code = "HF502"

    def __init__(self, step: str, error_type: str, message: str, *, attempts: int = 1, details: str = "") -> None:
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"step {step!r} failed after {tries}: {error_type}: {message}")
        self.step = step
        self.error_type = error_type
        self.message = message
        self.attempts = attempts
        self.details = details


class OutcomeUnknown(HoldfastError):
    """A step declared once was begun, and nobody knows what came of it: it may have done its work, or not.

    `step` is the step's id, `idempotency_key` that of its body, `details` a traceback as text, if there was one.
    """

    code = "HF507"

    def __init__(self, step: str, why: str, *, idempotency_key: str, details: str = "") -> None:
        super().__init__(
            f"nobody knows what came of step {step!r}: {why}",
            fix=f"look for what it was to do, by its idempotency key {idempotency_key}, before it is done again",
        )
        self.step = step
        self.idempotency_key = idempotency_key
        self.details = details


class NotDone(HoldfastError):
    """Raise it in the body or the checker of a step declared once: nothing was done, and nothing will come of it.

    Raised `from` the error of a client, it is tried again when that one's `Retry-After` says.
    """

    code = "HF508"

    def __init__(self, message: object = "nothing was done") -> None:
        super().__init__(str(message))

    def __str__(self) -> str:
        return self.what


class InvocationFailed(HoldfastError):
    """The handler raised. `error_type`, `message` and `details` are those of the handler's exception."""

    code = "HF503"

    def __init__(self, invocation: str, error_type: str, message: str, details: str = "") -> None:
        places = re.findall(r'File "(.+)", line (\d+), in (\S+)', details)
        told = "next step:" in message
        super().__init__(
            f"invocation {invocation!r} failed: {error_type}: {message}",
            cause="raised at {}:{} in {}".format(*places[-1]) if places and not told else "",
            fix="see .details for the traceback" if places and not told else "",
        )
        self.invocation = invocation
        self.error_type = error_type
        self.message = message
        self.details = details


class InvocationCancelled(HoldfastError):
    """The invocation was cancelled and has run its clean-up."""

    code = "HF504"


class InvocationPaused(HoldfastError):
    """The invocation waits for a person; nothing is lost. `reason` says why."""

    code = "HF505"

    def __init__(self, invocation: str, reason: str) -> None:
        super().__init__(
            f"invocation {invocation!r} is paused: {reason}",
            fix="" if "next step:" in reason else "mend the cause, then resume it; finished steps are not run again",
        )
        self.invocation = invocation
        self.reason = reason


class EngineStopped(HoldfastError):
    """The engine has stopped or is stopping; what was acknowledged goes on at the next start."""

    code = "HF506"


class BadCommand(UsageError):
    """Flags, arguments or answers that do not fit the command."""

    code = "HF701"


class AppNotLoaded(UsageError):
    """The Holdfast object that was named cannot be imported."""

    code = "HF702"


class Unreachable(HoldfastError):
    """There is no server where it was looked for, and no store to open instead; or it serves another store."""

    code = "HF703"


class TimedOut(HoldfastError):
    """Not over in the time that was given; it goes on."""

    code = "HF704"


def call_error(code: str, child: str, failure: Any) -> HoldfastError:
    """What a caller gets for an invocation that did not return. `failure` has type, message, details and status."""
    if failure.status is not None:
        return TerminalError(failure.message, status=failure.status)
    known = {
        kind.code: kind for kind in (BadArguments, IdConflict, UnknownInvocation, WouldDeadlock, InvocationCancelled)
    }
    if code in known:
        return known[code](failure.message, fix=failure.details)  # of a refusal, the details are the next step
    return InvocationFailed(child, failure.type, failure.message, failure.details)


class HandlerFault(BaseException):
    """Handler code did something that cannot be replayed. The invocation pauses and nothing is overwritten.

    A BaseException, because agent SDKs turn every Exception of a tool into text for the model.
    """

    code: ClassVar[str] = "HF300"

    def __init__(self, what: str, *, cause: str = "", fix: str = "") -> None:
        super().__init__(explain(self.code, what, cause, fix))
        self.what = what
        self.cause = cause
        self.fix = fix


class HandlerIO(HandlerFault):
    """Input or output in a handler, outside a step."""

    code = "HF301"


class HandlerStuck(HandlerFault):
    """A handler that never waits for anything."""

    code = "HF302"


class Mismatch(HandlerFault):
    """The code takes another path than the journal recorded (G3)."""

    code = "HF303"


class ForeignWake(HandlerFault):
    """Something outside the journal tried to wake a handler."""

    code = "HF304"


class HandlerMissing(HandlerFault):
    """A handler calls or sends one that this process does not have."""

    code = "HF305"
