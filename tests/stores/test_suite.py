"""What every store must do, one test per line of the contract in stores/base.py. Each runs on every store."""

import threading

import pytest

from holdfast.core.invocation import Status
from holdfast.errors import StoreError, StoreFailed, StoreLocked
from holdfast.stores.base import Batch
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SqliteStore
from tests.stores.rows import TARGETS, blob, entry, move, promise, settle, snapshot, start


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "agent.db")
    store.open()
    yield store
    store.close()


def reopen(store):
    store.close()
    store.open()


def test_a_new_store_is_empty(store):
    assert snapshot(store) == {
        "rows": [], "last": 0, "ready": [], "due": [], "next_wake": None, "open_promises": [],
    }  # fmt: skip
    assert store.find("x") is None
    assert store.get(1) is None
    assert store.promise("x") is None
    assert store.entries(1) == []
    assert store.blobs(1, 0, 9) == []
    assert store.blob_digests(1) == []
    assert store.promises_of(1) == []


def test_an_empty_batch_changes_nothing(store):
    store.commit(Batch())
    assert store.list() == []


def test_an_invocation_is_read_back_as_it_was_written(store):
    row = start(64, wake_at=7, input=b"\0\xff", outcome=b"")._replace(seed=-(2**63), created=2**53, status=1)
    store.commit(Batch(starts=[row]))
    reopen(store)
    assert store.get(64) == row
    assert store.find("inv-64") == row
    assert store.find("INV-64") is None


def test_the_last_number_is_the_largest_ever_stored(store):
    store.commit(Batch(starts=[start(640), start(70)]))
    assert store.last_number() == 640
    store.commit(Batch(starts=[start(2**62)]))
    assert store.last_number() == 2**62


def test_a_journal_comes_back_in_order_of_seq_whatever_the_order_of_writing(store):
    store.commit(Batch(entries=[entry(1, 1), entry(2, 0), entry(1, 0)]))
    store.commit(Batch(entries=[entry(1, 3, b""), entry(1, 2)]))
    assert store.entries(1) == [b"1/0", b"1/1", b"1/2", b""]
    assert store.entries(2) == [b"2/0"]


def test_a_move_changes_the_status_and_leaves_the_rest(store):
    row = start(1, wake_at=3)
    store.commit(Batch(starts=[row]))
    store.commit(Batch(moves=[move(1, Status.SUSPENDED, updated=50, wake_at=60, outcome=b"why")]))
    assert store.get(1) == row._replace(status=1, updated=50, wake_at=60, outcome=b"why")
    store.commit(Batch(moves=[move(1, Status.READY, updated=51)]))
    assert store.get(1) == row._replace(status=0, updated=51, wake_at=None, outcome=None)


def test_the_last_of_several_moves_in_one_batch_counts(store):
    moves = [move(1, Status.SUSPENDED, wake_at=4), move(2, Status.PAUSED), move(1, Status.DONE, outcome=b"end")]
    store.commit(Batch(starts=[start(1), start(2)], moves=moves))
    assert store.get(1) == start(1, status=Status.DONE, outcome=b"end")._replace(updated=9)
    assert store.get(2).status == Status.PAUSED


def test_one_batch_may_start_move_promise_and_settle(store):
    batch = Batch(
        starts=[start(1)],
        entries=[entry(1, 0)],
        moves=[move(1, Status.SUSPENDED, wake_at=5)],
        blobs=[blob(1, -1)],
        promises=[promise("p"), promise("q")],
        settles=[settle("p", 2, settled=8, value=b"no")],
    )
    assert batch.rows() == 7
    store.commit(batch)
    reopen(store)
    assert store.get(1).wake_at == 5
    assert store.entries(1) == [b"1/0"]
    assert store.blobs(1, -1, -1) == [(-1, b"body")]
    assert store.promise("p") == promise("p", status=2, settled=8, value=b"no")
    assert store.promise("q") == promise("q")


def test_ready_lists_the_ready_ones_smallest_first(store):
    rows = [start(n, status=status) for n, status in zip((9, 3, 5, 7, 1), (0, 0, 1, 0, 4), strict=True)]
    store.commit(Batch(starts=rows))
    assert store.ready(10) == [3, 7, 9]
    assert store.ready(2) == [3, 7]
    assert store.ready(0) == []
    store.commit(Batch(moves=[move(3, Status.DONE), move(5, Status.READY)]))
    assert store.ready(10) == [5, 7, 9]


def test_due_lists_the_suspended_ones_whose_time_has_come_earliest_first(store):
    rows = [
        start(1, status=Status.SUSPENDED, wake_at=30),
        start(2, status=Status.SUSPENDED, wake_at=10),
        start(3, status=Status.SUSPENDED, wake_at=20),
        start(4, status=Status.SUSPENDED, wake_at=20),
        start(5, status=Status.SUSPENDED),  # waits for a promise only
        start(6, status=Status.READY, wake_at=1),
        start(7, status=Status.DONE, wake_at=1),
    ]
    store.commit(Batch(starts=rows))
    assert store.next_wake() == 10
    assert store.due(30, 10) == [(10, 2), (20, 3), (20, 4), (30, 1)]
    assert store.due(20, 10) == [(10, 2), (20, 3), (20, 4)]
    assert store.due(30, 2) == [(10, 2), (20, 3)]
    assert store.due(9, 10) == []
    store.commit(Batch(moves=[move(2, Status.READY)]))
    assert store.next_wake() == 20


def test_list_pages_through_the_newest_first(store):
    store.commit(Batch(starts=[start(n) for n in range(1, 8)]))
    first = store.list(limit=3)
    assert [row.n for row in first] == [7, 6, 5]
    assert [row.n for row in store.list(limit=3, before=5)] == [4, 3, 2]
    assert store.list(before=1) == []


def test_list_keeps_to_a_status_and_a_target(store):
    rows = [start(n, status=n % 2, target=TARGETS[n % 3 % 2]) for n in range(1, 13)]
    store.commit(Batch(starts=rows))
    for status in (None, 0, 1, 4):
        for target in (None, *TARGETS, "Nobody/home"):
            want = [row for row in reversed(rows) if status in (None, row.status) and target in (None, row.target)]
            assert store.list(status=status, target=target) == want


def test_list_returns_a_hundred_unless_told(store):
    store.commit(Batch(starts=[start(n) for n in range(1, 131)]))
    assert len(store.list()) == 100


def test_blobs_are_kept_per_owner_and_read_by_range(store):
    numbers = [-2, 0, 1, -1, 2]
    store.commit(Batch(blobs=[blob(1, number, b"%d" % number) for number in numbers] + [blob(2, 1)]))
    assert store.blobs(1, -1, 1) == [(-1, b"-1"), (0, b"0"), (1, b"1")]
    assert store.blobs(1, 2, 1) == []
    assert store.blobs(2, -9, 9) == [(1, b"body")]
    assert store.blob_digests(1) == [(number, bytes([number % 256]) * 16) for number in sorted(numbers)]


def test_a_large_blob_comes_back_whole(store):
    body = bytes(range(256)) * 20_000
    store.commit(Batch(blobs=[blob(1, 1, body)]))
    reopen(store)
    assert store.blobs(1, 1, 1) == [(1, body)]


def test_promises_come_in_order_of_creation_and_open_ones_oldest_first(store):
    store.commit(Batch(promises=[promise("c", created=5), promise("a", created=7), promise("x", 2, created=6)]))
    store.commit(Batch(promises=[promise("b", created=5)]))
    assert [row.id for row in store.promises_of(1)] == ["c", "a", "b"]
    assert [row.id for row in store.open_promises(10)] == ["c", "b", "x", "a"]
    assert [row.id for row in store.open_promises(2)] == ["c", "b"]
    store.commit(Batch(settles=[settle("b")]))
    assert [row.id for row in store.open_promises(10)] == ["c", "x", "a"]
    assert [row.status for row in store.promises_of(1)] == [0, 0, 1]


def test_a_promise_may_be_born_settled(store):
    done = promise("p", status=1, settled=3, value=b"v")
    store.commit(Batch(promises=[done]))
    assert store.promise("p") == done
    assert store.open_promises(9) == []


@pytest.mark.parametrize(
    "count", [1, 2, 4, 5, 16, 17, 63, 64, 65, 255, 256, 257, 600, 1023, 1024, 1025, 2500]
)  # fmt: skip
def test_a_batch_of_any_size_is_written_whole(store, count):
    batch = Batch(
        starts=[start(n) for n in range(1, count + 1)],
        entries=[entry(n, 0) for n in range(1, count + 1)],
        moves=[move(n, Status.SUSPENDED, wake_at=n) for n in range(1, count + 1)],
        blobs=[blob(n, 1) for n in range(1, count + 1)],
        promises=[promise(f"p{n}", n) for n in range(1, count + 1)],
        settles=[settle(f"p{n}") for n in range(1, count + 1)],
    )
    store.commit(batch)
    assert store.last_number() == count
    assert store.due(count, 10_000) == [(n, n) for n in range(1, count + 1)]
    assert [store.entries(n) for n in range(1, count + 2)] == [[b"%d/0" % n] for n in range(1, count + 1)] + [[]]
    assert store.blobs(count, 1, 1) == [(1, b"body")]
    assert store.promises_of(count)[0].status == 1
    assert store.open_promises(1) == []


def test_entries_of_any_count_are_written_alone(store):
    """A batch of one table takes a shorter way through the store."""
    seq = 0
    for count in (1, 3, 4, 40, 1000, 1025):
        store.commit(Batch(entries=[entry(1, seq + k) for k in range(count)]))
        seq += count
    assert store.entries(1) == [b"1/%d" % k for k in range(seq)]


def seeded():
    return Batch(
        starts=[start(1)], entries=[entry(1, 0)], blobs=[blob(1, 1)], promises=[promise("open"), promise("shut")]
    )


BREACHES = {
    "a number twice": Batch(starts=[start(2), start(1, id="other")]),
    "a number twice in the batch": Batch(starts=[start(2), start(2, id="other")]),
    "an id twice": Batch(starts=[start(2), start(3, id="inv-1")]),
    "an id twice in the batch": Batch(starts=[start(2), start(3, id="inv-2")]),
    "an entry twice": Batch(starts=[start(2)], entries=[entry(2, 0), entry(1, 0, b"twin")]),
    "only an entry, twice": Batch(entries=[entry(1, 0, b"twin")]),
    "an entry twice in the batch": Batch(entries=[entry(2, 0), entry(2, 0)]),
    "a move of nobody": Batch(starts=[start(2)], moves=[move(1, Status.DONE), move(3, Status.DONE)]),
    "only a move, of nobody": Batch(moves=[move(3, Status.DONE)]),
    "only a settlement, of nothing": Batch(settles=[settle("nobody")]),
    "a blob twice": Batch(starts=[start(2)], blobs=[blob(1, 1, b"other")]),
    "a blob twice in the batch": Batch(starts=[start(2)], blobs=[blob(2, 1), blob(2, 1)]),
    "a promise twice": Batch(starts=[start(2)], promises=[promise("open", 2)]),
    "a promise twice in the batch": Batch(starts=[start(2)], promises=[promise("new"), promise("new")]),
    "a settled promise settled": Batch(starts=[start(2)], settles=[settle("open"), settle("shut", 2)]),
    "an unknown promise settled": Batch(starts=[start(2)], settles=[settle("nobody")]),
    "a promise settled twice in the batch": Batch(starts=[start(2)], settles=[settle("open"), settle("open", 2)]),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_batch_that_breaks_a_rule_is_refused_whole_and_stops_the_store(store, name, tmp_path):
    store.commit(seeded())
    store.commit(Batch(settles=[settle("shut")]))
    before = snapshot(store)
    with pytest.raises(StoreFailed):
        store.commit(BREACHES[name])
    calls = [
        lambda: store.commit(Batch(starts=[start(9)])),
        lambda: store.commit(Batch()),
        lambda: store.maintain(True),
        lambda: next(store.backup(tmp_path / "copy")),
        lambda: store.get(1),
        lambda: store.find("inv-1"),
        lambda: store.entries(1),
        lambda: store.ready(1),
        lambda: store.due(1, 1),
        store.list,
    ]
    for call in calls:
        with pytest.raises(StoreFailed):
            call()
    reopen(store)
    assert snapshot(store) == before
    store.commit(Batch(starts=[start(9)]))
    assert store.last_number() == 9


def test_a_store_that_is_not_open_says_so(store):
    store.close()
    store.close()
    for call in (lambda: store.get(1), lambda: store.commit(Batch()), lambda: store.maintain(False)):
        with pytest.raises(StoreError, match="not open"):
            call()
    store.open()


def test_a_second_open_is_refused_and_harms_nothing(store):
    store.commit(seeded())
    with pytest.raises(StoreLocked):
        store.open()
    store.commit(Batch(entries=[entry(1, 1)]))
    assert store.entries(1) == [b"1/0", b"1/1"]


def test_what_was_committed_is_there_after_reopening(store):
    store.commit(seeded())
    before = snapshot(store)
    reopen(store)
    assert snapshot(store) == before


def test_maintenance_changes_no_answer(store):
    store.commit(seeded())
    before = snapshot(store)
    store.maintain(False)
    store.maintain(True)
    assert snapshot(store) == before


def test_reads_beside_a_committing_thread_see_whole_commits_only(store):
    """Each commit writes an entry for two invocations; at no moment may a reader see one without the other."""
    if isinstance(store, MemoryStore):
        pytest.skip("its engine commits on its own thread only")
    done = threading.Event()

    def write():
        for seq in range(150):
            store.commit(Batch(entries=[entry(1, seq), entry(2, seq)]))
            store.maintain(True)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = []
    while not done.is_set():
        second, first = len(store.entries(2)), len(store.entries(1))
        assert first >= second  # read later, so it can only be ahead
        seen.append(second)
    thread.join()
    assert len(store.entries(2)) == 150
    assert seen == sorted(seen)
