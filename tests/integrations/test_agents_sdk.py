"""The OpenAI Agents SDK in handlers: its own code, run to the end through a death at every commit."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    ModelSettings,
    RunConfig,
    RunContextWrapper,
    RunHooks,
    Runner,
    SQLiteSession,
    function_tool,
    handoff,
    input_guardrail,
    output_guardrail,
)
from agents.retry import ModelRetrySettings
from pydantic import BaseModel

from holdfast import (
    AsyncClient,
    BadArguments,
    Context,
    Holdfast,
    InvocationFailed,
    MemoryStore,
    Object,
    ObjectContext,
    Retry,
    Service,
    TerminalError,
    WrongPlace,
)
from holdfast.integrations.openai_agents import Approval, DurableProvider, DurableSession, Price, run, run_streamed
from tests.integrations.dying import ID, Dying, die_everywhere
from tests.integrations.scripted import Item, Provider, Scripted, outputs

COUNTS: Counter[str] = Counter()
ONCE = Retry(max_attempts=1)


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    COUNTS.clear()


def counted() -> Counter[str]:
    counts = Counter(COUNTS)
    COUNTS.clear()
    return counts


def scripted(script: Any) -> Scripted:
    return Scripted(script, before=lambda: COUNTS.update(["model"]))


@function_tool
async def weather(city: str) -> str:
    """The weather of a city."""
    COUNTS.update(["weather"])
    await asyncio.sleep(0.001 * len(city))
    return f"sunny in {city}"


@function_tool
def slow_weather(city: str) -> str:
    """A tool that blocks its thread."""
    COUNTS.update(["slow_weather"])
    return f"rain in {city}"


async def charge(amount: int) -> str:
    COUNTS.update(["charge"])
    return f"paid {amount}"


@function_tool
async def pay(wrapper: RunContextWrapper[Context], amount: int) -> str:
    """A tool with steps of its own."""
    first = await wrapper.context.run(charge, amount)
    await asyncio.sleep(0.001)
    return f"{first}, {await wrapper.context.run(charge, amount + 1)}"


def handler_of(agent: Agent[Any], **options: Any) -> Service:
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> Any:
        return (await run(agent, text, **options)).final_output

    return service


def start_it(client: AsyncClient) -> Any:
    return client.start("S/h", "go", id=ID)


def once(service: Service | Object, **options: Any) -> Any:
    return asyncio.run(Dying(service, start_it, **options).live())


def everywhere(service: Service, answers: Any = None, every: int = 1) -> Any:
    def make() -> Dying:
        made = Dying(service, start_it)
        made.answer_asks = answers
        return made

    answer, died = die_everywhere(make, counted, every=every)
    assert died >= 4
    return answer


def test_tools_of_one_turn_run_at_once_and_nothing_finished_runs_again() -> None:
    def script(items: list[Item]) -> Any:
        said = outputs(items)
        if len(said) < 4:
            return [
                ("weather", '{"city":"Rome"}'), ("weather", '{"city":"Montevideo"}'), ("pay", '{"amount":3}'),
                ("slow_weather", '{"city":"Oslo"}'),
            ]  # fmt: skip
        return "; ".join(said)

    agent = Agent(name="A", instructions="be", model=scripted(script), tools=[weather, pay, slow_weather])
    answer = everywhere(handler_of(agent))
    assert answer == "sunny in Rome; sunny in Montevideo; paid 3, paid 4; rain in Oslo"


def test_several_turns() -> None:
    cities = ["Rome", "Oslo", "Lima"]

    def script(items: list[Item]) -> Any:
        said = outputs(items)
        return [("weather", json.dumps({"city": cities[len(said)]}))] if len(said) < 3 else "; ".join(said)

    agent = Agent(name="A", model=scripted(script), tools=[weather])
    assert everywhere(handler_of(agent)) == "sunny in Rome; sunny in Oslo; sunny in Lima"


@pytest.mark.parametrize("way", ["of the agent", "by name", "of the run", "of a provider"])
def test_every_way_to_give_a_model_is_durable(way: str) -> None:
    model = scripted(lambda items: "hello")
    config = {
        "of the agent": None,
        "by name": RunConfig(model="any", model_provider=Provider(model)),
        "of the run": RunConfig(model=model),
        "of a provider": RunConfig(model_provider=DurableProvider(Provider(model))),
    }[way]
    agent = Agent(name="A", model=model if way == "of the agent" else None)
    assert everywhere(handler_of(agent, run_config=config)) == "hello"


def test_the_stock_runner_is_durable_too() -> None:
    def script(items: list[Item]) -> Any:
        return "hello" if outputs(items) else [("weather", '{"city":"Rome"}')]

    agent = Agent(name="A", model=scripted(script), tools=[weather])
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        return str((await Runner.run(agent, text)).final_output)

    assert everywhere(service) == "hello"


def test_handoffs_agents_as_tools_guardrails_and_output_types() -> None:
    class Verdict(BaseModel):
        ok: bool
        why: str

    checker = Agent(name="Checker", model=scripted(lambda items: "fine"))
    expert = Agent(
        name="Expert", model=scripted(lambda items: "expert says " + (outputs(items) or ["?"])[-1]
                                      if outputs(items) else [("weather", '{"city":"Rome"}')]), tools=[weather],
    )  # fmt: skip

    @input_guardrail
    async def looked_at(wrapper: Any, agent: Any, input: Any) -> GuardrailFunctionOutput:
        said = await Runner.run(checker, "is this fine?")
        return GuardrailFunctionOutput(said.final_output, tripwire_triggered=said.final_output != "fine")

    @output_guardrail
    async def weighed(wrapper: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, tripwire_triggered=not output.ok)

    last = Agent(
        name="Last", model=scripted(lambda items: json.dumps({"ok": True, "why": outputs(items)[-1][:60]})),
        output_type=Verdict, output_guardrails=[weighed],
    )  # fmt: skip

    def first(items: list[Item]) -> Any:
        return [("transfer_to_last", "{}")] if outputs(items) else [("expert", '{"input":"weather?"}')]

    agent = Agent(
        name="First", model=scripted(first), input_guardrails=[looked_at], handoffs=[handoff(last)],
        tools=[expert.as_tool("expert", "asks the expert")],
    )  # fmt: skip
    last.handoffs = [agent]  # a circle
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> list[str]:
        result = await run(agent, text)
        assert result.last_agent is last, "the result names the agents that were given"
        assert all(item.agent is agent or item.agent is last for item in result.new_items)
        assert agent.tools[0].name == "expert"
        return [result.last_agent.name, result.final_output.why]

    answer = everywhere(service)
    assert answer[0] == "Last"


def test_a_guardrail_that_trips() -> None:
    @input_guardrail
    async def never(wrapper: Any, agent: Any, input: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, tripwire_triggered=True)

    agent = Agent(name="A", model=scripted(lambda items: "hello"), input_guardrails=[never])
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        with pytest.raises(InputGuardrailTripwireTriggered):
            await run(agent, text)
        return "tripped"

    assert once(service) == "tripped"


def needy(reject: bool = False) -> tuple[Agent[Any], list[Any]]:
    ran: list[Any] = []

    @function_tool(needs_approval=True)
    async def delete(path: str) -> str:
        COUNTS.update(["delete"])
        ran.append(path)
        return f"deleted {path}"

    def script(items: list[Item]) -> Any:
        said = outputs(items)
        return "; ".join(said) if said else [("delete", '{"path":"/a"}'), ("delete", '{"path":"/b"}')]

    return Agent(name="A", model=scripted(script), tools=[delete]), ran


@pytest.mark.parametrize(
    "answer, said",
    [
        (Approval("approve"), "deleted /a; deleted /b"),
        (Approval("edit", {"path": "/c"}), "deleted /c; deleted /c"),
        (Approval("reject", reason="not today"), "not today; not today"),
    ],
    ids=["approve", "edit", "reject"],
)
def test_a_tool_that_needs_approval_is_an_ask(answer: Approval, said: str) -> None:
    agent, _ = needy()
    seen = []

    def answers(ask: Any) -> Approval:
        seen.append((ask.question, ask.about["tool"], ask.about["arguments"]))
        return answer

    assert everywhere(handler_of(agent), answers) == said
    assert ("May A call delete?", "delete", {"path": "/a"}) in seen


def test_an_approval_of_an_agent_used_as_a_tool() -> None:
    inner, _ = needy()
    outer = Agent(
        name="Outer", tools=[inner.as_tool("helper", "helps")],
        model=scripted(lambda items: "; ".join(outputs(items)) if outputs(items) else [("helper", '{"input":"x"}')]),
    )  # fmt: skip
    assert everywhere(handler_of(outer), lambda ask: Approval("approve")) == "deleted /a; deleted /b"


def test_an_edit_without_arguments_is_refused() -> None:
    agent, _ = needy()

    async def main() -> None:
        async with Holdfast(MemoryStore(), services=[handler_of(agent)]) as client:
            await client.start("S/h", "go", id=ID)
            while not (asks := await client.asks()):
                await asyncio.sleep(0.01)
            with pytest.raises(BadArguments):
                await client.answer(asks[0].id, {"decision": "edit"})

    asyncio.run(main())


def test_a_failing_tool_is_tried_again_and_then_the_model_is_told() -> None:
    @function_tool
    async def broken() -> str:
        COUNTS.update(["broken"])
        raise ConnectionError("down")

    def script(items: list[Item]) -> Any:
        return "told: " + outputs(items)[0] if outputs(items) else [("broken", "{}")]

    agent = Agent(name="A", model=scripted(script), tools=[broken])
    answer = once(handler_of(agent, tool_retry=Retry(max_attempts=3, initial=0)))
    assert answer.startswith("told: An error occurred while running the tool")
    assert counted()["broken"] == 3


@pytest.mark.parametrize("arguments", ["{not json", '{"town":"Rome"}', '{"city":7}', ""])
def test_arguments_that_do_not_fit_are_told_to_the_model_at_once(arguments: str) -> None:
    def script(items: list[Item]) -> Any:
        return "told: " + outputs(items)[0] if outputs(items) else [("weather", arguments)]

    agent = Agent(name="A", model=scripted(script), tools=[weather])
    answer = once(handler_of(agent))
    assert answer.startswith("told: An error occurred")
    assert counted()["weather"] == 0


@pytest.mark.parametrize("kind", ["step", "handler code", "agent"])
def test_a_terminal_error_goes_through_everything(kind: str) -> None:
    @function_tool
    async def refuse() -> str:
        raise TerminalError("never", status=451)

    @function_tool
    async def refuse_there(wrapper: RunContextWrapper[Context]) -> str:
        raise TerminalError("never", status=451)

    tools = {"step": refuse, "handler code": refuse_there}
    inner = Agent(name="Inner", model=scripted(lambda items: [("refuse", "{}")]), tools=[refuse])
    tool = tools.get(kind) or inner.as_tool("inner", "")
    agent = Agent(name="A", model=scripted(lambda items: [(tool.name, "{}" if kind != "agent" else '{"input":"x"}')]),
                  tools=[tool])  # fmt: skip
    with pytest.raises(TerminalError, match="never") as caught:
        once(handler_of(agent))
    assert caught.value.status == 451


def test_a_model_is_tried_again_by_one_policy_only() -> None:
    def down(items: list[Item]) -> Any:
        raise ConnectionError("the model is down")

    settings = ModelSettings(
        retry=ModelRetrySettings(max_retries=3, policy=lambda context: True, backoff={"initial_delay": 0})
    )
    agent = Agent(name="A", model=scripted(down), model_settings=settings)
    with pytest.raises(InvocationFailed, match="failed after 4 attempts"):
        once(handler_of(agent))
    assert counted()["model"] == 4
    with pytest.raises(InvocationFailed, match="failed after 2 attempts"):
        once(handler_of(agent, retry=Retry(max_attempts=2, initial=0)))
    assert counted()["model"] == 2


def test_an_unknown_tool_and_too_many_turns() -> None:
    agent = Agent(name="A", model=scripted(lambda items: [("nothing", "{}")]), tools=[weather])
    with pytest.raises(InvocationFailed, match="nothing"):
        once(handler_of(agent))
    agent = Agent(name="A", model=scripted(lambda items: [("weather", '{"city":"Rome"}')]), tools=[weather])
    with pytest.raises(InvocationFailed, match="Max turns"):
        once(handler_of(agent, max_turns=3))
    assert counted() == {"model": 4, "weather": 3}


def test_a_budget_is_a_hook_that_ends_the_run() -> None:
    class Budget(RunHooks[Any]):
        async def on_llm_end(self, context: RunContextWrapper[Any], *_: Any) -> None:
            if (spent := context.usage.total_tokens) > 3000:  # a call of this model takes 1100
                raise TerminalError(f"{spent} tokens are over the budget", status=402)

    agent = Agent(name="A", tools=[weather], model=scripted(lambda _: [("weather", '{"city":"Rome"}')]))
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        try:
            await run(agent, text, hooks=Budget())
        except TerminalError as error:
            return f"{error.status}: {error}"
        return "no end"

    assert everywhere(service) == "402: 3300 tokens are over the budget"


def test_a_tool_that_is_too_slow() -> None:
    @function_tool(timeout=0.05)
    async def slow() -> str:
        await asyncio.sleep(30)
        return "never"

    def script(items: list[Item]) -> Any:
        return "told: " + outputs(items)[0] if outputs(items) else [("slow", "{}")]

    agent = Agent(name="A", model=scripted(script), tools=[slow])
    assert "timed out" in everywhere(handler_of(agent))


def test_a_conversation_is_kept_by_its_key_and_a_turn_costs_the_same() -> None:
    chat = Object("Chat")
    agent = Agent(name="A", model=scripted(lambda items: f"{len(items)} things were said"))

    @chat.handler
    async def message(ctx: ObjectContext, text: str) -> str:
        return str((await run(agent, text, session=DurableSession())).final_output)

    @chat.handler(shared=True)
    async def history(ctx: ObjectContext) -> int:
        return len(await DurableSession().get_items())

    async def main() -> list[str]:
        async with Holdfast(MemoryStore(), services=[chat]) as client:
            said = [await client.call(message, f"hello {n}", key="ada") for n in range(3)]
            assert await client.call(history, key="ada") == 6
            assert await client.call(history, key="bob") == 0
            return said

    assert asyncio.run(main()) == ["1 things were said", "3 things were said", "5 things were said"]


def test_a_session_in_a_service_is_refused() -> None:
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        with pytest.raises(BadArguments, match="needs the state of a key"):
            DurableSession()
        return "refused"

    assert once(service) == "refused"


def test_the_sdks_own_file_is_refused_for_it_is_past_the_journal() -> None:
    service = Service("S")
    agent = Agent(name="A", model=scripted(lambda _: "said"))
    session = SQLiteSession("s")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        for begin in (run, Runner.run):
            with pytest.raises(BadArguments, match="SQLiteSession"):
                await begin(agent, text, session=session)
        with pytest.raises(BadArguments, match="SQLiteSession"):
            async for _ in run_streamed(agent, text, session=session).stream_events():
                pass
        return "refused"

    assert once(service) == "refused"
    session.close()


def test_a_streamed_run_gives_the_recorded_events_and_watchers_the_words() -> None:
    agent = Agent(name="A", tools=[weather], model=scripted(
        lambda items: "all is well today" if outputs(items) else [("weather", '{"city":"Rome"}')]
    ))  # fmt: skip
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> list[str]:
        streamed = run_streamed(agent, text)
        raw = [event.data async for event in streamed.stream_events() if event.type == "raw_response_event"]
        return [*[event.delta for event in raw if hasattr(event, "delta")], streamed.final_output]

    assert everywhere(service) == ["all", "is", "well", "today", "all is well today"]


def test_a_streamed_run_with_an_approval() -> None:
    agent, _ = needy()
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> Any:
        streamed = run_streamed(agent, text)
        async for _ in streamed.stream_events():
            pass
        return streamed.final_output

    assert everywhere(service, lambda ask: Approval("approve")) == "deleted /a; deleted /b"


def test_what_a_call_cost_is_recorded() -> None:
    agent = Agent(name="A", model=scripted(lambda items: "hello"))
    service = handler_of(agent, prices={"scripted": Price(input=2.0, output=10.0)})

    async def main() -> Any:
        async with Holdfast(MemoryStore(), services=[service]) as client:
            handle = await client.start("S/h", "go")
            await handle.result(5)
            return (await handle.journal())[0].output

    output = asyncio.run(main())
    assert output["model"] == "scripted"
    assert output["price"] == 0.003
    assert output["usage"]["input_tokens"] == 1000


def test_outside_a_handler_the_sdk_is_as_it_was() -> None:
    agent = Agent(name="A", model=scripted(lambda items: "hello"))
    assert asyncio.run(Runner.run(agent, "go")).final_output == "hello"
    with pytest.raises(WrongPlace):
        asyncio.run(run(agent, "go"))


def test_run_sync_in_a_handler_is_refused() -> None:
    agent = Agent(name="A", model=scripted(lambda items: "hello"))
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        with pytest.raises(WrongPlace, match="run_sync"):
            Runner.run_sync(agent, text)
        return "refused"

    assert once(service) == "refused"
