"""Commands on a file while no server runs: what changes rows works, what needs somebody to run it says so."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.project import Project, free_port, kill, stop

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project(tmp_path) as project:
        yield project


def test_what_is_sent_runs_when_a_server_starts(project: Project) -> None:
    sent = project.run("send", "Desk/greet", "name=World", "--id", "greet-1", "--app", "app:hf")
    assert sent == (0, "greet-1\n", "it begins when a server starts\n")
    listed = project.run("list", "--store", "agent.db")
    assert listed.out.splitlines()[1].split()[:3] == ["greet-1", "Desk/greet", "queued"]
    assert project.run("list", "--store", "agent.db", "--target", "Desk/nope").code == 0  # no code, no names
    project.serve()
    assert project.until_status("greet-1", "done")["output"] == "Hello World"


def test_the_result_of_one_that_has_ended_is_there_without_a_server(project: Project) -> None:
    server = project.serve()
    project.ask("call", "Desk/greet", "name=World", "--id", "greet-1")
    project.ask("send", "Desk/hear", "--id", "hear-1")
    project.until_status("hear-1", "suspended")
    stop(server)
    assert project.run("result", "greet-1", "--store", "agent.db").out == '"Hello World"\n'
    waits = project.run("result", "hear-1", "--store", "agent.db")
    assert (waits.code, "has not ended, and no server runs it" in waits.err) == (5, True)


def test_the_app_of_pyproject_is_used_when_no_server_listens(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project.run("handlers", "--app", "app:hf").code == 0
    quiet = f"http://127.0.0.1:{project.ports[1]}"
    assert project.run("list", "--url", quiet).code == 5  # a server that is named is not passed over
    assert "no server answers at" in project.run("list", HOLDFAST_URL=quiet).err


def test_without_a_server_the_configured_app_is_opened_and_that_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.cli.where.DEFAULT_URL", project.url)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    sent = project.here("send", "Desk/greet", "name=World", "--id", "greet-1")
    assert (sent.code, sent.out) == (0, "greet-1\n")
    assert sent.err.splitlines() == [
        f"no server runs; this is {project.folder}/agent.db at rest", "it begins when a server starts",
    ]  # fmt: skip
    assert project.here("list", "--json").err == ""
    monkeypatch.delitem(sys.modules, "app", raising=False)
    (project.folder / "pyproject.toml").unlink()
    nobody = project.here("list")
    assert (nobody.code, f"no server answers at {project.url}" in nobody.err) == (5, True)
    assert project.here("list", HOLDFAST_STORE="agent.db").out.splitlines()[1].startswith("greet-1")


def test_a_server_that_nobody_named_must_have_the_configured_store(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.serve()
    project.ask("send", "Desk/rest", "seconds=3600", "--id", "rest-1")
    monkeypatch.setattr("holdfast.cli.where.DEFAULT_URL", project.url)
    monkeypatch.setattr("sys.path", [*sys.path])
    theirs = f"the server at {project.url} serves {project.folder}/agent.db, not "
    with Project(tmp_path_factory.mktemp("mine")) as mine:
        monkeypatch.delitem(sys.modules, "app", raising=False)
        done = mine.here("kill", "rest-1")
        assert (done.code, done.out, f"{theirs}this folder's agent.db\n" in done.err) == (5, "", True)
        assert "name it with --url, or this app with --app" in done.err
        looked = mine.here("doctor")
        assert f"{theirs}this folder's agent.db\n" in looked.out
        assert f"store        {mine.folder}/agent.db is not there yet" in looked.out
        assert mine.here("list", "--url", project.url).code == 0
        (mine.folder / "pyproject.toml").unlink()
        assert mine.here("list").code == 0  # with nothing configured there is nothing to mistake it for
        stored = mine.here("list", HOLDFAST_STORE=f"{mine.folder.parent}/x.db")
        assert (stored.code, f"not the configured {mine.folder.parent}/x.db" in stored.err) == (5, True)
        assert "or this file with --store" in stored.err
    monkeypatch.delitem(sys.modules, "app", raising=False)
    (project.folder / "app.py").write_text('print("loud")\n' + (project.folder / "app.py").read_text())
    own = project.here("list")
    assert (own.out.splitlines()[1].split()[0], own.err) == ("rest-1", "loud\n")
    monkeypatch.delitem(sys.modules, "app", raising=False)
    (project.folder / "app.py").write_text("import nowhere\n")
    broken = project.here("list")
    assert (broken.code, f"name the server with --url {project.url}" in broken.err) == (2, True)
    looked = project.here("doctor")
    assert (looked.code, "bad   app" in looked.out, "ok    server" in looked.out) == (1, True, True)


def test_what_waits_is_steered_at_rest(project: Project) -> None:
    server = project.serve()
    project.ask("send", "Desk/approve", "amount=5", "--id", "approve-1")
    project.ask("send", "Desk/hear", "--id", "hear-1")
    project.ask("send", "Desk/rest", "seconds=3600", "--id", "rest-1")
    project.ask("call", "Chat/message", "--key", "k", "text=hi")
    for id in ("approve-1", "hear-1", "rest-1"):
        project.until_status(id, "suspended")
    assert stop(server) == 0
    store = ("--app", "app:hf")
    [ask] = project.run("asks", *store, "--json").json
    assert project.run("answer", ask["id"], "--value", "yes", *store).code == 0
    assert project.run("signal", "hear-1", "news", "bread", *store).code == 0
    assert project.run("cancel", "rest-1", *store).code == 0
    assert project.run("state", "show", "Chat", "k", *store).code == 0
    assert project.run("check", *store).code == 0
    assert "asks" not in project.run("show", "approve-1", *store).err
    project.serve()
    assert project.until_status("approve-1", "done")["output"] == "yes"
    assert project.until_status("hear-1", "done")["output"] == "bread"
    project.until_status("rest-1", "cancelled")


def test_what_needs_a_server_says_so(project: Project) -> None:
    called = project.run("call", "Desk/greet", "name=x", "--app", "app:hf")
    assert (called.code, "nobody would run the handler" in called.err) == (5, True)
    project.run("send", "Desk/greet", "name=x", "--id", "greet-1", "--app", "app:hf")
    watched = project.run("watch", "greet-1", "--app", "app:hf")
    assert (watched.code, "holdfast show greet-1" in watched.err) == (5, True)


def test_a_store_that_a_server_has_is_not_opened_beside_it(project: Project) -> None:
    server = project.serve()
    done = project.run("list", "--store", "agent.db")
    assert (done.code, f"in use by process {server.pid} on " in done.err) == (5, True)
    assert "name it with --url" in done.err
    assert project.run("list", "--app", "app:hf", "--json").problem["code"] == "HF404"
    kill(server)
    assert project.run("list", "--store", "agent.db").code == 0


def test_what_a_server_has_that_does_not_listen_where_it_was_looked_for_is_told_apart(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a token of these tests"
    project.serve(HOLDFAST_TOKEN=token)
    monkeypatch.setattr("holdfast.cli.where.DEFAULT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    done = project.here("list")
    assert (done.code, "ask again in a moment" in done.err, "leave --app" in done.err) == (5, True, False)
    monkeypatch.setattr("holdfast.cli.where.DEFAULT_URL", project.url)
    looked = project.here("doctor")
    assert (looked.code, "bad   server       this server asks for a token" in looked.out) == (1, True)
    assert "set HOLDFAST_TOKEN" in looked.out
    assert project.here("doctor", HOLDFAST_TOKEN=token).code == 0


def test_a_file_that_is_not_there_is_not_made(project: Project) -> None:
    done = project.run("list", "--store", "typo.db")
    assert (done.code, "is not there" in done.err) == (5, True)
    assert not (project.folder / "typo.db").exists()
    (project.folder / "empty.db").touch()
    done = project.run("list", "--store", "empty.db")
    assert (done.code, "is empty" in done.err) == (5, True)
    assert (project.folder / "empty.db").stat().st_size == 0
    (project.folder / "other.db").write_text("not a database, only text that is long enough to look at")
    assert project.run("list", "--store", "other.db", "--json").problem["code"] == "HF407"


def test_without_anything_to_talk_to_the_next_step_is_named(tmp_path: Path) -> None:
    with Project(tmp_path) as project:
        (tmp_path / "pyproject.toml").unlink()
        missing = project.run("serve")
        assert (missing.code, "no app is named" in missing.err) == (2, True)


def changed(project: Project) -> None:
    source = (project.folder / "app.py").read_text()
    (project.folder / "app.py").write_text(source.replace('ctx.run(note, "looked at")', 'ctx.run(slow, "looked at")'))


def test_check_finds_what_new_code_would_break(project: Project) -> None:
    server = project.serve()
    project.ask("send", "Desk/approve", "amount=5", "--id", "approve-1")
    project.ask("send", "Desk/rest", "seconds=3600", "--id", "rest-1")
    project.until_status("approve-1", "suspended")
    assert project.ask("backup", "yesterday.db").code == 0
    stop(server)
    assert project.run("check", "--app", "app:hf").code == 0
    changed(project)
    done = project.run("check", "--app", "app:hf")
    assert done.code == 1
    assert done.out.startswith("approve-1  Desk/approve\n  [HF303]")
    assert done.out.endswith("1 of 2 unfinished invocations go on under this code\n")
    found = {row["id"]: row["ok"] for row in project.run("check", "--app", "app:hf", "--json").json}
    assert found == {"approve-1": False, "rest-1": True}
    assert project.run("check", "--app", "app:hf", "--store", "yesterday.db").out == done.out


def test_check_judges_the_code_at_hand_while_a_server_runs_the_old_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.serve()
    project.ask("send", "Desk/approve", "amount=5", "--id", "approve-1")
    project.until_status("approve-1", "suspended")
    changed(project)
    before = sorted(path.name for path in project.folder.iterdir())
    monkeypatch.setattr("holdfast.cli.where.DEFAULT_URL", project.url)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    done = project.here("check")
    monkeypatch.delitem(sys.modules, "app", raising=False)
    assert (done.code, done.out.startswith("approve-1  Desk/approve\n  [HF303]")) == (1, True)
    assert sorted(path.name for path in project.folder.iterdir() if path.name != "__pycache__") == before
    assert project.ask("check").code == 0  # of a server that is named, its own code
    assert project.json("show", "approve-1")["invocation"]["status"] == "suspended"


def test_a_file_alone_has_no_code_to_check_it_against(project: Project) -> None:
    project.run("send", "Desk/greet", "name=World", "--app", "app:hf")
    done = project.run("check", "--store", "agent.db")
    assert (done.code, "there is no code to check agent.db against" in done.err) == (2, True)
    assert project.run("check", "--store", "agent.db", "--app", "app:hf").code == 0
