"""python -m benchmarks.child_sleepers start|again DATABASE COUNT: the process that workload sleepers kills.

start: starts COUNT sleepers, says what that took once all are asleep, and waits to be killed.
again: opens the same file and says when the first new run was done.
"""

from __future__ import annotations

import asyncio
import sys
import time

import apsw

from benchmarks.children import tell
from benchmarks.measure import Spent, resident_bytes
from benchmarks.waiting import suspended
from holdfast import AsyncClient, Context, Holdfast, Service

HOUR = 3600.0
AT_ONCE = 1_000  # starts in flight: as many clients as a busy server has

bench = Service("Sleepers")


@bench.handler
async def sleeper(ctx: Context, number: int) -> int:
    del ctx
    await asyncio.sleep(HOUR)
    return number


@bench.handler
async def awake(ctx: Context) -> str:
    return await ctx.run(answer)


async def answer() -> str:
    return "here"


async def start_all(client: AsyncClient, count: int) -> None:
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        await asyncio.gather(*(client.start(sleeper, number, id=f"sleeper-{number}") for number in numbers))


async def all_asleep(client: AsyncClient, count: int) -> None:
    """Waits until the oldest and the newest sleepers are suspended: they are taken up in order of their numbers."""
    for number in (0, count // 2, count - 1):
        await suspended(await client.attach(f"sleeper-{number}"))


async def start(path: str, count: int) -> None:
    async with Holdfast(path, services=[bench]) as client:
        await (await client.start(awake, id="warm-up")).result()
        before = resident_bytes()
        spent = Spent()
        await start_all(client, count)
        spent.stop()
        begun = time.perf_counter()
        await all_asleep(client, count)
        settle = time.perf_counter() - begun
        tell(
            started_s=spent.wall,
            cpu_us=spent.cpu / count * 1e6,
            settle_s=settle,
            added_mb=(resident_bytes() - before) / 1e6,
            sqlite_mb=apsw.memory_used() / 1e6,
        )
        await asyncio.sleep(HOUR)


async def again(path: str) -> None:
    before = resident_bytes()
    begin = time.perf_counter()
    async with Holdfast(path, services=[bench]) as client:
        boot = time.perf_counter() - begin
        handle = await client.start(awake, id="after-the-kill")
        await handle.result()
        tell(boot_s=boot, first_s=time.perf_counter() - begin, added_mb=(resident_bytes() - before) / 1e6)
        await asyncio.sleep(HOUR)


if __name__ == "__main__":
    _, part, database, amount = sys.argv
    asyncio.run(start(database, int(amount)) if part == "start" else again(database))
