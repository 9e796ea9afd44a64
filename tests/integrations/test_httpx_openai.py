"""A plain AsyncOpenAI used directly in a handler, over the durable transport, against the offline model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from examples.offline import Fault, OfflineServer
from holdfast import Context, Holdfast, MemoryStore, Retry, StepFailed
from holdfast.integrations.httpx import DurableTransport as LegacyTransport
from holdfast.integrations.httpx2 import DurableTransport

pytestmark = pytest.mark.anyio
SOON = Retry(max_attempts=4, initial=0)
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def running():
    with OfflineServer() as made:
        yield made


@pytest.fixture
def server(running):
    running.reset()
    return running


@contextlib.asynccontextmanager
async def client_of(server: OfflineServer, **options) -> AsyncIterator[openai.AsyncOpenAI]:
    http = openai.DefaultAsyncHttpxClient(transport=DurableTransport(**options))
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-secret", http_client=http) as client:
        yield client


async def run(handler, store=None, id="it"):
    hf = Holdfast(store or MemoryStore())
    hf.handler(handler)
    async with hf as api:
        handle = await api.start(handler, id=id)
        result = await handle.result(10)
        return result, [line for line in await handle.journal() if line.kind == "step"]


async def test_a_call_in_the_handler_is_one_step_and_one_request(server):
    store = MemoryStore()
    async with client_of(server) as client:

        async def h(ctx: Context) -> str:
            answer = await client.chat.completions.create(model="m", messages=HELLO)
            return answer.choices[0].message.content

        result, lines = await run(h, store)
        assert result == "You said: hello there"
        assert [line.id for line in lines] == ["POST v1.chat.completions#1"]
        assert lines[0].inputs["body"] == {"messages": HELLO, "model": "m"}
        assert lines[0].output["json"]["object"] == "chat.completion"
    assert len(server.requests(CHAT)) == 1
    assert b"sk-secret" not in repr(vars(store)).encode()


async def test_another_client_in_another_life_finds_its_way(server):
    """A client asks for the name of the machine once in its life; the journal must not know about it."""
    store = MemoryStore()
    clients = []

    async def h(ctx: Context) -> list:
        one = await clients[-1].chat.completions.create(model="m", messages=HELLO)
        await ctx.sleep(0.15)
        two = await clients[-1].with_options(timeout=5).chat.completions.create(model="m", messages=HELLO)
        return [one.choices[0].message.content, two.choices[0].message.content]

    for used in (False, True):
        for used_again in (False, True):
            id = f"{used} {used_again}"
            async with client_of(server) as client:
                clients.append(client)
                if used:
                    await client.models.list()
                hf = Holdfast(store)
                hf.handler(h)
                async with hf as api:
                    with pytest.raises(TimeoutError):
                        await (await api.start(h, id=id)).result(0.1)
            async with client_of(server) as client:
                clients.append(client)
                if used_again:
                    await client.models.list()
                assert (await run(h, store, id))[0] == ["You said: hello there"] * 2
    assert len(server.requests(CHAT)) == 8


@pytest.mark.parametrize("transport", [DurableTransport, LegacyTransport], ids=["httpx2", "httpx"])
async def test_four_attempts_are_four_requests_and_the_clients_own_error(server, transport):
    server.order(Fault("error", path=CHAT, status=500, times=None))
    make = httpx.AsyncClient if transport is LegacyTransport else openai.DefaultAsyncHttpxClient
    http = make(transport=transport(retry=SOON))
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", http_client=http, max_retries=5) as client:

        async def h(ctx: Context) -> list:
            try:
                await client.chat.completions.create(model="m", messages=HELLO)
            except openai.InternalServerError as error:
                return [type(error).__name__, error.status_code]
            return []

        result, lines = await run(h)
    assert result == ["InternalServerError", 500]
    assert len(server.requests(CHAT)) == 4
    assert lines[0].tries == 4


async def test_two_failures_and_then_an_answer(server):
    server.order(Fault("error", path=CHAT, status=429, times=2, retry_after=0))
    async with client_of(server, retry=SOON) as client:

        async def h(ctx: Context) -> str:
            answer = await client.chat.completions.create(model="m", messages=HELLO)
            return answer.choices[0].message.content

        result, lines = await run(h)
    assert result == "You said: hello there"
    assert [request.status for request in server.requests(CHAT)] == [429, 429, 200]
    assert lines[0].tries == 3


async def test_a_service_that_is_not_there_is_the_steps_failure(server):
    http = openai.DefaultAsyncHttpxClient(transport=DurableTransport(retry=SOON))
    async with openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", http_client=http) as client:

        async def h(ctx: Context) -> list:
            try:
                await client.models.list()
            except StepFailed as failed:
                return [failed.error_type, failed.attempts]
            return []

        assert (await run(h))[0] == ["ConnectError", 4]


async def test_a_bad_request_is_the_clients_own_error_at_once(server):
    async with client_of(server) as client:

        async def h(ctx: Context) -> str:
            try:
                await client.chat.completions.create(model="m", messages=[])
            except openai.BadRequestError as error:
                return str(error.status_code)
            return ""

        assert (await run(h))[0] == "400"
    assert len(server.requests(CHAT)) == 1


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_stream_is_read_from_the_journal_word_for_word(server, api):
    store = MemoryStore()
    clients = []

    async def h(ctx: Context) -> list:
        words = []
        if api == "chat":
            stream = await clients[-1].chat.completions.create(model="m", messages=HELLO, stream=True)
            async for chunk in stream:
                words += [chunk.choices[0].delta.content] if chunk.choices else []
        else:
            async for event in await clients[-1].responses.create(model="m", input="hello there", stream=True):
                words += [event.delta] if event.type == "response.output_text.delta" else []
        await ctx.sleep(0.3)
        return [word for word in words if word]

    async with client_of(server) as client:
        clients.append(client)
        hf = Holdfast(store)
        hf.handler(h)
        async with hf as handles:
            with pytest.raises(TimeoutError):
                await (await handles.start(h, id="it")).result(0.2)
    async with client_of(server) as client:
        clients.append(client)
        result, lines = await run(h, store)
    assert result == ["You ", "said: ", "hello ", "there"]
    assert len(server.requests("/v1/")) == 1
    assert "data: {" in lines[0].output["text"]


async def test_a_stream_that_is_cut_is_asked_for_again(server):
    server.order(Fault("cut", path=CHAT))
    async with client_of(server, retry=SOON) as client:

        async def h(ctx: Context) -> str:
            text = ""
            async for chunk in await client.chat.completions.create(model="m", messages=HELLO, stream=True):
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            return text

        assert (await run(h))[0] == "You said: hello there"
    assert [request.outcome for request in server.requests(CHAT)] == ["cut", "answered"]


async def test_many_calls_at_once_replay_in_their_places(server):
    store = MemoryStore()

    async def ask(client: openai.AsyncOpenAI, text: str) -> str:
        message = {"role": "user", "content": text}
        answer = await client.chat.completions.create(model="m", messages=[message])
        return answer.choices[0].message.content

    clients = []

    async def h(ctx: Context) -> list:
        said = await asyncio.gather(*(ask(clients[-1], f"number {n}") for n in range(5)))
        await ctx.sleep(0.3)
        return [*said, *await asyncio.gather(*(ask(clients[-1], text) for text in said))]

    async with client_of(server) as client:
        clients.append(client)
        hf = Holdfast(store)
        hf.handler(h)
        async with hf as api:
            with pytest.raises(TimeoutError):
                await (await api.start(h, id="it")).result(0.2)
    before = len(server.requests(CHAT))
    async with client_of(server) as client:
        clients.append(client)
        result, _ = await run(h, store)
    assert result[:5] == [f"You said: number {n}" for n in range(5)]
    assert result[5:] == [f"You said: You said: number {n}" for n in range(5)]
    assert (before, len(server.requests(CHAT))) == (5, 10)
