"""From a path to two connections that may be trusted.

Promises: the file is ours, has this schema, is in WAL mode and syncs every commit, all read back and not assumed.
Refuses: to touch a file of another program or of a newer Holdfast.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import apsw

from holdfast.errors import StoreError, StoreTooNew
from holdfast.stores.sqlite import backup, problems, wal
from holdfast.stores.sqlite.queries import QUERIES

APPLICATION_ID = 0x484F4C44  # "HOLD", at byte 68 of the file
# Before this, two connections that write or checkpoint at once could lose pages. We use one, but an operator's sqlite3
# shell beside us would be the second.
SQLITE_MIN = "3.51.3"
BUSY_MS = 2000  # for an operator's shell that holds the write lock for a moment
FULL = 2  # PRAGMA synchronous: sync every commit

# Only for a new file, before its first table.
FILE_PRAGMAS = (("page_size", wal.PAGE_BYTES), ("auto_vacuum", "INCREMENTAL"))
WRITER_PRAGMAS = (
    ("synchronous", "FULL"),
    ("fullfsync", 1),  # macOS: a plain fsync stops in the drive's cache there; without effect elsewhere
    ("checkpoint_fullfsync", 1),
    ("wal_autocheckpoint", 0),  # wal.Checkpointer decides
    ("journal_size_limit", wal.KEPT_BYTES_MAX),
    ("cache_size", -8_192),  # KB; holds the hot ends of all indexes, memory is taken as pages are touched
    ("temp_store", "MEMORY"),
    ("trusted_schema", 0),  # a doctored file must not call functions from a trigger or view
    ("cell_size_check", 1),  # a damaged page is found when it is read
)
READER_PRAGMAS = (("query_only", 1), ("cache_size", -8_192), ("trusted_schema", 0), ("cell_size_check", 1))


def require_sqlite(version: str) -> None:
    if _numbers(version) < _numbers(SQLITE_MIN):
        raise StoreError(
            f"the SQLite library is version {version}, Holdfast needs {SQLITE_MIN}",
            cause="older versions can lose pages when a second program checkpoints the file (the WAL-reset bug)",
            fix="upgrade apsw: `pip install --upgrade apsw`",
        )


def open_writer(path: Path, vfs: str | None) -> apsw.Connection:
    """The one connection that writes and checkpoints."""
    require_sqlite(apsw.sqlite_lib_version())
    if path.is_dir():
        raise problems.foreign(path, "it is a folder")
    connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs)
    try:
        _prepare(connection, path, vfs)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, vfs: str | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY, vfs)
    for name, value in READER_PRAGMAS:
        connection.pragma(name, value)
    connection.set_busy_timeout(BUSY_MS)
    return connection


def load_migrations() -> list[tuple[int, str]]:
    """(number, SQL) of each file in migrations/, in order."""
    scripts = [file for file in (files(__package__) / "migrations").iterdir() if file.name.endswith(".sql")]
    return sorted((int(file.name[:4]), file.read_text(encoding="utf-8")) for file in scripts)


def _prepare(connection: apsw.Connection, path: Path, vfs: str | None) -> None:
    connection.set_busy_timeout(BUSY_MS)
    version = _version(connection, path)
    if connection.readonly("main"):
        raise problems.read_only(path, "SQLite could open it for reading only")
    if version == 0:
        for name, value in FILE_PRAGMAS:
            connection.pragma(name, value)
    for name, value in WRITER_PRAGMAS:
        connection.pragma(name, value)
    _migrate(connection, path, vfs, version)
    # After the first migration: the file says whose it is before there is a log beside it.
    connection.pragma("journal_mode", "WAL")
    _check(connection, path)
    wal.grow(connection)
    # A store that cannot be written fails here and not at the first step. The sync also makes the grown log real.
    connection.execute(QUERIES["count_open"])


def _version(connection: apsw.Connection, path: Path) -> int:
    """The schema's version, 0 for a new file."""
    owner = connection.pragma("application_id")
    version: int = connection.pragma("user_version")
    newest = load_migrations()[-1][0]
    if owner == APPLICATION_ID:
        if version > newest:
            raise StoreTooNew(
                f"{path} has schema {version}, this Holdfast knows {newest}",
                cause="a newer Holdfast used the file, or a development version from before the first release",
                fix="upgrade Holdfast, or put back the copy that was made before the migration (*.backup beside it)",
            )
        missing = sorted(_expected(version) - _parts(connection), reverse=True)
        if missing:
            raise problems.other_tables(path, f"of schema {version} there is no {', no '.join(missing[:3])}")
        return version
    if owner or version or connection.pragma("schema_version"):
        raise problems.foreign(path, "it is a SQLite database of another program")
    return 0


def _expected(version: int) -> set[str]:
    """What a file of that schema has at least. Names alone: a text may be written otherwise by another SQLite."""
    connection = apsw.Connection(":memory:")
    try:
        for number, script in load_migrations():
            if number <= version:
                connection.execute(script)
        return _parts(connection)
    finally:
        connection.close()


def _parts(connection: apsw.Connection) -> set[str]:
    return {part for (part,) in connection.execute(QUERIES["parts"])}


def _migrate(connection: apsw.Connection, path: Path, vfs: str | None, version: int) -> None:
    due = [(number, script) for number, script in load_migrations() if number > version]
    if due and version:
        backup.save(connection, path, path.with_name(f"{path.name}.v{version}.backup"), vfs)
    for number, script in due:
        connection.execute("BEGIN EXCLUSIVE")
        try:
            connection.execute(script)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", number)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _check(connection: apsw.Connection, path: Path) -> None:
    """Reads back what durability rests on: builds, hooks and file systems can turn both down in silence."""
    mode = connection.pragma("journal_mode")
    if mode != "wal":
        raise StoreError(
            f"{path} is in journal mode {mode!r}, not WAL",
            cause="the file system has no shared memory for it, as on network drives",
            fix="keep the file on a local disk",
        )
    synchronous = connection.pragma("synchronous")
    if synchronous != FULL:
        raise StoreError(
            f"{path} would not sync its commits: PRAGMA synchronous is {synchronous}, not {FULL}",
            cause="the SQLite library or a hook of apsw lowers it",
            fix="remove that setting; an acknowledged step could be lost when the power fails",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
