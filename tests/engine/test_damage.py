"""Damage of what belongs to no invocation: it costs its own past, and stops nothing (G10)."""

from holdfast import Context, Holdfast, MemoryStore


def test_a_damaged_schedule_begins_anew_and_stops_nothing():
    store = MemoryStore()

    async def tick(ctx: Context) -> None: ...

    def program():
        hf = Holdfast(store)
        hf.handler(tick)
        hf.schedule(tick, id="often", every=3600)
        return hf

    with program():
        pass
    store._states["", "schedule", "often"] = b"\xc1"
    with program() as client:
        assert [view.id for view in client.schedules()] == ["often"]
