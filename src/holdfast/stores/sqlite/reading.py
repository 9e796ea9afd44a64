"""Reading the file by SQL, for people.

Promises: one statement that reads, on a connection of its own, cut off by time, rows and bytes; no other file is
touched. Refuses: everything else, by SQLite's own authoriser and not by looking at the text.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import apsw
import msgspec

from holdfast.errors import BadArguments
from holdfast.stores.sqlite.opening import open_reader

SECONDS_MAX = 5.0  # the log cannot be reset while a reader holds it
ROWS_MAX = 10_000
BYTES_MAX = 32 * 1024 * 1024  # of one value, and of all values together
ALLOWED = frozenset({
    apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE,
})  # fmt: skip
PRAGMAS = frozenset({
    "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "page_count", "page_size",
    "freelist_count", "user_version", "application_id", "journal_mode", "schema_version",
})  # fmt: skip


class Table(msgspec.Struct):
    """What a query found. `cut`: there is more. Blobs are base64."""

    columns: list[str]
    rows: list[list[Any]]
    cut: bool


def read_table(path: Path, query: str) -> Table:
    """Runs one statement that reads; takes up to SECONDS_MAX, so not on an event loop. Raises BadArguments."""
    connection = open_reader(path, None)
    try:
        connection.authorizer = _authorise
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, BYTES_MAX)
        alarm = threading.Timer(SECONDS_MAX, connection.interrupt)
        alarm.start()
        try:
            return _read(connection, query)
        except apsw.InterruptError:
            raise BadArguments(
                f"the query took more than {SECONDS_MAX:g} s",
                cause="it reads a whole table, or goes round in a circle",
                fix="narrow it; for long ones make a backup and read that",
            ) from None
        except apsw.ExecTraceAbort:
            raise BadArguments("there is more than one statement", fix="send them one by one") from None
        except (apsw.AuthError, apsw.ReadOnlyError) as refusal:
            raise BadArguments(
                f"the query is refused: {refusal}", cause="only reading this file is allowed", fix="use SELECT"
            ) from None
        except (apsw.Error, ValueError, UnicodeError) as failure:
            raise BadArguments(
                f"the query failed: {failure}",
                fix="see what there is: SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c",
            ) from None
        finally:
            alarm.cancel()
            alarm.join()  # it must not interrupt what is closed
    finally:
        connection.close(True)


def _read(connection: apsw.Connection, query: str) -> Table:
    table = Table([], [], cut=False)
    cursor = connection.cursor()

    def only_one(statement: apsw.Cursor, _text: str, _bindings: Any) -> bool:
        names = [column[0] for column in statement.get_description()]  # none for a comment
        second = bool(names and table.columns)
        table.columns = table.columns or names
        return not second

    cursor.exec_trace = only_one
    size = 0
    for row in cursor.execute(query):
        size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
        if len(table.rows) == ROWS_MAX or size > BYTES_MAX:
            table.cut = True
            break
        table.rows.append(list(row))
    return table


def _authorise(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    if action in ALLOWED:
        return apsw.SQLITE_OK
    if action == apsw.SQLITE_PRAGMA and first in PRAGMAS and (second is None or first.startswith(("table", "index"))):
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY
