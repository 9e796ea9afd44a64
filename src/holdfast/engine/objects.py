"""An object's state between its handlers and the store: what is read, and what the rows look like.

Promises: a value and a list never pass for each other; a body that does not decode stops one invocation (G10).
"""

from __future__ import annotations

from holdfast.core.commands import AppendItem, SetState
from holdfast.core.payload import compress, expand
from holdfast.core.state import not_a_list, not_a_value
from holdfast.errors import Unreadable
from holdfast.stores.base import Batch, ItemRow, StateRow, Store, TrimRow

LIST = b"\x02"  # first byte of the row that says where a list begins; a value's is that of `compress`


class ObjectState:
    """The stored state of one key."""

    def __init__(self, store: Store, service: str, key: str) -> None:
        self._store = store
        self._service = service
        self._key = key
        # What this writer has done, some of it not durable yet:
        self._heads: dict[str, int | None] = {}  # where lists begin; None: it wrote a value, or cleared the name
        self._ends: dict[str, int] = {}  # of lists it added to

    def value(self, name: str) -> bytes | None:
        """A value's text. Raises BadArguments when the name is a list's."""
        body = self._store.state(self._service, self._key, name)
        if body is None:
            return None
        if body[:1] == LIST:
            raise not_a_value(name)
        return expand(body)

    def names(self) -> list[str]:
        """All names, sorted."""
        return self._store.state_names(self._service, self._key)

    def bounds(self, name: str) -> tuple[int, int]:
        """First index and end of a list. Raises BadArguments when the name is a value's."""
        body = self._store.state(self._service, self._key, name)
        end = self._store.items_end(self._service, self._key, name)
        if body is None:
            return end, end
        if body[:1] != LIST:
            raise not_a_list(name)
        return int(body[1:]), end

    def items(self, name: str, first: int, end: int) -> list[bytes]:
        """The texts of a list's elements. Raises Unreadable when one is gone."""
        rows = self._store.items(self._service, self._key, name, first, end)
        if len(rows) != end - first:
            raise Unreadable(
                f"elements {first} to {end - 1} of list {name!r} of {self._service}/{self._key} are not all there",
                cause="the list was cleared since; this run was copied from an older one",
                fix="start a new invocation, or restart from a step before the list was read",
            )
        return [expand(body) for _, body in rows]

    def all(self) -> dict[str, bytes | list[bytes]]:
        """Everything, for people to see."""
        found: dict[str, bytes | list[bytes]] = {}
        for name in self.names():
            body = self._store.state(self._service, self._key, name) or b""
            found[name] = self.items(name, *self.bounds(name)) if body[:1] == LIST else expand(body)
        return found

    def write(self, batch: Batch, command: SetState | AppendItem) -> None:
        """Adds a change of the one writer to a batch."""
        service, key, name = self._service, self._key, command.name
        match command:
            case SetState(_, text):
                self._heads[name] = None
                batch.states.append(StateRow(service, key, name, None if text is None else compress(text)))
            case AppendItem(_, text):
                # Where it goes is for the store to say and not for the handler: one that was opened again, or copied
                # from an older run, has seen another list.
                end = self._end(name)
                if self._head(name) is None:
                    self._heads[name] = end
                    batch.states.append(StateRow(service, key, name, LIST + str(end).encode()))
                batch.items.append(ItemRow(service, key, name, end, compress(text)))
                self._ends[name] = end + 1

    def trim(self, batch: Batch, name: str) -> None:
        """Deletes the elements that no list has any more: those before the one that begins now, or all."""
        head = self._head(name)
        before = self._end(name) if head is None else head
        if before:
            batch.trims.append(TrimRow(self._service, self._key, name, before))

    def _head(self, name: str) -> int | None:
        if name not in self._heads:
            body = self._store.state(self._service, self._key, name)
            self._heads[name] = None if body is None or body[:1] != LIST else int(body[1:])
        return self._heads[name]

    def _end(self, name: str) -> int:
        if name not in self._ends:
            self._ends[name] = self._store.items_end(self._service, self._key, name)
        return self._ends[name]
