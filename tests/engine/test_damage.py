"""Damage of what belongs to no invocation: it costs its own past, and stops nothing (G10)."""

import asyncio

import pytest

from holdfast import Context, Holdfast, MemoryStore, Unreadable
from tests.engine.world import FakeClock, engine_of, in_engine, wait_for


async def tick(ctx: Context) -> None: ...


def program(store, clock):
    hf = Holdfast(store, clock=clock)
    hf.handler(tick)
    hf.schedule(tick, id="often", every=3600)
    hf.schedule(tick, id="seldom", every=86_400)
    return hf


def damaged():
    """A store in which one schedule of two cannot be read."""
    store, clock = MemoryStore(), FakeClock()
    with program(store, clock):
        pass
    store._states["", "schedule", "often"] = b"\xc1"
    return store, clock


def test_a_damaged_schedule_fires_when_a_person_says_so_and_stops_nothing(caplog):
    """A person may have paused it: nobody can tell."""
    store, clock = damaged()
    for _ in range(2):
        with program(store, clock) as client:
            assert {view.id: view.paused for view in client.schedules()} == {"often": True, "seldom": False}
            clock.wind(86_400)
            in_engine(client, engine_of(client).schedules._tick)
            wait_for(lambda: client.list(status="done"))
            assert {row.id.partition("@")[0] for row in client.list()} == {"seldom"}
    assert len(caplog.messages) == 1, "what is unreadable is reported once; then it is a schedule as any other"
    assert "'often'" in caplog.text
    assert "resume" in caplog.text
    with program(store, clock) as client:
        client.resume_schedule("often")
        clock.wind(3_600)
        in_engine(client, engine_of(client).schedules._tick)
        wait_for(lambda: [row for row in client.list(status="done") if row.id.startswith("often@")])


def test_beside_a_damaged_schedule_others_are_paused_at_rest():
    store, clock = damaged()

    async def main():
        async with program(store, clock).resting() as client:
            await client.pause_schedule("seldom")
            with pytest.raises(Unreadable, match="'often'"):
                await client.pause_schedule("often")

    asyncio.run(main())
    with program(store, clock) as client:
        assert {view.id: view.paused for view in client.schedules()} == {"often": True, "seldom": True}
