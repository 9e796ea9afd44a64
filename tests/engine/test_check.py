"""client.check: would the code at hand go on with what is under way? Said without running a body or leaving a trace."""

import asyncio

import pytest

from holdfast import Context, InvocationFailed, Limits, Object, Retry
from tests.engine.lives import Flags, life
from tests.engine.world import FakeClock, open_promise, paused, wait_for


def code(flags, *names, handler="h", wait=True):
    """A handler with these steps and a wait at the end."""

    async def h(ctx: Context) -> str:
        for name in names:
            await ctx.run(flags.note, name, name=name)
        return await ctx.promise("p", type=str) if wait else "done"

    h.__name__ = handler
    return h


def checked(one):
    return {view.id: view for view in one.client._thread.call(one.client._client.check())}


def test_code_that_fits_is_fine_and_code_that_does_not_is_named_with_both_paths(world):
    flags = Flags()
    old = code(flags, "a", "b")
    with life(world, old) as one:
        one.client.start(old, id="x")
        open_promise(one.client)
        (view,) = checked(one).values()
        assert (view.id, view.target, view.ok, view.problem) == ("x", "h", True, None)
    journal = world.journal("x")

    async def look(*handlers):
        async with world.holdfast(*handlers).resting() as client:
            return await client.check()

    for new, problem in [
        (code(flags, "a", "b", "c"), None),
        (code(flags, "a", "c", "b"), "completes 'b#1', but the code at that point waits for 'c#1'"),
        (code(flags, "a", wait=False), "the handler ended, but the journal goes on with 'b#1'"),
        (code(flags, "a", "b", handler="other"), "no handler 'h' is registered"),
    ]:
        (view,) = asyncio.run(look(new))
        assert view.ok is (problem is None)
        assert problem is None or problem in view.problem
    assert world.journal("x") == journal
    assert flags.ran == ["a", "b"], "no body runs"


def test_everything_that_has_begun_and_not_ended_is_looked_at(world):
    flags, clock = Flags(), FakeClock()
    desk = Object("Desk")
    broken = [True]

    async def fail() -> None:
        if broken:
            raise ConnectionError("down")

    @desk.handler
    async def write(ctx: Context, how: str) -> None:
        await ctx.run(flags.note, "a")
        if how == "fails":
            await ctx.run(fail, retry=Retry(max_attempts=1))
        await ctx.run(flags.body, how)

    async def h(ctx: Context, how: str) -> None:
        await ctx.run(flags.note, "a")
        if how == "runs":
            await ctx.run(flags.body, how)
        elif how == "bug":
            await ctx.run(lambda: 1 / 0 if False else None.x)
        elif how == "waits":
            await ctx.receive("go")

    with life(world, h, desk, clock=clock) as one:
        start = one.client.start
        start(h, "runs", id="runs")
        start(h, "waits", id="waits")
        start(h, "waits", id="paused").pause()
        paused(start(h, "bug", id="bug"))
        start(h, "", id="done").result(5)
        start(h, "", id="delayed", delay=60)
        failed = start(write, "fails", key="k", id="reopened")
        with pytest.raises(InvocationFailed):
            failed.result(5)
        start(write, "holds", key="k", id="holds")
        start(write, "behind", key="k", id="behind")
        failed.retry()
        wait_for(lambda: one.client.attach("waits").status().status == "suspended")
        found = checked(one)
        assert set(found) == {"runs", "waits", "paused", "bug", "holds", "reopened"}
        assert all(view.ok for view in found.values()), "a fault of a step is not one of the code's path"
        assert [one.client.attach(id).status().status for id in ("runs", "waits", "paused", "reopened")] == [
            "ready", "suspended", "paused", "queued",
        ]  # fmt: skip


def test_what_runs_is_not_disturbed(world):
    flags = Flags()

    async def h(ctx: Context, n: int) -> list[int]:
        seen = []
        for _ in range(20):
            seen.append(await ctx.run(abs, n))
            ctx.emit(n)
            await asyncio.sleep(0.001)
        await ctx.run(flags.note, "end")
        return seen

    with life(world, h, limits=Limits(waiting=2)) as one:
        client = one.client._client

        async def both():
            handles = [await client.start(h, n) for n in range(8)]
            for _ in range(10):
                assert all(view.ok for view in await client.check())
                await asyncio.sleep(0.002)
            return [await handle.result() for handle in handles]

        assert one.client._thread.call(both()) == [[n] * 20 for n in range(8)]
    assert flags.ran == ["end"] * 8


def test_timers_and_answers_go_on_while_many_are_looked_at(world):
    flags = Flags()
    h = code(flags, "a")
    with life(world, h) as one:
        client = one.client._client

        async def both():
            for n in range(60):
                await client.start(h, id=f"x{n}")
            turns = 0
            looking = asyncio.ensure_future(client.check())
            while not looking.done():
                await asyncio.sleep(0)
                turns += 1
            return turns, await looking

        turns, views = one.client._thread.call(both())
        assert len(views) == 60
        assert turns > 20, "it does not hold the loop"


def test_a_damaged_journal_is_a_problem_of_its_own(memory_world):
    flags = Flags()
    h = code(flags, "a", "b")
    with life(memory_world, h) as one:
        for id in ("x", "y"):
            one.client.start(h, id=id)
        wait_for(lambda: len(one.engine.store.open_promises(9)) == 2)
    entries = memory_world._memory._entries
    with memory_world.opened() as store:
        n = store.find("x").n
    entries[n][1] = b"\x01rubbish"
    with life(memory_world, h) as one:
        found = checked(one)
        assert found["y"].ok
        assert "does not decode" in found["x"].problem


def test_versions_and_state_are_read_as_they_were(world):
    desk = Object("Desk")

    @desk.handler
    async def write(ctx: Context) -> str:
        first = ctx.get("n", int, 0)
        await ctx.run(abs, first)
        if ctx.version("change") == 1:
            await ctx.run(abs, ctx.get("m", int, 0))
        return await ctx.receive("go", str)

    with life(world, desk) as one:
        handle = one.client.start(write, key="k", id="x")
        wait_for(lambda: handle.status().status == "suspended")
        assert checked(one)["x"].ok
        handle.signal("go", "on")
        assert handle.result(5) == "on"
