"""What every store must do, one test per line of the contract in stores/base.py. Each runs on every store."""

import itertools
import threading
from random import Random

import pytest

from holdfast.core.invocation import Status
from holdfast.errors import StoreError, StoreFailed, StoreLocked
from holdfast.stores.base import Batch, KeyRow, RewriteRow, WaiterRow
from holdfast.stores.coded import CodedStore
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SqliteStore
from tests.stores.codecs import Sealed
from tests.stores.rows import (
    TARGETS,
    blob,
    entry,
    item,
    move,
    promise,
    settle,
    snapshot,
    start,
    state,
    trim,
)

KINDS = {
    "memory": lambda path: MemoryStore(),
    "sqlite": SqliteStore,
    "coded": lambda path: CodedStore(SqliteStore(path), Sealed()),
}


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    store = KINDS[request.param](tmp_path / "agent.db")
    store.open()
    yield store
    store.close()


def reopen(store):
    store.close()
    store.open()


def test_a_new_store_is_empty(store):
    assert snapshot(store) == {
        "rows": [], "last": 0, "counts": {}, "ready": [], "due": [], "next_wake": None, "open_promises": [],
        "ended": [], "queues": ([], [], {}, {}), "objects": ({}, {}), "waiters": {},
    }  # fmt: skip
    assert store.find("x") is None
    assert store.get(1) is None
    assert store.promise("x") is None
    assert store.entries(1) == []
    assert store.length(1) == 0
    assert store.blobs(1, 0, 9) == []
    assert store.blob_digests(1) == []
    assert store.promises_of(1) == []
    assert store.children(1, 9) == []
    assert store.holder("Cart/ann") is None
    assert store.lane_running("gpt") == []
    assert store.state("Cart", "ann", "items") is None
    assert store.items_end("Cart", "ann", "items") == 0


def test_an_empty_batch_changes_nothing(store):
    store.commit(Batch())
    assert store.list() == []


def test_an_invocation_is_read_back_as_it_was_written(store):
    row = start(64, wake_at=7, input=b"\0\xff", outcome=b"")._replace(seed=-(2**63), created=2**53, status=1)
    row = row._replace(
        began=3,
        key="ann",
        lock="Cart/ann",
        lane="gpt",
        parent=2**62,
        call="0/call#1",
        build="b1",
        origin="inv-1 from 2",
        in_queue=1,
    )
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
    assert store.entries(1, 2) == [b"1/2", b""]
    assert store.entries(1, 4) == []
    assert store.entries(1, 1, 2) == [b"1/1", b"1/2"]
    assert store.entries(1, 0, 9) == store.entries(1)
    assert store.entries(1, 0, 0) == []
    assert store.entries(2) == [b"2/0"]


def test_a_move_changes_the_status_and_leaves_the_rest(store):
    row = start(1, status=Status.QUEUED, wake_at=3)
    store.commit(Batch(starts=[row]))
    store.commit(Batch(moves=[move(1, Status.SUSPENDED, updated=50, wake_at=60, outcome=b"why")]))
    assert store.get(1) == row._replace(status=1, updated=50, wake_at=60, outcome=b"why")
    store.commit(Batch(moves=[move(1, Status.READY, updated=51)]))
    assert store.get(1) == row._replace(status=0, updated=51, wake_at=None, outcome=None)


def test_when_it_began_is_kept_until_a_move_says_otherwise(store):
    store.commit(Batch(starts=[start(1, status=Status.QUEUED)]))
    store.commit(Batch(moves=[move(1, Status.READY, began=5)]))
    store.commit(Batch(moves=[move(1, Status.SUSPENDED)]))
    assert store.get(1).began == 5
    moves = [move(1, Status.READY, began=6), move(1, Status.SUSPENDED, began=7), move(1, Status.DONE), move(1, 5)]
    store.commit(Batch(moves=moves))
    assert store.get(1) == start(1, status=5, began=7)._replace(updated=9)


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
        states=[state()],
        items=[item(0), item(1)],
        trims=[trim(1)],
        waiters=[WaiterRow("call/1", 1), WaiterRow("call/2", 1)],
        unwaits=["call/1"],
    )
    assert batch.rows() == 14
    store.commit(batch)
    reopen(store)
    assert store.state("Cart", "ann", "items") == b"state"
    assert store.items("Cart", "ann", "items", 0, 9) == [(1, b"item 1")]
    assert (store.waiters("call/1"), store.waiters("call/2")) == ([], [1])
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


def test_what_is_queued_for_nothing_is_ready(store):
    queued = [
        start(1, status=Status.QUEUED),
        start(2, status=Status.QUEUED, wake_at=3),
        start(3, status=Status.QUEUED, lock="Cart/ann"),
        start(4, status=Status.QUEUED, lane="gpt"),
        start(5, status=Status.READY, lock="Cart/ann", lane="gpt"),
        start(6, status=Status.QUEUED, key="ann", parent=1),
    ]
    store.commit(Batch(starts=queued))
    assert store.ready(10) == [1, 5, 6]


def test_due_lists_the_sleeping_ones_whose_time_has_come_earliest_first(store):
    rows = [
        start(1, status=Status.SUSPENDED, wake_at=30),
        start(2, status=Status.SUSPENDED, wake_at=10),
        start(3, status=Status.SUSPENDED, wake_at=20),
        start(4, status=Status.SUSPENDED, wake_at=20),
        start(5, status=Status.SUSPENDED),  # waits for a promise only
        start(6, status=Status.READY),
        start(7, status=Status.DONE, wake_at=1),
        start(8, status=Status.PAUSED, wake_at=1),
        start(9, status=Status.QUEUED, wake_at=25, lock="Cart/ann", lane="gpt"),
        start(10, status=Status.QUEUED),
    ]
    store.commit(Batch(starts=rows))
    assert store.next_wake() == 10
    assert store.due(30, 10) == [(10, 2), (20, 3), (20, 4), (25, 9), (30, 1)]
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


def test_list_keeps_to_what_it_is_asked_for(store):
    """Each choice takes another way through a store, and all must give the same rows."""
    random = Random(1)
    statuses, keys, parents = list(Status), (None, "ann", "bob"), (None, 1, 2)
    rows = [
        start(
            n,
            status=random.choice(statuses),
            target=random.choice(TARGETS),
            key=random.choice(keys),
            parent=random.choice(parents),
        )
        for n in range(1, 200)
    ]
    store.commit(Batch(starts=rows))
    choices = itertools.product(
        (None, *Status, 99), (None, *TARGETS, "Trips/", "Mail/", "Nobody/", "Trips"), (None, "ann", "x"), (None, 2, 9)
    )
    for status, target, key, parent in choices:
        want = [
            row
            for row in reversed(rows)
            if status in (None, row.status)
            and target in (None, row.target, row.target.partition("/")[0] + "/")
            and key in (None, row.key)
            and parent in (None, row.parent)
        ]
        asked = {"status": status, "target": target, "key": key, "parent": parent}
        assert store.list(**asked, limit=1000) == want, asked
        assert store.list(**asked, before=120, limit=5) == [row for row in want if row.n < 120][:5], asked


def test_list_returns_a_hundred_unless_told(store):
    store.commit(Batch(starts=[start(n) for n in range(1, 131)]))
    assert len(store.list()) == 100


def test_invocations_are_counted_by_status(store):
    statuses = [status for status in Status for _ in range(status + 1) if status != Status.PAUSED]
    store.commit(Batch(starts=[start(n, status=status) for n, status in enumerate(statuses, 1)]))
    assert store.counts() == {0: 1, 1: 2, 2: 3, 4: 5, 5: 6, 6: 7, 7: 8}
    store.commit(Batch(moves=[move(1, Status.PAUSED)], purges=[n for n, s in enumerate(statuses, 1) if s == 4]))
    assert store.counts() == {1: 2, 2: 3, 3: 1, 5: 6, 6: 7, 7: 8}


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


def test_a_withdrawn_promise_is_made_anew_and_keeps_its_place(store):
    store.commit(Batch(promises=[promise("p"), promise("q")]))
    store.commit(Batch(settles=[settle("p", 3, value=b"")]))
    store.commit(Batch(promises=[promise("p", created=9)]))
    assert store.promise("p") == promise("p", created=9)
    assert [row.id for row in store.promises_of(1)] == ["p", "q"]
    assert [row.id for row in store.open_promises(9)] == ["q", "p"]
    store.commit(Batch(settles=[settle("p")]))
    assert store.promise("p") == promise("p", created=9, status=1, settled=5, value=b"value")


def test_a_promise_may_be_born_settled(store):
    done = promise("p", status=1, settled=3, value=b"v")
    store.commit(Batch(promises=[done]))
    assert store.promise("p") == done
    assert store.open_promises(9) == []


def test_a_lock_is_held_by_the_one_that_has_begun_and_not_ended(store):
    begun = [start(n, status=n % 8, lock=f"Cart/{n}", began=1) for n in (0, 1, 2, 3, 4, 5, 6, 7)]
    waiting = [start(10 + n, status=n, lock=f"Cart/{n}") for n in (0, 1, 2, 3)]
    store.commit(Batch(starts=[row._replace(n=row.n + 100, id=f"begun-{row.n}") for row in begun] + waiting))
    assert [store.holder(f"Cart/{n}") for n in range(8)] == [100, 101, None, 103, None, None, None, None]
    store.commit(Batch(moves=[move(100, Status.DONE), move(10, Status.READY, began=3)]))
    assert store.holder("Cart/0") == 10
    store.commit(Batch(moves=[move(10, Status.PAUSED), move(103, Status.PAUSED, in_queue=1)]))
    assert [store.holder("Cart/0"), store.holder("Cart/3")] == [10, None]
    store.commit(Batch(moves=[move(103, Status.READY)]))
    assert (store.holder("Cart/3"), store.get(103).in_queue) == (103, 0)


@pytest.mark.parametrize("kind", ["lock", "lane"])
def test_a_queue_is_in_order_of_arrival_and_tells_who_has_one(store, kind):
    rows = [
        start(1, status=Status.QUEUED, **{kind: "b"}),
        start(2, status=Status.QUEUED, **{kind: "b"}),
        start(3, status=Status.QUEUED, **{kind: "b"}, wake_at=5),
        start(4, status=Status.READY, **{kind: "b"}),
        start(5, status=Status.QUEUED, **{kind: "a"}),
        start(6, status=Status.QUEUED, **{kind: "d"}),
        start(7, status=Status.QUEUED, **{kind: "c"}, wake_at=5),
        start(8, status=Status.QUEUED),
    ]
    store.commit(Batch(starts=rows, moves=[move(1, Status.QUEUED, updated=50)]))
    names = store.queued_locks if kind == "lock" else store.queued_lanes

    def queue(name, limit):
        if kind == "lock":
            return store.queued_for_lock(name, limit)
        return [n for _, n in store.queued_for_lane(name, (-1, 0), limit)]

    assert queue("b", 9) == [2, 1]
    assert queue("b", 1) == [2]
    assert queue("c", 9) == []
    assert names("", 9) == ["a", "b", "d"]
    assert names("a", 9) == ["b", "d"]
    assert names("", 2) == ["a", "b"]
    assert names("", 0) == []
    assert names("d", 9) == []


def test_a_lanes_queue_is_read_from_a_place_onwards(store):
    places = [(7, 1), (7, 2), (7, 3), (5, 4), (9, 5)]
    starts = [start(n, status=Status.QUEUED, lane="gpt")._replace(updated=updated) for updated, n in places]
    store.commit(Batch(starts=[*starts, start(6, status=Status.QUEUED, lane="mail")._replace(updated=8)]))
    in_order = [(5, 4), (7, 1), (7, 2), (7, 3), (9, 5)]
    for passed, place in enumerate(in_order):
        assert store.queued_for_lane("gpt", place, 9) == in_order[passed + 1 :]
    assert store.queued_for_lane("gpt", (-1, 0), 3) == in_order[:3]
    assert store.queued_for_lane("gpt", (7, 1), 2) == in_order[2:4]
    assert store.queued_for_lane("gpt", (6, 99), 9) == in_order[1:]


def test_a_lane_is_held_by_what_runs_and_what_is_suspended(store):
    rows = [start(n + 10 * k, status=n, lane="gpt") for n in (0, 1, 2, 3, 4, 5, 6, 7) for k in range(1, 3)]
    store.commit(Batch(starts=[*rows, start(1), start(2, lane="mail")]))
    assert store.lane_running("gpt") == [10, 11, 20, 21]
    store.commit(Batch(moves=[move(10, Status.DONE), move(12, Status.READY), move(22, Status.SUSPENDED, wake_at=1)]))
    assert store.lane_running("gpt") == [11, 12, 20, 21, 22]
    assert store.lane_running("mail") == [2]


def test_children_come_smallest_first(store):
    rows = [start(9, parent=1), start(1), start(4, parent=1, call="c"), start(5, parent=4), start(6, parent=1)]
    store.commit(Batch(starts=rows))
    assert store.children(1, 10) == [rows[2], rows[4], rows[0]]
    assert store.children(1, 2) == [rows[2], rows[4]]
    assert store.children(9, 2) == []


def test_a_rewrite_ends_a_journal_early_and_lets_it_grow_again(store):
    store.commit(Batch(entries=[entry(n, seq) for n in (1, 2) for seq in range(5)]))
    assert (store.length(1), store.length(3)) == (5, 0)
    rewrites = [RewriteRow(1, 3), RewriteRow(3, 0), RewriteRow(2, 9), RewriteRow(1, 4)]
    store.commit(Batch(rewrites=rewrites, entries=[entry(1, 3, b"new")]))
    assert store.entries(1) == [b"1/0", b"1/1", b"1/2", b"new"]
    assert store.length(1) == 4
    assert store.length(2) == 5
    store.commit(Batch(rewrites=[RewriteRow(1, 0)]))
    assert (store.entries(1), store.length(1)) == ([], 0)


def test_a_purge_takes_all_that_is_an_invocations_own_and_nothing_else(store):
    def rows(n):
        return {
            "starts": [start(n, parent=1)],
            "entries": [entry(n, 0), entry(n, 1)],
            "blobs": [blob(n, 1)],
            "promises": [promise(f"p{n}", n), promise(f"q{n}", n, status=1, settled=3, value=b"v")],
            "waiters": [WaiterRow(f"inv-{n}", 1), WaiterRow(f"inv-{n}", 9)],
        }

    store.commit(Batch(**rows(2)))
    store.commit(Batch(states=[state()], items=[item(0)]))
    before = snapshot(store)
    store.commit(Batch(**rows(3)))
    store.commit(Batch(purges=[3, 3, 77]))
    assert store.get(3) is None
    assert store.promise("p3") is None
    assert (store.waiters("inv-2"), store.waiters("inv-3")) == ([1, 9], [])
    assert store.entries(3) == store.blobs(3, 0, 9) == store.promises_of(3) == []
    assert snapshot(store) == before | {"last": 3}
    store.commit(Batch(purges=[2], **rows(2)))  # first, so the same keys are free again
    assert snapshot(store) == before | {"last": 3}


def test_what_is_kept_for_a_workflows_key_is_forgotten_and_nothing_beside_it(store):
    theirs = [promise("Cart:ann:p", 0), promise("Cart:ann:q", 0, status=1, settled=3, value=b"v")]
    others = [
        promise("Cart:ann:p:q", 0), promise("Cart:anna:p", 0), promise("Cart:bob:p", 0), promise("Cart:ann", 0),
        promise("Cart:ann:own", 1), promise("cart:ann:p", 0),
    ]  # fmt: skip
    store.commit(Batch(promises=others, states=[state(key="bob"), state(service="Mail")], items=[item(0, key="bob")]))
    before = snapshot(store)
    store.commit(Batch(promises=theirs, states=[state(), state(name="total")], items=[item(0), item(1, name="total")]))
    store.commit(Batch(forgets=[KeyRow("Cart", "ann"), KeyRow("Cart", "nobody")]))
    assert snapshot(store) == before
    assert [store.promise(row.id) for row in (*theirs, *others)] == [None, None, *others]
    assert store.state_names("Cart", "ann") == []
    assert store.items_end("Cart", "ann", "total") == 0
    store.commit(Batch(forgets=[KeyRow("Cart", "ann")], promises=theirs, items=[item(0)], states=[state()]))
    store.commit(Batch(forgets=[KeyRow("Cart", "ann")], promises=theirs, items=[item(0)], states=[state()]))
    assert store.promise("Cart:ann:p") == theirs[0], "they are forgotten first: the same are free again"


def test_a_number_is_not_given_twice_after_a_purge(store):
    store.commit(Batch(starts=[start(5), start(9)]))
    store.commit(Batch(purges=[9]))
    assert store.last_number() == 9
    reopen(store)
    store.commit(Batch(purges=[5]))
    assert store.last_number() == 9
    store.commit(Batch(starts=[start(12)]))
    assert store.last_number() == 12


def test_what_ended_long_ago_is_listed_but_not_below_a_parent_that_goes_on(store):
    rows = [
        start(1, status=Status.SUSPENDED),
        start(2, status=Status.DONE),
        start(3, status=Status.DONE, parent=1),
        start(4, status=Status.FAILED, parent=2),
        start(5, status=Status.CANCELLED, parent=77),
        start(6, status=Status.KILLED),
        start(7, status=Status.PAUSED),
        start(8, status=Status.QUEUED, parent=2),
        start(9, status=Status.DONE),
    ]
    store.commit(Batch(starts=rows, moves=[move(2, Status.DONE, updated=8), move(9, Status.DONE, updated=10)]))
    assert store.ended_before(10, 10) == [4, 5, 6, 2]
    assert store.ended_before(11, 10) == [4, 5, 6, 2, 9]
    assert store.ended_before(6, 10) == [4, 5]
    assert store.ended_before(10, 2) == [4, 5]
    store.commit(
        Batch(waiters=[WaiterRow("inv-5", 7), WaiterRow("inv-6", 2), WaiterRow("inv-2", 77), WaiterRow("inv-6", 1)])
    )
    assert store.ended_before(10, 10) == [4, 6, 2], "7 waits for 5 and has not ended; 1 was told, or waits no more"
    store.commit(Batch(moves=[move(1, Status.CANCELLED, updated=50), move(7, Status.KILLED, updated=50)]))
    assert store.ended_before(10, 10) == [3, 4, 5, 6, 2]


def test_a_workflows_main_run_is_not_listed_while_another_of_its_key_goes_on(store):
    rows = [
        start(1, id="Cart:ann", target="Cart/run", key="ann", status=Status.DONE),
        start(2, id="Cart:bob", target="Cart/run", key="bob", status=Status.DONE),
        start(3, id="other", target="Cart/look", key="ann", status=Status.DONE),
        start(4, id="Mail:bob", target="Mail/run", key="bob", status=Status.PAUSED),
        start(5, id="going on", target="Cart/look", key="ann", status=Status.SUSPENDED),
        start(6, id="Carts", target="Carts/look", key="bob", status=Status.READY),
    ]
    store.commit(Batch(starts=rows))
    assert store.ended_before(10, 10) == [2, 3]
    store.commit(Batch(moves=[move(5, Status.FAILED)]))
    assert store.ended_before(9, 10) == [1, 2, 3]


def test_state_is_kept_per_service_key_and_name_and_the_last_write_counts(store):
    states = [
        state(b"1"),
        state(b"2", name="total"),
        state(b"3", key="bob"),
        state(b"4", service="Mail"),
        state(b"5", key="bob"),
        state(None, name="total"),
        state(None, key="nobody"),
    ]
    store.commit(Batch(states=states))
    assert store.state("Cart", "ann", "items") == b"1"
    assert store.state("Cart", "bob", "items") == b"5"
    assert store.state("Mail", "ann", "items") == b"4"
    assert store.state("Cart", "ann", "total") is None
    assert store.state_names("Cart", "ann") == ["items"]
    store.commit(Batch(states=[state(None), state(b"", name="z"), state(b"6", name="a")]))
    assert store.state_names("Cart", "ann") == ["a", "z"]
    assert store.state_names("Cart", "ann", "a") == ["z"]
    assert store.state_names("Cart", "ann", "", 1) == ["a"]
    assert store.state_names("Cart", "ann", "z", 1) == store.state_names("Cart", "ann", "", 0) == []
    assert store.state("Cart", "ann", "z") == b""
    store.commit(Batch(states=[state(None, name="z"), state(b"again", name="z"), state(None, name="a")]))
    assert store.state("Cart", "ann", "z") == b"again"
    assert store.object_keys("Cart", "", 10) == ["ann", "bob"]


def test_keys_of_objects_come_sorted_and_once(store):
    keys = ["b", "a", "ä", "a/b", "A", "z", "\U0001f600", "\uffee"]
    store.commit(Batch(states=[state(key=key, name=name) for key in keys for name in ("x", "y")]))
    store.commit(Batch(states=[state(key="other", service="Mail")]))
    assert store.object_keys("Cart", "", 99) == sorted(keys)
    assert store.object_keys("Cart", "a", 3) == sorted(keys)[2:5]
    assert store.object_keys("Cart", "\U0001f600", 3) == []
    assert store.object_keys("Cart", "", 0) == []


def test_items_are_read_by_range_and_trimmed_from_below(store):
    store.commit(Batch(items=[item(1), item(0), item(5), item(0, b"other", key="bob")]))
    store.commit(Batch(items=[item(6)]))
    assert store.items("Cart", "ann", "items", 0, 6) == [(0, b"item 0"), (1, b"item 1"), (5, b"item 5")]
    assert store.items("Cart", "ann", "items", 6, 6) == []
    assert store.items_end("Cart", "ann", "items") == 7
    store.commit(Batch(trims=[trim(5), trim(2), trim(9, name="total")]))
    assert store.items("Cart", "ann", "items", -9, 99) == [(5, b"item 5"), (6, b"item 6")]
    assert store.items("Cart", "bob", "items", 0, 9) == [(0, b"other")]
    store.commit(Batch(items=[item(7)], trims=[trim(8)]))
    assert store.items_end("Cart", "ann", "items") == 0


def test_waiters_are_there_once_and_go_with_their_subject(store):
    pairs = [("call/1", 3), ("call/1", 1), ("call/2", 1), ("call/1", 3)]
    store.commit(Batch(waiters=[WaiterRow(*pair) for pair in pairs]))
    store.commit(Batch(waiters=[WaiterRow("call/1", 1), WaiterRow("call/3", 1)]))
    assert store.waiters("call/1") == [1, 3]
    store.commit(Batch(waiters=[WaiterRow("call/1", 4)], unwaits=["call/1", "call/3", "nobody"]))
    assert [store.waiters(f"call/{k}") for k in (1, 2, 3)] == [[], [1], []]


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
        states=[state(key=f"k{n}") for n in range(1, count + 1)],
        items=[item(n) for n in range(1, count + 1)],
        waiters=[WaiterRow("call/1", n) for n in range(1, count + 1)],
    )
    store.commit(batch)
    assert len(store.object_keys("Cart", "", 10_000)) == count
    assert store.items("Cart", "ann", "items", 0, 10_000) == [(n, b"item %d" % n) for n in range(1, count + 1)]
    assert store.waiters("call/1") == list(range(1, count + 1))
    assert store.last_number() == count
    assert store.due(count, 10_000) == [(n, n) for n in range(1, count + 1)]
    assert [store.entries(n) for n in range(1, count + 2)] == [[b"%d/0" % n] for n in range(1, count + 1)] + [[]]
    assert store.blobs(count, 1, 1) == [(1, b"body")]
    assert store.promises_of(count)[0].status == 1
    assert store.open_promises(1) == []
    gone = Batch(
        purges=list(range(1, count + 1)),
        rewrites=[RewriteRow(n, 0) for n in range(1, count + 1)],
        states=[state(None, key=f"k{n}") for n in range(1, count + 1)],
        trims=[trim(count + 1)] * count,
        unwaits=["call/1"] * count,
    )
    store.commit(gone)
    assert store.list() == store.waiters("call/1") == store.object_keys("Cart", "", 10) == []
    assert store.entries(count) == store.promises_of(count) == store.items("Cart", "ann", "items", 0, 10_000) == []
    assert store.last_number() == count


def test_entries_of_any_count_are_written_alone(store):
    """A batch of one table takes a shorter way through the store."""
    seq = 0
    for count in (1, 3, 4, 40, 1000, 1025):
        store.commit(Batch(entries=[entry(1, seq + k) for k in range(count)]))
        seq += count
    assert store.entries(1) == [b"1/%d" % k for k in range(seq)]


def seeded():
    return Batch(
        starts=[start(1)],
        entries=[entry(1, 0)],
        blobs=[blob(1, 1)],
        promises=[promise("open"), promise("shut"), promise("gone"), promise("Cart:ann:p", 0)],
        items=[item(0)],
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
    "a READY one with a time": Batch(starts=[start(2), start(3, wake_at=1)]),
    "a READY one given a time": Batch(starts=[start(2)], moves=[move(1, Status.READY, wake_at=1)]),
    "a blob twice": Batch(starts=[start(2)], blobs=[blob(1, 1, b"other")]),
    "a blob twice in the batch": Batch(starts=[start(2)], blobs=[blob(2, 1), blob(2, 1)]),
    "a promise twice": Batch(starts=[start(2)], promises=[promise("open", 2)]),
    "a settled promise made again": Batch(starts=[start(2)], promises=[promise("shut")]),
    "a withdrawn promise made again by another": Batch(starts=[start(2)], promises=[promise("gone", 2)]),
    "a withdrawn promise made again twice": Batch(starts=[start(2)], promises=[promise("gone"), promise("gone")]),
    "a promise twice in the batch": Batch(starts=[start(2)], promises=[promise("new"), promise("new")]),
    "a settled promise settled": Batch(starts=[start(2)], settles=[settle("open"), settle("shut", 2)]),
    "an unknown promise settled": Batch(starts=[start(2)], settles=[settle("nobody")]),
    "an element twice": Batch(starts=[start(2)], items=[item(1), item(0, b"twin")]),
    "an element twice in the batch": Batch(starts=[start(2)], items=[item(1), item(1)]),
    "an element twice, trimmed after": Batch(starts=[start(2)], items=[item(0)], trims=[trim(9)]),
    "a move of one just purged": Batch(starts=[start(2)], purges=[1], moves=[move(1, Status.DONE)]),
    "a settle of a promise just forgotten": Batch(
        starts=[start(2)], forgets=[KeyRow("Cart", "ann")], settles=[settle("Cart:ann:p")]
    ),
    "a settle of a promise just purged": Batch(starts=[start(2)], purges=[1], settles=[settle("open")]),
    "an entry before the part rewritten": Batch(starts=[start(2)], rewrites=[RewriteRow(1, 1)], entries=[entry(1, 0)]),
    "a promise settled twice in the batch": Batch(starts=[start(2)], settles=[settle("open"), settle("open", 2)]),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_batch_that_breaks_a_rule_is_refused_whole_and_stops_the_store(store, name, tmp_path):
    store.commit(seeded())
    store.commit(Batch(settles=[settle("shut"), settle("gone", 3)]))
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
        lambda: store.length(1),
        store.counts,
        lambda: store.holder("Cart/ann"),
        lambda: store.queued_for_lock("Cart/ann", 1),
        lambda: store.queued_for_lane("gpt", (-1, 0), 1),
        lambda: store.queued_locks("", 1),
        lambda: store.queued_lanes("", 1),
        lambda: store.lane_running("gpt"),
        lambda: store.children(1, 1),
        lambda: store.ended_before(1, 1),
        lambda: store.state("Cart", "ann", "items"),
        lambda: store.state_names("Cart", "ann"),
        lambda: store.object_keys("Cart", "", 1),
        lambda: store.items("Cart", "ann", "items", 0, 1),
        lambda: store.items_end("Cart", "ann", "items"),
        lambda: store.waiters("call/1"),
        store.list,
        lambda: store.list(target="Trips/"),
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
