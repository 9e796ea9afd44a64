"""python -m benchmarks.child_recover start|again DATABASE SIDE_FILE LANES: the process that workload recover kills.

start: starts LANES chains of slow steps, says so, and runs until it is killed.
again: opens the same file, waits for every chain and says what each returned.
A body appends its name to SIDE_FILE before it works and its name with "." after it: a file opened with O_APPEND keeps
whole lines whatever is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from benchmarks.children import tell
from benchmarks.measure import Spent
from holdfast import AsyncClient, Context, Holdfast, Service, step

STEPS = 10
STEP_SECONDS = 0.02

bench = Service("Recover")


async def work(lane: int, number: int) -> int:
    side: int = step().dep("side")
    os.write(side, f"{lane}/{number}\n".encode())
    await asyncio.sleep(STEP_SECONDS)
    os.write(side, f"{lane}/{number}.\n".encode())
    return lane * 1000 + number


@bench.handler
async def chain(ctx: Context, lane: int) -> list[int]:
    return [await ctx.run(work, lane, number) for number in range(STEPS)]


async def start(client: AsyncClient, lanes: int) -> None:
    await asyncio.gather(*(client.start(chain, lane, id=f"lane-{lane}") for lane in range(lanes)))
    tell(started=lanes)
    await asyncio.sleep(3600)


async def again(client: AsyncClient, lanes: int, spent: Spent) -> None:
    async def result(lane: int) -> bool:
        handle = await client.attach(f"lane-{lane}")
        return list(await handle.result()) == [lane * 1000 + number for number in range(STEPS)]

    right = await asyncio.gather(*map(result, range(lanes)))
    spent.stop()
    tell(done_s=spent.wall, cpu_s=spent.cpu, right=sum(right), at=time.time())


async def main(part: str, path: str, side_path: str, lanes: int) -> None:
    side = os.open(side_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    spent = Spent()
    async with Holdfast(path, services=[bench], deps={"side": side}) as client:
        await (start(client, lanes) if part == "start" else again(client, lanes, spent))


if __name__ == "__main__":
    _, kind, database, side_file, amount = sys.argv
    asyncio.run(main(kind, database, side_file, int(amount)))
