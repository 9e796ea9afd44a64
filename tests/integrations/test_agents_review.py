"""Corners of the Agents SDK in handlers: whose options a run has, what an edit reaches, what a tool and a provider may
say, what a state from elsewhere may do."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from agents import (
    Agent,
    InputGuardrail,
    RunContextWrapper,
    RunHooks,
    Runner,
    RunState,
    ShellTool,
    Tool,
    ToolOutputText,
    function_tool,
    set_default_openai_client,
)
from agents.mcp import MCPServer
from agents.models import _openai_shared
from mcp.types import CallToolResult, TextContent
from mcp.types import Tool as MCPTool
from openai import AsyncOpenAI
from openai.types.responses import ResponseFunctionShellToolCall, ResponseOutputMessage, ResponseOutputText
from pydantic import BaseModel

from holdfast import BadArguments, Context, Holdfast, MemoryStore, Service, TerminalError
from holdfast.integrations.openai_agents import Approval, DurableProvider, Price, run, run_streamed
from tests.integrations.dying import Dying
from tests.integrations.scripted import Item, Scripted, outputs
from tests.integrations.test_agents_sdk import COUNTS, everywhere, handler_of, once, scripted, start_it, weather

PRICES = {"scripted": Price(input=2.0, output=10.0)}


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    COUNTS.clear()


def service_of(body: Callable[[Context], Awaitable[Any]]) -> Service:
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> Any:
        return await body(ctx)

    return service


def steps_of(service: Service) -> tuple[Any, list[Any]]:
    """The answer and the journal."""

    async def main() -> tuple[Any, list[Any]]:
        async with Holdfast(MemoryStore(), services=[service]) as client:
            handle = await client.start("S/h", "go")
            return await handle.result(5), list(await handle.journal())

    return asyncio.run(main())


def answered(service: Service, *answers: Approval) -> Any:
    """The result when the asks get these answers one after the other."""
    world, left = Dying(service, start_it), list(answers)
    world.answer_asks = lambda ask: left.pop(0)
    return asyncio.run(world.live())


def hello() -> Agent[Any]:
    return Agent(name="A", model=scripted(lambda items: "hello"))


def calling(name: str, arguments: str = "{}", turns: int = 1) -> Scripted:
    def script(items: list[Item]) -> Any:
        said = outputs(items)
        return "; ".join(said) if len(said) >= turns else [(name, arguments)]

    return scripted(script)


@function_tool(needs_approval=True)
async def delete(path: str) -> str:
    return f"deleted {path}"


def deleting(turns: int = 1) -> Agent[Any]:
    return Agent(name="Deleter", tools=[delete], model=calling("delete", '{"path":"/a"}', turns))


def test_options_are_those_of_one_run() -> None:
    async def body(ctx: Context) -> None:
        await run(hello(), "go", prices=PRICES)
        await Runner.run(hello(), "go")

    _, steps = steps_of(service_of(body))
    assert [step.output["price"] for step in steps] == [0.003, None]


def test_streamed_runs_made_before_they_are_read_have_their_own_options() -> None:
    async def body(ctx: Context) -> None:
        first = run_streamed(Agent(name="A", model=priced), "go", prices=PRICES)
        second = run_streamed(Agent(name="A", model=priced), "go")
        for streamed in (first, second):
            async for _ in streamed.stream_events():
                pass

    class Priced(Scripted):
        async def stream_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:
            async for event in super().stream_response(system_instructions, input):
                if event.type == "response.completed":
                    event.response.usage = usage
                yield event

    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    priced = Priced(lambda items: "hello")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Price, "of", lambda self, usage: 7.0)
        _, steps = steps_of(service_of(body))
    assert [step.output["price"] for step in steps] == [7.0, None]


def test_an_edit_inside_an_agent_as_a_tool_whose_calls_have_the_same_ids() -> None:
    agent = Agent(name="Outer", tools=[deleting().as_tool("helper", "helps")], model=calling("helper", '{"input":"x"}'))
    assert everywhere(handler_of(agent), lambda ask: Approval("edit", {"path": "/z"}), every=3) == "deleted /z"


def test_an_edit_counts_for_one_call() -> None:
    answers = [Approval("edit", {"path": "/z"}), Approval("approve")]
    assert answered(handler_of(deleting(turns=2)), *answers) == "deleted /z; deleted /a"


def test_an_edit_of_what_the_stock_runner_began() -> None:
    agent = deleting()

    async def body(ctx: Context) -> Any:
        state = (await Runner.run(agent, "go")).to_state()
        return (await run(agent, state)).final_output

    assert answered(service_of(body), Approval("edit", {"path": "/z"})) == "deleted /z"


class Disk(MCPServer):
    """A server in memory."""

    def __init__(self) -> None:
        super().__init__(require_approval="always")

    @property
    def name(self) -> str:
        return "disk"

    async def connect(self) -> None: ...

    async def cleanup(self) -> None: ...

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> list[MCPTool]:
        schema = {"type": "object", "properties": {"path": {"type": "string"}}}
        return [MCPTool(name="wipe", inputSchema=schema)]

    async def call_tool(self, tool_name: str, arguments: Any, *_: Any, **__: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text=f"wiped {arguments['path']}")])

    async def list_prompts(self) -> Any: ...

    async def get_prompt(self, name: str, arguments: Any = None) -> Any: ...


def test_an_edit_of_a_call_of_an_mcp_server() -> None:
    agent = Agent(name="A", mcp_servers=[Disk()], model=calling("wipe", '{"path":"/a"}'))
    assert "wiped /z" in answered(handler_of(agent), Approval("edit", {"path": "/z"}))


def test_an_edit_of_what_is_no_function_is_told_to_the_model_and_runs_nothing() -> None:
    ran: list[Any] = []

    class Shelling(Scripted):
        def _say(self, input: Any) -> list[Any]:
            told = "" if isinstance(input, str) else str([item for item in input if "output" in item])
            if "/z" in told:
                return super()._say(input)
            action = {"commands": ["rm /a"]}
            return [
                ResponseFunctionShellToolCall.model_validate(
                    {"id": "s", "call_id": "c", "type": "shell_call", "status": "completed", "action": action}
                )
            ]

    tool = ShellTool(executor=lambda request: str(ran.append(request)), needs_approval=True)
    agent = Agent(name="A", tools=[tool], model=Shelling(lambda items: "understood"))
    assert answered(handler_of(agent), Approval("edit", {"commands": ["rm /z"]})) == "understood"
    assert ran == []


def test_a_state_that_waits_and_was_read_from_json_is_refused() -> None:
    agent = deleting()

    async def body(ctx: Context) -> str:
        waiting = (await Runner.run(agent, "go")).to_state()
        state: RunState[Any] = await RunState.from_json(agent, waiting.to_json())
        with pytest.raises(BadArguments, match="wait for approval"):
            await run(agent, state)
        return "refused"

    assert once(service_of(body)) == "refused"


def test_a_stock_streamed_result_names_the_agents_that_were_given() -> None:
    agent = hello()

    async def body(ctx: Context) -> Any:
        result = Runner.run_streamed(agent, "go")
        async for _ in result.stream_events():
            pass
        assert result.last_agent is agent
        return result.final_output

    assert once(service_of(body)) == "hello"


def refuse(*_: Any, **__: Any) -> Any:
    raise TerminalError("never", status=451)


@function_tool
async def never() -> str:
    return str(refuse())


class Refusing(RunHooks[Any]):
    async def on_tool_start(self, *_: Any, **__: Any) -> None:
        refuse()


async def quiet(event: Any) -> None:
    """Looks at an event and says nothing."""


def refusing(where: str) -> tuple[Agent[Any], dict[str, Any]]:
    if where == "agent as a streamed tool":
        inner = Agent(name="Inner", tools=[never], model=calling("never"))
        tool = inner.as_tool("t", "", on_stream=quiet)
        return Agent(name="A", tools=[tool], model=calling("t", '{"input":"x"}')), {}
    agent = Agent(name="A", tools=[weather], model=calling("weather", '{"city":"Rome"}'))
    if where == "guardrail":
        agent.input_guardrails = [InputGuardrail(guardrail_function=refuse)]
    elif where == "instructions":
        agent.instructions = lambda context, agent: refuse()
    elif where == "tool_use_behavior":
        agent.tool_use_behavior = refuse
    return agent, {"hooks": Refusing()} if where == "hook" else {}


@pytest.mark.parametrize("way", ["run", "run_streamed", "stock", "stock streamed"])
@pytest.mark.parametrize(
    "where", ["guardrail", "hook", "instructions", "tool_use_behavior", "agent as a streamed tool"]
)
def test_a_terminal_error_gets_out_of_everything_that_is_called(where: str, way: str) -> None:
    agent, more = refusing(where)

    async def body(ctx: Context) -> Any:
        if way in {"run", "stock"}:
            return (await (run if way == "run" else Runner.run)(agent, "go", **more)).final_output
        streamed: Any = (run_streamed if way == "run_streamed" else Runner.run_streamed)(agent, "go", **more)
        async for _ in streamed.stream_events():
            pass
        return streamed.final_output

    with pytest.raises(TerminalError, match="never") as caught:
        once(service_of(body))
    assert caught.value.status == 451


class Model(BaseModel):
    type: str = "mine"


@dataclass
class Data:
    x: int


@pytest.mark.parametrize(
    "returns, value",
    [
        (str, 5), (str, None), (str, {"a": 1}), (dict, {"a": Data(1)}), (dict[str, Any], {"a": {1}}), (dict, {1: 2}),
        (Any, (1, 2)), (float, float("nan")), (list, [ToolOutputText(text="x")]), (Any, Model()), (object, Data(1)),
        (bytes, b"x"), (Data, Data(1)), (Model, Model()), (None, None), (tuple[int, int], (1, 2)), (set[int], {1}),
        (str | ToolOutputText, ToolOutputText(text="x")), (list[Data], [Data(1)]),
    ],
    ids=str,
)  # fmt: skip
def test_the_model_is_told_what_the_sdk_tells_it_whatever_a_tool_returns(returns: Any, value: Any) -> None:
    async def t() -> Any:
        return value

    t.__annotations__["return"] = returns
    agent = Agent(name="A", tools=[function_tool(t)], model=calling("t"))
    assert once(handler_of(agent)) == asyncio.run(Runner.run(agent, "go")).final_output


TEXT = ResponseOutputText.construct(text="hi", type="output_text", annotations=None)
ODD_TEXT = ResponseOutputText.construct(text="hi", type="output_text", annotations=[{"type": "new", "x": 1}], more=3)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("text", [TEXT, ODD_TEXT], ids=["less", "more"])
def test_an_answer_that_is_not_quite_as_the_api_says_is_recorded_as_it_came(text: Any, streamed: bool) -> None:
    said = ResponseOutputMessage.construct(type="message", role="assistant", status="done", content=[text])

    class Odd(Scripted):
        def _say(self, input: Any) -> list[Any]:
            super()._say(input)
            return [said]

    model = Odd(lambda items: "")

    async def body(ctx: Context) -> Any:
        agent = Agent(name="A", model=model)
        if not streamed:
            result: Any = await run(agent, "go")
        else:
            result = Runner.run_streamed(agent, "go")
            async for _ in result.stream_events():
                pass
        assert repr(result.raw_responses[0].output) == repr([said])
        return result.final_output

    assert once(service_of(body)) == "hi"
    assert model.calls.total() == 1


def test_a_default_client_that_is_set_later_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_openai_shared, "_default_openai_client", None)
    used: list[Any] = []
    for key in ("one", "two"):
        set_default_openai_client(AsyncOpenAI(api_key=key), use_for_tracing=False)
        model: Any = DurableProvider().get_model("gpt-4.1")
        used.append(model._find()._client.api_key)
    assert used == ["one", "two"]


def test_tools_that_a_subclass_of_agent_adds_are_steps() -> None:
    class Growing(Agent[Any]):
        async def get_all_tools(self, run_context: Any) -> list[Tool]:
            return [*await super().get_all_tools(run_context), weather]

    agent = Growing(name="A", model=calling("weather", '{"city":"Rome"}'))
    answer, steps = steps_of(handler_of(agent))
    assert answer == "sunny in Rome"
    assert [step.id.rpartition("/")[2] for step in steps] == ["model#1", "weather#1", "model#1"]


def test_an_agent_that_is_changed_between_two_runs_of_a_tool() -> None:
    helper = Agent(name="Helper", model=scripted(lambda items: "first"))

    @function_tool
    async def ask_twice(wrapper: RunContextWrapper[Context]) -> str:
        helper.model = scripted(lambda items: "first")
        first = await Runner.run(helper, "go")
        helper.model = scripted(lambda items: "second")
        return f"{first.final_output}, {(await Runner.run(helper, 'go')).final_output}"

    assert once(handler_of(Agent(name="A", tools=[ask_twice], model=calling("ask_twice")))) == "first, second"


def test_a_stream_that_a_handler_stops_reading() -> None:
    async def body(ctx: Context) -> Any:
        agent = Agent(name="A", tools=[weather], model=calling("weather", '{"city":"Rome"}'))
        async for event in run_streamed(agent, "go").stream_events():
            if event.type == "run_item_stream_event":
                break
        return (await run(hello(), "go")).final_output

    assert once(service_of(body)) == "hello"


def test_tools_made_in_a_handler_go_with_it() -> None:
    made: list[weakref.ref[Any]] = []

    async def body(ctx: Context) -> Any:
        async def t() -> str:
            return ctx.id

        made.append(weakref.ref(t))
        return (await run(Agent(name="A", tools=[function_tool(t)], model=calling("t")), "go")).final_output

    once(service_of(body))
    gc.collect()
    assert made[0]() is None
