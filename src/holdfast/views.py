"""What clients show of an invocation: read-only pictures, with every value as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from holdfast.core import entries as records
from holdfast.core.invocation import Status
from holdfast.core.payload import INLINE
from holdfast.engine.effects import Body
from holdfast.errors import Unreadable
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

    `kind` is "step", "timer", "promise" or "cancel"; `state` "done", "failed", "running", "retrying" or "waiting".
    `inputs` are the arguments (of an ask: the question and what it is about) and `output` the result, both plain JSON
    data. Inputs that hold large values are left out (None, and `large` is true), for a model is asked the whole
    conversation each turn: `handle.inputs(id)` reads those of one step. `tries` counts attempts.
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
    large: bool = False


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


@dataclass(frozen=True, slots=True)
class PromiseView:
    """A promise or question, open or settled."""

    id: str
    invocation: str
    question: str
    schema: dict[str, Any]
    about: Any
    created: datetime
    deadline: datetime | None
    status: str
    value: Any


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened to an invocation."""

    id: str
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule."""

    id: str
    target: str
    rule: str
    next_at: datetime | None
    last_at: datetime | None
    paused: bool


@dataclass(frozen=True, slots=True)
class CheckView:
    """Whether an unfinished invocation's journal fits the code."""

    id: str
    target: str
    ok: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class InfoView:
    """The process and its store."""

    version: str
    build: str
    store: str
    uptime: float
    counts: dict[str, int]
    running: int
    resident: int
    services: list[str]


def moment(ms: int | None) -> datetime | None:
    """Milliseconds as a date in UTC."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def view_invocation(row: InvocationRow) -> InvocationView:
    """The picture of a stored invocation. Damage is shown and not raised: one row must not hide the others (G10)."""
    reason = None
    if row.outcome is not None:
        try:
            reason = _reason(records.decode_outcome(row.outcome))
        except Unreadable as damage:
            reason = str(damage)
    at = moment
    return InvocationView(
        row.id, row.target, Status(row.status).name.lower(),
        _must(at(row.created)), _must(at(row.updated)), at(row.wake_at), reason,
    )  # fmt: skip


def view_ask(row: PromiseRow, invocation: str) -> AskView:
    """The picture of an open promise. Damage is shown and not raised, as above."""
    created = _must(moment(row.created))
    try:
        info = records.decode_info(row.about)
        schema, about = plain(info.schema.encode()), plain(info.about.encode())
    except Unreadable as damage:
        return AskView(row.id, invocation, str(damage), {}, None, created, None)
    return AskView(row.id, invocation, info.question, schema, about, created, moment(info.deadline))


def plain(text: bytes) -> Any:
    """Stored JSON text as plain data. Raises Unreadable."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(
            f"a stored value is no JSON: {error}", cause="the file is damaged", fix="restore a backup"
        ) from None


def _reason(outcome: records.Outcome) -> str | None:
    match outcome:
        case records.Raised(failure):
            return f"{failure.type}: {failure.message}"
        case records.Paused(_, why) | records.Cancelled(why):
            return why
        case records.Returned():
            return None


def view_entry(entry: records.Entry, read: Callable[[bytes], bytes], promises: Mapping[str, PromiseRow]) -> StepView:
    """The picture of a journal entry. `read` turns a payload into JSON text, `promises` are the invocation's, by the
    id they have in it."""
    at = moment(entry.at)
    match entry:
        case records.StepCompleted():
            shown, large = _inputs(entry.inputs)
            output = plain(read(entry.result))
            began = moment(entry.started)
            return StepView("step", entry.step, "done", began, at, entry.attempts, shown, output, None, large)
        case records.StepErrored():
            failure = entry.failure
            shown, large = _inputs(entry.inputs)
            error = f"{failure.type}: {failure.message}"
            began = moment(entry.started)
            return StepView("step", entry.step, "failed", began, at, failure.attempts, shown, None, error, large)
        case records.TimerFired():
            return StepView("timer", entry.timer, "done", None, at, 1, None, None, None)
        case records.PromiseSettled():
            row = promises[entry.promise]
            began, question, value = moment(row.created), _question(row), plain(read(entry.value))
            if entry.ok:
                return StepView("promise", entry.promise, "done", began, at, 1, question, value, None)
            return StepView("promise", entry.promise, "failed", began, at, 1, question, None, value)
        case records.CancelRequested():
            return StepView("cancel", "cancel", "done", None, at, 1, None, None, entry.reason)


def view_body(body: Body) -> StepView:
    """The picture of a step that is being worked on."""
    state = "retrying" if body.retrying else "running"
    last = body.last_error
    error = None if last is None else f"{last.type}: {last.message}"
    began, shown = moment(body.started or None), plain(body.inputs)
    return StepView("step", body.step, state, began, None, body.attempt, shown, None, error)


def view_open_promise(row: PromiseRow) -> StepView:
    """The picture of a promise or ask that is waited for."""
    step = records.decode_info(row.about).step
    return StepView("promise", step, "waiting", moment(row.created), None, 1, _question(row), None, None)


def _question(row: PromiseRow) -> Any:
    info = records.decode_info(row.about)
    return [info.question, plain(info.about.encode())] if info.question else None


def _inputs(payload: bytes) -> tuple[Any, bool]:
    return (plain(payload[1:]), False) if payload[:1] == INLINE else (None, True)


def _must(at: datetime | None) -> datetime:
    assert at is not None  # for the type checker: the column is NOT NULL
    return at
