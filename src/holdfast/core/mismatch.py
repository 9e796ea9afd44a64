"""The report for code that takes another path than its journal (G3): both paths, where they part, the likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import unified_diff

from holdfast.core.entries import (
    CallCompleted,
    CallErrored,
    CancelRequested,
    Entry,
    PromiseSettled,
    Reopened,
    SignalArrived,
    StepBegun,
    StepCompleted,
    StepErrored,
    StepNotDone,
    StepUnknown,
    TimerFired,
)
from holdfast.core.ids import signal_id
from holdfast.errors import Mismatch

SHOWN = 6  # of each path, on either side of the place where they part
TIMER = "timer"
UNCHANGED = "; if the code is the same, its path depends on the clock, chance, a global or the order of a set"

_COMPLETES: dict[type, str] = {CallCompleted: "call", CallErrored: "call", PromiseSettled: "promise"}


def label(entry: Entry) -> str:
    """What an entry answers: the id the handler knew it by."""
    match entry:
        case StepCompleted() | StepErrored() | StepUnknown():
            return entry.step
        case TimerFired():
            return entry.timer
        case PromiseSettled():
            return entry.promise
        case CallCompleted() | CallErrored():
            return entry.call
        case CancelRequested():
            return "cancel"
        case SignalArrived():
            return signal_id(entry.name)
        case Reopened():
            return "retry"
        case StepBegun():
            return f"begun {entry.note}"
        case StepNotDone():
            return f"not done {entry.note}"
        case _:
            return entry.note


def kind_of(entry: Entry) -> str:
    """What kind of thing an entry completes."""
    return _COMPLETES.get(type(entry), "step")


def not_asked(entries: Sequence[Entry], index: int, waiting: Sequence[str]) -> Mismatch:
    """The journal completes something the code has not asked for."""
    recorded = label(entries[index])
    here = [id for id in waiting if _parts(id)[0] == _parts(recorded)[0]]
    near = [*here, *(id for id in waiting if id not in here)]
    if here and len(near) > SHOWN:  # what other tasks wait for says little
        near = here
    now = ", ".join(repr(id) for id in near[:SHOWN]) or "nothing"
    return _report(
        f"the journal's entry {index} completes {recorded!r}, but the code at that point waits for {now}",
        _why(recorded, {label(entry) for entry in entries}, [*here, *waiting]) + UNCHANGED,
        entries,
        index,
        near,
    )


def other_kind(entries: Sequence[Entry], index: int, waiting: Sequence[str], now: str) -> Mismatch:
    """The code asks for something else, such as a promise, where the journal has a step."""
    was = kind_of(entries[index])
    id = label(entries[index])
    return _report(
        f"{id!r} was recorded as a {was} (entry {index}), but is a {now} in the code now",
        f"a {was} was replaced by a {now} of the same name" + UNCHANGED,
        entries,
        index,
        [f"{id} as a {now}", *(other for other in waiting if other != id)],
    )


def other_arguments(entries: Sequence[Entry], index: int, waiting: Sequence[str]) -> Mismatch:
    """The code asks for the recorded step with other arguments."""
    return _report(
        f"step {label(entries[index])!r} was recorded with other arguments than the code gives it now (entry {index})",
        "an argument comes from the clock, from random numbers, from the order of a set or from a global, the code "
        "that makes it was edited, or steps of this name come in another order",
        entries,
        index,
        [f"{label(entries[index])} with other arguments", *(id for id in waiting if id != label(entries[index]))],
    )


def other_call(call: str, was: tuple[str, str | None], now: tuple[str, str | None]) -> Mismatch:
    """The code calls another handler or key where one that was called runs already, or gives it other arguments. Both
    as target and key."""
    recorded, here = (target if key is None else f"{target} of key {key!r}" for target, key in (was, now))
    differs = "gives it other arguments now" if was == now else f"calls {here} there now"
    return Mismatch(
        f"call {call!r} has begun {recorded}, but the code {differs}",
        cause="the call was edited, or what it is given comes from the clock, from random numbers or from a global",
        fix="put the old code back and resume, or start a new invocation; what was called goes on",
    )


def other_start(step: str) -> Mismatch:
    """The code asks for a step that was begun, and nobody knows what came of it, with other arguments."""
    return Mismatch(
        f"step {step!r} was begun with other arguments than the code gives it now",
        cause="an argument comes from the clock, from random numbers or from a global, or the code that makes it was "
        "edited",
        fix="put the old code back and resume, or start a new invocation; the step was not begun again",
    )


def ended_early(entries: Sequence[Entry], index: int, raised: str) -> Mismatch:
    """The handler is over and the journal is not; `raised` says what it raised, if anything."""
    return _report(
        f"the handler ended{raised}, but the journal goes on with {label(entries[index])!r} (entry {index})",
        "steps were removed from the code, or a condition came out otherwise than in the first run" + UNCHANGED,
        entries,
        index,
        ["the end"],
    )


def _why(recorded: str, known: set[str], waiting: Sequence[str]) -> str:
    branch, name, count = _parts(recorded)
    new = [id for id in waiting if id not in known and _parts(id)[1] != TIMER]
    here = [id for id in waiting if _parts(id)[0] == branch]
    if not waiting:
        return f"{recorded!r} was removed, or is asked for later than before"
    if name == TIMER:
        return "a sleep or a timeout was removed, or is set later than before"
    if any(_parts(id)[1] == name for id in here):
        return "a step of the same name was inserted or removed before it"
    if any(_parts(id)[1] == name for id in new):
        return "tasks are created in another order than before, or a step moved into another task"
    if any(_parts(id)[2] > 1 and _before(id) not in new for id in new):
        return "a loop goes round more often than before, or a step of the same name was inserted"
    if new:
        return f"{new[0]!r} was inserted before {recorded!r}, or is its new name"
    if here and all(_parts(id)[1] == TIMER for id in here):
        return f"a sleep was inserted before {recorded!r}"
    if count > 1:
        return "a loop goes round less often than before, or a step of the same name was removed"
    return f"{recorded!r} was removed, or now comes after {waiting[0]!r}"


def _parts(id: str) -> tuple[str, str, int]:
    path, _, count = id.rpartition("#")
    branch, _, name = path.rpartition("/")
    return branch, name, int(count) if count.isdecimal() else 0  # a damaged entry may say anything


def _before(id: str) -> str:
    """The one of the same name that was asked for before it."""
    path, _, count = id.rpartition("#")
    return f"{path}#{int(count) - 1}"


def _report(what: str, cause: str, entries: Sequence[Entry], index: int, waiting: Sequence[str]) -> Mismatch:
    first = max(0, index - SHOWN)
    done = [label(entry) for entry in entries[first:index]]
    to_come = [label(entry) for entry in entries[index : index + SHOWN]]
    now = waiting[:SHOWN]
    # What is recorded beyond the parting says nothing about the code, but for what the code has come to already.
    parting = max([1, *(place for place, id in enumerate(to_come, 1) if id in now)])
    diff = unified_diff([*done, *to_come[:parting]], [*done, *now], "recorded", "now", lineterm="")
    lines = [
        what,
        f"  recorded: {_path([*done, *to_come], first, len(entries) - index > SHOWN)}",
        f"  now:      {_path([*done, *now], first, len(waiting) > SHOWN)}",
        *(f"    {line}" for line in diff if not line.startswith("@@")),
    ]
    return Mismatch(
        "\n".join(lines),
        cause=cause,
        fix="put the old code back and resume, or start a new invocation; the journal was not changed",
    )


def _path(ids: Sequence[str], first: int, more: bool) -> str:
    return " > ".join([*(["..."] if first else []), *ids, *(["..."] if more else [])]) or "nothing"
