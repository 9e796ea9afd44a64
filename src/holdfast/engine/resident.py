"""One invocation in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import entries as records
from holdfast.core.entries import Tried
from holdfast.core.ids import secret_name
from holdfast.core.invocation import Status
from holdfast.core.machine import Machine
from holdfast.core.payload import BlobIndex
from holdfast.engine.gates import Gate
from holdfast.engine.objects import ObjectState
from holdfast.errors import Unreadable
from holdfast.service import Handler
from holdfast.stores.base import InvocationRow, PromiseRow

if TYPE_CHECKING:
    from holdfast.engine.effects import Body


class Resident:
    """What the engine holds of an invocation while it is not parked."""

    __slots__ = (
        "armed", "begins", "bodies", "call", "fresh", "gate", "handler", "id", "key", "length", "machine", "n",
        "obeyed", "owes", "parent", "pausing", "promises", "resting", "row", "seed", "state", "status", "text",
        "texts", "tries", "unsettled", "wake_at",
    )  # fmt: skip

    def __init__(self, row: InvocationRow, handler: Handler, machine: Machine, gate: Gate, *, fresh: bool) -> None:
        self.row = row  # as it was started or loaded; status and what moves with it are in the fields below
        self.n = row.n
        self.id = row.id
        self.key = row.key
        self.seed = row.seed
        self.parent = row.parent
        self.call = row.call
        self.handler = handler
        self.machine = machine
        self.gate = gate
        self.state: ObjectState | None = None  # of an object's key
        self.text = b""  # its arguments, JSON
        self.texts: BlobIndex | None = None  # None: not read from the store yet
        self.fresh = fresh  # its row is not in a batch yet
        self.begins: int | None = None  # a beginning that is not in a batch yet, in milliseconds
        self.length = 0  # of the journal; the next entry's seq
        self.obeyed = -1  # of so many entries the deeds that followed were done; -1: it has not begun
        self.owes = False  # what its handler has asked for since waits for the next batch, and its row says so
        self.status = Status(row.status)
        self.wake_at = row.wake_at  # as the row has it
        self.armed: int | None = None  # a moment the timers will wake it; not after its next deadline
        self.bodies: dict[str, Body] = {}  # by step id; asked for and not completed
        self.resting: dict[str, Body] = {}  # those of them that wait long for their next attempt
        self.tries: dict[str, Tried] = {}  # of what is to be asked for again, as the row has it
        self.promises: dict[str, str] = {}  # open ones: id within the invocation -> id everywhere
        self.unsettled = 0  # changes not durable yet; while there are any it is not parked
        self.pausing = False  # completions go to the journal only

    @property
    def busy(self) -> bool:
        """Whether a body is running or about to."""
        return bool(self.bodies)

    def next_deadline(self) -> int | None:
        """When it goes on if nothing comes: its next timer, or the next attempt of a step."""
        timer = self.machine.next_deadline()
        moments = [body.next_at for body in self.resting.values()]
        return min(moments if timer is None else (*moments, timer), default=None)

    def local_of(self, row: PromiseRow) -> str:
        """The id within the invocation of one of its stored promises. Raises Unreadable."""
        info = records.decode_info(row.about)
        name = f"{info.step} {info.begun}" if info.begun else info.step
        times = range(self.machine.reopened + 1)
        if any(row.id == secret_name("prm_", self.seed, self.id, name, reopened) for reopened in times):
            return info.step
        # Taken as it is, the promise that it hides would be made again, and the store would stop for it.
        raise Unreadable(
            f"the stored promise {row.id!r} is said to be {name!r}, which has another id",
            cause="the stored bytes are damaged",
            fix="restore a backup; other invocations are not affected",
        )
