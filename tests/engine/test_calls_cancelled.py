"""Cancels, timeouts and ends along calls: what was called is stopped with who waits for it, and cleans up (G7)."""

import asyncio
import threading

import pytest

from holdfast import (
    Context,
    InvocationCancelled,
    Object,
    ObjectContext,
)
from tests.engine.family import Counting, child_of, service, status, until
from tests.engine.world import engine_of, in_engine, open_promise, wait_for


def test_a_cancel_goes_down_the_calls_and_not_along_the_sends(world, weather):
    undone = []

    async def leaf(ctx: Context, word: str) -> None:
        try:
            await ctx.promise("go")
        except asyncio.CancelledError:
            await ctx.run(undone.append, word)
            raise

    async def middle(ctx: Context) -> None:
        await asyncio.gather(ctx.call(leaf, "called"), ctx.call(leaf, "called"))

    async def h(ctx: Context) -> None:
        ctx.send(leaf, "sent")
        await ctx.call(middle)

    with world.holdfast(leaf, middle, h, **weather) as client:
        handle = client.start(h)
        wait_for(lambda: len(engine_of(client).store.open_promises(9)) == 3)
        handle.cancel("too late")
        with pytest.raises(InvocationCancelled, match="too late"):
            handle.result(5)
        wait_for(lambda: len(client.list(status="cancelled")) == 4)
        (sent,) = client.list(status="suspended")
        assert sent.target == "leaf"
    assert undone == ["called", "called"]


def test_a_cancel_reaches_one_that_has_not_begun(world, weather):
    ran, box = [], Object("Box")

    @box.handler
    async def use(ctx: ObjectContext, word: str) -> None:
        ran.append(word)
        await ctx.promise("go")

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.02):
                await ctx.call(use, "second", key="k")
        except TimeoutError:
            return "late"

    with world.holdfast(box, h, **weather) as client:
        client.start(use, "first", key="k", id="first")
        open_promise(client)
        handle = client.start(h)
        assert handle.result(5) == "late"
        until(client, child_of(client, handle.id), "cancelled")
        assert status(client, "first") == "suspended"
        client.resolve(open_promise(client))
        client.attach("first").result(5)
    assert set(ran) == {"first"}


@pytest.mark.parametrize("order", ["end first", "cancel first"])
def test_the_called_one_ends_in_the_turn_in_which_its_caller_is_cancelled(world, order):
    group = service()
    with world.holdfast(group) as client:
        client.start(group.caller, "a", id="x")
        open_promise(client)
        child = child_of(client, "x")
        engine = engine_of(client)

        def both():
            parent, called = (engine.resident(engine.number_of(id)) for id in ("x", child))
            (local,) = called.machine.waiting
            deeds = [
                lambda: engine.driver.settle(called, local, b'"b"', ok=True),
                lambda: engine.driver.cancel(parent, "now"),
            ]
            for deed in deeds if order == "end first" else reversed(deeds):
                deed()

        in_engine(client, both)
        with pytest.raises(InvocationCancelled, match="now"):
            client.attach("x").result(5)
        wait_for(lambda: status(client, child) in {"done", "cancelled"})
        assert status(client, child) == "done", "its end came first: it is not taken back"


def test_a_timeout_around_a_call_cancels_it_and_the_caller_goes_on(world, weather):
    group = service()

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.02):
                await ctx.call(group.leaf, "a")
        except TimeoutError:
            pass
        try:
            await asyncio.wait_for(ctx.call(group.leaf, "b"), 0.02)
        except TimeoutError:
            return await ctx.call(group.quick, "late")

    with world.holdfast(group, h, **weather) as client:
        assert client.call(h, timeout=5) == "LATE"
        wait_for(lambda: [view.status for view in client.list(target="Group/leaf")] == ["cancelled"] * 2)
        reasons = [view.reason for view in client.list(target="Group/leaf")]
        assert all("does not wait for it any more" in reason for reason in reasons)


def test_a_timeout_that_strikes_while_nobody_runs(world):
    group = service()

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.05):
                return await ctx.call(group.leaf, "a")
        except TimeoutError:
            return "late"

    with world.life(group, h) as client:
        client.start(h, id="x")
        child = child_of(client, "x")
    threading.Event().wait(0.06)
    with world.holdfast(group, h) as client:
        assert client.attach("x").result(5) == "late"
        until(client, child, "cancelled")


def test_calls_left_behind_when_the_handler_ends_are_cancelled(world, weather):
    group = service()

    async def h(ctx: Context) -> str:
        ctx.call(group.leaf, "not awaited at all")
        behind = asyncio.ensure_future(ctx.call(group.leaf, "a"))
        await ctx.run(abs, 1)
        assert not behind.done()
        ctx.call(group.leaf, "asked for in the last turn")
        return "over"

    with world.holdfast(group, h, **weather) as client:
        handle = client.start(h)
        assert handle.result(5) == "over"
        wait_for(lambda: [view.status for view in client.list(target="Group/leaf")] == ["cancelled"] * 2)


def test_a_race_between_a_call_and_a_message_cancels_the_loser(world, weather):
    group = service()

    async def h(ctx: Context) -> str:
        call, word = ctx.call(group.leaf, "a"), ctx.receive("stop", str)
        done, _ = await asyncio.wait({call, word}, return_when=asyncio.FIRST_COMPLETED)
        call.cancel()
        return done.pop().result()

    with world.holdfast(group, h, **weather) as client:
        handle = client.start(h)
        child = child_of(client, handle.id)
        handle.signal("stop", "halt")
        assert handle.result(5) == "halt"
        until(client, child, "cancelled")


def test_the_clean_up_of_a_cancelled_one_may_call(world, weather):
    counting = Counting()
    group = service(counting)

    async def h(ctx: Context) -> str:
        try:
            return await ctx.call(group.leaf, "a")
        except asyncio.CancelledError:
            await ctx.call(group.quick, "undo")
            raise

    with world.holdfast(group, h, **weather) as client:
        handle = client.start(h)
        open_promise(client)
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
    assert counting.ran == ["a", "undo"]


def test_a_called_one_that_ignores_its_cancel_runs_to_its_end(world, weather):
    async def stubborn(ctx: Context) -> str:
        try:
            await ctx.promise("never")
        except asyncio.CancelledError:
            return await ctx.promise("end", type=str)

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.01):
                return await ctx.call(stubborn)
        except TimeoutError:
            return "late"

    with world.holdfast(stubborn, h, **weather) as client:
        handle = client.start(h)
        assert handle.result(5) == "late"
        child = child_of(client, handle.id)
        client.resolve(open_promise(client), "after all")
        assert client.attach(child).result(5) == "after all"


def test_a_paused_one_that_is_cancelled_by_its_caller_goes_on_to_clean_up(world, weather):
    undone = []

    async def child(ctx: Context) -> None:
        try:
            await ctx.promise("go")
        except asyncio.CancelledError:
            await ctx.run(undone.append, "undone")
            raise

    async def h(ctx: Context) -> None:
        await ctx.call(child)

    with world.holdfast(child, h, **weather) as client:
        handle = client.start(h)
        open_promise(client)
        called = child_of(client, handle.id)
        client.pause(called)
        until(client, called, "paused")
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
        until(client, called, "cancelled")
    assert undone == ["undone"]


def test_a_cancel_that_comes_while_the_called_one_is_being_paused_is_not_lost(world):
    ran, hold = threading.Event(), threading.Event()

    def body() -> None:
        ran.set()
        hold.wait(5)

    async def child(ctx: Context) -> None:
        await ctx.run(body)
        await ctx.promise("go")

    async def h(ctx: Context) -> None:
        await ctx.call(child)

    with world.holdfast(child, h) as client:
        handle = client.start(h)
        assert ran.wait(5)
        called = child_of(client, handle.id)
        client.pause(called)  # it stays in memory until its body has ended
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
        until(client, called, "cancelled")
        hold.set()


def test_two_cancels_of_a_paused_one_run_its_clean_up_once(world, weather):
    undone = []

    async def child(ctx: Context) -> None:
        try:
            await ctx.promise("go")
        except asyncio.CancelledError:
            await ctx.run(undone.append, 1)
            await asyncio.sleep(0.01)
            await ctx.run(undone.append, 2)
            raise

    async def cancels(ctx: Context, id: str) -> None:
        ctx.cancel(id)

    with world.holdfast(child, cancels, **weather) as client:
        handle = client.start(child)
        open_promise(client)
        handle.pause()
        until(client, handle.id, "paused")
        for _ in range(2):
            client.call(cancels, handle.id, timeout=5)
        until(client, handle.id, "cancelled")
    assert undone == [1, 2]
