"""One list of random operations on every store: the answers are the same, and stay so over restarts.

MemoryStore is the oracle: small enough to be believed by reading it.
"""

import shutil
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from holdfast.core.invocation import Status
from holdfast.errors import StoreError
from holdfast.stores.base import Batch, ItemRow, KeyRow, RewriteRow, StateRow, TrimRow, WaiterRow
from holdfast.stores.coded import CodedStore
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SqliteStore, wal
from tests.stores.codecs import Sealed
from tests.stores.rows import (
    KEYS,
    LANES,
    LOCKS,
    NAMES,
    SERVICES,
    SUBJECTS,
    TARGETS,
    Writer,
    blob,
    entry,
    move,
    promise,
    settle,
    snapshot,
    start,
)

# Few values, so that rows meet: a rule broken by accident is part of the test.
numbers = st.integers(1, 5)
seqs = st.integers(0, 6)
names = st.sampled_from(["p", "q", "r", "s"])
bodies = st.binary(max_size=300)
times = st.integers(0, 20)
statuses = st.sampled_from(list(Status))

services = st.sampled_from(SERVICES)
keys = st.sampled_from(KEYS)
value_names = st.sampled_from(NAMES)
subjects = st.sampled_from(SUBJECTS)
lanes = st.sampled_from(LANES)
locks = st.sampled_from(LOCKS)
targets = st.sampled_from(TARGETS)
workflows = st.builds(KeyRow, services, keys)
key_names = st.sampled_from(["Cart:ann:p", "Cart:ann:p:q", "Mail:bob:p", "Mail:bob"])
run_ids = st.sampled_from(["Mail:ann", "Trips:ann"])


def in_order(row):
    """A READY one has no time."""
    return row._replace(wake_at=None) if row.status == Status.READY else row


starts = st.builds(
    start,
    numbers,
    status=statuses,
    id=st.none() | run_ids,
    wake_at=st.none() | times,
    target=targets,
    began=st.none() | times,
    key=st.none() | keys,
    lock=st.none() | locks,
    lane=st.none() | lanes,
    parent=st.none() | numbers,
    call=st.none() | names,
    build=names,
    origin=st.none() | names,
    in_queue=st.sampled_from((0, 1)),
).map(in_order)
moves = st.builds(
    move,
    numbers,
    statuses,
    updated=times,
    wake_at=st.none() | times,
    began=st.none() | times,
    outcome=st.none() | bodies,
    in_queue=st.sampled_from((0, 1)),
).map(in_order)


def few(rows, most=2):
    return st.lists(rows, max_size=most)


batches = st.builds(
    Batch,
    purges=few(numbers, 1),
    forgets=few(workflows, 1),
    rewrites=few(st.builds(RewriteRow, numbers, seqs)),
    starts=few(starts),
    entries=few(st.builds(entry, numbers, seqs, bodies), 3),
    moves=few(moves),
    blobs=few(st.builds(blob, numbers, st.integers(-2, 2), bodies)),
    promises=few(
        st.builds(promise, names, numbers, created=times) | st.builds(promise, key_names, st.sampled_from((0, 1)))
    ),
    settles=few(st.builds(settle, names, st.sampled_from((1, 2)), value=bodies), 1),
)
# Apart, because few of the batches above keep all the rules, and these hardly can break one.
side_batches = st.builds(
    Batch,
    purges=few(numbers, 1),
    forgets=few(workflows, 1),
    states=few(st.builds(StateRow, services, keys, value_names, st.none() | bodies), 4),
    items=few(st.builds(ItemRow, services, keys, value_names, seqs, bodies), 2),
    trims=few(st.builds(TrimRow, services, keys, value_names, seqs)),
    waiters=few(st.builds(WaiterRow, subjects, numbers), 4),
    unwaits=few(subjects),
)


def every_kind(folder):
    """The oracle first."""
    return [MemoryStore(), SqliteStore(folder / "agent.db"), CodedStore(MemoryStore(), Sealed())]


class Agreement(RuleBasedStateMachine):
    @initialize()
    def open(self):
        self.folder = Path(tempfile.mkdtemp())
        self.stores = every_kind(self.folder)
        for store in self.stores:
            store.open()

    def teardown(self):
        for store in self.stores:
            store.close()
        shutil.rmtree(self.folder)

    def same(self, ask):
        """The answer of all stores; a store that has stopped is started again in all of them."""
        answers = []
        for store in self.stores:
            try:
                answers.append(ask(store))
            except StoreError as error:
                answers.append(type(error))
        assert answers[0] == answers[1] == answers[2]
        if isinstance(answers[0], type):
            self.restart()

    @rule(batch=batches)
    def commit(self, batch):
        self.close_gaps(batch)
        self.same(lambda store: store.commit(batch))

    @rule(batch=side_batches)
    def commit_beside(self, batch):
        self.same(lambda store: store.commit(batch))

    @rule(rows=st.lists(starts, max_size=5, unique_by=lambda row: row.n), moves=few(moves, 5))
    def move_all(self, rows, moves):
        """A batch that keeps the rules, so that more than a few invocations come to be."""
        known = {row.n for row in self.stores[0].list()}
        fresh = [row for row in rows if row.n not in known]
        known.update(row.n for row in fresh)
        moves = [row for row in moves if row.n in known]
        self.same(lambda store: store.commit(Batch(starts=fresh, moves=moves)))

    @rule(n=numbers, length=st.integers(1, 3), body=bodies)
    def append(self, n, length, body):
        """A batch that keeps the rules, so that journals also grow."""
        first = self.stores[0].length(n)
        self.same(lambda store: store.commit(Batch(entries=[entry(n, first + k, body) for k in range(length)])))

    def close_gaps(self, batch):
        """Journals have none; what is written twice stays so."""
        lengths = {n: 0 if n in batch.purges else self.stores[0].length(n) for n in range(1, 6)}
        for n, seq in batch.rewrites:
            lengths[n] = min(lengths[n], seq)
        for at, (n, seq, body) in enumerate(batch.entries):
            batch.entries[at] = entry(n, min(seq, lengths[n]), body)
            lengths[n] = max(lengths[n], batch.entries[at].seq + 1)

    @rule(idle=st.booleans())
    def maintain(self, idle):
        self.same(lambda store: store.maintain(idle))

    @rule()
    def restart(self):
        for store in self.stores:
            store.close()
            store.open()

    @rule(until=times, limit=st.integers(0, 3))
    def ask_for_work(self, until, limit):
        self.same(
            lambda store: (
                store.ready(limit),
                store.due(until, limit),
                store.open_promises(limit),
                store.ended_before(until, limit),
            )
        )

    @rule(
        after=st.just("") | locks | lanes,
        limit=st.integers(0, 3),
        lock=locks,
        lane=lanes,
        place=st.tuples(times | st.just(-1), numbers),
    )
    def ask_for_queues(self, after, limit, lock, lane, place):
        self.same(
            lambda store: (
                store.queued_locks(after, limit),
                store.queued_lanes(after, limit),
                store.queued_for_lock(lock, limit),
                store.queued_for_lane(lane, place, limit),
            )
        )

    @rule(
        status=st.none() | statuses,
        aim=st.none() | targets | st.sampled_from(("Trips/", "Mail/", "Trip/", "Trips")),
        key=st.none() | keys,
        parent=st.none() | numbers,
        before=st.none() | st.integers(0, 6),
        limit=st.integers(0, 3),
    )
    def ask_for_a_page(self, status, aim, key, parent, before, limit):
        self.same(
            lambda store: store.list(status=status, target=aim, key=key, parent=parent, before=before, limit=limit)
        )

    @rule(n=numbers, name=names, first=st.integers(-3, 3), last=st.integers(-3, 3))
    def ask_for_one(self, n, name, first, last):
        self.same(
            lambda store: (
                store.get(n),
                store.find(f"inv-{n}"),
                store.promise(name),
                store.blobs(n, first, last),
                store.length(n),
                store.children(n, 2),
            )
        )

    @rule(service=services, key=keys, name=value_names, first=seqs, end=seqs, after=st.just("") | keys)
    def ask_for_an_object(self, service, key, name, first, end, after):
        self.same(
            lambda store: (
                store.state(service, key, name),
                store.object_keys(service, after, 1),
                store.items(service, key, name, first, end),
            )
        )

    @invariant()
    def they_hold_the_same(self):
        self.same(snapshot)


@pytest.fixture(autouse=True)
def busy_log(monkeypatch):
    """A log so small that checkpoints and new starts of it happen within a few commits."""
    monkeypatch.setattr(wal, "GROWN_BYTES", 40_000)
    monkeypatch.setattr(wal, "IDLE_PAGES", 5)
    monkeypatch.setattr(wal, "FORCED_PAGES", 20)


@pytest.mark.timeout(600)  # a failure is made small first, which takes minutes; cut off there it would say "flaky"
class TestAgreement(Agreement.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)


@pytest.mark.parametrize("seed", range(6))
def test_long_histories_end_in_the_same_rows(seed, tmp_path):
    random = Random(seed)
    writer = Writer(random)
    stores = every_kind(tmp_path)
    for store in stores:
        store.open()
    for _ in range(60):
        batch = writer.batch(rows=random.choice((1, 3, 30)), body_max=random.choice((20, 300, 9000)))
        idle, again = random.random() < 0.3, random.random() < 0.05
        for store in stores:
            store.commit(batch)
            store.maintain(idle)
            if again:
                store.close()
                store.open()
        assert stores[0].due(500, 5) == stores[1].due(500, 5)
    assert snapshot(stores[0]) == snapshot(stores[1]) == snapshot(stores[2])
    for store in stores:
        store.close()
