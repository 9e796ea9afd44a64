"""Copies a live database in slices.

Promises: `path` appears only when the copy is whole and synced; a copy that was cut off leaves `path.partial`, which
the next one removes. Runs on the writing connection itself: SQLite then carries every commit made between slices into
the copy, while a copy through another connection would start over at each of them.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw

from holdfast.errors import StoreError, UsageError
from holdfast.stores.sqlite import problems

SLICE_PAGES = 256  # about a millisecond
SYNC_SLICES = 4  # a sync of 4 MB stalls commits for some 10 ms, one sync at the end for as long as the file is big


def copy(source: apsw.Connection, source_path: Path, path: Path, vfs: str | None) -> Iterator[None]:
    """Yields after each slice; commits may run between slices."""
    if path.exists():
        raise UsageError(
            f"cannot back up to {path}: it exists",
            cause="an earlier backup has that name",
            fix="name a new file; a backup never overwrites one",
        )
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        yield from _copy_pages(source, partial, vfs)
        partial.rename(path)
        _sync(path.parent)
    except (apsw.Error, OSError) as error:
        raise _problem(error, source_path, path) from error
    finally:
        partial.unlink(missing_ok=True)


def save(source: apsw.Connection, source_path: Path, path: Path, vfs: str | None) -> None:
    """A copy at once, in place of an older one of that name: what a migration can be undone with."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    for _ in copy(source, source_path, fresh, vfs):
        pass
    fresh.replace(path)
    _sync(path.parent)


def _copy_pages(source: apsw.Connection, partial: Path, vfs: str | None) -> Iterator[None]:
    target = apsw.Connection(str(partial), apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs)
    try:
        # Nothing to roll back to and nothing to sync piece by piece: until it is whole, the copy is thrown away.
        target.pragma("journal_mode", "OFF")
        target.pragma("synchronous", "OFF")
        with target.backup("main", source, "main") as backup:
            slices = 0
            while not backup.step(SLICE_PAGES):
                slices += 1
                if slices % SYNC_SLICES == 0:
                    _sync(partial)
                yield
    finally:
        target.close()
    _sync(partial)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # a plain fsync stops in the drive's cache there
        else:
            os.fsync(fd)
    finally:
        os.close(fd)


def _problem(error: Exception, source_path: Path, path: Path) -> StoreError:
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return problems.corrupt(source_path, error)
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in problems.NO_SPACE):
        return problems.full(path)
    return StoreError(
        f"the backup to {path} failed: {type(error).__name__}: {error}",
        cause="the folder is missing or cannot be written, or its disk failed",
        fix="name another place and back up again; the store itself is not touched by this",
    )
