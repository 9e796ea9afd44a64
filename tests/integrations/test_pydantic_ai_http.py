"""Pydantic AI over HTTP: what goes wrong at a provider has one outcome each, and is asked for as often as we say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from examples.offline import Fault, OfflineServer, Reply
from holdfast import Context, Holdfast, InvocationFailed, MemoryStore, Retry, TerminalError
from holdfast.integrations.pydantic_ai import HoldfastDurability, tell_watchers

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
SOON = Retry(max_attempts=4, initial=0)
BIG = 5 * 1024 * 1024


def digging(talk: Any) -> Reply:
    """Digs once and says how much came out of it."""
    found = talk.results("dig")
    return Reply(f"{len(found[0])} characters") if found else Reply.call("dig")


def endless(talk: Any) -> Reply:
    """Never comes to an end."""
    return Reply.call("dig", depth=talk.answered)


@pytest.fixture(scope="module")
def running():
    with OfflineServer(models={"digging": digging, "endless": endless}) as made:
        yield made


@pytest.fixture
def server(running):
    running.reset()
    return running


@contextlib.asynccontextmanager
async def agent_of(server: OfflineServer, model: str = "echo", **options: Any) -> AsyncIterator[Agent[Any, Any]]:
    http = openai.DefaultAsyncHttpxClient(verify=False)  # reads none of the machine's certificates
    # The client's own retries are on, as most people have them.
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-secret", http_client=http) as client:
        known = OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))
        yield Agent(known, name="guide", capabilities=[HoldfastDurability(retry=SOON, **options)])


async def run(agent: Agent[Any, Any], **options: Any) -> tuple[Any, MemoryStore]:
    async def h(ctx: Context) -> Any:
        return (await agent.run("hello there", **options)).output

    store = MemoryStore()
    hf = Holdfast(store)
    hf.handler(h)
    async with hf as client:
        return await (await client.start(h)).result(20), store


async def test_a_request_is_made_once(server):
    async with agent_of(server) as agent:
        result, store = await run(agent)
    assert result == "You said: hello there"
    assert len(server.requests(CHAT)) == 1
    assert "sk-secret" not in repr(vars(store))


async def test_four_attempts_are_four_requests(server):
    server.order(Fault("error", path=CHAT, times=None))
    async with agent_of(server) as agent:
        with pytest.raises(InvocationFailed, match="failed after 4 attempts"):
            await run(agent)
    assert len(server.requests(CHAT)) == 4


FAULTS = {
    "an error": Fault("error", path=CHAT, status=502, times=2),
    "too many requests": Fault("error", path=CHAT, status=429, retry_after=0, times=2),
    "rubbish": Fault("malformed", path=CHAT, times=2),
    "a broken connection": Fault("cut", path=CHAT, times=2),
}


@pytest.mark.parametrize("how", ["whole", "streamed"])
@pytest.mark.parametrize("case", FAULTS)
async def test_what_passes_is_waited_for(server, case, how):
    server.order(FAULTS[case])
    options = {"event_stream_handler": tell_watchers} if how == "streamed" else {}
    async with agent_of(server, **options) as agent:
        result, _ = await run(agent)
    assert result == "You said: hello there"
    assert len(server.requests(CHAT)) == 3


async def test_an_answer_without_choices_is_a_failed_attempt(server):
    server.order(Fault("empty", path=CHAT, times=2))
    async with agent_of(server) as agent:
        assert (await run(agent))[0] == "You said: hello there"
    assert len(server.requests(CHAT)) == 3


async def test_a_stream_without_a_word_is_the_librarys_to_judge(server):
    """It may be the end of a run whose tools have done all; if not, the library asks again, once by default."""
    server.order(Fault("empty", path=CHAT, times=1))
    async with agent_of(server, event_stream_handler=tell_watchers) as agent:
        assert (await run(agent))[0] == "You said: Please return text."
    assert len(server.requests(CHAT)) == 2


async def test_what_is_refused_for_good_is_not_asked_again(server):
    server.order(Fault("error", path=CHAT, status=401, times=None))
    async with agent_of(server) as agent:
        with pytest.raises(TerminalError) as caught:
            await run(agent)
    assert caught.value.status == 401
    assert len(server.requests(CHAT)) == 1


async def test_a_tool_may_return_five_megabytes(server):
    async with agent_of(server, "digging") as agent:

        @agent.tool_plain
        def dig() -> str:
            return "x" * BIG

        result, _ = await run(agent)
    assert result == f"{BIG} characters"


async def test_a_model_that_never_stops_is_stopped(server):
    async with agent_of(server, "endless") as agent:

        @agent.tool_plain
        def dig(depth: int) -> str:
            return f"{depth} deep"

        with pytest.raises(InvocationFailed, match="UsageLimitExceeded"):
            await run(agent, usage_limits=UsageLimits(request_limit=5))
    assert len(server.requests(CHAT)) == 5


async def test_a_tool_that_is_not_there_is_told_to_the_model(server):
    async with agent_of(server, "digging") as agent:

        @agent.tool_plain
        def drill() -> str:
            return "never"

        result, _ = await run(agent)
    assert result.endswith("characters")
