"""Sends: what is sent begins exactly once (G4), at its time and not before (G5), and goes on without its sender."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from holdfast import (
    BadArguments,
    BadTimer,
    Context,
    InvocationCancelled,
    Limits,
    Object,
    ObjectContext,
    TerminalError,
)
from tests.engine.world import FakeClock, engine_of, open_promise, tick, wait_for


def target(ran):
    async def sent(ctx: Context, word: str) -> str:
        await ctx.run(ran.append, word)
        return word.upper()

    return sent


def status(client, id):
    return client.attach(id).status().status


def test_one_that_is_sent_runs_although_nobody_waits(world, weather):
    ran = []
    sent = target(ran)

    async def h(ctx: Context) -> str:
        return ctx.send(sent, "a").id

    with world.holdfast(sent, h, **weather) as client:
        handle = client.start(h)
        id = handle.result(5)
        assert client.attach(id).result(5) == "A"
        assert client.attach(id).status().parent == handle.id
    assert ran == ["a"]


def test_a_hundred_sends_in_one_turn_run_once_each(world, weather):
    ran = []
    sent = target(ran)

    async def h(ctx: Context) -> list[str]:
        return [ctx.send(sent, str(n)).id for n in range(100)]

    with world.holdfast(sent, h, **weather) as client:
        ids = client.call(h, timeout=5)
        assert len(set(ids)) == 100
        assert [client.attach(id).result(10) for id in ids] == [str(n) for n in range(100)]
    assert sorted(ran, key=int) == [str(n) for n in range(100)]


def test_it_goes_on_when_who_sent_it_fails_is_cancelled_or_killed(world, weather):
    ran = []
    sent = target(ran)

    async def h(ctx: Context, how: str) -> None:
        ctx.send(sent, how, id=f"sent by {how}", delay=0.05)
        if how == "fails":
            raise TerminalError("no")
        await ctx.promise("never")

    with world.holdfast(sent, h, **weather) as client:
        for how in ("fails", "cancel", "kill"):
            handle = client.start(h, how)
            wait_for(lambda how=how: client.list(target="sent") and client.attach(f"sent by {how}"))
            if how != "fails":
                getattr(handle, how)()
            with pytest.raises((TerminalError, InvocationCancelled)):
                handle.result(5)
            assert client.attach(f"sent by {how}").result(5) == how.upper()
    assert ran == ["fails", "cancel", "kill"]


def test_a_send_by_the_clean_up_of_a_cancelled_one(world, weather):
    ran = []
    sent = target(ran)

    async def h(ctx: Context) -> None:
        try:
            await ctx.promise("never")
        finally:
            ctx.send(sent, "undo", id="undo")

    with world.holdfast(sent, h, **weather) as client:
        handle = client.start(h)
        open_promise(client)
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
        assert client.attach("undo").result(5) == "UNDO"


def test_who_sent_it_may_attach_to_it_and_cancel_it(world, weather):
    async def waits(ctx: Context) -> str:
        return await ctx.promise("go", type=str)

    async def h(ctx: Context) -> str:
        first, second = ctx.send(waits), ctx.send(waits)
        ctx.cancel(second, "not that one")
        try:
            await ctx.attach(second)
        except InvocationCancelled as error:
            return f"{await ctx.attach(first, str)}, {error.what}"

    with world.holdfast(waits, h, **weather) as client:
        handle = client.start(h)
        wait_for(lambda: len(client.list(status="cancelled")) == 1)
        client.resolve(open_promise(client), "done")
        assert handle.result(5).startswith("done, invocation ")
        assert "not that one" in handle.result(1)


@pytest.mark.parametrize("waiting", [0, 99])
def test_what_was_sent_before_and_after_a_wait_is_sent_once_over_many_deaths(world, waiting):
    ran = []
    sent = target(ran)

    async def h(ctx: Context) -> list[str]:
        ids = [ctx.send(sent, "before").id]
        for n in range(3):
            await ctx.receive("go")
            ids.append(ctx.send(sent, f"after {n}").id)
        return ids

    limits = Limits(waiting=waiting)
    with world.life(sent, h, limits=limits) as client:
        client.start(h, id="x")
        wait_for(lambda: [view.status for view in client.list(target="sent")] == ["done"])
    for n in range(3):
        with world.life(sent, h, limits=limits) as client:
            client.signal("x", "go")
            wait_for(lambda n=n: f"after {n}" in ran)
            wait_for(lambda: all(view.status != "ready" for view in client.list()))
    with world.holdfast(sent, h, limits=limits) as client:
        ids = client.attach("x").result(5)
        assert sorted(view.id for view in client.list(parent="x")) == sorted(ids)
        assert [client.attach(id).result(5) for id in ids] == ["BEFORE", "AFTER 0", "AFTER 1", "AFTER 2"]
    assert ran == ["before", "after 0", "after 1", "after 2"]


@pytest.mark.parametrize("by", ["a call", "a signal at rest"])
def test_deeds_of_one_that_was_woken_are_done_once_when_it_dies_within_the_next_body(world, by):
    """Its row said that something had come. That must not be read again as: what followed is still to be done."""
    ran, hold, log = [], threading.Event(), Object("Log")

    @log.handler
    async def work(ctx: ObjectContext) -> list[str]:
        await (ctx.call(child) if by == "a call" else ctx.receive("go"))
        ctx.append("lines", "woken")
        ctx.signal("ear", "word", "woken")
        ctx.send(sent, "woken")
        await ctx.run(body)
        return ctx.items("lines", str)

    def body() -> None:
        ran.append("body")
        hold.wait(5 if ran.count("body") == 1 else 0)

    async def child(ctx: Context) -> None:
        await ctx.promise("go")

    async def ear(ctx: Context) -> list[str]:
        heard = []
        while (word := await ctx.receive("word", str)) != "end":
            heard.append(word)
        return heard

    async def signal_at_rest() -> None:
        async with world.holdfast(*handlers).resting() as client:
            await client.signal("x", "go")

    sent = target(ran)
    handlers = log, child, sent, ear
    options = {"limits": Limits(waiting=0, drain_seconds=0)}
    with world.life(*handlers, **options) as client:
        client.start(ear, id="ear")
        client.start(work, key="k", id="x")
        wait_for(lambda: status(client, "x") == "suspended" and engine_of(client).residents_count == 0)
        if by == "a call":
            client.resolve(open_promise(client))
            wait_for(lambda: "body" in ran)
    if by != "a call":
        asyncio.run(signal_at_rest())
        with world.life(*handlers, **options) as client:
            wait_for(lambda: "body" in ran)
    hold.set()
    with world.holdfast(*handlers, **options) as client:
        assert client.attach("x").result(5) == ["woken"]
        assert client.state("Log", "k") == {"lines": ["woken"]}
        client.signal("ear", "word", "end")
        assert client.attach("ear").result(5) == ["woken"]
        assert len(client.list(target="sent")) == 1


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
def test_a_delayed_one_begins_at_its_time_and_not_before(world, delay):
    ran, clock = [], FakeClock()
    sent = target(ran)

    async def h(ctx: Context) -> None:
        ctx.send(sent, "late", id="late", delay=delay)

    with world.holdfast(sent, h, clock=clock) as client:
        client.call(h, timeout=5)
        assert status(client, "late") == "queued"
        clock.wind(89.999)
        tick(client)
        assert status(client, "late") == "queued"
        clock.wind(0.001)
        tick(client)
        assert client.attach("late").result(5) == "LATE"
        view = client.attach("late").status()
        assert (view.began - view.created).total_seconds() >= 90


def test_a_delay_of_less_than_a_millisecond_does_not_begin_early(world):
    clock = FakeClock()
    ran = []
    sent = target(ran)

    async def h(ctx: Context) -> None:
        ctx.send(sent, "late", id="late", delay=0.0015)

    with world.holdfast(sent, h, clock=clock) as client:
        client.call(h, timeout=5)
        clock.wind(0.001)
        tick(client)
        assert status(client, "late") == "queued"
        clock.wind(0.001)
        tick(client)
        assert client.attach("late").result(5) == "LATE"


def test_a_delay_survives_deaths_with_the_time_that_remains(world):
    ran = []
    sent = target(ran)

    async def h(ctx: Context) -> None:
        ctx.send(sent, "late", id="late", delay=0.3)

    with world.life(sent, h) as client:
        began = time.time()
        client.call(h, timeout=5)
    with world.life(sent, h) as client:
        assert status(client, "late") == "queued"
    with world.holdfast(sent, h) as client:
        client.attach("late").result(5)
        assert time.time() - began >= 0.3
    assert ran == ["late"]


def test_one_whose_time_came_while_nobody_ran_begins_at_once(world):
    ran = []
    sent = target(ran)

    async def h(ctx: Context) -> None:
        ctx.send(sent, "late", id="late", delay=0.05)

    with world.life(sent, h) as client:
        client.call(h, timeout=5)
    time.sleep(0.06)
    with world.holdfast(sent, h) as client:
        assert client.attach("late").result(5) == "LATE"


def test_a_delayed_one_can_be_cancelled_and_never_begins(world):
    ran = []
    sent = target(ran)

    async def h(ctx: Context) -> None:
        late = ctx.send(sent, "late", id="late", delay=0.05)
        await asyncio.sleep(0.01)
        ctx.cancel(late)

    with world.holdfast(sent, h) as client:
        client.call(h, timeout=5)
        with pytest.raises(InvocationCancelled):
            client.attach("late").result(5)
        time.sleep(0.06)
        tick(client)
    assert ran == []


def test_a_delayed_one_that_is_paused_and_resumed_still_begins_at_its_time(world):
    ran = []
    sent = target(ran)
    clock = FakeClock()

    async def h(ctx: Context) -> None:
        ctx.send(sent, "late", id="late", delay=90)

    with world.holdfast(sent, h, clock=clock) as client:
        client.call(h, timeout=5)
        client.pause("late")
        client.resume("late")
        tick(client)
        assert status(client, "late") == "queued"
        client.pause("late")
    clock.wind(91)
    with world.holdfast(sent, h, clock=clock) as client:
        assert status(client, "late") == "paused"
        assert ran == []
        client.resume("late")
        tick(client)
        assert client.attach("late").result(5) == "LATE"


def test_a_delayed_one_takes_its_place_in_the_queue_of_its_key_when_its_time_has_come(world):
    box, clock = Object("Box"), FakeClock()

    @box.handler
    async def use(ctx: ObjectContext, word: str) -> None:
        ctx.append("order", word)
        if word == "first":
            await ctx.promise("go")

    async def h(ctx: Context) -> None:
        ctx.send(use, "sent early, with a delay", key="k", delay=10)

    with world.holdfast(box, h, clock=clock) as client:
        client.call(h, timeout=5)
        client.start(use, "first", key="k", id="first")
        promise = open_promise(client)
        client.start(use, "second", key="k")
        clock.wind(10)
        tick(client)
        clock.wind(0.001)
        last = client.start(use, "third", key="k")
        client.resolve(promise)
        last.result(5)
        assert client.state("Box", "k")["order"] == ["first", "second", "sent early, with a delay", "third"]


@pytest.mark.parametrize("delay", [-1, float("nan"), timedelta(days=4_000_000)])
def test_a_delay_that_cannot_be_is_refused(world, delay):
    sent = target([])

    async def h(ctx: Context) -> str:
        try:
            ctx.send(sent, "x", delay=delay)
        except BadTimer as error:
            return error.what

    with world.holdfast(sent, h) as client:
        assert "cannot wait for" in client.call(h, timeout=5)


def test_a_send_with_an_id_that_is_there_begins_nothing(world, weather):
    ran = []
    sent = target(ran)

    async def h(ctx: Context, word: str) -> None:
        for _ in range(2):
            ctx.send(sent, word, id="the one")

    with world.holdfast(sent, h, **weather) as client:
        for _ in range(3):
            client.call(h, "a", timeout=5)
        assert client.attach("the one").result(5) == "A"
        assert len(client.list(target="sent")) == 1
    assert ran == ["a"]


def test_a_send_with_an_id_of_something_else_begins_nothing_and_says_so_in_the_log(world, caplog):
    ran = []
    sent = target(ran)

    async def h(ctx: Context, word: str) -> None:
        ctx.send(sent, word, id="the one")

    with world.holdfast(sent, h) as client:
        for word in "ab":
            client.call(h, word, timeout=5)
        assert client.attach("the one").result(5) == "A"
    assert "nothing is sent" in caplog.text
    assert "another input" in caplog.text


def test_what_cannot_be_sent_is_refused_where_it_is_written(world):
    sent = target([])

    async def h(ctx: Context) -> list[str]:
        told = []
        for args, options in ((("a", "b"), {}), ((1,), {}), (("a",), {"key": "k"}), (("a",), {"id": "\n"})):
            try:
                ctx.send(sent, *args, **options)
            except BadArguments as error:
                told.append(error.what)
        return told

    with world.holdfast(sent, h) as client:
        assert len(client.call(h, timeout=5)) == 4
        assert client.list(target="sent") == []


def test_what_follows_from_the_edited_result_of_a_fork_is_done(world):
    ran, log = [], Object("Log")

    @log.handler
    async def work(ctx: ObjectContext) -> str:
        ctx.send(sent, "before")
        decision = await ctx.run(decide)
        ctx.send(sent, decision)
        ctx.append("decisions", decision)
        await ctx.run(abs, 1)
        return decision

    async def decide() -> str:
        return "no"

    sent = target(ran)
    with world.holdfast(log, sent) as client:
        first = client.start(work, key="k")
        assert first.result(5) == "no"
        fork = first.fork("decide#1", "yes")
        assert fork.result(5) == "yes"
        wait_for(lambda: [view.status for view in client.list(target="sent")] == ["done"] * 3)
        assert client.state("Log", "k") == {"decisions": ["no", "yes"]}
    assert sorted(ran) == ["before", "no", "yes"]
