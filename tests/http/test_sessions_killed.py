"""The sessions of test_sessions.py against a real process that is killed in their midst.

The model, the weather and the person are outside: what was asked of them is counted at their own server.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.offline.faults import Fault
from examples.offline.server import OfflineServer
from tests.http.processes import Process, until

pytestmark = pytest.mark.slow

MODEL, WEATHER = "/v1/chat/completions", "/v1/current.json"
CLAIM = {"message": "Process my hospital bill of 3000USD for a broken leg."}
HELD_SECONDS = 600.0
DEADLINE_SECONDS = 2.5
BURST = [
    ("session123", "make a poem about durable execution"),
    ("session456", "what are the benefits of durable execution?"),
    ("session789", "how does workflow orchestration work?"),
    ("session123", "can you make it rhyme better?"),
    ("session456", "what about fault tolerance in distributed systems?"),
    ("session789", "give me a practical example"),
    ("session101", "explain event sourcing in simple terms"),
    ("session202", "what is the difference between async and sync processing?"),
]


@contextmanager
def session(folder: Path) -> Iterator[tuple[Process, OfflineServer]]:
    with OfflineServer() as offline:
        environment = {"OFFLINE_URL": offline.url, "DEADLINE_SECONDS": str(DEADLINE_SECONDS)}
        agents = Process("tests.http.sessions_app", folder, environment)
        try:
            yield agents, offline
        finally:
            agents.close()


def one_ask(agents: Process) -> dict[str, Any]:
    (ask,) = until(lambda: agents.admin.get("/asks").json(), "the question is in the inbox")
    return ask


def restart(agents: Process) -> None:
    agents.kill()
    agents.start()


def test_weather_is_asked_for_and_an_outage_is_retried_in_sight_and_over_a_kill(tmp_path: Path) -> None:
    with session(tmp_path) as (agents, offline):
        said = agents.post("/WeatherAgent/run", {"message": "What is the weather like in San Francisco?"})
        assert said == "San Francisco: Fog, 17.0 degrees."
        offline.order(Fault("error", path=WEATHER, contains="Denver", status=503, times=None))
        sent = agents.post("/WeatherAgent/run/send", {"message": "What is the weather like in Denver?"})["id"]

        def retrying() -> list[dict[str, Any]]:
            lines = agents.web.get(f"/invocations/{sent}/journal").json()["steps"]
            return [line for line in lines if line["state"] == "retrying" and line["tries"] > 1]

        (line,) = until(retrying, "the failing step is shown")
        assert "503" in line["error"]
        assert line["due"] is not None
        before = len(offline.requests(MODEL))
        agents.kill()
        offline.clear_faults()  # the service is mended
        agents.start()
        assert agents.result(sent) == "Denver: Sunny, 21.0 degrees."
        assert len(offline.requests(MODEL)) == before + 1, "the turn that was finished is not asked for again"


def test_a_claim_waits_for_a_person_over_a_kill_and_is_answered_by_one_request(tmp_path: Path) -> None:
    with session(tmp_path) as (agents, offline):
        sent = agents.post("/HumanClaimApprovalAgent/run/send", CLAIM)["id"]
        ask = one_ask(agents)
        assert (ask["question"], ask["invocation"]) == ("Approve a claim of 3000 USD?", sent)
        restart(agents)
        assert agents.status(sent) == "suspended"
        assert one_ask(agents) == ask
        assert agents.post(f"/promises/{ask['id']}/resolve", True)["status"] == "resolved"
        assert agents.result(sent) == "The claim of 3000 USD: approved."
        late = agents.web.post(f"/promises/{ask['id']}/resolve", json=False)
        assert (late.status_code, late.json()["code"]) == (409, "HF109")
        assert len(offline.requests(MODEL)) == 2


def test_a_claim_with_a_deadline_goes_on_waiting_after_a_kill_and_not_anew(tmp_path: Path) -> None:
    with session(tmp_path) as (agents, offline):
        sent = agents.post("/HumanClaimApprovalWithTimeoutsAgent/run/send", CLAIM)["id"]
        one_ask(agents)

        def deadline() -> str:
            lines = agents.web.get(f"/invocations/{sent}/journal").json()["steps"]
            (timer,) = [line for line in lines if line["kind"] == "timer"]
            return str(timer["due"])

        due = deadline()
        restart(agents)
        assert deadline() in {due, "None"}, "or it has fired by now"
        assert agents.result(sent) == "The claim of 3000 USD: nobody answered in time: declined."
        lines = agents.web.get(f"/invocations/{sent}/journal").json()["steps"]
        assert [line["finished"] >= due for line in lines if line["kind"] == "timer"] == [True], "never early"
        assert len(offline.requests(MODEL)) == 2


def test_messages_of_a_session_queue_and_sessions_run_side_by_side(tmp_path: Path) -> None:
    sessions = dict.fromkeys(key for key, _ in BURST)
    with session(tmp_path) as (agents, offline):
        offline.order(Fault("slow", path=MODEL, seconds=HELD_SECONDS, times=None))
        ids = [agents.post(f"/Chat/{key}/message/send", {"message": text})["id"] for key, text in BURST]
        until(lambda: len(offline.requests(MODEL)) == len(sessions), "each session's first message is at the model")
        assert agents.web.get("/Chat/session123/get_history").json() == [{"role": "user", "content": BURST[0][1]}], (
            "a reader does not wait for the writer"
        )
        seconds = [id for id, (key, text) in zip(ids, BURST, strict=True) if text != first_of(key)]
        queues = [agents.web.get(f"/invocations/{id}").json()["queue"] for id in seconds]
        assert [queue["holder"] for queue in queues] == [ids[0], ids[1], ids[2]]
        assert len(offline.requests(MODEL)) == len(sessions), "a second message waits for the first of its session"
        agents.kill()
        offline.clear_faults()
        agents.start()
        assert [agents.result(id) for id in ids] == [f"You said: {text}" for _, text in BURST]
        for key in sessions:
            told = [line["content"] for line in agents.web.get(f"/Chat/{key}/get_history").json()]
            said = [text for session, text in BURST if session == key]
            assert told == [line for text in said for line in (text, f"You said: {text}")]


def first_of(key: str) -> str:
    return next(text for session, text in BURST if session == key)
