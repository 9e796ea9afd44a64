"""A journal as a timeline: when each thing began, how long it took as a bar, what came of it, children below their
caller.

Promises: the order of the journal, which is the order of replay. Refuses: to show more of a value than a line has room
for, unless asked to.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from holdfast.cli import wire
from holdfast.cli.render.layout import Columns, Line
from holdfast.cli.render.words import (
    STATUS_STYLES,
    ago,
    clean,
    first_line,
    json_text,
    now,
    size,
    span,
    status,
    waits,
)

BAR_CELLS = 12
INDENT = "  "


@dataclass(frozen=True)
class Run:
    """An invocation, its journal, and the invocations it called, by id."""

    head: wire.Invocation
    steps: list[wire.Step]
    children: Mapping[str, Run] = field(default_factory=dict)


def show(run: Run, *, full: bool) -> RenderableType:
    """`holdfast show`."""
    at = now()
    parts: list[RenderableType] = [_title(run, at), *_facts(run.head, at, full=full)]
    if run.steps:
        parts += [Text(), _timeline(run, at), *(_values(run) if full else ())]
    return Group(*parts)


def hint(run: Run) -> str | None:
    """The next step, where there is one to be taken."""
    id = run.head.id
    waiting = [step for step in run.steps if step.state == "waiting"]
    if run.head.status == "paused":
        return f"mend the cause, then: holdfast resume {id}"
    if run.head.status == "failed":
        return f"to go on at the point where it failed: holdfast retry {id}"
    if any(_asks(step) for step in waiting):
        return "to answer: holdfast asks"
    if promise := next((step.promise for step in waiting if step.promise), None):
        return f"to settle it: holdfast resolve {shlex.quote(promise)} JSON"
    if signal := next((step.id for step in waiting if step.kind == "signal"), None):
        return f"to send it: holdfast signal {id} {shlex.quote(signal)} VALUE"
    return None


def _title(run: Run, at: datetime) -> Text:
    head = run.head
    # To the engine it is ready for its step's result; to a person it is at work.
    works = head.status == "ready" and any(step.state in {"running", "retrying", "checking"} for step in run.steps)
    word = "running" if works else head.status
    text = Text.assemble((clean(head.id), "bold"), "  ", clean(head.target), "  ", status(word))
    if head.status in wire.ENDED:
        text.append(f" after {span((head.updated - (head.began or head.created)).total_seconds())}")
    elif when := waits(head.status, head.wake_at, at):
        text.append(f", {when}")
    return text


def _facts(head: wire.Invocation, at: datetime, *, full: bool) -> Iterator[RenderableType]:
    rows = [("started", f"{head.created.astimezone():%Y-%m-%d %H:%M:%S}, {ago(head.created, at)}")]
    rows += [
        (name, value)
        for name, value in (("key", head.key), ("caller", head.parent), ("from", head.origin), ("build", head.build))
        if value
    ]
    rows += [
        (name, json_text(value))
        for name, value in (("input", head.input), ("output", head.output))
        if value is not None
    ]
    if head.queue is not None:
        rows.append(("waits", _queue(head.queue)))
    for name, value in rows:
        line = Text.assemble((f"{name:<9}", "dim"), clean(value))
        yield line if full else Line(line)
    if head.reason:
        told = head.reason if head.details is None else f"{head.reason}\n{head.details}"
        first, *rest = clean(told.strip()).splitlines()
        yield Text.assemble(("reason   ", "dim"), (first, STATUS_STYLES.get(head.status, "")))
        yield from (Text(line) for line in rest)


def _queue(queue: wire.Queue) -> str:
    before = f"; {queue.ahead} before it" if queue.ahead else ""
    if queue.waits_for == "key":
        return f"for the key {queue.name}" + (f", which {queue.holder} has" if queue.holder else "") + before
    if queue.waits_for == "limit":
        return f"for a place under the limit of {queue.name}{before}"
    return "until there is room for it"


def _timeline(run: Run, at: datetime) -> RenderableType:
    begin = run.head.began or run.head.created
    end = run.head.updated if run.head.status in wire.ENDED else at
    rows = list(_rows(run, begin, max((end - begin).total_seconds(), 0.001), at, depth=0))
    return Columns(("AT", "", "TOOK", "STEP", "", "SIZE", "RESULT"), rows, elastic=6, right=(0, 2, 5))


def _rows(run: Run, begin: datetime, total: float, at: datetime, *, depth: int) -> Iterator[tuple[Text, ...]]:
    for step in run.steps:
        child = run.children.get(step.child or "")
        if child is not None and step.started is None:  # the child's own times are the call's
            step.started = child.head.began or child.head.created
        yield _row(step, begin, total, at, depth, child)
        if child is not None:
            yield from _rows(child, begin, total, at, depth=depth + 1)


def _row(
    step: wire.Step, begin: datetime, total: float, at: datetime, depth: int, child: Run | None
) -> tuple[Text, ...]:
    style = STATUS_STYLES.get(step.state, "")
    return (
        *_times(step, begin, total, at, style),
        Text(INDENT * depth + clean(step.id)),
        _state(step, child),
        Text(size(len(json_text(step.output).encode())) if step.output is not None else "", "dim"),
        _outcome(step, at),
    )


def _times(step: wire.Step, begin: datetime, total: float, at: datetime, style: str) -> tuple[Text, Text, Text]:
    """When it began, where it lies in the whole, how long it took. Of some waits only the end is known."""
    if step.started is None and step.finished is None:
        return Text(), Text(), Text()
    finish = step.finished or at
    start = step.started or finish
    first, last = (start - begin).total_seconds(), (finish - begin).total_seconds()
    return (
        Text(f"+{span(max(0.0, first))}", "dim"),
        Text(bar(first / total, last / total), style),
        Text(span(last - first) if step.started else ""),
    )


def bar(start: float, end: float) -> str:
    """Where in the whole, from 0 to 1, it lies: at least one cell."""
    first = min(BAR_CELLS - 1, max(0, int(start * BAR_CELLS)))
    last = min(BAR_CELLS, max(first + 1, round(end * BAR_CELLS)))
    return " " * first + "━" * (last - first) + " " * (BAR_CELLS - last)


def _state(step: wire.Step, child: Run | None) -> Text:
    word = step.state if child is None or step.state in {"done", "failed"} else child.head.status
    words = ["" if word == "done" else clean(word), f"{step.tries} tries" if step.tries > 1 else ""]
    style = "yellow" if word == "done" else STATUS_STYLES.get(word, "")
    return Text(", ".join(word for word in words if word), style)


def _outcome(step: wire.Step, at: datetime) -> Text:
    due = _due(step, at)
    if step.error:
        text = Text(f"{due}; " if due else "", "dim")
        return text.append(first_line(step.error), "red" if step.state == "failed" else "yellow")
    if step.output is not None:
        return Text(clean(json_text(step.output)))
    told = step.child or ""
    if _asks(step):
        told = f"asks: {step.inputs[0]}"
    elif step.state == "waiting" and step.kind in {"promise", "signal"}:
        told = step.promise or "for a signal of this name"
    return Text(clean("  ".join(part for part in (told, due) if part)))


def _due(step: wire.Step, at: datetime) -> str:
    if step.due is None:
        return ""
    return (
        f"tried again {ago(step.due, at)}"
        if step.state == "retrying"
        else f"until {step.due.astimezone():%Y-%m-%d %H:%M:%S}, {ago(step.due, at)}"
    )


def _asks(step: wire.Step) -> bool:
    return step.kind == "promise" and step.state == "waiting" and isinstance(step.inputs, list) and bool(step.inputs)


def whole(step: wire.Step) -> RenderableType:
    """`holdfast show ID --step STEP`, and each step of `--full`: what it was asked and gave, uncut."""
    text = Text.assemble((clean(step.id), "bold"), "  ", status(step.state))
    if step.tries > 1:
        text.append(f", {step.tries} tries")
    if step.started and step.finished:
        text.append(f", {span((step.finished - step.started).total_seconds())}", "dim")
    asked, gave = (None if value is None else json_text(value) for value in (step.inputs, step.output))
    error = step.error if step.details is None else f"{step.error}\n{step.details.rstrip()}"
    for name, told in (("asked", asked), ("gave", gave), ("promise", step.promise), ("error", error)):
        if told is not None:
            text.append(f"\n{name:<9}", "dim")
            text.append(clean(told))
    return text


def _values(run: Run) -> Iterator[RenderableType]:
    for step in run.steps:
        yield Text()
        yield whole(step)
