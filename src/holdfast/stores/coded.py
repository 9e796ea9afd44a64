"""A store whose bodies pass through a codec on their way in and out: for encryption, for compression.

Promises: no body reaches the store below as it was given, digests of large values included; every body is decoded under
the name of the place it was written to, so bytes that were moved to another row do not decode. What does not decode
stops one invocation (G10); another codec or key, and a store that was written without one, are refused at open.
Refuses: to hide names, ids, keys, step names, times, statuses and sizes: rows are found and sorted by them. A body put
back in its own place from an older copy still decodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from holdfast.core.damage import stand_in, undecoded
from holdfast.errors import StoreFailed, StoreForeign, Unreadable
from holdfast.stores.base import (
    CODED,
    Batch,
    BlobRow,
    EntryRow,
    InvocationRow,
    ItemRow,
    MoveRow,
    PromiseRow,
    SettleRow,
    StateRow,
    Store,
)

PROOF = b"holdfast"  # what the CODED state says, once decoded


class Codec(Protocol):
    """Encodes what is stored, and decodes it.

    where: the place of a body, such as "entry/64/3". The same at every decode, but not unique: a body may be replaced
    by another in its place. Meant as the associated data of an authenticated cipher.

    Both are called on every body, from two threads at once, and may raise anything: a body that does not decode stops
    one invocation, one that does not encode the engine.
    """

    def encode(self, data: bytes, where: str) -> bytes:
        """The bytes to store."""

    def decode(self, data: bytes, where: str) -> bytes:
        """The bytes that were given to `encode` with the same `where`, or an error."""


class CodedStore:
    """Another store behind a codec."""

    def __init__(self, store: Store, codec: Codec) -> None:
        self._below = store
        self._codec = codec
        self._failure: StoreFailed | None = None  # a batch that did not encode (G11)

    def open(self) -> None:
        self._below.open()
        try:
            self._prove()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._failure = None
        self._below.close()

    def commit(self, batch: Batch) -> None:
        store = self._store
        try:
            encoded = self._encoded(batch)
        except Exception as error:
            self._failure = StoreFailed(
                f"the codec did not encode a batch: {type(error).__name__}: {error}",
                cause="the codec has a bug, or its key is out of reach",
                fix="mend it and start again: what was acknowledged is safe",
            )
            raise self._failure from error
        store.commit(encoded)

    def maintain(self, idle: bool) -> bool:
        return self._store.maintain(idle)

    def last_number(self) -> int:
        return self._store.last_number()

    def find(self, id: str) -> InvocationRow | None:
        return self._row(self._store.find(id))

    def get(self, n: int) -> InvocationRow | None:
        return self._row(self._store.get(n))

    def entries(self, n: int, first: int = 0, limit: int | None = None) -> list[bytes]:
        bodies = self._store.entries(n, first, limit)
        return [self._decode(body, _entry(n, seq)) for seq, body in enumerate(bodies, first)]

    def length(self, n: int) -> int:
        return self._store.length(n)

    def counts(self) -> dict[int, int]:
        return self._store.counts()

    def ready(self, limit: int) -> list[int]:
        return self._store.ready(limit)

    def due(self, until: int, limit: int) -> list[tuple[int, int]]:
        return self._store.due(until, limit)

    def next_wake(self) -> int | None:
        return self._store.next_wake()

    def holder(self, lock: str) -> int | None:
        return self._store.holder(lock)

    def queued_for_lock(self, lock: str, limit: int) -> list[int]:
        return self._store.queued_for_lock(lock, limit)

    def queued_for_lane(self, lane: str, after: tuple[int, int], limit: int) -> list[tuple[int, int]]:
        return self._store.queued_for_lane(lane, after, limit)

    def queued_locks(self, after: str, limit: int) -> list[str]:
        return self._store.queued_locks(after, limit)

    def queued_lanes(self, after: str, limit: int) -> list[str]:
        return self._store.queued_lanes(after, limit)

    def lane_running(self, lane: str) -> list[int]:
        return self._store.lane_running(lane)

    def children(self, n: int, limit: int) -> list[InvocationRow]:
        return [self._shown(row) for row in self._store.children(n, limit)]

    def ended_before(self, until: int, limit: int) -> list[int]:
        return self._store.ended_before(until, limit)

    def blob_digests(self, owner: int) -> list[tuple[int, bytes]]:
        digests = self._store.blob_digests(owner)
        return [(number, self._decode(digest, _digest(owner, number))) for number, digest in digests]

    def blobs(self, owner: int, first: int, last: int) -> list[tuple[int, bytes]]:
        blobs = self._store.blobs(owner, first, last)
        return [(number, self._decode(body, _blob(owner, number))) for number, body in blobs]

    def promise(self, id: str) -> PromiseRow | None:
        row = self._store.promise(id)
        return None if row is None else self._shown_promise(row)

    def promises_of(self, n: int) -> list[PromiseRow]:
        return [self._shown_promise(row) for row in self._store.promises_of(n)]

    def open_promises(self, limit: int) -> list[PromiseRow]:
        return [self._shown_promise(row) for row in self._store.open_promises(limit)]

    def state(self, service: str, key: str, name: str) -> bytes | None:
        body = None if (service, key, name) == CODED else self._store.state(service, key, name)
        return None if body is None else self._decode(body, _state(service, key, name))

    def state_names(self, service: str, key: str, after: str = "", limit: int | None = None) -> list[str]:
        return self._store.state_names(service, key, after, limit)

    def object_keys(self, service: str, after: str, limit: int) -> list[str]:
        return self._store.object_keys(service, after, limit)

    def items(self, service: str, key: str, name: str, first: int, end: int) -> list[tuple[int, bytes]]:
        items = self._store.items(service, key, name, first, end)
        return [(index, self._decode(body, _item(service, key, name, index))) for index, body in items]

    def items_end(self, service: str, key: str, name: str) -> int:
        return self._store.items_end(service, key, name)

    def waiters(self, subject: str) -> list[int]:
        return self._store.waiters(subject)

    def backup(self, path: Path) -> Iterator[None]:
        yield from self._store.backup(path)

    @property
    def _store(self) -> Store:
        """The store below, while it may be used."""
        if self._failure:
            raise StoreFailed(self._failure.what, cause=self._failure.cause, fix=self._failure.fix)
        return self._below

    def _prove(self) -> None:
        """Refuses what another codec wrote, before a single invocation is paused over it."""
        proof = self._below.state(*CODED)
        if proof is not None:
            try:
                right = self._codec.decode(proof, _state(*CODED)) == PROOF
            except Exception as error:
                raise _other_codec(f"{type(error).__name__}: {error}") from error
            if not right:
                raise _other_codec("it decodes to something else")
            return
        if self._below.last_number() or self._below.object_keys("", "", 1):
            raise StoreForeign(
                "the store was written without a codec",
                cause="it is older than the codec, or was once opened without it",
                fix="open it without a codec, or begin a new store with one",
            )
        self.commit(Batch(states=[StateRow(*CODED, PROOF)]))

    def _encoded(self, batch: Batch) -> Batch:
        """A new batch: the one given may be committed again, when the disk was full."""
        return Batch(
            purges=batch.purges,
            forgets=batch.forgets,
            rewrites=batch.rewrites,
            starts=[self._encoded_start(row) for row in batch.starts],
            entries=[EntryRow(n, seq, self._encode(body, _entry(n, seq))) for n, seq, body in batch.entries],
            moves=[self._encoded_move(row) for row in batch.moves],
            blobs=[self._encoded_blob(row) for row in batch.blobs],
            promises=[self._encoded_promise(row) for row in batch.promises],
            settles=[self._encoded_settle(row) for row in batch.settles],
            states=[self._encoded_state(row) for row in batch.states],
            items=[ItemRow(*row[:4], self._encode(row.body, _item(*row[:4]))) for row in batch.items],
            trims=batch.trims,
            waiters=batch.waiters,
            unwaits=batch.unwaits,
        )

    def _encoded_start(self, row: InvocationRow) -> InvocationRow:
        return row._replace(
            input=self._encode(row.input, _input(row.n)), outcome=self._encode_if(row.outcome, _outcome(row.n))
        )

    def _encoded_move(self, row: MoveRow) -> MoveRow:
        return row._replace(outcome=self._encode_if(row.outcome, _outcome(row.n)))

    def _encoded_blob(self, row: BlobRow) -> BlobRow:
        return row._replace(
            digest=self._encode(row.digest, _digest(row.owner, row.number)),
            body=self._encode(row.body, _blob(row.owner, row.number)),
        )

    def _encoded_promise(self, row: PromiseRow) -> PromiseRow:
        return row._replace(
            about=self._encode(row.about, _about(row.id)), value=self._encode_if(row.value, _value(row.id))
        )

    def _encoded_settle(self, row: SettleRow) -> SettleRow:
        return row._replace(value=self._encode(row.value, _value(row.id)))

    def _encoded_state(self, row: StateRow) -> StateRow:
        return row._replace(body=self._encode_if(row.body, _state(row.service, row.key, row.name)))

    def _encode(self, data: bytes, where: str) -> bytes:
        return self._codec.encode(data, where)

    def _encode_if(self, data: bytes | None, where: str) -> bytes | None:
        return None if data is None else self._codec.encode(data, where)

    def _row(self, row: InvocationRow | None) -> InvocationRow | None:
        return None if row is None else self._shown(row)

    def _shown(self, row: InvocationRow) -> InvocationRow:
        outcome = row.outcome
        return row._replace(
            input=self._show(row.input, _input(row.n)),
            outcome=None if outcome is None else self._show(outcome, _outcome(row.n)),
        )

    def _shown_promise(self, row: PromiseRow) -> PromiseRow:
        value = row.value
        return row._replace(
            about=self._show(row.about, _about(row.id)),
            value=None if value is None else self._show(value, _value(row.id)),
        )

    def _show(self, data: bytes, where: str) -> bytes:
        """Decoded, or what tells whoever looks at it why it is not: a row must be found, and listed among others,
        although one of its bodies is lost."""
        try:
            return self._decode(data, where)
        except Unreadable as error:
            return stand_in(error)

    def _decode(self, data: bytes, where: str) -> bytes:
        try:
            return self._codec.decode(data, where)
        except Exception as error:
            raise undecoded(f"the codec did not decode {where}: {type(error).__name__}: {error}") from error

    # Last, because below it `list[...]` would mean this method to a type checker.
    def list(
        self,
        *,
        status: int | None = None,
        target: str | None = None,
        key: str | None = None,
        parent: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[InvocationRow]:
        rows = self._store.list(status=status, target=target, key=key, parent=parent, before=before, limit=limit)
        return [self._shown(row) for row in rows]


def _other_codec(why: str) -> StoreForeign:
    return StoreForeign(
        f"the store was written with another codec: {why}",
        cause="the codec has another key, or is not the one that began this store",
        fix="give it the right key; nothing was changed",
    )


# The places, for ever: they are what stored bytes were authenticated with. Texts are quoted, so that no two places of
# different keys are one text.


def _input(n: int) -> str:
    return f"input/{n}"


def _outcome(n: int) -> str:
    return f"outcome/{n}"


def _entry(n: int, seq: int) -> str:
    return f"entry/{n}/{seq}"


def _blob(owner: int, number: int) -> str:
    return f"blob/{owner}/{number}"


def _digest(owner: int, number: int) -> str:
    return f"digest/{owner}/{number}"


def _about(id: str) -> str:
    return f"about/{quote(id, safe='')}"


def _value(id: str) -> str:
    return f"value/{quote(id, safe='')}"


def _state(service: str, key: str, name: str) -> str:
    return f"state/{quote(service, safe='')}/{quote(key, safe='')}/{quote(name, safe='')}"


def _item(service: str, key: str, name: str, index: int) -> str:
    return f"item/{quote(service, safe='')}/{quote(key, safe='')}/{quote(name, safe='')}/{index}"
