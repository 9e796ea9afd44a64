"""Rows for the store tests: short builders, seeded batches that keep the contract, a whole store as one value."""

from random import Random

from holdfast.core.invocation import Status
from holdfast.stores.base import (
    Batch,
    BlobRow,
    EntryRow,
    InvocationRow,
    ItemRow,
    MoveRow,
    PromiseRow,
    RewriteRow,
    SettleRow,
    StateRow,
    Store,
    TrimRow,
    WaiterRow,
)

TARGETS = ("Trips/plan", "Trips/undo", "Mail/send")
# All that seeded batches use, so that a snapshot can ask for each.
SERVICES = ("Cart", "Mail", "")
KEYS = ("ann", "bob", "böb")
NAMES = ("items", "total")
SUBJECTS = ("inv-1", "inv-2", "promise/p")
LANES = ("gpt", "mail")
LOCKS = ("Cart/ann", "Cart/bob")


def start(n, *, status=Status.READY, id=None, target=TARGETS[0], wake_at=None, input=b"input", outcome=None, **more):
    return InvocationRow(n, id or f"inv-{n}", target, int(status), n, n, -n, wake_at, input, outcome, **more)


def entry(n, seq, body=None):
    return EntryRow(n, seq, f"{n}/{seq}".encode() if body is None else body)


def move(n, status, *, updated=9, wake_at=None, outcome=None, began=None, in_queue=0):
    return MoveRow(n, int(status), updated, wake_at, outcome, began, in_queue)


def blob(owner, number, body=b"body"):
    return BlobRow(owner, number, bytes([number % 256]) * 16, body)


def promise(id, n=1, *, created=1, status=0, settled=None, value=None):
    return PromiseRow(id, n, created, f"about {id}".encode(), status, settled, value)


def settle(id, status=1, *, settled=5, value=b"value"):
    return SettleRow(id, status, settled, value)


def state(body=b"state", service="Cart", key="ann", name="items"):
    return StateRow(service, key, name, body)


def item(index, body=None, service="Cart", key="ann", name="items"):
    return ItemRow(service, key, name, index, b"item %d" % index if body is None else body)


def trim(before, service="Cart", key="ann", name="items"):
    return TrimRow(service, key, name, before)


def snapshot(store: Store):
    """Everything in it, through the public reads only."""
    rows = store.list(limit=10_000)
    return {
        "rows": rows,
        "last": store.last_number(),
        "counts": store.counts(),
        "ready": store.ready(10_000),
        "due": store.due(2**62, 10_000),
        "next_wake": store.next_wake(),
        "open_promises": store.open_promises(10_000),
        "ended": store.ended_before(2**62, 10_000),
        "queues": queues(store),
        "objects": objects(store),
        "waiters": {subject: found for subject in SUBJECTS if (found := store.waiters(subject))},
        **{
            ("of", row.n): (
                store.entries(row.n),
                store.length(row.n),
                store.blobs(row.n, -(2**62), 2**62),
                store.blob_digests(row.n),
                store.promises_of(row.n),
                [child.n for child in store.children(row.n, 10_000)],
            )
            for row in rows
        },
    }


def queues(store: Store):
    """Who waits for what, who has it, by the locks and lanes of seeded batches."""
    return (
        store.queued_locks("", 10_000),
        store.queued_lanes("", 10_000),
        {
            lock: (holder, queue)
            for lock in LOCKS
            if any((holder := store.holder(lock), queue := store.queued_for_lock(lock, 10_000)))
        },
        {
            lane: (running, queue)
            for lane in LANES
            if any((running := store.lane_running(lane), queue := store.queued_for_lane(lane, (-1, 0), 10_000)))
        },
    )


def objects(store: Store):
    """Their state and lists, by the services, keys and names of seeded batches."""
    states = {
        (service, key, name): store.state(service, key, name)
        for service in SERVICES
        for key in store.object_keys(service, "", 10_000)
        for name in store.state_names(service, key)
    }
    lists = {
        (service, key, name): (end, store.items(service, key, name, 0, end))
        for service in SERVICES
        for key in KEYS
        for name in NAMES
        if (end := store.items_end(service, key, name))
    }
    return states, lists


class Writer:
    """Makes batches that follow every rule of the contract, so that a store has no reason to refuse one."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.lengths: dict[int, int] = {}  # n: entries so far
        self.blobs: dict[int, int] = {}
        self.open: dict[str, int] = {}  # promise: n
        self.ends: dict[tuple[str, str, str], int] = {}  # of lists
        self.last = self.promises = 0

    def batch(self, *, rows: int, body_max: int) -> Batch:
        batch = Batch()
        if len(self.lengths) > 3 and self.random.random() < 0.3:
            self._shorten(batch)
        kinds = ["start", "entry", "entry", "entry", "move", "blob", "promise", "settle", "object", "waiter"]
        for _ in range(rows):
            kind = self.random.choice(kinds)
            if kind == "start" or not self.lengths:
                self._start(batch, body_max)
            elif kind == "settle" and self.open:
                id = self.random.choice(list(self.open))
                del self.open[id]
                batch.settles.append(settle(id, self.random.choice((1, 2)), value=self._bytes(body_max)))
            elif kind == "object":
                self._object(batch, body_max)
            elif kind == "waiter":
                self._waiter(batch)
            else:
                self._add(batch, kind, self.random.choice(list(self.lengths)), body_max)
        return batch

    def _shorten(self, batch: Batch) -> None:
        """First, as in a commit: what is added to a batch later comes after its purges and rewrites."""
        gone = self.random.choice(list(self.lengths))
        if self.random.random() < 0.5:
            batch.purges.append(gone)
            del self.lengths[gone], self.blobs[gone]
            self.open = {id: n for id, n in self.open.items() if n != gone}
        n = self.random.choice(list(self.lengths))
        self.lengths[n] = self.random.randrange(self.lengths[n] + 1)
        batch.rewrites.append(RewriteRow(n, self.lengths[n]))

    def _start(self, batch: Batch, body_max: int) -> None:
        n = self.last = self.last + self.random.randrange(1, 200)
        parent = self.random.choice((None, *self.lengths))
        self.lengths[n] = self.blobs[n] = 0
        row = start(n, target=self.random.choice(TARGETS), input=self._bytes(body_max))
        if self.random.random() < 0.5:
            row = row._replace(
                status=self.random.choice((Status.READY, Status.QUEUED)),
                began=self.random.choice((None, n)),
                key=self.random.choice((None, *KEYS)),
                lock=self.random.choice((None, *LOCKS)),
                lane=self.random.choice((None, *LANES)),
                parent=parent,
                call=self.random.choice((None, "0/call#1")),
                build=self.random.choice(("", "b1")),
                origin=self.random.choice((None, "inv-1 from 0/x#1")),
            )
        batch.starts.append(row)

    def _add(self, batch: Batch, kind: str, n: int, body_max: int) -> None:
        if kind == "move":
            status = self.random.choice(list(Status))
            wake_at = self.random.randrange(1000) if status is not Status.READY and self.random.random() < 0.6 else None
            began = self.random.randrange(1000) if self.random.random() < 0.3 else None
            outcome = self._bytes(body_max) if status.ended else None
            updated = self.random.randrange(10**6)
            batch.moves.append(move(n, status, updated=updated, wake_at=wake_at, outcome=outcome, began=began))
        elif kind == "blob":
            self.blobs[n] += 1
            number = self.blobs[n] * self.random.choice((1, -1))
            batch.blobs.append(blob(n, number, self._bytes(body_max)))
        elif kind == "promise":
            self.promises += 1
            id = f"promise-{self.promises}"
            self.open[id] = n
            batch.promises.append(promise(id, n, created=self.random.randrange(50)))
        else:
            batch.entries.append(entry(n, self.lengths[n], self._bytes(body_max)))
            self.lengths[n] += 1

    def _object(self, batch: Batch, body_max: int) -> None:
        at = (self.random.choice(SERVICES), self.random.choice(KEYS), self.random.choice(NAMES))
        kind = self.random.choice(("state", "no state", "item", "item", "trim"))
        if kind == "trim":
            batch.trims.append(TrimRow(*at, self.random.randrange(self.ends.get(at, 0) + 1)))
        elif kind == "item":
            self.ends[at] = self.ends.get(at, 0) + 1
            batch.items.append(ItemRow(*at, self.ends[at] - 1, self._bytes(body_max)))
        else:
            batch.states.append(StateRow(*at, self._bytes(body_max) if kind == "state" else None))

    def _waiter(self, batch: Batch) -> None:
        subject = self.random.choice(SUBJECTS)
        if self.random.random() < 0.7:
            batch.waiters.append(WaiterRow(subject, self.random.choice(list(self.lengths))))
        else:
            batch.unwaits.append(subject)

    def _bytes(self, most: int) -> bytes:
        return self.random.randbytes(self.random.randrange(most + 1))
