"""What doctor looks at on this machine: it changes nothing, also beside a running server."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from holdfast.cli import machine
from holdfast.cli.machine import Finding
from holdfast.stores.sqlite import SqliteStore
from tests.stores import first_schema


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "agent.db")
    store.open()
    yield store
    store.close()


def found(path: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in machine.store(path)}


def test_a_store_in_use_is_looked_at_beside_its_owner(store: SqliteStore, tmp_path: Path) -> None:
    findings = found(tmp_path / "agent.db")
    assert {name: finding.state for name, finding in findings.items() if not name.startswith("disk")} == {
        "store": "ok", "lock": "ok", "integrity": "ok", "timers": "ok", "log": "ok",
    }  # fmt: skip
    assert f"process {os.getpid()} on {socket.gethostname()}" in findings["lock"].text
    assert "F = " in findings["disk sync"].text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "agent.db", "agent.db-shm", "agent.db-wal", "agent.db.lock",
    ]  # fmt: skip


def test_a_store_at_rest_stays_at_rest(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    before = path.read_bytes()
    findings = found(path)
    assert findings["lock"].text == "nobody has it"
    assert findings["integrity"].state == "ok"
    assert path.read_bytes() == before
    store.open()  # the lock is free
    store.close()


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    finding = found(path)["integrity"]
    assert (finding.state, "newest backup" in finding.fix) == ("bad", True)


def test_a_file_that_lost_its_end_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    os.truncate(path, 4096)
    finding = found(path)["integrity"]
    assert (finding.state, "newest backup" in finding.fix) == ("bad", True)


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    path.write_text("no database at all, only text that goes on for a while")
    finding = found(path)["integrity"]
    assert (finding.state, "is it a Holdfast store?" in finding.fix) == ("bad", True)
    connection = apsw.Connection(str(tmp_path / "third.db"))
    connection.execute("CREATE TABLE a (b)")
    connection.close()
    assert found(tmp_path / "third.db")["integrity"].state == "bad"


def test_a_store_of_an_older_or_newer_version_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.db"
    first_schema.make(path, monkeypatch)
    before = path.read_bytes()
    findings = found(path)
    assert (findings["integrity"].state, findings["schema"].state) == ("ok", "note")
    assert findings["schema"].text.startswith("version 1, ")
    assert path.read_bytes() == before
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 999)
    connection.close()
    assert found(path)["schema"].state == "bad"


def test_a_store_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    findings = found(tmp_path / "new.db")
    assert findings["store"].state == "note"
    assert "F = " in findings["disk sync"].text
    assert list(tmp_path.iterdir()) == []
    assert found(tmp_path / "nowhere" / "new.db")["disk"].state == "bad"


def test_a_full_disk_is_told_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FREE_BYTES_MIN", 1 << 60)
    assert {finding.name: finding.state for finding in machine.disk(tmp_path)}["disk free"] == "note"


def test_a_disk_that_takes_nothing_is_told_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, help_ in ((errno.ENOSPC, "make room"), (errno.EROFS, "mounted read-only"), (errno.EACCES, "owner")):

        def refuses(_: Path, number: int = number) -> float:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(machine, "sync_seconds", refuses)
        finding = {finding.name: finding for finding in machine.disk(tmp_path)}["disk sync"]
        assert (finding.state, help_ in finding.fix) == ("bad", True)


def test_ports() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert machine.port("port", number).state == "note"
    assert machine.port("port", number) == Finding("port", "ok", f"{number} is free")


def test_tokens_are_judged_and_never_shown() -> None:
    assert machine.token(None).state == "ok"
    short = machine.token("hunter2")
    assert (short.state, "hunter2" in short.text + short.fix) == ("bad", False)
    assert machine.token("x" * 40) == Finding("token", "ok", "HOLDFAST_TOKEN is set")


def test_this_machine_is_fine() -> None:
    assert machine.python().state == "ok"
    assert machine.sqlite().state == "ok"
