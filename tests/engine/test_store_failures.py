"""A disk that is full or fails: nothing is acknowledged that is not durable, everybody is told, and a restart goes on
(G1, G11)."""

import asyncio
import logging
import threading
import time

import pytest

from holdfast import (
    Context,
    EngineStopped,
    InvocationCancelled,
    Limits,
    StoreCorrupt,
    StoreFailed,
    StoreFull,
    StoreLocked,
)
from holdfast.engine import committer
from tests.engine.world import BrokenStore, SlowStore, engine_of, one_ask, open_promise, wait_for

FULL = StoreFull("no space is left on the disk", fix="make room")
FAILED = StoreFailed("a sync failed", fix="replace the disk, start again")


@pytest.fixture
def broken(world):
    """Makes an engine over a store that can be broken; `broken.store` is that of the last one."""

    def make(*handlers, **options):
        def wrap(inner):
            make.store = BrokenStore(inner)
            return make.store

        return world.holdfast(*handlers, wrap=wrap, **options)

    return make


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The commit that met a full disk is tried again soon."""
    monkeypatch.setattr(committer, "FULL_RETRY_SECONDS", 0.02)


async def add(ctx: Context, x: int) -> int:
    return await ctx.run(abs, x) + await ctx.run(abs, x)


async def asks(ctx: Context) -> str:
    return await ctx.ask("Well?")


async def sleeps(ctx: Context) -> None:
    await asyncio.sleep(3600)


def in_thread(call):
    """Runs a call that may wait for ever; returns where its end will be."""
    ends = []

    def work():
        try:
            ends.append(call())
        except BaseException as error:  # noqa: BLE001
            ends.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, ends


def test_while_the_disk_is_full_starts_are_refused_and_then_all_goes_on(world, broken, caplog):
    with broken(add) as client:
        assert client.start(add, 1, id="before").result(20) == 2
        broken.store.error = FULL
        thread, ends = in_thread(lambda: client.start(add, 2, id="during").result(5))
        wait_for(lambda: broken.store.refused)
        for _ in range(3):
            with pytest.raises(StoreFull, match="no space is left"):
                client.start(add, 3, id="refused")
        assert not ends, "it is not acknowledged"
        assert client.attach("before").result(1) == 2, "what is there can be read"
        broken.store.error = None
        thread.join(5)
        assert ends == [4]
        assert client.start(add, 4).result(20) == 8
        assert "refused" not in [view.id for view in client.list()]
    assert "the commit is tried again" in caplog.text


def test_a_body_that_ends_while_the_disk_is_full_is_recorded_later_and_not_run_again(broken):
    calls = []
    gate = threading.Event()

    def pay() -> str:
        calls.append(1)
        gate.wait(5)
        return "paid"

    async def h(ctx: Context) -> str:
        return await ctx.run(pay)

    with broken(h) as client:
        handle = client.start(h)
        wait_for(lambda: calls)
        broken.store.error = FULL
        gate.set()
        wait_for(lambda: broken.store.refused)
        assert handle.status().status == "ready"
        broken.store.error = None
        assert handle.result(5) == "paid"
    assert calls == [1]


def test_an_answer_given_while_the_disk_is_full_counts_once_it_is_written(world, broken):
    with broken(asks) as client:
        handle = client.start(asks)
        ask = one_ask(client)
        broken.store.error = FULL
        thread, _ = in_thread(lambda: client.start(asks))
        wait_for(lambda: broken.store.refused)
        with pytest.raises(StoreFull):
            client.answer(ask.id, "refused now")
        broken.store.error = None
        thread.join(5)
        client.answer(ask.id, "yes")
        assert handle.result(20) == "yes"


def test_a_disk_that_stays_full_stops_the_engine_with_the_reason(world, broken):
    with broken(add, asks, limits=Limits(full_seconds=0.05)) as client:
        client.start(asks, id="x")
        open_promise(client)
        waiter, told = in_thread(lambda: client.attach("x").result())
        wait_for(lambda: engine_of(client)._waiters)
        broken.store.error = FULL
        with pytest.raises(StoreFull):
            client.start(add, 1)
        waiter.join(3)
        assert isinstance(told[0], StoreFull)
        with pytest.raises(StoreFull, match="start it again") as stopped:
            client.attach("x").result(1)
        assert "make room" not in str(stopped.value), "the store does not go on by itself any more"
    with world.holdfast(add, asks) as client:
        client.answer(one_ask(client).id, "yes")
        assert client.attach("x").result(20) == "yes"
        assert [view.id for view in client.list()] == ["x"]


def test_the_engine_can_be_stopped_while_the_disk_is_full_and_the_refused_batch_is_never_written(world, broken):
    hf = broken(add)
    with hf as client:
        broken.store.error = FULL
        thread, ends = in_thread(lambda: client.start(add, 1, id="lost"))
        wait_for(lambda: broken.store.refused)
    thread.join(3)
    assert isinstance(ends[0], (EngineStopped, StoreFull))
    broken.store.error = None
    with hf as client:
        time.sleep(0.05)
        assert client.list() == []
        assert client.start(add, 2, id="lost").result(20) == 4


def test_the_same_in_an_async_program_whose_loop_lives_on(world, broken):
    async def main():
        hf = broken(add)
        async with hf as client:
            broken.store.error = FULL
            start = asyncio.create_task(client.start(add, 1, id="lost"))
            while not broken.store.refused:
                await asyncio.sleep(0.002)
        with pytest.raises((EngineStopped, StoreFull)):
            await start
        broken.store.error = None
        async with hf as client:
            await asyncio.sleep(0.05)
            return await client.list()

    assert asyncio.run(main()) == []


def test_an_error_raised_for_many_callers_does_not_grow_with_each(broken):
    def depth(error):
        count, trace = 0, error.__traceback__
        while trace is not None:
            count, trace = count + 1, trace.tb_next
        return count

    with broken(add) as client:
        broken.store.error = FULL
        thread, _ = in_thread(lambda: client.start(add, 1))
        wait_for(lambda: broken.store.refused)
        depths = []
        for _ in range(50):
            with pytest.raises(StoreFull) as caught:
                client.start(add, 2)
            depths.append(depth(caught.value))
        assert max(depths) < 30
        broken.store.error = None
        thread.join(5)


@pytest.mark.parametrize("slow", [True, False])
def test_a_failed_sync_stops_the_engine_at_once_and_tells_everybody(world, slow, caplog):
    stores = []
    stopped = threading.Event()

    async def body() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async def runs(ctx: Context) -> None:
        await ctx.run(body)

    def wrap(inner):
        stores.append(BrokenStore(SlowStore(inner) if slow else inner))
        return stores[0]

    with world.holdfast(add, asks, runs, sleeps, wrap=wrap) as client:
        client.start(asks, id="a")
        client.start(runs, id="r")
        client.start(sleeps, id="s")
        ask = one_ask(client)
        waiters = [in_thread(lambda one=id: client.attach(one).result()) for id in ("a", "r", "s")]
        wait_for(lambda: len(engine_of(client)._waiters) == 3)
        stores[0].error = FAILED
        with pytest.raises(StoreFailed, match="a sync failed"):
            client.start(add, 1, id="never")
        for thread, told in waiters:
            thread.join(3)
            assert isinstance(told[0], StoreFailed)
        assert stopped.wait(2), "bodies are stopped"
        stores[0].error = None
        for call in (
            lambda: client.start(add, 1),
            lambda: client.answer(ask.id, "x"),
            lambda: client.attach("a").cancel(),
            lambda: client.attach("a").result(1),
        ):
            with pytest.raises(StoreFailed, match="a sync failed"):
                call()
    assert stores[0].refused == 1, "it is never tried again"
    assert "the engine stops, nothing more is acknowledged" in caplog.text
    with world.holdfast(add, asks, runs, sleeps, limits=Limits(drain_seconds=0)) as client:
        assert {view.id for view in client.list()} == {"a", "r", "s"}
        client.answer(one_ask(client).id, "yes")
        assert client.attach("a").result(20) == "yes"


def test_after_a_failed_sync_recorded_steps_do_not_run_again(world, broken):
    calls = []

    async def pay(x: int) -> int:
        calls.append(x)
        if x == 2:
            broken.store.error = FAILED
        return x

    async def h(ctx: Context) -> int:
        return sum([await ctx.run(pay, x) for x in range(5)])

    with broken(h) as client:
        client.start(h, id="x")
        with pytest.raises(StoreFailed):
            client.attach("x").result(20)

    async def mended(ctx: Context) -> int:
        return sum([await ctx.run(pay2, x, name="pay") for x in range(5)])

    async def pay2(x: int) -> int:
        calls.append(x)
        return x

    mended.__name__ = "h"
    with world.holdfast(mended) as client:
        assert client.attach("x").result(20) == 10
    assert calls == [0, 1, 2, 2, 3, 4], "only the one that was not recorded"


def test_a_store_that_breaks_its_contract_stops_the_engine_and_does_not_hang_it(world, broken):
    with broken(add, limits=Limits(full_seconds=0)) as client:
        client.start(add, 1).result(20)
        broken.store.error = ValueError("a bug in the store")
        with pytest.raises(StoreFailed, match="the store raised ValueError: a bug in the store"):
            client.start(add, 2)
        broken.store.error = None
        with pytest.raises(StoreFailed):
            client.start(add, 3)


def test_housekeeping_that_fails_stops_the_engine(world, monkeypatch):
    monkeypatch.setattr(committer, "IDLE_SECONDS", 0.01)

    class Rusty(BrokenStore):
        def maintain(self, idle):
            raise StoreFailed("the checkpoint failed")

    with world.holdfast(add, wrap=Rusty) as client:
        assert client.start(add, 1, id="x").result(20) == 2
        wait_for(lambda: engine_of(client).failure)
        with pytest.raises(StoreFailed, match="the checkpoint failed"):
            client.start(add, 2)
    with world.holdfast(add) as client:
        assert client.attach("x").result(20) == 2


def test_a_timer_index_that_cannot_be_read_stops_the_engine_and_not_the_timers_in_silence(world):
    class Blind(BrokenStore):
        blind = False

        def due(self, until, limit):
            if self.blind:
                raise StoreCorrupt("the index is damaged")
            return self.inner.due(until, limit)

    stores = []
    with world.holdfast(sleeps, wrap=lambda inner: stores.append(Blind(inner)) or stores[0]) as client:
        handle = client.start(sleeps)
        stores[0].blind = True
        timers = engine_of(client)._timers
        timers._horizon = 0
        client._client._engine.loop.call_soon_threadsafe(timers._tick)
        with pytest.raises(StoreCorrupt):
            handle.result(3)


def test_a_backlog_that_cannot_be_read_stops_the_engine(world):
    class Blind(BrokenStore):
        blind = False

        def ready(self, limit):
            if self.blind:
                raise StoreFailed("the disk is gone")
            return self.inner.ready(limit)

    stores = []
    gate = threading.Event()

    async def holds(ctx: Context) -> None:
        await ctx.run(gate.wait, 5)

    with world.holdfast(
        holds, add, limits=Limits(running=1, backlog=1), wrap=lambda inner: stores.append(Blind(inner)) or stores[0]
    ) as client:
        client.start(holds)
        handles = [client.start(add, x) for x in range(4)]
        stores[0].blind = True
        gate.set()
        with pytest.raises(StoreFailed, match="the disk is gone"):
            handles[-1].result(3)


def test_a_store_in_use_is_refused_and_the_first_user_goes_on(world):
    with world.holdfast(add) as client:
        with pytest.raises(StoreLocked), world.holdfast(add):
            pass
        assert client.start(add, 1).result(20) == 2


def test_a_cancel_that_could_not_be_written_is_not_acknowledged(world, broken):
    with broken(asks) as client:
        handle = client.start(asks, id="x")
        open_promise(client)
        broken.store.error = FAILED
        with pytest.raises(StoreFailed):
            handle.cancel()
    with world.holdfast(asks) as client:
        assert client.attach("x").status().status == "suspended"
        client.attach("x").cancel()
        with pytest.raises(InvocationCancelled):
            client.attach("x").result(20)


def test_what_the_log_says_of_a_full_disk_names_the_next_try(broken, caplog):
    caplog.set_level(logging.WARNING, logger="holdfast")
    with broken(add) as client:
        broken.store.error = FULL
        thread, _ = in_thread(lambda: client.start(add, 1))
        wait_for(lambda: "nothing was acknowledged; the commit is tried again in" in caplog.text)
        broken.store.error = None
        thread.join(5)
