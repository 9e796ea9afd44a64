"""Signals: named messages to an invocation, each received once, oldest first, in whatever state it is."""

import asyncio
import contextlib
import threading

import pytest

from holdfast import (
    BadArguments,
    Context,
    InvocationCancelled,
    Limits,
    Object,
    ObjectContext,
    TooMany,
    UnknownInvocation,
    Unreadable,
    WrongStatus,
)
from holdfast.engine import control
from tests.engine.family import status, until
from tests.engine.world import FakeClock, SlowStore, engine_of, open_promise, tick, wait_for


async def ear(ctx: Context) -> list[str]:
    """What it hears, until it hears "end"."""
    heard = []
    while (word := await ctx.receive("word", str)) != "end":
        heard.append(word)
    return heard


def test_what_is_sent_is_received_in_order(world, weather):
    with world.holdfast(ear, **weather) as client:
        handle = client.start(ear)
        for word in [*"abcdefghij", "end"]:
            handle.signal("word", word)
        assert handle.result(5) == list("abcdefghij")
        assert [view.id for view in handle.journal() if view.kind == "signal"] == ["word"] * 11


def test_what_came_before_it_is_asked_for_is_kept(world, weather):
    async def h(ctx: Context) -> list[str]:
        await ctx.promise("hold")
        return [await ctx.receive("b", str), await ctx.receive("a", str), await ctx.receive("b", str)]

    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        promise = open_promise(client)
        for name, word in (("a", "1"), ("b", "2"), ("b", "3")):
            handle.signal(name, word)
        client.resolve(promise)
        assert handle.result(5) == ["2", "1", "3"]


def test_two_receivers_of_a_name_are_served_in_turn_and_names_do_not_mix(world, weather):
    async def h(ctx: Context) -> list[str]:
        return await asyncio.gather(ctx.receive("a", str), ctx.receive("b", str), ctx.receive("a", str))

    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        for name, word in (("a", "first"), ("a", "second"), ("b", "other")):
            handle.signal(name, word)
        assert handle.result(5) == ["first", "other", "second"]


def test_what_nobody_receives_ends_with_the_invocation(world):
    async def h(ctx: Context) -> str:
        await ctx.promise("hold")
        return "over"

    with world.holdfast(h) as client:
        handle = client.start(h)
        handle.signal("nobody", 1)
        client.resolve(open_promise(client))
        assert handle.result(5) == "over"
        with pytest.raises(WrongStatus, match="has ended"):
            handle.signal("nobody", 1)


def test_a_signal_to_nobody(world):
    with world.holdfast(ear) as client, pytest.raises(UnknownInvocation):
        client.signal("nobody", "word", "a")


def test_acknowledged_signals_survive_deaths_and_are_received_once(world, weather):
    heard = []

    async def h(ctx: Context) -> list[str]:
        words = []
        while (word := await ctx.receive("word", str)) != "end":
            words.append(await ctx.run(note, word))
        return words

    def note(word: str) -> str:
        heard.append(word)
        return word

    with world.life(h, **weather) as client:
        client.start(h, id="x")
        client.signal("x", "word", "a")
        wait_for(lambda: status(client, "x") == "suspended" and heard == ["a"])
    for word in "bc":
        with world.life(h, **weather) as client:
            client.signal("x", "word", word)
            wait_for(lambda word=word: word in heard and status(client, "x") == "suspended")
    with world.holdfast(h, **weather) as client:
        client.signal("x", "word", "end")
        assert client.attach("x").result(5) == ["a", "b", "c"]
    assert heard == ["a", "b", "c"]


def test_a_burst_of_signals_while_commits_are_slow(world):
    async def main() -> list[str]:
        async with world.holdfast(ear, wrap=SlowStore, limits=Limits(waiting=0)) as client:
            handle = await client.start(ear)
            await asyncio.gather(*[handle.signal("word", str(n)) for n in range(100)])
            await handle.signal("word", "end")
            return await handle.result(10)

    assert sorted(asyncio.run(main()), key=int) == [str(n) for n in range(100)]


def queued_ear(world, **options):
    box = Object("Box")

    @box.handler
    async def use(ctx: ObjectContext, word: str) -> list[str]:
        if word == "first":
            await ctx.promise("go")
        return await ear(ctx)

    return box, use, world.holdfast(box, **options)


def test_signals_to_one_that_has_not_begun_are_there_when_it_begins(world, weather):
    _, use, hf = queued_ear(world, **weather)
    with hf as client:
        client.start(use, "first", key="k", id="first")
        promise = open_promise(client)
        second = client.start(use, "second", key="k")
        for word in ("a", "b", "end"):
            second.signal("word", word)
        assert second.status().status == "queued"
        client.resolve(promise)
        client.signal("first", "word", "end")
        assert second.result(5) == ["a", "b"]


def test_signals_to_one_that_has_not_begun_survive_a_death(world, weather):
    box, use, _ = queued_ear(world)
    with world.life(box, **weather) as client:
        client.start(use, "first", key="k", id="first")
        client.start(use, "second", key="k", id="second")
        client.signal("second", "word", "a")
    with world.holdfast(box, **weather) as client:
        client.signal("second", "word", "end")
        client.resolve(open_promise(client))
        client.signal("first", "word", "end")
        assert client.attach("second").result(5) == ["a"]


def test_a_signal_that_is_being_written_does_not_lose_the_turn_of_who_waits_for_a_key(world):
    """Its row is not to be touched while the signal is on its way; its turn comes in just that moment."""

    class Stalls(SlowStore):
        SECONDS = 0.02

    box = Object("Box")

    @box.handler
    async def use(ctx: ObjectContext) -> int:
        if await ctx.receive("how") == "wait":
            await ctx.promise("go")
        return 1

    async def main() -> None:
        async with world.holdfast(box, wrap=Stalls) as client:
            for n in range(4):
                first = await client.start(use, key=f"k{n}")
                second = await client.start(use, key=f"k{n}")
                await asyncio.gather(first.signal("how", "end"), *[_later(second, step * 0.007) for step in range(8)])
                assert [await first.result(5), await second.result(5)] == [1, 1]

    async def _later(handle, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(WrongStatus):  # it was quick
            await handle.signal("how", "end")

    asyncio.run(main())


def test_the_time_of_one_that_begins_late_does_not_go_back_to_a_signal_it_got_before(world):
    clock, box = FakeClock(), Object("Box")

    @box.handler
    async def use(ctx: ObjectContext, word: str) -> list[float]:
        if word == "first":
            await ctx.promise("go")
            return []
        began = ctx.now().timestamp()
        await ctx.receive("word")
        heard = ctx.now().timestamp()
        await asyncio.sleep(5)
        return [began, heard, ctx.now().timestamp()]

    with world.holdfast(box, clock=clock) as client:
        client.start(use, "first", key="k")
        promise = open_promise(client)
        second = client.start(use, "second", key="k")
        second.signal("word")
        clock.wind(600)
        client.resolve(promise)
        until(client, second.id, "suspended")
        tick(client)
        assert second.status().status == "suspended", "its sleep begins when it has begun"
        clock.wind(5)
        tick(client)
        began, heard, woken = second.result(5)
    assert began <= heard
    assert woken - began >= 5


def test_signals_to_a_paused_one_are_there_when_it_is_resumed(world, weather):
    with world.holdfast(ear, **weather) as client:
        handle = client.start(ear)
        handle.signal("word", "before")
        handle.pause()
        until(client, handle.id, "paused")
        for word in ("a", "b"):
            handle.signal("word", word)
        handle.resume()
        for word in ("after", "end"):
            handle.signal("word", word)
        assert handle.result(5) == ["before", "a", "b", "after"]


def test_signals_to_one_that_is_paused_while_its_body_runs(world):
    hold, ran = threading.Event(), threading.Event()

    def body() -> None:
        ran.set()
        hold.wait(5)

    async def h(ctx: Context) -> list[str]:
        await ctx.run(body)
        return await ear(ctx)

    with world.holdfast(h) as client:
        handle = client.start(h)
        assert ran.wait(5)
        handle.pause()
        handle.signal("word", "a")
        hold.set()
        wait_for(lambda: engine_of(client).residents_count == 0)
        handle.signal("word", "b")
        handle.resume()
        handle.signal("word", "end")
        assert handle.result(5) == ["a", "b"]


def test_signals_to_a_paused_one_survive_a_death(world):
    with world.life(ear) as client:
        client.start(ear, id="x")
        client.pause("x")
        client.signal("x", "word", "a")
    with world.holdfast(ear) as client:
        client.resume("x")
        client.signal("x", "word", "end")
        assert client.attach("x").result(5) == ["a"]


def test_a_signal_beside_an_answer_while_it_is_paused_keeps_its_place(world, weather):
    async def h(ctx: Context) -> list[str]:
        order = []

        async def ask() -> None:
            order.append(await ctx.promise("go", type=str))

        async def hear() -> None:
            order.append(await ctx.receive("word", str))

        await asyncio.gather(ask(), hear())
        return order

    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        promise = open_promise(client)
        handle.pause()
        until(client, handle.id, "paused")
        client.resolve(promise, "answer")
        handle.signal("word", "signal")
        handle.resume()
        assert sorted(handle.result(5)) == ["answer", "signal"]


@pytest.mark.parametrize("seconds", [0.01, 0])
def test_a_wait_for_a_signal_ends_at_its_timeout(world, weather, seconds):
    async def h(ctx: Context) -> str:
        try:
            return await ctx.receive("word", str, timeout=seconds)
        except TimeoutError:
            return f"late, then {await ctx.receive('word', str)}"

    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        wait_for(lambda: any((view.kind, view.state) == ("timer", "done") for view in handle.journal()))
        handle.signal("word", "after all")
        assert handle.result(5) == "late, then after all"


def test_a_signal_in_time_takes_the_timeout_away(world):
    clock = FakeClock()

    async def h(ctx: Context) -> str:
        word = await ctx.receive("word", str, timeout=60)
        await ctx.promise("hold")
        return word

    with world.holdfast(h, clock=clock) as client:
        handle = client.start(h)
        handle.signal("word", "in time")
        promise = open_promise(client)
        assert handle.status().wake_at is None
        clock.wind(120)
        tick(client)
        client.resolve(promise)
        assert handle.result(5) == "in time"


def test_a_receiver_that_gave_up_gets_nothing_and_the_next_one_does(world, weather):
    async def h(ctx: Context) -> str:
        first = asyncio.ensure_future(ctx.receive("word", str))
        second = asyncio.ensure_future(ctx.receive("word", str))
        await ctx.receive("go")
        first.cancel()
        return await second

    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        handle.signal("go")
        handle.signal("word", "for the second")
        assert handle.result(5) == "for the second"


def test_a_value_of_another_type_is_refused_while_somebody_waits(world, weather):
    async def h(ctx: Context) -> int:
        return await ctx.receive("number", int)

    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        until(client, handle.id, "suspended")
        with pytest.raises(BadArguments, match="does not fit signal 'number'"):
            handle.signal("number", "seven")
        assert [view.kind for view in handle.journal() if view.state == "done"] == []
        handle.signal("number", 7)
        assert handle.result(5) == 7


def test_a_value_of_another_type_that_was_kept_ends_the_wait_and_not_the_invocation(world, weather):
    async def h(ctx: Context) -> str:
        await ctx.promise("hold")
        try:
            await ctx.receive("number", int)
        except Unreadable as error:
            return f"{error.what}; then {await ctx.receive('number', int)}"

    with world.life(h, **weather) as client:
        client.start(h, id="x")
        client.signal("x", "number", "seven")
        client.signal("x", "number", 7)
    with world.holdfast(h, **weather) as client:
        client.resolve(open_promise(client))
        told = client.attach("x").result(5)
    assert told.endswith("; then 7")
    assert "int" in told


def test_a_thousand_signals_that_nobody_has_received_are_enough(world):
    async def main() -> list[str]:
        async with world.holdfast(h) as client:
            handle = await client.start(h)
            for first in range(0, 1000, 250):
                await asyncio.gather(*[handle.signal("word", str(n)) for n in range(first, first + 250)])
            with pytest.raises(TooMany, match="1000 signals"):
                await handle.signal("word", "one too many")
            await handle.signal("go")
            return await handle.result(10)

    async def h(ctx: Context) -> list[str]:
        await ctx.receive("go")
        return [await ctx.receive("word", str) for _ in range(1000)]

    assert sorted(asyncio.run(main()), key=int) == [str(n) for n in range(1000)]


@pytest.mark.parametrize("state", ["paused", "queued"])
def test_one_that_does_not_run_is_not_sent_more_either(world, state, monkeypatch):
    monkeypatch.setattr(control, "MAIL_MAX", 40)
    box = Object("Box")

    @box.handler
    async def use(ctx: ObjectContext) -> int:
        await ctx.receive("go")
        return len([await ctx.receive("word", str) for _ in range(40)])

    async def main() -> int:
        async with world.holdfast(box) as client:
            first = await client.start(use, key="k")
            handle = await client.start(use, key="k") if state == "queued" else first
            if state == "paused":
                await handle.pause()
            await asyncio.gather(*[handle.signal("word", str(n)) for n in range(40)])
            with pytest.raises(TooMany):
                await handle.signal("word", "one too many")
            if state == "paused":
                await handle.resume()
            else:
                await first.cancel()
            for _ in range(100):
                if (await handle.status()).status == "suspended":
                    break
                await asyncio.sleep(0.01)
            await handle.signal("go")
            return await handle.result(20)

    assert asyncio.run(main()) == 40


def test_a_handler_signals_another_one(world, weather):
    async def mouth(ctx: Context, id: str) -> None:
        for word in ("a", "b"):
            ctx.signal(id, "word", word)
        await ctx.run(abs, 1)
        ctx.signal(id, "word", "end")

    with world.holdfast(ear, mouth, **weather) as client:
        handle = client.start(ear)
        client.start(mouth, handle.id)
        assert handle.result(5) == ["a", "b"]


def test_a_handler_signals_what_it_has_just_sent_and_itself(world, weather):
    async def h(ctx: Context) -> list[str]:
        sent = ctx.send(ear)
        for word in ("a", "end"):
            ctx.signal(sent, "word", word)
        ctx.signal(ctx.id, "own", "b")
        return [*await ctx.attach(sent, list[str]), await ctx.receive("own", str)]

    with world.holdfast(ear, h, **weather) as client:
        assert client.call(h, timeout=5) == ["a", "b"]


def test_a_signal_from_a_handler_to_nobody_or_to_one_that_has_ended_is_lost(world):
    async def h(ctx: Context) -> str:
        ctx.signal("nobody", "word", "a")
        ctx.signal("ended", "word", "a")
        return await ctx.run(str, "still here", returns=str)

    async def ended(ctx: Context) -> None: ...

    with world.holdfast(h, ended) as client:
        client.start(ended, id="ended").result(5)
        assert client.call(h, timeout=5) == "still here"


def test_a_conversation_of_two(world, weather):
    async def ping(ctx: Context, other: str, turns: int) -> int:
        for turn in range(turns):
            if ctx.id == "a" or turn:
                ctx.signal(other, "ball", turn)
            await ctx.receive("ball", int)
        ctx.signal(other, "ball", -1)
        return turns

    with world.holdfast(ping, **weather) as client:
        handles = [client.start(ping, "a", 20, id="b"), client.start(ping, "b", 20, id="a")]
        assert [handle.result(10) for handle in handles] == [20, 20]


def test_a_signal_and_a_cancel_in_one_turn(world, weather):
    heard = []

    async def h(ctx: Context) -> None:
        try:
            while True:
                heard.append(await ctx.receive("word", str))
        finally:
            await ctx.run(abs, 1)

    async def both(ctx: Context, id: str) -> None:
        ctx.signal(id, "word", "last")
        ctx.cancel(id, "enough")

    with world.holdfast(h, both, **weather) as client:
        handle = client.start(h)
        until(client, handle.id, "suspended")
        client.start(both, handle.id)
        with pytest.raises(InvocationCancelled, match="enough"):
            handle.result(5)
    assert heard[0] == "last"


@pytest.mark.parametrize("name", ["", "a/b", "a#1", "\n", "x" * 101])
def test_names_that_cannot_be(world, name):
    async def h(ctx: Context) -> int:
        refused = 0
        for use in (ctx.receive, lambda name: ctx.signal(ctx.id, name)):
            try:
                use(name)
            except BadArguments:
                refused += 1
        return refused

    with world.holdfast(h, ear) as client:
        assert client.call(h, timeout=5) == 2
        handle = client.start(ear)
        with pytest.raises(BadArguments):
            handle.signal(name)


def test_large_signals(world, weather):
    text = "x" * 300_000

    with world.holdfast(ear, **weather) as client:
        handle = client.start(ear)
        handle.signal("word", text)
        handle.pause()
        until(client, handle.id, "paused")
        handle.signal("word", text[1:])
        handle.resume()
        handle.signal("word", "end")
        assert [len(word) for word in handle.result(5)] == [300_000, 299_999]
