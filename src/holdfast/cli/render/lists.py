"""Lists: one line for each thing, the column that gives way last."""

from __future__ import annotations

from datetime import datetime

from rich.console import RenderableType
from rich.text import Text

from holdfast.cli import wire
from holdfast.cli.render.layout import Columns
from holdfast.cli.render.words import ago, clean, first_line, json_text, now, span, status, waits
from holdfast.cli.schemas import fields, follow, name_of


def _no(what: str) -> Text:
    return Text(f"no {what}", "dim")


def invocations(rows: list[wire.Invocation]) -> RenderableType:
    """`holdfast list`."""
    at = now()
    cells = [
        (row.id, row.target, row.key or "", status(row.status), ago(row.created, at), _took(row), _why(row, at))
        for row in rows
    ]
    return (
        Columns(("ID", "TARGET", "KEY", "STATUS", "STARTED", "TOOK", "WHY"), cells, elastic=6)
        if rows
        else _no("invocations")
    )


def _took(row: wire.Invocation) -> str:
    return span((row.updated - (row.began or row.created)).total_seconds()) if row.status in wire.ENDED else ""


def _why(row: wire.Invocation, at: datetime) -> str:
    return first_line(row.reason) if row.reason else waits(row.status, row.wake_at, at)


def asks(rows: list[wire.Ask]) -> RenderableType:
    """`holdfast asks`."""
    at = now()
    cells = [
        (
            row.id, row.invocation, ago(row.created, at), ago(row.deadline, at) if row.deadline else "",
            first_line(row.question),
        )
        for row in rows
    ]  # fmt: skip
    return (
        Columns(("ID", "INVOCATION", "ASKED", "ENDS", "QUESTION"), cells, elastic=4) if rows else _no("open questions")
    )


def promises(rows: list[wire.Promise]) -> RenderableType:
    """`holdfast promises`."""
    at = now()
    cells = [
        (
            row.id, row.invocation or "", row.step or "", ago(row.created, at),
            ago(row.deadline, at) if row.deadline else "", name_of(row.schema, row.schema), first_line(row.question),
        )
        for row in rows
    ]  # fmt: skip
    heads = ("ID", "INVOCATION", "STEP", "MADE", "ENDS", "TYPE", "QUESTION")
    return Columns(heads, cells, elastic=6) if rows else _no("open promises")


def schedules(rows: list[wire.Schedule]) -> RenderableType:
    """`holdfast schedules list`."""
    at = now()
    cells = [
        (
            row.id, row.target, row.rule if row.zone == "UTC" else f"{row.rule} {row.zone}",
            Text("paused", "yellow") if row.paused else ago(row.next_at, at) if row.next_at else "",
            ago(row.last_at, at) if row.last_at else "",
        )
        for row in rows
    ]  # fmt: skip
    return Columns(("ID", "TARGET", "RULE", "NEXT", "LAST"), cells) if rows else _no("schedules")


def examples(rows: list[wire.Example]) -> RenderableType:
    """`holdfast examples`."""
    cells = [(row.id, f"python -m {row.module}", row.title) for row in rows]
    return Columns(("ID", "COMMAND", "WHAT IT SHOWS"), cells, elastic=2) if rows else _no("examples")


def handlers(rows: list[wire.Handler]) -> RenderableType:
    """`holdfast handlers`."""
    cells = [
        (row.target, _kind(row), _takes(row), name_of(row.returns, row.returns), first_line(row.doc)) for row in rows
    ]
    return Columns(("TARGET", "KIND", "TAKES", "GIVES", "WHAT IT DOES"), cells, elastic=4) if rows else _no("handlers")


def _kind(row: wire.Handler) -> str:
    if row.kind == "workflow" and row.main:
        return "workflow"
    return f"{row.kind}, shared" if row.shared else row.kind


def _takes(row: wire.Handler) -> str:
    top = follow(row.arguments, row.arguments)
    required = top.get("required", [])
    return ", ".join(
        f"{name if name in required else f'[{name}]'}: {name_of(kind, row.arguments)}"
        for name, kind in (fields(top) or {}).items()
    )


def checks(rows: list[wire.Check]) -> RenderableType:
    """`holdfast check`: those that would break, and how many would not."""
    broken = [row for row in rows if not row.ok]
    text = Text()
    for row in broken:
        text.append(f"{clean(row.id)}  {clean(row.target)}\n", "bold red")
        text.append("".join(f"  {line}\n" for line in clean(row.problem or "").splitlines()))
    fine = len(rows) - len(broken)
    text.append(f"{fine} of {len(rows)} unfinished invocations go on under this code", "red" if broken else "green")
    return text


def keys(rows: list[str]) -> RenderableType:
    """`holdfast state keys`."""
    return Text("\n".join(clean(row) for row in rows)) if rows else _no("keys")


def state(values: dict[str, object]) -> RenderableType:
    """`holdfast state show`."""
    cells = [(name, json_text(value)) for name, value in values.items()]
    return Columns(("NAME", "VALUE"), cells, elastic=1) if values else _no("state")


def rows(found: wire.Rows) -> RenderableType:
    """`holdfast sql`."""
    cells = [[_cell(value) for value in row] for row in found.rows]
    return Columns(found.columns, cells, elastic=len(found.columns) - 1) if cells else _no("rows")


def _cell(value: object) -> Text:
    if value is None:
        return Text("null", "dim")
    return Text(first_line(value) if isinstance(value, str) else json_text(value))
