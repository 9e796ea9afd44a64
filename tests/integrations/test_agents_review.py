"""Corners of the Agents SDK in handlers: each was wrong once, or might well have been."""

import asyncio
from typing import Any

import pytest
from agents import (
    Agent, GuardrailFunctionOutput, ModelSettings, RunConfig, RunContextWrapper, Runner, RunHooks, RunState,
    function_tool, handoff, input_guardrail, FunctionTool, ToolOutputText, ToolOutputImage,
)
from pydantic import BaseModel
from dataclasses import dataclass

from holdfast import Context, Holdfast, MemoryStore, Object, ObjectContext, Retry, Service, TerminalError, AsyncClient, current
from holdfast.integrations.openai_agents import Approval, DurableSession, Price, run, run_streamed
from tests.integrations.dying import ID, Dying, die_everywhere
from tests.integrations.scripted import Item, Provider, Scripted, outputs
from tests.integrations.test_agents_sdk import COUNTS, counted, everywhere, handler_of, once, scripted, weather, start_it, pay


def service_of(body):
    service = Service("S")
    @service.handler
    async def h(ctx: Context, text: str) -> Any:
        return await body(ctx, text)
    return service

def journal_of(service, wait=5):
    async def main() -> Any:
        async with Holdfast(MemoryStore(), services=[service]) as client:
            handle = await client.start("S/h", "go")
            try:
                r = await handle.result(wait)
            except BaseException as e:
                r = e
            return r, await handle.journal()
    return asyncio.run(main())

def hello():
    return Agent(name="A", model=scripted(lambda items: "hello"))

@pytest.fixture(autouse=True)
def _clear():
    COUNTS.clear()

PR = {"scripted": Price(input=2.0, output=10.0)}

def test_options_leak_run():
    async def body(ctx, text):
        await run(hello(), text, prices=PR)
        await Runner.run(hello(), text)
    _, j = journal_of(service_of(body))
    assert [e.output["price"] for e in j] == [0.003, None]

def test_options_streamed_made_early():
    async def body(ctx, text):
        a = run_streamed(hello(), text, prices=PR)
        b = run_streamed(hello(), text)
        async for _ in a.stream_events(): pass
        async for _ in b.stream_events(): pass
        await run(hello(), "x", prices={"scripted": Price(4.0, 20.0)})
    _, j = journal_of(service_of(body))
    print(j)
    assert j[0].output["price"] is not None or j[0].output["usage"] is None

def test_edit_in_agent_tool():
    @function_tool(needs_approval=True)
    async def delete(path: str) -> str:
        return f"deleted {path}"
    inner = Agent(name="I", tools=[delete], model=scripted(lambda items: "; ".join(outputs(items)) if outputs(items) else [("delete", '{"path":"/a"}')]))
    outer = Agent(name="O", tools=[inner.as_tool("helper", "h")], model=scripted(lambda items: "; ".join(outputs(items)) if outputs(items) else [("helper", '{"input":"x"}')]))
    assert everywhere(handler_of(outer), lambda a: Approval("edit", {"path": "/z"})) == "deleted /z"

def test_stock_interrupt_then_run_edit():
    @function_tool(needs_approval=True)
    async def delete(path: str) -> str:
        return f"deleted {path}"
    agent = Agent(name="I", tools=[delete], model=scripted(lambda items: "; ".join(outputs(items)) if outputs(items) else [("delete", '{"path":"/a"}')]))
    async def body(ctx, text):
        r = await Runner.run(agent, text, context=ctx)
        assert r.interruptions
        return (await run(agent, r.to_state())).final_output
    assert everywhere(service_of(body), lambda a: Approval("edit", {"path": "/z"})) == "deleted /z"

def test_runstate_serialised():
    n = []
    @function_tool(needs_approval=True)
    async def delete(path: str) -> str:
        COUNTS.update(["delete"])
        return f"deleted {path}"
    agent = Agent(name="I", tools=[delete], model=scripted(lambda items: "; ".join(outputs(items)) if outputs(items) else [("delete", '{"path":"/a"}')]))
    async def body(ctx, text):
        r = await Runner.run(agent, text)
        assert r.interruptions
        js = r.to_state().to_json()
        state = await RunState.from_json(agent, js)
        for i in state.get_interruptions(): state.approve(i)
        r = await Runner.run(agent, state)
        assert r.last_agent is agent
        return r.final_output
    r, j = journal_of(service_of(body))
    print(j)
    assert r == "deleted /a"
    assert [e.name for e in j] == ["model", "delete", "model"]

def needing(turns=2):
    @function_tool(needs_approval=True)
    async def delete(path: str) -> str:
        COUNTS.update(["delete"])
        return f"deleted {path}"
    def script(items):
        o = outputs(items)
        return "; ".join(o) if len(o) >= turns else [("delete", '{"path":"/a"}')]
    return Agent(name="I", tools=[delete], model=scripted(script))

def test_approve_twice():
    assert everywhere(handler_of(needing()), lambda a: Approval("approve")) == "deleted /a; deleted /a"

def test_reject_no_reason():
    assert "not approved" in everywhere(handler_of(needing(1)), lambda a: Approval("reject"))

def test_same_call_id_edit():
    class Same(Scripted):
        def _say(self, input):
            out = super()._say(input)
            for o in out:
                if hasattr(o, "call_id"): o.call_id = "call_0"
            return out
    seen = []
    agent = needing()
    agent.model = Same(agent.model.script)
    def ans(a):
        seen.append(a)
        return Approval("edit", {"path": f"/e"}) if len(seen) == 1 else Approval("approve")
    d = Dying(handler_of(agent), start_it); d.answer_asks = ans
    r = asyncio.run(d.live())
    assert r == "deleted /e; deleted /a"

def test_stock_streamed_restores():
    async def body(ctx, text):
        a = hello()
        r = Runner.run_streamed(a, text)
        async for _ in r.stream_events(): pass
        assert r.last_agent is a
        return r.final_output
    assert once(service_of(body)) == "hello"

@pytest.mark.parametrize("streamed", [False, True, "stock", "stockstream"])
@pytest.mark.parametrize("where", ["guardrail", "oguardrail", "hook", "on_handoff", "instructions", "is_enabled", "needs_approval", "tub", "toolguard", "filter", "extract", "agenttool_stream"])
def test_terminal_everywhere(where, streamed):
    def boom(*a, **k):
        raise TerminalError("never", status=451)
    from agents import tool_input_guardrail, ToolGuardrailFunctionOutput
    kw = {}; more = {}
    tools = [weather]
    script = lambda items: "x" if outputs(items) else [("weather", '{"city":"Rome"}')]
    if where == "guardrail":
        async def g(c, a, i): boom()
        from agents import InputGuardrail
        kw["input_guardrails"] = [InputGuardrail(guardrail_function=g)]
    if where == "oguardrail":
        async def g(c, a, i): boom()
        from agents import OutputGuardrail
        kw["output_guardrails"] = [OutputGuardrail(guardrail_function=g)]
    if where == "hook":
        class H(RunHooks):
            async def on_tool_start(self, *a, **k): boom()
        more["hooks"] = H()
    if where == "on_handoff":
        kw["handoffs"] = [handoff(hello(), on_handoff=boom and (lambda c: boom()), tool_name_override="go")]
        script = lambda items: [("go", "{}")]
    if where == "instructions":
        kw["instructions"] = lambda c, a: boom()
    if where == "is_enabled":
        @function_tool(is_enabled=lambda c, a: boom())
        async def t() -> str: return ""
        tools = [t]
    if where == "needs_approval":
        async def need(c, p, i): boom()
        @function_tool(needs_approval=need)
        async def t() -> str: return ""
        tools = [t]; script = lambda items: [("t", "{}")]
    if where == "tub":
        kw["tool_use_behavior"] = lambda c, r: boom()
    if where == "toolguard":
        @tool_input_guardrail
        async def g(d): boom()
        @function_tool(tool_input_guardrails=[g])
        async def t() -> str: return ""
        tools = [t]; script = lambda items: [("t", "{}")]
    if where == "filter":
        more["run_config"] = RunConfig(call_model_input_filter=lambda d: boom())
    if where == "extract":
        async def ex(r): boom()
        tools = [hello().as_tool("t", "d", custom_output_extractor=ex)]
        script = lambda items: "told " + outputs(items)[0] if outputs(items) else [("t", '{"input":"x"}')]
    if where == "agenttool_stream":
        @function_tool
        async def bad() -> str: boom()
        inner = Agent(name="in", tools=[bad], model=scripted(lambda items: [("bad", "{}")]))
        async def on(e): pass
        tools = [inner.as_tool("t", "d", on_stream=on)]
        script = lambda items: "told " + outputs(items)[0] if outputs(items) else [("t", '{"input":"x"}')]
    agent = Agent(name="A", model=scripted(script), tools=tools, **kw)
    async def body(ctx, text):
        if streamed == "stock":
            return (await Runner.run(agent, text, **more)).final_output
        if streamed:
            r = (Runner.run_streamed if streamed == "stockstream" else run_streamed)(agent, text, **more)
            async for _ in r.stream_events(): pass
            return r.final_output
        return (await run(agent, text, **more)).final_output
    with pytest.raises(TerminalError, match="never") as e:
        print(once(service_of(body)))
    assert e.value.status == 451
