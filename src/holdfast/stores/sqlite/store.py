"""The store in one SQLite file.

Promises: what base.Store says. A commit is one transaction, synced before it returns, at about the price of one sync.
Refuses: a second writer, a SQLite that cannot be trusted, and any write after one has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from holdfast.core.invocation import Status
from holdfast.errors import StoreError, StoreFull
from holdfast.stores.base import Batch, InvocationRow, PromiseRow
from holdfast.stores.sqlite import backup, opening, problems
from holdfast.stores.sqlite.lock import FileLock
from holdfast.stores.sqlite.queries import QUERIES
from holdfast.stores.sqlite.space import Space
from holdfast.stores.sqlite.wal import Checkpointer
from holdfast.stores.sqlite.writes import Write, plan

N_MAX = 2**63 - 1
TEXT_MAX = "\U0010ffff"  # sorts after every name


class _Live(NamedTuple):
    """What exists between open and close."""

    writer: apsw.Connection  # used where `commit` runs
    reader: apsw.Connection  # used on the engine's thread; sees whole commits, also while one runs
    checkpointer: Checkpointer
    space: Space


class SqliteStore:
    """A store in the file at `path`, with `-wal`, `-shm` and `.lock` beside it while open.

    `vfs` names a registered SQLite VFS: for encryption, and for tests that make the disk fail.
    """

    def __init__(self, path: str | Path, *, vfs: str | None = None) -> None:
        self._path = Path(path).absolute()  # a later chdir must not part the file from its lock
        self._vfs = vfs
        self._lock = FileLock(self._path)
        self._live: _Live | None = None
        self._failure: StoreError | None = None  # why nothing may be written any more (G11)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    def open(self) -> None:
        try:
            self._lock.acquire()  # also refuses a second `open` of this object
            try:
                self._live = self._connect()
            except BaseException:
                self._lock.release()
                raise
        except (apsw.Error, OSError) as error:
            raise problems.while_opening(error, self._path) from error

    def close(self) -> None:
        live, self._live = self._live, None
        if not live:
            return
        try:
            live.reader.close()
            if self._failure:
                # The last connection to close copies the log into the database: a write, and there must be none.
                live.writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            live.writer.close()
        finally:
            self._failure = None
            self._lock.release()

    def commit(self, batch: Batch) -> None:
        writer = self._running().writer
        try:
            writes = plan(batch)
            if len(writes) == 1 and writes[0].changes is None:
                # Alone, a statement is its own transaction: two fewer chances to lose the interpreter lock.
                writer.execute(writes[0].sql, writes[0].values)
            elif writes:
                _transact(writer, writes)
        except Exception as error:
            raise self._fail(error) from error
        except BaseException as error:
            # Ctrl-C between two statements: nobody can tell whether the batch was committed. Reading it back can.
            self._fail(error)
            raise

    def maintain(self, idle: bool) -> bool:
        live = self._running()
        try:
            live.checkpointer.maintain(idle)
            return idle and live.space.give_back()
        except apsw.Error as error:
            raise self._fail(error) from error

    def last_number(self) -> int:
        number: int = self._read("last_number")[0][0]
        return number

    def find(self, id: str) -> InvocationRow | None:
        return next((InvocationRow(*row) for row in self._read("find", id)), None)

    def get(self, n: int) -> InvocationRow | None:
        return next((InvocationRow(*row) for row in self._read("get", n)), None)

    def entries(self, n: int, first: int = 0, limit: int | None = None) -> list[bytes]:
        return [body for (body,) in self._read("entries", n, first, -1 if limit is None else limit)]

    def length(self, n: int) -> int:
        length: int = self._read("length", n)[0][0]
        return length

    def counts(self) -> dict[int, int]:
        *others, (_, done) = self._read("counts")
        counts = {**dict(others), int(Status.DONE): done - sum(count for _, count in others)}
        # No status is damage, told where that row is read.
        return {status: counts[status] for status in sorted(counts.keys() - {None}) if counts[status]}

    def ready(self, limit: int) -> list[int]:
        return [n for (n,) in self._read("ready", limit)]

    def due(self, until: int, limit: int) -> list[tuple[int, int]]:
        return self._read("due", until, limit)

    def next_wake(self) -> int | None:
        return next((wake_at for (wake_at,) in self._read("next_wake")), None)

    def holder(self, lock: str) -> int | None:
        n: int | None = self._read("holder", lock)[0][0]
        return n

    def queued_for_lock(self, lock: str, limit: int) -> list[int]:
        return [n for (n,) in self._read("queued_for_lock", lock, limit)]

    def queued_for_lane(self, lane: str, after: tuple[int, int], limit: int) -> list[tuple[int, int]]:
        return self._read("queued_for_lane", lane, *after, limit)

    def queued_locks(self, after: str, limit: int) -> list[str]:
        return [lock for (lock,) in self._read("queued_locks", after, limit)]

    def queued_lanes(self, after: str, limit: int) -> list[str]:
        return [lane for (lane,) in self._read("queued_lanes", after, limit)]

    def lane_running(self, lane: str) -> list[int]:
        return sorted(n for (n,) in self._read("lane_running", lane))

    def children(self, n: int, limit: int) -> list[InvocationRow]:
        return [InvocationRow(*row) for row in self._read("children", n, limit)]

    def ended_before(self, until: int, limit: int) -> list[int]:
        return [n for (n,) in self._read("ended_before", until, limit)]

    def blob_digests(self, owner: int) -> list[tuple[int, bytes]]:
        return self._read("blob_digests", owner)

    def blobs(self, owner: int, first: int, last: int) -> list[tuple[int, bytes]]:
        return self._read("blobs", owner, first, last)

    def promise(self, id: str) -> PromiseRow | None:
        return next((PromiseRow(*row) for row in self._read("promise", id)), None)

    def promises_of(self, n: int) -> list[PromiseRow]:
        return [PromiseRow(*row) for row in self._read("promises_of", n)]

    def open_promises(self, limit: int) -> list[PromiseRow]:
        return [PromiseRow(*row) for row in self._read("open_promises", limit)]

    def state(self, service: str, key: str, name: str) -> bytes | None:
        return next((body for (body,) in self._read("state", service, key, name)), None)

    def state_names(self, service: str, key: str, after: str = "", limit: int | None = None) -> list[str]:
        return [name for (name,) in self._read("state_names", service, key, after, -1 if limit is None else limit)]

    def object_keys(self, service: str, after: str, limit: int) -> list[str]:
        return [key for (key,) in self._read("object_keys", service, after, limit)]

    def items(self, service: str, key: str, name: str, first: int, end: int) -> list[tuple[int, bytes]]:
        return self._read("items", service, key, name, first, end)

    def items_end(self, service: str, key: str, name: str) -> int:
        end: int = self._read("items_end", service, key, name)[0][0]
        return end

    def waiters(self, subject: str) -> list[int]:
        return [n for (n,) in self._read("waiters", subject)]

    def backup(self, path: Path) -> Iterator[None]:
        yield from backup.copy(self._running().writer, self._path, Path(path).absolute(), self._vfs)

    def _connect(self) -> _Live:
        writer = opening.open_writer(self._path, self._vfs)
        checkpointer = Checkpointer(writer)
        try:
            reader = opening.open_reader(self._path, self._vfs)
            return _Live(writer, reader, checkpointer, Space(writer, checkpointer))
        except BaseException:
            writer.close()
            raise

    def _running(self) -> _Live:
        if self._failure:
            raise problems.again(self._failure)
        if not self._live:
            raise problems.not_open()
        return self._live

    def _read(self, query: str, *values: object) -> list[Any]:
        """Whole results only: a statement left half read would keep the log from starting over."""
        reader = self._running().reader
        try:
            return reader.execute(QUERIES[query], values).fetchall()
        except (apsw.Error, UnicodeDecodeError) as error:
            # Not kept: damage that one journal shows stops one invocation, not the store (G10).
            raise problems.while_used(error, self._path) from error

    def _fail(self, error: BaseException) -> StoreError:
        """Rolls back. Whatever is not simply a full disk stops the store: a sync that failed once may
        report success the next time, with the data gone."""
        problem = problems.while_used(error, self._path)
        writer = self._live.writer if self._live else None
        try:
            if writer and writer.in_transaction:
                writer.execute("ROLLBACK")
        except apsw.Error as second:
            problem = problems.while_used(second, self._path)
            self._failure = problem
        if not isinstance(problem, StoreFull):
            self._failure = problem
        return problem

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
        query = _list_query(status, target, key, parent)
        low, high = ("", TEXT_MAX) if target is None else (target, target)
        if low.endswith("/"):
            high = low + TEXT_MAX
        top = N_MAX if before is None else before
        if query == "list_target" and low < high:
            rows = self._merged(low, high, lambda one: (top, status, one, one, key, parent, limit))
        else:
            rows = iter(self._read(query, top, status, low, high, key, parent, limit))
        return [InvocationRow(*row) for row in islice(rows, limit)]

    def _merged(self, low: str, high: str, values: Callable[[str], tuple[object, ...]]) -> Iterator[tuple[Any, ...]]:
        """One page of each target in the range: in order of n they are in no index that all of them share."""
        with self._running().reader:  # one transaction: between two reads a commit could come
            targets = [target for (target,) in self._read("targets", low, high)]
            pages = [self._read("list_target", *values(target)) for target in targets]
        return merge(*pages, key=itemgetter(0), reverse=True)


def _list_query(status: int | None, target: str | None, key: str | None, parent: int | None) -> str:
    """The query whose index leaves the fewest rows to look at."""
    if parent is not None:
        return "list_parent"
    if key is not None:
        return "list_key"
    if status == Status.READY:
        return "list_ready"
    if status is not None and status != Status.DONE:
        return "list_status"
    return "list" if target is None else "list_target"


def _transact(writer: apsw.Connection, writes: list[Write]) -> None:
    writer.execute("BEGIN IMMEDIATE")
    for write in writes:
        writer.execute(write.sql, write.values)
        if write.changes is not None and writer.changes() != write.changes:
            raise problems.RuleBroken("a move or a settle found no row that it may change")
    writer.execute("COMMIT")
