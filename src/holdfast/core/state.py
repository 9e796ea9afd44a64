"""An object's state, as one handler sees it.

Promises: what was read is in the journal before anything follows from it, so a replay reads the same (G3); a list is
noted by its bounds only, so reading a conversation costs the same at turn 10 and at turn 1,000. Refuses: writing by
handlers that run beside the one writer of a key.

The writer reads through what it has written: its values are found here, those of others in the source, each once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from holdfast.core.commands import AppendItem, SetState
from holdfast.core.entries import ItemsRead, Note, StateRead
from holdfast.core.payload import INLINE
from holdfast.errors import BadArguments, Unreadable, WrongPlace

if TYPE_CHECKING:
    from holdfast.core.commands import Deed

NAME_CHARS_MAX = 200

_names = msgspec.json.Decoder(list[str]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Source(Protocol):
    """What is stored of one object. Texts are JSON."""

    def value(self, name: str) -> bytes | None:
        """A value's text. Raises BadArguments when the name is a list's."""

    def names(self) -> list[str]:
        """All names, sorted."""

    def bounds(self, name: str) -> tuple[int, int]:
        """First index and end of a list. Raises BadArguments when the name is a value's."""

    def items(self, name: str, first: int, end: int) -> list[bytes]:
        """The texts of a list's elements. Raises Unreadable when one is gone."""


class Host(Protocol):
    """The machine, as state sees it."""

    at: int

    def note(self, name: str, make: Callable[[str], Note]) -> Note:
        """What was noted here before, or what `make` says now."""

    def do(self, deed: Deed) -> None:
        """Asks for something that nobody waits for."""

    def read(self, payload: bytes) -> bytes:
        """The JSON text of a payload."""


class _List:
    """A list the writer has looked at: what was there, and what it added since."""

    __slots__ = ("base", "first", "own")

    def __init__(self, first: int, base: int) -> None:
        self.first = first
        self.base = base  # index of the first element of `own`
        self.own: list[bytes] = []

    @property
    def end(self) -> int:
        return self.base + len(self.own)


class StateView:
    """The state of one key."""

    def __init__(self, host: Host, source: Source, *, writes: bool) -> None:
        self._host = host
        self._source = source
        self._writes = writes
        self._values: dict[str, bytes | None] = {}
        self._lists: dict[str, _List] = {}
        self._names: dict[str, None] | None = None
        self.cleared: dict[str, int] = {}  # lists that were emptied: elements before the index can go at the end

    def get(self, name: str) -> bytes | None:
        """The text of a value, None if there is none."""
        check_name(name)
        if name in self._values:
            return self._values[name]
        if name in self._lists and self._lists[name].end > self._lists[name].first:
            raise not_a_value(name)
        text = self._note(f"get {name}", lambda: self._source.value(name))
        if self._writes:
            self._values[name] = text
        return text

    def set(self, name: str, text: bytes) -> None:
        """Writes a value. Raises WrongPlace in a handler that only reads."""
        check_name(name)
        self._check_writes()
        if name in self._lists:
            self._empty(name)
        self._values[name] = text
        self._host.do(SetState(name, text))
        if self._names is not None:
            self._names[name] = None

    def clear(self, name: str) -> None:
        """Removes a value or a list. Raises WrongPlace in a handler that only reads."""
        check_name(name)
        self._check_writes()
        if name not in self._values:
            self._empty(name)
        self._values.pop(name, None)
        if name not in self._lists:
            self._values[name] = None
        self._host.do(SetState(name, None))
        if self._names is not None:
            self._names.pop(name, None)

    def keys(self) -> list[str]:
        """All names, sorted."""
        if self._names is None or not self._writes:
            text = self._note("keys", lambda: msgspec.json.encode(self._source.names()))
            names = dict.fromkeys(_names(text or b"[]"))
            if not self._writes:
                return list(names)
            for name, value in self._values.items():
                names[name] = None
                if value is None:
                    del names[name]
            for name, known in self._lists.items():
                names.pop(name, None)
                if known.end > known.first or self._values.get(name) is not None:
                    names[name] = None
            self._names = names
        return sorted(self._names)

    def append(self, name: str, text: bytes) -> None:
        """Adds an element to a list. Raises WrongPlace in a handler that only reads."""
        check_name(name)
        self._check_writes()
        if self._values.get(name) is not None:
            raise not_a_list(name)
        known = self._list(name)
        self._values.pop(name, None)
        self._host.do(AppendItem(name, text))
        known.own.append(text)
        if self._names is not None:
            self._names[name] = None

    def items(self, name: str) -> list[bytes]:
        """The texts of a list's elements, oldest first."""
        check_name(name)
        if not self._writes:
            # By value: the writer may empty the list while this handler waits.
            text = self._note(f"items {name}", lambda: b"[%b]" % b",".join(self._all(name)))
            return [bytes(raw) for raw in _raws(text or b"[]")]
        if self._values.get(name) is not None:
            raise not_a_list(name)
        known = self._list(name)
        stored = self._source.items(name, known.first, known.base) if known.base > known.first else []
        return [*stored, *known.own]

    def _all(self, name: str) -> list[bytes]:
        return self._source.items(name, *self._source.bounds(name))

    def _list(self, name: str) -> _List:
        known = self._lists.get(name)
        if known is None:
            note = self._host.note(
                f"list {name}", lambda local: ItemsRead(self._host.at, local, *self._source.bounds(name))
            )
            if not isinstance(note, ItemsRead):
                raise _other(name)
            known = self._lists[name] = _List(note.first, note.end)
        return known

    def _empty(self, name: str) -> None:
        try:
            known = self._list(name)
        except BadArguments:
            return  # a value
        if known.end > known.first:
            self.cleared[name] = known.end
        known.first = known.base = known.end
        known.own = []

    def _note(self, name: str, look: Callable[[], bytes | None]) -> bytes | None:
        def make(local: str) -> Note:
            text = look()
            return StateRead(self._host.at, local, None if text is None else INLINE + text)

        note = self._host.note(name, make)
        if not isinstance(note, StateRead):
            raise _other(name)
        return None if note.value is None else self._host.read(note.value)

    def _check_writes(self) -> None:
        if not self._writes:
            raise WrongPlace(
                "a shared handler cannot write state",
                cause="it runs beside the one writer of its key",
                fix="register the handler without shared=True, or send the change to one that writes",
            )


def not_a_value(name: str) -> BadArguments:
    """Refuses to read a list as a value."""
    return BadArguments(f"state {name!r} is a list", fix="read it with ctx.items, or ctx.clear it first")


def not_a_list(name: str) -> BadArguments:
    """Refuses to use a value as a list."""
    return BadArguments(f"state {name!r} is a value, not a list", fix="read it with ctx.get, or ctx.clear it first")


def _other(name: str) -> Unreadable:
    return Unreadable(
        f"the journal has a note of another kind for {name!r}", cause="the file is damaged", fix="restore a backup"
    )


def check_name(name: str) -> None:
    """Raises BadArguments for what cannot name a value or a list."""
    given: object = name
    if not isinstance(given, str) or not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise BadArguments(
            f"{name!r:.60} cannot be a name in the state",
            fix=f"give 1 to {NAME_CHARS_MAX} printable characters",
        )
