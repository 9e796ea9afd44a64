"""Objects: of one key one writer at a time, in order of arrival (G4); state and journal are one commit."""

import asyncio
import random
import threading

import pytest

from holdfast import (
    BadArguments,
    Context,
    InvocationCancelled,
    Limits,
    Object,
    ObjectContext,
    TerminalError,
    WrongStatus,
)
from tests.engine.family import child_of, status, until
from tests.engine.world import FakeClock, SlowStore, engine_of, open_promise, paused, tick, wait_for


def counter():
    """Counts in its state with a step between reading and writing, so that two at once would lose one."""
    group = Object("Counter")

    @group.handler
    async def add(ctx: ObjectContext, amount: int = 1) -> int:
        total = ctx.get("total", int, 0)
        total += await ctx.run(abs, amount)
        ctx.set("total", total)
        return total

    @group.handler(shared=True)
    async def total(ctx: ObjectContext) -> int:
        return ctx.get("total", int, 0)

    group.add, group.total = add, total
    return group


def box():
    """Holds its key until the test lets go, and writes down who was there."""
    group = Object("Box")

    @group.handler
    async def use(ctx: ObjectContext, word: str, hold: bool = False) -> str:
        ctx.append("order", word)
        if hold:
            await ctx.promise("go")
        await ctx.run(abs, 1)
        return word

    group.use = use
    return group


def order(client, key="k"):
    return client.state("Box", key)["order"]


def test_one_writer_at_a_time_and_none_is_lost(world, weather):
    group = counter()

    async def main() -> list[int]:
        async with world.holdfast(group, **weather) as client:
            handles = [await client.start(group.add, key="k") for _ in range(40)]
            return [await handle.result(20) for handle in handles]

    assert asyncio.run(main()) == list(range(1, 41))


def test_keys_do_not_wait_for_each_other(world, weather):
    group = box()
    with world.holdfast(group, **weather) as client:
        client.start(group.use, "held", hold=True, key="a")
        open_promise(client)
        assert client.call(group.use, "free", key="b", timeout=5) == "free"
        with pytest.raises(TimeoutError):
            client.call(group.use, "waits", key="a", timeout=0.05)


def test_of_one_key_they_run_in_order_of_arrival_also_after_deaths(world, weather):
    group = box()
    words = [str(n) for n in range(12)]
    with world.life(group, **weather) as client:
        client.start(group.use, "first", hold=True, key="k")
        for word in words:
            client.start(group.use, word, key="k", id=f"w{word}")
    with world.life(group, **weather) as client:
        open_promise(client)
        assert {view.status for view in client.list() if view.id.startswith("w")} == {"queued"}
    with world.holdfast(group, **weather) as client:
        client.resolve(open_promise(client))
        assert client.attach("w11").result(10) == "11"
        assert order(client) == ["first", *words]


def test_calls_sends_and_starts_of_one_key_queue_alike(world, weather):
    group = box()

    async def h(ctx: Context) -> str:
        ctx.send(group.use, "sent", key="k")
        return await ctx.call(group.use, "called", key="k")

    with world.holdfast(group, h, **weather) as client:
        client.start(group.use, "first", hold=True, key="k")
        promise = open_promise(client)
        called = client.start(h)
        wait_for(lambda: len(client.list(target="Box/use")) == 3)
        last = client.start(group.use, "last", key="k")
        client.resolve(promise)
        assert called.result(5) == "called"
        assert last.result(5) == "last"
        assert order(client) == ["first", "sent", "called", "last"]


@pytest.mark.parametrize("end", ["returns", "fails", "cancel", "kill"])
def test_the_key_is_free_when_its_holder_has_ended_in_any_way(world, weather, end):
    group = Object("Box")

    @group.handler
    async def use(ctx: ObjectContext, how: str) -> str:
        if how != "next":
            await ctx.promise("go")
        if how == "fails":
            raise TerminalError("no")
        return how

    with world.holdfast(group, **weather) as client:
        holder = client.start(use, end, key="k")
        promise = open_promise(client)
        following = client.start(use, "next", key="k")
        if end in {"cancel", "kill"}:
            getattr(holder, end)()
        else:
            client.resolve(promise)
        assert following.result(5) == "next"


def test_a_holder_that_is_cancelled_keeps_its_key_while_it_cleans_up(world, weather):
    group = Object("Box")

    @group.handler
    async def use(ctx: ObjectContext, word: str) -> list[str]:
        ctx.append("order", word)
        if word == "first":
            try:
                await ctx.promise("go")
            finally:
                await ctx.promise("cleaned up")
                ctx.append("order", "undone")
        return ctx.items("order", str)

    with world.holdfast(group, **weather) as client:
        first = client.start(use, "first", key="k")
        open_promise(client)
        second = client.start(use, "second", key="k")
        first.cancel()
        cleaned = open_promise(client)
        assert second.status().status == "queued"
        client.resolve(cleaned)
        assert second.result(5) == ["first", "undone", "second"]


def test_a_paused_holder_keeps_its_key_also_after_a_death(world, weather):
    group = box()
    with world.life(group, **weather) as client:
        client.start(group.use, "first", hold=True, key="k", id="first")
        client.pause("first")
        client.start(group.use, "second", key="k", id="second")
    with world.holdfast(group, **weather) as client:
        assert [status(client, id) for id in ("first", "second")] == ["paused", "queued"]
        client.resume("first")
        client.resolve(open_promise(client))
        assert client.attach("second").result(5) == "second"
        assert order(client) == ["first", "second"]


@pytest.mark.parametrize("deed", ["cancel", "kill", "pause"])
def test_who_waits_for_a_key_may_leave_the_queue(world, weather, deed):
    group = box()
    with world.holdfast(group, **weather) as client:
        first = client.start(group.use, "first", hold=True, key="k")
        promise = open_promise(client)
        second, third = (client.start(group.use, word, key="k") for word in ("second", "third"))
        getattr(second, deed)()
        client.resolve(promise)
        assert [first.result(5), third.result(5)] == ["first", "third"]
        if deed == "pause":
            second.resume()
            assert second.result(5) == "second"
        else:
            with pytest.raises(InvocationCancelled):
                second.result(5)
        assert order(client) == ["first", "third", *(["second"] if deed == "pause" else [])]


def test_one_at_the_head_of_the_queue_that_cannot_begin_does_not_hold_up_the_others(world):
    """Its handler is gone: it is paused, and whoever is behind it goes on."""
    group = box()

    @group.handler
    async def gone(ctx: ObjectContext) -> str:
        return "back"

    with world.life(group) as client:
        client.start(group.use, "first", hold=True, key="k")
        client.start(gone, key="k", id="gone")
        client.start(group.use, "last", key="k", id="last")
        open_promise(client)
    group.handlers.pop("gone")
    with world.holdfast(group) as client:
        client.resolve(open_promise(client))
        assert client.attach("last").result(5) == "last"
        assert "no handler 'Box/gone'" in paused(client.attach("gone"))


def test_the_head_of_the_queue_is_paused_in_the_moment_the_key_becomes_free(world):
    group = box()

    class Stalls(SlowStore):
        SECONDS = 0.01

    async def main() -> None:
        async with world.holdfast(group, wrap=Stalls) as client:
            for n in range(6):
                key = f"k{n}"
                first = await client.start(group.use, "first", hold=True, key=key)
                second = await client.start(group.use, "second", key=key)
                third = await client.start(group.use, "third", key=key)
                (row,) = [row for row in client._engine.store.open_promises(9) if row.status == 0]

                async def later(call, seconds: float):
                    await asyncio.sleep(seconds)
                    return await call()

                results = await asyncio.gather(
                    client.resolve(row.id), later(second.pause, n * 0.004), return_exceptions=True
                )
                assert await first.result(5) == "first"
                view = await second.status()
                if view.status == "paused" and view.began is not None:
                    await second.resume()  # it had its turn, and has kept the key
                assert await third.result(5) == "third", results
                if view.status == "paused" and view.began is None:
                    await second.resume()
                assert await second.result(5) == "second"

    asyncio.run(main())


def test_a_parked_writer_keeps_its_key_and_its_state(world):
    group = Object("Box")

    @group.handler
    async def use(ctx: ObjectContext, word: str) -> list[str]:
        ctx.set("who", word)
        ctx.append("order", word)
        await ctx.promise("go")
        assert ctx.get("who", str) == word
        return ctx.items("order", str)

    with world.holdfast(group, limits=Limits(waiting=0)) as client:
        first = client.start(use, "first", key="k")
        promise = open_promise(client)
        wait_for(lambda: engine_of(client).residents_count == 0)
        second = client.start(use, "second", key="k")
        assert second.status().status == "queued"
        client.resolve(promise)
        assert first.result(5) == ["first"]
        client.resolve(open_promise(client))
        assert second.result(5) == ["first", "second"]


def test_many_keys_and_writers_with_little_room(world):
    group = counter()
    keys = [f"k{n}" for n in range(10)]

    async def main() -> dict[str, int]:
        async with world.holdfast(group, limits=Limits(running=3, waiting=1, backlog=5)) as client:
            jobs = [key for key in keys for _ in range(12)]
            random.Random(5).shuffle(jobs)
            handles = [await client.start(group.add, key=key) for key in jobs]
            await asyncio.gather(*[handle.result(30) for handle in handles])
            return {key: (await client.state("Counter", key))["total"] for key in keys}

    assert asyncio.run(main()) == dict.fromkeys(keys, 12)


def test_a_shared_handler_reads_beside_the_writer_what_is_committed(world, weather):
    group = counter()

    @group.handler
    async def slowly(ctx: ObjectContext) -> None:
        ctx.set("total", 100)
        await ctx.promise("go")
        ctx.set("total", 200)
        await ctx.run(abs, 1)

    with world.holdfast(group, **weather) as client:
        assert client.call(group.total, key="k", timeout=5) == 0
        writer = client.start(slowly, key="k")
        promise = open_promise(client)
        assert client.call(group.total, key="k", timeout=5) == 100
        client.resolve(promise)
        writer.result(5)
        assert client.call(group.total, key="k", timeout=5) == 200


def test_a_reader_sees_on_replay_what_it_saw(world):
    """Although the state is another by then."""
    group = Object("Box")
    seen = []

    @group.handler
    async def write(ctx: ObjectContext, n: int) -> None:
        ctx.set("value", n)
        ctx.clear("list")
        for item in range(n):
            ctx.append("list", item)

    @group.handler(shared=True)
    async def look(ctx: ObjectContext) -> list:
        seen.append([ctx.get("value", int), ctx.items("list", int), ctx.keys(), ctx.get("nothing", int, -1)])
        await ctx.promise("go")
        return [*seen[-1], ctx.get("value", int), ctx.items("list", int)]

    with world.life(group) as client:
        client.call(write, 2, key="k", timeout=5)
        client.start(look, key="k", id="x")
        open_promise(client)
        client.call(write, 3, key="k", timeout=5)
    with world.holdfast(group) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(5) == [2, [0, 1], ["list", "value"], -1, 3, [0, 1, 2]]
    assert seen[0] == seen[-1]


def test_state_is_written_from_outside_while_nobody_writes(world):
    group = box()
    with world.holdfast(group) as client:
        client.set_state("Box", "k", "x", {"a": 1})
        assert client.state("Box", "k") == {"x": {"a": 1}}
        holder = client.start(group.use, "first", hold=True, key="k")
        promise = open_promise(client)
        with pytest.raises(WrongStatus, match="is being written by"):
            client.set_state("Box", "k", "x", 2)
        client.resolve(promise)
        holder.result(5)
        with pytest.raises(WrongStatus, match="is a list"):
            client.set_state("Box", "k", "order", 2)
        client.set_state("Box", "k", "x", None)
        assert client.state("Box", "k") == {"order": ["first"]}


def failing(hold):
    group = Object("Box")

    @group.handler
    async def work(ctx: ObjectContext, word: str) -> list[str]:
        ctx.append("list", f"{word} 1")
        if word == "clears":
            ctx.clear("list")
            ctx.append("list", f"{word} 2")
        if word != "other":
            await ctx.run(fragile)
        ctx.append("list", f"{word} 3")
        return ctx.items("list", str)

    async def fragile() -> None:
        if hold:
            raise TerminalError("not yet")

    group.work = work
    return group


@pytest.mark.parametrize("word", ["fails", "clears"])
def test_a_failed_writer_that_is_opened_again_adds_to_the_list_as_it_is_now(world, word):
    hold = [True]
    group = failing(hold)
    with world.holdfast(group) as client:
        handle = client.start(group.work, word, key="k")
        with pytest.raises(TerminalError):
            handle.result(5)
        client.call(group.work, "other", key="k", timeout=5)
        hold.clear()
        handle.retry()
        handle.result(5)
        kept = [f"{word} {2 if word == 'clears' else 1}"]
        assert client.state("Box", "k") == {"list": [*kept, "other 1", "other 3", f"{word} 3"]}
        assert client.call(group.work, "other", key="k", timeout=5)[-1] == "other 3"


def test_a_failed_writer_waits_for_its_key_when_it_is_opened_again(world):
    hold = [True]
    group = failing(hold)

    @group.handler
    async def holds(ctx: ObjectContext) -> None:
        await ctx.promise("go")
        ctx.append("list", "held")

    with world.holdfast(group) as client:
        handle = client.start(group.work, "fails", key="k")
        with pytest.raises(TerminalError):
            handle.result(5)
        client.start(holds, key="k")
        promise = open_promise(client)
        hold.clear()
        handle.retry()
        assert handle.status().status == "queued"
        client.resolve(promise)
        assert handle.result(5) == ["fails 1", "fails 3"], "it goes on with what it had seen"
        assert client.state("Box", "k") == {"list": ["fails 1", "held", "fails 3"]}


@pytest.mark.parametrize("deed", ["cancel", "pause and resume", "cancel by a handler"])
def test_one_that_waits_to_be_opened_again_is_never_beside_the_holder(world, deed):
    hold, inside = [True], []
    group = Object("Box")

    @group.handler
    async def work(ctx: ObjectContext, word: str) -> str:
        inside.append(word)
        try:
            if word == "fails":
                await ctx.run(fragile)
                await ctx.promise("never")
            else:
                await ctx.promise("go")
        finally:
            inside.append(f"{word} ends")
            ctx.set("who", word)
        return word

    async def fragile() -> None:
        if hold:
            raise TerminalError("not yet")

    async def cancels(ctx: Context, id: str) -> None:
        ctx.cancel(id)

    with world.holdfast(group, cancels) as client:
        handle = client.start(work, "fails", key="k")
        with pytest.raises(TerminalError):
            handle.result(5)
        client.start(work, "holds", key="k", id="holder")
        promise = open_promise(client)
        hold.clear()
        handle.retry()
        until(client, handle.id, "queued")
        inside.clear()
        if deed == "cancel":
            handle.cancel()
        elif deed == "cancel by a handler":
            client.call(cancels, handle.id, timeout=5)
        else:
            try:
                handle.pause()
            except WrongStatus:
                pass
            else:
                handle.resume()
        threading.Event().wait(0.02)
        assert inside == [], "the key is held by another"
        client.resolve(promise)
        assert client.attach("holder").result(5) == "holds"
        if deed.startswith("cancel"):
            with pytest.raises(InvocationCancelled):
                handle.result(5)


@pytest.mark.parametrize("way", ["restart", "fork"])
def test_a_copy_of_a_writer_adds_to_the_list_as_it_is_now(world, way):
    group = failing([])
    with world.holdfast(group) as client:
        first = client.start(group.work, "clears", key="k")
        assert first.result(5) == ["clears 2", "clears 3"]
        client.call(group.work, "other", key="k", timeout=5)
        step = next(view.id for view in first.journal() if view.kind == "step")
        copy = first.restart(from_step=step) if way == "restart" else first.fork(step, None)
        wait_for(lambda: copy.status().status in {"done", "paused"})
        listed = client.state("Box", "k")["list"]
        assert listed[:4] == ["clears 2", "clears 3", "other 1", "other 3"], "nothing of the others' is lost"
        assert listed[4:] in ([], ["clears 3"]), copy.status().reason
        assert client.call(group.work, "other", key="k", timeout=5)[-1] == "other 3"


def test_delays_and_timers_of_a_writer_hold_its_key(world):
    clock, group = FakeClock(), Object("Box")

    @group.handler
    async def sleeps(ctx: ObjectContext, word: str) -> str:
        ctx.append("order", word)
        await asyncio.sleep(60)
        return word

    with world.holdfast(group, clock=clock, limits=Limits(waiting=0)) as client:
        first, second = (client.start(sleeps, word, key="k") for word in ("first", "second"))
        for handle, word in ((first, "first"), (second, "second")):
            until(client, handle.id, "suspended")
            assert order(client)[-1] == word
            clock.wind(60)
            tick(client)
            assert handle.result(5) == word


def test_a_handler_of_an_object_is_not_called_without_a_key(world):
    group = counter()

    async def h(ctx: Context) -> int:
        refused = 0
        for key in (None, "", "\n", "k" * 201):
            try:
                await ctx.call(group.add, key=key)
            except BadArguments:
                refused += 1
        return refused

    with world.holdfast(group, h) as client:
        assert client.call(h, timeout=5) == 4
        with pytest.raises(BadArguments):
            client.start(group.add)


def test_a_killed_writer_and_what_it_called(world, weather):
    group = Object("Box")

    @group.handler
    async def outer(ctx: ObjectContext) -> None:
        await ctx.call(inner, key="inner")

    @group.handler
    async def inner(ctx: ObjectContext, hold: bool = True) -> str:
        if hold:
            await ctx.promise("never")
        return "free"

    with world.holdfast(group, **weather) as client:
        handle = client.start(outer, key="outer")
        open_promise(client)
        called = child_of(client, handle.id)
        handle.kill()
        until(client, called, "killed")
        for key in ("inner", "outer"):
            assert client.call(inner, hold=False, key=key, timeout=5) == "free"
