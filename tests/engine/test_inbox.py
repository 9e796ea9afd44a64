"""The inbox shows every question, whatever else waits (G8)."""

import asyncio

import pytest

from holdfast import Context, Workflow, WorkflowContext
from tests.engine.world import wait_for


def test_questions_are_found_behind_any_number_of_plain_promises(memory_world):
    async def many(ctx: Context) -> None:
        await asyncio.gather(*(ctx.promise("quiet") for _ in range(1_005)))

    async def one(ctx: Context) -> bool:
        return await ctx.ask("Still here?", bool)

    with memory_world.holdfast(many, one) as client:
        client.start(many)
        handle = client.start(one)
        (ask,) = client.asks()
        assert (ask.question, ask.invocation) == ("Still here?", handle.id)
        client.answer(ask.id, True)
        assert handle.result(5) is True


@pytest.mark.parametrize("damaged", [False, True])
def test_all_that_waits_to_be_settled_is_listed_and_one_that_is_damaged_hides_no_other(memory_world, damaged):
    flow = Workflow("Flow")

    @flow.main
    async def approve(ctx: WorkflowContext) -> str:
        return await ctx.promise("approved", type=str)

    async def mixed(ctx: Context) -> None:
        await asyncio.gather(ctx.promise("parcel", type=int), ctx.ask("Now?", bool, timeout=60), ctx.promise())

    with memory_world.holdfast(flow, mixed) as client:
        client.start(mixed, id="x")
        client.start(approve, key="7")
        found = wait_for(lambda: len(client.promises()) == 4 and client.promises())
        assert [(one.invocation, one.step, one.question, one.status) for one in found] == [
            ("x", "parcel#1", "", "open"), ("x", "ask#1", "Now?", "open"), ("x", "promise#1", "", "open"),
            (None, None, "", "open"),
        ]  # fmt: skip
        assert (found[0].schema, found[1].deadline is not None) == ({"type": "integer"}, True)
        assert found[3].id == "Flow:7:approved"
        if damaged:
            rows = memory_world._memory._promises
            rows[found[0].id] = rows[found[0].id]._replace(about=b"\xc1")
            (first, *others) = client.promises()
            assert "does not decode" in first.question or "format" in first.question
            assert others == found[1:]
            assert client.promise(found[0].id) == first
        else:
            client.resolve(found[3].id, "yes")
            client.reject(found[0].id, "no")  # the others are withdrawn with it
            assert client.promises() == []
