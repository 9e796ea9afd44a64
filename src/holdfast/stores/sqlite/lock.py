"""One process at a time per store file.

Promises: while one holder lives, every other `acquire` raises StoreLocked and names it. The kernel drops the lock with
the process, so there is no stale lock to clean up. Refuses: to lock the database file itself, which SQLite does in its
own way, and to remove the lock file: a waiter could hold the removed one while a third locks a new one.
"""

from __future__ import annotations

import fcntl
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from holdfast.errors import StoreLocked

HOLDER_BYTES_MAX = 1000


class FileLock:
    """An exclusive lock on `<store file>.lock`, which holds the owner's pid and host; its change time is the start."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._path = store.with_name(store.name + ".lock")
        self._fd = -1

    def acquire(self) -> None:
        """Takes the lock or raises StoreLocked; OSError when the file cannot be written."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = _holder(fd)
            os.close(fd)
            raise StoreLocked(
                f"{self._store} is in use by {holder}",
                cause="another Holdfast process runs on this file, or a child it forked outlived it",
                fix="stop that process, do the work in it, or give this one its own file",
            ) from error
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _holder(fd: int) -> str:
    pid, _, host = os.pread(fd, HOLDER_BYTES_MAX, 0).decode(errors="replace").strip().partition(" ")
    since = datetime.fromtimestamp(os.fstat(fd).st_mtime, UTC).isoformat(timespec="seconds")
    return f"process {pid or '?'} on {host or '?'} since {since}"
