"""Handlers that call handlers: 100 children one after another, and 100 at once. A child is an invocation of its own,
with one no-op step; a call has returned when parent and child are both durable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from benchmarks.measure import Spent, quantile
from benchmarks.options import Options
from benchmarks.report import Report
from holdfast import Context, Holdfast, Service

CHILDREN = 100
ROUNDS = 10

bench = Service("Call")
laps: list[float] = []


async def noop() -> None:
    return None


@bench.handler
async def child(ctx: Context, number: int) -> int:
    await ctx.run(noop)
    return number


@bench.handler
async def chain(ctx: Context, children: int) -> int:
    for number in range(children):
        begin = time.perf_counter()
        await ctx.call(child, number)
        laps.append(time.perf_counter() - begin)
    return children


@bench.handler
async def spread(ctx: Context, children: int) -> int:
    return len(await asyncio.gather(*(ctx.call(child, number) for number in range(children))))


async def run(options: Options, children: int, rounds: int) -> tuple[Spent, Spent]:
    async with Holdfast(options.folder / "call.db", services=[bench]) as client:
        await client.call(spread, 20)
        options.floor.sample()
        laps.clear()
        one_by_one = Spent()
        for _ in range(rounds):
            await client.call(chain, children)
        one_by_one.stop()
        options.floor.sample()
        at_once = Spent()
        for _ in range(rounds):
            await client.call(spread, children)
        at_once.stop()
        options.floor.sample()
    return one_by_one, at_once


def measure(options: Options) -> Iterator[Report]:
    children = options.size(CHILDREN)
    one_by_one, at_once = asyncio.run(run(options, children, ROUNDS))
    done = children * ROUNDS
    f_us = options.floor.seconds * 1e6
    yield Report(
        "call",
        f"{children} one by one",
        {
            "f_us": f_us,
            "p50_us": quantile(laps, 0.5) * 1e6,
            "p50_f": quantile(laps, 0.5) / options.floor.seconds,
            "p99_ms": quantile(laps, 0.99) * 1e3,
            "cpu_us": one_by_one.cpu / done * 1e6,
        },
        below={"p50_us": 1_000.0},
    )
    yield Report(
        "call",
        f"{children} at once",
        {"f_us": f_us, "calls_s": done / at_once.wall, "cpu_us": at_once.cpu / done * 1e6},
        above={"calls_s": 4_000.0},
    )
