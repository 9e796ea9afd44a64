"""What the admin face answers, as far as the command line looks at it.

Promises: a server that is a version ahead or behind can still be talked to: fields nobody knows are passed over, and
those that may be missing have a value. Refuses: to share classes with the engine, which would promise the opposite.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Raw, Struct

ENDED = frozenset({"done", "failed", "cancelled", "killed"})


class Event(NamedTuple):
    """Something that happened to an invocation. One that says nothing to come back to has no id."""

    id: str
    kind: str
    data: Any

    @property
    def ends(self) -> bool:
        """Whether nothing comes after it."""
        return self.kind == "status" and isinstance(self.data, dict) and self.data.get("status") in ENDED


class Queue(Struct):
    """What one waits for that has not begun."""

    waits_for: str = ""
    name: str | None = None
    holder: str | None = None
    ahead: int = 0


class Invocation(Struct):
    """One line of `list`, the head of `show`."""

    id: str
    target: str
    status: str
    created: datetime
    updated: datetime
    key: str | None = None
    began: datetime | None = None
    wake_at: datetime | None = None
    reason: str | None = None
    parent: str | None = None
    build: str | None = None
    origin: str | None = None
    input: Any = None
    output: Any = None
    queue: Queue | None = None
    details: str | None = None


class Page(Struct):
    """An answer of `list`. `next` is what to give as --before for the rest."""

    invocations: list[Invocation]
    next: str | None = None


class Keys(Struct):
    """An answer of `state keys`. `next` is what to give as --after for the rest."""

    keys: list[str]
    next: str | None = None


class Step(Struct):
    """One line of a journal. `id` names the step inside its invocation, `child` an invocation it called, `promise` a
    promise for everybody; `due` is when it is over, or tried again."""

    kind: str
    id: str
    state: str
    started: datetime | None = None
    finished: datetime | None = None
    tries: int = 1
    inputs: Any = None
    output: Any = None
    error: str | None = None
    large: bool = False
    child: str | None = None
    promise: str | None = None
    due: datetime | None = None
    details: str | None = None


class JournalPage(Struct):
    """A part of a journal. `next` is what to give as `after` for the rest."""

    steps: list[Raw]
    next: int | None = None


class Ask(Struct):
    """A question that waits for a person."""

    id: str
    invocation: str
    question: str
    created: datetime
    schema: dict[str, Any] = {}
    about: Any = None
    deadline: datetime | None = None


class Promise(Struct):
    """A promise, settled or not."""

    id: str
    status: str
    created: datetime
    invocation: str | None = None
    step: str | None = None
    question: str = ""
    schema: dict[str, Any] = {}
    about: Any = None
    deadline: datetime | None = None


class Schedule(Struct):
    """A handler that is started by the clock."""

    id: str
    target: str
    rule: str
    zone: str = "UTC"
    next_at: datetime | None = None
    last_at: datetime | None = None
    paused: bool = False


class Example(Struct):
    """A program that comes with Holdfast."""

    id: str
    module: str
    title: str


class Check(Struct):
    """What replaying one unfinished journal found."""

    id: str
    target: str
    ok: bool
    problem: str | None = None


class Handler(Struct):
    """A handler and the schemas of what it takes and gives."""

    target: str
    kind: str = "service"
    shared: bool = False
    main: bool = False
    doc: str | None = None
    arguments: dict[str, Any] = {}
    returns: dict[str, Any] = {}


class Info(Struct):
    """What a server says of itself."""

    version: str
    store: str = ""
    build: str | None = None
    uptime_seconds: float = 0.0
    counts: dict[str, int] = {}
    running: int = 0
    resident: int = 0
    services: list[str] = []


class Started(Struct):
    """The acknowledgement of a start."""

    id: str
    status: str = ""


class Rows(Struct):
    """What a query gave."""

    columns: list[str]
    rows: list[list[Any]]
    cut: bool = False


class Purged(Struct):
    """How many invocations are gone."""

    purged: int


class Copied(Struct):
    """A backup: its name in the store's folder, and its size."""

    path: str
    bytes: int = 0
