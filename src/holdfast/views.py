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


@dataclass(slots=True)
class InvocationView:
    """One invocation. `reason` says why it is paused, failed or cancelled; `wake_at` when it goes on or may begin;
    `parent` who called or sent it; `origin` what it was restarted or forked from. `input` and `output` are plain JSON
    data, and only there when one invocation is asked for."""

    id: str
    target: str
    key: str | None
    status: str
    created: datetime
    began: datetime | None
    updated: datetime
    wake_at: datetime | None
    reason: str | None
    parent: str | None
    build: str
    origin: str | None
    input: Any = None
    output: Any = None


@dataclass(frozen=True, slots=True)
class StepView:
    """One line of a journal: a completion, or a step that is being worked on.

    `kind` is "step", "timer", "promise", "call", "signal", "cancel", "retry", or of what the handler noted "state",
    "version" and "emit"; `state` "done", "failed", "running", "retrying" or "waiting". `child` is the id of a called
    invocation.
    Of a step declared once, lines of kind "once" say that its body has "begun" and that nothing came of it ("not done",
    and `error` who says so and why). "checking" it is while its checker runs, "unknown" when its handler was told so.
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
    child: str | None = None


@dataclass(frozen=True, slots=True)
class PromiseView:
    """A promise or ask. `status` is "open", "resolved", "rejected" or "withdrawn"; `invocation` who waits for it, None
    for one of a workflow."""

    id: str
    invocation: str | None
    question: str
    schema: dict[str, Any]
    about: Any
    created: datetime
    deadline: datetime | None
    status: str
    value: Any


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule. `rule` is its cron expression or interval, `last_id` the invocation it started last."""

    id: str
    target: str
    rule: str
    zone: str
    missed: str
    next_at: datetime | None
    last_at: datetime | None
    last_id: str | None
    paused: bool


@dataclass(frozen=True, slots=True)
class CheckView:
    """Whether an unfinished invocation replays under the code at hand, and if not, why."""

    id: str
    target: str
    ok: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class InfoView:
    """An engine: how many of its invocations run and are in memory, and how many there are by status."""

    version: str
    build: str
    store: str
    uptime_seconds: float
    running: int
    resident: int
    counts: dict[str, int]
    services: list[str]


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


TIME_MAX_MS = 253_402_300_799_000  # the last second of year 9999
PROMISE_STATES = ("open", "resolved", "rejected", "withdrawn")  # by PromiseRow.status


def moment(ms: int | None) -> datetime | None:
    """Milliseconds as a date in UTC; a damaged time that is none is shown as the last there is."""
    return None if ms is None else datetime.fromtimestamp(min(max(ms, 0), TIME_MAX_MS) / 1000, UTC)


def view_invocation(row: InvocationRow, parent: str | None) -> InvocationView:
    """The picture of a stored invocation. Damage is shown and not raised: one row must not hide the others (G10)."""
    reason = None
    if row.outcome is not None:
        try:
            reason = _reason(records.decode_outcome(row.outcome))
        except Unreadable as damage:
            reason = str(damage)
    at = moment
    return InvocationView(
        row.id, row.target, row.key, Status(row.status).name.lower(), _must(at(row.created)), at(row.began),
        _must(at(row.updated)), at(row.wake_at), reason, parent, row.build, row.origin,
    )  # fmt: skip


def plain_view(view: Any) -> dict[str, Any]:
    """A view as plain JSON data, dates as ISO 8601."""
    found: dict[str, Any] = msgspec.to_builtins(view)
    return found


def view_promise(row: PromiseRow, invocation: str | None) -> PromiseView:
    """The picture of a promise, settled or not. Raises Unreadable."""
    info = records.decode_info(row.about)
    value = None if not row.value else plain(expand_inline(row.value))
    return PromiseView(
        row.id, invocation, info.question, plain(info.schema.encode()), plain(info.about.encode()),
        _must(moment(row.created)), moment(info.deadline), PROMISE_STATES[row.status], value,
    )  # fmt: skip


def expand_inline(payload: bytes) -> bytes:
    """The text of a payload that holds no large values, as a promise's does."""
    return payload[1:] if payload[:1] == INLINE else b"null"


def view_ask(row: PromiseRow, invocation: str) -> AskView:
    """The picture of an open promise. Damage is shown and not raised, as above."""
    created = _must(moment(row.created))
    try:
        info = records.decode_info(row.about)
        schema, about = plain(info.schema.encode()), plain(info.about.encode())
    except Unreadable as damage:
        return AskView(row.id, invocation, str(damage), {}, None, created, None)
    return AskView(row.id, invocation, info.question, schema, about, created, moment(info.deadline))


def is_question(row: PromiseRow) -> bool:
    """Whether a promise is an ask. One that is damaged may be: it is shown, and says so."""
    try:
        return bool(records.decode_info(row.about).question)
    except Unreadable:
        return True


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
        case records.Returned() | records.Woken():
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
        case records.StepUnknown():
            shown, large = _inputs(entry.inputs)
            why, tries, began = entry.failure.message, entry.failure.attempts, moment(entry.started)
            return StepView("step", entry.step, "unknown", began, at, tries, shown, None, why, large)
        case records.TimerFired():
            return StepView("timer", entry.timer, "done", None, at, 1, None, None, None)
        case records.PromiseSettled():
            row = promises.get(entry.promise)  # none: a workflow's, or of the invocation this is a copy of
            began, question = (None, None) if row is None else (moment(row.created), _question(row))
            value = plain(read(entry.value))
            if entry.ok:
                return StepView("promise", entry.promise, "done", began, at, 1, question, value, None)
            return StepView("promise", entry.promise, "failed", began, at, 1, question, None, value)
        case records.CancelRequested():
            return StepView("cancel", "cancel", "done", None, at, 1, None, None, entry.reason)
        case records.CallCompleted():
            output = plain(read(entry.result))
            return StepView("call", entry.call, "done", None, at, 1, None, output, None, child=entry.child)
        case records.CallErrored():
            error = f"{entry.failure.type}: {entry.failure.message}"
            return StepView("call", entry.call, "failed", None, at, 1, None, None, error, child=entry.child)
        case records.SignalArrived():
            return StepView("signal", entry.name, "done", None, at, 1, None, plain(read(entry.value)), None)
        case records.Reopened():
            return StepView("retry", "retry", "done", None, at, 1, None, None, None)
        case _:
            return _view_note(entry, read, at)


def _view_note(note: records.Note, read: Callable[[bytes], bytes], at: datetime | None) -> StepView:
    match note:
        case records.StateRead():
            value = None if note.value is None else plain(read(note.value))
            return StepView("state", note.note, "done", None, at, 1, None, value, None)
        case records.ItemsRead():
            return StepView("state", note.note, "done", None, at, 1, None, {"first": note.first, "end": note.end}, None)
        case records.VersionMarked():
            return StepView("version", note.note, "done", None, at, 1, None, note.version, None)
        case records.Emitted():
            return StepView("emit", note.note, "done", None, at, 1, None, plain(read(note.value)), None)
        case records.StepBegun():
            return StepView("once", note.note, "begun", None, at, note.attempt, None, None, None)
        case records.StepNotDone():
            says = f"the {note.by} says so: {note.why}" if note.why else f"the {note.by} says so"
            return StepView("once", note.note, "not done", None, at, 1, None, None, says)


def view_waiting_call(child: InvocationRow) -> StepView:
    """The picture of a called invocation whose end the journal does not have."""
    began = moment(child.began)
    if Status(child.status).ended:
        given_up = "its caller does not wait for it any more"
        return StepView("call", child.call or "", "failed", began, None, 1, None, None, given_up, child=child.id)
    state = "running" if child.began is not None else "waiting"
    return StepView("call", child.call or "", state, began, None, 1, None, None, None, child=child.id)


def view_body(body: Body) -> StepView:
    """The picture of a step that is being worked on."""
    state = "retrying" if body.retrying else "running" if body.begun is None else "checking"
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
