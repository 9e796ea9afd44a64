"""Opening a SQLite store: what is taken, what is refused, and that nothing is harmed by the refusal."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import apsw
import pytest

from holdfast.core.invocation import Status
from holdfast.errors import StoreCorrupt, StoreError, StoreForeign, StoreLocked, StoreReadOnly, StoreTooNew
from holdfast.stores.base import Batch
from holdfast.stores.sqlite import SqliteStore, opening
from tests.stores import first_schema
from tests.stores.rows import entry, settle, snapshot, start


@pytest.fixture
def path(tmp_path):
    return tmp_path / "agent.db"


@pytest.fixture
def filled(path):
    """A closed store of 40 invocations with journals of some pages each."""
    store = SqliteStore(path)
    store.open()
    rows = [start(n) for n in range(1, 41)]
    store.commit(Batch(starts=rows, entries=[entry(n, seq, bytes(300)) for n in range(1, 41) for seq in range(20)]))
    store.close()
    return path


def child(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), **options,
    )  # fmt: skip


def environment():
    package = Path(opening.__file__).parents[3]
    return {**os.environ, "PYTHONPATH": str(package)}


HOLDER = """
    import sys
    from holdfast.stores.sqlite import SqliteStore
    store = SqliteStore(sys.argv[1])
    store.open()
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_store_held_by_another_process_is_refused_by_name_until_it_dies(path):
    with child(HOLDER, path) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked) as refused:
            SqliteStore(path).open()
        assert f"process {holder.pid} on {socket.gethostname()} since 20" in str(refused.value)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    store = SqliteStore(path)
    store.open()  # nothing stale is in the way
    store.close()


def test_a_refused_open_gives_the_lock_back(path):
    path.write_bytes(b"no database" * 100)
    for _ in range(2):
        with pytest.raises(StoreForeign):
            SqliteStore(path).open()
    path.unlink()
    store = SqliteStore(path)
    store.open()
    store.close()


def test_a_closed_store_is_one_file_and_its_lock(filled):
    assert sorted(file.name for file in filled.parent.iterdir()) == ["agent.db", "agent.db.lock"]


def test_a_relative_path_is_fixed_when_the_store_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("agent.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.open()
    store.close()
    assert (tmp_path / "agent.db").exists()
    assert (tmp_path / "agent.db.lock").exists()


def test_an_empty_file_becomes_a_store(path):
    """What a crash right after the file was created leaves behind."""
    path.touch()
    store = SqliteStore(path)
    store.open()
    assert store.list() == []
    store.close()


@pytest.mark.parametrize("content", [b"xyz", b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_and_kept(path, content):
    path.write_bytes(content)
    with pytest.raises((StoreForeign, StoreCorrupt)) as refused:
        SqliteStore(path).open()
    assert str(path) in str(refused.value)
    assert "backup" in str(refused.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 3", "PRAGMA application_id = 7; CREATE TABLE theirs (x)"]
)
def test_the_database_of_another_program_is_refused_and_kept(path, sql):
    theirs = apsw.Connection(str(path))
    theirs.execute(sql)
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StoreForeign, match="another program"):
        SqliteStore(path).open()
    assert path.read_bytes() == before
    assert not path.with_name("agent.db-wal").exists()


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "agent.db").mkdir()
    with pytest.raises(StoreForeign, match="it is a folder"):
        SqliteStore(tmp_path / "agent.db").open()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StoreReadOnly, match="create the folder"):
        SqliteStore(tmp_path / "no" / "agent.db").open()
    (tmp_path / "file").touch()
    with pytest.raises(StoreReadOnly):
        SqliteStore(tmp_path / "file" / "agent.db").open()


UNPRIVILEGED = """
    import os, sys
    from holdfast.stores.sqlite import SqliteStore
    mine, theirs = SqliteStore(sys.argv[1]), SqliteStore(sys.argv[2])
    mine.open()  # loads all that opening needs
    mine.close()
    if os.getuid() == 0:
        os.setuid(65534)  # permissions do not hold for root
    try:
        theirs.open()
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_this_user_may_not_write_is_refused(kind, filled):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders cannot be entered by others
        folder = Path(name)
        shutil.copy(filled, folder / "agent.db")
        (folder / "agent.db").chmod(0o444)
        folder.chmod(0o555 if kind == "folder" else 0o777)
        before = (folder / "agent.db").read_bytes()
        with child(UNPRIVILEGED, filled, folder / "agent.db") as process:
            output, _ = process.communicate()
        folder.chmod(0o700)
        assert output.startswith("StoreReadOnly [HF406]"), output
        assert "write permission" in output
        assert (folder / "agent.db").read_bytes() == before


def test_a_newer_schema_is_refused_and_kept(filled):
    connection = apsw.Connection(str(filled))
    connection.pragma("user_version", 99)
    connection.close()
    before = filled.read_bytes()
    with pytest.raises(StoreTooNew, match="schema 99"):
        SqliteStore(filled).open()
    assert filled.read_bytes() == before


@pytest.mark.parametrize(
    "change, lacks",
    [
        ("DROP INDEX invocation_lock; ALTER TABLE invocation DROP COLUMN in_queue", "no index invocation_lock, "),
        ("DROP TABLE waiter", "no table waiter"),
    ],
)
def test_a_file_of_a_development_version_is_refused_as_what_it_is_and_kept(filled, change, lacks):
    """Before the first release a schema of the same number could be another one."""
    connection = apsw.Connection(str(filled))
    connection.execute(change)
    connection.close()
    before = filled.read_bytes()
    with pytest.raises(StoreForeign) as refused:
        SqliteStore(filled).open()
    assert lacks in refused.value.what
    assert "could not be written" not in str(refused.value)
    assert "development version" in refused.value.cause
    assert "new file" in refused.value.fix
    assert filled.read_bytes() == before


def test_an_index_of_a_development_version_is_told_by_the_query_that_cannot_use_it(filled):
    connection = apsw.Connection(str(filled))
    connection.execute("DROP INDEX invocation_lane; CREATE INDEX invocation_lane ON invocation (lane) WHERE status = 9")
    connection.close()
    store = SqliteStore(filled)
    store.open()
    with pytest.raises(StoreForeign, match="development version"):
        store.lane_running("a")
    store.close()


def test_indexes_that_an_operator_has_added_are_no_reason_to_refuse(filled):
    connection = apsw.Connection(str(filled))
    connection.execute("CREATE INDEX theirs ON invocation (build); CREATE TABLE notes (x); ANALYZE")
    connection.close()
    assert contents(filled)[0] == NOW


def test_a_store_that_would_not_sync_is_refused(path, monkeypatch):
    pragmas = [(name, "NORMAL" if name == "synchronous" else value) for name, value in opening.WRITER_PRAGMAS]
    monkeypatch.setattr(opening, "WRITER_PRAGMAS", pragmas)
    with pytest.raises(StoreError, match="would not sync its commits"):
        SqliteStore(path).open()


def test_a_file_system_without_shared_memory_is_refused(path):
    with pytest.raises(StoreError, match="not WAL"):
        SqliteStore(path, vfs="unix-none").open()


def test_an_old_sqlite_is_refused():
    for version in ("3.51.3", "3.54.1", "4.0.0"):
        opening.require_sqlite(version)
    for version in ("3.51.2", "3.40.1", "3.9.12"):
        with pytest.raises(StoreError, match="upgrade apsw"):
            opening.require_sqlite(version)


def test_the_pragmas_hold(path):
    store = SqliteStore(path)
    store.open()
    names = ("page_size", "auto_vacuum", "journal_mode", "synchronous", "fullfsync", "wal_autocheckpoint")
    assert [store._live.writer.pragma(name) for name in names] == [4096, 2, "wal", 2, 1, 0]
    assert store._live.writer.pragma("application_id") == int.from_bytes(b"HOLD", "big")
    with pytest.raises(apsw.ReadOnlyError):
        store._live.reader.execute("DELETE FROM state")
    store.close()


SECOND = "CREATE TABLE extra (x INTEGER) STRICT; ALTER TABLE invocation ADD COLUMN extra INTEGER;"


NOW = len(opening.load_migrations())  # the schema of a new file


@pytest.fixture
def migrate_with(monkeypatch):
    known = opening.load_migrations()

    def use(*scripts):
        later = [(number, script) for number, script in enumerate(scripts, NOW + 1)]
        monkeypatch.setattr(opening, "load_migrations", lambda: known + later)

    return use


def contents(path):
    store = SqliteStore(path)
    store.open()
    found = snapshot(store)
    version = store._live.writer.pragma("user_version")
    store.close()
    return version, found


def test_a_migration_keeps_the_rows_and_saves_the_file_first(filled, migrate_with):
    _, before = contents(filled)
    migrate_with(SECOND)
    assert contents(filled) == (NOW + 1, before)
    saved = filled.with_name(f"agent.db.v{NOW}.backup")
    migrate_with()
    assert contents(saved) == (NOW, before)
    with pytest.raises(StoreTooNew, match="put back the copy"):
        SqliteStore(filled).open()


def test_a_migration_that_fails_changes_nothing_and_can_be_tried_again(filled, migrate_with):
    _, before = contents(filled)
    migrate_with(SECOND, "CREATE TABLE more (x); INSERT INTO nowhere VALUES (1)")
    for _ in range(2):
        with pytest.raises(StoreError, match="nowhere"):
            SqliteStore(filled).open()
    migrate_with(SECOND)  # the first of the two was whole, and stays
    assert contents(filled) == (NOW + 1, before)
    migrate_with(SECOND, "CREATE TABLE more (x INTEGER) STRICT")
    assert contents(filled) == (NOW + 2, before)
    names = sorted(file.name for file in filled.parent.iterdir())
    assert names == ["agent.db", "agent.db.lock", f"agent.db.v{NOW}.backup", f"agent.db.v{NOW + 1}.backup"]


def test_a_new_file_is_not_backed_up(path):
    contents(path)
    assert not list(path.parent.glob("*.backup"))


def pages_of(path, table):
    connection = apsw.Connection(str(path))
    sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno"
    numbers = [number for (number,) in connection.execute(sql, (table,))]
    connection.close()
    return numbers


def spoil(path, page):
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 100)


def test_a_damaged_page_stops_those_it_belongs_to_and_no_others(filled):
    spoil(filled, pages_of(filled, "entry")[-1])
    store = SqliteStore(filled)
    store.open()
    with pytest.raises(StoreCorrupt, match=r"client\.backup\(path\)"):
        store.entries(40)
    assert len(store.entries(1)) == 20
    assert store.get(40) == start(40)
    store.commit(Batch(starts=[start(41)]))
    store.close()


def test_a_damaged_page_met_by_a_commit_stops_the_store(filled):
    spoil(filled, pages_of(filled, "entry")[-1])
    store = SqliteStore(filled)
    store.open()
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            store.commit(Batch(starts=[start(41)], entries=[entry(41, 0)]))
    with pytest.raises(StoreCorrupt):
        store.get(1)
    store.close()
    store.open()
    assert store.get(41) is None
    store.close()


def test_a_text_that_is_no_text_is_damage(filled):
    content = filled.read_bytes()
    filled.write_bytes(content.replace(b"inv-17Trips", b"inv-17Tr\xc3ps"))
    store = SqliteStore(filled)
    store.open()
    with pytest.raises(StoreCorrupt, match="damaged"):
        store.get(17)
    assert store.get(18) == start(18)
    store.close()


@pytest.mark.parametrize("cut", [4096, 40_000, 41_000])
def test_a_file_that_was_cut_off_is_found_out(filled, cut):
    content = filled.read_bytes()
    filled.write_bytes(content[:cut])
    store = SqliteStore(filled)
    with pytest.raises(StoreCorrupt):
        store.open()
        snapshot(store)
    store.close()


def test_a_file_of_the_first_schema_is_used_on(path, monkeypatch):
    first_schema.make(path, monkeypatch)
    store = SqliteStore(path)
    store.open()
    rows = [row._replace(began=row.created) for row in first_schema.ROWS]
    assert store.list() == rows[::-1]
    assert [body for row in rows for body in store.entries(row.n)] == [entry.body for entry in first_schema.ENTRIES]
    assert store.length(3) == 3
    assert store.blobs(1, -9, 9) == [(row.number, row.body) for row in first_schema.BLOBS]
    assert store.promises_of(2) == first_schema.PROMISES
    assert store.ready(9) == [1]
    assert store.due(99, 9) == [(90, 2)]
    assert store.ended_before(99, 9) == [5, 6, 7]
    assert store.list(target="Mail/") == [rows[5], rows[1]]
    assert store.list(status=Status.PAUSED) == [rows[3]]
    store.commit(Batch(starts=[start(8, status=Status.QUEUED, lock="Cart/ann")], settles=[settle("open")], purges=[5]))
    assert store.queued_for_lock("Cart/ann", 9) == [8]
    assert store.state("", "", "opens") == 2
    assert store._live.writer.pragma("integrity_check") == "ok"
    store.close()
    saved = apsw.Connection(str(path.with_name("agent.db.v1.backup")))
    assert saved.pragma("user_version") == 1
    assert list(saved.execute("SELECT * FROM invocation ORDER BY n")) == [row[:10] for row in first_schema.ROWS]
    saved.close()


def test_a_migrated_file_has_the_schema_of_a_new_one(tmp_path, monkeypatch):
    first_schema.make(tmp_path / "old.db", monkeypatch)
    schemas = []
    for path in (tmp_path / "old.db", tmp_path / "new.db"):
        store = SqliteStore(path)
        store.open()
        schemas.append(sorted(store._live.reader.execute("SELECT type, name, sql FROM sqlite_schema"), key=str))
        store.close()
    assert schemas[0] == schemas[1]
