"""Tells watchers that there is something new; what it is, they read from the journal.

Promises: a watcher that sleeps costs nothing, and is never waited for. Chunks, which a step's body emits while it runs,
are not journaled: they are kept while the body runs, numbered by attempt, so that who comes back sees each once and a
retry never looks like more of the same text. Who watches when a body ends still gets its last ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

CHUNKS_MAX = 10_000  # of one attempt; the oldest go first
CHUNK_BYTES_MAX = 4 * 1024 * 1024
ENDED_MAX = 100  # bodies whose chunks are kept for a watcher that is behind; those of the first to end go first


class Chunk(NamedTuple):
    """Something a step's body told its watchers."""

    step: str
    attempt: int
    place: int  # from 0, in each attempt
    text: bytes  # JSON


class Watch:
    """One watcher's bell."""

    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self.closed = False
        self.ended: dict[str, list[Chunk]] = {}  # of bodies that have ended, by step, until their end is told

    def keep(self, step: str, chunks: list[Chunk]) -> None:
        """A body has ended, and this watcher may not have seen all of what it told."""
        self.ended[step] = chunks
        if len(self.ended) > ENDED_MAX:
            del self.ended[next(iter(self.ended))]


class Bus:
    """All watchers of an engine."""

    def __init__(self, life: int) -> None:
        self.life = life  # tells the chunks of this process from those of the one before
        self.watched: dict[int, dict[Watch, None]] = {}
        self._chunks: dict[int, dict[str, list[Chunk]]] = {}  # of bodies that run, by invocation and step
        self._bytes: dict[tuple[int, str], int] = {}
        self._closed = False

    @contextmanager
    def watch(self, n: int) -> Iterator[Watch]:
        """A bell that rings whenever there is something new of an invocation, for the block."""
        watch = Watch()
        watch.closed = self._closed
        self.watched.setdefault(n, {})[watch] = None
        try:
            yield watch
        finally:
            watchers = self.watched[n]
            del watchers[watch]
            if not watchers:
                del self.watched[n]

    def recorded(self, n: int) -> None:
        """The journal or the status has more."""
        for watch in self.watched.get(n, ()):
            watch.bell.set()

    def chunk(self, n: int, step: str, attempt: int, text: bytes) -> None:
        """A body has told something."""
        kept = self._chunks.setdefault(n, {}).setdefault(step, [])
        if kept and kept[-1].attempt != attempt:
            kept.clear()
            self._bytes.pop((n, step), None)
        kept.append(Chunk(step, attempt, kept[-1].place + 1 if kept else 0, text))
        size = self._bytes.get((n, step), 0) + len(text)
        while len(kept) > CHUNKS_MAX or (size > CHUNK_BYTES_MAX and len(kept) > 1):
            size -= len(kept.pop(0).text)
        self._bytes[n, step] = size
        self.recorded(n)

    def chunks(self, n: int) -> list[Chunk]:
        """What the bodies that run have told in their present attempts."""
        return [chunk for chunks in self._chunks.get(n, {}).values() for chunk in chunks]

    def body_ended(self, n: int, step: str) -> None:
        """A body has ended: its result is in the journal, or will not be."""
        steps = self._chunks.get(n, {})
        chunks = steps.pop(step, None)
        if chunks is None:
            return
        self._bytes.pop((n, step), None)
        if not steps:
            del self._chunks[n]
        for watch in self.watched.get(n, ()):
            watch.keep(step, chunks)

    def close(self) -> None:
        """Ends all watches."""
        self._closed = True
        for watchers in self.watched.values():
            for watch in watchers:
                watch.closed = True
                watch.bell.set()
