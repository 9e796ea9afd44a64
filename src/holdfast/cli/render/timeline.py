"""A journal as a timeline: when each thing began, how long it took as a bar, what came of it, children below their
caller.

Promises: the order of the journal, which is the order of replay. Refuses: to show more of a value than a line has room
for, unless asked to.
"""

from __future__ import annotations

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
    if run.head.status == "paused":
        return f"mend the cause, then: holdfast resume {id}"
    if run.head.status == "failed":
        return f"to go on at the point where it failed: holdfast retry {id}"
    if any(_asks(step) for step in run.steps):
        return "to answer: holdfast asks"
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
    for name, value in rows:
        line = Text.assemble((f"{name:<9}", "dim"), clean(value))
        yield line if full else Line(line)
    if head.reason:
        first, *rest = clean(head.reason.strip()).splitlines()
        yield Text.assemble(("reason   ", "dim"), (first, STATUS_STYLES.get(head.status, "")))
        yield from (Text(line) for line in rest)


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
        yield _row(step, begin, total, at, depth)
        if child is not None:
            yield from _rows(child, begin, total, at, depth=depth + 1)


def _row(step: wire.Step, begin: datetime, total: float, at: datetime, depth: int) -> tuple[Text, ...]:
    finish = step.finished or at
    start = step.started or finish
    style = STATUS_STYLES.get(step.state, "")
    first, last = (start - begin).total_seconds(), (finish - begin).total_seconds()
    return (
        Text(f"+{span(max(0.0, first))}", "dim"),
        Text(bar(first / total, last / total), style),
        Text(span(last - first) if step.started else ""),
        Text(INDENT * depth + clean(step.id)),
        _state(step, style),
        Text(size(len(json_text(step.output).encode())) if step.output is not None else "", "dim"),
        _outcome(step),
    )


def bar(start: float, end: float) -> str:
    """Where in the whole, from 0 to 1, it lies: at least one cell."""
    first = min(BAR_CELLS - 1, max(0, int(start * BAR_CELLS)))
    last = min(BAR_CELLS, max(first + 1, round(end * BAR_CELLS)))
    return " " * first + "━" * (last - first) + " " * (BAR_CELLS - last)


def _state(step: wire.Step, style: str) -> Text:
    words = ["" if step.state == "done" else clean(step.state), f"{step.tries} tries" if step.tries > 1 else ""]
    return Text(", ".join(word for word in words if word), style if step.state != "done" else "yellow")


def _outcome(step: wire.Step) -> Text:
    if step.error:
        return Text(first_line(step.error), "red" if step.state == "failed" else "yellow")
    if step.output is not None:
        return Text(clean(json_text(step.output)))
    if _asks(step):
        return Text(clean(f"asks: {step.inputs[0]}"))
    return Text(clean(step.child), "dim") if step.child else Text()


def _asks(step: wire.Step) -> bool:
    return step.kind == "promise" and step.state == "waiting" and isinstance(step.inputs, list) and bool(step.inputs)


def whole(step: wire.Step) -> RenderableType:
    """`holdfast show ID --step STEP`, and each step of `--full`: what it was asked and gave, uncut."""
    text = Text.assemble((clean(step.id), "bold"), "  ", status(step.state))
    if step.tries > 1:
        text.append(f", {step.tries} tries")
    if step.started and step.finished:
        text.append(f", {span((step.finished - step.started).total_seconds())}", "dim")
    for name, value in (("asked", step.inputs), ("gave", step.output), ("error", step.error)):
        if value is not None:
            text.append(f"\n{name:<9}", "dim")
            text.append(clean(str(value) if name == "error" else json_text(value)))
    return text


def _values(run: Run) -> Iterator[RenderableType]:
    for step in run.steps:
        yield Text()
        yield whole(step)
