"""The Agents SDK over real HTTP: both APIs, both ways to run, and what goes wrong at a provider. Requests are counted
at the offline services."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from agents import Agent, OpenAIProvider, RunConfig, Runner, function_tool
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from examples.offline import Fault, OfflineServer
from examples.offline.conversation import Conversation, Reply
from holdfast import AsyncClient, Context, Holdfast, InvocationFailed, MemoryStore, Retry, Service, TerminalError
from holdfast.integrations.openai_agents import run, run_streamed

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}


def talk(conversation: Conversation) -> Reply:
    """Asks for a tool if there is one, once, and says what it was told."""
    for tool in conversation.tools:
        if not conversation.results(tool):
            return Reply.call(tool)
    return Reply("said: " + " ".join(result for tool in conversation.tools for result in conversation.results(tool)))


def forever(conversation: Conversation) -> Reply:
    return Reply.call(conversation.tools[0], n=conversation.answered)


@pytest.fixture(scope="module")
def offline() -> Iterator[OfflineServer]:
    with OfflineServer(models={"talk": talk, "forever": forever}) as server:
        yield server


@pytest.fixture(autouse=True)
def _clean(offline: OfflineServer) -> None:
    offline.reset()


def client_of(offline: OfflineServer) -> AsyncOpenAI:
    http = DefaultAsyncHttpxClient(verify=False)  # reads none of the machine's certificates, which takes its time
    return AsyncOpenAI(base_url=f"{offline.url}/v1", api_key="none", max_retries=2, http_client=http)


class Desk:
    """One agent, asked in a handler."""

    def __init__(
        self,
        offline: OfflineServer,
        api: str,
        *,
        streamed: bool = False,
        tools: Any = (),
        model: str = "talk",
        **more: Any,
    ) -> None:
        self.offline, self.api, self.streamed = offline, api, streamed
        self.agent = Agent(name="A", model=model, tools=list(tools))
        self.more = {"retry": Retry(max_attempts=4, initial=0), **more}

    async def answer(self, client: AsyncOpenAI, text: str) -> Any:
        config = RunConfig(model_provider=OpenAIProvider(openai_client=client, use_responses=self.api == "responses"))
        if not self.streamed:
            return (await run(self.agent, text, run_config=config, **self.more)).final_output
        streamed = run_streamed(self.agent, text, run_config=config, **self.more)
        async for _ in streamed.stream_events():
            pass
        return streamed.final_output

    def ask(self, text: str = "hello", look: Any = None) -> Any:
        """The answer; the client's own retries are on, as most people have them."""
        service = Service("S")

        @service.handler
        async def h(ctx: Context, text: str) -> Any:
            return await self.answer(ctx.dep("openai"), text)

        async def main() -> Any:
            async with (
                client_of(self.offline) as client,
                Holdfast(MemoryStore(), services=[service], deps={"openai": client}) as holdfast,
            ):
                handle = await holdfast.start(h, text, id="it")
                return await (handle.result(20) if look is None else look(holdfast, handle))

        return asyncio.run(main())

    @property
    def requests(self) -> int:
        return len(self.offline.requests(PATHS[self.api]))


@pytest.fixture(params=["responses", "responses streamed", "chat", "chat streamed"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    api, _, streamed = request.param.partition(" ")
    return {"api": api, "streamed": bool(streamed)}


@function_tool
async def clock() -> str:
    return "noon"


def test_an_agent_with_a_tool(offline: OfflineServer, way: dict[str, Any]) -> None:
    desk = Desk(offline, tools=[clock], **way)
    assert desk.ask() == "said: noon"
    assert desk.requests == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault("error", status=500, times=2), Fault("error", status=429, retry_after=0.05, times=2),
        Fault("error", status=529, times=2), Fault("cut", times=2), Fault("malformed", times=2),
        Fault("empty", times=2),
    ],
    ids=["500", "429", "529", "cut", "malformed", "empty"],
)  # fmt: skip
def test_a_passing_failure_is_one_more_request_each(offline: OfflineServer, way: dict[str, Any], fault: Fault) -> None:
    desk = Desk(offline, **way)
    offline.order(fault)
    assert desk.ask() == "said: "
    assert desk.requests == 3


def test_three_retries_are_four_requests(offline: OfflineServer, way: dict[str, Any]) -> None:
    desk = Desk(offline, **way)
    offline.order(Fault("error", status=503, times=None))
    with pytest.raises(InvocationFailed, match="failed after 4 attempts: InternalServerError"):
        desk.ask()
    assert desk.requests == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_final(offline: OfflineServer, way: dict[str, Any], status: int) -> None:
    desk = Desk(offline, **way)
    offline.order(Fault("error", status=status, times=None))
    with pytest.raises(TerminalError, match="the model refused the request") as caught:
        desk.ask()
    assert (caught.value.status, desk.requests) == (status, 1)


def test_a_model_that_never_stops(offline: OfflineServer, way: dict[str, Any]) -> None:
    @function_tool
    async def again(n: int) -> str:
        return str(n)

    desk = Desk(offline, model="forever", tools=[again], max_turns=5, **way)
    with pytest.raises(InvocationFailed, match=r"Max turns \(5\)"):
        desk.ask()
    assert desk.requests == 5


def test_a_tool_result_of_5_mb(offline: OfflineServer) -> None:
    @function_tool
    async def book() -> str:
        return "x" * 5_000_000

    desk = Desk(offline, "responses", tools=[book])
    assert len(desk.ask()) > 5_000_000


def test_watchers_hear_the_words_before_the_answer_is_whole(offline: OfflineServer) -> None:
    desk = Desk(offline, "responses", streamed=True, tools=[clock])

    async def look(client: AsyncClient, handle: Any) -> list[Any]:
        return [event.data async for event in handle.watch() if event.kind == "chunk"]

    chunks = desk.ask(look=look)
    said = [chunk["event"] for chunk in chunks]
    words = [event["delta"] for event in said if event["type"] == "response.output_text.delta"]
    assert "".join(words) == "said: noon"


def test_a_call_past_the_journal_is_refused(offline: OfflineServer) -> None:
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        client: AsyncOpenAI = ctx.dep("openai")
        answer = await client.responses.create(model="talk", input=text)
        return answer.output_text

    async def main() -> Any:
        async with (
            client_of(offline) as client,
            Holdfast(MemoryStore(), services=[service], deps={"openai": client}) as holdfast,
        ):
            handle = await holdfast.start(h, "hello")
            while (view := await handle.status()).status not in {"paused", "failed"}:
                await asyncio.sleep(0.01)
            return view

    view = asyncio.run(main())
    assert "outside a step" in str(view.reason) or "HandlerIO" in str(view)
    assert offline.requests() == []


def test_the_stock_runner_without_a_provider_of_its_own(
    offline: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{offline.url}/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        return str((await Runner.run(Agent(name="A", model="talk"), text)).final_output)

    async def main() -> Any:
        async with Holdfast(MemoryStore(), services=[service]) as holdfast:
            return await holdfast.call(h, "hello")

    with pytest.raises(TerminalError, match=r"the model cannot be asked: .*api_key"):
        asyncio.run(main())
