"""An object's state between its handlers and the store: what is read, and what the rows look like.

Promises: a value and a list never pass for each other; a body that does not decode stops one invocation (G10). Who was
told of a write sees it, also before it is durable: what follows from that is durable after it. Refuses: two writers.
"""

from __future__ import annotations

from holdfast.core.commands import AppendItem, SetState
from holdfast.core.payload import compress, expand
from holdfast.core.state import not_a_list, not_a_value
from holdfast.engine.committer import Committer
from holdfast.errors import Unreadable
from holdfast.stores.base import Batch, ItemRow, StateRow, Store, TrimRow

LIST = b"\x02"  # first byte of the row that says where a list begins; a value's is that of `compress`


class _Fresh:
    """Of one key, what is on its way to the store."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes | None] = {}
        self.items: dict[str, dict[int, bytes]] = {}
        self.count = 0  # of writes that are not durable


class Unwritten:
    """What handlers have written to objects and is not durable yet."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._of: dict[tuple[str, str], _Fresh] = {}

    def of(self, service: str, key: str) -> _Fresh | None:
        """That of one key."""
        return self._of.get((service, key))

    def add(self, row: StateRow | ItemRow) -> None:
        """A row was put into the open batch."""
        key = (row.service, row.key)
        fresh = self._of.setdefault(key, _Fresh())
        if isinstance(row, StateRow):
            fresh.bodies[row.name] = row.body
        else:
            fresh.items.setdefault(row.name, {})[row.index] = row.body
        fresh.count += 1
        self._committer.after(self._durable, key)

    def _durable(self, key: tuple[str, str]) -> None:
        fresh = self._of[key]
        fresh.count -= 1
        if not fresh.count:
            del self._of[key]


class ObjectState:
    """The state of one key."""

    def __init__(self, store: Store, service: str, key: str, unwritten: Unwritten | None = None) -> None:
        """Without `unwritten` only what is durable is seen, and nothing can be written."""
        self._store = store
        self._service = service
        self._key = key
        self._unwritten = unwritten
        # What this writer has done, some of it not durable yet:
        self._heads: dict[str, int | None] = {}  # where lists begin; None: it wrote a value, or cleared the name
        self._ends: dict[str, int] = {}  # of lists it added to

    def value(self, name: str) -> bytes | None:
        """A value's text. Raises BadArguments when the name is a list's."""
        body = self._body(name)
        if body is None:
            return None
        if body[:1] == LIST:
            raise not_a_value(name)
        return expand(body)

    def is_list(self, name: str) -> bool:
        """Whether the name is a list's."""
        return (self._body(name) or b"")[:1] == LIST

    def names(self) -> list[str]:
        """All names, sorted."""
        names = dict.fromkeys(self._store.state_names(self._service, self._key))
        fresh = self._fresh()
        for name, body in {} if fresh is None else fresh.bodies.items():
            names.pop(name, None)
            if body is not None:
                names[name] = None
        return sorted(names)

    def bounds(self, name: str) -> tuple[int, int]:
        """First index and end of a list. Raises BadArguments when the name is a value's."""
        body, end = self._body(name), self._last(name)
        if body is None:
            return end, end
        if body[:1] != LIST:
            raise not_a_list(name)
        return int(body[1:]), end

    def items(self, name: str, first: int, end: int) -> list[bytes]:
        """The texts of a list's elements. Raises Unreadable when one is gone."""
        found = dict(self._store.items(self._service, self._key, name, first, end))
        fresh = self._fresh()
        if fresh is not None and name in fresh.items:
            found.update((index, body) for index, body in fresh.items[name].items() if first <= index < end)
        if len(found) != end - first:
            raise Unreadable(
                f"elements {first} to {end - 1} of list {name!r} of {self._service}/{self._key} are not all there",
                cause="the list was cleared since; this run was copied from an older one",
                fix="start a new invocation, or restart from a step before the list was read",
            )
        return [expand(found[index]) for index in range(first, end)]

    def all(self) -> dict[str, bytes | list[bytes]]:
        """Everything, for people to see."""
        found: dict[str, bytes | list[bytes]] = {}
        for name in self.names():
            body = self._body(name) or b""
            found[name] = self.items(name, *self.bounds(name)) if body[:1] == LIST else expand(body)
        return found

    def write(self, batch: Batch, command: SetState | AppendItem) -> None:
        """Adds a change of the one writer to a batch."""
        match command:
            case SetState(name, text):
                self._heads[name] = None
                self._put(batch, name, None if text is None else compress(text))
            case AppendItem(name, text):
                # Where it goes is for the store to say and not for the handler: one that was opened again, or copied
                # from an older run, has seen another list.
                end = self._end(name)
                if self._head(name) is None:
                    self._heads[name] = end
                    self._put(batch, name, LIST + str(end).encode())
                row = ItemRow(self._service, self._key, name, end, compress(text))
                batch.items.append(row)
                self._note(row)
                self._ends[name] = end + 1

    def trim(self, batch: Batch, name: str) -> None:
        """Deletes the elements that no list has any more: those before the one that begins now, or all."""
        head = self._head(name)
        before = self._end(name) if head is None else head
        if before:
            batch.trims.append(TrimRow(self._service, self._key, name, before))
        if before and head is None:
            # Their places are not taken again: who goes on from what it read then must find nothing, and no other list.
            last = ItemRow(self._service, self._key, name, before, b"")
            batch.items.append(last)
            self._note(last)
            self._ends[name] = before + 1

    def _put(self, batch: Batch, name: str, body: bytes | None) -> None:
        row = StateRow(self._service, self._key, name, body)
        batch.states.append(row)
        self._note(row)

    def _note(self, row: StateRow | ItemRow) -> None:
        assert self._unwritten is not None  # for the type checker: a driver made this
        self._unwritten.add(row)

    def _fresh(self) -> _Fresh | None:
        return None if self._unwritten is None else self._unwritten.of(self._service, self._key)

    def _body(self, name: str) -> bytes | None:
        fresh = self._fresh()
        if fresh is not None and name in fresh.bodies:
            return fresh.bodies[name]
        return self._store.state(self._service, self._key, name)

    def _last(self, name: str) -> int:
        fresh = self._fresh()
        added = None if fresh is None else fresh.items.get(name)
        return self._store.items_end(self._service, self._key, name) if not added else max(added) + 1

    def _head(self, name: str) -> int | None:
        if name not in self._heads:
            body = self._body(name)
            self._heads[name] = None if body is None or body[:1] != LIST else int(body[1:])
        return self._heads[name]

    def _end(self, name: str) -> int:
        if name not in self._ends:
            self._ends[name] = self._last(name)
        return self._ends[name]
