"""Keeps the write-ahead log at a size where a commit overwrites it instead of making it longer.

Growing a file costs a second journal commit of the file system (about 2 F a commit), overwriting costs 1 F. So the log
is grown once at open, and later only started over, never cut. Only the one writing connection checkpoints: SQLite
before 3.51.3 could corrupt the file otherwise, and a second one would never let a busy log start over.
"""

from __future__ import annotations

from pathlib import Path

import apsw

PAGE_BYTES = 4096
GROWN_BYTES = 8 * 1024 * 1024
KEPT_BYTES_MAX = 64 * 1024 * 1024  # above this the log is cut back: after a long reader, a huge commit
IDLE_PAGES = 1000  # enough to be worth a sync of the database file when nobody waits
FORCED_PAGES = 1500  # well before GROWN_BYTES are full: past them each commit makes the file longer


def grow(connection: apsw.Connection) -> None:
    """Makes the log GROWN_BYTES long. Writes pages of a transaction that is rolled back, so that nothing but the
    length is left: the first sync after it pays for all of it. Preallocating does not help, such blocks still cost
    a journal commit at their first write."""
    try:
        size = Path(connection.filename_wal).stat().st_size
    except FileNotFoundError:
        size = 0
    if size >= GROWN_BYTES:
        return
    cache = connection.pragma("cache_size")
    connection.pragma("cache_size", 8)  # pages: what does not fit goes to the log at once
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE pad (body)")
        connection.execute("INSERT INTO pad VALUES (zeroblob(?))", (GROWN_BYTES,))
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.pragma("cache_size", cache)


class Checkpointer:
    """Decides when the log is copied into the database."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._blocked_pages = 0  # the log's length when the last checkpoint could not end; 0 if it did

    def maintain(self, idle: bool) -> None:
        pages, copied = self._look()
        if pages < self._blocked_pages:
            self._blocked_pages = 0  # the log was started over meanwhile
        waiting = pages - max(copied, self._blocked_pages)
        if waiting < (IDLE_PAGES if idle else FORCED_PAGES):
            return
        self.copy()

    def copy(self) -> None:
        """Copies the log, as far as readers let it."""
        # PASSIVE never waits for readers and leaves the log's length alone; the next commit starts the log over.
        try:
            pages, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.FullError, apsw.BusyError):
            # Put off, not failed: the log still holds everything. If the disk stays full, a commit will say so.
            pages, copied = self._look()[0], 0
        self._blocked_pages = pages if copied < pages else 0

    def _look(self) -> tuple[int, int]:
        """Pages in the log, and how many of these are copied: 0.2 us."""
        return self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
