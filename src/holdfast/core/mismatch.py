"""The report for code that takes another path than its journal (G3): both paths, where they part, the likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import unified_diff

from holdfast.core.entries import CancelRequested, Entry, PromiseSettled, StepCompleted, StepErrored, TimerFired
from holdfast.errors import Mismatch

SHOWN = 12  # steps of each path around the place where they part


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


def not_asked(entries: Sequence[Entry], index: int, asked: Sequence[str], waiting: Sequence[str]) -> Mismatch:
    """The journal completes something the code has not asked for."""
    recorded = label(entries[index])
    now = ", ".join(repr(id) for id in waiting[:6]) or "nothing"
    return _report(
        f"the journal's entry {index} completes {recorded!r}, but the code at that point waits for {now}",
        _why(recorded, waiting),
        entries, index, asked,
    )  # fmt: skip


def other_arguments(entries: Sequence[Entry], index: int, asked: Sequence[str]) -> Mismatch:
    """The code asks for the recorded step with other arguments."""
    return _report(
        f"step {label(entries[index])!r} was recorded with other arguments than the code gives it now",
        "an argument comes from the clock, from random numbers, from the order of a set, from a global, or the code "
        "that makes it was edited",
        entries, index, asked,
    )  # fmt: skip


def ended_early(entries: Sequence[Entry], index: int, asked: Sequence[str]) -> Mismatch:
    """The handler is over and the journal is not."""
    return _report(
        f"the handler ended, but the journal goes on with {label(entries[index])!r} (entry {index})",
        "steps were removed from the code, or a condition came out otherwise than in the first run",
        entries, index, asked,
    )  # fmt: skip


def _why(recorded: str, waiting: Sequence[str]) -> str:
    if not waiting:
        return "a step was removed, or it is asked for later than before"
    same = [id for id in waiting if id.rpartition("#")[0] == recorded.rpartition("#")[0]]
    if same:
        return "a step of the same name was inserted or removed before it, or a loop runs another number of times"
    if {id.rpartition("/")[0] for id in waiting} != {recorded.rpartition("/")[0]}:
        return "tasks are created in another order than before, or a step moved into another task"
    return "a step was renamed, inserted or removed, or the path depends on the clock, random numbers or a set's order"


def _report(what: str, cause: str, entries: Sequence[Entry], index: int, asked: Sequence[str]) -> Mismatch:
    done = [label(entry) for entry in entries]
    first = max(0, index - SHOWN // 2)
    recorded = done[first : index + SHOWN // 2]
    past = set(done[:first])
    attempted = [id for id in asked if id not in past][:SHOWN]
    diff = list(unified_diff(recorded, attempted, "recorded (in order of completion)", "asked for now", lineterm=""))
    lines = [
        what,
        "  recorded: " + " > ".join(recorded),
        "  asked for now: " + (" > ".join(attempted) or "nothing"),
        *("    " + line for line in diff),
    ]
    return Mismatch(
        "\n".join(lines),
        cause=cause,
        fix="put the old code back and resume, or start a new invocation; the journal was not changed",
    )
