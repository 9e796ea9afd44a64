"""What happens to an invocation, as a stream that can be taken up again where it was left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from holdfast.core import entries as records
from holdfast.core.invocation import Status
from holdfast.engine.bus import Chunk, Watch
from holdfast.engine.engine import Engine
from holdfast.errors import BadArguments, EngineStopped
from holdfast.standing import reader, steps_of
from holdfast.stores.base import InvocationRow
from holdfast.views import plain, plain_view, view_entry, view_invocation


@dataclass(frozen=True, slots=True)
class EventView:
    """One event. Given as `after`, `id` is where a watcher goes on.

    `kind` is that of the journal's line ("step", "once", "timer", "promise", "call", "signal", "cancel", "retry" or
    "emit"), "attempt" for a step whose attempt has failed and is followed by another, "chunk" for what a step's body
    tells while it runs (`data` has step, attempt, index and event), or "status". Attempts and chunks are live only.
    """

    id: str
    kind: str
    data: dict[str, Any]


class _Place:
    """How far a watcher has come: so many entries, and of each body that runs so many chunks."""

    def __init__(self, after: str | None) -> None:
        self.chunks: dict[str, tuple[int, int]] = {}  # by step: attempt and index of the last one seen
        self.failed: dict[str, int] = {}  # by step: the last attempt that was seen failing; not kept in the id
        self.life = 0  # in which they were seen
        try:
            match (after or "0").split(";"):
                case [entries]:
                    self.entries = int(entries)
                case [entries, life, *rest] if rest:
                    self.entries, self.life = int(entries), int(life)
                    for step, attempt, index in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
                        self.chunks[unquote(step)] = (int(attempt), int(index))
                case _:
                    raise ValueError(after)
        except ValueError:
            raise BadArguments(
                f"{after!r:.60} is no event's id", fix="give the id of the last event seen, or none for all"
            ) from None

    @property
    def id(self) -> str:
        """The place as an event's id."""
        seen = [f"{quote(step, safe='')};{attempt};{index}" for step, (attempt, index) in self.chunks.items()]
        return ";".join([str(self.entries), *([str(self.life)] if seen else []), *seen])

    def enter(self, life: int) -> None:
        """Bodies that another process ran began again in this one, from their first attempt."""
        if self.life != life:
            self.life = life
            self.chunks = {}

    def is_new(self, chunk: Chunk) -> bool:
        """Marks a chunk as seen; False if it was."""
        at = (chunk.attempt, chunk.place)
        if at <= self.chunks.get(chunk.step, (0, -1)):
            return False
        self.chunks[chunk.step] = at
        return True

    def forget_ended(self, running: set[str]) -> None:
        """Bodies that have ended say no more."""
        self.chunks = {step: at for step, at in self.chunks.items() if step in running}


async def watch(engine: Engine, id: str, after: str | None) -> AsyncIterator[EventView]:
    """Events from the beginning or after an id, until the invocation has ended or the engine stops."""
    place = _Place(after)
    place.enter(engine.bus.life)
    row = await engine.known(id)
    shown: str | None = None
    with engine.bus.watch(row.n) as watcher:
        await engine.durable()  # what was about to be written before it was watched rings no bell
        while True:
            watcher.bell.clear()
            try:
                status = engine.reading().get(row.n)
            except EngineStopped:
                return
            if status is None:
                return  # purged
            for event in [*_news(engine, row.n, place, watcher), *_live(engine, status, place, watcher)]:
                yield event
            state = Status(status.status)
            if shown != state.name:
                shown = state.name
                view = plain_view(view_invocation(status, None))
                data = {name: view[name] for name in ("status", "reason", "updated")}
                yield EventView(place.id, "status", data)
            if state.ended or watcher.closed:
                return
            await watcher.bell.wait()


def _news(engine: Engine, n: int, place: _Place, watcher: Watch) -> list[EventView]:
    store = engine.reading()
    events = []
    asked = {records.decode_info(promise.about).step: promise for promise in store.promises_of(n)}
    read = reader(store, n)
    for body in store.entries(n, place.entries):
        entry = records.decode_entry(body)
        if isinstance(entry, (records.StepCompleted, records.StepErrored)):
            events += _told(watcher.ended.pop(entry.step, []), place)  # its last words, before it is over
        at, place.entries = place.entries, place.entries + 1
        if isinstance(entry, (records.StateRead, records.ItemsRead, records.VersionMarked)):
            continue  # nothing happened
        view = view_entry(entry, at, read, asked)
        events.append(EventView(place.id, view.kind, plain_view(view)))
    return events


def _live(engine: Engine, row: InvocationRow, place: _Place, watcher: Watch) -> list[EventView]:
    events = []
    for step in steps_of(engine, row).values():
        if step.state == "retrying" and place.failed.get(step.id) != step.tries:
            place.failed[step.id] = step.tries
            events.append(EventView(place.id, "attempt", plain_view(step)))
    chunks = engine.bus.chunks(row.n)
    place.forget_ended({chunk.step for chunk in chunks} | watcher.ended.keys())
    return events + _told(chunks, place)


def _told(chunks: list[Chunk], place: _Place) -> list[EventView]:
    """Those of them that were not seen yet, as events."""
    events = []
    for chunk in chunks:
        if place.is_new(chunk):
            data = {
                "step": chunk.step, "attempt": chunk.attempt, "index": chunk.place, "event": plain(chunk.text)
            }  # fmt: skip
            events.append(EventView(place.id, "chunk", data))
    return events
