"""Why an invocation stands still, as it is stored and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import entries as records
from holdfast.core.entries import Paused, Tried
from holdfast.core.ids import MADE
from holdfast.core.invocation import Status
from holdfast.errors import HandlerFault, HandlerStuck, HoldfastError, TooMany, UnknownInvocation, explain
from holdfast.stores.base import InvocationRow

if TYPE_CHECKING:
    from holdfast.engine.resident import Resident


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
