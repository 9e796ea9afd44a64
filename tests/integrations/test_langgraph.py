"""LangGraph on the handler's event loop: the library's own code, with nothing of ours around it."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from holdfast import AsyncClient, Context, Holdfast, InvocationPaused, MemoryStore, Service, current
from tests.integrations.dying import ID, Dying, die_everywhere

pytestmark = pytest.mark.anyio
COUNTS: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    COUNTS.clear()


def counted() -> Counter[str]:
    counts = Counter(COUNTS)
    COUNTS.clear()
    return counts


class State(TypedDict, total=False):
    notes: Annotated[list[str], operator.add]
    items: list[int]
    item: int
    allowed: bool


async def look(what: str, seconds: float) -> str:
    COUNTS["look"] += 1
    await asyncio.sleep(seconds)
    return what


def looking(what: str, seconds: float) -> Any:
    async def node(state: State) -> State:
        return {"notes": [await current().run(look, what, seconds)]}

    return node


async def run(handler: Any, store: MemoryStore | None = None) -> tuple[Any, list[Any]]:
    hf = Holdfast(store or MemoryStore())
    hf.handler(handler)
    async with hf as client:
        handle = await client.start(handler, id=ID)
        return await handle.result(10), await handle.journal()


def graph_of_all() -> Any:
    """Three nodes at once, a fan-out of three, and a question."""

    async def double(state: State) -> State:
        return {"notes": [await current().run(look, str(state["item"] * 2), 0.002 * (3 - state["item"]))]}

    async def spread(state: State) -> list[Send]:
        return [Send("double", {"item": item}) for item in state["items"]]

    async def ask(state: State) -> State:
        return {"allowed": interrupt({"question": "Go on?"})}

    builder = StateGraph(State)
    for place, name in enumerate(("a", "b", "c")):
        builder.add_node(name, looking(name, 0.003 * (2 - place)))
        builder.add_edge(START, name)
        builder.add_edge(name, "join")
    builder.add_node("join", looking("joined", 0))
    builder.add_node("double", double)
    builder.add_node("ask", ask)
    builder.add_conditional_edges("join", spread, ["double"])
    builder.add_edge("double", "ask")
    return builder


def test_a_death_at_every_commit_changes_nothing():
    def make() -> Dying:
        service = Service("S")

        @service.handler
        async def h(ctx: Context) -> list:
            graph = graph_of_all().compile(checkpointer=InMemorySaver())
            config = RunnableConfig(configurable={"thread_id": ctx.id})
            state = await graph.ainvoke({"items": [1, 2, 3]}, config)
            while waiting := state.get("__interrupt__"):
                answer = await ctx.ask(waiting[0].value["question"], bool)
                state = await graph.ainvoke(Command(resume=answer), config)
            return [*state["notes"], state["allowed"]]

        async def start(client: AsyncClient) -> Any:
            return await client.start(h, id=ID)

        dying = Dying(service, start)
        dying.answer_asks = lambda _: True
        return dying

    answer, died = die_everywhere(make, counted)
    assert answer == ["a", "b", "c", "joined", "2", "4", "6", True]
    assert died >= 10


async def test_a_stream_comes_in_the_recorded_order_again():
    builder = StateGraph(State)
    for place, name in enumerate(("a", "b", "c", "d")):
        builder.add_node(name, looking(name, 0.002 * (place * 7 % 4)))
        builder.add_edge(START, name)
    graph = builder.compile()
    lives: list[list[str]] = []

    async def h(ctx: Context) -> list:
        lives.append([])
        async for update in graph.astream({"notes": []}, stream_mode="updates"):
            lives[-1] += list(update)
        await ctx.sleep(0.2)
        return lives[-1]

    store = MemoryStore()
    hf = Holdfast(store)
    hf.handler(h)
    async with hf as client:
        with pytest.raises(TimeoutError):
            await (await client.start(h, id=ID)).result(0.1)
    result, _ = await run(h, store)
    assert sorted(lives[0]) == ["a", "b", "c", "d"]
    assert lives[0] == lives[1] == result


async def test_a_node_is_retried_by_the_graphs_policy_on_durable_timers():
    async def fail(state: State) -> State:
        COUNTS["fail"] += 1
        if COUNTS["fail"] < 3:
            raise ConnectionError("busy")
        return {"notes": ["done"]}

    builder = StateGraph(State)
    builder.add_node("fail", fail, retry_policy=RetryPolicy(initial_interval=0.01, jitter=False))
    builder.add_edge(START, "fail")
    graph = builder.compile()

    async def h(ctx: Context) -> list:
        return (await graph.ainvoke({"notes": []}))["notes"]

    result, journal = await run(h)
    assert result == ["done"]
    assert [line.kind for line in journal] == ["timer", "timer"]


async def test_the_functional_api_runs_too():
    @task
    async def fetch(name: str) -> str:
        return await current().run(look, name, 0.001)

    @entrypoint()
    async def flow(names: list[str]) -> list[str]:
        return list(await asyncio.gather(*(fetch(name) for name in names)))

    async def h(ctx: Context) -> list:
        return await flow.ainvoke(["x", "y"])

    result, journal = await run(h)
    assert (result, len(journal)) == (["x", "y"], 2)


async def test_a_sync_node_is_a_step_and_what_it_gives_must_have_a_json_form():
    """The library gives it to a thread, and a thread of a handler is a step."""

    def plain(state: State) -> State:
        return {"notes": ["plain"]}

    def message(state: State) -> Any:
        return {"notes": [AIMessage("no JSON")]}

    def graph_with(node: Any) -> Any:
        builder = StateGraph(State)
        builder.add_node("node", node)
        builder.add_edge(START, "node")
        builder.add_edge("node", END)
        return builder.compile()

    def handler_with(node: Any) -> Any:
        graph = graph_with(node)

        async def h(ctx: Context) -> list:
            return [str(note) for note in (await graph.ainvoke({"notes": []}))["notes"]]

        return h

    result, journal = await run(handler_with(plain))
    assert (result, [line.kind for line in journal]) == (["plain"], ["step"])
    with pytest.raises(InvocationPaused, match="AIMessage"):
        await run(handler_with(message))
