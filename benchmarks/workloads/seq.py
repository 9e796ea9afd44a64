"""One invocation, one no-op step after another: what a step costs when nobody shares its sync."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from benchmarks.measure import Floor, Spent, gaps, quantile
from benchmarks.options import Options
from benchmarks.report import Report
from holdfast import AsyncClient, Context, Holdfast, Service

STEPS = 200
ROUNDS = 10

bench = Service("Seq")
stamps: list[float] = []


async def noop() -> None:
    stamps.append(time.perf_counter())


@bench.handler
async def seq(ctx: Context, steps: int) -> int:
    for _ in range(steps):
        await ctx.run(noop)
    return steps


async def rounds(client: AsyncClient, floor: Floor, count: int) -> tuple[list[float], float]:
    """Seconds of each step, and CPU seconds of all. F is sampled between the rounds."""
    await (await client.start(seq, STEPS, id="warm-up")).result()
    seconds: list[float] = []
    cpu = 0.0
    for number in range(count):
        floor.sample(100)
        stamps.clear()
        spent = Spent()
        handle = await client.start(seq, STEPS, id=f"round-{number}")
        await handle.result()
        cpu += spent.stop().cpu
        seconds += gaps(stamps)
    floor.sample(100)
    return seconds, cpu


def measure(options: Options) -> Iterator[Report]:
    count = options.size(ROUNDS)

    async def run() -> tuple[list[float], float]:
        async with Holdfast(options.folder / "seq.db", services=[bench]) as client:
            return await rounds(client, options.floor, count)

    seconds, cpu = asyncio.run(run())
    floor = options.floor.seconds
    yield Report(
        "seq",
        f"{count} x {STEPS} steps",
        {
            "f_us": floor * 1e6,
            "p50_us": quantile(seconds, 0.5) * 1e6,
            "p50_f": quantile(seconds, 0.5) / floor,
            "p99_ms": quantile(seconds, 0.99) * 1e3,
            "f_p99_ms": quantile(options.floor.samples, 0.99) * 1e3,
            "cpu_us": cpu / (count * STEPS) * 1e6,
        },
        below={"p50_f": 2.5, "p99_ms": 3.0},
    )
