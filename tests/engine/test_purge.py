"""What has ended can be deleted, one or by age, and nothing that somebody may still need; its id is free again."""

import asyncio
import time
from datetime import timedelta
from random import Random

import pytest

from holdfast import (
    Context,
    InvocationCancelled,
    Limits,
    Service,
    UnknownInvocation,
    UnknownPromise,
    WrongStatus,
)
from holdfast.engine import retirement
from holdfast.stores.sqlite import wal
from tests.engine.lives import Flags, all_in_lane, life
from tests.engine.world import FakeClock, in_engine, open_promise, wait_for

LONG = "a long story " * 5_000


async def add(ctx: Context, x: int) -> int:
    return await ctx.run(abs, x) + 1


async def waits(ctx: Context) -> str:
    return await ctx.receive("go", str)


def test_a_purged_one_is_gone_with_all_it_had(world):
    async def tell(story: str) -> str:
        return story + "!"

    async def h(ctx: Context, story: str) -> int:
        told = await ctx.run(tell, story)
        return len(told + await ctx.promise("p", type=str))

    with life(world, h) as one:
        handle = one.client.start(h, LONG, id="x")
        promise = open_promise(one.client)
        one.client.resolve(promise, LONG)
        handle.result(5)
        n = one.engine.store.find("x").n
        handle.purge()
        for attempt in (handle.status, handle.journal, handle.purge, lambda: handle.result(1), handle.kill):
            with pytest.raises(UnknownInvocation):
                attempt()
        with pytest.raises(UnknownPromise):
            one.client.resolve(promise, "x")
        one.die()
    with world.opened() as store:
        assert store.find("x") is None
        assert store.entries(n) == store.promises_of(n) == store.blob_digests(n) == []


def test_its_id_is_free_again_and_what_takes_it_is_another(world):
    with life(world, add, waits) as one:
        one.client.start(add, 1, id="x").result(5)
        one.client.purge("x")
        handle = one.client.start(waits, id="x")
        wait_for(lambda: handle.status().status == "suspended")
        assert [view.state for view in handle.journal()] == ["waiting"]
        one.die()
    with life(world, add, waits) as one:
        one.client.signal("x", "go", "on")
        assert one.client.attach("x").result(5) == "on"


def test_a_purge_and_a_start_of_the_same_id_in_one_moment(world, monkeypatch):
    all_in_lane(monkeypatch)
    with life(world, add) as one:
        for _ in range(10):
            one.client.start(add, 1, id="x").result(5)
            client = one.client._client
            _, started, _ = one.together(client.purge("x"), client.start(add, 1, id="x"), client.start(add, 1, id="x"))
            assert not isinstance(started, BaseException)
            if one.client.list():
                assert one.client.attach("x").result(5) == 2
                one.client.purge("x")


@pytest.mark.parametrize("waiting", [0, 9])
def test_what_has_not_ended_is_not_purged(world, waiting):
    with life(world, waits, limits=Limits(waiting=waiting)) as one:
        handle = one.client.start(waits, id="x")
        wait_for(lambda: handle.status().status == "suspended")
        with pytest.raises(WrongStatus, match="has not ended"):
            handle.purge()
        assert one.client.purge_ended(timedelta(0)) == 0
        handle.signal("go", "on")
        assert handle.result(5) == "on"
        handle.purge()


class Family:
    """Callers and called ones."""

    def __init__(self):
        self.flags = flags = Flags()
        service = self.service = Service("S")

        @service.handler
        async def child(ctx: Context) -> str:
            return await ctx.run(flags.note, "child")

        @service.handler
        async def caller(ctx: Context) -> str:
            first = await ctx.call(child, id="child")
            return first + await ctx.receive("go", str)

        @service.handler
        async def attached(ctx: Context) -> str:
            return await ctx.attach("child", str)

        self.child, self.caller, self.attached = child, caller, attached


@pytest.mark.parametrize("waiting", [0, 9])
def test_what_a_caller_may_still_need_is_kept(world, waiting):
    family = Family()
    with life(world, family.service, limits=Limits(waiting=waiting)) as one:
        handle = one.client.start(family.caller, id="caller")
        wait_for(lambda: [view for view in handle.journal() if view.state == "done"])
        with pytest.raises(WrongStatus, match="was called by 'caller', which has not ended"):
            one.client.purge("child")
        assert one.client.purge_ended(timedelta(0)) == 0
        handle.signal("go", "!")
        assert handle.result(5) == "child!"
        one.client.purge("caller")
        one.client.purge("child")
        assert one.client.list() == []
    assert family.flags.ran == ["child"]


def test_one_that_is_attached_to_and_was_parked_gets_its_result_before_it_is_purged(world):
    family = Family()
    with life(world, family.service, waits, limits=Limits(waiting=0, running=1)) as one:
        one.client.start(family.caller, id="caller")
        wait_for(lambda: family.flags.ran)
        handle = one.client.start(family.attached, id="attached")
        assert handle.result(5) == "child"


def test_by_age_only_what_ended_long_enough_ago_goes_and_the_number_is_told(world):
    clock = FakeClock()
    with life(world, add, waits, clock=clock) as one:
        for n in range(5):
            one.client.start(add, n, id=f"old {n}").result(5)
        one.client.start(waits, id="going on")
        clock.wind(100)
        one.client.start(add, 1, id="new").result(5)
        clock.wind(10)
        assert one.client.purge_ended(timedelta(seconds=111)) == 0
        assert one.client.purge_ended(timedelta(seconds=100)) == 5
        assert one.client.purge_ended(timedelta(seconds=100)) == 0
        assert {view.id for view in one.client.list()} == {"going on", "new"}


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
def test_the_file_gets_smaller_when_there_is_nothing_else_to_do(world, monkeypatch):
    monkeypatch.setattr(wal, "IDLE_PAGES", 10)

    async def echo(ctx: Context, noise: str) -> str:
        return noise

    with life(world, echo) as one:
        for n in range(30):
            one.client.start(echo, Random(n).randbytes(100_000).hex(), id=str(n)).result(5)
        wait_for(lambda: world.path.stat().st_size > 3_000_000)
        assert one.client.purge_ended(timedelta(0)) == 30
        wait_for(lambda: world.path.stat().st_size < 1_500_000)


@pytest.mark.parametrize("by", ["id", "age"])
@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
def test_the_file_is_smaller_after_a_purge_at_rest(world, by):
    async def echo(ctx: Context, noise: str) -> str:
        return noise

    with world.holdfast(echo) as client:
        for n in range(30):
            client.start(echo, Random(n).randbytes(100_000).hex(), id=str(n)).result(5)

    async def purge():
        async with world.holdfast().resting() as client:
            if by == "age":
                assert await client.purge_ended(timedelta(0)) == 30
                return
            for n in range(30):
                await client.purge(str(n))

    before = world.path.stat().st_size
    asyncio.run(purge())
    assert before > 3_000_000
    assert world.path.stat().st_size < 1_500_000


def test_many_go_slice_by_slice_while_others_run(world):
    with life(world, add) as one:
        count = 250

        async def fill():
            handles = await asyncio.gather(*[one.client._client.start(add, n) for n in range(count)])
            await asyncio.gather(*[handle.result() for handle in handles])

        one.client._thread.call(fill())
        client = one.client._client
        purged, *results = one.together(client.purge_ended(timedelta(0)), *[client.call(add, n) for n in range(20)])
        assert results == [n + 1 for n in range(20)]
        assert count <= purged <= count + 20
        assert len(one.client.list()) == count + 20 - purged


def test_by_age_and_a_retry_of_one_of_them_in_one_moment(world, monkeypatch):
    all_in_lane(monkeypatch)
    broken = [True]

    async def h(ctx: Context) -> str:
        if broken:
            raise ValueError("no")
        return "yes"

    with life(world, h) as one:
        for order in (0, 1):
            handle = one.client.start(h, id=f"x{order}")
            wait_for(lambda: handle.status().status == "failed")  # noqa: B023
            works = [one.client._client.retry(handle.id), later(one, one.client._client.purge_ended(timedelta(0)))]
            one.together(*works[:: 1 if order else -1])
            assert one.engine.failure is None


async def later(one, work):
    await one.engine.durable()
    return await work


def test_retention_deletes_what_is_old_and_goes_on_doing_so(world, monkeypatch):
    monkeypatch.setattr(retirement, "LOOK_SECONDS", 0.02)
    clock = FakeClock()
    with life(world, add, clock=clock) as one:
        one.client.start(add, 1, id="old").result(5)
    clock.wind(3601)
    with life(world, add, waits, clock=clock, retention=timedelta(hours=1)) as one:
        waiting = one.client.start(waits, id="going on")
        wait_for(lambda: [view.id for view in one.client.list()] == ["going on"])
        one.client.start(add, 1, id="new").result(5)
        clock.wind(3599)
        time.sleep(0.1)
        assert {view.id for view in one.client.list()} == {"going on", "new"}
        clock.wind(2)
        wait_for(lambda: [view.id for view in one.client.list()] == ["going on"])
        waiting.signal("go", "on")
        assert waiting.result(5) == "on"


def test_without_retention_nothing_is_deleted(world, monkeypatch):
    monkeypatch.setattr(retirement, "LOOK_SECONDS", 0.01)
    clock = FakeClock()
    with life(world, add, clock=clock) as one:
        one.client.start(add, 1, id="old").result(5)
        clock.wind(1e9)
        time.sleep(0.05)
        assert [view.id for view in one.client.list()] == ["old"]


def test_a_number_is_never_given_twice_also_after_all_was_purged(world):
    numbers = set()
    for _ in range(3):
        with life(world, add) as one:
            one.client.start(add, 1, id="x").result(5)
            numbers.add(one.engine.store.find("x").n)
            one.client.purge("x")
    assert len(numbers) == 3


def test_the_result_that_an_attached_one_was_woken_for_is_kept_until_it_has_it(world):
    family = Family()

    async def blocks(ctx: Context) -> None:
        await ctx.run(family.flags.body, "blocks")

    with life(world, family.service, waits, blocks, limits=Limits(waiting=0, running=2)) as one:
        one.client.start(waits, id="child")
        handle = one.client.start(family.attached, id="attached")
        wait_for(lambda: handle.status().status == "suspended" and not one.engine._residents)
        one.client.start(blocks)
        one.client.start(blocks)
        in_engine(one.client, lambda: one.engine.links.post(one.engine.rows.find("child"), "go", b'"on"'))
        wait_for(lambda: one.client.attach("child").status().status == "done")
        assert handle.status().status == "ready", "it is woken, and has no room yet"
        assert one.client.purge_ended(timedelta(0)) == 0
        with pytest.raises(WrongStatus, match="is attached to by 'attached', which has not ended"):
            one.client.purge("child")
        one.die()
    family.flags.gate("blocks").set()
    with life(world, family.service, waits, blocks) as one:
        handle = one.client.attach("attached")
        assert handle.result(5) == "on"
        one.client.purge("child")


@pytest.mark.parametrize("how", ["attach", "join", "attach and get it"])
@pytest.mark.parametrize("by", ["id", "age"])
@pytest.mark.parametrize("parked", [False, True])
def test_one_that_waits_no_more_keeps_nothing(world, how, parked, by):
    """A wait that was given up, or whose result is in the journal, is in the way of no purge."""

    async def other(ctx: Context) -> str:
        return await ctx.promise("go", type=str)

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(3600 if how == "attach and get it" else 0.05):
                await (ctx.call(other, id="it") if how == "join" else ctx.attach("it"))
        except TimeoutError:
            pass
        await ctx.promise("hold")
        return "over"

    limits = Limits(waiting=0) if parked else Limits()
    with world.holdfast(other, h, limits=limits) as client:
        it = client.start(other, id="it")
        wait_for(client.promises)
        client.start(h, id="waits")
        if how == "attach and get it":
            wait_for(lambda: client.attach("waits").status().status == "suspended")
            client.resolve(client.promises()[0].id, "x")
        wait_for(lambda: [one for one in client.promises() if one.invocation == "waits"])
        if how != "attach and get it":
            client.resolve(next(one.id for one in client.promises() if one.invocation == "it"), "x")
        assert it.result(5) == "x"
        wait_for(lambda: client.attach("waits").status().status == "suspended")
        if by == "id":
            client.purge("it")
        else:
            wait_for(lambda: client.purge_ended(timedelta(0)))
        assert [view.id for view in client.list()] == ["waits"]
        client.resolve(open_promise(client), None)
        assert client.attach("waits").result(5) == "over"


@pytest.mark.parametrize("by", ["id", "age"])
def test_what_a_parked_one_was_woken_for_is_kept_until_it_has_it(world, by):
    """It ends at rest: who waits for it is woken, and nobody loads it yet."""

    async def other(ctx: Context) -> str:
        return await ctx.promise("go", type=str)

    async def h(ctx: Context) -> str:
        try:
            return await ctx.attach("it")
        except InvocationCancelled:
            await ctx.promise("hold")
            return "told"

    with world.holdfast(other, h, limits=Limits(waiting=0)) as client:
        client.start(other, id="it")
        open_promise(client)
        client.start(h, id="waits")
        wait_for(lambda: client.attach("waits").status().status == "suspended")

    async def rest():
        async with world.holdfast().resting() as client:
            await client.kill("it")
            if by == "id":
                with pytest.raises(WrongStatus, match="attached to by 'waits'"):
                    await client.purge("it")
            else:
                assert await client.purge_ended(-timedelta(seconds=1)) == 0

    asyncio.run(rest())
    with world.holdfast(other, h, limits=Limits(waiting=0)) as client:
        promise = open_promise(client)
        client.purge("it")
        client.resolve(promise)
        assert client.attach("waits").result(5) == "told"
