"""A journal of a thousand steps taken through its handler again: the CPU a step costs when nothing is run.

An invocation with as many steps waits for a promise; the process lets go of it and a new engine settles the promise.
What the same takes with no steps is subtracted, so that boot, start and the promise do not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Spent, quantile
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.waiting import suspended
from holdfast import Context, Holdfast, Service

STEPS = 1_000
TIMES = 15

bench = Service("Replay")
promises: list[str] = []
bodies = 0


async def noop() -> None:
    global bodies  # noqa: PLW0603  the one thing this workload must see: that no body runs on replay
    bodies += 1


@bench.handler
async def long(ctx: Context, steps: int) -> int:
    for _ in range(steps):
        await ctx.run(noop)
    promise = ctx.promise("go", type=int)
    promises.append(promise.id)
    value: int = await promise
    return value + steps


async def prepare(path: Path, steps: int, times: int) -> list[str]:
    """Leaves `times` invocations behind that wait for a promise; their promises' ids."""
    promises.clear()
    async with Holdfast(path, services=[bench]) as client:
        handles = [await client.start(long, steps, id=f"long-{number}") for number in range(times)]
        for handle in handles:
            await suspended(handle)
    return list(promises)


async def replay(path: Path, ids: list[str]) -> list[Spent]:
    spent: list[Spent] = []
    async with Holdfast(path, services=[bench]) as client:
        for number, promise in enumerate(ids):
            one = Spent()
            await client.resolve(promise, 1)
            await (await client.attach(f"long-{number}")).result()
            spent.append(one.stop())
    return spent


def measure(options: Options) -> Iterator[Report]:
    steps, times = options.size(STEPS), TIMES
    cost: dict[int, list[Spent]] = {}
    for count in (0, steps):
        path = options.folder / f"replay-{count}.db"
        ids = asyncio.run(prepare(path, count, times))
        before = bodies
        options.floor.sample(100)
        cost[count] = asyncio.run(replay(path, ids))
        options.floor.sample(100)
        if bodies != before:
            raise RuntimeError(f"{bodies - before} bodies ran on replay: G2 is broken")
    cpu = quantile([one.cpu for one in cost[steps]], 0.5) - quantile([one.cpu for one in cost[0]], 0.5)
    yield Report(
        "replay",
        f"{steps} steps",
        {
            "f_us": options.floor.seconds * 1e6,
            "cpu_us": cpu / steps * 1e6,
            "p50_ms": quantile([one.wall for one in cost[steps]], 0.5) * 1e3,
            "p99_ms": quantile([one.wall for one in cost[steps]], 0.99) * 1e3,
            "ms_without_steps": quantile([one.wall for one in cost[0]], 0.5) * 1e3,
        },
        below={"cpu_us": 10.0},
    )
