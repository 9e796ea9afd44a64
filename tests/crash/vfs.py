"""A disk that can be asked what a power failure would have left on it.

`Disk` is an SQLite VFS over real files. It writes down every write, truncation, sync and deletion, fails the ones it is
told to, and `crashes` rebuilds what the medium may hold at any moment: all that was synced, plus any part of the rest.
It knows nothing of databases.
"""
# ruff: noqa: N802 - apsw names the methods after SQLite's

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw

SECTOR = 512
_names = itertools.count(1)


class Event(NamedTuple):
    kind: str  # "write", "truncate", "sync", "delete", "syncdir" (of the folder), or "mark" for a note of the test
    file: str = ""
    offset: int = 0  # of a write; new size of a truncation; number of a mark
    data: bytes = b""


class Fault:
    """Fails the `number`-th write or sync (counted from 1) and, if it is to last, all after it."""

    def __init__(self, kind: str, number: int, *, code: int, lasting: bool = True) -> None:
        self.kind = kind
        self.left = number
        self.code = code
        self.lasting = lasting
        self.struck = False

    def strike(self, kind: str) -> None:
        if kind != self.kind:
            return
        self.left -= 1
        if self.left == 0 or (self.left < 0 and self.lasting):
            self.struck = True
            error = apsw.exception_for(self.code)
            error.extendedresult = self.code
            raise error


class Disk(apsw.VFS):
    def __init__(self) -> None:
        self.name = f"disk-{next(_names)}"
        self.events: list[Event] = []
        self.fault: Fault | None = None
        super().__init__(self.name, "")

    def mark(self, number: int) -> None:
        self.events.append(Event("mark", offset=number))

    def record(self, kind: str, file: str = "", offset: int = 0, data: bytes = b"") -> None:
        if self.fault:
            self.fault.strike(kind)
        self.events.append(Event(kind, file, offset, data))

    def xOpen(self, name, flags):
        return _File(self, name, flags)

    def xDelete(self, filename, syncdir):
        super().xDelete(filename, syncdir)
        self.events.append(Event("delete", Path(filename).name))
        if syncdir:
            self.events.append(Event("syncdir"))


class _File(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        # SQLite's own VFS syncs the folder with the first sync of a log or journal that it may have created.
        log = flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL)
        self.folder_too = bool(log and flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("", name, flags)
        self.disk = disk
        self.file = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary").name

    def xWrite(self, data, offset):
        self.disk.record("write", self.file, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size):
        self.disk.record("truncate", self.file, size)
        super().xTruncate(size)

    def xSync(self, flags):
        # Recorded, not done: the files live in memory, and what a sync means is the model's business.
        self.disk.record("sync", self.file)
        if self.folder_too:
            self.disk.record("syncdir")
            self.folder_too = False


@contextlib.contextmanager
def recording() -> Iterator[Disk]:
    disk = Disk()
    try:
        yield disk
    finally:
        disk.unregister()


class Medium:
    """What is certainly there, file by file, and what may be."""

    def __init__(self) -> None:
        self.certain: dict[str, bytearray] = {}
        self.pending: dict[str, list[Event]] = {}

    def take(self, event: Event) -> None:
        if event.kind == "sync":
            content = _apply(self.certain.get(event.file), self.pending.pop(event.file, []))
            self.certain[event.file] = content or bytearray()
        elif event.kind == "syncdir":
            for file, events in self.pending.items():
                kinds = [event.kind for event in events]
                if "delete" in kinds:
                    del events[: len(kinds) - kinds[::-1].index("delete")]
                    self.certain.pop(file, None)
        elif event.kind != "mark":
            self.pending.setdefault(event.file, []).append(event)

    def image(self, keep) -> dict[str, bytes]:
        """The files when `keep` has chosen, for each file, what of its pending events took effect."""
        files = {}
        for file in sorted(self.certain.keys() | self.pending.keys()):
            kept = keep(self.pending.get(file, []))
            content = _apply(self.certain.get(file), kept)
            if content is not None:
                files[file] = bytes(content)
        return files

    def images(self, random: Random) -> Iterator[tuple[str, dict[str, bytes]]]:
        """The images worth looking at: without choice when nothing is pending."""
        yield "none", self.image(lambda events: [])
        if not any(self.pending.values()):
            return
        yield "all", self.image(lambda events: events)
        yield "some", self.image(lambda events: _part(events, 0.5, random))
        yield "most", self.image(lambda events: _part(events, 0.9, random))
        yield "torn", self.image(lambda events: _tear(events, random))


def crashes(
    events: list[Event], random: Random, medium: dict[str, bytes] | None = None
) -> Iterator[tuple[int, int, str, dict[str, bytes]]]:
    """(position, last mark, variant, files) for a power failure after each event. `medium`: what was there before. What
    one event leaves as another did, with the same mark, comes once: about half."""
    known = Medium()
    known.certain = {file: bytearray(content) for file, content in (medium or {}).items()}
    mark, seen = 0, set()
    for position, event in enumerate(events):
        if event.kind == "mark":
            mark = event.offset
            seen.clear()
        known.take(event)
        for variant, files in known.images(random):
            image = tuple(files.items())
            if image not in seen:
                seen.add(image)
                yield position, mark, variant, files


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    """Puts an image into a folder, in place of what was there."""
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _apply(content: bytearray | None, events: list[Event]) -> bytearray | None:
    content = None if content is None else bytearray(content)
    for event in events:
        if event.kind == "delete":
            content = None
            continue
        content = bytearray() if content is None else content
        size = event.offset if event.kind == "truncate" else event.offset + len(event.data)
        if event.kind == "truncate":
            del content[size:]
        content.extend(bytes(max(0, size - len(content))))
        if event.kind == "write":
            content[event.offset : size] = event.data
    return content


def _part(events: list[Event], share: float, random: Random) -> list[Event]:
    kept = []
    for event in events:
        if random.random() < share:
            kept.append(event)
        elif event.kind == "delete":
            break  # the folder still names the old file; what follows went to a new one
    return kept


def _tear(events: list[Event], random: Random) -> list[Event]:
    """All up to a random write, of which only some sectors came through."""
    writes = [place for place, event in enumerate(events) if event.kind == "write"]
    if not writes:
        return events
    place = random.choice(writes)
    torn = events[place]
    parts = [
        Event("write", torn.file, torn.offset + first, torn.data[first : first + SECTOR])
        for first in range(0, len(torn.data), SECTOR)
        if random.random() < 0.5
    ]
    return [*events[:place], *parts]
