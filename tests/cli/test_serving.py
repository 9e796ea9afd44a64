"""Server processes: killed and started again under a waiting call, reloaded by dev, refused where they must be."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.project import Project, kill, listens, stop, until

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project(tmp_path) as project:
        yield project


def steps(project: Project) -> list[str]:
    path = project.folder / "steps.log"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_a_call_outlives_kill_9_and_no_finished_step_runs_again(project: Project) -> None:
    server = project.serve()
    call = project.start("call", "Desk/work", "rounds=8", "--id", "work-1", HOLDFAST_URL=project.url)
    until(lambda: len(steps(project)) >= 3)
    kill(server)
    until(lambda: "the server is away" in project.err())
    assert call.poll() is None
    project.serve()
    out, _ = call.communicate(timeout=60)
    assert (call.returncode, json.loads(out)) == (0, [f"round {number}" for number in range(8)])
    # What ran in the moment of the kill may have run twice; everything else has once.
    assert len(steps(project)) in {8, 9}
    assert project.err().count("the server is away") == 1


def test_a_watch_goes_on_behind_what_it_has_shown(project: Project) -> None:
    server = project.serve()
    project.ask("send", "Desk/work", "rounds=20", "--id", "work-1")
    watch = project.start("watch", "work-1", "--json", HOLDFAST_URL=project.url)
    assert watch.stdout is not None
    first = watch.stdout.readline()
    kill(server)
    project.serve()
    rest = watch.stdout.read()  # not communicate, which would pass over what readline has read ahead
    events = [json.loads(line) for line in (first + rest).splitlines()]
    assert [event["data"]["id"] for event in events if event["event"] == "step"] == [f"slow#{n}" for n in range(1, 21)]
    assert watch.wait(60) == 0


COLLECTS = """
import gc
from holdfast import Context, Holdfast

hf = Holdfast("runs.db")

async def frozen() -> int:
    return gc.get_freeze_count()

@hf.handler
async def look(ctx: Context) -> int:
    return await ctx.run(frozen)
"""


def test_what_a_server_has_imported_is_not_looked_through_by_its_collector(tmp_path: Path) -> None:
    with Project(tmp_path, COLLECTS) as project:
        project.serve()
        done = project.ask("call", "look")
        assert int(done.out or 0) > 10_000, done.err


def test_dev_reloads_and_runs_go_on_under_the_new_code(project: Project) -> None:
    dev = project.serve(command="dev")
    project.ask("send", "Desk/work", "rounds=10", "--id", "work-1")
    until(lambda: len(steps(project)) >= 2)
    source = (project.folder / "app.py").read_text()
    (project.folder / "app.py").write_text(source.replace("return note(word)", "return note(word.upper())"))
    output = project.until_status("work-1", "done")["output"]
    # Old rounds keep what they returned, new ones run new code, and none ran twice: the old process was let finish.
    words = [f"round {number}" for number in range(10)]
    changed = next(number for number, word in enumerate(output) if word.isupper())
    assert changed > 0
    assert output == words[:changed] + [word.upper() for word in words[changed:]]
    assert steps(project) == output
    assert "app.py changed: starting anew" in project.err()
    assert stop(dev) == 0
    assert not listens(project.ports[1])


def test_dev_waits_for_code_that_can_be_imported(project: Project) -> None:
    project.serve(command="dev")
    source = (project.folder / "app.py").read_text()
    (project.folder / "app.py").write_text("import nowhere\n" + source)
    until(lambda: "waiting for a change" in project.err())
    assert "No module named 'nowhere'" in project.err()
    assert "Traceback" not in project.err()
    (project.folder / "app.py").write_text(source)
    until(lambda: listens(project.ports[1]))
    assert project.ask("call", "Desk/greet", "name=World").code == 0


def test_dev_says_which_runs_do_not_fit_the_new_code(project: Project) -> None:
    project.serve(command="dev")
    for id in ("approve-1", "approve-2"):
        project.ask("send", "Desk/approve", "amount=5", "--id", id)
        project.until_status(id, "suspended")
    project.ask("send", "Desk/hear", "--id", "hear-1")
    project.until_status("hear-1", "suspended")
    assert "not fit" not in project.err()
    source = (project.folder / "app.py").read_text()
    (project.folder / "app.py").write_text(source.replace('ctx.run(note, "looked at")', 'ctx.run(slow, "looked at")'))
    until(lambda: "2 unfinished runs do not fit the new code: holdfast check\n" in project.err())


def test_dev_ends_where_no_change_would_help(project: Project) -> None:
    server = project.serve()
    locked = project.run("dev", "--port", "0", "--admin-port", "0")
    assert (locked.code, f"process {server.pid}" in locked.err) == (5, True)
    taken = project.run("dev", "--port", str(project.ports[0]))
    assert (taken.code, "cannot serve on" in taken.err) == (2, True)
    assert "waiting for a change" not in locked.err + taken.err


def test_dev_starts_a_killed_server_again(project: Project) -> None:
    project.serve(command="dev")
    project.ask("send", "Desk/work", "rounds=14", "--id", "work-1")
    until(lambda: len(steps(project)) >= 7)  # it has run for two seconds: no loop of deaths
    lock = (project.folder / "agent.db.lock").read_text()
    os.kill(int(lock.split()[0]), signal.SIGKILL)
    assert project.until_status("work-1", "done")["output"] == [f"round {number}" for number in range(14)]
    assert "the server was ended by SIGKILL: starting again" in project.err()


def test_the_server_of_a_dev_that_was_killed_ends_too(project: Project) -> None:
    dev = project.serve(command="dev")
    kill(dev)
    until(lambda: not listens(project.ports[1]))
    project.serve()


def test_serve_tells_where_it_is(project: Project) -> None:
    server = project.start("serve", "--port", "0", "--admin-port", "0", "--json")
    assert server.stdout is not None
    told = json.loads(server.stdout.readline())
    assert told["process"] == server.pid
    assert project.run("call", "Desk/greet", "name=World", "--url", told["admin"]).out == '"Hello World"\n'
    assert stop(server) == 0


def test_serve_is_refused_where_it_must_be(project: Project) -> None:
    beyond = project.run("serve", "--admin-host", "0.0.0.0", "--port", "0", "--admin-port", "0")
    assert (beyond.code, "there is no token" in beyond.err) == (2, True)
    server = project.serve()
    again = project.run("serve", "--port", "0", "--admin-port", "0")
    assert (again.code, f"process {server.pid}" in again.err) == (5, True)
    taken = project.run("serve", "--port", str(project.ports[0]))
    assert (taken.code, "cannot serve on" in taken.err) == (2, True)


def test_serve_answers_other_names_and_pages_once_they_are_allowed(project: Project) -> None:
    page = "https://desk.example.com"
    project.serve("--allow-host", "agents.example.com", "--allow-origin", page)
    for address in (f"http://127.0.0.1:{port}/health" for port in project.ports):
        for name, status in (("agents.example.com", 200), ("other.example.com", 403)):
            assert httpx.get(address, headers={"Host": name}).status_code == status
        allowed = httpx.get(address, headers={"Origin": page})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, page)
        assert httpx.get(address, headers={"Origin": "https://evil.example.com"}).status_code == 403
    for words in (("--allow-host", "a.example.com:80"), ("--allow-origin", "desk.example.com")):
        wrong = project.run("serve", "--port", "0", "--admin-port", "0", *words)
        assert (wrong.code, f"'{words[1]}' is no" in wrong.err) == (2, True)


def test_a_token_is_asked_for_and_passed_on(project: Project) -> None:
    token = "a" * 32
    project.serve(HOLDFAST_TOKEN=token)
    assert project.ask("list", "--json").problem["status"] == 401
    assert project.ask("list").code == 5
    assert project.ask("list", HOLDFAST_TOKEN="b" * 32).code == 5
    assert project.ask("list", HOLDFAST_TOKEN=token).code == 0


def test_ctrl_c_ends_the_waiting_and_says_what_goes_on(project: Project) -> None:
    project.serve()
    call = project.start("call", "Desk/rest", "seconds=3600", "--id", "rest-1", HOLDFAST_URL=project.url)
    until(lambda: "rest-1" in project.err())
    call.send_signal(signal.SIGINT)
    assert call.wait(30) == 130
    assert project.err() == "rest-1\nrest-1 goes on; holdfast watch rest-1\n"
    assert project.until_status("rest-1", "suspended")
    watch = project.start("watch", "rest-1", HOLDFAST_URL=project.url)
    assert watch.stdout is not None
    assert "suspended" in watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    assert watch.wait(30) == 130
    assert project.err().count("rest-1 goes on; holdfast watch rest-1\n") == 2
    assert project.until_status("rest-1", "suspended")


def test_without_the_extra_it_says_what_to_install(project: Project) -> None:
    script = "import sys; sys.modules['typer'] = None; from holdfast.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=project.folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the command line needs typer\n  next step: pip install 'holdfast[server]'\n"


def test_debug_shows_the_traceback(project: Project) -> None:
    done = project.run("list", "--url", project.url, "--debug")
    assert "Traceback" in done.err


def test_something_else_on_the_port_is_told_apart(project: Project) -> None:
    other = subprocess.Popen(
        ["python3", "-m", "http.server", str(project.ports[1]), "--bind", "127.0.0.1"],
        cwd=project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: listens(project.ports[1]))
        done = project.ask("list")
        assert (done.code, "which is nothing Holdfast says" in done.err) == (5, True)
    finally:
        other.kill()
        other.wait()
