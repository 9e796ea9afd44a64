"""One life of an engine over a SQLite file: started by test_kill9.py, and killed by it at any moment.

    python -m tests.crash.child FOLDER COUNT

Starts COUNT invocations by id (or attaches to them), prints `started ID` when each is acknowledged and `ended ID VALUE`
when each has ended. Every body appends one line to FOLDER/bodies before it returns, in one write that the kernel keeps
when the process dies.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from holdfast import Context, Holdfast, Limits, Service, step

work = Service("Work")
ROUNDS = 3


def note(what: str) -> str:
    info = step()
    line = f"{info.invocation} {info.id} {info.idempotency_key}\n".encode()
    bodies: int = info.dep("bodies")
    os.write(bodies, line)
    return what


async def ask(question: str) -> str:
    await asyncio.sleep(0.002)
    return note(f"{question}!")


def look(name: str) -> str:  # in a thread
    return note(name.upper())


@work.handler
async def agent(ctx: Context, goal: str) -> str:
    said = [goal]
    for number in range(ROUNDS):
        said.append(await ctx.run(ask, f"{goal}{number}"))
        async with asyncio.timeout(60):
            said += await asyncio.gather(tool(ctx, said[-1]), tool(ctx, said[-1]), ctx.run(look, "b"))
        await asyncio.sleep(0.005)
    async for part in parts(ctx):
        said.append(part)
    return " ".join(said)


async def tool(ctx: Context, what: str) -> str:
    return await ctx.run(ask, await ctx.run(look, what))


async def parts(ctx: Context) -> AsyncIterator[str]:
    for part in ("x", "y"):
        yield await ctx.run(ask, part)


async def live(folder: Path, count: int) -> None:
    bodies = os.open(folder / "bodies", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    limits = Limits(running=4, waiting=2, bodies=6, threads=3)
    async with Holdfast(folder / "work.db", services=[work], deps={"bodies": bodies}, limits=limits) as client:

        async def one(number: int) -> None:
            handle = await client.start(agent, f"g{number}", id=f"work-{number}")
            print(f"started work-{number}", flush=True)  # noqa: T201  # what the parent reads
            print(f"ended work-{number} {await handle.result()}", flush=True)  # noqa: T201

        await asyncio.gather(*(one(number) for number in range(count)))


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2])))
