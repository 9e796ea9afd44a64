"""G1, G2, G6 on the medium: a power failure at any moment loses nothing acknowledged and never spoils the file.

A workload runs on a disk that records. For every write, sync and deletion, and for several choices of what of the
unsynced rest came through, the real store opens what is left. It must hold what was acknowledged, and beyond it at most
the one commit that was under way. The canaries run the same check on stores that sync too little: it must object.
"""

import tempfile
from pathlib import Path
from random import Random

import apsw
import pytest

from holdfast.errors import HoldfastError
from holdfast.stores.base import Batch
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SqliteStore, wal
from tests.crash.vfs import crashes, lay_out, recording
from tests.stores.rows import Writer, snapshot, start

COMMITS = 14
FILE = "agent.db"


@pytest.fixture(autouse=True)
def small_log(monkeypatch):
    """A log that starts over every few commits, so that few events show its whole life."""
    monkeypatch.setattr(wal, "GROWN_BYTES", 40_000)
    monkeypatch.setattr(wal, "IDLE_PAGES", 12)


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


def record(batches, folder, *, synchronous=None):
    """Runs the workload and returns what the disk saw. Mark k: commit k was acknowledged."""
    with recording() as disk:
        store = SqliteStore(folder / FILE, vfs=disk.name)
        for session in (batches[: COMMITS // 2], batches[COMMITS // 2 :]):
            store.open()
            if synchronous:
                store._live.writer.pragma("synchronous", synchronous)
            for batch in session:
                store.commit(batch)
                disk.mark(sum(event.kind == "mark" for event in disk.events) + 1)
                store.maintain(idle=True)
            store.close()
        return disk.events


def fault(files, folder, states, acknowledged):
    """What is wrong with an image, or nothing."""
    lay_out(files, folder)
    store = SqliteStore(folder / FILE)
    try:
        store.open()
        found = snapshot(store)
        if store._live.reader.pragma("quick_check") != "ok":
            return "corrupt"
        if found not in states[acknowledged : acknowledged + 2]:
            return "lost" if found in states else "no state there ever was"
        store.commit(Batch(starts=[start(10**9)]))
    except (HoldfastError, apsw.Error) as error:
        return f"{type(error).__name__}: {error}"
    else:
        return None
    finally:
        store.close()


def check(seed, folder, **options):
    """(images looked at, what was wrong with some of them)."""
    batches, states = workload(seed)
    (folder / "run").mkdir()
    (folder / "image").mkdir()
    events = record(batches, folder / "run", **options)
    count, faults = 0, []
    for position, acknowledged, variant, files in crashes(events, Random(seed)):
        count += 1
        if wrong := fault(files, folder / "image", states, acknowledged):
            faults.append((position, variant, wrong))
    return count, faults


@pytest.mark.parametrize("seed", range(4))
def test_no_power_failure_loses_an_acknowledged_commit(seed, folder):
    count, faults = check(seed, folder)
    assert faults == []
    assert count > 800


def test_the_workload_starts_the_log_over(folder):
    """Else the test above would not see the moments that are easiest to get wrong."""
    batches, _ = workload(0)
    events = record(batches, folder)
    headers = [event for event in events if event == ("write", FILE + "-wal", 0, event.data)]
    copied = [event for event in events if event.kind == "write" and event.file == FILE]
    assert len(headers) >= 4
    assert len(copied) > 40
    assert {event.kind for event in events} == {"write", "truncate", "sync", "syncdir", "delete", "mark"}


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_the_check_sees_commits_that_were_not_synced(folder, synchronous):
    count, faults = check(0, folder, synchronous=synchronous)
    lost = [fault for fault in faults if fault[2] == "lost"]
    assert len(lost) > count // 10


def test_the_check_sees_a_log_that_starts_over_too_early(folder):
    """Without the syncs of the database file a checkpoint may be gone when the log that held it is overwritten."""
    batches, states = workload(1)
    (folder / "image").mkdir()
    events = record(batches, folder)
    events = [event for event in events if (event.kind, event.file) != ("sync", FILE)]
    faults = [fault(files, folder / "image", states, mark) for _, mark, _, files in crashes(events, Random(1))]
    assert any(faults)
