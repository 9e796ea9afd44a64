"""The states of an invocation and every move between them. Nothing else in Holdfast may change a status.

The chart in docs/states.md is made from TRANSITIONS by `python -m holdfast.core.invocation`.
"""

from __future__ import annotations

from enum import IntEnum

from holdfast.errors import WrongStatus


class Status(IntEnum):
    """Where an invocation stands. The numbers are stored: never renumber, only add."""

    READY = 0  # runs, or will as soon as there is room
    SUSPENDED = 1  # waits for a timer, a promise, a call, a signal or a step's next attempt; costs a row
    QUEUED = 2  # has not begun: waits for its time, its key or room
    PAUSED = 3  # waits for a person
    DONE = 4
    FAILED = 5
    CANCELLED = 6
    KILLED = 7  # ended at once, without its clean-up

    @property
    def ended(self) -> bool:
        """True when it has an outcome; that never changes (G6), unless a person opens a failed one again."""
        return self >= Status.DONE


class Move(IntEnum):
    """What can happen to an invocation as a whole."""

    SUSPEND = 0  # nothing is left to do before an event from outside
    WAKE = 1  # that event came
    PAUSE = 2  # a fault no retry can mend
    RESUME = 3  # a person says go on
    COMPLETE = 4
    FAIL = 5
    CANCEL = 6  # a cancel was asked for and the handler has ended, or never began
    BEGIN = 7  # its time has come, its key is free and there is room
    KILL = 8  # a person ended it
    REOPEN = 9  # a person tries a failed one again
    REQUEUE = 10  # a person says go on, and it has not begun
    REVIVE = 11  # a caller that had cancelled it by its failure is opened again


TRANSITIONS: dict[Status, dict[Move, Status]] = {
    Status.READY: {
        Move.SUSPEND: Status.SUSPENDED,
        Move.PAUSE: Status.PAUSED,
        Move.COMPLETE: Status.DONE,
        Move.FAIL: Status.FAILED,
        Move.CANCEL: Status.CANCELLED,
        Move.KILL: Status.KILLED,
    },
    Status.SUSPENDED: {Move.WAKE: Status.READY, Move.KILL: Status.KILLED},
    Status.QUEUED: {
        Move.BEGIN: Status.READY,
        Move.PAUSE: Status.PAUSED,
        Move.CANCEL: Status.CANCELLED,
        Move.KILL: Status.KILLED,
    },
    Status.PAUSED: {
        Move.RESUME: Status.READY,
        Move.REQUEUE: Status.QUEUED,
        Move.CANCEL: Status.CANCELLED,
        Move.KILL: Status.KILLED,
    },
    Status.DONE: {},
    Status.FAILED: {Move.REOPEN: Status.QUEUED},
    Status.CANCELLED: {Move.REVIVE: Status.QUEUED},
    Status.KILLED: {},
}


DONE_TO_IT = {
    Move.SUSPEND: "suspended",
    Move.WAKE: "woken",
    Move.PAUSE: "paused",
    Move.RESUME: "resumed",
    Move.COMPLETE: "completed",
    Move.FAIL: "failed",
    Move.CANCEL: "cancelled",
    Move.BEGIN: "begun",
    Move.KILL: "killed",
    Move.REOPEN: "retried",
    Move.REQUEUE: "queued again",
    Move.REVIVE: "opened again with its caller",
}


def move(status: Status, by: Move, id: str = "") -> Status:
    """The status after a move. Raises WrongStatus, which names `id`, when the table has no such move."""
    try:
        return TRANSITIONS[status][by]
    except KeyError:
        sources = " or ".join(source.name.lower() for source, moves in TRANSITIONS.items() if by in moves)
        which = f"invocation {id!r}" if id else "an invocation"
        raise WrongStatus(
            f"{which} is {status.name.lower()} and cannot be {DONE_TO_IT[by]}",
            cause=f"only a {sources} one can be {DONE_TO_IT[by]}; it may have moved on since it was last looked at",
            fix="look at its status again",
        ) from None


def chart() -> str:
    """The table as a Mermaid state chart."""
    lines = ["stateDiagram-v2", "    [*] --> QUEUED: start", "    [*] --> READY: start at once"]
    for source, moves in TRANSITIONS.items():
        lines += [f"    {source.name} --> {target.name}: {by.name.lower()}" for by, target in moves.items()]
        if source.ended:
            lines.append(f"    {source.name} --> [*]")
    return "\n".join(lines)


if __name__ == "__main__":
    print(chart())
