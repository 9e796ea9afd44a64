"""Every command against a real server process: what it prints, its JSON, its exit code."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.project import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with Project(tmp_path_factory.mktemp("served")) as project:
        project.serve()
        yield project


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()[1:]]


def test_call_prints_the_result_and_the_id_beside_it(served: Project) -> None:
    done = served.ask("call", "Desk/greet", "name=World", "times=2", "--id", "greet-1")
    assert done == (0, '"Hello World Hello World"\n', "greet-1\n")
    again = served.ask("call", "Desk/greet", "name=World", "times=2", "--id", "greet-1", "--json")
    assert again == (0, '"Hello World Hello World"\n', "")


def test_call_takes_a_body(served: Project) -> None:
    assert served.ask("call", "Desk/greet", "--body", '{"name": "A=B"}').out == '"Hello A=B"\n'
    assert served.ask("call", "Desk/greet", "--body", "-", stdin='{"name": "C"}').out == '"Hello C"\n'


def test_call_of_an_object_needs_its_key(served: Project) -> None:
    missing = served.ask("call", "Chat/message", "text=hi")
    assert missing.code == 2
    assert "belongs to an object and needs a key" in missing.err
    assert served.ask("call", "Desk/greet", "name=x", "--key", "k").code == 2
    for number, text in enumerate(("one", "two"), 1):
        assert served.ask("call", "Chat/message", "--key", "a/b c", f"text={text}").out == f"{number}\n"
    assert served.json("call", "Chat/history", "--key", "a/b c") == ["one", "two"]


def test_call_that_fails_says_how(served: Project) -> None:
    done = served.ask("call", "Desk/refuse", "--id", "refuse-1")
    assert (done.code, done.out) == (1, "")
    assert done.err == "refuse-1\n[HF501] the account is closed\n  next step: holdfast show refuse-1\n"
    again = served.ask("call", "Desk/refuse", "--id", "refuse-1", "--json")
    assert (again.code, again.problem["code"], again.problem["status"]) == (1, "HF501", 402)
    assert "Traceback" not in served.ask("show", "refuse-1").out


def test_call_waits_no_longer_than_asked(served: Project) -> None:
    done = served.ask("call", "Desk/rest", "seconds=3600", "--id", "rest-1", "--wait", "300ms")
    assert done.code == 6
    assert "holdfast watch rest-1" in done.err
    assert served.ask("cancel", "rest-1") == (0, "rest-1 is asked to end\n", "")
    assert served.until_status("rest-1", "cancelled")["reason"] == "cancelled at the command line"


@pytest.mark.parametrize(
    "words,code,what",
    [
        (("call", "Desk/nothing"), 3, "there is no handler 'Desk/nothing'; known: Chat/history"),
        (("call", "Chat/a/message"), 3, "write Chat/message --key a"),
        (("call", "Desk/greet"), 2, "argument 'name' is missing"),
        (("call", "Desk/greet", "name=a", "times=x"), 2, "expected a whole number"),
        (("send", "Desk/greet", "--body", "{"), 2, "--body is no JSON"),
        (("show", "nowhere"), 3, "nowhere"),
        (("watch", "nowhere"), 3, "nowhere"),
        (("resume", "greet-0"), 3, "greet-0"),
        (("resolve", "prm_nowhere", "1"), 3, "prm_nowhere"),
        (("answer", "prm_nowhere", "--value", "1"), 3, "`holdfast asks` lists"),
        (("signal", "nowhere", "news"), 3, "nowhere"),
        (("list", "--status", "gone"), 2, "gone"),
        (("sql", "DELETE FROM invocation"), 2, "refused"),
        (("backup", "../copy.db"), 2, "copy.db"),
        (("schedules", "trigger", "never"), 3, "never"),
        (("purge",), 2, "ids or --older-than"),
        (("restart", "nowhere"), 3, "nowhere"),
        (("list", "--target", "Desk/nope"), 3, "there is no handler 'Desk/nope'; known: Chat/history, "),
        (("list", "--target", "Desc/"), 3, "there is no handler 'Desc/'; known: Chat/history, "),
        (("state", "keys", "Chatt"), 3, "there is no object 'Chatt'; known: Chat, Flow"),
        (("state", "keys", "Desk"), 3, "there is no object 'Desk'; known: Chat, Flow"),
        (("state", "show", "Chatt", "anna"), 3, "there is no object 'Chatt'"),
        (("state", "set", "Chatt", "anna", "last", "1"), 3, "there is no object 'Chatt'"),
        (("state", "clear", "Chatt", "anna", "last"), 3, "there is no object 'Chatt'"),
        (("state", "clear", "Chat", "anna", "nope"), 3, "Chat anna keeps no 'nope'"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(words: tuple[str, ...], code: int, what: str, served: Project) -> None:
    served.ask("send", "Desk/greet", "name=a", "--id", "greet-ended")
    done = served.ask(*words)
    assert (done.code, done.out) == (code, "")
    assert what in done.err
    assert "next step:" in done.err
    assert "Traceback" not in done.err
    problem = served.ask(*words, "--json").problem
    assert problem["code"].startswith("HF")
    assert problem["fix"]


def test_an_id_that_is_taken_is_a_conflict(served: Project) -> None:
    assert served.ask("send", "Desk/greet", "name=one", "--id", "taken").code == 0
    assert served.ask("send", "Desk/greet", "name=two", "--id", "taken").code == 4
    served.until_status("taken", "done")
    assert served.ask("resume", "taken").code == 4


def test_send_begins_later(served: Project) -> None:
    sent = served.ask("send", "Desk/greet", "name=a", "--id", "later", "--delay", "90min")
    assert sent == (0, "later\n", "")
    listed = served.ask("list", "--target", "Desk/greet", "--limit", "1")
    assert rows(listed.out)[0][:3] == ["later", "Desk/greet", "queued"]
    assert "begins in 1 h " in listed.out
    assert served.ask("kill", "later").code == 0


def test_list_filters_and_goes_on(served: Project) -> None:
    for number in range(3):
        served.ask("send", "Chat/message", "--key", "listed", f"text={number}", "--id", f"listed-{number}")
    found = served.ask("list", "--key", "listed")
    assert [row[:3] for row in rows(found.out)] == [[f"listed-{n}", "Chat/message", "listed"] for n in (2, 1, 0)]
    first = served.ask("list", "--key", "listed", "--limit", "2")
    assert first.err == "there are more: --limit 20, or --before listed-1\n"
    rest = served.json("list", "--key", "listed", "--limit", "2", "--before", "listed-1")
    assert [row["id"] for row in rest["invocations"]] == ["listed-0"]
    assert served.ask("list", "--target", "Chat/history", "--status", "killed") == (0, "no invocations\n", "")
    assert served.ask("list", "--target", "Desk/", "--status", "cancelled", "--key", "no").code == 0


def test_show_draws_the_journal_with_children(served: Project) -> None:
    served.ask("call", "Desk/caller", "--id", "caller-1")
    shown = served.ask("show", "caller-1").out.splitlines()
    assert shown[0].startswith("caller-1  Desk/caller  done after ")
    assert 'output   "Hello child"' in shown
    assert "greet#1" in shown[-1]
    found = served.json("show", "caller-1")
    child = found["journal"][0]["child"]
    assert found["invocation"]["status"] == "done"
    assert rows(served.ask("list", "--parent", "caller-1").out)[0][0] == child
    assert "caller   caller-1" in served.ask("show", child).out


def test_show_tells_what_is_waited_for(served: Project) -> None:
    served.ask("send", "Desk/hear", "--id", "hears")
    served.until_status("hears", "suspended")
    shown = served.ask("show", "hears")
    assert "news  waiting  for a signal of this name" in shown.out
    assert shown.err == "to send it: holdfast signal hears news VALUE\n"
    served.ask("signal", "hears", "news", "bread")
    assert served.json("show", "hears")["journal"][0]["output"] == "bread"


def test_show_of_one_step_is_whole(served: Project) -> None:
    served.ask("call", "Desk/work", "rounds=1", "--id", "work-1")
    shown = served.ask("show", "work-1", "--step", "slow#1").out.splitlines()
    assert shown[0].startswith("slow#1  done, ")
    assert shown[1:] == ['asked    ["round 0"]', 'gave     "round 0"']
    assert served.json("show", "work-1", "--step", "slow#1")["inputs"] == ["round 0"]
    missing = served.ask("show", "work-1", "--step", "slow#9")
    assert (missing.code, "it has: slow#1" in missing.err) == (3, True)


def test_watch_follows_to_the_end(served: Project) -> None:
    served.ask("send", "Desk/work", "rounds=3", "--id", "watched")
    lines = served.ask("watch", "watched").out.splitlines()
    assert [line.split()[2] for line in lines if "slow" in line] == ["slow#1", "slow#2", "slow#3"]
    assert lines[-1].split()[-1] == "done"
    events = [json.loads(line) for line in served.ask("watch", "watched", "--json").out.splitlines()]
    assert [event["event"] for event in events] == ["step", "step", "step", "status"]
    served.ask("send", "Desk/refuse", "--id", "watched-2")
    assert served.ask("watch", "watched-2").code == 1


def test_watch_shows_the_question_that_is_waited_for(served: Project) -> None:
    served.ask("send", "Desk/approve", "amount=4", "--id", "watched-3")
    served.ask("send", "Desk/approve", "amount=5", "--id", "watched-4")
    served.until_status("watched-3", "suspended")
    served.until_status("watched-4", "suspended")
    watch = served.start("watch", "watched-3", HOLDFAST_URL=served.url)
    assert watch.stdout is not None
    assert "note#1" in watch.stdout.readline()
    assert watch.stdout.readline().endswith("  suspended  asks: Pay 4 euros?  (holdfast answer)\n")
    for id in ("watched-3", "watched-4"):
        served.ask("kill", id)
    assert watch.wait(30) == 1


def test_asks_are_listed_and_answered_without_a_form(served: Project) -> None:
    served.ask("send", "Desk/approve", "amount=3", "--id", "approve-1")
    served.until_status("approve-1", "suspended")
    assert "to answer: holdfast asks" in served.ask("show", "approve-1").err
    [ask] = [ask for ask in served.json("asks") if ask["invocation"] == "approve-1"]
    assert next(row for row in rows(served.ask("asks").out) if "approve-1" in row)[-3:] == ["Pay", "3", "euros?"]
    assert served.ask("answer", ask["id"], "--value", "perhaps").code == 2
    form = served.ask("answer", ask["id"])
    assert (form.code, "there is no terminal" in form.err) == (2, True)
    assert served.ask("answer", ask["id"], "--value", "yes") == (0, "answered: true\n", "")
    assert served.until_status("approve-1", "done")["output"] == "yes"
    assert served.ask("answer", ask["id"], "--value", "no").code == 4


def test_promises_are_resolved_and_rejected(served: Project) -> None:
    for id, words, output in (("a", ("resolve", "true"), "yes"), ("b", ("reject", "too much"), None)):
        served.ask("send", "Desk/approve", "amount=3", "--id", f"promise-{id}")
        served.until_status(f"promise-{id}", "suspended")
        [ask] = [ask for ask in served.json("asks") if ask["invocation"] == f"promise-{id}"]
        assert served.ask(words[0], ask["id"], words[1]).code == 0
        found = served.until_status(f"promise-{id}", "done", "failed")
        assert (found["output"], "too much" in (found["reason"] or "")) == (output, output is None)


def test_a_signal_arrives(served: Project) -> None:
    served.ask("send", "Desk/hear", "--id", "hear-1")
    served.until_status("hear-1", "suspended")
    assert served.ask("signal", "hear-1", "news", "fresh bread") == (0, "news sent to hear-1\n", "")
    assert served.until_status("hear-1", "done")["output"] == "fresh bread"
    assert served.ask("send", "Flow/run", "--key", "f1").code == 0
    assert served.json("signal", "Flow:f1", "go", '"now"')["id"] == "Flow:f1"
    assert served.until_status("Flow:f1", "done")["output"] == "now"


def test_what_was_mended_is_resumed(served: Project) -> None:
    failed = served.ask("call", "Desk/stumble", "--id", "stumble-1")
    assert (failed.code, "HF505" in failed.err) == (1, True)
    shown = served.ask("show", "stumble-1")
    assert "TypeError: the code is wrong" in shown.out
    assert shown.err == "mend the cause, then: holdfast resume stumble-1\n"
    (served.folder / "mended").touch()
    assert served.ask("resume", "stumble-1") == (0, "stumble-1 goes on\n", "")
    assert served.until_status("stumble-1", "done")["output"] == 7


def test_what_failed_is_retried_at_the_point_where_it_failed(served: Project) -> None:
    assert served.ask("call", "Desk/number", "--id", "number-1").code == 1
    assert served.ask("show", "number-1").err == "to go on at the point where it failed: holdfast retry number-1\n"
    (served.folder / "number.txt").write_text("5")
    before = (served.folder / "steps.log").read_text().count("first")
    assert served.ask("retry", "number-1").code == 0
    assert served.until_status("number-1", "done")["output"] == 5
    assert (served.folder / "steps.log").read_text().count("first") == before


def test_pause_and_resume(served: Project) -> None:
    served.ask("send", "Desk/rest", "seconds=0.5", "--id", "rest-2", "--delay", "1s")
    assert served.ask("pause", "rest-2", "--reason", "for now").code == 0
    assert served.until_status("rest-2", "paused")["reason"] == "for now"
    assert served.ask("resume", "rest-2").code == 0
    served.until_status("rest-2", "done")


def test_restart_and_fork_make_new_runs(served: Project) -> None:
    served.ask("call", "Desk/work", "rounds=3", "--id", "origin")
    before = (served.folder / "steps.log").read_text().count("round 0")
    assert served.ask("restart", "origin", "--from", "slow#2", "--id", "again").out == "again\n"
    assert served.ask("fork", "origin", "slow#1", '"another"', "--id", "forked").out == "forked\n"
    assert served.until_status("again", "done")["output"] == ["round 0", "round 1", "round 2"]
    assert served.until_status("forked", "done")["output"] == ["another", "round 1", "round 2"]
    assert (served.folder / "steps.log").read_text().count("round 0") == before
    assert "from     origin" in served.ask("show", "again").out
    assert served.ask("fork", "origin", "slow#1", "7").code == 2
    assert served.ask("restart", "origin", "--from", "slow#9").code == 3


def test_several_ids_are_each_tried(served: Project) -> None:
    for id in ("many-1", "many-2"):
        served.ask("send", "Desk/rest", "seconds=3600", "--id", id)
    done = served.ask("kill", "many-1", "nowhere", "many-2")
    assert (done.code, done.out) == (3, "many-1 killed\nmany-2 killed\n")
    assert "nowhere" in done.err
    assert served.ask("purge", "many-1", "many-2").out == "many-1 purged\nmany-2 purged\n"
    assert served.ask("show", "many-1").code == 3


def test_purge_by_age_asks_first(served: Project) -> None:
    served.ask("call", "Desk/greet", "name=x", "--id", "old-1")
    assert served.ask("purge", "--older-than", "0s").code == 2
    assert served.ask("purge", "--older-than", "30d", "--yes") == (0, "0 purged\n", "")
    assert served.json("show", "old-1")["invocation"]["status"] == "done"


def test_state_is_listed_shown_and_changed(served: Project) -> None:
    served.ask("call", "Chat/message", "--key", "state", "text=hi")
    assert "state" in served.ask("state", "keys", "Chat").out.splitlines()
    assert rows(served.ask("state", "show", "Chat", "state").out) == [["history", '["hi"]'], ["last", '"hi"']]
    assert served.ask("state", "set", "Chat", "state", "last", "[1, 2]").code == 0
    assert served.json("state", "show", "Chat", "state")["last"] == [1, 2]
    assert served.ask("state", "clear", "Chat", "state", "last").code == 0
    assert served.json("state", "show", "Chat", "state") == {"history": ["hi"]}


def test_schedules(served: Project) -> None:
    assert rows(served.ask("schedules", "list").out)[0][:5] == ["hourly", "Desk/greet", "every", "3600", "s"]
    assert served.ask("schedules", "pause", "hourly").out == "hourly paused\n"
    assert rows(served.ask("schedules", "list").out)[0][-1] == "paused"
    assert served.ask("schedules", "resume", "hourly").code == 0
    started = served.ask("schedules", "trigger", "hourly").out.strip()
    assert served.until_status(started, "done")["output"] == "Hello clock"


def test_handlers_sql_backup_and_doctor(served: Project) -> None:
    listed = rows(served.ask("handlers").out)
    assert [
        "Desk/greet",
        "service",
        "name:",
        "text,",
        "[times]:",
        "whole",
        "number",
        "text",
        "Greets",
        "somebody.",
    ] in listed
    found = served.ask("sql", "SELECT 1 AS one, NULL AS two, 'x' AS three")
    assert found.out == "one  two   three\n1    null  x\n"
    assert served.json("sql", "SELECT 1 AS one") == {"columns": ["one"], "rows": [[1]], "cut": False}
    hint = served.ask("sql", "SELECT nothing FROM invocation").err.partition("see what there is: ")[2]
    assert ["invocation", "status"] in rows(served.ask("sql", hint).out)
    assert served.ask("backup", "copy.db").out.startswith("copy.db, ")
    assert (served.folder / "copy.db").stat().st_size > 0
    assert served.ask("backup", "copy.db").code in {2, 4, 5}  # is there already
    doctor = served.ask("doctor")
    assert doctor.code == 0
    assert "lock         process " in doctor.out
    assert {finding["state"] for finding in served.json("doctor")} <= {"ok", "note"}


def test_check_of_a_server_looks_at_its_own_code(served: Project) -> None:
    done = served.ask("check")
    assert done.code == 0
    assert "unfinished invocations go on under this code" in done.out


def test_a_pipe_that_closes_is_no_error(served: Project) -> None:
    script = f"set -o pipefail; {sys.executable} -m holdfast.cli handlers | head -c 1"
    environ = served.environ(HOLDFAST_URL=served.url)
    done = subprocess.run(["bash", "-c", script], cwd=served.folder, env=environ, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"T", b"")


def test_colour_is_for_terminals(served: Project) -> None:
    assert "\x1b" not in served.ask("list", TERM="xterm-256color").out


@pytest.mark.parametrize(
    "words,what,where",
    [
        (["list", "--limit", "many"], "invalid value for '--limit'", "holdfast list --help"),
        (["list", "--nothing"], "no such option: --nothing", "holdfast list --help"),
        (["list", "--limit", "0"], "invalid value for '--limit'", "holdfast list --help"),
        (["call"], "missing argument 'SERVICE/HANDLER'", "holdfast call --help"),
        (["send", "Desk/work", "--delay", "soon"], "write a number and a unit", "holdfast send --help"),
        (["shwo"], "no such command 'shwo'. Did you mean 'show'?", "holdfast --help"),
        (["schedules", "stop"], "no such command 'stop'", "holdfast schedules --help"),
    ],
)
def test_words_that_fit_no_command_are_refused_as_all_else_is(
    served: Project, words: list[str], what: str, where: str
) -> None:
    done = served.ask(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("[HF701] ")
    assert what in done.err
    assert where in done.err.splitlines()[-1]
    problem = served.ask(*words, "--json").problem
    assert (problem["code"], what in problem["detail"], where in problem["fix"]) == ("HF701", True, True)


@pytest.mark.parametrize("words", [[], ["state"]])
def test_a_group_without_a_command_shows_its_help(served: Project, words: list[str]) -> None:
    done = served.run(*words)
    assert (done.code, done.err) == (2, "")
    assert "Usage: " in done.out


def test_a_shell_that_completes_gets_the_words(served: Project) -> None:
    def completed(line: str) -> list[str]:
        known = {"_HOLDFAST_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return served.run(**known).out.split()

    assert completed("holdfast pa") == ["pause"]
    assert completed("holdfast list --st") == ["--status", "--store"]
    assert completed("holdfast schedules ") == ["list", "pause", "resume", "trigger"]


def test_result_waits_for_one_that_was_started_before(served: Project) -> None:
    served.ask("send", "Desk/work", "rounds=2", "--id", "later-asked")
    assert served.ask("result", "later-asked") == (0, '["round 0","round 1"]\n', "")
    assert served.json("result", "later-asked") == ["round 0", "round 1"]
    served.ask("send", "Desk/rest", "seconds=3600", "--id", "long-rest")
    assert served.ask("result", "long-rest", "--wait", "100ms").code == 6
    assert served.ask("result", "nowhere").code == 3


def test_promises_lists_all_that_waits_to_be_settled(served: Project) -> None:
    served.ask("send", "Desk/deliver", "--id", "delivery")
    served.until_status("delivery", "suspended")
    (promise,) = [row for row in served.json("promises") if row["invocation"] == "delivery"]
    line = next(line for line in served.ask("promises").out.splitlines() if promise["id"] in line)
    assert line.split()[1:3] == ["delivery", "parcel#1"]
    assert promise["id"] in served.ask("show", "delivery").out
    assert all(row["id"] != promise["id"] for row in served.json("asks"))
    served.ask("resolve", promise["id"], '"here"')
    assert served.ask("result", "delivery").out == '"here"\n'
    assert all(row["id"] != promise["id"] for row in served.json("promises"))
