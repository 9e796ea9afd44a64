"""One object, many messages: a chat session whose history is a list of its state. What the 500th message costs beside
the 50th, in time and in bytes on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from benchmarks.measure import quantile, stored_bytes
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.texts import text
from holdfast import Holdfast, Object, ObjectContext

MESSAGES = 500
MESSAGE_BYTES = 2_000
WINDOW = 50  # messages at either end that are compared
SPREAD_MAX = 1.5  # "constant": the median of the last window over that of the first
BYTES_SPREAD_MAX = 1.25

chat = Object("Chat")


async def reply(words: str) -> str:
    return words[::-1]


@chat.handler
async def message(ctx: ObjectContext, words: str) -> int:
    ctx.append("messages", words)
    answer = await ctx.run(reply, words)
    ctx.append("messages", answer)
    return len(words)


@chat.handler(shared=True)
async def history(ctx: ObjectContext) -> list[str]:
    return ctx.items("messages", str)


async def talk(path: Path, count: int) -> tuple[list[float], list[int], float]:
    words = [text(number, MESSAGE_BYTES) for number in range(count)]
    laps, sizes = [], [0]
    async with Holdfast(path, services=[chat]) as client:
        for number, said in enumerate(words):
            begin = time.perf_counter()
            await client.call(message, said, key="session")
            laps.append(time.perf_counter() - begin)
            if (number + 1) % WINDOW == 0:
                sizes.append(stored_bytes(path))
        begin = time.perf_counter()
        seen = await client.call(history, key="session")
        whole = time.perf_counter() - begin
    assert len(seen) == 2 * count
    return laps, sizes, whole


def measure(options: Options) -> Iterator[Report]:
    count = max(options.size(MESSAGES), 2 * WINDOW)
    options.floor.sample()
    laps, sizes, whole = asyncio.run(talk(options.folder / "chat.db", count))
    options.floor.sample()
    first, last = quantile(laps[5:WINDOW], 0.5), quantile(laps[-WINDOW:], 0.5)
    grown = [(after - before) / WINDOW for before, after in pairwise(sizes[1:])]
    yield Report(
        "chat",
        f"{count} messages of {MESSAGE_BYTES} B",
        {
            "f_us": options.floor.seconds * 1e6,
            "first_us": first * 1e6,
            "last_us": last * 1e6,
            "time_spread": last / first,
            "bytes_each": sum(grown) / len(grown),
            "bytes_spread": max(grown) / min(grown),
            "file_bytes": float(sizes[-1]),
            "history_ms": whole * 1e3,
        },
        below={"time_spread": SPREAD_MAX, "bytes_spread": BYTES_SPREAD_MAX},
    )
