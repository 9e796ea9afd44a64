"""Makes the file smaller when much of it is free, after a purge.

Promises: a slice at a time, about a millisecond's work and one commit, and only while nobody writes. Refuses: to give
back all of it. What is free is taken by the next commits, and to grow the file again costs more than to keep it.
"""

from __future__ import annotations

import apsw

from holdfast.stores.sqlite.wal import Checkpointer

SLICE_PAGES = 256
KEPT_PAGES = 256  # free ones that are always kept: 1 MB
KEPT_PART = 8  # and one page in so many


class Space:
    """The free pages of a file."""

    def __init__(self, connection: apsw.Connection, checkpointer: Checkpointer) -> None:
        self._connection = connection
        self._checkpointer = checkpointer

    def give_back(self) -> bool:
        """Takes a slice off the file's end. Whether there is more to take."""
        if not self._spare():
            return False
        try:
            # Each row is a page. What is live there is moved to free pages before.
            self._connection.execute(f"PRAGMA incremental_vacuum({SLICE_PAGES})").fetchall()
        except (apsw.FullError, apsw.BusyError):
            return False  # put off, and rolled back whole
        if self._spare():
            return True
        self._checkpointer.copy()  # until then the file is as long as it was
        return False

    def _spare(self) -> bool:
        free: int = self._connection.pragma("freelist_count")
        return free > KEPT_PAGES and free > self._connection.pragma("page_count") // KEPT_PART
