"""Watching: every event once and in order, from the beginning or from where one left off, also in another process."""

import asyncio
import threading

import pytest

from holdfast import BadArguments, Context, EngineStopped, Limits, Retry, UnknownInvocation, step
from tests.engine.world import SlowStore, engine_of, open_promise, wait_for


async def talks(ctx: Context, turns: int = 3) -> str:
    for turn in range(turns):
        ctx.emit({"turn": turn})
        await ctx.run(abs, turn)
    ctx.emit("asking")
    return await ctx.promise("go", type=str)


def kinds(events):
    return [event.kind for event in events]


def told(events, kind="emit"):
    key = "output" if kind == "emit" else "event"
    return [event.data[key] for event in events if event.kind == kind]


def seen_until(handle, enough, after=None):
    """The events of a watch until `enough(events)`."""
    events = []
    for event in handle.watch(after):
        events.append(event)
        if enough(events):
            break
    return events


def test_what_a_handler_emits_comes_in_order_with_its_steps(world, weather):
    with world.holdfast(talks, **weather) as client:
        handle = client.start(talks)
        client.resolve(open_promise(client), "over")
        events = list(handle.watch())
        assert handle.result(5) == "over"
    assert told(events) == [{"turn": 0}, {"turn": 1}, {"turn": 2}, "asking"]
    assert kinds(events) == ["emit", "step", "emit", "step", "emit", "step", "emit", "promise", "status"]
    assert events[-1].data["status"] == "done"


def test_a_watcher_sees_what_comes_while_it_watches(world, weather):
    with world.holdfast(talks, **weather) as client:
        handle = client.start(talks)
        promise, events = open_promise(client), []

        def watch():
            events.extend(handle.watch())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        wait_for(lambda: engine_of(client).bus.watched)
        client.resolve(promise, "over")
        watcher.join(5)
        assert engine_of(client).bus.watched == {}
    assert kinds(events)[-2:] == ["promise", "status"]
    assert told(events) == [{"turn": 0}, {"turn": 1}, {"turn": 2}, "asking"]


def test_from_every_event_on_the_rest_comes_and_nothing_twice(world):
    with world.holdfast(talks) as client:
        handle = client.start(talks)
        client.resolve(open_promise(client), "over")
        handle.result(5)
        events = list(handle.watch())
        for index, event in enumerate(events):
            rest = list(handle.watch(after=event.id))
            assert rest == events[index + 1 :] or (index == len(events) - 1 and kinds(rest) == ["status"])
        assert list(handle.watch(after="0")) == events


def test_an_event_is_emitted_once_whatever_dies_and_replays(world, weather):
    with world.life(talks, **weather) as client:
        client.start(talks, id="x")
        open_promise(client)
        seen = seen_until(client.attach("x"), lambda events: told(events)[-1:] == ["asking"])
    for _ in range(2):
        with world.life(talks, **weather) as client:
            client.signal("x", "wake up")
            assert told(seen_until(client.attach("x"), lambda events: kinds(events)[-1] == "signal")) == told(seen)
    with world.holdfast(talks, **weather) as client:
        client.resolve(open_promise(client), "over")
        rest = list(client.attach("x").watch(after=seen[-1].id))
        assert kinds(rest) == ["signal", "signal", "promise", "status"]
        assert told(list(client.attach("x").watch())) == [{"turn": 0}, {"turn": 1}, {"turn": 2}, "asking"]


def test_what_is_emitted_in_the_last_turn_and_by_a_failing_handler_is_there(world):
    async def h(ctx: Context) -> None:
        await ctx.run(abs, 1)
        ctx.emit("last words")
        raise ValueError("after all")

    with world.holdfast(h) as client:
        handle = client.start(h)
        events = list(handle.watch())
        assert told(events) == ["last words"]
        assert events[-1].data["status"] == "failed"
        assert "after all" in events[-1].data["reason"]


def test_the_chunks_of_a_body_come_while_it_runs(world):
    hold = threading.Event()

    async def model() -> str:
        for word in ("one ", "two ", "three"):
            step().emit(word)
        await asyncio.to_thread(hold.wait, 5)
        return "one two three"

    async def h(ctx: Context) -> str:
        return await ctx.run(model)

    with world.holdfast(h) as client:
        handle = client.start(h)
        events = seen_until(handle, lambda events: len(told(events, "chunk")) == 3)
        assert told(events, "chunk") == ["one ", "two ", "three"]
        assert [event.data["index"] for event in events if event.kind == "chunk"] == [0, 1, 2]
        assert told(seen_until(handle, lambda events: len(told(events, "chunk")) == 3), "chunk") == [
            "one ", "two ", "three",
        ], "one that comes late sees them all while the body runs"  # fmt: skip
        last = events[-1].id
        hold.set()
        assert handle.result(5) == "one two three"
        rest = list(handle.watch(after=last))
        assert kinds(rest) == ["step", "status"]
        assert told(list(handle.watch()), "chunk") == [], "its result has taken their place"


def test_who_watches_gets_the_last_chunks_of_a_body_before_its_end(world):
    """They may be told in the very turn in which the body ends; only one who comes later has the result alone."""
    begun = threading.Event()

    async def model(name: str) -> str:
        step().emit(f"{name}1")
        if name == "a":
            await asyncio.to_thread(begun.wait, 5)
        step().emit(f"{name}2")
        step().emit(f"{name}3")
        return name

    async def h(ctx: Context) -> None:
        for name in ("a", "b"):
            await ctx.run(model, name)
            ctx.emit(name)

    with world.holdfast(h) as client:
        events = []
        for event in client.start(h).watch():
            events.append(event)
            begun.set()
        texts = [event.data["event"] if event.kind == "chunk" else event.kind for event in events]
        assert [text for text in texts if text != "status"] == [
            "a1", "a2", "a3", "step", "emit", "b1", "b2", "b3", "step", "emit",
        ]  # fmt: skip
        places = [(event.data["attempt"], event.data["index"]) for event in events if event.kind == "chunk"]
        assert places == [(1, 0), (1, 1), (1, 2)] * 2


def test_another_attempt_does_not_look_like_more_of_the_same_text(world):
    hold, attempts = threading.Event(), []

    async def model() -> str:
        attempts.append(1)
        for word in ("a", "b", "c"):
            step().emit(f"{word}{len(attempts)}")
        if len(attempts) == 1:
            raise ConnectionError("cut off")
        await asyncio.to_thread(hold.wait, 5)
        return "whole"

    async def h(ctx: Context) -> str:
        return await ctx.run(model, retry=Retry(initial=0.01))

    with world.holdfast(h) as client:
        handle = client.start(h)
        events = seen_until(handle, lambda events: told(events, "chunk")[-1:] == ["c2"])
        second = [event for event in events if event.kind == "chunk" and event.data["attempt"] == 2]
        assert told(second, "chunk") == ["a2", "b2", "c2"]
        hold.set()
        assert handle.result(5) == "whole"


def test_a_body_that_begins_again_in_another_process_begins_its_text_again(world):
    """Its attempts are counted from one there, and what was seen of the first is no part of the second."""
    lives = []

    async def model() -> str:
        life = len(lives)
        for word in ("a", "b", "c")[: 2 if life == 1 else 3]:
            step().emit(f"{word}{life}")
        await asyncio.sleep(60 if life == 1 else 0.2)
        return "whole"

    async def h(ctx: Context) -> str:
        return await ctx.run(model)

    lives.append(1)
    with world.life(h) as client:
        client.start(h, id="x")
        first = seen_until(client.attach("x"), lambda events: len(told(events, "chunk")) == 2)
    lives.append(2)
    with world.holdfast(h) as client:
        second = list(client.attach("x").watch(after=first[-1].id))
        assert client.attach("x").result(5) == "whole"
    assert told(first, "chunk") == ["a1", "b1"]
    assert told(second, "chunk") == ["a2", "b2", "c2"]


def test_a_watcher_that_comes_while_its_events_are_being_written_sees_them(world):
    class Stalls(SlowStore):
        SECONDS = 0.01

    async def noise(ctx: Context) -> None:
        while True:
            await ctx.run(abs, 1)

    async def says_one_word(ctx: Context) -> None:
        await ctx.run(asyncio.sleep, 0.025)
        ctx.emit("asking")
        await ctx.promise("go")

    async def main() -> None:
        async with world.holdfast(noise, says_one_word, wrap=Stalls, limits=Limits(drain_seconds=0)) as client:
            for _ in range(2):
                await client.start(noise)
            for n in range(12):
                handle = await client.start(says_one_word)
                await asyncio.sleep(n * 0.003)  # somewhere in the commits around the one that has the word
                async with asyncio.timeout(5):
                    async for event in handle.watch():
                        if event.kind == "emit":
                            break

    asyncio.run(main())


def test_many_watchers_and_one_that_leaves(world):
    async def main():
        async with world.holdfast(talks, limits=Limits(waiting=0)) as client:
            handle = await client.start(talks, 20)

            async def all_of_it():
                return [event async for event in handle.watch()]

            watchers = [asyncio.ensure_future(all_of_it()) for _ in range(10)]
            leaver = asyncio.ensure_future(all_of_it())
            while not client._engine.store.open_promises(1):
                await asyncio.sleep(0.001)
            leaver.cancel()
            (row,) = client._engine.store.open_promises(1)
            await client.resolve(row.id, "over")
            return [told(events) for events in await asyncio.gather(*watchers)]

    for seen in asyncio.run(main()):
        assert seen == [*({"turn": turn} for turn in range(20)), "asking"]


def test_a_watch_shows_changes_of_the_status_and_ends_with_the_engine(world):
    with world.holdfast(talks) as client:
        handle = client.start(talks)
        open_promise(client)
        seen = []

        def watch():
            seen.extend(event.data["status"] for event in handle.watch() if event.kind == "status")
            seen.append("ended")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        wait_for(lambda: engine_of(client).bus.watched)
        handle.pause("to look")
        wait_for(lambda: seen)
    watcher.join(5)
    assert seen[-1] == "ended"
    assert seen[:-1] in (["suspended"], ["suspended", "paused"], ["paused"])


def test_a_watch_that_is_not_asked_while_the_engine_ends_has_ended_too(world):
    with world.holdfast(talks) as client:
        handle = client.start(talks)
        watches = [handle.watch(), client.watch(handle.id)]
        assert all(next(events) for events in watches)
    assert [list(events) for events in watches] == [[], []]
    with pytest.raises(EngineStopped):
        next(handle.watch())


def test_a_watch_of_one_that_waits_for_its_turn(world):
    with world.holdfast(talks) as client:
        handle = client.start(talks, delay=3600)
        (event,) = seen_until(handle, lambda events: True)
        assert (event.kind, event.data["status"]) == ("status", "queued")


@pytest.mark.parametrize("after", ["x", "1;2", "1;5;step#1;1", "1;5;step#1;one;1", ";", "1;life;step#1;1;1"])
def test_ids_that_are_none(world, after):
    with world.holdfast(talks) as client:
        handle = client.start(talks)
        with pytest.raises(BadArguments, match="is no event's id"):
            next(handle.watch(after=after))


def test_a_watch_of_nothing(world):
    async def main() -> None:
        async with world.holdfast(talks) as client:
            with pytest.raises(UnknownInvocation):
                await anext(client.watch("nothing"))

    asyncio.run(main())


@pytest.mark.parametrize("waiting", [0, 9])
def test_a_watcher_sees_each_attempt_that_failed_and_when_the_next_one_is(world, waiting):
    go = threading.Event()

    def flaky() -> str:
        if step().attempt < 4:
            raise ConnectionError("no route")
        go.wait(5)
        return "there"

    async def fetch(ctx: Context) -> str:
        return await ctx.run(flaky, retry=Retry(initial=0.02, factor=1, jitter=0))

    with world.holdfast(fetch, limits=Limits(waiting=waiting)) as client:
        seen = []
        for event in client.start(fetch).watch():
            seen.append(event)
            if event.kind == "attempt" and event.data["tries"] == 3:
                go.set()
        failed = [event.data for event in seen if event.kind == "attempt"]
        assert failed, "there is always the last"
        tries = [data["tries"] for data in failed]
        assert (tries, tries[-1]) == (sorted(set(tries)), 3)
        assert {(data["id"], data["state"], data["error"]) for data in failed} == {
            ("flaky#1", "retrying", "ConnectionError: no route")
        }
        assert all(data["due"] is not None for data in failed)
        assert [event.kind for event in seen[-2:]] == ["step", "status"]


def test_who_begins_to_watch_sees_at_once_what_is_being_tried_again(world):
    def down() -> None:
        raise ConnectionError("no route")

    async def fetch(ctx: Context) -> None:
        await ctx.run(down, retry=Retry(initial=3600))

    with world.life(fetch, limits=Limits(waiting=0)) as client:
        handle = client.start(fetch, id="x")
        wait_for(lambda: handle.status().status == "suspended")
        (event,) = seen_until(handle, lambda events: any(event.kind == "attempt" for event in events))
        assert (event.kind, event.data["tries"]) == ("attempt", 1)
