"""What clients show of an invocation: read-only pictures, with every value as plain data."""

from __future__ import annotations

import dataclasses
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
class QueueView:
    """What an invocation waits for that may begin and has not. `waits_for` is "key", "limit" or "room"; `name` the
    key ("Object/key") or the limit ("Service/handler", with "=value" where it counts by an argument); `holder` the id
    of who has the key; `ahead` how many come before it, 1,000 at most."""

    waits_for: str
    name: str | None
    holder: str | None
    ahead: int


@dataclass(slots=True)
class InvocationView:
    """One invocation. `reason` says why it is paused, failed or cancelled; `wake_at` when it goes on or may begin;
    `parent` who called or sent it; `origin` what it was restarted or forked from. `input` and `output` are plain JSON
    data; they, `queue` and `details`, the traceback of one that failed, are only there when one invocation is asked
    for."""

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
    queue: QueueView | None = None
    details: str | None = None


@dataclass(frozen=True, slots=True)
class StepView:
    """One line of a journal: a completion, or what is being worked on or waited for.

    `kind` is "step", "timer", "promise", "call", "signal", "cancel", "retry", or of what the handler noted "state",
    "version" and "emit"; `state` "done", "failed", "running", "retrying" or "waiting". `child` is the id of a called
    invocation, `promise` the id by which a promise is settled. `due` is when a timer fires, a question's time is over
    or a step is tried again; `place` the line's number in the journal, None for what is not recorded.
    Of a step declared once, lines of kind "once" say that its body has "begun" and that nothing came of it ("not done",
    and `error` who says so and why). "checking" it is while its checker runs, "unknown" when its handler was told so.
    `inputs` are the arguments (of an ask: the question and what it is about) and `output` the result, both plain JSON
    data. Inputs that hold large values are left out (None, and `large` is true), for a model is asked the whole
    conversation each turn: `handle.inputs(id)` reads those of one step. `tries` counts attempts, `details` is what
    is known of an `error` beside: the traceback, or the next step.
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
    promise: str | None = None
    due: datetime | None = None
    place: int | None = None
    details: str | None = None


@dataclass(frozen=True, slots=True)
class PromiseView:
    """A promise or ask. `status` is "open", "resolved", "rejected" or "withdrawn"; `invocation` who waits for it, None
    for one of a workflow; `step` the line of its journal."""

    id: str
    invocation: str | None
    step: str | None
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
    at = moment
    return InvocationView(
        row.id, row.target, row.key, Status(row.status).name.lower(), _must(at(row.created)), at(row.began),
        _must(at(row.updated)), at(row.wake_at), _reason(row), parent, row.build, row.origin,
    )  # fmt: skip


def plain_view(view: Any) -> dict[str, Any]:
    """A view as plain JSON data, dates as ISO 8601."""
    found: dict[str, Any] = msgspec.to_builtins(view)
    return found


def view_promise(row: PromiseRow, invocation: str | None) -> PromiseView:
    """The picture of a promise, settled or not. Damage is shown and not raised, as above."""
    created, status = _must(moment(row.created)), PROMISE_STATES[row.status]
    try:
        info = records.decode_info(row.about)
        schema, about = plain(info.schema.encode()), plain(info.about.encode())
        value = None if not row.value else plain(expand_inline(row.value))
    except Unreadable as damage:
        return PromiseView(row.id, invocation, None, str(damage), {}, None, created, None, status, None)
    step, due = info.step or None, moment(info.deadline)
    return PromiseView(row.id, invocation, step, info.question, schema, about, created, due, status, value)


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


def _reason(row: InvocationRow) -> str | None:
    """Why one is paused, or did not end well."""
    try:
        outcome = None if row.outcome is None else records.decode_outcome(row.outcome)
    except Unreadable as damage:
        return str(damage)
    match outcome:
        case records.Raised(failure):
            return f"{failure.type}: {failure.message}"
        case records.Paused(_, why) | records.Cancelled(why):
            return why
        case _:
            return None


def view_entry(
    entry: records.Entry, place: int, read: Callable[[bytes], bytes], promises: Mapping[str, PromiseRow]
) -> StepView:
    """The picture of a journal entry at its place. `read` turns a payload into JSON text, `promises` are the
    invocation's, by the id they have in it."""
    return dataclasses.replace(_view_entry(entry, read, promises), place=place)


def _view_entry(entry: records.Entry, read: Callable[[bytes], bytes], promises: Mapping[str, PromiseRow]) -> StepView:
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
            error, details = _told(failure)
            began, tries = moment(entry.started), failure.attempts
            return StepView("step", entry.step, "failed", began, at, tries, shown, None, error, large, details=details)
        case records.StepUnknown():
            shown, large = _inputs(entry.inputs)
            failure = entry.failure
            why, tries, began = failure.message, failure.attempts, moment(entry.started)
            details = failure.details or None
            return StepView("step", entry.step, "unknown", began, at, tries, shown, None, why, large, details=details)
        case records.TimerFired():
            return StepView("timer", entry.timer, "done", None, at, 1, None, None, None)
        case records.PromiseSettled():
            row = promises.get(entry.promise)  # none: a workflow's, or of the invocation this is a copy of
            began, question, id = (None, None, None) if row is None else (moment(row.created), _question(row), row.id)
            value = plain(read(entry.value))
            if entry.ok:
                return StepView("promise", entry.promise, "done", began, at, 1, question, value, None, promise=id)
            return StepView("promise", entry.promise, "failed", began, at, 1, question, None, value, promise=id)
        case records.CancelRequested():
            return StepView("cancel", "cancel", "done", None, at, 1, None, None, entry.reason)
        case records.CallCompleted():
            output = plain(read(entry.result))
            return StepView("call", entry.call, "done", None, at, 1, None, output, None, child=entry.child)
        case records.CallErrored():
            error, details = _told(entry.failure)
            return StepView(
                "call", entry.call, "failed", None, at, 1, None, None, error, child=entry.child, details=details
            )
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


def view_waiting(kind: str, id: str, *, child: str | None = None, due: datetime | None = None) -> StepView:
    """The picture of something that is waited for, and was not said when it was begun."""
    return StepView(kind, id, "waiting", None, None, 0, None, None, None, child=child, due=due)


def view_called(call: str, child: InvocationRow) -> StepView:
    """The picture of an invocation that is waited for. Of one that has ended its caller is told when it runs again."""
    status = Status(child.status)
    state = "waiting" if child.began is None else "running"
    if status.ended:
        state = "done" if status is Status.DONE else "failed"
    return StepView("call", call, state, moment(child.began), None, 1, None, None, None, child=child.id)


def view_given_up(child: InvocationRow) -> StepView:
    """The picture of one that was called, and that its caller does not wait for any more."""
    ended = Status(child.status).ended
    why = _reason(child) if child.status == Status.KILLED else "its caller does not wait for it any more"
    state = "failed" if ended else "running" if child.began is not None else "waiting"
    began, finished = moment(child.began), moment(child.updated) if ended else None
    return StepView("call", child.call or "", state, began, finished, 1, None, None, why, child=child.id)


def view_body(body: Body) -> StepView:
    """The picture of a step whose body was asked for: at work, between two attempts, or waiting for room."""
    works = "running" if body.begun is None else "checking"
    state = "retrying" if body.retrying else works if body.started else "waiting"
    error, details = (None, None) if body.last_error is None else _told(body.last_error)
    began, shown, due = moment(body.started or None), plain(body.inputs), moment(body.next_at or None)
    return StepView("step", body.step, state, began, None, body.attempt, shown, None, error, due=due, details=details)


def view_tried(tried: records.Tried) -> StepView:
    """The picture of a step that waits for its next attempt while its invocation is parked."""
    error, details = _told(tried.failure)
    began, due = moment(tried.started), moment(tried.next_at)
    attempts = tried.failure.attempts
    return StepView("step", tried.step, "retrying", began, None, attempts, None, None, error, due=due, details=details)


def view_promised(id: str, step: str, row: PromiseRow | None) -> StepView:
    """The picture of a promise or ask that the handler waits for. `row` is None while it is being stored."""
    if row is None:
        return StepView("promise", step, "waiting", None, None, 1, None, None, None, promise=id)
    began, question = moment(row.created), _question(row)
    if not row.status:
        due = moment(records.decode_info(row.about).deadline)
        return StepView("promise", step, "waiting", began, None, 1, question, None, None, promise=id, due=due)
    value = plain(expand_inline(row.value or b""))  # settled, and the handler will be told when it runs again
    at = moment(row.settled)
    if row.status == 1:
        return StepView("promise", step, "done", began, at, 1, question, value, None, promise=id)
    return StepView("promise", step, "failed", began, at, 1, question, None, str(value), promise=id)


def _told(failure: records.Failure) -> tuple[str, str | None]:
    return f"{failure.type}: {failure.message}", failure.details or None


def _question(row: PromiseRow) -> Any:
    info = records.decode_info(row.about)
    return [info.question, plain(info.about.encode())] if info.question else None


def _inputs(payload: bytes) -> tuple[Any, bool]:
    return (plain(payload[1:]), False) if payload[:1] == INLINE else (None, True)


def _must(at: datetime | None) -> datetime:
    assert at is not None  # for the type checker: the column is NOT NULL
    return at
