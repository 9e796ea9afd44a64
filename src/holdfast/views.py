"""What clients show of an invocation: read-only pictures, with every value as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from holdfast.core import entries as records
from holdfast.core.invocation import Status
from holdfast.stores.base import InvocationRow, PromiseRow


@dataclass(frozen=True, slots=True)
class InvocationView:
    """One invocation. `reason` says why it is paused or failed."""

    id: str
    target: str
    status: str
    created: datetime
    updated: datetime
    wake_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class StepView:
    """One line of a journal: a completion, or a step that is being worked on.

    `kind` is "step", "timer", "promise" or "cancel"; `state` "done", "failed", "running" or "retrying". `inputs` are
    the arguments as they could be written, `output` the result, both plain JSON data. `tries` counts attempts.
    """

    kind: str
    id: str
    state: str
    started: datetime | None
    finished: datetime | None
    tries: int
    inputs: Any
    output: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class AskView:
    """A question that waits for a person. `schema` is the JSON schema of the answer."""

    id: str
    invocation: str
    question: str
    schema: dict[str, Any]
    about: Any
    created: datetime
    deadline: datetime | None


def moment(ms: int | None) -> datetime | None:
    """Milliseconds as a date in UTC."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def view_invocation(row: InvocationRow) -> InvocationView:
    """The picture of a stored invocation."""
    reason = None
    if row.outcome is not None:
        match records.decode_outcome(row.outcome):
            case records.Raised(failure):
                reason = f"{failure.type}: {failure.message}"
            case records.Paused(_, why) | records.Cancelled(why):
                reason = why
    at = moment
    return InvocationView(
        row.id, row.target, Status(row.status).name.lower(),
        _must(at(row.created)), _must(at(row.updated)), at(row.wake_at), reason,
    )  # fmt: skip


def view_ask(row: PromiseRow, invocation: str) -> AskView:
    """The picture of an open promise."""
    info = records.decode_info(row.about)
    return AskView(
        row.id, invocation, info.question, msgspec.json.decode(info.schema), msgspec.json.decode(info.about),
        _must(moment(row.created)), moment(info.deadline),
    )  # fmt: skip


def view_entry(entry: records.Entry, read: Any) -> StepView:
    """The picture of a journal entry; `read` turns a payload into JSON text."""

    def plain(payload: bytes) -> Any:
        return msgspec.json.decode(read(payload))

    at = moment(entry.at)
    match entry:
        case records.StepCompleted():
            return StepView(
                "step", entry.step, "done", moment(entry.started), at, entry.attempts,
                plain(entry.inputs), plain(entry.result), None,
            )  # fmt: skip
        case records.StepErrored():
            failure = entry.failure
            return StepView(
                "step", entry.step, "failed", moment(entry.started), at, failure.attempts,
                plain(entry.inputs), None, f"{failure.type}: {failure.message}",
            )  # fmt: skip
        case records.TimerFired():
            return StepView("timer", entry.timer, "done", None, at, 1, None, None, None)
        case records.PromiseSettled():
            value = plain(entry.value)
            return StepView(
                "promise", entry.promise, "done" if entry.ok else "failed", None, at, 1,
                None, value if entry.ok else None, None if entry.ok else value,
            )  # fmt: skip
        case records.CancelRequested():
            return StepView("cancel", "cancel", "done", None, at, 1, None, None, entry.reason)


def _must(at: datetime | None) -> datetime:
    assert at is not None  # for the type checker: the column is NOT NULL
    return at
