"""Reading the file by SQL: one statement that reads, cut off by time, rows and bytes, and no other file."""

import threading
import time

import apsw
import pytest

from holdfast import BadArguments
from holdfast.stores.sqlite import SqliteStore, reading
from holdfast.stores.sqlite.reading import read_table

CIRCLE = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "


@pytest.fixture
def path(tmp_path):
    store = SqliteStore(tmp_path / "agent.db")
    store.open()
    yield tmp_path / "agent.db"
    store.close()


def test_what_is_read_has_names_and_rows(path):
    table = read_table(
        path, "SELECT 1 AS a, 'x' AS b, x'00ff' AS c, NULL UNION ALL SELECT 2, '', x'', 0.5;\n-- all of it\n"
    )
    assert table.columns == ["a", "b", "c", "NULL"]
    assert (table.rows, table.cut) == ([[1, "x", b"\x00\xff", None], [2, "", b"", 0.5]], False)
    assert read_table(path, "SELECT id FROM invocation").columns == ["id"]
    assert len(read_table(path, "PRAGMA table_info(invocation)").rows) > 5
    assert read_table(path, "EXPLAIN QUERY PLAN SELECT * FROM invocation").rows


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM invocation",
        "UPDATE invocation SET status = 4",
        "INSERT INTO state VALUES ('', '', 'a', 1)",
        "DROP TABLE invocation",
        "CREATE TEMP TABLE t (a)",
        "ATTACH 'other.db' AS other",
        "DETACH main",
        "VACUUM INTO 'copy.db'",
        "PRAGMA query_only = 0",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA wal_checkpoint",
        "PRAGMA page_size = 512",
        "BEGIN IMMEDIATE",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        "SELECT 1; DELETE FROM invocation",
        "SELECT ?",
        "SELEC",
        "SELECT \0",
        "SELECT zeroblob(100000000)",
        "SELECT cast(x'ff' AS text)",
        "\ud800",
    ],
)
def test_everything_else_is_refused_and_changes_nothing(path, query):
    before = sorted(file.name for file in path.parent.iterdir())
    with pytest.raises(BadArguments) as caught:
        read_table(path, query)
    assert caught.value.fix
    assert sorted(file.name for file in path.parent.iterdir()) == before
    assert read_table(path, "SELECT count(*) FROM sqlite_schema WHERE name = 'invocation'").rows == [[1]]


def test_a_text_without_a_statement_finds_nothing(path):
    assert read_table(path, " -- nothing\n").rows == []


def test_rows_and_bytes_are_cut_off(path, monkeypatch):
    table = read_table(path, CIRCLE + "SELECT x FROM n")
    assert (len(table.rows), table.cut) == (reading.ROWS_MAX, True)
    monkeypatch.setattr(reading, "BYTES_MAX", 10_000)
    table = read_table(path, CIRCLE + "SELECT zeroblob(3000) FROM n LIMIT 100")
    assert (len(table.rows), table.cut) == (3, True)
    exact = read_table(path, CIRCLE + "SELECT 1 FROM n LIMIT 100")
    assert (len(exact.rows), exact.cut) == (100, False)


def test_what_takes_too_long_is_broken_off(path, monkeypatch):
    monkeypatch.setattr(reading, "SECONDS_MAX", 0.1)
    threads = threading.active_count()
    began = time.monotonic()
    with pytest.raises(BadArguments, match=r"more than 0\.1 s"):
        read_table(path, CIRCLE + "SELECT count(*) FROM n")
    assert time.monotonic() - began < 5
    assert threading.active_count() <= threads


def test_a_reader_does_not_see_nor_hold_up_what_is_written(path):
    writer = apsw.Connection(str(path))
    writer.execute("BEGIN IMMEDIATE; INSERT INTO state VALUES ('', '', 'x', 1)")
    assert read_table(path, "SELECT name, body FROM state WHERE name = 'x'").rows == []
    writer.execute("COMMIT")
    assert read_table(path, "SELECT name, body FROM state WHERE name = 'x'").rows == [["x", 1]]
    writer.close()
