"""Events as lines: one for each thing that happened, and tokens run on as they come.

Promises: no status is told as older than what came before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.text import Text

from holdfast.cli import wire
from holdfast.cli.render.words import STATUS_STYLES, ago, clean, first_line, json_text, now, span, status

TIME_CHARS = 12


class Picture:
    """The lines of one invocation; times count from its beginning."""

    def __init__(self, head: wire.Invocation) -> None:
        self._begin = head.began or head.created
        self._last = self._begin

    def line(self, event: wire.Event, questions: Sequence[str] = ()) -> Text:
        """The line for an event that is no chunk. `questions` are those that wait for a person."""
        data: dict[str, Any] = event.data if isinstance(event.data, dict) else {"value": event.data}
        at = now() if event.kind == "attempt" else _moment(data)
        if event.kind == "status":  # stored when it was entered; entries may have come since, under the same one
            at = max(at, self._last)
        self._last = max(at, self._last)
        text = Text(f"+{span(max(0.0, (at - self._begin).total_seconds()))}".rjust(TIME_CHARS) + "  ", "dim")
        match event.kind:
            case "status":
                text.append_text(status(str(data.get("status", ""))))
                if data.get("reason"):
                    text.append(f"  {first_line(data['reason'])}")
                if questions:
                    more = f" and {len(questions) - 1} more" if len(questions) > 1 else ""
                    text.append(f"  asks: {first_line(questions[0])}{more}  (holdfast answer)")
            case "attempt":
                _attempt(text, msgspec.convert(data, wire.Step))
            case "emit":
                text.append(clean(told(data.get("output"))), "italic")
            case _:
                _step(text, msgspec.convert({"kind": event.kind, "state": "done", "id": event.kind, **data}, wire.Step))
        return text


def told(value: Any) -> str:
    """What a handler or a body told its watchers: a text as it is, or JSON."""
    return value if isinstance(value, str) else json_text(value)


def _attempt(text: Text, step: wire.Step) -> None:
    text.append(f"{clean(step.id)}  attempt {step.tries} failed", STATUS_STYLES["retrying"])
    again = f"; tried again {ago(step.due, now())}" if step.due else ""
    text.append(f"  {first_line(step.error)}{again}")


def _step(text: Text, step: wire.Step) -> None:
    text.append(clean(step.id))
    if step.started and step.finished:
        text.append(f"  {span((step.finished - step.started).total_seconds())}", "dim")
    if step.state != "done":
        text.append(f"  {clean(step.state)}", STATUS_STYLES.get(step.state, ""))
    outcome = step.error or ("" if step.output is None else json_text(step.output))
    if outcome:
        text.append(f"  {first_line(outcome)}")


def _moment(data: dict[str, Any]) -> datetime:
    for name in ("finished", "started", "at", "updated"):
        if data.get(name):
            return msgspec.convert(data[name], datetime)
    return now()
