"""An event's id is a place that a watcher can go on from: each chunk is seen once, whichever event was the last one."""

import asyncio
import threading

import pytest

from holdfast import BadArguments, Context, step
from tests.engine.world import WAIT_SECONDS, SlowStore


def test_whatever_event_was_seen_last_no_chunk_comes_twice(memory_world):
    told, hold = threading.Barrier(3), threading.Event()

    def speak(name: str) -> str:
        for number in range(3):
            step().emit(f"{name}{number}")
        told.wait(5)
        hold.wait(5)
        return name

    async def h(ctx: Context) -> list[str]:
        return await asyncio.gather(ctx.run(speak, "a;", name="a;b"), ctx.run(speak, "b"))

    with memory_world.holdfast(h) as client:
        handle = client.start(h)
        told.wait(5)
        seen = []
        for event in handle.watch():
            seen.append(event)
            if sum(one.kind == "chunk" for one in seen) == 6:
                break
        for index, last in enumerate(seen):
            rest = []
            missing = [one.data["event"] for one in seen[index + 1 :] if one.kind == "chunk"]
            events = handle.watch(after=last.id)
            while len(rest) < len(missing):
                event = next(events)
                if event.kind == "chunk":
                    rest.append(event.data["event"])
            assert sorted(rest) == sorted(missing)
            status = next((event for event in events if event.kind != "chunk"), None) if not missing else None
            assert status is None or status.kind == "status"
        hold.set()
        assert sorted(handle.result(5)) == ["a;", "b"]
        with pytest.raises(BadArguments):
            list(handle.watch(after="1;nonsense"))


def test_what_is_being_written_when_a_watch_begins_is_not_missed(memory_world):
    async def work(number: int) -> int:
        return number

    async def h(ctx: Context) -> None:
        for number in range(3):  # each step begins when the write before it is done, as a watch does
            await ctx.run(work, number)
        ctx.emit("here")
        await ctx.promise("never")

    async def emitted(handle) -> None:
        async for event in handle.watch():
            if event.kind == "emit":
                return

    async def run() -> None:
        async with memory_world.holdfast(h, wrap=SlowStore) as client:
            for round_number in range(40):
                handle = await client.start(h)
                await asyncio.sleep(round_number % 20 / 1000)
                await asyncio.wait_for(emitted(handle), WAIT_SECONDS)

    asyncio.run(run())
