"""Many invocations side by side, each a chain of no-op steps: how well they share syncs and the CPU."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from benchmarks.measure import Spent, gaps, quantile
from benchmarks.options import Options
from benchmarks.report import Report
from holdfast import AsyncClient, Context, Holdfast, Service

SHAPES = ((200, 10), (1000, 20))

bench = Service("Fan")
stamps: dict[int, list[float]] = {}


async def noop(lane: int) -> None:
    stamps[lane].append(time.perf_counter())


@bench.handler
async def chain(ctx: Context, lane: int, steps: int) -> int:
    for _ in range(steps):
        await ctx.run(noop, lane)
    return steps


async def burst(client: AsyncClient, name: str, lanes: int, steps: int) -> None:
    """Starts all lanes and waits for all results."""
    stamps.clear()
    stamps.update((lane, []) for lane in range(lanes))

    async def one(lane: int) -> None:
        handle = await client.start(chain, lane, steps, id=f"{name}-{lane}")
        await handle.result()

    await asyncio.gather(*map(one, range(lanes)))


async def spread(options: Options, lanes: int, steps: int) -> Spent:
    async with Holdfast(options.folder / f"fan-{lanes}.db", services=[bench]) as client:
        await burst(client, "warm-up", 20, 5)
        options.floor.sample()
        spent = Spent()
        await burst(client, "lane", lanes, steps)
        spent.stop()
        options.floor.sample()
    return spent


def measure(options: Options) -> Iterator[Report]:
    for full_lanes, steps in SHAPES:
        lanes = options.size(full_lanes)
        options.floor.samples.clear()
        spent = asyncio.run(spread(options, lanes, steps))
        seconds = [gap for lane in stamps.values() for gap in gaps(lane)]
        done = lanes * steps
        yield Report(
            "fan",
            f"{lanes} x {steps} steps",
            {
                "f_us": options.floor.seconds * 1e6,
                "steps_s": done / spent.wall,
                "steps_per_f": done / spent.wall * options.floor.seconds,
                "cpu_us": spent.cpu / done * 1e6,
                "p50_ms": quantile(seconds, 0.5) * 1e3,
                "p99_ms": quantile(seconds, 0.99) * 1e3,
            },
            below={"cpu_us": 50.0, "p99_ms": 40.0},
            above={"steps_s": 15_000.0},
        )
