"""Sessions with agents that are served: what a person does with curl, against a real process that is killed between.

The model, the weather and the person are outside: requests are counted at the model's own server.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from examples.offline.faults import Fault
from examples.offline.server import OfflineServer
from tests.http.processes import WAIT_SECONDS, Process, until

CLAIM = {"message": "Process my hospital bill of 3000USD for a broken leg."}


@contextmanager
def session(folder: Path, deadline: float = 3600.0) -> Iterator[tuple[Process, OfflineServer]]:
    with OfflineServer() as offline:
        agents = Process(
            "tests.http.sessions_app", folder, {"OFFLINE_URL": offline.url, "DEADLINE_SECONDS": str(deadline)}
        )
        try:
            yield agents, offline
        finally:
            agents.close()


def model_calls(offline: OfflineServer) -> int:
    return len(offline.requests("/v1/chat/completions"))


def test_weather_is_asked_for_and_its_outage_is_retried_in_sight(tmp_path: Path) -> None:
    with session(tmp_path) as (agents, offline):
        said = agents.post("/WeatherAgent/run", {"message": "What is the weather like in San Francisco?"})
        assert said == "San Francisco: Fog, 17.0 degrees."
        offline.order(Fault("error", path="/v1/current.json", contains="Denver", status=503, times=None))
        sent = agents.post("/WeatherAgent/run/send", {"message": "What is the weather like in Denver?"})["id"]

        def retrying() -> Any:
            lines = agents.web.get(f"/invocations/{sent}/journal").json()
            lines = lines["steps"] if isinstance(lines, dict) else lines
            return [line for line in lines if line["state"] == "retrying" and "503" in (line["error"] or "")]

        line = until(retrying, "the failing step is shown with its error")[0]
        assert line["tries"] >= 1
        before = model_calls(offline)
        agents.kill()
        offline.clear_faults()  # the fault is mended
        agents.start()
        assert agents.result(sent) == "Denver: Sunny, 21.0 degrees."
        assert model_calls(offline) == before + 1  # the turn that was finished is not asked for again


def test_a_claim_waits_for_a_person_over_a_kill_and_is_answered_by_one_request(tmp_path: Path) -> None:
    with session(tmp_path) as (agents, offline):
        sent = agents.post("/HumanClaimApprovalAgent/run/send", CLAIM)["id"]
        ask = until(lambda: agents.admin.get("/asks").json(), "the question is in the inbox")
        ask = (ask["asks"] if isinstance(ask, dict) else ask)[0]
        assert ask["question"] == "Approve a claim of 3000 USD?"
        assert agents.status(sent) == "suspended"
        agents.kill()
        agents.start()
        assert agents.status(sent) == "suspended"
        answer = agents.web.post(f"/promises/{ask['id']}/resolve", json=True)
        assert answer.status_code < 300, answer.text
        assert agents.result(sent) == "The claim of 3000 USD: approved."
        late = agents.web.post(f"/promises/{ask['id']}/resolve", json=False)
        assert late.status_code == 409
        assert late.json()["code"] == "HF109"
        assert model_calls(offline) == 2


def test_a_claim_with_a_deadline_is_declined_after_the_remaining_time(tmp_path: Path) -> None:
    with session(tmp_path, deadline=2.5) as (agents, offline):
        begun = time.monotonic()
        sent = agents.post("/HumanClaimApprovalWithTimeoutsAgent/run/send", CLAIM)["id"]
        until(lambda: agents.admin.get("/asks").json(), "the question is in the inbox")
        agents.kill()
        agents.start()
        assert agents.result(sent) == "The claim of 3000 USD: nobody answered in time: declined."
        assert time.monotonic() - begun >= 2.4
        assert model_calls(offline) == 2


def test_messages_of_a_session_queue_and_sessions_run_side_by_side(tmp_path: Path) -> None:
    burst = [
        ("session123", "make a poem about durable execution"),
        ("session456", "what are the benefits of durable execution?"),
        ("session789", "how does workflow orchestration work?"),
        ("session123", "can you make it rhyme better?"),
        ("session456", "what about fault tolerance in distributed systems?"),
        ("session789", "give me a practical example"),
        ("session101", "explain event sourcing in simple terms"),
        ("session202", "what is the difference between async and sync processing?"),
    ]
    with session(tmp_path) as (agents, offline):
        offline.order(Fault("slow", path="/v1/chat/completions", seconds=0.5, times=None))
        begun = time.monotonic()
        ids = [agents.post(f"/Chat/{key}/message/send", {"message": text})["id"] for key, text in burst]
        history: list[Any] = []

        def look() -> None:
            history.append(agents.web.get("/Chat/session123/get_history").json())

        reader = threading.Thread(target=look)
        reader.start()
        reader.join(WAIT_SECONDS)
        assert agents.status(ids[0]) != "done"  # the reader did not wait for the writer
        agents.kill()
        agents.start()
        answers = [agents.result(id) for id in ids]
        assert answers == [f"You said: {text}" for _, text in burst]
        # Eight messages one after another would take four seconds, and three of them wait for one of their own session.
        assert time.monotonic() - begun < 8 * 0.5 + 6
        told = agents.web.get("/Chat/session123/get_history").json()
        assert [line["content"] for line in told] == [
            burst[0][1], f"You said: {burst[0][1]}", burst[3][1], f"You said: {burst[3][1]}"
        ]  # fmt: skip
        assert history[0] in ([], told[:1])
