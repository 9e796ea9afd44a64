"""What an outside observer sees of a world: commits, answers to clients, runs of bodies, ends of lives. In order, and
hashed, so that two runs can be compared by one line."""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from holdfast.stores.base import Batch


class Committed(NamedTuple):
    """Rows became durable. The n-th of its kind is commit n, from 1."""

    at: float
    life: int
    wall: int  # the latest so far
    batch: Batch


class Refused(NamedTuple):
    """The store did not take a batch."""

    at: float
    life: int
    commits: int
    code: str
    what: str


class Answered(NamedTuple):
    """A client was told that something is so: `call` is start, settle, cancel, resume."""

    at: float
    life: int
    commits: int
    call: str
    id: str
    value: Any


class Seen(NamedTuple):
    """A client saw how an invocation stands at its end, or at a pause."""

    at: float
    life: int
    commits: int
    id: str
    kind: str  # returned, failed, cancelled, paused
    value: str


class BodyBegan(NamedTuple):
    """One attempt of a step's body."""

    at: float
    life: int
    commits: int
    id: str
    step: str
    key: str
    attempt: int
    running: int  # bodies at once, this one too
    late: bool  # its engine has said already that it failed; a thread cannot know, and is never late
    wall: int  # the latest so far


class BodyEnded(NamedTuple):
    """The same attempt is over."""

    at: float
    life: int
    commits: int
    id: str
    step: str
    attempt: int
    how: str


class LifeBegan(NamedTuple):
    """An engine has started on the store."""

    at: float
    life: int
    commits: int
    wall: int
    edit: str
    missing: str  # the handler that its program lacks
    rests: bool


class LifeStops(NamedTuple):
    """The engine is told to stop: no timer fires from here on."""

    at: float
    life: int
    commits: int


class LifeEnded(NamedTuple):
    """`how` is stopped, crashed, failed (after a failed commit) or late (the calm life never came to rest)."""

    at: float
    life: int
    commits: int
    wall: int
    how: str


class Rotted(NamedTuple):
    """Bytes of one invocation were damaged between lives."""

    at: float
    life: int
    commits: int
    id: str
    kind: str


Event = Committed | Refused | Answered | Seen | BodyBegan | BodyEnded | LifeBegan | LifeStops | LifeEnded | Rotted


@dataclass
class Sights:
    """What watchers of one invocation saw, one after another, each from where the last had come to."""

    place: str | None = None  # the last event's id
    events: list[tuple[str, str]] = field(default_factory=list)  # kind, and the id within the invocation
    to_the_end: bool = False


@dataclass(frozen=True)
class Breach:
    """A promise that was not kept."""

    promise: str  # G1 to G11
    what: str
    check: str = ""  # that found it; none: seen while the world ran

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


@dataclass
class History:
    """All of it."""

    events: list[Event] = field(default_factory=list)
    commits: int = 0
    checking: str = ""  # the check that runs now
    breaches: list[Breach] = field(default_factory=list)
    _hash: Any = field(default_factory=lambda: blake2b(digest_size=8))

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.commits += isinstance(event, Committed)
        self._hash.update(repr(event).encode("utf-8", "backslashreplace"))

    def broken(self, promise: str, what: str) -> None:
        breach = Breach(promise, what, self.checking)
        if breach not in self.breaches:
            self.breaches.append(breach)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def trace(self) -> str:
        """The same for the same seed, whatever process runs it."""
        return self._hash.hexdigest()
