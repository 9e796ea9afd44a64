"""Why something failed or stands still, as it is stored and shown."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core import entries as records
from holdfast.core.entries import Failure, Paused, Tried
from holdfast.core.ids import MADE
from holdfast.core.invocation import Status
from holdfast.errors import (
    HandlerFault,
    HandlerStuck,
    HoldfastError,
    TerminalError,
    TooMany,
    UnknownInvocation,
    ValueProblem,
    explain,
)
from holdfast.stores.base import InvocationRow

if TYPE_CHECKING:
    from holdfast.engine.resident import Resident

MESSAGE_CHARS_MAX = 10_000  # of an error's text; some libraries put whole pages into theirs
DETAILS_CHARS_MAX = 50_000
OWN_FOLDER = f"{Path(__file__).parents[1]}/"
LEAVES_SHOWN_MAX = 5  # of an exception group


def reason_of(error: BaseException, at: int) -> Paused:
    """Why an invocation is paused, as stored data."""
    if isinstance(error, (HandlerFault, HoldfastError)):
        return Paused(error.code, str(error), at)
    what = f"{type(error).__name__} inside Holdfast: {error}"
    cause = "stored bytes are damaged, or Holdfast has a bug"
    return Paused("HF500", explain("HF500", what, cause, "look at the log; restore a backup, or report it"), at)


def deadlock(resident: Resident) -> HandlerFault:
    """The fault of a handler that waits for nothing that could come."""
    return HandlerStuck(
        f"the handler waits for something nothing can bring, {resident.machine.loop.where()}",
        cause="an event, queue or future that only code of this handler could set, and none of it is left to run; or a "
        "lock that another invocation holds",
        fix="wait for a step, a timer or a promise; keep locks and queues inside one handler",
    )


def unread(id: str, letters: int, fix: str) -> TooMany:
    """What is wrong with one that is sent more than it reads."""
    return TooMany(
        f"invocation {id!r} has {letters} signals it has not received",
        cause="it is sent more than it reads, or nothing reads signals of this name",
        fix=fix,
    )


def nobody(id: str, asking: Resident) -> UnknownInvocation:
    """Why one whom a handler wants to attach to is not there."""
    what, origin = f"no invocation has the id {id!r}", asking.row.origin
    if origin is None or not id.startswith(MADE):
        return UnknownInvocation(what, fix="check the id, or list what there is")
    return UnknownInvocation(
        what,
        cause=f"{asking.id!r} is a copy ({origin!r}), and an id that Holdfast made is that of the original alone",
        fix="where copies shall reach what was sent, give it an id of your own: ctx.send(..., id=...)",
    )


def obeyed_of(row: InvocationRow, length: int) -> int:
    """Of how many entries the deeds that followed were done, for one that has begun. Raises Unreadable."""
    if row.outcome is None or row.status == Status.SUSPENDED or Status(row.status).ended:
        return length
    outcome = records.decode_outcome(row.outcome)
    known = outcome.obeyed if isinstance(outcome, (records.Paused, records.Woken)) else None
    return length if known is None else known


def tries_of(row: InvocationRow) -> tuple[Tried, ...]:
    """The steps of a parked one that wait for their next attempt. Raises Unreadable."""
    if row.outcome is None or row.status not in {Status.READY, Status.SUSPENDED}:
        return ()
    outcome = records.decode_outcome(row.outcome)
    return outcome.tries if isinstance(outcome, records.Woken) else ()


def as_failure(error: Exception) -> HoldfastError:
    """An exception that ends an engine: itself, if it is ours, else a mistake in Holdfast, with its traceback."""
    if isinstance(error, HoldfastError):
        return error
    failure = HoldfastError(f"{type(error).__name__} inside Holdfast: {error}", fix="report it, with the log")
    failure.__cause__ = error
    return failure


def was_queued(row: InvocationRow) -> bool:
    """Whether a paused one had not had its turn when it was paused."""
    return row.began is None or bool(row.in_queue)


def describe(error: BaseException, attempts: int = 1) -> Failure:
    """An exception as stored data."""
    if isinstance(error, TerminalError):
        message = _stored_text(error.what, MESSAGE_CHARS_MAX)
        return Failure(type(error).__name__, message, status=error.status, attempts=attempts)
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001  # a __str__ that fails must not hide the failure itself
        message = f"(its text cannot be had: {type(broken).__name__})"
    # Of a value that cannot be kept the text says all; its traceback would show only how we found out.
    if isinstance(error, BaseExceptionGroup):  # of a TaskGroup: what is inside is what people look for
        message += ": " + "; ".join(f"{type(one).__name__}: {one}" for one in _leaves(error)[:LEAVES_SHOWN_MAX])
    details = "" if isinstance(error, ValueProblem) else _traceback(error)
    return Failure(
        type(error).__name__,
        _stored_text(message, MESSAGE_CHARS_MAX),
        _stored_text(details[-DETAILS_CHARS_MAX:], DETAILS_CHARS_MAX),
        attempts=attempts,
    )


def _traceback(error: BaseException) -> str:
    """The traceback from the user's first line on: the frames above it are ours, and the same in each."""
    told = traceback.TracebackException.from_exception(error)
    line: traceback.TracebackException | None = told
    while line is not None:
        users = [index for index, frame in enumerate(line.stack) if not frame.filename.startswith(OWN_FOLDER)]
        del line.stack[: users[0] if users else 0]
        line = line.__cause__ or line.__context__
    return "".join(told.format())


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    inside = (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one] for one in group.exceptions)
    return [leaf for leaves in inside for leaf in leaves]


def _stored_text(text: str, limit: int) -> str:
    return text[:limit].encode("utf-8", "backslashreplace").decode()
