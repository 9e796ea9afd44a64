"""What nobody runs when something comes for it: what is damaged, paused, or just over. Found by the simulation."""

import pytest

from holdfast import Context, InvocationFailed, Limit, MemoryStore, Service
from tests.engine.family import service, status
from tests.engine.world import open_promise, paused, wait_for


def spoil(store: MemoryStore, id: str, **fields: bytes) -> None:
    """Damages bytes of one invocation while no engine has the store."""
    (n,) = [row.n for row in store._invocations.values() if row.id == id]
    store._invocations[n] = store._invocations[n]._replace(**fields)


def test_a_damaged_input_that_a_limit_looks_at_stops_one_and_not_the_engine(memory_world):
    group = Service("Group")

    @group.handler(limit=Limit(concurrency=1, by="who"))
    async def limited(ctx: Context, who: str) -> str:
        await ctx.promise("go")
        return who

    with memory_world.holdfast(group) as client:
        client.start(limited, "x", id="first")
        client.start(limited, "x", id="damaged")
        client.start(limited, "x", id="third")
    spoil(memory_world.store(), "damaged", input=b"\0{")
    with memory_world.holdfast(group) as client:
        client.resolve(open_promise(client))
        assert client.attach("first").result(5) == "x"
        assert "HF203" in paused(client.attach("damaged"))
        client.resolve(open_promise(client))
        assert client.attach("third").result(5) == "x"


@pytest.mark.parametrize("outcome", [b"", b"\1\x92\5\xc0"], ids=["no record", "a record that is no end"])
def test_who_waits_for_one_whose_end_is_damaged_is_told_so_and_not_paused(memory_world, outcome):
    group = service()

    async def h(ctx: Context) -> str:
        await ctx.promise("hold")
        try:
            return await ctx.attach("it")
        except InvocationFailed as error:
            return error.error_type

    with memory_world.holdfast(group, h) as client:
        client.start(group.quick, "a", id="it").result(5)
        client.start(h, id="waits")
    spoil(memory_world.store(), "it", outcome=outcome)
    with memory_world.holdfast(group, h) as client:
        client.resolve(open_promise(client))
        assert client.attach("waits").result(5) == "Unreadable"


def test_signals_that_came_too_late_for_a_paused_one_do_not_keep_it_from_its_end(world, weather):
    async def h(ctx: Context) -> str:
        return await ctx.receive("word", str)

    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        client.pause(handle.id)
        for word in ("first", "second", "third"):
            client.signal(handle.id, "word", word)
        client.resume(handle.id)
        assert handle.result(5) == "first"


def test_a_cancel_that_came_too_late_for_a_paused_one_leaves_its_result(world):
    group = service()

    async def h(ctx: Context) -> None:
        id = ctx.send(quitter, id="quitter").id
        await ctx.receive("now")
        ctx.cancel(id)

    async def quitter(ctx: Context) -> str:
        return await ctx.receive("word", str)

    with world.holdfast(group, h, quitter) as client:
        handle = client.start(h)
        wait_for(lambda: client.list(target="quitter"))
        client.pause("quitter")
        client.signal("quitter", "word", "in time")
        client.signal(handle.id, "now")
        handle.result(5)
        assert status(client, "quitter") == "paused"
        client.resume("quitter")
        assert client.attach("quitter").result(5) == "in time"
