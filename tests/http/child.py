"""python -m tests.http.child DATABASE [INGRESS ADMIN]: a server that tests stop and kill. It says its ports as JSON."""

import asyncio
import json
import sys

from holdfast import Context, Holdfast, Object, ObjectContext, Service
from holdfast.http.options import HttpOptions
from holdfast.http.server import Servers, serve

counter = Object("Counter")
work = Service("Work")


@counter.handler
async def add(ctx: ObjectContext, by: int) -> int:
    total = ctx.get("total", int, 0) + by
    ctx.set("total", total)
    return total


@work.handler
async def hold(ctx: Context) -> str:
    return await ctx.ask("What now?", str)


async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@work.handler
async def rest(ctx: Context, seconds: float) -> str:
    return await ctx.run(nap, seconds)


@work.handler
async def grow(ctx: Context, size: int) -> str:
    return "x" * size


def ready(servers: Servers) -> None:
    sys.stdout.write(json.dumps([servers.ingress_url, servers.admin_url]) + "\n")
    sys.stdout.flush()


def main(database: str, port: int = 0, admin_port: int = 0) -> None:
    program = Holdfast(database, services=[counter, work])
    asyncio.run(serve(program, HttpOptions(port=port, admin_port=admin_port), ready))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
