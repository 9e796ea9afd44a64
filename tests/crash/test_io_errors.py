"""G11: the n-th write or sync fails, for every n: the store stops, acknowledges and writes nothing more, and what was
acknowledged before is there after a restart, also when the failed sync dropped everything unsynced.

The one exception is a full disk, which is said before anything is half done: the store goes on once there is space.
"""

import tempfile
from pathlib import Path
from random import Random

import apsw
import pytest

from holdfast.errors import StoreCorrupt, StoreError, StoreFailed, StoreFull
from holdfast.stores.base import Batch
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SqliteStore, wal
from tests.crash.vfs import Disk, Fault, Medium, lay_out, recording
from tests.stores.rows import Writer, entry, snapshot, start

COMMITS = 8
FILE = "agent.db"
WRITE_FAILS = {"write": apsw.SQLITE_IOERR_WRITE, "sync": apsw.SQLITE_IOERR_FSYNC}


@pytest.fixture(autouse=True)
def small_log(monkeypatch):
    """So that the few commits here also meet checkpoints and a log that starts over."""
    monkeypatch.setattr(wal, "GROWN_BYTES", 20_000)
    monkeypatch.setattr(wal, "IDLE_PAGES", 8)


@pytest.fixture
def folder():
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        for part in ("run", "image"):
            (Path(name) / part).mkdir()
        yield Path(name)


@pytest.fixture
def disk():
    with recording() as disk:
        yield disk


@pytest.fixture(scope="module")
def history():
    """Batches, and the states a store goes through when it commits them."""
    writer = Writer(Random(5))
    batches = [writer.batch(rows=3, body_max=900) for _ in range(COMMITS)]
    oracle = MemoryStore()
    oracle.open()
    states = [snapshot(oracle)]
    for batch in batches:
        oracle.commit(batch)
        states.append(snapshot(oracle))
    return batches, states


def run(store: SqliteStore, batches):
    """(commits acknowledged, the error that ended it or None)."""
    acknowledged = 0
    try:
        store.open()
        for batch in batches:
            store.commit(batch)
            acknowledged += 1
            store.maintain(idle=True)
    except StoreError as error:
        return acknowledged, error
    return acknowledged, None


def files_after(disk: Disk, *, keep_unsynced: bool):
    medium = Medium()
    for event in disk.events:
        medium.take(event)
    return medium.image(lambda events: events if keep_unsynced else [])


def occurrences(kind, batches, folder):
    """How many events of that kind the run has when nothing fails."""
    with recording() as disk:
        _, error = run(store := SqliteStore(folder / FILE, vfs=disk.name), batches)
        store.close()
        assert error is None
        return sum(event.kind == kind for event in disk.events)


def assert_stopped(store, disk):
    """Nothing works any more, and nothing reaches the disk, not even by closing."""
    events = len(disk.events)
    for call in (
        lambda: store.commit(Batch(starts=[start(10**9)])),
        lambda: store.commit(Batch()),
        lambda: store.maintain(True),
        store.last_number,
        lambda: next(store.backup(Path("/nowhere/copy"))),
    ):
        with pytest.raises(StoreFailed):
            call()
    store.close()
    assert [event for event in disk.events[events:] if event.kind in {"write", "truncate", "sync"}] == []


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_failed_write_or_sync_stops_the_store_for_good(kind, lasting, history, folder):
    """`lasting=False` is the treacherous case: the next call would report success, with the data gone."""
    batches, states = history
    stopped_at = set()
    for number in range(1, occurrences(kind, batches, folder / "image") + 1):
        lay_out({}, folder / "run")
        with recording() as disk:
            disk.fault = Fault(kind, number, code=WRITE_FAILS[kind], lasting=lasting)
            store = SqliteStore(folder / "run" / FILE, vfs=disk.name)
            acknowledged, error = run(store, batches)
            if error:
                assert isinstance(error, StoreFailed)
                stopped_at.add(acknowledged)
                if store._live:
                    assert_stopped(store, disk)
            store.close()
            for keep_unsynced in (False, True):
                lay_out(files_after(disk, keep_unsynced=keep_unsynced), folder / "image")
                again = SqliteStore(folder / "image" / FILE)
                again.open()
                assert snapshot(again) in states[acknowledged : acknowledged + 2], f"{kind} {number}"
                assert again._live.reader.pragma("quick_check") == "ok"
                again.close()
    assert stopped_at >= set(range(COMMITS))


def test_a_full_disk_stops_one_batch_and_not_the_store(history, folder):
    """Every write fails once with 'disk full'; the same batch is tried again when there is space."""
    batches, states = history
    refused = 0
    for number in range(1, occurrences("write", batches, folder / "image") + 1):
        lay_out({}, folder / "run")
        with recording() as disk:
            disk.fault = Fault("write", number, code=apsw.SQLITE_FULL)
            store = SqliteStore(folder / "run" / FILE, vfs=disk.name)
            acknowledged, error = run(store, batches)
            if disk.fault.struck and error:
                assert isinstance(error, StoreFull)
                refused += 1
                if store._live:
                    assert snapshot(store) == states[acknowledged]
                    with pytest.raises(StoreFull):
                        store.commit(Batch(starts=[start(10**9)]))
                disk.fault = None
                if not store._live:
                    store.open()
                for batch in batches[acknowledged:]:
                    store.commit(batch)
                    store.maintain(idle=True)
            disk.fault = None
            assert snapshot(store) == states[-1]
            assert store._live.reader.pragma("quick_check") == "ok"
            store.close()
    assert refused > 50


def test_a_page_that_cannot_be_read_stops_one_question_and_not_the_store(disk, folder, monkeypatch):
    store = SqliteStore(folder / "run" / FILE, vfs=disk.name)
    store.open()
    store.commit(Batch(starts=[start(1)], entries=[entry(1, 0)]))
    with monkeypatch.context() as broken:
        broken.setattr("tests.crash.vfs._File.xRead", unreadable, raising=False)
        store._live.reader.release_memory()
        with pytest.raises(StoreCorrupt, match=r"backup"):
            store.entries(1)
    assert store.entries(1) == [b"1/0"]
    store.commit(Batch(entries=[entry(1, 1)]))
    assert store.entries(1) == [b"1/0", b"1/1"]
    store.close()


def unreadable(file, amount, offset):
    error = apsw.exception_for(apsw.SQLITE_IOERR_READ)
    error.extendedresult = apsw.SQLITE_IOERR_READ
    raise error
