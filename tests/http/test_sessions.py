"""Whole sessions of a person with curl: an agent with a flaky tool, an approval across a restart, one that comes too
late, and a chat in which messages of one session queue while sessions run side by side."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from holdfast import Context, Object, ObjectContext, Retry, Service
from tests.http.serving import problem, serving, wait_for

DOWN = {"times": 0}
AT_ONCE: dict[str, int] = {}
MOST: dict[str, int] = {}


@dataclass
class Prompt:
    """What every agent here takes."""

    message: str


weather = Service("WeatherAgent")
claims = Service("ClaimAgent")
chat = Object("Chat")


async def ask_model(prompt: str) -> str:
    return f"call weather for {prompt}"


async def fetch_weather(city: str) -> str:
    if DOWN["times"] > 0:
        DOWN["times"] -= 1
        raise ConnectionError("the weather service is down")
    return f"{city}: sunny"


@weather.handler
async def run(ctx: Context, prompt: Prompt) -> str:
    await ctx.run(ask_model, prompt.message)
    return await ctx.run(fetch_weather, "Denver", retry=Retry(initial=0.2))


@claims.handler
async def process(ctx: Context, prompt: Prompt, seconds: float | None = None) -> str:
    try:
        approved = await ctx.ask(f"Approve: {prompt.message}?", bool, timeout=seconds)
    except TimeoutError:
        return "timed out"
    return "approved" if approved else "rejected"


async def answer(session: str, message: str, turn: int) -> str:
    AT_ONCE[session] = AT_ONCE.get(session, 0) + 1
    MOST[session] = max(MOST.get(session, 0), AT_ONCE[session])
    MOST["all"] = max(MOST.get("all", 0), sum(AT_ONCE.values()))
    await asyncio.sleep(0.1)
    AT_ONCE[session] -= 1
    return f"{turn}: {message}"


@chat.handler
async def message(ctx: ObjectContext, prompt: Prompt) -> str:
    turn = len(ctx.items("history")) + 1
    said = await ctx.run(answer, ctx.key, prompt.message, turn)
    ctx.append("history", said)
    return said


@chat.handler(shared=True)
async def get_history(ctx: ObjectContext) -> list[str]:
    return ctx.items("history", str)


def test_an_agent_whose_tool_is_down_answers_when_it_is_back(tmp_path):
    DOWN["times"] = 2
    with serving(weather, store=tmp_path / "agent.db") as server:
        id = server.started("/WeatherAgent/run", json={"message": "Denver?"})

        def retried() -> list[dict]:
            journal = server.ingress.get(f"/invocations/{id}/journal").json()["steps"]
            return [step for step in journal if step["state"] == "retrying" and step["tries"] >= 1]

        (step,) = wait_for(retried)
        assert "the weather service is down" in step["error"]
        assert server.ingress.get(f"/invocations/{id}/result").json() == "Denver: sunny"
        model, tool = server.ingress.get(f"/invocations/{id}/journal").json()["steps"]
        assert (model["tries"], tool["tries"]) == (1, 3)


def test_a_claim_waits_for_its_approval_across_a_restart(tmp_path):
    path = tmp_path / "agent.db"
    with serving(claims, store=path) as server:
        id = server.started("/ClaimAgent/process", json={"prompt": {"message": "a broken leg, 3000 USD"}})
        promise = server.promise_of(id)
    with serving(claims, store=path) as server:
        assert server.status(id) == "suspended"
        assert server.promise_of(id) == promise
        assert server.ingress.post(f"/promises/{promise}/resolve", json=True).status_code == 200
        assert server.ingress.get(f"/invocations/{id}/result").json() == "approved"


def test_an_approval_that_comes_too_late_is_told_so(tmp_path):
    with serving(claims, store=tmp_path / "agent.db") as server:
        id = server.started("/ClaimAgent/process", json={"prompt": {"message": "a bill"}, "seconds": 0.3})
        promise = server.promise_of(id)
        assert server.ingress.get(f"/invocations/{id}/result").json() == "timed out"
        late = server.ingress.post(f"/promises/{promise}/resolve", json=True)
        assert (late.status_code, problem(late)["code"]) == (409, "HF109")
        assert server.ingress.get(f"/promises/{promise}").json()["status"] == "withdrawn"


def test_a_chat_remembers_across_requests_and_restarts(tmp_path):
    path = tmp_path / "agent.db"
    with serving(chat, store=path) as server:
        assert server.ingress.post("/Chat/session1/message", json={"message": "a poem"}).json() == "1: a poem"
    with serving(chat, store=path) as server:
        assert server.ingress.post("/Chat/session1/message", json={"message": "shorter"}).json() == "2: shorter"
        assert server.ingress.get("/Chat/session1/get_history").json() == ["1: a poem", "2: shorter"]


@pytest.mark.slow
def test_a_burst_over_several_sessions_queues_in_each_and_runs_side_by_side(tmp_path):
    MOST.clear()
    sessions = [f"session{number}" for number in range(5)]
    with serving(chat, store=tmp_path / "agent.db") as server, ThreadPoolExecutor(20) as pool:

        def send(number: int) -> None:
            server.started(f"/Chat/{sessions[number % 5]}/message", json={"message": str(number)})

        list(pool.map(send, range(20)))
        assert server.ingress.get("/Chat/session0/get_history").status_code == 200  # while its writers are at work
        for session in sessions:
            history = wait_for(lambda at=session: full(server, at))
            assert [line.partition(":")[0] for line in history] == ["1", "2", "3", "4"]
    assert all(MOST[session] == 1 for session in sessions)
    assert MOST["all"] > 1


def full(server, session: str) -> list[str] | None:
    history = server.ingress.get(f"/Chat/{session}/get_history").json()
    return history if len(history) == 4 else None
