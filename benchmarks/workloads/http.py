"""Invocations of one step over HTTP: 64 clients in another process, each waiting for its result before the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from benchmarks.children import Child, child
from benchmarks.measure import Spent
from benchmarks.options import Options
from benchmarks.report import Report
from holdfast import Context, Holdfast, HttpOptions, Service
from holdfast.http.server import Listeners, Servers

CLIENTS = 64
COUNT = 2_000

bench = Service("Bench")


async def add_one(number: int) -> int:
    return number + 1


@bench.handler
async def one(ctx: Context, number: int) -> int:
    return await ctx.run(add_one, number)


async def loaded(process: Child) -> tuple[dict[str, Any], Spent]:
    """What the clients measured, and what this process, the server, spent meanwhile."""
    await asyncio.to_thread(process.hear)
    spent = Spent()
    process.say("go")
    heard = await asyncio.to_thread(process.hear)
    return heard, spent.stop()


async def serve(options: Options, count: int) -> tuple[dict[str, Any], Spent]:
    listeners = Listeners(HttpOptions(port=0, admin_port=0))
    host, port = listeners.ingress.getsockname()
    try:
        async with (
            Holdfast(options.folder / "http.db", services=[bench]) as client,
            Servers(client, None, listeners),
        ):
            with child("benchmarks.child_http", host, port, "/Bench/one", CLIENTS, count) as process:
                return await loaded(process)
    finally:
        listeners.close()


def measure(options: Options) -> Iterator[Report]:
    count = options.size(COUNT)
    options.floor.sample()
    heard, spent = asyncio.run(serve(options, count))
    options.floor.sample()
    yield Report(
        "http",
        f"{CLIENTS} clients, {count} calls of one step",
        {
            "f_us": options.floor.seconds * 1e6,
            "rate_s": heard["rate_s"],
            "p50_ms": heard["p50_ms"],
            "p99_ms": heard["p99_ms"],
            "server_cpu_us": spent.cpu / count * 1e6,
            "client_cpu_us": heard["client_cpu_us"],
        },
        below={"p99_ms": 100.0},
        above={"rate_s": 2_000.0},
    )
