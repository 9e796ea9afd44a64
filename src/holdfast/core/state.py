"""An object's state, as one handler sees it.

Promises: what was read is in the journal before anything follows from it, so a replay reads the same (G3); a list is
noted by its bounds only, so reading a conversation costs the same at turn 10 and at turn 1,000. Refuses: writing by
handlers that run beside the one writer of a key.

That a name was a list where a value was looked for, or the other way round, is noted too, as a note of the other kind:
by the next replay the name may be something else. The writer reads through what it has written: its values are found
here, those of others in the source, each once.
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
    """A list as it was when it was looked at, and what the writer added since."""

    __slots__ = ("end", "first", "own")

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end  # of what was there
        self.own: list[bytes] = []

    @property
    def is_empty(self) -> bool:
        return self.first == self.end and not self.own


class StateView:
    """The state of one key."""

    def __init__(self, host: Host, source: Source, *, writes: bool) -> None:
        self._host = host
        self._source = source
        self._writes = writes
        # What the writer knows of a name. None among the values: there is neither a value nor a list, or none that is
        # not among the lists.
        self._values: dict[str, bytes | None] = {}
        self._lists: dict[str, _List] = {}
        self._names: dict[str, None] | None = None
        self.cleared: dict[str, None] = {}  # names under which there may have been lists

    def get(self, name: str) -> bytes | None:
        """The text of a value, None if there is none."""
        check_name(name)
        if not self._writes or (name not in self._values and name not in self._lists):
            text = self._note(f"get {name}", lambda: self._source.value(name), not_a_value(name))
            if self._writes:
                self._values[name] = text
            return text
        if name in self._lists and not self._lists[name].is_empty:
            raise not_a_value(name)
        return self._values.get(name)

    def set(self, name: str, text: bytes) -> None:
        """Writes a value. Raises WrongPlace in a handler that only reads."""
        check_name(name)
        self._check_writes()
        self._forget_list(name)
        self._values[name] = text
        self._host.do(SetState(name, text))
        if self._names is not None:
            self._names[name] = None

    def clear(self, name: str) -> None:
        """Removes a value or a list. Raises WrongPlace in a handler that only reads."""
        check_name(name)
        self._check_writes()
        self._forget_list(name)
        self._values[name] = None
        self._host.do(SetState(name, None))
        if self._names is not None:
            self._names.pop(name, None)

    def keys(self) -> list[str]:
        """All names, sorted."""
        if self._names is None or not self._writes:
            text = self._note("keys", lambda: msgspec.json.encode(self._source.names()), None)
            names = dict.fromkeys(_names(text or b"[]"))
            if not self._writes:
                return list(names)
            for name in (*self._values, *self._lists):
                names.pop(name, None)
                known = self._lists.get(name)
                if self._values.get(name) is not None or (known is not None and not known.is_empty):
                    names[name] = None
            self._names = names
        return sorted(self._names)

    def append(self, name: str, text: bytes) -> None:
        """Adds an element to a list. Raises WrongPlace in a handler that only reads."""
        check_name(name)
        self._check_writes()
        self._list(name).own.append(text)
        self._host.do(AppendItem(name, text))
        if self._names is not None:
            self._names[name] = None

    def items(self, name: str) -> list[bytes]:
        """The texts of a list's elements, oldest first."""
        check_name(name)
        if not self._writes:
            # By value: the writer may empty the list while this handler waits.
            text = self._note(f"items {name}", lambda: b"[%b]" % b",".join(self._all(name)), not_a_list(name))
            return [bytes(raw) for raw in _raws(text or b"[]")]
        known = self._list(name)
        stored = self._source.items(name, known.first, known.end) if known.end > known.first else []
        return [*stored, *known.own]

    def _all(self, name: str) -> list[bytes]:
        return self._source.items(name, *self._source.bounds(name))

    def _list(self, name: str) -> _List:
        known = self._lists.get(name)
        if known is not None:
            return known
        if name not in self._values:
            known = self._look(name)
        elif self._values[name] is None:
            known = _List(0, 0)
        else:
            raise not_a_list(name)
        self._lists[name] = known
        return known

    def _look(self, name: str) -> _List:
        def make(local: str) -> Note:
            try:
                return ItemsRead(self._host.at, local, *self._source.bounds(name))
            except BadArguments:
                return StateRead(self._host.at, local, None)  # it was a value

        note = self._host.note(f"list {name}", make)
        if not isinstance(note, ItemsRead):
            raise not_a_list(name)
        return _List(note.first, note.end)

    def _forget_list(self, name: str) -> None:
        known = self._lists.pop(name, None)
        if name not in self._values if known is None else not known.is_empty:
            self.cleared[name] = None

    def _note(self, name: str, look: Callable[[], bytes | None], refusal: BadArguments | None) -> bytes | None:
        def make(local: str) -> Note:
            try:
                text = look()
            except BadArguments:
                return ItemsRead(self._host.at, local, 0, 0)  # the name was of the other kind
            return StateRead(self._host.at, local, None if text is None else INLINE + text)

        note = self._host.note(name, make)
        if isinstance(note, StateRead):
            return None if note.value is None else self._host.read(note.value)
        raise refusal or _other(name)

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
