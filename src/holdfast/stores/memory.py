"""A store of plain dictionaries: what the other stores are compared with.

Promises: the same answers and the same errors as every store; rows committed stay for the next `open` of this object.
Refuses: to survive the process. Nothing reaches a disk, so it is for tests and simulations only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Hashable, Iterator, Sequence
from pathlib import Path

from holdfast.core.invocation import Status
from holdfast.errors import StoreError, StoreFailed, StoreLocked, UsageError
from holdfast.stores.base import Batch, BlobRow, InvocationRow, KeyRow, MoveRow, PromiseRow

OPEN, WITHDRAWN = 0, 3  # PromiseRow.status
HOLDS = (Status.READY, Status.SUSPENDED, Status.PAUSED)
RUNS = (Status.READY, Status.SUSPENDED)
SLEEPS = (Status.SUSPENDED, Status.QUEUED)


class MemoryStore:
    """Keeps everything in memory. `close` and `open` again stand for a crash and a restart in simulations.

    Scans instead of indexes: it is meant to be read and believed, not to be fast with many invocations.
    """

    def __init__(self) -> None:
        self._invocations: dict[int, InvocationRow] = {}
        self._entries: dict[int, dict[int, bytes]] = {}
        self._blobs: dict[tuple[int, int], BlobRow] = {}
        self._promises: dict[str, PromiseRow] = {}  # in order of creation
        self._states: dict[tuple[str, str, str], bytes] = {}
        self._items: dict[tuple[str, str, str, int], bytes] = {}
        self._waiters: set[tuple[str, int]] = set()
        self._last_number = 0
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
        self._write_invocations(batch)
        self._write_objects(batch)

    def _write_invocations(self, batch: Batch) -> None:
        for n in batch.purges:
            self._purge(n)
        for forgotten in batch.forgets:
            self._forget(forgotten)
        for rewrite in batch.rewrites:
            journal = self._entries.get(rewrite.n, {})
            self._entries[rewrite.n] = {seq: body for seq, body in journal.items() if seq < rewrite.seq}
        for start in batch.starts:
            self._invocations[start.n] = start
            self._last_number = max(self._last_number, start.n)
        for entry in batch.entries:
            self._entries.setdefault(entry.n, {})[entry.seq] = entry.body
        for move in batch.moves:
            self._move(move)
        for blob in batch.blobs:
            self._blobs[blob.owner, blob.number] = blob
        for promise in batch.promises:
            self._promises[promise.id] = promise
        for settle in batch.settles:
            self._promises[settle.id] = self._promises[settle.id]._replace(
                status=settle.status, settled=settle.settled, value=settle.value
            )

    def _write_objects(self, batch: Batch) -> None:
        for state in batch.states:
            if state.body is None:
                self._states.pop(state[:3], None)
            else:
                self._states[state[:3]] = state.body
        for item in batch.items:
            self._items[item[:4]] = item.body
        for trim in batch.trims:
            for key in [key for key in self._items if key[:3] == trim[:3] and key[3] < trim.before]:
                del self._items[key]
        for waiter in batch.waiters:
            self._waiters.add((waiter.subject, waiter.n))
        self._waiters = {waiter for waiter in self._waiters if waiter[0] not in batch.unwaits}

    def _purge(self, n: int) -> None:
        row = self._invocations.pop(n, None)
        self._entries.pop(n, None)
        self._blobs = {key: blob for key, blob in self._blobs.items() if blob.owner != n}
        self._promises = {id: promise for id, promise in self._promises.items() if promise.n != n}
        self._waiters = {waiter for waiter in self._waiters if row is None or waiter[0] != row.id}

    def _forget(self, key: KeyRow) -> None:
        self._promises = {id: promise for id, promise in self._promises.items() if not _is_named(promise, key)}
        self._states = {at: body for at, body in self._states.items() if at[:2] != key}
        self._items = {at: body for at, body in self._items.items() if at[:2] != key}

    def _move(self, move: MoveRow) -> None:
        row = self._invocations[move.n]
        self._invocations[move.n] = row._replace(
            status=move.status,
            updated=move.updated,
            wake_at=move.wake_at,
            outcome=move.outcome,
            began=row.began if move.began is None else move.began,
            in_queue=move.in_queue,
        )

    def maintain(self, idle: bool) -> bool:  # noqa: ARG002 - there is nothing to tidy up
        self._check_open()
        return False

    def last_number(self) -> int:
        self._check_open()
        return self._last_number

    def find(self, id: str) -> InvocationRow | None:
        self._check_open()
        return next((row for row in self._invocations.values() if row.id == id), None)

    def get(self, n: int) -> InvocationRow | None:
        self._check_open()
        return self._invocations.get(n)

    def entries(self, n: int, first: int = 0, limit: int | None = None) -> list[bytes]:
        self._check_open()
        return [body for seq, body in sorted(self._entries.get(n, {}).items()) if seq >= first][:limit]

    def length(self, n: int) -> int:
        self._check_open()
        return max(self._entries.get(n, {}), default=-1) + 1

    def counts(self) -> dict[int, int]:
        self._check_open()
        return dict(sorted(Counter(row.status for row in self._invocations.values()).items()))

    def ready(self, limit: int) -> list[int]:
        self._check_open()
        rows = [
            row
            for row in self._invocations.values()
            if row.status == Status.READY or (_queued(row) and row.lock is None and row.lane is None)
        ]
        return sorted(row.n for row in rows)[:limit]

    def due(self, until: int, limit: int) -> list[tuple[int, int]]:
        self._check_open()
        return [(wake_at, n) for wake_at, n in self._sleepers() if wake_at <= until][:limit]

    def next_wake(self) -> int | None:
        self._check_open()
        return next((wake_at for wake_at, _ in self._sleepers()), None)

    def holder(self, lock: str) -> int | None:
        self._check_open()
        rows = [row for row in self._invocations.values() if row.lock == lock and row.began is not None]
        return min((row.n for row in rows if row.status in HOLDS and not row.in_queue), default=None)

    def queued_for_lock(self, lock: str, limit: int) -> list[int]:
        self._check_open()
        rows = [row for row in self._invocations.values() if row.lock == lock and _queued(row)]
        return [n for _, n in sorted((row.updated, row.n) for row in rows)][:limit]

    def queued_for_lane(self, lane: str, after: tuple[int, int], limit: int) -> list[tuple[int, int]]:
        self._check_open()
        places = [(row.updated, row.n) for row in self._invocations.values() if row.lane == lane and _queued(row)]
        return sorted(place for place in places if place > after)[:limit]

    def queued_locks(self, after: str, limit: int) -> list[str]:
        self._check_open()
        locks = {row.lock for row in self._invocations.values() if row.lock is not None and _queued(row)}
        return sorted(lock for lock in locks if lock > after)[:limit]

    def queued_lanes(self, after: str, limit: int) -> list[str]:
        self._check_open()
        lanes = {row.lane for row in self._invocations.values() if row.lane is not None and _queued(row)}
        return sorted(lane for lane in lanes if lane > after)[:limit]

    def lane_running(self, lane: str) -> list[int]:
        self._check_open()
        return sorted(row.n for row in self._invocations.values() if row.lane == lane and row.status in RUNS)

    def children(self, n: int, limit: int) -> list[InvocationRow]:
        self._check_open()
        return sorted(row for row in self._invocations.values() if row.parent == n)[:limit]

    def ended_before(self, until: int, limit: int) -> list[int]:
        self._check_open()
        going_on = {row.n for row in self._invocations.values() if row.status < Status.DONE}
        wanted = {
            subject for subject, n in self._waiters if n in going_on and self._invocations[n].status != Status.SUSPENDED
        }
        ended = [row for row in self._invocations.values() if row.n not in going_on and row.id not in wanted]
        keys = {(_service(row), row.key) for row in self._invocations.values() if row.n in going_on}
        wanted_keys = {f"{service}:{key}": (service, key) for service, key in keys}
        ended = [row for row in ended if wanted_keys.get(row.id) != (_service(row), row.key)]
        rows = [row for row in ended if row.parent not in going_on]
        return [n for updated, n in sorted((row.updated, row.n) for row in rows) if updated < until][:limit]

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

    def state(self, service: str, key: str, name: str) -> bytes | None:
        self._check_open()
        return self._states.get((service, key, name))

    def state_names(self, service: str, key: str, after: str = "", limit: int | None = None) -> list[str]:
        self._check_open()
        names = sorted(name for owner, of, name in self._states if (owner, of) == (service, key))
        return [name for name in names if name > after][:limit]

    def object_keys(self, service: str, after: str, limit: int) -> list[str]:
        self._check_open()
        return sorted({key for owner, key, _ in self._states if owner == service and key > after})[:limit]

    def items(self, service: str, key: str, name: str, first: int, end: int) -> list[tuple[int, bytes]]:
        self._check_open()
        items = [(at[3], body) for at, body in self._items.items() if at[:3] == (service, key, name)]
        return sorted(item for item in items if first <= item[0] < end)

    def items_end(self, service: str, key: str, name: str) -> int:
        self._check_open()
        return max((at[3] for at in self._items if at[:3] == (service, key, name)), default=-1) + 1

    def waiters(self, subject: str) -> list[int]:
        self._check_open()
        return sorted(n for waited, n in self._waiters if waited == subject)

    def backup(self, path: Path) -> Iterator[None]:
        yield from ()  # makes this a generator, as the protocol says: the error comes with the first slice
        self._check_open()
        raise UsageError(
            f"cannot back up to {path}: this store is in memory",
            cause="MemoryStore keeps nothing on disk",
            fix="use a file store if the data is worth a backup",
        )

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
        self._check_open()
        rows = [
            row
            for n, row in sorted(self._invocations.items(), reverse=True)
            if (status is None or row.status == status)
            and (target is None or row.target == target or (target.endswith("/") and row.target.startswith(target)))
            and (key is None or row.key == key)
            and (parent is None or row.parent == parent)
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
                if row.status in SLEEPS and row.wake_at is not None
            )
        )

    def _breach(self, batch: Batch) -> str:
        """The first rule of `Store.commit` the batch breaks, or nothing. Looks before anything is written."""
        gone = set(batch.purges)
        stored = [row for row in self._invocations.values() if row.n not in gone]
        numbers = [row.n for row in batch.starts]
        known = {row.n for row in stored}
        if _clash(numbers, known) or _clash([row.id for row in batch.starts], {row.id for row in stored}):
            return "an invocation was started twice"
        if _clash([row[:2] for row in batch.entries], self._entry_keys(batch, gone)):
            return "a journal entry was written twice"
        if not known | set(numbers) >= {row.n for row in batch.moves}:
            return "an invocation that does not exist was moved"
        placed: list[InvocationRow | MoveRow] = [*batch.starts, *{row.n: row for row in batch.moves}.values()]
        if any(row.status == Status.READY and row.wake_at is not None for row in placed):
            return "a READY invocation was given a time"
        if _clash([row[:2] for row in batch.blobs], {key for key in self._blobs if key[0] not in gone}):
            return "a blob was written twice"
        stored_promises = [row for row in self._promises.values() if row.n not in gone]
        promises = [row for row in stored_promises if not any(_is_named(row, key) for key in batch.forgets)]
        made = {row.id: row.n for row in batch.promises}
        taken = {row.id for row in promises if row.status != WITHDRAWN or made.get(row.id) != row.n}
        if _clash([row.id for row in batch.promises], taken):
            return "a promise was made twice"
        still_open = {row.id for row in (*promises, *batch.promises) if row.status == OPEN}
        settled = [row.id for row in batch.settles]
        if len(set(settled)) < len(settled) or not still_open.issuperset(settled):
            return "a promise that is not open was settled"
        if _clash([row[:4] for row in batch.items], [at for at in self._items if at[:2] not in batch.forgets]):
            return "an element of a list was written twice"
        return ""

    def _entry_keys(self, batch: Batch, gone: set[int]) -> set[tuple[int, int]]:
        """Those that are still there when the batch's own are added."""
        ends: dict[int, int] = {}
        for n, seq in batch.rewrites:
            ends[n] = min(seq, ends.get(n, seq))
        numbers = {row.n for row in batch.entries} - gone
        return {(n, seq) for n in numbers for seq in self._entries.get(n, ()) if n not in ends or seq < ends[n]}


def _service(row: InvocationRow) -> str:
    return row.target.rpartition("/")[0]


def _is_named(promise: PromiseRow, key: KeyRow) -> bool:
    """Whether it belongs to a workflow's key."""
    owner, _, _ = promise.id.rpartition(":")
    return promise.n == 0 and owner == f"{key.service}:{key.key}"


def _queued(row: InvocationRow) -> bool:
    """Whether it waits for its key or for room; with a wake_at it waits for its time."""
    return row.status == Status.QUEUED and row.wake_at is None


def _clash(new: Sequence[Hashable], stored: Container[Hashable]) -> bool:
    return len(set(new)) < len(new) or any(key in stored for key in new)
