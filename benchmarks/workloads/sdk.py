"""The OpenAI Agents SDK: what durability adds to the CPU of 50 turns and to the file; three tools of a second each in
one turn; how long after a model's first word a watcher over HTTP has it.

Plain and durable runs take turns, and the best of each counts: a busy machine slows both. The turns are taken twice:
with a model over HTTP, asked by the SDK's stock client, as agents are run; and with one that answers from memory, where
the SDK's own CPU is least and durability stands out most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import httpx
from agents import Agent, OpenAIProvider, RunConfig, Runner
from openai import AsyncOpenAI

from benchmarks.children import child
from benchmarks.measure import Spent, quantile, stored_bytes
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.talkers import MESSAGE_BYTES, Talker, look, said, second
from holdfast import Context, Holdfast, HttpOptions, Service
from holdfast.http.server import Listeners, Servers
from holdfast.integrations.openai_agents import run, run_streamed

TURNS = 50
LENGTHS = (10, 20, 30, 40, 50)
ROUNDS = 5
WATCHES = 20
QUIET = RunConfig(tracing_disabled=True)
OVERHEAD_MAX = 0.15
TURN_BYTES_MAX = 5_000.0
SPREAD_MAX = 1.25  # bytes of the dearest turn over those of the cheapest
PARALLEL_SECONDS_MAX = 1.3
FIRST_WORD_MS_MAX = 20.0

bench = Service("Sdk")
talker = Talker("look", TURNS)  # whose turns a measurement sets
three = Agent(name="Three", model=Talker("second", 1, calls=3), tools=[second])
talk = Agent(name="Talk", model=talker, tools=[look])
far = Agent(name="Far", model="m", tools=[look])


@bench.handler
async def turns(ctx: Context, count: int) -> str:
    return str((await run(talk, "go", max_turns=count + 1, run_config=QUIET)).final_output)


@bench.handler
async def far_turns(ctx: Context, count: int) -> str:
    return str((await run(far, "go", max_turns=count + 1, run_config=ctx.dep("config"))).final_output)


@bench.handler
async def parallel(ctx: Context) -> float:
    began = ctx.now()
    await run(three, "go", run_config=QUIET)
    return (ctx.now() - began).total_seconds()


@bench.handler
async def stream(ctx: Context) -> str:
    streamed = run_streamed(talk, "go", run_config=QUIET)
    async for _ in streamed.stream_events():
        pass
    return str(streamed.final_output)


def plain_cpu(count: int) -> float:
    """CPU seconds of the same turns without Holdfast."""
    spent = Spent()
    asyncio.run(Runner.run(talk, "go", max_turns=count + 1, run_config=QUIET))
    return spent.stop().cpu


async def durable_cpu(path: Path, count: int) -> float:
    async with Holdfast(path, services=[bench]) as client:
        spent = Spent()
        await client.call(turns, count)
        return spent.stop().cpu


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[RunConfig]:
    """The SDK's own client, with one request behind it: making a client and its connection is nobody's turn."""
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        config = RunConfig(model_provider=OpenAIProvider(openai_client=client), tracing_disabled=True)
        await client.responses.create(model="m", input="hello")
        yield config


async def far_plain_cpu(port: int, count: int) -> float:
    async with asking(port) as config:
        spent = Spent()
        await Runner.run(far, "go", max_turns=count + 1, run_config=config)
        return spent.stop().cpu


async def far_durable_cpu(port: int, path: Path, count: int) -> float:
    async with asking(port) as config, Holdfast(path, services=[bench], deps={"config": config}) as client:
        spent = Spent()
        await client.call(far_turns, count)
        return spent.stop().cpu


async def parallel_seconds(path: Path) -> float:
    async with Holdfast(path, services=[bench]) as client:
        seconds: float = await client.call(parallel)
        return seconds


def sizes(folder: Path) -> dict[int, int]:
    """Bytes of a file that holds one run of so many turns."""
    found = {}
    for length in LENGTHS:
        path = folder / f"sdk-{length}.db"
        talker.turns = length
        asyncio.run(durable_cpu(path, length))
        found[length] = stored_bytes(path)
    return found


async def first_words(folder: Path, count: int) -> list[float]:
    """Seconds from the model's first word to a watcher's having it, over HTTP."""
    listeners = Listeners(HttpOptions(port=0, admin_port=0))
    host, port = listeners.ingress.getsockname()
    heard = []
    talker.first_words.clear()
    try:
        async with (
            Holdfast(folder / "sdk-watch.db", services=[bench]) as client,
            Servers(client, None, listeners),
            httpx.AsyncClient(base_url=f"http://{host}:{port}") as http,
        ):
            for number in range(count):
                handle = await client.start(stream, id=f"watched-{number}", delay=0.05)
                async with http.stream("GET", f"/invocations/{handle.id}/events") as answer:
                    heard += [time.perf_counter() async for line in answer.aiter_lines() if line == "event: chunk"]
                await handle.result()
    finally:
        listeners.close()
    return [seen - left for seen, left in zip(heard, talker.first_words, strict=True)]


def overhead(plain: list[float], durable: list[float]) -> dict[str, float]:
    return {
        "plain_cpu_ms": min(plain) * 1e3,
        "durable_cpu_ms": min(durable) * 1e3,
        "overhead": min(durable) / min(plain) - 1,
    }


def far_overhead(options: Options, count: int) -> dict[str, float]:
    plain, durable = [], []
    with child("benchmarks.child_model", count) as model:
        port = model.hear()["port"]
        asyncio.run(far_plain_cpu(port, count))
        for number in range(options.size(ROUNDS)):
            plain.append(asyncio.run(far_plain_cpu(port, count)))
            durable.append(asyncio.run(far_durable_cpu(port, options.folder / f"sdk-far-{number}.db", count)))
    return overhead(plain, durable)


def measure(options: Options) -> Iterator[Report]:
    count, rounds = options.size(TURNS), options.size(ROUNDS)
    for seed in range(2, 2 * count + 2):
        said(seed, MESSAGE_BYTES)
    yield Report("sdk", f"{count} turns over HTTP", far_overhead(options, count), below={"overhead": OVERHEAD_MAX})
    talker.turns = count
    plain_cpu(count)
    plain, durable = [], []
    for number in range(rounds):
        plain.append(plain_cpu(count))
        durable.append(asyncio.run(durable_cpu(options.folder / f"sdk-{number}.db", count)))
    bytes_at = sizes(options.folder)
    a_turn = {f"{a}-{b}": (after - before) / (b - a) for (a, before), (b, after) in pairwise(bytes_at.items())}
    yield Report(
        "sdk",
        f"{count} turns from memory, 4 KB of new text each",
        {
            **overhead(plain, durable),
            "bytes_a_turn": a_turn,
            "dearest_turn_bytes": max(a_turn.values()),
            "spread": max(a_turn.values()) / min(a_turn.values()),
        },
        below={"dearest_turn_bytes": TURN_BYTES_MAX, "spread": SPREAD_MAX},
    )
    seconds = asyncio.run(parallel_seconds(options.folder / "sdk-parallel.db"))
    waits = asyncio.run(first_words(options.folder, options.size(WATCHES)))
    yield Report(
        "sdk",
        "three tools of 1 s in one turn; a watcher over HTTP",
        {
            "three_tools_s": seconds,
            "first_word_p50_ms": quantile(waits, 0.5) * 1e3,
            "first_word_p95_ms": quantile(waits, 0.95) * 1e3,
        },
        below={"three_tools_s": PARALLEL_SECONDS_MAX, "first_word_p95_ms": FIRST_WORD_MS_MAX},
    )
