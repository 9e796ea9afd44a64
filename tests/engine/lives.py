"""Processes that die without a word, and stores whose commits take as long as the test wants."""

import asyncio
import contextlib
import threading
import time
from collections import Counter

from holdfast import StoreFailed, step
from holdfast.engine import committer
from tests.engine.world import Wrapped, engine_of, in_engine

DEAD = StoreFailed("the process died", fix="start another")
HELD_SECONDS_MAX = 10.0


class Held(Wrapped):
    """Commits wait while it is held; dead it takes none. `dies_at` is the commit it dies at, counted from 1, which is
    lost, or with `keeps_last` durable without anybody hearing of it."""

    def __init__(self, inner):
        super().__init__(inner)
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.waiting = 0
        self.commits = 0
        self.seconds = 0.0  # that each commit takes
        self.dies_at = 0
        self.keeps_last = False
        self.dead = False

    def commit(self, batch):
        if not self.open_gate.is_set():
            self.waiting += 1
            assert self.open_gate.wait(HELD_SECONDS_MAX), "held for ever"
            self.waiting -= 1
        time.sleep(self.seconds)
        if self.dead:
            raise DEAD
        self.commits += 1
        if self.commits == self.dies_at:
            self.dead = True
            if self.keeps_last:
                self.inner.commit(batch)
            raise DEAD
        self.inner.commit(batch)

    @contextlib.contextmanager
    def hold(self):
        """No commit is durable before the block ends."""
        self.open_gate.clear()
        try:
            yield
        finally:
            self.open_gate.set()


class Life:
    """One process over a world's store: `client`, and its `store`."""

    def __init__(self, hf, store, client):
        self.hf = hf
        self.store = store
        self.client = client
        self.engine = engine_of(client)

    def die(self):
        """Ends at once: what is not durable now never will be."""
        self.store.dead = True
        in_engine(self.client, lambda: self.engine.fail(DEAD))

    def together(self, *works):
        """Begins these coroutines in one turn of the engine's loop; their results and errors."""

        async def run():
            return await asyncio.gather(*works, return_exceptions=True)

        return self.client._thread.call(run())


@contextlib.contextmanager
def life(world, *handlers, dies_at=0, keeps_last=False, declare=None, kind=Held, **options):
    """A process that dies at the end of the block, or earlier, if the test wants it. `declare` is given the Holdfast
    before it runs; `kind` is that of its store."""
    stores = []
    hf = world.holdfast(*handlers, wrap=lambda inner: stores.append(kind(inner)) or stores[0], **options)
    if declare is not None:
        declare(hf)
    stores[0].dies_at, stores[0].keeps_last = dies_at, keeps_last
    with hf as client:
        one = Life(hf, stores[0], client)
        try:
            yield one
        finally:
            one.store.open_gate.set()
            one.die()


def all_in_lane(monkeypatch):
    """Every commit is made on the writer thread, while the loop goes on."""
    monkeypatch.setattr(committer, "INLINE_ROWS_MAX", -1)


class Flags:
    """What bodies of a test did, over all lives, and what holds them up."""

    def __init__(self):
        self.ran = []  # by name
        self.runs = Counter()  # by invocation and step
        self.gates = {}

    def gate(self, name):
        return self.gates.setdefault(name, threading.Event())

    async def body(self, name):
        """A step's body that waits until its gate is open."""
        await self.note(name)
        while not self.gate(name).is_set():
            await asyncio.sleep(0.002)
        return name

    async def note(self, name):
        """A step's body."""
        self.ran.append(name)
        self.runs[step().invocation, step().id] += 1
        return name
