"""A store of plain dictionaries: what the other stores are compared with.

Promises: the same answers and the same errors as every store; rows committed stay for the next `open` of this object.
Refuses: to survive the process. Nothing reaches a disk, so it is for tests and simulations only.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Sequence
from pathlib import Path

from holdfast.core.invocation import Status
from holdfast.errors import StoreError, StoreFailed, StoreLocked, UsageError
from holdfast.stores.base import Batch, BlobRow, InvocationRow, PromiseRow

OPEN = 0  # PromiseRow.status


class MemoryStore:
    """Keeps everything in memory. `close` and `open` again stand for a crash and a restart in simulations.

    Scans instead of indexes: it is meant to be read and believed, not to be fast with many invocations.
    """

    def __init__(self) -> None:
        self._invocations: dict[int, InvocationRow] = {}
        self._entries: dict[int, dict[int, bytes]] = {}
        self._blobs: dict[tuple[int, int], BlobRow] = {}
        self._promises: dict[str, PromiseRow] = {}  # in order of creation
        self._is_open = False
        self._failure = ""

    def open(self) -> None:
        if self._is_open:
            raise StoreLocked(
                "this MemoryStore is open already",
                cause="two engines were given the same store object",
                fix="give each engine its own store, or close the first one",
            )
        self._is_open = True
        self._failure = ""

    def close(self) -> None:
        self._is_open = False
        self._failure = ""

    def commit(self, batch: Batch) -> None:
        self._check_open()
        self._failure = self._breach(batch)
        self._check_open()
        for start in batch.starts:
            self._invocations[start.n] = start
        for entry in batch.entries:
            self._entries.setdefault(entry.n, {})[entry.seq] = entry.body
        for move in batch.moves:
            self._invocations[move.n] = self._invocations[move.n]._replace(
                status=move.status, updated=move.updated, wake_at=move.wake_at, outcome=move.outcome
            )
        for blob in batch.blobs:
            self._blobs[blob.owner, blob.number] = blob
        for promise in batch.promises:
            self._promises[promise.id] = promise
        for settle in batch.settles:
            self._promises[settle.id] = self._promises[settle.id]._replace(
                status=settle.status, settled=settle.settled, value=settle.value
            )

    def maintain(self, idle: bool) -> None:  # noqa: ARG002 - there is nothing to tidy up
        self._check_open()

    def last_number(self) -> int:
        self._check_open()
        return max(self._invocations, default=0)

    def find(self, id: str) -> InvocationRow | None:
        self._check_open()
        return next((row for row in self._invocations.values() if row.id == id), None)

    def get(self, n: int) -> InvocationRow | None:
        self._check_open()
        return self._invocations.get(n)

    def entries(self, n: int) -> list[bytes]:
        self._check_open()
        return [body for _, body in sorted(self._entries.get(n, {}).items())]

    def ready(self, limit: int) -> list[int]:
        self._check_open()
        return sorted(row.n for row in self._invocations.values() if row.status == Status.READY)[:limit]

    def due(self, until: int, limit: int) -> list[tuple[int, int]]:
        self._check_open()
        return [(wake_at, n) for wake_at, n in self._sleepers() if wake_at <= until][:limit]

    def next_wake(self) -> int | None:
        self._check_open()
        return next((wake_at for wake_at, _ in self._sleepers()), None)

    def blob_digests(self, owner: int) -> list[tuple[int, bytes]]:
        self._check_open()
        return sorted((blob.number, blob.digest) for blob in self._blobs.values() if blob.owner == owner)

    def blobs(self, owner: int, first: int, last: int) -> list[tuple[int, bytes]]:
        self._check_open()
        return sorted(
            (blob.number, blob.body)
            for blob in self._blobs.values()
            if blob.owner == owner and first <= blob.number <= last
        )

    def promise(self, id: str) -> PromiseRow | None:
        self._check_open()
        return self._promises.get(id)

    def promises_of(self, n: int) -> list[PromiseRow]:
        self._check_open()
        return [row for row in self._promises.values() if row.n == n]

    def open_promises(self, limit: int) -> list[PromiseRow]:
        self._check_open()
        rows = [row for row in self._promises.values() if row.status == OPEN]
        return sorted(rows, key=lambda row: row.created)[:limit]  # the sort is stable: ties in order of creation

    def backup(self, path: Path) -> Iterator[None]:
        yield from ()  # makes this a generator, as the protocol says: the error comes with the first slice
        self._check_open()
        raise UsageError(
            f"cannot back up to {path}: this store is in memory",
            cause="MemoryStore keeps nothing on disk",
            fix="use a file store if the data is worth a backup",
        )

    def list(
        self, *, status: int | None = None, target: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[InvocationRow]:
        self._check_open()
        rows = [
            row
            for n, row in sorted(self._invocations.items(), reverse=True)
            if (status is None or row.status == status)
            and (target is None or row.target == target)
            and (before is None or n < before)
        ]
        return rows[:limit]

    def _check_open(self) -> None:
        if self._failure:
            raise StoreFailed(
                self._failure,
                cause="the engine has a bug, or two engines drive this store",
                fix="report it with this text; what was acknowledged is safe and is there after a restart",
            )
        if not self._is_open:
            raise StoreError("the store is not open", cause="it was closed, or never opened", fix="open it first")

    def _sleepers(self) -> Iterator[tuple[int, int]]:
        return iter(
            sorted(
                (row.wake_at, row.n)
                for row in self._invocations.values()
                if row.status == Status.SUSPENDED and row.wake_at is not None
            )
        )

    def _breach(self, batch: Batch) -> str:
        """The first rule of `Store.commit` the batch breaks, or nothing. Looks before anything is written."""
        numbers = [row.n for row in batch.starts]
        ids = [row.id for row in batch.starts]
        if _clash(numbers, self._invocations) or _clash(ids, {row.id for row in self._invocations.values()}):
            return "an invocation was started twice"
        if _clash([row[:2] for row in batch.entries], self._entry_keys(batch)):
            return "a journal entry was written twice"
        if not self._invocations.keys() | set(numbers) >= {row.n for row in batch.moves}:
            return "an invocation that does not exist was moved"
        if _clash([(row.owner, row.number) for row in batch.blobs], self._blobs):
            return "a blob was written twice"
        promises = [row.id for row in batch.promises]
        if _clash(promises, self._promises):
            return "a promise was made twice"
        still_open = {row.id for row in (*self._promises.values(), *batch.promises) if row.status == OPEN}
        settled = [row.id for row in batch.settles]
        if len(set(settled)) < len(settled) or not still_open.issuperset(settled):
            return "a promise that is not open was settled"
        return ""

    def _entry_keys(self, batch: Batch) -> set[tuple[int, int]]:
        return {(n, seq) for n in {row.n for row in batch.entries} for seq in self._entries.get(n, ())}


def _clash(new: Sequence[Hashable], stored: Container[Hashable]) -> bool:
    return len(set(new)) < len(new) or any(key in stored for key in new)
