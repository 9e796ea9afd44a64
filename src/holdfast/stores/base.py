"""What the engine asks of a store; every store passes tests/stores.

Promises: `commit` is all or nothing and returns only after the sync; what it wrote is seen by every later read.
Refuses: to know what an entry or payload means. Bytes in, bytes out.

Keys: `n` is an invocation's number, given by the one engine that owns the store. Its low six bits are the
invocation's partition (`core.ids`), so every row that carries an `n` can be split over machines later without a
change of keys. Times are integer milliseconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from holdfast.errors import StoreForeign

# States of service "" are no object's: engine and stores keep there what they need from life to life.
CODED = ("", "", "codec")  # only where a codec wrote the bodies (stores/coded.py)


class InvocationRow(NamedTuple):
    """One invocation. Written at start and when its status moves, never per step."""

    n: int
    id: str
    target: str  # "Service/handler"
    status: int  # core.invocation.Status
    created: int
    updated: int
    seed: int  # of ctx.random; signed 64 bit
    wake_at: int | None  # earliest deadline of a suspended or queued invocation; never of a READY one
    input: bytes  # payload
    outcome: bytes | None  # how it ended, or why it is paused
    began: int | None = None  # when its handler began; None: not yet (queued, or paused before it began)
    key: str | None = None  # of an object or a workflow
    lock: str | None = None  # "Service/key": at most one begun and unfinished invocation of a lock
    lane: str | None = None  # the limit it is counted under
    parent: int | None = None  # n of the invocation that called or sent it
    call: str | None = None  # the parent's step that waits for it; None for a send
    build: str = ""
    origin: str | None = None  # "ID from STEP": what it was restarted or forked from
    in_queue: int = 0  # 1: paused while it waited for its turn; resumed, it waits for it again


class EntryRow(NamedTuple):
    """One journal entry. (n, seq) is unique: two writers of one invocation cannot both commit."""

    n: int
    seq: int  # 0, 1, 2, ... without gaps
    body: bytes


class KeyRow(NamedTuple):
    """All that is kept for a workflow's key: the promises of no invocation whose id is service, key and a name, with
    colons between and none in the name; values and lists."""

    service: str
    key: str


class RewriteRow(NamedTuple):
    """Deletes the entries of n from seq on: what follows is written anew."""

    n: int
    seq: int


class MoveRow(NamedTuple):
    """A change of an invocation's status. Of several in one batch the last counts, but a `began` is never lost."""

    n: int
    status: int
    updated: int
    wake_at: int | None
    outcome: bytes | None
    began: int | None = None  # None leaves it as it is
    in_queue: int = 0


class BlobRow(NamedTuple):
    """A large value, stored once per owner. Negative numbers are texts, positive ones list elements."""

    owner: int  # an invocation's n
    number: int
    digest: bytes  # 16 bytes
    body: bytes


class PromiseRow(NamedTuple):
    """A durable value that someone outside settles. Takes the place of one of that id that was withdrawn."""

    id: str
    n: int  # the invocation that waits for it
    created: int
    about: bytes  # name, question, form, deadline: core.entries.PromiseInfo
    status: int  # 0 open, 1 resolved, 2 rejected, 3 withdrawn
    settled: int | None
    value: bytes | None


class SettleRow(NamedTuple):
    """The settlement of an open promise."""

    id: str
    status: int  # 1 resolved, 2 rejected, 3 withdrawn: nobody waits any more
    settled: int
    value: bytes


class StateRow(NamedTuple):
    """One named value of an object. Takes the place of an older one."""

    service: str
    key: str
    name: str
    body: bytes | None  # None deletes it


class ItemRow(NamedTuple):
    """One element of a list that grows at its end."""

    service: str
    key: str
    name: str
    index: int  # type: ignore[assignment]  # the word for it; nobody asks a row for tuple.index
    body: bytes


class TrimRow(NamedTuple):
    """Deletes the elements of a list with an index below `before`."""

    service: str
    key: str
    name: str
    before: int


class WaiterRow(NamedTuple):
    """Invocation n waits for what `subject` names. Written twice it is there once."""

    subject: str
    n: int


class Batch(msgspec.Struct):
    """What one commit writes, in this order of tables; within a table in list order."""

    # Each n: the invocation, its entries, blobs, promises and who waits for it.
    purges: list[int] = msgspec.field(default_factory=list)
    forgets: list[KeyRow] = msgspec.field(default_factory=list)
    rewrites: list[RewriteRow] = msgspec.field(default_factory=list)
    starts: list[InvocationRow] = msgspec.field(default_factory=list)
    entries: list[EntryRow] = msgspec.field(default_factory=list)
    moves: list[MoveRow] = msgspec.field(default_factory=list)
    blobs: list[BlobRow] = msgspec.field(default_factory=list)
    promises: list[PromiseRow] = msgspec.field(default_factory=list)
    settles: list[SettleRow] = msgspec.field(default_factory=list)
    states: list[StateRow] = msgspec.field(default_factory=list)
    items: list[ItemRow] = msgspec.field(default_factory=list)
    trims: list[TrimRow] = msgspec.field(default_factory=list)
    waiters: list[WaiterRow] = msgspec.field(default_factory=list)
    unwaits: list[str] = msgspec.field(default_factory=list)  # subjects that nobody waits for any more

    def rows(self) -> int:
        """How many rows the commit writes."""
        return (
            len(self.purges)
            + len(self.forgets)
            + len(self.rewrites)
            + len(self.starts)
            + len(self.entries)
            + len(self.moves)
            + len(self.blobs)
            + len(self.promises)
            + len(self.settles)
            + len(self.states)
            + len(self.items)
            + len(self.trims)
            + len(self.waiters)
            + len(self.unwaits)
        )


class Store(Protocol):
    """A place that survives. One engine owns it at a time.

    `commit` and `maintain` may be called from the writer thread, one at a time and never while another is running.
    Reads are called from the engine's thread, also while a commit runs; they see whole commits only.
    Every method may raise a StoreError; after StoreFailed or StoreCorrupt from `commit` every later call raises it
    again and nothing more is written (G11).
    """

    def open(self) -> None:
        """Takes the lock, checks and migrates the schema. Raises StoreLocked, StoreTooNew, StoreReadOnly,
        StoreForeign, StoreCorrupt."""

    def close(self) -> None:
        """Releases everything. Safe to call twice."""

    def commit(self, batch: Batch) -> None:
        """Writes the whole batch in one transaction and syncs it. A duplicate (n, seq), n, id, (owner, number),
        index in a list or promise id (but of a withdrawn one of the same n), a move of an unknown n, or a settle of a
        promise that is not open is StoreFailed, and so is a READY invocation with a wake_at: the engine has a bug or a
        twin. StoreFull rolls back whole and leaves the store usable."""

    def maintain(self, idle: bool) -> bool:
        """Housekeeping between commits (checkpoints). `idle`: nothing has been committed for a while. Cheap enough to
        be called after every commit. True when there is more to do while it is idle still. A full disk only puts it
        off; a failed write or sync stops the store."""

    def last_number(self) -> int:
        """The largest n ever stored, also if it was purged since; 0 in a new store."""

    def find(self, id: str) -> InvocationRow | None:
        """The invocation with that id."""

    def get(self, n: int) -> InvocationRow | None:
        """The invocation with that number."""

    def entries(self, n: int, first: int = 0, limit: int | None = None) -> list[bytes]:
        """The journal's bodies in order of seq, from `first` on, `limit` of them at most."""

    def length(self, n: int) -> int:
        """The seq of the next entry: how many the journal has."""

    def counts(self) -> dict[int, int]:
        """How many invocations there are by status. Counts them all, 25 ms a million: for people, not
        for the engine."""

    def ready(self, limit: int) -> list[int]:
        """Numbers of invocations with status READY, and of those QUEUED for nothing (no wake_at, lock or lane),
        smallest n first. Not proportional to sleepers."""

    def due(self, until: int, limit: int) -> list[tuple[int, int]]:
        """(wake_at, n) of SUSPENDED and QUEUED invocations with wake_at <= until, earliest first, then by n."""

    def next_wake(self) -> int | None:
        """The earliest wake_at of a SUSPENDED or QUEUED invocation."""

    def holder(self, lock: str) -> int | None:
        """The invocation that has begun under a lock and is READY, SUSPENDED or PAUSED, but not in its queue."""

    def queued_for_lock(self, lock: str, limit: int) -> list[int]:
        """Numbers of invocations QUEUED for a lock, without wake_at, in order of (updated, n)."""

    def queued_for_lane(self, lane: str, after: tuple[int, int], limit: int) -> list[tuple[int, int]]:
        """(updated, n) of invocations QUEUED for a lane, without wake_at, in that order, from the first that is greater
        than `after`."""

    def queued_locks(self, after: str, limit: int) -> list[str]:
        """Locks greater than `after` that something is QUEUED for, without wake_at, sorted."""

    def queued_lanes(self, after: str, limit: int) -> list[str]:
        """The same for lanes."""

    def lane_running(self, lane: str) -> list[int]:
        """Numbers of the invocations of a lane that are READY or SUSPENDED, smallest first."""

    def children(self, n: int, limit: int) -> list[InvocationRow]:
        """What an invocation called or sent, smallest n first."""

    def ended_before(self, until: int, limit: int) -> list[int]:
        """Numbers of invocations that ended before `until`, oldest first, then by n; not those whose parent is stored
        and has not ended, or one that waits for their id, unless it is SUSPENDED; and not one that is called as its
        service and key, with a colon between, while another of that service and key has not ended."""

    def blob_digests(self, owner: int) -> list[tuple[int, bytes]]:
        """(number, digest) of all blobs of an owner."""

    def blobs(self, owner: int, first: int, last: int) -> list[tuple[int, bytes]]:
        """(number, body) with first <= number <= last, in order of number."""

    def promise(self, id: str) -> PromiseRow | None:
        """The promise with that id."""

    def promises_of(self, n: int) -> list[PromiseRow]:
        """All promises of an invocation, in order of creation."""

    def open_promises(self, limit: int) -> list[PromiseRow]:
        """Promises not settled yet, oldest `created` first, then in order of creation."""

    def state(self, service: str, key: str, name: str) -> bytes | None:
        """One value of an object."""

    def state_names(self, service: str, key: str, after: str = "", limit: int | None = None) -> list[str]:
        """Names of an object's values that are greater than `after`, sorted."""

    def object_keys(self, service: str, after: str, limit: int) -> list[str]:
        """Keys greater than `after` of the service's objects that have a value, sorted."""

    def items(self, service: str, key: str, name: str, first: int, end: int) -> list[tuple[int, bytes]]:
        """(index, body) with first <= index < end, in order of index."""

    def items_end(self, service: str, key: str, name: str) -> int:
        """The largest index + 1, 0 if there is no element."""

    def waiters(self, subject: str) -> list[int]:
        """Numbers of the invocations that wait for a subject, sorted."""

    def backup(self, path: Path) -> Iterator[None]:
        """Writes a consistent copy to `path`, which must not exist (UsageError). Yields after each slice of about a
        millisecond: commits may run between slices and are in the copy or not, whole. Runs where `commit` runs."""
        ...

    # Last, because below it `list[...]` would mean this method to a type checker.
    def list(
        self,
        *,
        status: int | None = None,
        target: str | None = None,
        key: str | None = None,
        parent: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[InvocationRow]:
        """Newest first; `before` is the last n of the page already seen. A target "Service/" means all its handlers."""


def refuse_coded(store: Store) -> None:
    """Raises StoreForeign for a store whose bodies a codec wrote and that is opened without one: it would pause every
    invocation that was running. The store that has the codec hides what is looked for."""
    if store.state(*CODED) is not None:
        raise StoreForeign(
            "the store was written with a codec",
            cause="the program was started without it",
            fix="give Holdfast the codec it was written with; nothing was changed",
        )
