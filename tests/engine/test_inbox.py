"""The inbox shows every question, whatever else waits (G8)."""

import asyncio

from holdfast import Context


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
