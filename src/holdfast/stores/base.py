"""What the engine asks of a store; every store passes tests/stores.

Promises: `commit` is all or nothing and returns only after the sync; what it wrote is seen by every later read.
Refuses: to know what an entry or payload means. Bytes in, bytes out.

Keys: `n` is an invocation's number, given by the one engine that owns the store. Its low six bits are the
invocation's partition (`core.ids`), so every row that carries an `n` can be split over machines later without a
change of keys. Times are integer milliseconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol


class InvocationRow(NamedTuple):
    """One invocation. Written at start and when its status moves, never per step."""

    n: int
    id: str
    target: str  # "Service/handler"
    status: int  # core.invocation.Status
    created: int
    updated: int
    seed: int  # of ctx.random; signed 64 bit
    wake_at: int | None  # earliest deadline of a suspended invocation
    input: bytes  # payload
    outcome: bytes | None  # how it ended, or why it is paused


class EntryRow(NamedTuple):
    """One journal entry. (n, seq) is unique: two writers of one invocation cannot both commit."""

    n: int
    seq: int  # 0, 1, 2, ... without gaps
    body: bytes


class MoveRow(NamedTuple):
    """A change of an invocation's status."""

    n: int
    status: int
    updated: int
    wake_at: int | None
    outcome: bytes | None


class BlobRow(NamedTuple):
    """A large value, stored once per owner. Negative numbers are texts, positive ones list elements."""

    owner: int  # an invocation's n
    number: int
    digest: bytes  # 16 bytes
    body: bytes


class PromiseRow(NamedTuple):
    """A durable value that someone outside settles."""

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


@dataclass(slots=True)
class Batch:
    """What one commit writes, in this order of tables; within a table in list order."""

    starts: list[InvocationRow] = field(default_factory=list)
    entries: list[EntryRow] = field(default_factory=list)
    moves: list[MoveRow] = field(default_factory=list)
    blobs: list[BlobRow] = field(default_factory=list)
    promises: list[PromiseRow] = field(default_factory=list)
    settles: list[SettleRow] = field(default_factory=list)
    bytes: int = 0  # of all bodies and payloads, kept by whoever adds rows

    def rows(self) -> int:
        """How many rows the commit writes."""
        return (
            len(self.starts)
            + len(self.entries)
            + len(self.moves)
            + len(self.blobs)
            + len(self.promises)
            + len(self.settles)
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
        """Writes the whole batch in one transaction and syncs it. A duplicate (n, seq), n, id, (owner, number) or
        promise id, a move of an unknown n, or a settle of a promise that is not open is StoreFailed: the engine has
        a bug or a twin. StoreFull rolls back whole and leaves the store usable."""

    def maintain(self, idle: bool) -> None:
        """Housekeeping between commits (checkpoints). `idle`: nothing has been committed for a while. Cheap enough to
        be called after every commit. A full disk only puts it off; a failed write or sync stops the store."""

    def last_number(self) -> int:
        """The largest n ever stored, 0 in a new store."""

    def find(self, id: str) -> InvocationRow | None:
        """The invocation with that id."""

    def get(self, n: int) -> InvocationRow | None:
        """The invocation with that number."""

    def entries(self, n: int) -> list[bytes]:
        """The journal's bodies in order of seq."""

    def ready(self, limit: int) -> list[int]:
        """Numbers of invocations with status READY, smallest n first. Not proportional to sleepers."""

    def due(self, until: int, limit: int) -> list[tuple[int, int]]:
        """(wake_at, n) of SUSPENDED invocations with wake_at <= until, earliest first, then by n."""

    def next_wake(self) -> int | None:
        """The earliest wake_at of a SUSPENDED invocation."""

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

    def backup(self, path: Path) -> Iterator[None]:
        """Writes a consistent copy to `path`, which must not exist (UsageError). Yields after each slice of about a
        millisecond: commits may run between slices and are in the copy or not, whole. Runs where `commit` runs."""
        ...

    # Last, because below it `list[...]` would mean this method to a type checker.
    def list(
        self, *, status: int | None = None, target: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[InvocationRow]:
        """Newest first; `before` is the last n of the page already seen."""
