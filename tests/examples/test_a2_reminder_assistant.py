"""A2: the reminder assistant, killed asleep and awake; the outbox shows what people would have received."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from examples.a2_reminder_assistant import remind, remind_as_generator, reminders
from examples.offline import Conversation, Fault, OfflineServer, Reply
from examples.services import dependencies
from holdfast import Holdfast, InvocationFailed, TerminalError

CHAT, SEND = "/v1/chat/completions", "/reminders"
MODULE = "examples.a2_reminder_assistant"
HANDLERS = {"async": remind, "generator": remind_as_generator}
SLOW = pytest.mark.slow
STYLES = pytest.mark.parametrize("style", ["async", "generator"])
WAITS = (4.0, 12.0, 30.0)  # seconds; where a child takes too long to start, the longer ones show the same


def wish_in(seconds: float) -> tuple[str, float]:
    """A wish for a fixed moment, and that moment in Unix seconds."""
    due = datetime.now(UTC) + timedelta(seconds=seconds)
    return f"Remind me at {due.isoformat()} to water the plants", due.timestamp()


def sent_at(server: OfflineServer) -> list[float]:
    return [request.at_ms / 1000 for request in server.requests(SEND) if request.outcome == "answered"]


def clock_watcher(talk: Conversation) -> Reply:
    """A model that never comes to an end."""
    del talk
    return Reply.call("current_time")


def blunderer(talk: Conversation) -> Reply:
    """A model that makes one mistake after another and then tells what it was answered."""
    told = [turn.text for turn in talk.turns if turn.role == "tool"]
    wrong = [
        Reply.call("alarm", at="08:00"),
        Reply.call("schedule", timestamp="tomorrow morning"),
        Reply.call("schedule"),
        Reply.call("schedule", timestamp="9999-12-31T23:59:59-12:00"),
        Reply.call("schedule", timestamp="9999-12-31T23:59:59.999999Z"),
        Reply.call("reminder"),
    ]
    return wrong[len(told)] if len(told) < len(wrong) else Reply("\n".join(told))


@pytest.fixture
def reminder(runner):
    return runner(MODULE)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A Holdfast in this process, the model chosen by name."""
    opened = []

    def make(server: OfflineServer, model: str = "any") -> Holdfast:
        monkeypatch.setenv("OFFLINE_URL", server.url)
        monkeypatch.setenv("OPENAI_MODEL", model)
        opened.append(dependencies())
        return Holdfast(str(tmp_path / "agent.db"), services=[reminders], deps=opened[-1])

    yield make
    for deps in opened:
        deps["services"].close()


@SLOW
@STYLES
def test_a_relative_wish_asks_for_the_time_waits_and_reminds(reminder, server, style):
    begun = time.time()
    out = reminder.finish("--style", style, "--wish", "Remind me in 2 seconds to water the plants")
    assert out.strip() == "Done, you were reminded: water the plants."
    assert server.outbox() == ["Water the plants"]
    assert sent_at(server)[0] >= begun + 1  # the model is told the time in whole seconds
    assert [request.turn for request in server.requests(CHAT)] == [0, 1, 2, 3]


@contextmanager
def killed_asleep(reminder, style: str, seconds: float) -> Iterator[tuple[OfflineServer, list[str], float]]:
    """A reminder over a new file, killed while it slept: its server, its command line, and when it is due."""
    with OfflineServer() as server:
        reminder.server, reminder.db = server, reminder.db.with_name(f"{seconds}.db")
        wish, due = wish_in(seconds)
        arguments = ["--style", style, "--wish", wish]
        child = reminder.start(*arguments)
        server.wait_for(lambda log: bool(log) and log[0].outcome == "answered")
        time.sleep(0.3)
        reminder.kill(child)
        yield server, arguments, due


@SLOW
@STYLES
@pytest.mark.timeout(240)
def test_killed_asleep_it_waits_only_the_rest(reminder, style):
    def waits_the_rest(seconds: float) -> bool:
        with killed_asleep(reminder, style, seconds) as (server, arguments, due):
            if server.requests(SEND):
                return False
            reminder.finish(*arguments)
            assert server.outbox() == ["Water the plants"]
            assert len(server.requests(CHAT)) == 3
            assert reminder.paid_twice() == {}
            assert sent_at(server)[0] >= due  # never early (G5)
            return sent_at(server)[0] < due + 1  # and not the whole time over again

    assert any(waits_the_rest(seconds) for seconds in WAITS)


@SLOW
@STYLES
@pytest.mark.timeout(240)
def test_a_time_that_passed_while_nobody_ran_fires_at_once(reminder, style):
    def fires_at_once(seconds: float) -> bool:
        with killed_asleep(reminder, style, seconds) as (server, arguments, due):
            if server.requests(SEND):
                return False
            time.sleep(max(0.0, due - time.time()) + 0.5)
            begun = time.time()
            reminder.finish(*arguments)
            assert server.outbox() == ["Water the plants"]
            assert len(server.requests(CHAT)) == 3
            return sent_at(server)[0] < begun + 0.75 * seconds

    assert any(fires_at_once(seconds) for seconds in WAITS)


@STYLES
def test_a_time_in_the_past_fires_at_once(engine, server, style):
    with engine(server) as client:
        begun = time.time()
        wish = "Remind me at 2001-09-09T01:46:40Z to water the plants"
        assert client.start(HANDLERS[style], wish, id="late").result(timeout=20).startswith("Done")
    assert server.outbox() == ["Water the plants"]
    assert time.time() < begun + 10


@SLOW
@STYLES
def test_killed_while_sending_it_sends_under_the_same_key(reminder, server, style):
    wish, _ = wish_in(0)
    reminder.kill_at("--style", style, "--wish", wish, path=SEND)
    reminder.finish("--style", style, "--wish", wish)
    assert server.outbox() == ["Water the plants"]
    tries = server.requests(SEND)
    assert [request.outcome for request in tries] == ["gone", "answered"]
    assert len({request.digest for request in tries}) == 1  # of key and message


def test_a_reminder_that_arrived_although_its_answer_was_lost_is_kept_once(engine, server):
    server.order(Fault("cut", path=SEND, times=2))
    with engine(server) as client:
        client.start(remind, wish_in(0)[0], id="once").result(timeout=20)
    assert server.outbox() == ["Water the plants"]
    assert [request.outcome for request in server.requests(SEND)] == ["cut", "cut", "answered"]


@SLOW
def test_killed_in_every_model_call_no_finished_call_is_paid_again(reminder, server):
    wish = "Remind me in 1 second to water the plants"
    for turn in range(4):
        reminder.kill_at("--wish", wish, path=CHAT, turn=turn)
    assert reminder.finish("--wish", wish).startswith("Done")
    assert reminder.paid_twice() == {}
    assert len(server.requests(CHAT)) == 4 + 4
    assert server.outbox() == ["Water the plants"]


@STYLES
def test_a_model_without_an_end_is_stopped(engine, style):
    with OfflineServer(models={"watcher": clock_watcher}) as server, engine(server, "watcher") as client:
        with pytest.raises((InvocationFailed, TerminalError), match="no end in 4 steps"):
            client.start(HANDLERS[style], "Watch the clock", 4, id="endless").result(timeout=20)
        assert len(server.requests(CHAT)) == 4


@STYLES
def test_mistakes_of_the_model_are_told_to_it(engine, style):
    with OfflineServer(models={"blunderer": blunderer}) as server, engine(server, "blunderer") as client:
        told = client.start(HANDLERS[style], "Do something", 8, id="wrong").result(timeout=20).splitlines()
    assert len([line for line in told if line.startswith("error: ")]) == 6
    assert "alarm" in told[0]
    assert "tomorrow morning" in told[1]


@SLOW
def test_months_ahead_is_a_row_and_no_task(engine, server):
    wish = f"Remind me at {(datetime.now(UTC) + timedelta(days=200)).isoformat()} to renew the passport"
    with engine(server) as client:
        handle = client.start(remind, wish, id="passport")
        server.wait_for(lambda log: bool(log) and log[0].outcome == "answered")
        until = time.monotonic() + 10
        while handle.status().status != "suspended":
            assert time.monotonic() < until, handle.status()
            time.sleep(0.02)
    with engine(server) as client:  # another life, as another process would be
        assert client.attach("passport").status().status == "suspended"
        time.sleep(0.3)
    assert len(server.requests(CHAT)) == 1
    assert server.outbox() == []


@SLOW
def test_keys_never_reach_the_disk(reminder):
    reminder.finish("--wish", wish_in(0)[0])
    stored = b"".join(file.read_bytes() for file in reminder.db.parent.rglob("*") if file.is_file())
    assert b"Water the plants" in stored
    assert reminder.secret.encode() not in stored
