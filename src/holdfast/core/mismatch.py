"""The report for code that takes another path than its journal (G3): both paths, where they part, the likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import unified_diff

from holdfast.core.entries import CancelRequested, Entry, PromiseSettled, StepCompleted, StepErrored, TimerFired
from holdfast.errors import Mismatch

SHOWN = 6  # of each path, on either side of the place where they part


def label(entry: Entry) -> str:
    """What an entry answers: the id the handler knew it by."""
    match entry:
        case StepCompleted() | StepErrored():
            return entry.step
        case TimerFired():
            return entry.timer
        case PromiseSettled():
            return entry.promise
        case CancelRequested():
            return "cancel"


def not_asked(entries: Sequence[Entry], index: int, waiting: Sequence[str]) -> Mismatch:
    """The journal completes something the code has not asked for."""
    now = ", ".join(repr(id) for id in waiting[-SHOWN:]) or "nothing"
    return _report(
        f"the journal's entry {index} completes {label(entries[index])!r}, but the code at that point waits for {now}",
        _why(entries, index, waiting),
        entries,
        index,
        waiting,
    )


def other_kind(entries: Sequence[Entry], index: int, waiting: Sequence[str]) -> Mismatch:
    """The code asks for a promise where the journal has a step, or the other way round."""
    was, now = ("promise", "step") if isinstance(entries[index], PromiseSettled) else ("step", "promise")
    return _report(
        f"{label(entries[index])!r} was recorded as a {was} (entry {index}), but is a {now} in the code now",
        f"a {was} was replaced by a {now} of the same name",
        entries,
        index,
        waiting,
    )


def other_arguments(entries: Sequence[Entry], index: int, waiting: Sequence[str]) -> Mismatch:
    """The code asks for the recorded step with other arguments."""
    return _report(
        f"step {label(entries[index])!r} was recorded with other arguments than the code gives it now (entry {index})",
        "an argument comes from the clock, from random numbers, from the order of a set or from a global, the code "
        "that makes it was edited, or steps of this name come in another order",
        entries,
        index,
        [*(id for id in waiting if id != label(entries[index])), f"{label(entries[index])} with other arguments"],
    )


def ended_early(entries: Sequence[Entry], index: int) -> Mismatch:
    """The handler is over and the journal is not."""
    return _report(
        f"the handler ended, but the journal goes on with {label(entries[index])!r} (entry {index})",
        "steps were removed from the code, or a condition came out otherwise than in the first run",
        entries,
        index,
        ["the end"],
    )


def _why(entries: Sequence[Entry], index: int, waiting: Sequence[str]) -> str:
    recorded = label(entries[index])
    branch, name, count = _parts(recorded)
    known = {label(entry) for entry in entries}
    new = [id for id in waiting if id not in known and _parts(id)[1] != "timer"]
    if not waiting:
        return "a step was removed, or it is asked for later than before"
    if name == "timer":
        return "a sleep or a timeout was removed, or it is set later than before"
    if any(_parts(id)[:2] == (branch, name) for id in waiting):
        return "a step of the same name was inserted or removed before it"
    if any(_parts(id)[1] == name for id in new):
        return "tasks are created in another order than before, or a step moved into another task"
    if any(_parts(id)[2] > 1 for id in new):
        return "a loop goes round more often than before"
    if new:
        return f"{new[-1]!r} was inserted before it, or is its new name"
    if count > 1:
        return "a loop goes round less often than before"
    return "it was removed, or it now comes after what the code waits for"


def _parts(id: str) -> tuple[str, str, int]:
    path, _, count = id.rpartition("#")
    branch, _, name = path.rpartition("/")
    return branch, name, int(count or 0)


def _report(what: str, cause: str, entries: Sequence[Entry], index: int, waiting: Sequence[str]) -> Mismatch:
    first = max(0, index - SHOWN)
    done = [label(entry) for entry in entries[first:index]]
    recorded = [*done, *(label(entry) for entry in entries[index : index + SHOWN])]
    now = [*done, *waiting[-SHOWN:]]
    lines = [
        what,
        f"  recorded: {_path(recorded, first, len(entries) - index > SHOWN)}",
        f"  now:      {_path(now, first, len(waiting) > SHOWN)}",
        *(f"    {line}" for line in unified_diff(recorded, now, "recorded", "now", lineterm="")),
    ]
    return Mismatch(
        "\n".join(lines),
        cause=cause,
        fix="put the old code back and resume, or start a new invocation; the journal was not changed",
    )


def _path(ids: Sequence[str], first: int, more: bool) -> str:
    return " > ".join([*(["..."] if first else []), *ids, *(["..."] if more else [])]) or "nothing"
