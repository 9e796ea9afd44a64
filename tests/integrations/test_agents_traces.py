"""Traces of the Agents SDK: a replay tells nothing again."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.tracing import Span, Trace, TracingProcessor, get_trace_provider, set_trace_processors

from holdfast import Context, Holdfast, Service, StoreError
from holdfast.integrations.openai_agents import run
from tests.crash.mortal import MortalStore
from tests.integrations.scripted import Item, Scripted, outputs


class Heard(TracingProcessor):
    """What was told, by kind and id."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.traces: Counter[str] = Counter()

    def on_trace_start(self, trace: Trace) -> None:
        self.traces[trace.trace_id] += 1

    def on_trace_end(self, trace: Trace) -> None:
        pass

    def on_span_start(self, span: Span[Any]) -> None:
        pass

    def on_span_end(self, span: Span[Any]) -> None:
        self.ends[f"{span.span_data.type} {span.span_id}"] += 1

    def shutdown(self) -> None:
        pass

    def force_flush(self) -> None:
        pass


@pytest.fixture
def heard() -> Iterator[Heard]:
    provider: Any = get_trace_provider()
    before = provider._multi_processor._processors
    made = Heard()
    set_trace_processors([made])
    yield made
    set_trace_processors(list(before))


@function_tool
async def tool() -> str:
    return "told"


def script(items: list[Item]) -> Any:
    return "; ".join(outputs(items)) if len(outputs(items)) == 2 else [("tool", "{}")]


def live(store: MortalStore) -> Any:
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        return str((await run(Agent(name="A", model=Scripted(script), tools=[tool]), text)).final_output)

    async def main() -> Any:
        async with Holdfast(store, services=[service]) as client:
            return await (await client.start(h, "go", id="it")).result(20)

    return asyncio.run(main())


def test_each_span_ends_once_over_all_lives(heard: Heard) -> None:
    whole = MortalStore()
    live(whole)
    spans = Counter(span.split()[0] for span in heard.ends)
    assert spans["function"] == 2
    assert len(heard.traces) == 1
    for commit in range(2, whole.commits + 1):
        heard.ends.clear()
        heard.traces.clear()
        store = MortalStore()
        store.die_at(commit, keeps_last=True)
        with pytest.raises(StoreError):
            live(store)
        live(store)
        assert len(heard.traces) == 1, "one trace over both lives"
        assert set(heard.traces.values()) == {1}
        twice = {span: count for span, count in heard.ends.items() if count > 1}
        assert twice == {}, f"told again after a death at commit {commit}"
        assert Counter(span.split()[0] for span in heard.ends)["function"] == 2
