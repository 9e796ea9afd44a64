"""Timers fire in (deadline, making) order and never early (G5), and cost nothing once they are not needed."""

import asyncio
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.case import START, Ctx, Life, Watched
from tests.core.shapes import echo

DELAYS = st.floats(0, 1e6) | st.integers(0, 10**9).map(lambda n: n / 1e6) | st.integers(0, 10**7).map(lambda n: n / 1e3)


def fired(life: Life) -> str:
    """Fires the next timer and says which one it was."""
    entry = life.entry("timer")
    life.receive(entry)
    return entry.timer


@given(delay=DELAYS, start=st.integers(1_000_000_000_000, 4_000_000_000_000))
def test_no_timer_fires_before_its_time(delay: float, start: int) -> None:
    async def handler(ctx: Ctx) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        await asyncio.sleep(delay)
        assert loop.time() >= due

    machine = Watched()
    machine.at = start
    machine.loop.now = start / 1000
    life = Life(handler, machine=machine)
    deadline = machine.next_deadline()
    if deadline is not None:
        assert deadline / 1000 >= start / 1000 + delay
        assert deadline - 1 <= (start / 1000 + delay) * 1000
        assert machine.due(deadline - 1) is None
        life.receive(machine.due(deadline))
    assert life.outcome == ("returned", "null")
    machine.evict()


@given(delay=DELAYS, start=st.integers(1_000_000_000_000, 4_000_000_000_000))
def test_who_compares_the_clock_with_a_deadline_does_not_set_its_timer_twice(delay: float, start: int) -> None:
    async def handler(ctx: Ctx) -> None:
        with anyio.move_on_after(delay):
            await ctx.promise("never")

    machine = Watched()
    machine.at = start
    machine.loop.now = start / 1000
    life = Life(handler, machine=machine)
    if start / 1000 + delay > start / 1000:
        assert fired(life) == "timer#1"
    assert life.outcome == ("returned", "null")
    machine.evict()


def test_the_one_in_five_hundred_timer_whose_deadline_rounds_down_fires_once() -> None:
    async def handler(ctx: Ctx) -> None:
        with anyio.move_on_after(512.049):
            await ctx.promise("never")

    machine = Watched()
    machine.at = 1873142172525
    machine.loop.now = machine.at / 1000
    life = Life(handler, machine=machine)
    assert fired(life) == "timer#1"
    assert life.outcome == ("returned", "null")
    machine.evict()


@given(delays=st.lists(st.sampled_from([0.5, 1, 1, 2, 60]), min_size=1, max_size=9), late=st.integers(0, 10**6))
def test_overdue_timers_fire_in_order_of_deadline_and_then_of_making(delays: list[float], late: int) -> None:
    async def handler(ctx: Ctx) -> list[int]:
        woken: list[int] = []

        async def nap(n: int) -> None:
            await asyncio.sleep(delays[n])
            woken.append(n)

        await asyncio.gather(*map(nap, range(len(delays))))
        return woken

    life = Life(handler)
    now = START + 1000 * 60 + late
    while (entry := life.machine.due(now)) is not None:
        assert entry.at == now
        life.receive(entry)
    wanted = sorted(range(len(delays)), key=lambda n: (delays[n], n))
    assert life.outcome == ("returned", str(wanted))
    life.machine.evict()


def test_a_timer_set_while_others_are_overdue_counts_from_now() -> None:
    async def handler(ctx: Ctx) -> None:
        await asyncio.sleep(1)
        await asyncio.sleep(1)

    life = Life(handler)
    life.receive(life.machine.due(START + 100_000))
    assert life.machine.next_deadline() == START + 101_000
    life.machine.evict()


def test_the_clock_of_a_machine_does_not_go_back() -> None:
    async def handler(ctx: Ctx) -> None:
        asyncio.get_running_loop().call_later(-50, print)
        await ctx.promise("never")

    life = Life(handler)
    entry = life.machine.due(START - 1000)
    assert entry is not None
    assert entry.at == START
    life.machine.evict()


def test_a_cancelled_timer_never_fires() -> None:
    async def handler(ctx: Ctx) -> Any:
        async with asyncio.timeout(5):
            await ctx.run(echo, 1)
        await ctx.promise("never")

    life = Life(handler)
    assert life.machine.next_deadline() == START + 5000
    life.receive(life.entry("echo#1"))
    assert life.machine.next_deadline() is None
    assert life.machine.due(START + 10_000) is None
    life.machine.evict()


def test_timeouts_that_were_not_needed_do_not_stay_in_memory() -> None:
    async def handler(ctx: Ctx) -> None:
        async with asyncio.timeout(10):
            for n in range(1000):
                async with asyncio.timeout(86_400 * 365):
                    await ctx.run(echo, n)

    life = Life(handler)
    most = 0
    while life.outcome is None:
        life.receive(life.entry(life.choices()[0]))
        most = max(most, len(life.machine.loop._heap))
    assert most < 100
    life.machine.evict()


def test_the_first_timer_is_found_whatever_was_cancelled_around_it() -> None:
    async def handler(ctx: Ctx) -> str:
        timers = [asyncio.get_running_loop().call_later(n, ctx.note, n) for n in range(1, 400)]
        for timer in timers:
            if timer.when() * 1000 != START + 250_000:
                timer.cancel()
        await asyncio.sleep(300)
        return "slept"

    life = Life(handler)
    assert fired(life) == "timer#250"
    assert life.machine.trace == ["note 250"]
    assert fired(life) == "timer#400"
    assert life.outcome == ("returned", '"slept"')
    life.machine.evict()


@pytest.mark.parametrize("seconds", [0, -1, -1e9])
def test_a_sleep_of_no_time_needs_no_timer(seconds: float) -> None:
    async def handler(ctx: Ctx) -> None:
        await asyncio.sleep(seconds)

    life = Life(handler)
    assert life.outcome == ("returned", "null")
    life.machine.evict()
