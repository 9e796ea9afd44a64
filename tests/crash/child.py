"""One life of an engine over a SQLite file: started by test_kill9.py, and killed by it at any moment.

    python -m tests.crash.child FOLDER COUNT [POINT NUMBER]

Starts COUNT invocations by id (or attaches to them), prints `started ID` when each is acknowledged and `ended ID VALUE`
when each has ended. Every body appends one line to FOLDER/bodies before it returns, in one write that the kernel keeps
when the process dies; one that must not be done twice, its idempotency key to FOLDER/paid. With a point (of POINTS) the
process kills itself the NUMBER-th time it comes by there.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from holdfast import Context, Holdfast, Limits, NotDone, Service, step
from holdfast.stores.base import Batch
from holdfast.stores.sqlite import SqliteStore

work = Service("Work")
ROUNDS = 3
POINTS = (
    "before a commit",
    "after a commit",
    "in a body",
    "at a body's end",
    "after a payment",
    "before housekeeping",
    "after housekeeping",
)


class Mine:
    """Counts how often each point is passed, and goes off at one."""

    point = ""
    left = 0

    @classmethod
    def step_on(cls, point: str) -> None:
        if point == cls.point:
            cls.left -= 1
            if not cls.left:
                os.kill(os.getpid(), signal.SIGKILL)


class MinedStore(SqliteStore):
    def commit(self, batch: Batch) -> None:
        Mine.step_on("before a commit")
        super().commit(batch)
        Mine.step_on("after a commit")

    def maintain(self, idle: bool) -> bool:
        Mine.step_on("before housekeeping")
        more = super().maintain(idle)
        Mine.step_on("after housekeeping")
        return more


def note(what: str) -> str:
    info = step()
    line = f"{info.invocation} {info.id} {info.idempotency_key}\n".encode()
    bodies: int = info.dep("bodies")
    Mine.step_on("in a body")
    os.write(bodies, line)
    Mine.step_on("at a body's end")
    return what


async def ask(question: str) -> str:
    await asyncio.sleep(0.002)
    return note(f"{question}!")


def look(name: str) -> str:  # in a thread
    return note(name.upper())


async def pay(what: str) -> str:
    await asyncio.sleep(0.001)
    os.write(step().dep("paid"), f"{step().idempotency_key}\n".encode())
    Mine.step_on("after a payment")
    await asyncio.sleep(0.001)
    return f"{what} paid"


async def find(what: str) -> str:
    size = os.fstat(step().dep("paid")).st_size
    if step().idempotency_key not in os.pread(step().dep("paid"), size, 0).decode().split():
        raise NotDone
    return f"{what} paid"


@work.handler
async def agent(ctx: Context, goal: str) -> str:
    said = [goal]
    for number in range(ROUNDS):
        said.append(await ctx.run(ask, f"{goal}{number}"))
        async with asyncio.timeout(60):
            said += await asyncio.gather(tool(ctx, said[-1]), tool(ctx, said[-1]), ctx.run(look, "b"))
        await asyncio.sleep(0.005)
    said.append(await ctx.run(pay, goal, once=find))
    async for part in parts(ctx):
        said.append(part)
    return " ".join(said)


async def tool(ctx: Context, what: str) -> str:
    return await ctx.run(ask, await ctx.run(look, what))


async def parts(ctx: Context) -> AsyncIterator[str]:
    for part in ("x", "y"):
        yield await ctx.run(ask, part)


async def live(folder: Path, count: int) -> None:
    bodies, paid = (os.open(folder / name, os.O_RDWR | os.O_APPEND | os.O_CREAT) for name in ("bodies", "paid"))
    limits = Limits(running=4, waiting=2, bodies=6, threads=3)
    store = MinedStore(folder / "work.db")
    async with Holdfast(store, services=[work], deps={"bodies": bodies, "paid": paid}, limits=limits) as client:

        async def one(number: int) -> None:
            handle = await client.start(agent, f"g{number}", id=f"work-{number}")
            print(f"started work-{number}", flush=True)  # noqa: T201  # what the parent reads
            print(f"ended work-{number} {await handle.result()}", flush=True)  # noqa: T201

        await asyncio.gather(*(one(number) for number in range(count)))


if __name__ == "__main__":
    if sys.argv[3:]:
        Mine.point, Mine.left = sys.argv[3], int(sys.argv[4])
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2])))
