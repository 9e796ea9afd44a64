"""What the SQLite store does with its file: plans, sizes, the log's length, full disks, copies."""

import re
import threading
from pathlib import Path

import apsw
import pytest

from holdfast.core.invocation import Status
from holdfast.errors import StoreError, StoreFailed, StoreFull, UsageError
from holdfast.stores.base import Batch, KeyRow, RewriteRow, WaiterRow
from holdfast.stores.sqlite import SqliteStore, space, wal
from holdfast.stores.sqlite import store as store_module
from holdfast.stores.sqlite.queries import QUERIES, parse
from holdfast.stores.sqlite.writes import plan
from tests.crash.vfs import Fault, recording
from tests.stores.rows import TARGETS, blob, entry, item, move, promise, settle, snapshot, start, state, trim


@pytest.fixture
def path(tmp_path):
    return tmp_path / "agent.db"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    store.open()
    yield store
    store.close()


def log_bytes(path):
    return path.with_name("agent.db-wal").stat().st_size


def log_pages(store):
    """(pages in the log, of these copied into the database)."""
    return store._live.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)


# What may be searched, by which index. "SCAN" is only right where the index holds nothing but the answer; counts, which
# is for people, walks the smallest index that has every row.
LOCK, LANE = "invocation_lock", "invocation_lane"
PLANS = {
    "last_number": [
        "SCAN CONSTANT ROW",
        "SEARCH invocation",
        "SEARCH state USING PRIMARY KEY (service=? AND key=? AND name=?)",
    ],
    "find": ["SEARCH invocation USING INDEX sqlite_autoindex_invocation_1 (id=?)"],
    "get": ["SEARCH invocation USING INTEGER PRIMARY KEY (rowid=?)"],
    "entries": ["SEARCH entry USING INDEX sqlite_autoindex_entry_1 (n=? AND seq>?)"],
    "length": ["SEARCH entry USING COVERING INDEX sqlite_autoindex_entry_1 (n=?)"],
    "counts": [
        "SEARCH invocation USING INDEX invocation_due (wake_at=?)",
        "SCAN invocation USING COVERING INDEX invocation_status",
        "SCAN invocation USING COVERING INDEX invocation_target",
    ],
    "ready": ["SEARCH invocation USING INDEX invocation_due (wake_at=?)"],
    "due": ["SEARCH invocation USING INDEX invocation_due (wake_at<?)"],
    "next_wake": ["SEARCH invocation USING INDEX invocation_due (wake_at>?)"],
    "holder": [f"SEARCH invocation USING INDEX {LOCK} (status=? AND lock=?)"],
    "queued_for_lock": [f"SEARCH invocation USING INDEX {LOCK} (status=? AND lock=?)"],
    "queued_for_lane": [
        "MERGE (UNION ALL)",
        "LEFT",
        f"SEARCH invocation USING INDEX {LANE} (status=? AND lane=? AND updated=? AND rowid>?)",
        "RIGHT",
        f"SEARCH invocation USING INDEX {LANE} (status=? AND lane=? AND updated>?)",
    ],
    "queued_locks": [f"SEARCH invocation USING INDEX {LOCK} (status=? AND lock>?)"] * 2,
    "queued_lanes": [f"SEARCH invocation USING INDEX {LANE} (status=? AND lane>?)"] * 2,
    "lane_running": [f"SEARCH invocation USING COVERING INDEX {LANE} (status=? AND lane=?)"],
    "children": ["SEARCH invocation USING INDEX invocation_parent (parent=?)"],
    "ended_before": [
        "SEARCH i USING INDEX invocation_ended (updated<?)",
        "SEARCH p USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH waiter USING PRIMARY KEY (subject=?)",
        "SEARCH w USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH o USING INDEX invocation_key (key=?)",
    ],
    "blob_digests": ["SEARCH blob USING INDEX sqlite_autoindex_blob_1 (owner=?)"],
    "blobs": ["SEARCH blob USING INDEX sqlite_autoindex_blob_1 (owner=? AND number>? AND number<?)"],
    "promise": ["SEARCH promise USING INDEX sqlite_autoindex_promise_1 (id=?)"],
    "promises_of": ["SEARCH promise USING INDEX promise_of (n=?)"],
    "open_promises": ["SCAN promise USING INDEX promise_open"],
    "list": ["SEARCH invocation USING INTEGER PRIMARY KEY (rowid<?)"],
    "list_parent": ["SEARCH invocation USING INDEX invocation_parent (parent=? AND rowid<?)"],
    "list_key": ["SEARCH invocation USING INDEX invocation_key (key=? AND rowid<?)"],
    "list_ready": ["SEARCH invocation USING INDEX invocation_due (wake_at=? AND rowid<?)"],
    "list_status": ["SEARCH invocation USING INDEX invocation_status (status=? AND rowid<?)"],
    "list_target": ["SEARCH invocation USING INDEX invocation_target (target=? AND rowid<?)"],
    "targets": [
        "SEARCH invocation USING COVERING INDEX invocation_target (target>? AND target<?)",
        "SEARCH i USING COVERING INDEX invocation_target (target>? AND target<?)",
    ],
    "state": ["SEARCH state USING PRIMARY KEY (service=? AND key=? AND name=?)"],
    "state_names": ["SEARCH state USING PRIMARY KEY (service=? AND key=? AND name>?)"],
    "object_keys": [
        "SEARCH state USING PRIMARY KEY (service=? AND key>?)",
        "SEARCH s USING PRIMARY KEY (service=? AND key>?)",
    ],
    "items": ["SEARCH item USING INDEX sqlite_autoindex_item_1 (service=? AND key=? AND name=? AND idx>? AND idx<?)"],
    "items_end": ["SEARCH item USING COVERING INDEX sqlite_autoindex_item_1 (service=? AND key=? AND name=?)"],
    "waiters": ["SEARCH waiter USING PRIMARY KEY (subject=?)"],
}
# What writes of many rows search the tables by: {values} is scanned, a table never.
WRITES = {
    "keep_last_number": ["SEARCH invocation"],
    "purge_invocations": ["SEARCH invocation USING INTEGER PRIMARY KEY (rowid=?)"],
    "purge_entries": ["SEARCH entry USING COVERING INDEX sqlite_autoindex_entry_1 (n=?)"],
    "purge_blobs": ["SEARCH blob USING COVERING INDEX sqlite_autoindex_blob_1 (owner=?)"],
    "purge_promises": ["SEARCH promise USING COVERING INDEX promise_of (n=?)"],
    "purge_waiters": [
        "SEARCH waiter USING PRIMARY KEY (subject=?)",
        "SEARCH invocation USING INTEGER PRIMARY KEY (rowid=?)",
    ],
    "forget_promises": [
        "SEARCH promise USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH promise USING INDEX sqlite_autoindex_promise_1 (id>? AND id<?)",
    ],
    "forget_states": ["SEARCH state USING PRIMARY KEY (service=? AND key=?)"],
    "forget_items": ["SEARCH item USING COVERING INDEX sqlite_autoindex_item_1 (service=? AND key=?)"],
    "rewrite": [
        "SEARCH entry USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH entry USING COVERING INDEX sqlite_autoindex_entry_1 (n=? AND seq>?)",
    ],
    "move": ["SEARCH invocation USING INTEGER PRIMARY KEY (rowid=?)"],
    "settle": ["SEARCH promise USING INDEX sqlite_autoindex_promise_1 (id=?)"],
    "drop_states": ["SEARCH state USING PRIMARY KEY (service=? AND key=? AND name=?)"],
    "trim": [
        "SEARCH item USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH item USING COVERING INDEX sqlite_autoindex_item_1 (service=? AND key=? AND name=? AND idx<?)",
    ],
    "drop_waiters": ["SEARCH waiter USING PRIMARY KEY (subject=?)"],
}
ADDS = {  # find nothing: they only add
    "add_starts", "add_entries", "add_blobs", "add_promises", "put_states", "add_items", "add_waiters",
}  # fmt: skip
FRAGMENTS = {"row", "page", "is_due", "at_lock", "in_lane"}  # parts of other statements
# Of a WITH RECURSIVE that goes from one value to the next, and of IN: they hold only what was found or given.
HARMLESS = re.compile(
    r"(SCAN found|CO-ROUTINE found|SETUP|RECURSIVE STEP|(CORRELATED )?SCALAR SUBQUERY \d+|LIST SUBQUERY \d+"
    r"|SCAN \d+-ROW VALUES CLAUSE|COMPOUND QUERY|LEFT-MOST SUBQUERY|UNION ALL)"
)


def steps(store, sql, values):
    rows = store._live.writer.execute("EXPLAIN QUERY PLAN " + sql, values)
    return [row[3] for row in rows if not HARMLESS.fullmatch(row[3])]


@pytest.mark.parametrize("name", PLANS)
def test_every_read_goes_by_its_index_and_sorts_nothing(store, name):
    sql = QUERIES[name]
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    assert steps(store, sql, (1,) * (max(numbered) if numbered else sql.count("?"))) == PLANS[name]


def every_write():
    return plan(
        Batch(
            purges=[1, 2],
            forgets=[KeyRow("s", "k"), KeyRow("s", "l")],
            rewrites=[RewriteRow(1, 0), RewriteRow(2, 0)],
            starts=[start(1), start(2)],
            entries=[entry(1, 0), entry(2, 0)],
            moves=[move(1, 4), move(2, 4)],
            blobs=[blob(1, 1), blob(2, 1)],
            promises=[promise("p"), promise("q")],
            settles=[settle("p"), settle("q")],
            states=[state(), state(key="k"), state(None, key="l"), state(None, key="m")],
            items=[item(0), item(1)],
            trims=[trim(1), trim(2)],
            waiters=[WaiterRow("s", 1), WaiterRow("s", 2)],
            unwaits=["s", "t"],
        )
    )


def test_every_write_finds_its_rows_by_key(store):
    found = {}
    for write in every_write():
        name = next(name for name in (*WRITES, *ADDS) if write.sql.startswith(QUERIES[name].partition("{values}")[0]))
        found[name] = steps(store, write.sql, write.values)
    assert found == WRITES | {name: [] for name in ADDS}


def test_every_query_has_a_known_plan():
    assert PLANS.keys() | WRITES.keys() | ADDS | FRAGMENTS | {"count_open", "parts"} == QUERIES.keys()


def test_queries_are_read_by_name_without_their_comments():
    text = "-- head\n\n-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT 2\nFROM t;\n"
    assert parse(text) == {"one": "SELECT 1", "two": "SELECT 2\nFROM t"}


def test_a_query_may_hold_an_earlier_one():
    text = "-- name: row\na, b;\n-- name: two\nSELECT {row} FROM t WHERE {values};\n"
    assert parse(text)["two"] == "SELECT a, b FROM t WHERE {values}"


def test_a_thousand_entries_are_one_statement():
    """apsw gives up the interpreter lock at each statement: writes.py has the measurements."""
    assert [len(plan(Batch(entries=[entry(1, seq) for seq in range(count)]))) for count in (1, 200, 1000, 1025)] == [
        1, 1, 1, 2,
    ]  # fmt: skip


SLEEPERS = 10_000
HOUR = 3_600_000
NOW = 1_800_000_000_000


def put_to_sleep(store, first, last):
    """As the engine does it: a start, three short entries, then the move to sleep."""
    for low in range(first, last, 1000):
        numbers = [64 * k for k in range(low, min(low + 1000, last))]
        store.commit(
            Batch(
                starts=[
                    start(n, id=f"{n:032x}", target="Assistant/remind", input=b'["Rome"]' * 5)._replace(created=NOW)
                    for n in numbers
                ],
                entries=[entry(n, seq, bytes(60)) for n in numbers for seq in range(3)],
                moves=[move(n, Status.SUSPENDED, updated=NOW, wake_at=NOW + HOUR + n) for n in numbers],
            )
        )
        store.maintain(False)


def test_a_sleeper_costs_less_than_a_kilobyte(store, path):
    put_to_sleep(store, 1, SLEEPERS + 1)
    store.close()
    assert path.stat().st_size < SLEEPERS * 1000


def steps_of(store, call):
    """Instructions of SQLite's virtual machine that a call takes: time, without the noise."""
    count = 0

    def tick():
        nonlocal count
        count += 1
        return False

    store._live.reader.set_progress_handler(tick, 1)
    call()
    store._live.reader.set_progress_handler(None)
    return count


def test_looking_for_work_costs_the_same_beside_ten_thousand_sleepers(store):
    store.commit(Batch(starts=[start(1), start(2, status=Status.SUSPENDED, wake_at=1)], promises=[promise("p")]))
    calls = [
        lambda: store.ready(10),
        lambda: store.due(NOW, 10),
        store.next_wake,
        lambda: store.open_promises(10),
        store.last_number,
        lambda: store.find("inv-1"),
        lambda: store.holder("Cart/ann"),
        lambda: store.queued_for_lock("Cart/ann", 10),
        lambda: store.queued_locks("", 10),
        lambda: store.queued_for_lane("gpt", (-1, 0), 10),
        lambda: store.lane_running("gpt"),
        lambda: store.ended_before(NOW, 10),
        lambda: store.list(status=Status.READY),
        lambda: store.list(status=Status.PAUSED),
        lambda: store.list(target=TARGETS[0]),
        lambda: store.list(key="ann"),
    ]
    before = [steps_of(store, call) for call in calls]
    put_to_sleep(store, 1, SLEEPERS + 1)
    assert all(after <= alone for after, alone in zip([steps_of(store, call) for call in calls], before, strict=True))


OVER = (Status.DONE, Status.FAILED, Status.CANCELLED, Status.KILLED)


def test_a_page_of_what_has_ended_costs_the_same_however_many_there_are_and_however_deep_it_is(store):
    def end(first, last, ends):
        rows = [start(n, status=ends[n % len(ends)], outcome=b"end", target=TARGETS[n % 2]) for n in range(first, last)]
        store.commit(Batch(starts=rows))

    def cost(before):
        pages = [{"status": status} for status in (None, *OVER)] + [{"target": TARGETS[0], "status": Status.DONE}]
        return [steps_of(store, lambda page=page: store.list(before=before, limit=20, **page)) for page in pages]

    end(1, 1_000, OVER)
    few = cost(None)
    end(1_000, 12_000, [Status.DONE])
    for before in (None, 6_000, 999):
        assert all(now <= alone * 1.1 for now, alone in zip(cost(before), few, strict=True))


def crowd(store, first, last):
    """Of one lock and one lane: queued, delayed, paused in the queue, ended; and beside them what is asleep."""
    kinds = (
        {"status": Status.QUEUED},
        {"status": Status.QUEUED, "wake_at": NOW + HOUR},
        {"status": Status.PAUSED},
        {"status": Status.DONE, "began": 1, "outcome": b"end"},
    )
    rows = [start(n, lock="Cart/ann", lane="gpt", **kinds[n % 4]) for n in range(first, last)]
    store.commit(Batch(starts=rows, waiters=[WaiterRow(f"inv-{row.n}", row.n) for row in rows]))


def test_a_long_queue_makes_nobody_pass_those_who_wait(store):
    crowd(store, 100, 180)
    store.commit(Batch(starts=[start(1, lock="Cart/ann", lane="gpt", began=1), start(2, lock="Cart/bob", began=1)]))
    calls = [
        lambda: store.ready(10),
        lambda: store.due(NOW, 10),
        store.next_wake,
        lambda: store.holder("Cart/ann"),
        lambda: store.holder("Cart/bob"),
        lambda: store.queued_for_lock("Cart/ann", 10),
        lambda: store.queued_for_lane("gpt", (-1, 0), 10),
        lambda: store.queued_locks("", 10),
        lambda: store.queued_lanes("", 10),
        lambda: store.lane_running("gpt"),
        lambda: store.ended_before(10_000, 10),
        lambda: store.waiters("inv-100"),
        lambda: store.list(status=Status.READY),
    ]
    before = [steps_of(store, call) for call in calls]
    crowd(store, 1000, 9000)
    assert all(after <= alone for after, alone in zip([steps_of(store, call) for call in calls], before, strict=True))


def test_a_place_in_a_lane_is_found_without_passing_those_before_it(store):
    """Also where all came in one millisecond, as what one handler has sent does."""
    store.commit(Batch(starts=[start(n, status=Status.QUEUED, lane="gpt")._replace(updated=NOW) for n in range(3_000)]))
    places = [(-1, 0), (NOW, 10), (NOW, 2_990)]
    counts = [steps_of(store, lambda place=place: store.queued_for_lane("gpt", place, 1)) for place in places]
    assert max(counts) < 200


def test_the_log_is_grown_at_open_and_commits_do_not_lengthen_it(store, path):
    grown = log_bytes(path)
    assert grown >= wal.GROWN_BYTES
    assert log_pages(store)[0] < 10  # grown, not filled
    for seq in range(200):
        store.commit(Batch(entries=[entry(1, seq, bytes(200))]))
        store.maintain(False)
    assert log_bytes(path) == grown


def test_the_log_is_kept_long_by_checkpoints_and_starts_over(store, path):
    grown = log_bytes(path)
    for round in range(4):
        while log_pages(store)[0] < wal.IDLE_PAGES:
            store.commit(Batch(blobs=[blob(round, log_pages(store)[0], bytes(400_000))]))
        store.maintain(True)
        pages, copied = log_pages(store)
        assert pages == copied >= wal.IDLE_PAGES
        store.commit(Batch(entries=[entry(1, round)]))
        assert log_pages(store)[0] < 10
    assert log_bytes(path) == grown


def test_a_checkpoint_waits_for_an_idle_moment_or_a_long_log(store):
    def fill(pages):
        number = 0
        while log_pages(store)[0] < pages:
            number += 1
            store.commit(Batch(blobs=[blob(pages, number, bytes(400_000))]))

    fill(wal.IDLE_PAGES - 150)
    store.maintain(True)
    assert log_pages(store)[1] == 0  # too little to be worth it
    fill(wal.IDLE_PAGES)
    store.maintain(False)
    assert log_pages(store)[1] == 0  # not idle
    fill(wal.FORCED_PAGES)
    store.maintain(False)
    assert log_pages(store)[1] >= wal.FORCED_PAGES


def test_a_long_reader_delays_a_checkpoint_and_breaks_nothing(store, path):
    store.commit(Batch(starts=[start(1)]))
    with apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) as reader:
        seen = reader.execute("SELECT count(*) FROM blob").fetchall()
        for number in range(15):
            store.commit(Batch(blobs=[blob(1, number, bytes(400_000))]))
            store.maintain(True)
        assert log_pages(store)[1] < log_pages(store)[0]
        assert reader.execute("SELECT count(*) FROM blob").fetchall() == seen
    reader.close()
    store.commit(Batch(blobs=[blob(1, number, bytes(400_000)) for number in range(20, 40)]))
    store.maintain(True)
    assert log_pages(store)[1] == log_pages(store)[0]


def test_a_full_disk_puts_a_checkpoint_off(path, monkeypatch):
    monkeypatch.setattr(wal, "IDLE_PAGES", 10)
    with recording() as disk:
        store = SqliteStore(path, vfs=disk.name)
        store.open()
        store.commit(Batch(blobs=[blob(1, 1, bytes(100_000))]))
        disk.fault = Fault("write", 3, code=apsw.SQLITE_FULL)
        store.maintain(True)
        assert disk.fault.struck
        assert log_pages(store)[1] == 0
        disk.fault = None
        store.commit(Batch(blobs=[blob(1, 2, bytes(100_000))]))
        store.maintain(True)
        assert log_pages(store)[1] == log_pages(store)[0]
        store.close()


def large(n):
    return Batch(starts=[start(n, status=Status.DONE, outcome=b"end")], blobs=[blob(n, 1, bytes(40_000))])


def test_a_purge_makes_the_file_smaller_slice_by_slice_while_it_is_idle(store, path):
    for n in range(1, 401):
        store.commit(large(n))
        store.maintain(False)
    while store.maintain(True):
        pass
    pages = store._live.writer.pragma("page_count")
    store.commit(Batch(purges=[n for n in range(1, 401) if n % 20]))
    assert not store.maintain(False)
    assert store._live.writer.pragma("page_count") == pages, "it is not idle"
    slices = 0
    while store.maintain(True):
        slices += 1
        left = store._live.writer.pragma("page_count")
        assert pages - left <= space.SLICE_PAGES + 1  # and one that tells where the others hang
        pages = left
    assert slices > 10
    assert path.stat().st_size < 20 * 40_000 + 4096 * (space.KEPT_PAGES + 100)
    assert store._live.writer.pragma("integrity_check") == "ok"
    assert store.blobs(20, 1, 1) == [(1, bytes(40_000))]


def test_a_few_free_pages_are_kept_for_what_comes(store):
    for n in range(1, 201):
        store.commit(large(n))
    free = []
    for n in range(1, 101, 10):
        store.commit(Batch(purges=list(range(n, n + 10))))
        assert not store.maintain(True) or free[-1] > space.KEPT_PAGES
        free.append(store._live.writer.pragma("freelist_count"))
    assert free[0] > 90


def test_a_full_disk_puts_it_off_to_make_the_file_smaller(path):
    with recording() as disk:
        store = SqliteStore(path, vfs=disk.name)
        store.open()
        for n in range(1, 101):
            store.commit(large(n))
        store.commit(Batch(purges=list(range(1, 100))))
        free = store._live.writer.pragma("freelist_count")
        disk.fault = Fault("write", 1, code=apsw.SQLITE_FULL)
        assert not store.maintain(True)
        assert disk.fault.struck
        disk.fault = None
        assert store._live.writer.pragma("freelist_count") == free
        while store.maintain(True):
            pass
        assert store._live.writer.pragma("freelist_count") < free / 2
        assert store.blobs(100, 1, 1) == [(1, bytes(40_000))]
        store.close()


def test_a_log_left_by_a_killed_process_is_not_grown_again(path):
    store = SqliteStore(path)
    store.open()
    store.commit(Batch(starts=[start(1)]))
    with recording() as disk:
        killed = path.with_name("killed.db")
        for suffix in ("", "-wal"):
            killed.with_name(killed.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
        again = SqliteStore(killed, vfs=disk.name)
        again.open()
        assert again.get(1) == start(1)
        assert len([event for event in disk.events if event.kind == "write"]) < 20
        again.close()
    store.close()


def test_a_full_disk_rolls_the_batch_back_and_the_store_goes_on(store):
    store.commit(Batch(starts=[start(1)]))
    before = snapshot(store)
    writer = store._live.writer
    writer.pragma("max_page_count", writer.pragma("page_count") + 3)
    for _ in range(3):
        with pytest.raises(StoreFull, match="no space left"):
            store.commit(Batch(starts=[start(2)], blobs=[blob(2, 1, bytes(100_000))]))
        assert snapshot(store) == before
    store.commit(Batch(entries=[entry(1, 0)]))  # what still fits is still taken
    writer.pragma("max_page_count", 10**6)
    store.commit(Batch(starts=[start(2)], blobs=[blob(2, 1, bytes(100_000))]))
    assert store.blobs(2, 1, 1) == [(1, bytes(100_000))]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, MemoryError])
def test_a_commit_that_is_interrupted_stops_the_store(store, monkeypatch, raised):
    """Whether the batch was committed can only be told by reading it back, so nothing may be assumed."""

    def interrupted(writer, writes):
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(writes[0].sql, writes[0].values)
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_transact", interrupted)
        with pytest.raises(StoreFailed if issubclass(raised, Exception) else raised):
            store.commit(Batch(starts=[start(1)], entries=[entry(1, 0)]))
    assert not store._live.writer.in_transaction
    with pytest.raises(StoreFailed, match=raised.__name__):
        store.get(1)
    store.close()
    store.open()
    assert store.get(1) is None


@pytest.mark.parametrize("row", [start(1)._replace(id="\ud800"), start(2**63), start(1)._replace(input="text")])
def test_a_row_that_cannot_be_stored_is_the_engines_fault(store, row):
    with pytest.raises(StoreFailed):
        store.commit(Batch(starts=[row]))


def fill(store, count=400):
    store.commit(Batch(starts=[start(1)], blobs=[blob(1, number, bytes(10_000)) for number in range(count)]))


def test_a_backup_is_a_store_that_holds_every_commit_whole(store, tmp_path):
    """Commits run between its slices: each is in the copy with both its entries or with none."""
    fill(store)
    copy = tmp_path / "copy.db"
    slices = 0
    for _ in store.backup(copy):
        store.commit(Batch(entries=[entry(1, slices), entry(2, slices)]))
        store.maintain(True)
        slices += 1
        assert not copy.exists()
    assert slices >= 3
    assert sorted(file.name for file in tmp_path.glob("copy*")) == ["copy.db"]
    with_copy = SqliteStore(copy)
    with_copy.open()
    assert len(with_copy.entries(1)) == len(with_copy.entries(2)) <= slices
    assert len(with_copy.blob_digests(1)) == 400
    assert with_copy._live.reader.pragma("quick_check") == "ok"
    with_copy.commit(Batch(starts=[start(2)]))
    with_copy.close()


def test_a_backup_overwrites_nothing(store, tmp_path):
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"mine")
    with pytest.raises(UsageError, match="it exists"):
        next(store.backup(copy))
    assert copy.read_bytes() == b"mine"


def test_a_backup_that_is_cut_off_leaves_nothing(store, tmp_path):
    fill(store)
    backup = store.backup(tmp_path / "copy.db")
    next(backup)
    backup.close()
    assert list(tmp_path.glob("copy*")) == []
    (tmp_path / "copy.db.partial").write_bytes(b"left by a process that was killed")
    list(store.backup(tmp_path / "copy.db"))
    assert [file.name for file in tmp_path.glob("copy*")] == ["copy.db"]


def test_a_store_may_be_closed_in_the_middle_of_a_backup(store, tmp_path):
    fill(store)
    backup = store.backup(tmp_path / "copy.db")
    next(backup)
    store.close()
    with pytest.raises(StoreError):
        list(backup)
    assert list(tmp_path.glob("copy*")) == []
    store.open()
    assert len(store.blob_digests(1)) == 400


def test_a_backup_to_nowhere_fails_alone(store, tmp_path):
    with pytest.raises(StoreError, match="folder is missing"):
        list(store.backup(tmp_path / "no" / "copy.db"))
    store.commit(Batch(starts=[start(1)]))


@pytest.mark.parametrize("code", [apsw.SQLITE_FULL, apsw.SQLITE_IOERR_WRITE])
def test_a_disk_that_fails_under_the_copy_does_not_fail_the_store(path, tmp_path, code):
    with recording() as disk:
        store = SqliteStore(path, vfs=disk.name)
        store.open()
        fill(store)
        backup = store.backup(tmp_path / "copy.db")
        next(backup)
        disk.fault = Fault("write", 100, code=code)
        with pytest.raises(StoreFull if code == apsw.SQLITE_FULL else StoreError, match=r"copy\.db"):
            list(backup)
        disk.fault = None
        store.commit(Batch(entries=[entry(1, 0)]))
        assert list(tmp_path.glob("copy*")) == []
        store.close()


def test_commits_may_come_from_another_thread_than_reads(store):
    """The engine's two lanes: small batches on its own thread, the rest on the writer's, never both at once."""
    for seq in range(20):
        thread = threading.Thread(target=store.commit, args=(Batch(entries=[entry(1, 2 * seq)]),))
        thread.start()
        thread.join()
        store.commit(Batch(entries=[entry(1, 2 * seq + 1)]))
        assert len(store.entries(1)) == 2 * seq + 2


def test_sql_files_stand_beside_the_code_that_reads_them():
    folder = Path(store_module.__file__).parent
    assert [file.name for file in sorted((folder / "migrations").glob("*.sql"))] == ["0001_init.sql", "0002_engine.sql"]
