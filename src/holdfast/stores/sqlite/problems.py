"""What SQLite and the operating system report, in the words of holdfast.errors. Decides nothing but the words."""

from __future__ import annotations

import errno
from pathlib import Path

import apsw

from holdfast.errors import StoreCorrupt, StoreError, StoreFailed, StoreForeign, StoreFull, StoreReadOnly

# The file system could not give back what was once written.
UNREADABLE = {
    apsw.SQLITE_IOERR_READ,
    apsw.SQLITE_IOERR_SHORT_READ,
    apsw.SQLITE_IOERR_DATA,
    apsw.SQLITE_IOERR_CORRUPTFS,
}
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
# What opening for writing says when the place, not the moment, is the reason.
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


class RuleBroken(Exception):
    """A rule of `Store.commit` that no constraint of a table can watch."""


def while_used(error: BaseException, path: Path) -> StoreError:
    """What went wrong between open and close."""
    if isinstance(error, apsw.FullError):
        return full(path)
    # A text that is no UTF-8 was never written: SQLite itself does not look inside a text.
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | UnicodeDecodeError) or _code(error) in UNREADABLE:
        return corrupt(path, error)
    if isinstance(error, apsw.SQLError):  # a statement does not fit the tables
        return other_tables(path, str(error))
    if isinstance(error, apsw.ConstraintError | RuleBroken):
        return StoreFailed(
            f"{path} refused a row: {error}",
            cause="two engines drive this file, or the engine has a bug",
            fix="look for a second process; if there is none, report this text. What was acknowledged is safe",
        )
    return StoreFailed(
        f"{path} could not be written: {type(error).__name__}: {error}",
        cause="the disk or the file system failed, or another program writes to the file",
        fix="look at the system's log, then start again: what was acknowledged is safe and is read back from disk",
    )


def while_opening(error: Exception, path: Path) -> StoreError:
    """What went wrong before the store was ready."""
    if isinstance(error, apsw.NotADBError):
        return foreign(path, "it is not a SQLite database")
    unwritable = isinstance(error, OSError) and error.errno in UNWRITABLE
    if unwritable or isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError):
        return read_only(path, str(error))
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return full(path)
    return while_used(error, path)


def full(path: Path) -> StoreFull:
    return StoreFull(
        f"no space left for {path}",
        cause="the disk or this user's quota is full",
        fix="free some space; nothing acknowledged is lost, and the store goes on without a restart",
    )


def corrupt(path: Path, error: BaseException) -> StoreCorrupt:
    return StoreCorrupt(
        f"{path} has damaged pages: {error}",
        cause="the disk, or a program that wrote to the file or copied it while it was in use",
        fix="stop, keep the file, and put the newest copy made by client.backup(path) in its place; "
        f"without one, `sqlite3 {path.name} .recover` saves what can still be read",
    )


def foreign(path: Path, why: str) -> StoreForeign:
    return StoreForeign(
        f"{path} is not a Holdfast store: {why}",
        cause="the path names a file of another program, or the file's first page was overwritten",
        fix="name another path; if it should be a store, put the newest copy made by client.backup(path) in its place",
    )


def other_tables(path: Path, why: str) -> StoreForeign:
    return StoreForeign(
        f"{path} does not have the tables of this Holdfast: {why}",
        cause="a development version from before the first release wrote it, or they were changed by hand",
        fix="run it with the version that wrote it, or begin with a new file",
    )


def read_only(path: Path, why: str) -> StoreReadOnly:
    return StoreReadOnly(
        f"{path} cannot be written: {why}",
        cause="the folder is missing, or the folder, the file or the disk is read-only for this user",
        fix="create the folder or give this user write permission to it and the file, or name another path",
    )


def not_open() -> StoreError:
    return StoreError("the store is not open", cause="it was closed, or never opened", fix="open it first")


def again(error: StoreError) -> StoreError:
    """A fresh copy: raising one object many times would grow its traceback."""
    return type(error)(error.what, cause=error.cause, fix=error.fix)


def _code(error: BaseException) -> int:
    code: int = getattr(error, "extendedresult", 0)  # missing in apsw's type stubs, and in errors that are not SQLite's
    return code
