"""Pydantic AI in handlers: its own code, run to the end through a death at every commit."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from fastmcp.client.transports import StdioTransport
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, ModelRetry, RunContext, ToolOutput, UserError
from pydantic_ai.capabilities import RequestInput
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults
from pydantic_ai.toolsets import DynamicToolset, FunctionToolset

from holdfast import (
    AsyncClient,
    Context,
    Holdfast,
    InvocationFailed,
    InvocationPaused,
    MemoryStore,
    Retry,
    Service,
    TerminalError,
    current,
)
from holdfast.integrations.pydantic_ai import Approval, HoldfastDurability, tell_watchers
from tests.integrations.dying import ID, Dying, die_everywhere

pytestmark = pytest.mark.anyio
COUNTS: Counter[str] = Counter()
SOON = Retry(max_attempts=3, initial=0)


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    COUNTS.clear()


def counted() -> Counter[str]:
    counts = Counter(COUNTS)
    COUNTS.clear()
    return counts


def told(messages: list[Any]) -> list[str]:
    """What tools, or the library in their place, have told the model."""
    parts = [part for message in messages for part in message.parts]
    return [str(part.content) for part in parts if isinstance(part, ToolReturnPart | RetryPromptPart)]


def calls(*wanted: tuple[str, dict[str, Any]]) -> ModelResponse:
    return ModelResponse(
        parts=[ToolCallPart(name, arguments, tool_call_id=f"{name}-{n}") for n, (name, arguments) in enumerate(wanted)]
    )


def model(script: Any) -> FunctionModel:
    """A model that says what the script makes of the conversation: a text, or calls of tools."""

    def answer(messages: list[Any], info: AgentInfo) -> ModelResponse:
        COUNTS["model"] += 1
        said = script(messages)
        return ModelResponse(parts=[TextPart(said)]) if isinstance(said, str) else said

    return FunctionModel(answer)


def agent_of(script: Any, durability: HoldfastDurability | None = None, **options: Any) -> Agent[Any, Any]:
    capabilities = [durability or HoldfastDurability(), *options.pop("capabilities", [])]
    return Agent(model(script), name="guide", capabilities=capabilities, **options)


async def run(handler: Any, store: MemoryStore | None = None, answer: Any = None) -> tuple[Any, list[Any]]:
    """A handler's result and its journal; its questions are answered."""
    hf = Holdfast(store or MemoryStore())
    hf.handler(handler)
    async with hf as client:
        handle = await client.start(handler, id=ID)
        while True:
            try:
                result = await handle.result(0.05 if answer else 10)
                return result, await handle.journal()
            except TimeoutError:
                for ask in await client.asks():
                    await client.answer(ask.id, answer(ask))


def handler_of(agent: Agent[Any, Any], prompt: str = "go", **options: Any) -> Any:
    async def h(ctx: Context) -> Any:
        return (await agent.run(prompt, **options)).output

    return h


def three_cities(messages: list[Any]) -> Any:
    answers = told(messages)
    if not answers:
        return calls(*(("weather", {"city": city}) for city in ("Rome", "Oslo", "Kyiv")), ("pay", {"amount": 3}))
    return "; ".join(answers)


def the_guide() -> Agent[Any, Any]:
    agent = agent_of(three_cities, instructions="You are a guide.")

    @agent.instructions
    def more(ctx: RunContext[Any]) -> str:
        return f"Attempt {ctx.run_step}."

    @agent.tool_plain
    async def weather(city: str) -> str:
        COUNTS["weather"] += 1
        await asyncio.sleep({"Rome": 0.003, "Oslo": 0.0, "Kyiv": 0.001}[city])
        return f"{city}: sunny"

    @agent.tool_plain(requires_approval=True)
    def pay(amount: int) -> str:
        COUNTS["pay"] += 1
        return f"paid {amount}"

    return agent


def test_a_death_at_every_commit_changes_nothing_and_pays_nothing_twice():
    agent = the_guide()

    def make() -> Dying:
        service = Service("S")

        @service.handler
        async def h(ctx: Context) -> str:
            return (await agent.run("go")).output

        async def start(client: AsyncClient) -> Any:
            return await client.start(h, id=ID)

        dying = Dying(service, start)
        dying.answer_asks = lambda _: Approval("edit", {"amount": 4})
        return dying

    answer, died = die_everywhere(make, counted)
    assert answer == "Rome: sunny; Oslo: sunny; Kyiv: sunny; paid 4"
    assert died >= 12


async def test_steps_are_called_as_the_tools_and_nothing_else_is_one():
    result, journal = await run(handler_of(the_guide()), answer=lambda _: Approval("approve"))
    assert result == "Rome: sunny; Oslo: sunny; Kyiv: sunny; paid 3"
    names = Counter(line.id.rpartition("/")[2].split("#")[0] for line in journal)
    assert names == {"model": 2, "weather": 3, "pay": 1, "ask": 1}
    shown = next(line for line in journal if "model#" in line.id).inputs[0]
    assert (shown["agent"], shown["model"]) == ("guide", "function:answer:")
    assert [line.inputs for line in journal if "pay#" in line.id] == [[{"amount": 3}]]


async def test_the_tools_of_a_turn_run_at_the_same_time():
    meeting = asyncio.Barrier(3)
    agent = agent_of(lambda messages: "; ".join(told(messages)) or calls(*(("meet", {"name": name}) for name in "abc")))

    @agent.tool_plain
    async def meet(name: str) -> str:
        await meeting.wait()
        return name

    assert (await run(handler_of(agent)))[0] == "a; b; c"


async def test_sync_tools_run_in_threads_and_other_sync_functions_where_they_are_called():
    threads = {}

    def seen(what: str) -> None:
        threads[what] = threading.current_thread() is threading.main_thread()

    agent = agent_of(lambda messages: "the end" if told(messages) else calls(("dig", {})), output_type=str)

    @agent.instructions
    def instructions() -> str:
        seen("instructions")
        return "Dig."

    @agent.output_validator
    def validate(text: str) -> str:
        seen("validator")
        return text.upper()

    @agent.tool_plain
    def dig() -> str:
        seen("tool")
        return "a hole"

    result, journal = await run(handler_of(agent))
    assert result == "THE END"
    assert threads == {"instructions": True, "validator": True, "tool": False}
    assert len(journal) == 3


DECISIONS = {
    "approve": (Approval("approve"), "paid 3"),
    "edit": (Approval("edit", {"amount": 1}), "paid 1"),
    "reject": (Approval("reject", reason="far too much"), "far too much"),
    "reject without a word": (Approval("reject"), "The tool call was denied."),
}


def payer(durability: HoldfastDurability | None = None, **options: Any) -> Agent[Any, Any]:
    agent = agent_of(lambda messages: "; ".join(told(messages)) or calls(("pay", {"amount": 3})), durability, **options)

    @agent.tool_plain(requires_approval=True)
    async def pay(amount: int) -> str:
        return f"paid {amount}"

    return agent


@pytest.mark.parametrize("case", DECISIONS)
async def test_a_persons_word_is_taken(case):
    answer, expected = DECISIONS[case]
    asked = []

    def decide(ask: Any) -> Approval:
        asked.append(ask)
        return answer

    assert (await run(handler_of(payer()), answer=decide))[0] == expected
    assert asked[0].question == "May guide call pay?"
    assert asked[0].about == {"agent": "guide", "tool": "pay", "arguments": {"amount": 3}}


def test_an_edit_without_arguments_is_refused():
    with pytest.raises(ValueError, match="needs the arguments"):
        Approval("edit")


async def test_without_approvals_the_run_ends_with_its_requests():
    agent = payer(HoldfastDurability(approvals=False), output_type=[str, DeferredToolRequests])

    async def h(ctx: Context) -> list:
        first = await agent.run("go")
        waiting = first.output.approvals[0]
        yes = await ctx.ask(f"{waiting.tool_name}?", bool)
        results = DeferredToolResults(approvals={waiting.tool_call_id: yes})
        second = await agent.run(message_history=first.all_messages(), deferred_tool_results=results)
        return [waiting.args_as_dict(), second.output]

    assert (await run(h, answer=lambda _: True))[0] == [{"amount": 3}, "paid 3"]


async def test_a_wait_for_an_outside_event_is_a_promise():
    tokens = []

    def ask(ctx: Any, requests: Any, token: str) -> None:
        COUNTS["ask"] += 1
        tokens.append(token)

    agent = payer(HoldfastDurability(approvals=False), capabilities=[RequestInput(ask)])
    store = MemoryStore()
    handler = handler_of(agent)
    hf = Holdfast(store)
    hf.handler(handler)
    async with hf as client:
        handle = await client.start(handler, id=ID)
        with pytest.raises(TimeoutError):
            await handle.result(0.1)
    async with hf as client:
        results = {"approvals": {"pay-0": {"kind": "tool-approved", "override_args": {"amount": 2}}}}
        await client.resolve(tokens[0], results)
        assert await (await client.start(handler, id=ID)).result(5) == "paid 2"
    assert COUNTS["ask"] == 1


@pytest.mark.parametrize("how", ["late", "rejected", "at once"])
async def test_the_ends_of_a_wait(how):
    rejected = []

    def ask(ctx: Any, requests: Any, token: str) -> Any:
        rejected.append(token)
        return requests.build_results(approve_all=True) if how == "at once" else None

    timeout = timedelta(seconds=0.05) if how == "late" else None
    agent = payer(HoldfastDurability(approvals=False), capabilities=[RequestInput(ask, timeout=timeout)])
    handler = handler_of(agent)
    hf = Holdfast(MemoryStore())
    hf.handler(handler)
    async with hf as client:
        handle = await client.start(handler, id=ID)
        if how == "rejected":
            with pytest.raises(TimeoutError):
                await handle.result(0.1)
            await client.reject(rejected[0], "nobody is here")
        result = await handle.result(5)
    expected = {"late": "nobody settled it within", "rejected": "nobody is here", "at once": "paid 3"}
    assert expected[how] in result


async def test_a_tool_may_be_handler_code_with_steps_of_its_own():
    agent = agent_of(lambda messages: "; ".join(told(messages)) or calls(("plan", {"city": "Rome"})))

    async def look_up(city: str) -> str:
        COUNTS["look_up"] += 1
        return f"{city} is old"

    @agent.tool_plain(metadata={"holdfast": False})
    async def plan(city: str) -> str:
        ctx = current()
        fact = await ctx.run(look_up, city)
        await ctx.sleep(0.01)
        return f"{fact}, {await ctx.ask('When?', str)}"

    result, journal = await run(handler_of(agent), answer=lambda _: "in May")
    assert result == "Rome is old, in May"
    assert [line.id.split("/")[-1] for line in journal if line.kind == "step"] == ["model#1", "look_up#1", "model#1"]


async def test_an_agent_in_a_tool_that_is_handler_code_is_durable_too():
    inner = Agent(
        model(lambda messages: "; ".join(told(messages)) or calls(("count", {}))), name="inner",
        capabilities=[HoldfastDurability()],
    )  # fmt: skip
    outer = agent_of(lambda messages: "; ".join(told(messages)) or calls(("delegate", {})))

    @inner.tool_plain
    async def count() -> str:
        return "three"

    @outer.tool_plain(metadata={"holdfast": False})
    async def delegate() -> str:
        return str((await inner.run("count")).output)

    result, journal = await run(handler_of(outer))
    assert result == "three"
    assert len([line for line in journal if "model#" in line.id]) == 4


def failing(error: Exception, times: int = 99) -> Any:
    async def tool() -> str:
        COUNTS["tool"] += 1
        if COUNTS["tool"] <= times:
            raise error
        return "fine"

    return tool


def with_tool(function: Any, durability: HoldfastDurability | None = None, **options: Any) -> Agent[Any, Any]:
    agent = agent_of(lambda messages: "; ".join(told(messages)) or calls(("tool", {})), durability)
    agent.tool_plain(name="tool", **options)(function)
    return agent


async def test_a_failing_tool_is_tried_again_and_the_model_does_not_know():
    agent = with_tool(failing(ConnectionError("busy"), times=2), HoldfastDurability(tool_retry=SOON))
    result, journal = await run(handler_of(agent))
    assert (result, COUNTS["tool"], COUNTS["model"]) == ("fine", 3, 2)
    assert [line.tries for line in journal if "tool#" in line.id] == [3]


async def test_a_tool_has_its_own_policy_in_its_metadata():
    agent = with_tool(failing(ConnectionError("busy")), metadata={"holdfast": SOON})
    with pytest.raises(InvocationFailed, match="ConnectionError: busy"):
        await run(handler_of(agent))
    assert COUNTS["tool"] == 3


@pytest.mark.parametrize("error", [ModelRetry("ask otherwise"), ToolFailed("ask otherwise")], ids=["retry", "failed"])
async def test_what_a_tool_tells_the_model_is_told_at_once(error):
    agent = with_tool(failing(error, times=1))
    result, _ = await run(handler_of(agent))
    assert "ask otherwise" in result or result == "fine"
    assert COUNTS["tool"] == 1


async def test_arguments_that_do_not_fit_are_told_to_the_model():
    agent = agent_of(
        lambda messages: f"told: {told(messages)}" if told(messages) else calls(("dig", {"depth": "deep"}))
    )

    @agent.tool_plain
    async def dig(depth: int) -> str:
        return "dug"

    result, journal = await run(handler_of(agent))
    assert "valid integer" in result
    assert len(journal) == 2


async def test_a_terminal_error_in_a_tool_ends_the_run():
    agent = with_tool(failing(TerminalError("no such account", status=404)))
    with pytest.raises(TerminalError, match="no such account") as caught:
        await run(handler_of(agent))
    assert (caught.value.status, COUNTS["tool"]) == (404, 1)


async def test_a_tool_that_returns_what_has_no_json_form_pauses():
    async def tool() -> Any:
        return threading.Lock()

    with pytest.raises(InvocationPaused, match="no JSON form"):
        await run(handler_of(with_tool(tool)))


class Trip(BaseModel):
    city: str
    days: int


async def test_an_output_type_is_asked_for_again_until_it_fits():
    def script(messages: list[Any]) -> Any:
        days = "three" if not told(messages) else 3
        return calls(("trip", {"city": "Rome", "days": days}))

    agent = agent_of(script, output_type=ToolOutput(Trip, name="trip"))

    async def h(ctx: Context) -> Trip:
        return (await agent.run("go")).output

    result, journal = await run(h)
    assert result == {"city": "Rome", "days": 3} or result == Trip(city="Rome", days=3)
    assert len(journal) == 2


async def test_a_tool_that_takes_too_long_is_told_to_the_model():
    async def tool() -> str:
        await asyncio.sleep(30)
        return "late"

    agent = agent_of(lambda messages: "; ".join(told(messages)) or calls(("tool", {})))
    agent.tool_plain(name="tool", timeout=0.05)(tool)
    assert "Timed out" in (await run(handler_of(agent)))[0]


async def test_a_run_is_walked_through_and_goes_on_with_its_history():
    agent = agent_of(lambda messages: f"after {len(messages)} messages")

    async def h(ctx: Context) -> list:
        nodes = []
        async with agent.iter("one") as first:
            nodes = [type(node).__name__ async for node in first]
        second = await agent.run("two", message_history=first.result.all_messages())
        return [nodes, second.output]

    result, journal = await run(h)
    assert result == [["UserPromptNode", "ModelRequestNode", "CallToolsNode", "End"], "after 3 messages"]
    assert len(journal) == 2


async def test_the_models_of_a_fallback_are_tried_in_one_step():
    def down(messages: list[Any], info: AgentInfo) -> ModelResponse:
        COUNTS["down"] += 1
        raise ModelHTTPError(503, "m")

    models = FallbackModel(FunctionModel(down), model(lambda messages: "from the second"))
    agent = Agent(models, name="guide", capabilities=[HoldfastDurability()])
    result, journal = await run(handler_of(agent))
    assert (result, len(journal), COUNTS) == ("from the second", 1, {"down": 1, "model": 1})


class Down:
    """A model that fails `times` times."""

    def __init__(self, status: int, times: int = 99, headers: dict[str, str] | None = None) -> None:
        def answer(messages: list[Any], info: AgentInfo) -> ModelResponse:
            COUNTS["model"] += 1
            if COUNTS["model"] <= times:
                raise ModelHTTPError(status, "m", {"message": "no"}, headers=headers)
            return ModelResponse(parts=[TextPart("at last")])

        self.agent = Agent(FunctionModel(answer), name="guide", capabilities=[HoldfastDurability(retry=SOON)])


async def test_a_model_that_is_down_is_asked_again():
    assert (await run(handler_of(Down(503, times=2).agent)))[0] == "at last"
    assert COUNTS["model"] == 3


async def test_a_model_that_stays_down_fails_the_step_after_its_attempts():
    with pytest.raises(InvocationFailed, match=r"StepFailed: .*failed after 3 attempts: Model.*status_code: 503"):
        await run(handler_of(Down(503).agent))
    assert COUNTS["model"] == 3


async def test_a_request_that_is_refused_is_not_made_again():
    with pytest.raises(TerminalError, match="status_code: 401") as caught:
        await run(handler_of(Down(401).agent))
    assert (caught.value.status, COUNTS["model"]) == (401, 1)


async def test_the_model_says_when_to_come_back():
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await run(handler_of(Down(429, 1, {"retry-after": "1"}).agent)))[0] == "at last"
    assert loop.time() - began >= 1


async def test_an_agent_that_is_set_up_wrongly_pauses():
    def answer(messages: list[Any], info: AgentInfo) -> ModelResponse:
        raise UserError("this model has no such setting")

    agent = Agent(FunctionModel(answer), name="guide", capabilities=[HoldfastDurability()])
    with pytest.raises(InvocationPaused, match="no such setting"):
        await run(handler_of(agent))


async def test_another_conversation_at_the_same_place_is_a_mismatch():
    prompts = ["to Rome"]
    agent = agent_of(lambda messages: "fine", instructions="Old words.")

    async def h(ctx: Context) -> str:
        said = (await agent.run(prompts[-1])).output
        await ctx.sleep(0.2)
        return str(said)

    store = MemoryStore()
    hf = Holdfast(store)
    hf.handler(h)
    async with hf as client:
        with pytest.raises(TimeoutError):
            await (await client.start(h, id=ID)).result(0.1)
    prompts.append("to Oslo")
    with pytest.raises(InvocationPaused, match="model#1"):
        await run(h, store)
    assert COUNTS["model"] == 1


async def test_ids_and_times_of_a_run_are_the_same_on_replay():
    agent = agent_of(lambda messages: "fine")
    seen = []

    async def h(ctx: Context) -> str:
        result = await agent.run("go", timeout=60)
        seen.append((result.run_id, result.conversation_id))
        await ctx.sleep(0.2)
        return str(result.output)

    store = MemoryStore()
    hf = Holdfast(store)
    hf.handler(h)
    async with hf as client:
        with pytest.raises(TimeoutError):
            await (await client.start(h, id=ID)).result(0.1)
    assert (await run(h, store))[0] == "fine"
    assert len(seen) == 2
    assert seen[0] == seen[1]


async def test_a_stream_is_handed_over_when_it_is_recorded():
    async def words(messages: list[Any], info: AgentInfo) -> Any:
        COUNTS["model"] += 1
        if not told(messages):
            yield {0: DeltaToolCall("dig", "{}", tool_call_id="dig-0")}
            return
        for word in ("You ", "found ", "gold"):
            yield word
            await asyncio.sleep(0.01)

    agent = Agent(
        FunctionModel(stream_function=words), name="guide",
        capabilities=[HoldfastDurability(event_stream_handler=tell_watchers)],
    )  # fmt: skip

    @agent.tool_plain
    async def dig() -> str:
        return "a chest"

    async def h(ctx: Context) -> list:
        async with agent.run_stream("go") as result:
            pieces = [text async for text in result.stream_text(delta=True, debounce_by=None)]
        return [*pieces, (await agent.run("again")).output]

    hf = Holdfast(MemoryStore())
    hf.handler(h)
    async with hf as client:
        handle = await client.start(h, id=ID)
        chunks = [event.data["event"] async for event in handle.watch() if event.kind == "chunk"]
        result = await handle.result(5)
        journal = await handle.journal()
    assert "".join(result[:-1]) == result[-1] == "You found gold"
    kinds = {chunk["event_kind"] for chunk in chunks}
    assert kinds >= {"part_start", "part_delta"}
    assert {line.id.rpartition("/")[2].split("#")[0] for line in journal} == {"model", "dig"}
    assert COUNTS["model"] == 4


async def test_a_handler_of_events_gets_those_of_tools_in_steps():
    seen = []

    async def handler(ctx: RunContext[Any], stream: Any) -> None:
        seen.extend([event.event_kind async for event in stream])

    async def words(messages: list[Any], info: AgentInfo) -> Any:
        if not told(messages):
            yield {0: DeltaToolCall("dig", "{}", tool_call_id="dig-0")}
        else:
            yield "done"

    agent = Agent(
        FunctionModel(stream_function=words), name="guide",
        capabilities=[HoldfastDurability(event_stream_handler=handler)],
    )  # fmt: skip

    @agent.tool_plain
    async def dig() -> str:
        return "a chest"

    result, journal = await run(handler_of(agent))
    assert result == "done"
    assert {"part_start", "function_tool_call", "function_tool_result"} <= set(seen)
    assert [line for line in journal if "event#" in line.id]


async def test_outside_of_handlers_the_agent_is_what_it_is():
    agent = payer(HoldfastDurability(event_stream_handler=tell_watchers), output_type=[str, DeferredToolRequests])

    async def words(messages: list[Any], info: AgentInfo) -> Any:
        yield {0: DeltaToolCall("pay", '{"amount": 3}', tool_call_id="pay-0")}

    with agent.override(model=FunctionModel(stream_function=words)):
        result = await agent.run("go")
    assert [call.tool_name for call in result.output.approvals] == ["pay"]


async def test_toolsets_that_a_run_brings_along_are_refused():
    extra = FunctionToolset(id="extra")
    with pytest.raises(InvocationFailed, match="UserError"):
        await run(handler_of(the_guide(), toolsets=[extra]))


async def test_a_dynamic_toolset_is_looked_at_in_steps():
    inner = FunctionToolset(id="inner")

    @inner.tool_plain(metadata={"holdfast": SOON})
    async def dig() -> str:
        COUNTS["dig"] += 1
        if COUNTS["dig"] < 3:
            raise ConnectionError("busy")
        return "a chest"

    agent = agent_of(
        lambda messages: "; ".join(told(messages)) or calls(("dig", {})),
        toolsets=[DynamicToolset(lambda ctx: inner, id="changing")],
    )
    result, journal = await run(handler_of(agent))
    assert result == "a chest"
    names = Counter(line.id.rpartition("/")[2].split("#")[0] for line in journal)
    assert names == {"changing: tools": 2, "model": 2, "dig": 1}


SERVER = """
import sys
from mcp.server.mcpserver import MCPServer

server = MCPServer("calculator", instructions="Count well.")

@server.tool()
def add(a: int, b: int) -> int:
    with open(sys.argv[1], "a") as log:
        log.write("add ")
    return a + b

server.run("stdio")
"""


@pytest.mark.slow
async def test_an_mcp_server_is_used_in_steps(tmp_path):
    script, log = tmp_path / "server.py", tmp_path / "log"
    script.write_text(SERVER)
    transport = StdioTransport(sys.executable, [str(script), str(log)])
    agent = agent_of(
        lambda messages: "; ".join(told(messages)) or calls(("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})),
        toolsets=[MCPToolset(transport, id="calculator", include_instructions=True)],
    )
    store = MemoryStore()
    handler = handler_of(agent)
    result, journal = await run(handler, store)
    assert result == "3; 7"
    names = Counter(line.id.rpartition("/")[2].split("#")[0] for line in journal)
    assert names == {"calculator: tools": 1, "calculator: instructions": 2, "model": 2, "add": 2}
    assert (await run(handler, store))[0] == "3; 7"
    assert log.read_text() == "add add "
    await transport.close()


async def test_two_runs_at_once_do_not_mix():
    agent = agent_of(lambda messages: messages[0].parts[-1].content)

    async def h(ctx: Context) -> list:
        results = await asyncio.gather(*(agent.run(f"number {n}") for n in range(4)))
        return [result.output for result in results]

    assert (await run(h))[0] == [f"number {n}" for n in range(4)]
