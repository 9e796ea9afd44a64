"""G1, G2, G6 on the medium: a power failure at any moment loses nothing acknowledged and never spoils the file.

A workload runs on a disk that records. For every write, sync and deletion, and for several choices of what of the
unsynced rest came through, the real store opens what is left. It must hold what was acknowledged, and beyond it at most
the one commit that was under way. The canaries run the same check on what syncs too little: it must object.
"""

import itertools
import tempfile
from pathlib import Path
from random import Random

import apsw
import pytest

from holdfast.errors import HoldfastError
from holdfast.stores.base import Batch
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SqliteStore, opening, space, wal
from tests.crash.vfs import crashes, lay_out, recording
from tests.stores import first_schema
from tests.stores.rows import Writer, snapshot, start

COMMITS = 14
FILE = "agent.db"


@pytest.fixture(autouse=True)
def small_log(monkeypatch):
    """A log that starts over every few commits, so that few events show its whole life."""
    monkeypatch.setattr(wal, "GROWN_BYTES", 40_000)
    monkeypatch.setattr(wal, "IDLE_PAGES", 12)
    monkeypatch.setattr(space, "KEPT_PAGES", 1)  # and a file that is made smaller as soon as it can be
    monkeypatch.setattr(space, "KEPT_PART", 1000)
    monkeypatch.setattr(space, "SLICE_PAGES", 2)


@pytest.fixture
def folder():
    """In memory where the system has such a place: thousands of images, and no real sync is needed."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        yield Path(name)


def workload(seed):
    """Batches of every kind, and the sequence of states they lead through."""
    random = Random(seed)
    writer = Writer(random)
    batches = [writer.batch(rows=random.choice((1, 2, 8)), body_max=random.choice((40, 6000))) for _ in range(COMMITS)]
    oracle = MemoryStore()
    oracle.open()
    states = [snapshot(oracle)]
    for batch in batches:
        oracle.commit(batch)
        states.append(snapshot(oracle))
    return batches, states


def record(sessions, folder, *, synchronous=None):
    """What the disk saw of the sessions, with a restart between them. Mark k: commit k was acknowledged."""
    acknowledged = 0
    with recording() as disk:
        store = SqliteStore(folder / FILE, vfs=disk.name)
        for batches in sessions:
            store.open()
            if synchronous:
                store._live.writer.pragma("synchronous", synchronous)
            for batch in batches:
                store.commit(batch)
                acknowledged += 1
                disk.mark(acknowledged)
                store.maintain(idle=True)
            store.close()
        return disk.events


def halves(batches):
    return batches[: COMMITS // 2], batches[COMMITS // 2 :]


def fault(files, folder, allowed):
    """What is wrong with an image, or nothing. `allowed`: the states it may hold."""
    lay_out(files, folder)
    store = SqliteStore(folder / FILE)
    try:
        store.open()
        if snapshot(store) not in allowed:
            return "lost"
        if store._live.reader.pragma("quick_check") != "ok":
            return "corrupt"
        store.commit(Batch(starts=[start(10**9)]))
    except (HoldfastError, apsw.Error) as error:
        return f"{type(error).__name__}: {error}"
    else:
        return None
    finally:
        store.close()


def faults_of(events, states, folder, seed, *, every=1):
    """(images looked at, what is wrong with some of them). After commit k only states k and k + 1 are right."""
    folder.mkdir(exist_ok=True)
    count, faults = 0, []
    for position, acknowledged, variant, files in itertools.islice(crashes(events, Random(seed)), 0, None, every):
        count += 1
        if wrong := fault(files, folder, states[acknowledged : acknowledged + 2]):
            faults.append((position, variant, wrong))
    return count, faults


@pytest.mark.parametrize("seed", range(4))
def test_no_power_failure_loses_an_acknowledged_commit(seed, folder):
    batches, states = workload(seed)
    count, faults = faults_of(record(halves(batches), folder), states, folder / "image", seed)
    assert faults == []
    assert count > 800


def test_a_power_failure_during_recovery_is_recovered_from_too(folder):
    """Opens some images on a recording disk, and fails that again at each of its writes and syncs."""
    batches, states = workload(4)
    images = list(crashes(record(halves(batches), folder), Random(4)))
    (folder / "second").mkdir()
    looked_at = 0
    for position, acknowledged, variant, files in images[:: len(images) // 20]:
        lay_out(files, folder / "second")
        with recording() as disk:
            store = SqliteStore(folder / "second" / FILE, vfs=disk.name)
            store.open()
            store.close()
        again = crashes(disk.events, Random(position), medium=files)
        for _, _, _, left in again:
            looked_at += 1
            (folder / "image").mkdir(exist_ok=True)
            assert fault(left, folder / "image", states[acknowledged : acknowledged + 2]) is None, (position, variant)
    assert looked_at > 500


def test_a_power_failure_during_a_migration_leaves_the_old_schema_or_the_new(folder, monkeypatch):
    batches, states = workload(5)
    first, second = halves(batches)
    known = opening.load_migrations()
    record([first], folder)
    files = {FILE: (folder / FILE).read_bytes()}
    script = "ALTER TABLE invocation ADD COLUMN extra INTEGER; CREATE TABLE more (x INTEGER) STRICT"
    monkeypatch.setattr(opening, "load_migrations", lambda: [*known, (len(known) + 1, script)])
    events = record([second], folder)
    assert (folder / f"{FILE}.v{len(known)}.backup").exists()
    (folder / "image").mkdir()
    for _, acknowledged, variant, left in crashes(events, Random(5), medium=files):
        done = len(first) + acknowledged
        assert fault(left, folder / "image", states[done : done + 2]) is None, variant


def test_a_power_failure_during_the_migration_of_the_first_schema_loses_no_row(folder, monkeypatch):
    first_schema.make(folder / FILE, monkeypatch)
    files = {FILE: (folder / FILE).read_bytes()}
    events = record([[]], folder)
    store = SqliteStore(folder / FILE)
    store.open()
    migrated = snapshot(store)
    store.close()
    assert [row.n for row in migrated["rows"]] == [row.n for row in reversed(first_schema.ROWS)]
    (folder / "image").mkdir()
    images = list(crashes(events, Random(6), medium=files))
    assert len(images) > 50
    for _, _, variant, left in images:
        assert fault(left, folder / "image", [migrated]) is None, variant


def test_the_workload_starts_the_log_over(folder):
    """Else the tests above would not see the moments that are easiest to get wrong."""
    batches, _ = workload(0)
    events = record(halves(batches), folder)
    headers = [event for event in events if event == ("write", FILE + "-wal", 0, event.data)]
    copied = [event for event in events if event.kind == "write" and event.file == FILE]
    assert len(headers) >= 4
    assert len(copied) > 40
    assert {event.kind for event in events} == {"write", "truncate", "sync", "syncdir", "delete", "mark"}


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_the_check_sees_commits_that_were_not_synced(folder, synchronous):
    batches, states = workload(0)
    events = record(halves(batches), folder, synchronous=synchronous)
    count, faults = faults_of(events, states, folder / "image", 0, every=5)  # they are everywhere
    lost = [wrong for _, _, wrong in faults if wrong == "lost"]
    assert len(lost) > count // 10


def test_the_check_sees_a_log_that_starts_over_too_early(folder):
    """Without the syncs of the database file a checkpoint may be gone when the log that held it is overwritten."""
    batches, states = workload(1)
    events = record(halves(batches), folder)
    events = [event for event in events if (event.kind, event.file) != ("sync", FILE)]
    assert faults_of(events, states, folder / "image", 1)[1]
