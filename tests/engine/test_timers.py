"""Sleeping, as long as wanted and across restarts: never early, never lost (G5)."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from holdfast import Context, InvocationFailed, Limits
from holdfast.engine import timers
from tests.engine.world import FakeClock, engine_of, open_promise, tick, wait_for


async def nap(ctx: Context, seconds: float) -> float:
    before = ctx.now()
    await asyncio.sleep(seconds)
    return (ctx.now() - before).total_seconds()


def status(client, id):
    return client.attach(id).status().status


def test_a_sleep_ends_when_its_time_has_come_and_not_before(world):
    with world.holdfast(nap) as client:
        began = time.monotonic()
        slept = client.start(nap, 0.05).result(20)
        assert time.monotonic() - began >= 0.049  # the start is stored in whole milliseconds, rounded down
        assert slept >= 0.05


def test_a_sleeper_costs_a_row_that_says_when_it_wakes(world):
    clock = FakeClock()
    with world.holdfast(nap, clock=clock) as client:
        handle = client.start(nap, 3600.0)
        view = wait_for(lambda: (view := handle.status()).status == "suspended" and view)
        assert view.wake_at == datetime.fromtimestamp(clock.ms / 1000, UTC) + timedelta(hours=1)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_plain_asyncio_sleep_of_nothing_or_less_goes_on_at_once(world, seconds):
    with world.holdfast(nap) as client:
        assert client.start(nap, seconds).result(20) == 0


def test_a_sleep_survives_a_restart_with_the_remaining_time(world):
    clock = FakeClock()
    with world.holdfast(nap, clock=clock) as client:
        client.start(nap, 3600.0, id="x")
    clock.wind(3599.9)
    with world.holdfast(nap, clock=clock) as client:
        time.sleep(0.02)
        assert status(client, "x") == "suspended", "not early"
        clock.wind(0.1)
        tick(client)
        assert client.attach("x").result(20) == 3600.0


def test_a_sleep_that_ended_while_no_engine_ran_ends_at_the_start(world):
    clock = FakeClock()
    with world.holdfast(nap, clock=clock) as client:
        client.start(nap, 3600.0, id="x")
    clock.wind(10_000)
    with world.holdfast(nap, clock=clock) as client:
        assert client.attach("x").result(20) == 10_000.0


def test_sleepers_wake_in_the_order_of_their_times(world):
    clock = FakeClock()
    woken = []

    async def h(ctx: Context, seconds: int) -> None:
        await asyncio.sleep(seconds)
        await ctx.run(woken.append, seconds)

    with world.holdfast(h, clock=clock, limits=Limits(bodies=1)) as client:
        for seconds in (500, 100, 400, 200, 300):
            client.start(h, seconds, id=f"x{seconds}")
    clock.wind(1000)
    with world.holdfast(h, clock=clock, limits=Limits(bodies=1)) as client:
        for seconds in (500, 100, 400, 200, 300):
            client.attach(f"x{seconds}").result(20)
    assert woken == [100, 200, 300, 400, 500]


def test_of_two_timers_in_one_handler_only_the_one_that_is_due_fires(world):
    clock = FakeClock()
    woken = []

    async def h(ctx: Context) -> None:
        async def nap(seconds: float) -> None:
            await asyncio.sleep(seconds)
            await ctx.run(woken.append, seconds)

        await asyncio.gather(nap(10.05), nap(10))

    with world.holdfast(h, clock=clock) as client:
        handle = client.start(h)
        wait_for(lambda: handle.status().status == "suspended")
        clock.wind(10)
        tick(client)
        wait_for(lambda: woken == [10])
        view = wait_for(lambda: (view := handle.status()).status == "suspended" and view)
        assert view.wake_at == view.created + timedelta(seconds=10.05)
        clock.wind(0.05)
        tick(client)
        handle.result(20)
    assert woken == [10, 10.05]


def test_many_sleepers_that_are_due_at_once_all_wake(world):
    clock = FakeClock()
    with world.holdfast(nap, clock=clock) as client:
        for x in range(60):
            client.start(nap, 60.0, id=f"x{x}")
        clock.wind(61)
        tick(client)
        assert all(client.attach(f"x{x}").result(20) == 61.0 for x in range(60))


def test_ctx_sleep_takes_seconds_or_a_timedelta(world):
    async def h(ctx: Context) -> None:
        await ctx.sleep(0.001)
        await ctx.sleep(timedelta(milliseconds=1))
        await ctx.sleep(0)

    with world.holdfast(h) as client:
        handle = client.start(h)
        handle.result(20)
        assert [view.kind for view in handle.journal()] == ["timer", "timer"]


@pytest.mark.parametrize(
    "delay", [-1, -0.001, float("nan"), float("inf"), 1e12, timedelta(days=-1), timedelta(days=3_000_000)]
)
def test_a_sleep_that_cannot_be_is_refused(memory_world, delay):
    async def h(ctx: Context) -> None:
        await ctx.sleep(delay)

    with memory_world.holdfast(h) as client:
        with pytest.raises(InvocationFailed, match=r"BadTimer: .*HF106.* cannot wait for") as caught:
            client.start(h).result(20)
        assert "ends before year 10000" in str(caught.value)


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), 1e12])
def test_a_plain_asyncio_sleep_beyond_all_years_is_refused_too(memory_world, delay):
    async def odd(ctx: Context) -> None:
        await asyncio.sleep(delay)

    with memory_world.holdfast(odd) as client, pytest.raises(InvocationFailed, match=r"BadTimer|ValueError"):
        client.start(odd).result(20)


def test_a_timer_at_the_end_of_year_9999_can_be_set_and_restarted(world):
    async def h(ctx: Context) -> None:
        await ctx.sleep_until(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))

    for _ in range(2):
        with world.holdfast(h) as client:
            client.start(h, id="x")
            wait_for(lambda: status(client, "x") == "suspended")
            assert client.attach("x").status().wake_at.year == 9999


def test_sleep_until_waits_for_the_moment_wherever_its_clock_hangs(world):
    clock = FakeClock()
    tokyo = timezone(timedelta(hours=9))

    async def h(ctx: Context) -> str:
        await ctx.sleep_until(datetime.fromtimestamp(1_700_000_060, tokyo))
        return ctx.now().isoformat()

    with world.holdfast(h, clock=clock) as client:
        client.start(h, id="x")
    clock.wind(59)
    with world.holdfast(h, clock=clock) as client:
        time.sleep(0.01)
        assert status(client, "x") == "suspended"
        clock.wind(0.877)
        tick(client)
        assert client.attach("x").result(20) == "2023-11-14T22:14:20+00:00"


def test_sleep_until_a_moment_that_has_passed_goes_on_at_once(world):
    async def h(ctx: Context) -> None:
        await ctx.sleep_until(datetime(1999, 1, 1, tzinfo=UTC))

    with world.holdfast(h) as client:
        handle = client.start(h)
        handle.result(20)
        assert handle.journal() == []


def test_sleep_until_refuses_a_moment_without_a_time_zone(world):
    async def h(ctx: Context) -> None:
        await ctx.sleep_until(datetime(2030, 1, 1))

    with world.holdfast(h) as client, pytest.raises(InvocationFailed, match="2030-01-01T00:00:00 has no time zone"):
        client.start(h).result(20)


def test_ctx_now_is_the_same_on_replay(world):
    clock = FakeClock()
    seen = []

    async def h(ctx: Context) -> None:
        seen.append(ctx.now())
        await ctx.run(clock.wind, 5)
        seen.append(ctx.now())
        await ctx.promise("hold")

    with world.holdfast(h, clock=clock) as client:
        client.start(h, id="x")
        wait_for(lambda: status(client, "x") == "suspended")
    clock.wind(1000)
    with world.holdfast(h, clock=clock) as client:
        client.resolve(open_promise(client))
        client.attach("x").result(20)
    assert seen[:2] == seen[2:4]
    assert seen[1] - seen[0] == timedelta(seconds=5)


def test_a_wall_clock_set_back_does_not_take_time_back(world):
    clock = FakeClock()

    async def h(ctx: Context) -> list[float]:
        times = [ctx.now().timestamp()]
        for _ in range(3):
            await ctx.run(clock.wind, -3600)
            times.append(ctx.now().timestamp())
        return times

    with world.holdfast(h, clock=clock) as client:
        handle = client.start(h)
        times = handle.result(20)
        assert times == sorted(times)
        view = handle.status()
        assert view.updated >= view.created


def test_a_timeout_that_was_not_needed_leaves_nothing_to_wake(world):
    async def h(ctx: Context) -> int:
        async with asyncio.timeout(3600):
            n = await ctx.run(len, "abc")
        await ctx.promise("hold")
        return n

    with world.holdfast(h) as client:
        handle = client.start(h)
        view = wait_for(lambda: (view := handle.status()).status == "suspended" and view)
        assert view.wake_at is None


def test_who_sleeps_again_and_again_is_armed_once(memory_world):
    clock = FakeClock()

    async def h(ctx: Context) -> int:
        while True:
            await asyncio.sleep(45)

    with memory_world.holdfast(h, clock=clock) as client:
        client.start(h)
        for _ in range(100):
            clock.wind(15)
            tick(client)
        assert len(engine_of(client)._timers._heap) < 5


def test_a_deadline_in_asyncio_style_spans_a_restart(world):
    clock = FakeClock()

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(60):
                await ctx.promise("never")
        except TimeoutError:
            return "timed out"
        return "?"

    with world.holdfast(h, clock=clock) as client:
        client.start(h, id="x")
    clock.wind(61)
    with world.holdfast(h, clock=clock) as client:
        assert client.attach("x").result(20) == "timed out"


def test_a_deadline_far_away_still_strikes_when_the_wait_under_it_has_become_a_body(memory_world, monkeypatch):
    """Found by the simulation (seed 41): the row alone knew the far deadline, and a row that runs wakes nobody."""
    monkeypatch.setattr(timers, "HORIZON_MS", 20)
    ids: list[str] = []

    async def hang() -> None:
        await asyncio.sleep(60)

    async def h(ctx: Context) -> str:
        promise = ctx.promise("go")
        ids.append(promise.id)
        try:
            async with asyncio.timeout(0.2):
                await promise
                await ctx.run(hang)
        except TimeoutError:
            return "struck"
        return "never"

    with memory_world.holdfast(h) as client:
        handle = client.start(h)
        wait_for(lambda: handle.status().status == "suspended")
        client.resolve(ids[0], None)
        assert handle.result(20) == "struck"
