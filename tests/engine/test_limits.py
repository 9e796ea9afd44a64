"""Memory and work are bounded: waiting invocations are parked, running ones queue (G9)."""

import asyncio
import gc
import threading
import weakref

import pytest

from holdfast import BadArguments, Context, Limits
from tests.engine.world import FakeClock, SlowStore, engine_of, open_promise, paused, tick, wait_for


async def double(x: int) -> int:
    return 2 * x


async def work(ctx: Context, x: int) -> list[int | float]:
    """Something of everything: state in locals, tasks, chance, time."""
    first = await ctx.run(double, x)
    drawn = ctx.random.random()
    answer, *_ = await asyncio.gather(ctx.promise("answer", type=int), ctx.run(double, first))
    return [first, drawn, answer, await ctx.run(double, answer), ctx.now().timestamp()]


def settle_all(client):
    for row in engine_of(client).store.open_promises(999):
        invocation = engine_of(client).store.get(row.n)
        client.resolve(row.id, int(invocation.id[1:]))


def test_waiting_invocations_beyond_the_limit_are_dropped_from_memory_and_come_back_right(world):
    with world.holdfast(work, limits=Limits(waiting=2)) as client:
        handles = [client.start(work, x, id=f"w{x}") for x in range(50)]
        wait_for(lambda: len(engine_of(client).store.open_promises(99)) == 50)
        wait_for(lambda: len(engine_of(client)._residents) == 2)
        settle_all(client)
        results = [handle.result(3) for handle in handles]
    for x, (first, drawn, answer, last, _) in enumerate(results):
        assert (first, answer, last) == (2 * x, x, 2 * x)
        assert 0 <= drawn < 1


def test_parked_or_not_the_same_comes_out(memory_world, tmp_path):
    from tests.engine.world import World

    class Fixed:
        def __init__(self):
            self.n = 0

        def bits(self, count):
            self.n += 1
            return self.n

    def outcome(limits, folder):
        folder.mkdir()
        clock = FakeClock()
        with World("memory", folder).holdfast(work, limits=limits, clock=clock, entropy=Fixed()) as client:
            handles = [client.start(work, x, id=f"w{x}") for x in range(10)]
            wait_for(lambda: len(engine_of(client).store.open_promises(99)) == 10)
            settle_all(client)
            return [handle.result(3) for handle in handles]

    kept = outcome(Limits(), tmp_path / "kept")
    assert outcome(Limits(waiting=0), tmp_path / "parked") == kept


def test_nothing_of_a_parked_invocation_stays_in_memory(memory_world):
    kept = []

    class Big:
        pass

    async def h(ctx: Context) -> None:
        big = Big()
        kept.append(weakref.ref(big))
        kept.append(weakref.ref(ctx))
        await ctx.promise("hold")
        del big

    with memory_world.holdfast(h, limits=Limits(waiting=0)) as client:
        for _ in range(5):
            client.start(h)
        wait_for(lambda: engine_of(client)._residents == {})
        gc.collect()
        assert [ref() for ref in kept] == [None] * 10
        assert engine_of(client)._numbers == {}
        assert engine_of(client)._parkable == {}


def test_nothing_of_an_ended_invocation_stays_in_memory(memory_world):
    async def h(ctx: Context, x: int) -> int:
        return await ctx.run(double, x)

    with memory_world.holdfast(h) as client:
        for x in range(20):
            client.start(h, x).result(20)
        engine = engine_of(client)
        wait_for(lambda: engine._residents == {})
        for table in (engine._numbers, engine._parkable, engine._waiters, engine.admission.running, engine._acks):
            assert not table


def test_the_ones_used_longest_ago_are_parked_first(memory_world):
    async def h(ctx: Context) -> None:
        while True:
            await ctx.promise("more")

    with memory_world.holdfast(h, limits=Limits(waiting=2)) as client:
        engine = engine_of(client)
        for id in ("a", "b"):
            client.start(h, id=id)
        wait_for(lambda: set(engine._numbers) == {"a", "b"})
        row = engine.store.find("a")
        client.resolve(engine.store.promises_of(row.n)[0].id)
        client.start(h, id="c")
        wait_for(lambda: set(engine._numbers) == {"a", "c"})


def test_a_parked_sleeper_wakes_in_time(world):
    clock = FakeClock()

    async def h(ctx: Context, x: int) -> int:
        await asyncio.sleep(10)
        return await ctx.run(double, x)

    with world.holdfast(h, clock=clock, limits=Limits(waiting=0)) as client:
        handles = [client.start(h, x) for x in range(20)]
        wait_for(lambda: engine_of(client)._residents == {})
        clock.wind(9.9)
        tick(client)
        assert engine_of(client)._residents == {}
        clock.wind(0.1)
        tick(client)
        assert [handle.result(3) for handle in handles] == [2 * x for x in range(20)]


@pytest.mark.parametrize("slow", [True, False])
def test_more_starts_than_may_run_are_queued_and_all_run(world, slow):
    running, most = set(), []

    async def body(x: int) -> int:
        running.add(x)
        most.append(len(running))
        await asyncio.sleep(0.002)
        running.discard(x)
        return x

    async def h(ctx: Context, x: int) -> int:
        return await ctx.run(body, x) + await ctx.run(double, 0)

    async def main():
        wrap = SlowStore if slow else None
        async with world.holdfast(h, wrap=wrap, limits=Limits(running=2)) as client:
            handles = await asyncio.gather(*[client.start(h, x) for x in range(20)])
            return await asyncio.gather(*[handle.result(5) for handle in handles])

    assert asyncio.run(main()) == list(range(20))
    assert max(most) <= 2


def test_room_that_comes_while_a_queued_start_is_being_written_is_used_once_it_is_durable(memory_world):
    class Slower(SlowStore):
        SECONDS = 0.04

    async def main():
        gate = asyncio.Event()

        async def hold(ctx: Context) -> None:
            await ctx.run(gate.wait, returns=bool)

        async with memory_world.holdfast(hold, work_once, wrap=Slower, limits=Limits(running=1)) as client:
            await client.start(hold)
            queued = asyncio.create_task(client.start(work_once))
            await asyncio.sleep(0.01)
            gate.set()  # the one that runs ends before the queued one is on disk
            return await (await queued).result(20)

    async def work_once(ctx: Context) -> int:
        return await ctx.run(double, 4)

    assert asyncio.run(main()) == 8


def test_a_backlog_longer_than_its_bound_is_read_from_the_store_again(world):
    async def h(ctx: Context, x: int) -> int:
        return await ctx.run(double, x)

    async def main():
        async with world.holdfast(h, limits=Limits(running=1, backlog=3)) as client:
            handles = await asyncio.gather(*[client.start(h, x) for x in range(30)])
            return await asyncio.gather(*[handle.result(5) for handle in handles])

    assert asyncio.run(main()) == [2 * x for x in range(30)]


def test_a_backlog_that_no_handler_is_there_for_is_paused_once(memory_world):
    class Counting(SlowStore):
        def commit(self, batch):
            super().commit(batch)
            moved.extend(row.n for row in batch.moves)

        def ready(self, limit):
            reads.append(limit)
            return self.inner.ready(limit)

    async def h(ctx: Context) -> None:
        await ctx.run(asyncio.sleep, 3600)

    moved, reads = [], []
    with memory_world.holdfast(h, limits=Limits(running=1, drain_seconds=0)) as client:
        ids = [client.start(h).id for _ in range(20)]  # more than are written on the loop's own thread
    with memory_world.holdfast(wrap=Counting, limits=Limits(backlog=20)) as client:
        assert all("no handler" in paused(client.attach(id)) for id in ids)
    assert len(moved) == 20
    assert len(reads) < 10  # and not in every turn while the pauses are being written


def test_what_was_queued_runs_after_a_restart(world):
    release = threading.Event()

    def hold() -> None:
        release.wait(5)

    async def h(ctx: Context, x: int) -> int:
        await ctx.run(hold)
        return x

    with world.holdfast(h, limits=Limits(running=2, drain_seconds=0)) as client:
        for x in range(10):
            client.start(h, x, id=f"q{x}")
    release.set()
    with world.holdfast(h, limits=Limits(running=3)) as client:
        assert [client.attach(f"q{x}").result(3) for x in range(10)] == list(range(10))


def test_a_paused_invocation_makes_room_for_others(world):
    async def bad() -> None:
        raise TypeError("a slip")

    async def h(ctx: Context, x: int) -> int:
        if x == 0:
            await ctx.run(bad)
        return await ctx.run(double, x)

    with world.holdfast(h, limits=Limits(running=1)) as client:
        client.start(h, 0)
        assert [client.start(h, x).result(20) for x in (1, 2, 3)] == [2, 4, 6]


def test_sleepers_that_wake_at_once_take_turns(world):
    clock = FakeClock()
    running, most = set(), []

    async def body(x: int) -> None:
        running.add(x)
        most.append(len(running))
        await asyncio.sleep(0.001)
        running.discard(x)

    async def h(ctx: Context, x: int) -> None:
        await asyncio.sleep(10)
        await ctx.run(body, x)

    with world.holdfast(h, clock=clock, limits=Limits(running=2, waiting=0)) as client:
        handles = [client.start(h, x) for x in range(20)]
        wait_for(lambda: engine_of(client)._residents == {})
        clock.wind(10)
        tick(client)
        for handle in handles:
            handle.result(3)
    assert max(most) <= 2


def test_a_conversation_costs_the_same_at_every_turn(world):
    async def model(messages: list[dict]) -> dict:
        return {"role": "assistant", "content": f"answer {len(messages)} " + "x" * 1_500}

    async def chat(ctx: Context, turns: int) -> int:
        messages = []
        for turn in range(turns):
            messages.append({"role": "user", "content": f"question {turn} " + "y" * 1_500})
            messages.append(await ctx.run(model, messages))
        return len(messages)

    sizes = {}
    for turns in (20, 40, 60):
        with world.holdfast(chat) as client:
            handle = client.start(chat, turns, id=f"c{turns}")
            assert handle.result(5) == 2 * turns
            asked = handle.inputs(f"model#{turns}")
            assert len(asked[0]) == 2 * turns - 1
            assert asked[0][0]["content"].startswith("question 0 ")
        with world.opened() as store:
            n = store.find(f"c{turns}").n
            stored = store.entries(n) + [body for _, body in store.blobs(n, -(2**62), 2**62)]
            sizes[turns] = sum(map(len, stored))
    first, second = sizes[40] - sizes[20], sizes[60] - sizes[40]
    assert abs(first - second) < 0.1 * first
    assert sizes[60] < 60 * 4_000


def test_open_promise_survives_parking(world):
    async def h(ctx: Context) -> int:
        return await ctx.promise("p", type=int)

    with world.holdfast(h, limits=Limits(waiting=0)) as client:
        handle = client.start(h)
        client.resolve(open_promise(client), 3)
        assert handle.result(20) == 3


@pytest.mark.parametrize("bound", ["running", "bodies", "threads", "backlog"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_bound_with_which_nothing_would_ever_begin_is_refused(bound, value):
    with pytest.raises(BadArguments, match=rf"Limits\({bound}={value}\) cannot be"):
        Limits(**{bound: value})


@pytest.mark.parametrize("value", [-0.5, float("nan")])
def test_a_time_that_is_none_is_refused(value):
    with pytest.raises(BadArguments, match="drain_seconds"):
        Limits(drain_seconds=value)
