"""What happens to an invocation, as a stream that can be taken up again where it was left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from holdfast.core import entries as records
from holdfast.core.invocation import Status
from holdfast.core.payload import unpack
from holdfast.engine.bus import Chunk
from holdfast.engine.engine import Engine
from holdfast.errors import BadArguments
from holdfast.views import plain, plain_view, view_entry, view_invocation


@dataclass(frozen=True, slots=True)
class EventView:
    """One event. Given as `after`, `id` is where a watcher goes on.

    `kind` is that of the journal's line ("step", "timer", "promise", "call", "signal", "cancel", "emit"), "chunk" for
    what a step's body tells while it runs (`data` has step, attempt, index and event), or "status".
    """

    id: str
    kind: str
    data: dict[str, Any]


class _Place:
    """How far a watcher has come: so many entries, and so many chunks of the bodies that run."""

    def __init__(self, after: str | None) -> None:
        entries, _, rest = (after or "0").partition(";")
        self.chunks: dict[str, tuple[int, int]] = {}  # by step: attempt and index of the last one seen
        try:
            self.entries = int(entries)
            if rest:
                step, attempt, index = rest.rsplit(";", 2)
                self.chunks[step] = (int(attempt), int(index))
        except ValueError:
            raise BadArguments(
                f"{after!r:.60} is no event's id", fix="give the id of the last event seen, or none for all"
            ) from None

    def is_new(self, chunk: Chunk) -> bool:
        """Marks a chunk as seen; False if it was."""
        at = (chunk.attempt, chunk.place)
        if at <= self.chunks.get(chunk.step, (0, -1)):
            return False
        self.chunks[chunk.step] = at
        return True


async def watch(engine: Engine, id: str, after: str | None) -> AsyncIterator[EventView]:
    """Events from the beginning or after an id, until the invocation has ended or the engine stops."""
    place = _Place(after)
    row = await engine.known(id)
    shown: str | None = None
    with engine.bus.watch(row.n) as watcher:
        while True:
            watcher.bell.clear()
            status = engine.reading().get(row.n)
            if status is None:
                return  # purged
            for event in _news(engine, row.n, place):
                yield event
            state = Status(status.status)
            if shown != state.name:
                shown = state.name
                view = plain_view(view_invocation(status, None))
                data = {name: view[name] for name in ("status", "reason", "updated")}
                yield EventView(str(place.entries), "status", data)
            if state.ended or watcher.closed:
                return
            await watcher.bell.wait()


def _news(engine: Engine, n: int, place: _Place) -> list[EventView]:
    store = engine.reading()
    events = []
    asked = {records.decode_info(promise.about).step: promise for promise in store.promises_of(n)}
    for body in store.entries(n, place.entries):
        entry = records.decode_entry(body)
        place.entries += 1
        if isinstance(entry, (records.StateRead, records.ItemsRead, records.VersionMarked)):
            continue  # nothing happened
        view = view_entry(entry, lambda payload: unpack(payload, lambda a, b: store.blobs(n, a, b)), asked)
        events.append(EventView(str(place.entries), view.kind, plain_view(view)))
    for chunk in engine.bus.chunks(n):
        if place.is_new(chunk):
            data = {
                "step": chunk.step, "attempt": chunk.attempt, "index": chunk.place, "event": plain(chunk.text)
            }  # fmt: skip
            id = f"{place.entries};{chunk.step};{chunk.attempt};{chunk.place}"
            events.append(EventView(id, "chunk", data))
    return events
