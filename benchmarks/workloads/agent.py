"""A growing conversation: each turn gives the whole message list to the model step. What a turn adds to the file.

2 KB from the user, 2 KB from the model, in text as compressible as talk. The size is that of the database with its
WAL moved home, looked at from inside the model step, when all turns before it are on disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.measure import Spent, quantile, stored_bytes
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.texts import text
from holdfast import AsyncHandle, Context, Holdfast, Service, step

TURNS = (50, 200, 500)
MESSAGE_BYTES = 2_000
LOOKED_AT = (10, 50, 100, 200, 300, 400, 500)
STORED_MAX = {50: 250_000.0, 200: 1_000_000.0}
SPREAD_MAX = 1.25  # "constant": bytes of the dearest turn over those of the cheapest, averaged between looks

Message = dict[str, str]

bench = Service("Agent")
calls: list[tuple[float, float]] = []  # when each model step began and ended
said = cache(text)  # made before the clock runs: words cost more than steps


async def ask_model(messages: list[Message]) -> Message:
    begin = time.perf_counter()
    turn = (len(messages) + 1) // 2
    looks: dict[int, int] = step().dep("looks")
    if turn in LOOKED_AT:
        looks[turn] = stored_bytes(step().dep("path"))
    calls.append((begin, time.perf_counter()))
    return {"role": "assistant", "content": said(2 * turn + 1, MESSAGE_BYTES)}


@bench.handler
async def talk(ctx: Context, turns: int) -> int:
    messages: list[Message] = []
    for turn in range(1, turns + 1):
        messages.append({"role": "user", "content": said(2 * turn, MESSAGE_BYTES)})
        messages.append(await ctx.run(ask_model, messages))
    return len(messages)


def conversation(turn: int) -> list[Message]:
    """What the model must have been asked in a turn."""
    roles = ("user", "assistant")
    return [{"role": roles[seed % 2], "content": said(seed, MESSAGE_BYTES)} for seed in range(2, 2 * turn + 1)]


async def readable(handle: AsyncHandle[Any], turns: int) -> bool:
    """Whether the journal shows what the first, a middle and the last call were asked."""
    journal = await handle.journal()
    steps = [entry for entry in journal if entry.kind == "step"]
    shown = {turn: await handle.inputs(steps[turn - 1].id) for turn in (1, turns // 2, turns)}
    return len(steps) == turns and all(asked == [conversation(turn)] for turn, asked in shown.items())


async def hold(path: Path, turns: int, looks: dict[int, int]) -> tuple[Spent, Spent, bool]:
    """What the talk took, what reading its journal took, and whether that was right."""
    async with Holdfast(path, services=[bench], deps={"looks": looks, "path": path}) as client:
        talking = Spent()
        handle = await client.start(talk, turns, id=f"talk-{turns}")
        await handle.result()
        talking.stop()
        reading = Spent()
        right = await readable(handle, turns)
        return talking, reading.stop(), right


def per_turn(looks: dict[int, int]) -> dict[str, float]:
    """Bytes a turn between one look and the next."""
    seen = sorted(looks.items())
    return {f"{first}-{last}": (after - before) / (last - first) for (first, before), (last, after) in pairwise(seen)}


def measure(options: Options) -> Iterator[Report]:
    for full_turns in TURNS:
        turns = options.size(full_turns)
        path = options.folder / f"agent-{turns}.db"
        looks: dict[int, int] = {}
        conversation(turns + 1)
        calls.clear()
        options.floor.samples.clear()
        options.floor.sample(100)
        talking, reading, is_readable = asyncio.run(hold(path, turns, looks))
        options.floor.sample(100)
        stored = stored_bytes(path)
        growth = per_turn(looks)
        between = [begin - end for (_, end), (begin, _) in pairwise(calls)]
        figures: dict[str, Any] = {
            "f_us": options.floor.seconds * 1e6,
            "stored_bytes": stored,
            "stored_bytes_a_turn": stored / turns,
            "bytes_a_turn": growth,
            "spread": max(growth.values()) / min(growth.values()) if len(growth) > 1 else 1.0,
            "journal_read_ms": reading.wall * 1e3,
            "inputs_readable": int(is_readable),
            "p50_ms": quantile(between, 0.5) * 1e3,
            "p99_ms": quantile(between, 0.99) * 1e3,
            "cpu_us": talking.cpu / turns * 1e6,
        }
        below = {"spread": SPREAD_MAX} | ({"stored_bytes": STORED_MAX[turns]} if turns in STORED_MAX else {})
        yield Report("agent", f"{turns} turns", figures, below=below, above={"inputs_readable": 0})
