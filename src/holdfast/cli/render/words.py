"""Moments, spans, sizes and values in few characters.

Refuses: to let stored text steer the terminal. Control characters in it are shown as what they are.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.highlighter import JSONHighlighter
from rich.text import Text

from holdfast.engine.ports import SystemClock

_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
DATE_AFTER_SECONDS = 30 * 86_400

STATUS_STYLES = {
    "queued": "dim",
    "ready": "cyan",
    "running": "cyan",
    "suspended": "blue",
    "waiting": "blue",
    "retrying": "yellow",
    "checking": "cyan",
    "begun": "dim",
    "not done": "yellow",
    "unknown": "red",
    "paused": "yellow",
    "done": "green",
    "failed": "red",
    "cancelled": "magenta",
    "killed": "magenta",
}


def now() -> datetime:
    """The time on this machine, in UTC."""
    return datetime.fromtimestamp(SystemClock().now() / 1000, UTC)


def span(seconds: float) -> str:
    """A length of time: 12 ms, 3.4 s, 2 min 5 s, 3 h 10 min, 4 d 2 h."""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, name, small, smaller in _UNITS:
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {name} {rest} {smaller}" if rest else f"{whole // large} {name}"
    raise AssertionError(seconds)  # a minute or more fits one of them


def ago(moment: datetime, at: datetime) -> str:
    """When it was or will be, seen from `at`: 5 min ago, in 3 h 20 min; a date when that is a month or more away."""
    seconds = (at - moment).total_seconds()
    if abs(seconds) >= DATE_AFTER_SECONDS:
        return f"{moment.astimezone():%Y-%m-%d}"
    if abs(seconds) < 1:
        return "now"
    words = span(float(round(abs(seconds)))).replace(".0 s", " s").split()
    return f"{' '.join(words[:2])} ago" if seconds > 0 else f"in {' '.join(words)}"


def size(count: int) -> str:
    """Bytes: 812 B, 1.2 kB, 34 MB."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" or number >= 9.95 else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError(count)  # GB takes whatever is left


def json_text(value: Any) -> str:
    """A value as one line of JSON."""
    return msgspec.json.encode(value).decode()


def json_picture(value: Any) -> Text:
    """A value as JSON over several lines. Control characters stay escaped, so that it is still JSON."""
    spread = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    shown = "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in spread)
    return JSONHighlighter()(shown)


def clean(text: str) -> str:
    """The text without the power to move the cursor, ring or recolour."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


def first_line(text: str | None) -> str:
    """The line that says what happened."""
    return clean((text or "").strip().partition("\n")[0])


def status(word: str) -> Text:
    """A status in its colour."""
    return Text(clean(word), STATUS_STYLES.get(word, ""))


def waits(word: str, wake_at: datetime | None, at: datetime) -> str:
    """What is known of when it goes on; empty if that is not by the clock."""
    verb = {"suspended": "wakes", "queued": "begins"}.get(word)
    return f"{verb} {ago(wake_at, at)}" if verb and wake_at else ""
