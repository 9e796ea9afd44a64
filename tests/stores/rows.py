"""Rows for the store tests: short builders, seeded batches that keep the contract, a whole store as one value."""

from random import Random

from holdfast.core.invocation import Status
from holdfast.stores.base import (
    Batch,
    BlobRow,
    EntryRow,
    InvocationRow,
    MoveRow,
    PromiseRow,
    SettleRow,
    Store,
)

TARGETS = ("Trips/plan", "Mail/send")


def start(n, *, status=Status.READY, id=None, target=TARGETS[0], wake_at=None, input=b"input", outcome=None):
    return InvocationRow(n, id or f"inv-{n}", target, int(status), n, n, -n, wake_at, input, outcome)


def entry(n, seq, body=None):
    return EntryRow(n, seq, f"{n}/{seq}".encode() if body is None else body)


def move(n, status, *, updated=9, wake_at=None, outcome=None):
    return MoveRow(n, int(status), updated, wake_at, outcome)


def blob(owner, number, body=b"body"):
    return BlobRow(owner, number, bytes([number % 256]) * 16, body)


def promise(id, n=1, *, created=1, status=0, settled=None, value=None):
    return PromiseRow(id, n, created, f"about {id}".encode(), status, settled, value)


def settle(id, status=1, *, settled=5, value=b"value"):
    return SettleRow(id, status, settled, value)


def snapshot(store: Store):
    """Everything in it, through the public reads only."""
    rows = store.list(limit=10_000)
    return {
        "rows": rows,
        "last": store.last_number(),
        "ready": store.ready(10_000),
        "due": store.due(2**62, 10_000),
        "next_wake": store.next_wake(),
        "open_promises": store.open_promises(10_000),
        **{
            ("of", row.n): (
                store.entries(row.n),
                store.blobs(row.n, -(2**62), 2**62),
                store.blob_digests(row.n),
                store.promises_of(row.n),
            )
            for row in rows
        },
    }


class Writer:
    """Makes batches that follow every rule of the contract, so that a store has no reason to refuse one."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.lengths: dict[int, int] = {}  # n: entries so far
        self.blobs: dict[int, int] = {}
        self.open: list[str] = []
        self.promises = 0

    def batch(self, *, rows: int, body_max: int) -> Batch:
        batch = Batch()
        for _ in range(rows):
            kind = self.random.choice(["start", "entry", "entry", "entry", "move", "blob", "promise", "settle"])
            if kind == "start" or not self.lengths:
                self._start(batch, body_max)
            elif kind == "settle" and self.open:
                id = self.open.pop(self.random.randrange(len(self.open)))
                batch.settles.append(settle(id, self.random.choice((1, 2)), value=self._bytes(body_max)))
            else:
                self._add(batch, kind, self.random.choice(list(self.lengths)), body_max)
        return batch

    def _start(self, batch: Batch, body_max: int) -> None:
        n = max(self.lengths, default=0) + self.random.randrange(1, 200)
        self.lengths[n] = self.blobs[n] = 0
        batch.starts.append(start(n, target=self.random.choice(TARGETS), input=self._bytes(body_max)))

    def _add(self, batch: Batch, kind: str, n: int, body_max: int) -> None:
        if kind == "move":
            status = self.random.choice(list(Status))
            wake_at = self.random.randrange(1000) if self.random.random() < 0.6 else None
            outcome = self._bytes(body_max) if status.ended else None
            batch.moves.append(move(n, status, updated=self.random.randrange(10**6), wake_at=wake_at, outcome=outcome))
        elif kind == "blob":
            self.blobs[n] += 1
            number = self.blobs[n] * self.random.choice((1, -1))
            batch.blobs.append(blob(n, number, self._bytes(body_max)))
        elif kind == "promise":
            self.promises += 1
            id = f"promise-{self.promises}"
            self.open.append(id)
            batch.promises.append(promise(id, n, created=self.random.randrange(50)))
        else:
            batch.entries.append(entry(n, self.lengths[n], self._bytes(body_max)))
            self.lengths[n] += 1

    def _bytes(self, most: int) -> bytes:
        return self.random.randbytes(self.random.randrange(most + 1))
