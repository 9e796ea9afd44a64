"""A1: the travel assistant, killed at every request it makes and at the question, counted at the stand-ins."""

from __future__ import annotations

import random
import subprocess
import time
from functools import partial

import pytest

from examples.a1_travel_assistant import FINISHED, plan, plan_as_generator, text_of, trips
from examples.offline import Fault, OfflineServer, Request
from examples.services import dependencies
from holdfast import Holdfast, IdConflict, InvocationFailed, TerminalError

CHAT, SEARCH, PAGE = "/v1/chat/completions", "/search", "/content"
MODULE = "examples.a1_travel_assistant"
HANDLERS = {"async": plan, "generator": plan_as_generator}
WHOLE = {CHAT: 5, SEARCH: 3, PAGE: 1}  # what a trip to Rome costs when nothing goes wrong
SLOW = pytest.mark.slow
STYLES = pytest.mark.parametrize("style", ["async", "generator"])


@pytest.fixture
def trip(runner):
    return runner(MODULE)


@pytest.fixture
def engine(server, tmp_path, monkeypatch):
    """A Holdfast in this process that reaches the offline services."""
    monkeypatch.setenv("OFFLINE_URL", server.url)
    deps = dependencies()
    yield Holdfast(str(tmp_path / "agent.db"), services=[trips], deps=deps)
    deps["services"].close()


def counts(server: OfflineServer) -> dict[str, int]:
    return {path: len(server.requests(path)) for path in WHOLE}


@SLOW
@STYLES
def test_a_trip_left_alone_costs_what_it_costs(trip, server, style):
    out = trip.finish("--style", style, "--answer", "100 euros, pasta")
    assert "The assistant asks: I have read about Rome." in out
    assert out.strip().endswith(FINISHED)
    assert "100 euros, pasta" in out
    assert counts(server) == WHOLE


@SLOW
@STYLES
def test_killed_at_every_request_nothing_finished_is_paid_again(trip, server, style):
    # Each round holds one request, kills the process while it waits, and starts it again: the trip goes one step on.
    points = [
        {"path": CHAT, "turn": 0},
        {"path": SEARCH, "contains": "Sights"},
        {"path": CHAT, "turn": 1},
        {"path": PAGE},
        {"path": CHAT, "turn": 2},
        {"path": CHAT, "turn": 3},
        {"path": SEARCH, "contains": "Food"},
        {"path": CHAT, "turn": 4},
    ]
    arguments = ("--style", style, "--answer", "100 euros, pasta")
    for point in points:
        before = counts(server)
        log = trip.kill_at(*arguments, **point)
        assert [r.path for r in log if r.outcome == "gone"] == [p["path"] for p in points[: points.index(point) + 1]]
        assert sum(counts(server).values()) > sum(before.values())
    assert trip.finish(*arguments).strip().endswith(FINISHED)
    assert trip.paid_twice() == {}
    killed = {path: sum(point["path"] == path for point in points) for path in WHOLE}
    assert counts(server) == {path: WHOLE[path] + killed[path] for path in WHOLE}


@SLOW
@STYLES
def test_killed_at_the_question_asks_nobody_again_but_the_person(trip, server, style):
    child = trip.start("--style", style, stdin=subprocess.PIPE)
    while "The assistant asks" not in child.stdout.readline():
        assert child.poll() is None
    trip.kill(child)
    asked = counts(server)
    child = trip.start("--style", style, stdin=subprocess.PIPE)
    while "The assistant asks" not in child.stdout.readline():
        assert child.poll() is None
    time.sleep(0.2)
    assert counts(server) == asked
    out, err = child.communicate("80 euros, artichokes\n", timeout=30)
    assert child.returncode == 0, err
    assert "80 euros, artichokes" in out
    assert counts(server) == WHOLE


@SLOW
def test_killed_at_random_moments_only_what_was_in_flight_runs_again(trip):
    kills = 0
    with OfflineServer(latency=0.15) as slow:
        trip.server = slow
        while kills < 6:
            child, seen = trip.start("--answer", "100 euros"), len(slow.requests())
            slow.wait_for(partial(moved, child, seen))
            try:
                child.wait(timeout=random.uniform(0, 0.5))
                break
            except subprocess.TimeoutExpired:
                trip.kill(child)
                kills += 1
        assert trip.finish("--answer", "100 euros").strip().endswith(FINISHED)
        requests = slow.requests()
    distinct = {(request.path, request.digest) for request in requests}
    assert len(distinct) == sum(WHOLE.values())
    # At most two steps are in flight at once: the two searches of the first turn.
    assert len(requests) - len(distinct) <= 2 * kills


def moved(child: subprocess.Popen[str], seen: int, log: list[Request]) -> bool:
    """Whether the child has made a new request or has ended."""
    return len(log) > seen or child.poll() is not None


@SLOW
def test_the_same_id_again_gives_the_same_trip(trip, server):
    first = trip.finish("--trip", "summer", "--answer", "100 euros")
    second = trip.finish("--trip", "summer", "--answer", "another answer, which nobody asks for")
    assert second.strip() == first.strip().splitlines()[-1]
    assert counts(server) == WHOLE


@SLOW
def test_the_same_id_with_another_goal_is_refused(trip, server):
    trip.finish("--answer", "100 euros")
    child = trip.start("--goal", "Plan a week in Lisbon.")
    _, err = child.communicate(timeout=30)
    assert child.returncode != 0
    assert IdConflict.code in err
    assert counts(server) == WHOLE


def test_a_second_start_attaches_to_the_running_trip(engine, server):
    with engine as client:
        first = client.start(plan, "Three days in Rome", id="rome")
        second = client.start(plan, "Three days in Rome", id="rome")
        answer_all(client, 1)
        assert first.result(timeout=20) == second.result(timeout=20) == client.attach("rome").result(timeout=20)
    assert counts(server) == WHOLE


@SLOW
def test_many_trips_wait_for_their_people_at_once(engine, server):
    # More of them than any pool has threads: a question holds none.
    with engine as client:
        started = [client.start(plan, "Three days in Kyoto", id=f"kyoto-{i}") for i in range(60)]
        answer_all(client, 60)
        assert all(trip.result(timeout=30).endswith(FINISHED) for trip in started)
    assert len(server.requests(CHAT)) == 60 * WHOLE[CHAT]


def test_both_styles_leave_the_same_journal(engine):
    with engine as client:
        started = [client.start(handler, "Three days in Lisbon", id=style) for style, handler in HANDLERS.items()]
        answer_all(client, 2)
        assert started[0].result(timeout=20) == started[1].result(timeout=20)
        journals = [sorted((line.kind, line.id, line.state, str(line.output)) for line in t.journal()) for t in started]
    assert journals[0] == journals[1]
    assert len(journals[0]) == sum(WHOLE.values()) + 1  # and the answer of the person


@STYLES
def test_tool_errors_come_back_as_text(engine, server, style):
    server.order(Fault("empty", path=PAGE, times=1))
    server.order(Fault("empty", path=SEARCH, contains="Food"))
    with engine as client:
        trip = client.start(HANDLERS[style], "Three days in Rome", id="rome")
        answer_all(client, 1)
        assert trip.result(timeout=20).endswith(FINISHED)
    assert len(server.requests(PAGE)) == 2  # the model was told and read another page


@STYLES
def test_an_unknown_tool_is_told_to_the_model(engine, server, style):
    with engine as client:
        trip = client.start(HANDLERS[style], "A flight and three days in Rome", id="rome")
        answer_all(client, 1)
        assert trip.result(timeout=20).endswith(FINISHED)
    assert counts(server) == {**WHOLE, CHAT: WHOLE[CHAT] + 1}


@SLOW
@STYLES
def test_a_short_failure_is_retried_under_the_same_step(engine, server, style):
    server.order(Fault("error", path=SEARCH, contains="Hotels", status=503, times=2))
    server.order(Fault("error", path=CHAT, turn=2, status=429, retry_after=1))
    with engine as client:
        trip = client.start(HANDLERS[style], "Three days in Rome", id="rome")
        answer_all(client, 1)
        trip.result(timeout=20)
        tries = {line.id: line.tries for line in trip.journal()}
    assert tries["search_internet#2"] == 3
    assert tries["ask_model#3"] == 2
    hotels = {r.digest for r in server.requests(SEARCH) if r.fault}
    assert [r.outcome for r in server.requests(SEARCH) if r.digest in hotels] == ["failed", "failed", "answered"]
    third = [r for r in server.requests(CHAT) if r.turn == 2]
    assert [r.outcome for r in third] == ["failed", "answered"]
    assert third[0].digest == third[1].digest
    assert third[1].at_ms - third[0].at_ms >= 1000  # Retry-After is obeyed


@STYLES
def test_exhausted_retries_are_caught_and_told(engine, server, style):
    server.order(Fault("error", path=SEARCH, contains="Sights", status=500, times=None))
    with engine as client:
        trip = client.start(HANDLERS[style], "Three days in Rome", id="rome")
        answer_all(client, 1)
        assert trip.result(timeout=20).endswith(FINISHED)
        assert [(line.state, line.tries) for line in trip.journal() if line.error] == [("failed", 3)]
    failed = [r for r in server.requests(SEARCH) if r.outcome == "failed"]
    assert len(failed) == 3
    assert len({r.digest for r in failed}) == 1


@STYLES
def test_a_wrong_key_fails_the_trip_at_once(engine, server, style):
    server.order(Fault("error", path=CHAT, status=401, times=None))
    with engine as client:
        trip = client.start(HANDLERS[style], "Three days in Rome", id="rome")
        with pytest.raises((InvocationFailed, TerminalError)):
            trip.result(timeout=20)
    assert len(server.requests(CHAT)) == 1


@pytest.mark.parametrize("fault", ["cut", "malformed", "empty"])
def test_a_bad_answer_of_the_model_is_asked_for_again(engine, server, fault):
    server.order(Fault(fault, path=CHAT, turn=1, times=2))
    with engine as client:
        trip = client.start(plan, "Three days in Rome", id="rome")
        answer_all(client, 1)
        trip.result(timeout=20)
    assert counts(server) == {**WHOLE, CHAT: WHOLE[CHAT] + 2}


@SLOW
def test_the_plain_terminal_prompt_comes_again_after_a_kill(trip, server):
    child = trip.start("--terminal", stdin=subprocess.PIPE)
    while "I have read about Rome" not in child.stdout.readline():
        assert child.poll() is None
    trip.kill(child)
    child = trip.start("--terminal", stdin=subprocess.PIPE)
    out, err = child.communicate("100 euros, pasta\n", timeout=30)
    assert child.returncode == 0, err
    assert "I have read about Rome" in out
    assert "100 euros, pasta" in out
    assert counts(server) == WHOLE


@SLOW
def test_keys_never_reach_the_disk(trip):
    trip.kill_at("--answer", "100 euros", path=CHAT, turn=2)
    trip.finish("--answer", "100 euros")
    stored = [file for file in trip.db.parent.rglob("*") if file.is_file()]
    assert trip.db in stored
    kept = b"".join(file.read_bytes() for file in stored)
    assert b"Colosseum" in kept  # the file can be searched for words at all
    assert trip.secret.encode() not in kept


@SLOW
def test_with_nobody_at_the_keyboard_the_question_stays_open(trip, server):
    assert "The same command goes on with it." in trip.finish()
    assert trip.finish("--answer", "100 euros").strip().endswith(FINISHED)
    assert counts(server) == WHOLE


def test_pages_are_read_as_text():
    html = "<html><head><title>T</title></head><body><nav>Go</nav><p>One &amp; two</p><script>x()</script>three</body>"
    assert text_of(html) == "One & two\nthree"
    assert text_of("") == ""


def answer_all(client, count: int) -> None:
    """Waits until that many questions are open and answers them all."""
    until = time.monotonic() + 30
    while len(asks := client.asks()) < count:
        assert time.monotonic() < until, f"{len(asks)} of {count} questions came"
        time.sleep(0.02)
    for ask in asks:
        client.answer(ask.id, "100 euros, pasta")
