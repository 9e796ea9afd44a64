"""What the examples without an agent library promise beside surviving: on time, once, side by side, told in words."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from examples import b13_travel_rollback as b13
from examples import b14_periodic_agent as b14
from examples import b17_notify_when_ready as b17
from examples import b18_evaluate_after as b18
from examples import c2_bank_agent as c2
from examples import d1_chaining as d1
from examples import d3_parallel_tools as d3
from examples import d7_orchestrator_workers as d7
from examples import d9_moderation as d9
from examples import llm
from examples.offline import Fault, OfflineServer, Reply
from examples.services import dependencies
from holdfast import InvocationCancelled, InvocationFailed, MemoryStore, TerminalError
from tests.engine.world import FakeClock, engine_of, in_engine, tick, wait_for

CHAT = "/v1/chat/completions"
HOUR, DAY = 3600, 86_400


@pytest.fixture
def program(shared_server, monkeypatch):
    """An example over one store, which outlives its lives: `with program(hf) as client`."""
    monkeypatch.setenv("OFFLINE_URL", shared_server.url)
    shared_server.reset()
    store = MemoryStore()

    def over(hf, **others):
        for name, value in {"store": store, **others}.items():
            monkeypatch.setattr(hf, f"_{name}", value)
        return hf

    return over


@pytest.fixture
def clock():
    """Half a minute before a brief is due."""
    clock = FakeClock()
    clock.ms = int(datetime(2024, 1, 8, 6, 59, 30, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000)
    return clock


def fire(client):
    in_engine(client, engine_of(client).schedules._tick)
    wait_for(lambda: not [run for run in client.list() if run.status != "done"])


def test_b14_the_brief_comes_once_at_seven_and_of_a_missed_week_the_last_one(program, clock, shared_server):
    with program(b14.hf, clock=clock) as client:
        fire(client)
        assert shared_server.outbox() == []
        clock.wind(30)
        fire(client)
        assert len(shared_server.outbox()) == 1
    with program(b14.hf, clock=clock) as client:  # started again at the same moment
        fire(client)
        assert len(shared_server.outbox()) == 1
    clock.wind(5 * DAY + HOUR)  # Saturday
    with program(b14.hf, clock=clock) as client:
        fire(client)
        assert len(shared_server.outbox()) == 2
        assert client.schedules()[0].last_id == "morning@2024-01-12T06:00:00Z"


def test_b14_a_watch_waits_for_the_rest_and_ends_when_it_is_told(program, clock):
    def seen(client):
        wait_for(lambda: not [run for run in client.list() if run.status == "ready"])
        return len(client.call(b14.seen, key="denver").notes)

    with program(b14.hf, clock=clock) as client:
        client.start(b14.look, "Look every 3600 seconds, 9 times.", "Denver", key="denver", id="watch").result(5)
        clock.wind(HOUR / 2)
        tick(client)
        assert seen(client) == 1
    with program(b14.hf, clock=clock) as client:
        tick(client)
        assert seen(client) == 1
        clock.wind(HOUR / 2)
        tick(client)
        wait_for(lambda: seen(client) == 2)
        client.call(b14.stop, key="denver")
        clock.wind(HOUR)
        tick(client)
        wait_for(lambda: not [run for run in client.list() if run.status != "done"])
        assert seen(client) == 2


def test_b17_a_mail_whose_answer_was_lost_is_in_the_box_once(program, shared_server):
    shared_server.order(Fault("cut", path="/mails", times=2))
    with program(b17.hf) as client:
        client.start(b17.write, "tides", key="k")
        client.call(b17.mail_when_ready, "ada@example.com", key="k", timeout=10)
    assert len(shared_server.requests("/mails")) == 3
    assert len(shared_server.outbox()) == 1


def test_b18_the_answer_does_not_wait_for_the_judge(program, shared_server):
    shared_server.order(Fault("error", path=CHAT, contains="judge of answers", status=503, times=None))
    with program(b18.hf) as client:
        client.call(b18.answer, b18.QUESTION, id="it", timeout=10)
        grade = client.attach("it-grade")
        assert grade.status().status == "ready"
        shared_server.clear_faults()
        assert grade.result(10).points == 4


def test_b13_what_was_booked_although_its_answer_was_lost_is_one_booking(program, shared_server):
    shared_server.order(Fault("cut", path="/bookings/it-flight-2"))
    with program(b13.hf) as client:
        client.call(b13.arrange, "To Rome, with a small car.", id="it", timeout=10)
    assert list(shared_server.bookings().values()) == ["booked"] * 3


def test_b13_an_undo_is_tried_until_it_is_done(program, shared_server):
    shared_server.order(Fault("error", path="/bookings/it-hotel-1", contains="DELETE", status=503, times=2))
    with program(b13.hf) as client, pytest.raises(TerminalError, match="no convertible"):
        client.call(b13.arrange, b13.WISH, id="it", timeout=10)
    assert shared_server.cancelled() == ["it-car-3", "it-flight-2", "it-hotel-1"]


def clerk(client):
    return wait_for(client.asks)[0]


def test_c2_is_seen_from_outside_while_the_clerk_thinks_and_the_next_message_waits_its_turn(program):
    with program(c2.hf) as client:
        loan = client.start(c2.message, c2.WISH, key="ada", id="loan")
        ask = clerk(client)
        after = client.start(c2.message, "And my balance?", key="ada", id="after")
        other = client.call(c2.message, "How is my balance?", key="otto", timeout=10)
        assert other.balance == 1200
        assert client.call(c2.overview, key="ada") == c2.Account(1200, [], "ApplyForLoan")
        assert after.status().status == "queued"
        client.answer(ask.id, True)
        assert loan.result(10).balance == after.result(10).balance == 9200
        assert client.call(c2.overview, key="ada").loans == [c2.Loan(8000, 24, "kitchen")]


def test_c2_a_cancel_while_the_clerk_thinks_leaves_a_whole_conversation_and_no_loan(program):
    with program(c2.hf) as client:
        loan = client.start(c2.message, c2.WISH, key="ada", id="loan")
        clerk(client)
        loan.cancel()
        with pytest.raises(InvocationCancelled):
            loan.result(10)
        wait_for(lambda: not client.asks())
        assert client.state("Bank", "ada") == {"doing": "nothing"}
        assert client.call(c2.message, "How is my balance?", key="ada", timeout=10).balance == 1200


def test_c2_small_loans_need_no_clerk(program):
    with program(c2.hf) as client:
        answer = client.call(c2.message, "Lend me 3000 euros for 12 months for a bike.", key="ada", timeout=10)
    assert (answer.balance, answer.tools) == (4200, ["ApplyForLoan"])


def test_c2_a_loan_that_nobody_decides_is_refused_after_two_weeks(program, clock):
    with program(c2.hf, clock=clock) as client:
        client.start(c2.message, c2.WISH, key="ada", id="loan")
        clerk(client)
    clock.wind(14 * DAY)
    with program(c2.hf, clock=clock) as client:
        answer = client.attach("loan").result(10)
    assert "refused: nobody decided" in answer.text
    assert answer.balance == 1200


def most_at_once(client, server, work, path, contains=""):
    """How many such requests were under way at the same time. A busy machine is given more time for the same."""
    handler, text = work
    for seconds in (0.2, 2, 8):
        server.reset()
        server.order(Fault("slow", path=path, contains=contains, times=None, seconds=seconds))
        run, at_once = client.start(handler, text), 0
        while run.status().status != "done":
            at_once = max(at_once, sum(request.outcome == "open" for request in server.requests(path)))
        if at_once >= 3:
            break
    return at_once


def test_d3_the_searches_are_under_way_together(program, shared_server):
    with program(d3.hf) as client:
        assert most_at_once(client, shared_server, (d3.advise, d3.QUESTION), "/search") == 3


def test_d7_three_workers_at_a_time(program, shared_server):
    with program(d7.hf) as client:
        assert most_at_once(client, shared_server, (d7.compose, d7.TASK), CHAT, "writer of leaflets") == 3


def test_d3_a_search_that_fails_is_told_to_the_model(program, shared_server):
    shared_server.order(Fault("error", path="/search", contains="Lisbon", times=None))
    with program(d3.hf) as client:
        assert "Lisbon: nobody answered." in client.call(d3.advise, d3.QUESTION, timeout=20)
    assert len(shared_server.requests("/search")) == 2 + 3


def test_a_wrong_key_ends_it_at_once(program, shared_server):
    shared_server.order(Fault("error", path=CHAT, status=401, times=None))
    with program(d1.hf) as client, pytest.raises(TerminalError):
        client.call(d1.reply, d1.LETTER, timeout=10)
    assert len(shared_server.requests(CHAT)) == 1


@pytest.mark.parametrize("kind", ["empty", "cut", "malformed"])
def test_a_bad_answer_is_asked_for_again(program, shared_server, kind):
    shared_server.order(Fault(kind, path=CHAT))
    with program(d9.hf) as client:
        assert "insults" in client.call(d9.moderate, "You idiot.", timeout=10)
    assert len(shared_server.requests(CHAT)) == 2


def test_an_answer_that_never_fits_its_form_is_asked_for_three_times(program, monkeypatch):
    with OfflineServer(models={"babbler": lambda _: Reply("the post is fine, I think")}) as server:
        hf = program(d9.hf, deps=dependencies())
        monkeypatch.setenv("OFFLINE_URL", server.url)
        monkeypatch.setenv("OPENAI_MODEL", "babbler")
        with hf as client, pytest.raises(InvocationFailed, match="ValidationError"):
            client.call(d9.moderate, d9.POST, timeout=10)
        assert len(server.requests(CHAT)) == 3
        hf._deps["services"].close()


@pytest.mark.parametrize(
    "name, arguments, told",
    [
        ("BookHotel", '{"city": "Rome"}', b13.BookHotel(city="Rome")),
        ("BookHotel", '{"town": "Rome"}', "error: these arguments do not fit"),
        ("BookHotel", "Rome", "error: these arguments do not fit"),
        ("BookYacht", "{}", "error: there is no tool called 'BookYacht'"),
    ],
)
def test_what_a_model_wants_is_an_object_or_a_text_that_helps_it(name, arguments, told):
    function = {"name": name, "arguments": arguments}
    message = llm.ChatCompletionMessage.model_validate(
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    )
    found = llm.wanted(message.tool_calls[0], b13.TOOLS)
    assert found == told if not isinstance(told, str) else found.startswith(told)
