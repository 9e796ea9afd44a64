"""One invocation in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.invocation import Status
from holdfast.core.machine import Machine
from holdfast.core.payload import BlobIndex
from holdfast.service import Handler

if TYPE_CHECKING:
    from holdfast.engine.effects import Body


class Resident:
    """What the engine holds of an invocation while it is not parked."""

    __slots__ = (
        "armed", "bodies", "created", "fresh", "handler", "id", "input", "length", "machine", "n", "pausing",
        "promises", "seed", "status", "text", "texts", "unsettled", "wake_at",
    )  # fmt: skip

    def __init__(
        self, n: int, id: str, handler: Handler, machine: Machine, *, seed: int, created: int, fresh: bool
    ) -> None:
        self.n = n
        self.id = id
        self.handler = handler
        self.machine = machine
        self.seed = seed
        self.created = created
        self.input = b""  # payload, of a fresh one
        self.text = b""  # of the input, JSON
        self.texts: BlobIndex | None = None  # None: not read from the store yet
        self.fresh = fresh  # its row is not in a batch yet
        self.length = 0  # of the journal; the next entry's seq
        self.status = Status.READY
        self.wake_at: int | None = None  # as the row has it
        self.armed: int | None = None  # a moment the timers will wake it; not after its next deadline
        self.bodies: dict[str, Body] = {}  # by step id; asked for and not completed
        self.promises: dict[str, str] = {}  # open ones: id within the invocation -> id everywhere
        self.unsettled = 0  # changes not durable yet; while there are any it is not parked
        self.pausing = False  # completions go to the journal only

    @property
    def busy(self) -> bool:
        """Whether a body is running or about to."""
        return bool(self.bodies)
