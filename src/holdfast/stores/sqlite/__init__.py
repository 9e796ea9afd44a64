"""One file on one machine, through apsw (docs/decisions/0002-apsw.md)."""

from holdfast.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
