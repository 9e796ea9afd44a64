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
from holdfast.stores.base import Batch
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SqliteStore, wal
from tests.stores.rows import TARGETS, Writer, blob, entry, move, promise, settle, snapshot, start

# Few values, so that rows meet: a rule broken by accident is part of the test.
numbers = st.integers(1, 5)
seqs = st.integers(0, 6)
names = st.sampled_from(["p", "q", "r", "s"])
bodies = st.binary(max_size=300)
times = st.integers(0, 20)
statuses = st.sampled_from(list(Status))

batches = st.builds(
    Batch,
    starts=st.lists(
        st.builds(start, numbers, status=statuses, wake_at=st.none() | times, target=st.sampled_from(TARGETS)),
        max_size=2,
    ),
    entries=st.lists(st.builds(entry, numbers, seqs, bodies), max_size=3),
    moves=st.lists(st.builds(move, numbers, statuses, updated=times, wake_at=st.none() | times), max_size=2),
    blobs=st.lists(st.builds(blob, numbers, st.integers(-2, 2), bodies), max_size=2),
    promises=st.lists(st.builds(promise, names, numbers, created=times), max_size=2),
    settles=st.lists(st.builds(settle, names, st.sampled_from((1, 2)), value=bodies), max_size=1),
)


class Agreement(RuleBasedStateMachine):
    @initialize()
    def open(self):
        self.folder = Path(tempfile.mkdtemp())
        self.stores = [MemoryStore(), SqliteStore(self.folder / "agent.db")]
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
        assert answers[0] == answers[1]
        if isinstance(answers[0], type):
            self.restart()

    @rule(batch=batches)
    def commit(self, batch):
        self.same(lambda store: store.commit(batch))

    @rule(n=numbers, length=st.integers(1, 3), body=bodies)
    def append(self, n, length, body):
        """A batch that keeps the rules, so that journals also grow."""
        first = len(self.stores[0].entries(n)) + 100
        self.same(lambda store: store.commit(Batch(entries=[entry(n, first + k, body) for k in range(length)])))

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
        self.same(lambda store: (store.ready(limit), store.due(until, limit), store.open_promises(limit)))

    @rule(
        status=st.none() | statuses,
        aim=st.none() | st.sampled_from(TARGETS),
        before=st.none() | st.integers(0, 6),
        limit=st.integers(0, 3),
    )
    def ask_for_a_page(self, status, aim, before, limit):
        self.same(lambda store: store.list(status=status, target=aim, before=before, limit=limit))

    @rule(n=numbers, name=names, first=st.integers(-3, 3), last=st.integers(-3, 3))
    def ask_for_one(self, n, name, first, last):
        self.same(
            lambda store: (store.get(n), store.find(f"inv-{n}"), store.promise(name), store.blobs(n, first, last))
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


class TestAgreement(Agreement.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)


@pytest.mark.parametrize("seed", range(6))
def test_long_histories_end_in_the_same_rows(seed, tmp_path):
    random = Random(seed)
    writer = Writer(random)
    stores = [MemoryStore(), SqliteStore(tmp_path / "agent.db")]
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
    assert snapshot(stores[0]) == snapshot(stores[1])
    for store in stores:
        store.close()
