"""What nobody runs when something comes for it: what is damaged, paused, or just over. Found by the simulation."""

import asyncio
import threading
from typing import Any

import pytest

from holdfast import (
    Context,
    InvocationFailed,
    Limit,
    Limits,
    MemoryStore,
    Object,
    ObjectContext,
    Service,
    TerminalError,
)
from tests.engine.family import Counting, child_of, service, status
from tests.engine.lives import all_in_lane, life
from tests.engine.world import FakeClock, SlowStore, engine_of, in_engine, open_promise, paused, wait_for


def spoil(store: MemoryStore, id: str, **fields: Any) -> None:
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


def test_who_calls_one_whose_input_is_damaged_is_told_so_and_not_paused(memory_world):
    group = service()

    async def h(ctx: Context) -> str:
        ctx.send(group.quick, "a", id="it")
        try:
            return await ctx.call(group.quick, "a", id="it")
        except InvocationFailed as error:
            return error.error_type

    with memory_world.holdfast(group) as client:
        client.start(group.quick, "a", id="it").result(5)
    spoil(memory_world.store(), "it", input=b"")
    with memory_world.holdfast(group, h) as client:
        assert client.call(h, timeout=5) == "Unreadable"


def test_who_waits_for_a_paused_one_whose_reason_is_damaged_waits_on(memory_world):
    group = service()

    async def h(ctx: Context) -> str:
        await ctx.promise("hold")
        return await ctx.attach("it", str)

    with memory_world.holdfast(group, h) as client:
        client.start(h, id="waits")
        hold = open_promise(client)
        client.start(group.leaf, "a", id="it")
        wait_for(lambda: len(engine_of(client).store.open_promises(9)) == 2)
        client.pause("it")
    spoil(memory_world.store(), "it", outcome=b"")
    with memory_world.holdfast(group, h) as client:
        client.resolve(hold)
        wait_for(lambda: engine_of(client).store.waiters("it"), "the attachment")
        assert status(client, "waits") == "suspended"
        client.kill("it")
        with pytest.raises(InvocationFailed, match="was cancelled"):
            client.attach("waits").result(5)


@pytest.mark.parametrize("what", ["journal", "reason"])
def test_who_gives_up_one_that_is_damaged_goes_on(memory_world, what):
    counting = Counting()
    group = service(counting)

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(3600):
                await ctx.call(group.leaf, "a")
        except TimeoutError:
            return await ctx.run(counting.note, "late")

    clock = FakeClock()
    with memory_world.holdfast(group, h, clock=clock) as client:
        handle = client.start(h, id="waits")
        open_promise(client)
        called = child_of(client, handle.id)
        client.pause(called)
    store = memory_world.store()
    if what == "journal":
        (n,) = [row.n for row in store._invocations.values() if row.id == called]
        store._entries[n][0] = b""
    else:
        spoil(store, called, outcome=b"")
    clock.wind(3601)
    with memory_world.holdfast(group, h, clock=clock) as client:
        assert client.attach("waits").result(5) == "late"


def test_who_gives_up_one_that_cannot_begin_just_when_that_is_found_out(memory_world, monkeypatch):
    all_in_lane(monkeypatch)
    box = Object("Box")

    @box.handler
    async def use(ctx: ObjectContext) -> None:
        await ctx.promise("go")

    async def h(ctx: Context) -> None:
        await ctx.call(use, key="k", id="called")

    with life(memory_world, box, h) as one:
        one.client.start(use, key="k")
        promise, handle = open_promise(one.client), one.client.start(h)
        wait_for(lambda: one.engine.store.find("called"))
        spoil(memory_world.store(), "called", input=b"\7")
        pause = one.engine.driver.pause

        def pauses(resident, error):
            one.store.open_gate.clear()  # it is not durable before the cancel is there
            pause(resident, error)

        monkeypatch.setattr(one.engine.driver, "pause", pauses)
        one.client.resolve(promise)
        wait_for(lambda: one.store.waiting)
        caller = in_engine(one.client, lambda: one.engine.resident(one.engine.number_of(handle.id)))
        in_engine(one.client, lambda: one.engine.driver.cancel(caller, "enough"))
        one.store.open_gate.set()
        wait_for(lambda: status(one.client, "called") == "cancelled")
        last = one.client.start(use, key="k")
        one.client.resolve(open_promise(one.client))
        last.result(5)


def test_one_damaged_time_does_not_hide_the_list(memory_world):
    group = service()
    with memory_world.holdfast(group) as client:
        client.start(group.quick, "a", id="it").result(5)
    spoil(memory_world.store(), "it", updated=1 << 60, wake_at=-(1 << 60))
    with memory_world.holdfast(group) as client:
        (view,) = client.list()
        assert view.updated.year == 9999


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


def test_a_signal_to_one_whose_handler_is_gone_is_durable_when_it_is_acknowledged(memory_world):
    async def h(ctx: Context) -> str:
        return await ctx.receive("word", str)

    async def main() -> list[int]:
        async with memory_world.holdfast(wrap=SlowStore, limits=Limits(waiting=0)) as client:
            store = client._engine.store
            lengths = []
            for id in ids:  # each is paused as it is brought back
                await client.signal(id, "word", "heard")
                lengths.append(store.length(store.find(id).n))
            return lengths

    with memory_world.holdfast(h) as client:
        ids = [client.start(h).id for _ in range(3)]
    assert asyncio.run(main()) == [1, 1, 1]
    with memory_world.holdfast(h) as client:
        for id in ids:
            client.resume(id)
            assert client.attach(id).result(5) == "heard"


def test_a_signal_to_one_that_is_being_opened_again_is_written_after_its_new_journal(memory_world, monkeypatch):
    """The failure at the end of the old journal is on its way out."""
    all_in_lane(monkeypatch)

    async def h(ctx: Context) -> str:
        await ctx.run(fail)
        return await ctx.receive("word", str)

    async def fail() -> None:
        if broken:
            raise TerminalError("no")

    async def speaker(ctx: Context) -> None:
        await ctx.promise("now")
        ctx.signal("failed", "word", "heard")

    broken = [True]
    with life(memory_world, h, speaker) as one:
        client = one.client
        failed = client.start(h, id="failed")
        with pytest.raises(TerminalError):
            failed.result(5)
        broken.clear()
        speaks = client.start(speaker)
        promise = open_promise(client)
        with one.store.hold():
            retrying = threading.Thread(target=failed.retry)
            retrying.start()
            wait_for(lambda: one.store.waiting, "the retry is being written")
            resolving = threading.Thread(target=client.resolve, args=(promise,))
            resolving.start()
            wait_for(lambda: len(engine_of(client).committer._batch.entries) >= 2, "the signal is in the next batch")
        retrying.join()
        resolving.join()
        assert speaks.result(5) is None
        assert failed.result(5) == "heard"
