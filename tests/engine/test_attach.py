"""Invocations that have a name: called twice, joined by others, attached to in every state; one run for each (G6)."""

import asyncio

from holdfast import (
    BadArguments,
    Context,
    IdConflict,
    InvocationCancelled,
    InvocationFailed,
    UnknownInvocation,
)
from tests.engine.family import Counting, service, status, until
from tests.engine.world import open_promise, wait_for


def test_two_callers_of_one_id_get_one_run(world, weather):
    counting = Counting()
    group = service(counting)

    async def h(ctx: Context) -> str:
        return await ctx.call(group.leaf, "a", id="the one")

    with world.holdfast(group, h, **weather) as client:
        handles = [client.start(h) for _ in range(3)]
        promise = open_promise(client)
        wait_for(lambda: [status(client, handle.id) for handle in handles] == ["suspended"] * 3)
        client.resolve(promise, "b")
        assert [handle.result(5) for handle in handles] == ["ab"] * 3
        assert client.call(h, timeout=5) == "ab", "and one that comes after its end"
    assert counting.ran == ["a"]


def test_one_caller_calls_one_id_twice(world, weather):
    counting = Counting()
    group = service(counting)

    async def h(ctx: Context) -> list[str]:
        calls = [ctx.call(group.leaf, "a", id="the one") for _ in range(2)]
        return [*await asyncio.gather(*calls), await ctx.call(group.leaf, "a", id="the one")]

    with world.life(group, h, **weather) as client:
        client.start(h, id="x")
        open_promise(client)
    with world.holdfast(group, h, **weather) as client:
        client.resolve(open_promise(client), "b")
        assert client.attach("x").result(5) == ["ab"] * 3
    assert counting.ran == ["a"]


def test_a_call_to_an_id_of_another_handler_is_a_conflict(world):
    group = service()

    async def h(ctx: Context, first: str) -> str:
        try:
            if first == "own":
                await ctx.call(group.quick, "a", id="taken")
            return await ctx.call(group.leaf, "a", id="taken")
        except IdConflict as error:
            return error.what

    with world.holdfast(group, h) as client:
        told = client.call(h, "own", timeout=5)
        assert "'taken'" in told
        assert "Group/quick" in told
        assert "Group/quick" in client.call(h, "other's", timeout=5)


def test_the_first_to_call_an_id_gives_up_and_the_other_still_gets_the_result(world, weather):
    group = service()

    async def h(ctx: Context, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                return await ctx.call(group.leaf, "a", id="the one")
        except TimeoutError:
            return "late"

    with world.holdfast(group, h, **weather) as client:
        patient = client.start(h, 3600)
        promise = open_promise(client)
        assert client.call(h, 0.02, timeout=5) == "late"
        client.resolve(promise, "b")
        assert patient.result(5) == "ab", "one that was only attached to it does not cancel it"


def test_an_id_that_cannot_be_one_is_refused_where_it_is_written(world):
    group = service()

    async def h(ctx: Context) -> str:
        try:
            await ctx.call(group.quick, "a", id="")
        except BadArguments as error:
            return error.what

    with world.holdfast(group, h) as client:
        assert "cannot be an invocation id" in client.call(h, timeout=5)


def test_attach_to_one_that_runs_and_to_one_that_has_ended(world, weather):
    group = service()

    async def h(ctx: Context) -> list[str]:
        return [await ctx.attach("it", str), await ctx.attach("it")]

    with world.holdfast(group, h, **weather) as client:
        client.start(group.leaf, "a", id="it")
        promise = open_promise(client)
        handle = client.start(h)
        until(client, handle.id, "suspended")
        client.resolve(promise, "b")
        assert handle.result(5) == ["ab", "ab"]
        assert client.call(h, timeout=5) == ["ab", "ab"]


def test_attach_across_a_death(world, weather):
    group = service()

    async def h(ctx: Context) -> str:
        return await ctx.attach("it", str)

    with world.life(group, h, **weather) as client:
        client.start(group.leaf, "a", id="it")
        open_promise(client)
        client.start(h, id="x")
        until(client, "x", "suspended")
    with world.holdfast(group, h, **weather) as client:
        client.resolve(open_promise(client), "b")
        assert client.attach("x").result(5) == "ab"


def test_attach_to_nothing(world, weather):
    async def h(ctx: Context) -> str:
        try:
            await ctx.attach("nobody")
        except UnknownInvocation as error:
            await ctx.promise("hold")
            return error.what

    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        client.resolve(open_promise(client))
        assert "no invocation has the id 'nobody'" in handle.result(5)


def test_attach_to_a_paused_one_waits(world, weather):
    group = service()

    async def h(ctx: Context) -> str:
        return await ctx.attach("it", str)

    with world.holdfast(group, h, **weather) as client:
        client.start(group.leaf, "a", id="it")
        promise = open_promise(client)
        client.pause("it")
        until(client, "it", "paused")
        handle = client.start(h)
        until(client, handle.id, "suspended")
        client.resolve(promise, "b")
        client.resume("it")
        assert handle.result(5) == "ab"


def test_attach_to_one_that_fails_is_cancelled_or_killed(world, weather):
    async def child(ctx: Context) -> None:
        await ctx.promise("go")
        raise ValueError("no")

    async def h(ctx: Context, id: str) -> str:
        try:
            await ctx.attach(id)
        except (InvocationFailed, InvocationCancelled) as error:
            return type(error).__name__

    with world.holdfast(child, h, **weather) as client:
        told = {}
        for end in ("fail", "cancel", "kill"):
            client.start(child, id=end)
            handle = client.start(h, end)
            until(client, handle.id, "suspended")
            if end == "fail":
                client.resolve(open_promise(client))
            else:
                getattr(client, end)(end)
            told[end] = handle.result(5)
    assert told == {"fail": "InvocationFailed", "cancel": "InvocationCancelled", "kill": "InvocationCancelled"}


def test_attach_as_another_type_says_so(world, weather):
    group = service()

    async def h(ctx: Context) -> str:
        try:
            await ctx.attach("it", int)
        except InvocationFailed as error:
            await ctx.promise("hold")
            return str(error)

    with world.holdfast(group, h, **weather) as client:
        client.start(group.quick, "a", id="it").result(5)
        handle = client.start(h)
        client.resolve(open_promise(client))
        assert "int" in handle.result(5)


def test_a_wait_that_is_given_up_does_not_touch_the_other(world, weather):
    group = service()

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.01):
                await ctx.attach("it")
        except TimeoutError:
            return "late"

    with world.holdfast(group, h, **weather) as client:
        it = client.start(group.leaf, "a", id="it")
        promise = open_promise(client)
        assert client.call(h, timeout=5) == "late"
        client.resolve(promise, "b")
        assert it.result(5) == "ab"


def test_attach_to_one_that_was_cancelled_in_the_same_turn(world, weather):
    group = service(Counting())

    async def h(ctx: Context) -> str:
        sent = ctx.send(group.quick, "a", delay=3600)
        await ctx.promise("hold")
        ctx.cancel(sent)
        try:
            await ctx.attach(sent)
        except InvocationCancelled:
            return "cancelled"

    with world.holdfast(group, h, **weather) as client:
        handle = client.start(h)
        client.resolve(open_promise(client))
        assert handle.result(5) == "cancelled"
