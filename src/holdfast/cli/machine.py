"""What `holdfast doctor` looks at that no HTTP face can tell: this Python, this file, this disk, these ports.

Promises: it changes nothing but a file of its own, which it removes. It reads beside a running server and takes no lock
for longer than a look. Refuses: to mend anything.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import apsw
import msgspec

from holdfast.cli.render.words import size, span
from holdfast.engine.ports import SystemClock
from holdfast.errors import StoreError
from holdfast.http.auth import TOKEN_CHARS_MIN
from holdfast.stores.sqlite.opening import (
    APPLICATION_ID,
    SQLITE_MIN,
    load_migrations,
    open_reader,
    require_sqlite,
)
from holdfast.stores.sqlite.queries import QUERIES
from holdfast.stores.sqlite.wal import KEPT_BYTES_MAX

SYNCS = 20
SYNC_BYTES = 4096
SLOW_SYNC_SECONDS = 0.02
FREE_BYTES_MIN = 1_000_000_000
OVERDUE_MS = 10_000
OVERDUE_ROWS = 1000
RESTORE = "stop, keep the file, and put the newest backup in its place"
MAYBE_FOREIGN = "is it a Holdfast store? If so, put the newest backup in its place"
OPEN_FIXES: dict[type[Exception], str] = {apsw.CorruptError: RESTORE, apsw.NotADBError: MAYBE_FOREIGN}
WRITE_FIXES = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EROFS: "its disk is mounted read-only"}


class Finding(msgspec.Struct):
    """One thing that was looked at. `fix` is empty when all is well."""

    name: str
    state: Literal["ok", "note", "bad"]
    text: str
    fix: str = ""


def python() -> Finding:
    """The interpreter."""
    version = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("python", "bad", version, "use Python 3.11 to 3.13")
    if sys.platform == "win32":
        return Finding("python", "bad", version, "use Linux, or WSL")
    return Finding("python", "ok", version)


def sqlite() -> Finding:
    """The library."""
    version = apsw.sqlite_lib_version()
    try:
        require_sqlite(version)
    except StoreError as error:
        return Finding("sqlite", "bad", error.what, error.fix)
    return Finding("sqlite", "ok", f"{version} (needs {SQLITE_MIN})")


def token(text: str | None) -> Finding:
    """Whether strangers could guess it. Its text is shown nowhere."""
    if not text:
        return Finding("token", "ok", "none set: servers listen on loopback only")
    if len(text) < TOKEN_CHARS_MIN:
        return Finding(
            "token", "bad", f"HOLDFAST_TOKEN has {len(text)} characters", f"take {TOKEN_CHARS_MIN} or more, by chance"
        )
    return Finding("token", "ok", "HOLDFAST_TOKEN is set")


def port(name: str, number: int) -> Finding:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            return Finding(
                name, "note", f"{number}: {os.strerror(error.errno or 0)}", "holdfast serve takes other ports"
            )
    return Finding(name, "ok", f"{number} is free")


def store(path: Path) -> Iterator[Finding]:
    """The file, whoever has it."""
    if not path.exists():
        yield Finding("store", "note", f"{path} is not there yet", "the first start makes it")
        yield from disk(path.parent)
        return
    yield Finding("store", "ok", f"{path}, {size(path.stat().st_size)}")
    yield _lock(path)
    yield from _pages(path)
    yield _log(path)
    yield from disk(path.parent)


def disk(folder: Path) -> Iterator[Finding]:
    """Where the file lies."""
    if not folder.is_dir():
        yield Finding("disk", "bad", f"there is no folder {folder}", "make it")
        return
    free = shutil.disk_usage(folder).free
    fix = "" if free >= FREE_BYTES_MIN else "make room: a full disk refuses new starts"
    yield Finding("disk free", "note" if fix else "ok", size(free), fix)
    try:
        seconds = sync_seconds(folder)
    except OSError as error:
        fix = WRITE_FIXES.get(error.errno or 0, "check its owner and mode")
        yield Finding("disk sync", "bad", f"{folder} cannot be written: {error.strerror}", fix)
        return
    slow = seconds > SLOW_SYNC_SECONDS
    yield Finding(
        "disk sync", "note" if slow else "ok", f"F = {seconds * 1000:.2f} ms, the least a durable step can take",
        "a local SSD takes less; network disks make every step wait" if slow else "",
    )  # fmt: skip


def sync_seconds(folder: Path) -> float:
    """F: the median time of one overwrite and sync of a page."""
    page = bytes(SYNC_BYTES)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".holdfast-doctor-") as file:
        fd = file.fileno()
        os.pwrite(fd, page, 0)
        os.fsync(fd)
        times = []
        for _ in range(SYNCS):
            begin = time.perf_counter()
            os.pwrite(fd, page, 0)
            os.fdatasync(fd)
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _lock(path: Path) -> Finding:
    lock = path.with_name(path.name + ".lock")
    try:
        fd = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return Finding("lock", "ok", "nobody has it")
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, _, host = os.pread(fd, 1000, 0).decode(errors="replace").strip().partition(" ")
        since = datetime.fromtimestamp(os.fstat(fd).st_mtime, UTC).astimezone()
        return Finding("lock", "ok", f"process {pid} on {host} has it since {since:%Y-%m-%d %H:%M:%S}")
    finally:
        os.close(fd)
    return Finding("lock", "ok", "nobody has it")


def _pages(path: Path) -> Iterator[Finding]:
    try:
        reader = open_reader(path, None)
    except apsw.Error as error:
        fix = OPEN_FIXES.get(type(error), "check the path, its owner and mode")
        yield Finding("integrity", "bad", f"it cannot be opened: {error}", fix)
        return
    try:
        found = [str(row[0]) for row in reader.execute("PRAGMA quick_check(5)")]
        if found != ["ok"]:
            yield Finding("integrity", "bad", "; ".join(found), RESTORE)
            return
        yield Finding("integrity", "ok", "every page holds together")
        other = _other_schema(reader)
        yield _overdue(reader) if other is None else other
    except apsw.Error as error:
        yield Finding("integrity", "bad", str(error), MAYBE_FOREIGN)
    finally:
        reader.close()


def _other_schema(reader: apsw.Connection) -> Finding | None:
    """Said of a store of an older or a newer Holdfast."""
    known, newest = reader.pragma("user_version"), load_migrations()[-1][0]
    if reader.pragma("application_id") != APPLICATION_ID or known == newest:
        return None
    what = f"version {known}, and this Holdfast has {newest}"
    if known > newest:
        return Finding("schema", "bad", what, "run the Holdfast that wrote it, or put back the copy made before it")
    return Finding("schema", "note", what, "the first start brings it up, and makes a copy beside it before")


def _overdue(reader: apsw.Connection) -> Finding:
    due: list[Any] = reader.execute(QUERIES["due"], (SystemClock().now() - OVERDUE_MS, OVERDUE_ROWS)).fetchall()
    if not due:
        return Finding("timers", "ok", "none is late")
    late = (SystemClock().now() - due[0][0]) / 1000
    count = f"{len(due)}{' or more' if len(due) == OVERDUE_ROWS else ''}"
    return Finding("timers", "note", f"{count} late, by up to {span(late)}", "start a server; they fire at once")


def _log(path: Path) -> Finding:
    wal = path.with_name(path.name + "-wal")
    try:
        length = wal.stat().st_size
    except FileNotFoundError:
        return Finding("log", "ok", "no write-ahead log: it was closed well")
    if length > KEPT_BYTES_MAX:
        return Finding(
            "log", "note", f"{size(length)} of write-ahead log", "a reader holds it, such as an open sqlite3 shell"
        )
    return Finding("log", "ok", f"{size(length)} of write-ahead log")
