"""A counter behind HTTP whose every effect is written down: `python -m tests.http.load_app FOLDER PORT ADMIN_PORT`."""

import os
import sys
from pathlib import Path

from holdfast import Context, Holdfast, Object, ObjectContext, Service, step
from holdfast.http.options import HttpOptions

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()

counter = Object("Counter")
front = Service("Front")


async def book(request: str) -> str:
    """The effect outside: a line in a file, written in one go."""
    line = f"{request} {step().idempotency_key}\n".encode()
    handle = os.open(FOLDER / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)
    return step().idempotency_key


@counter.handler
async def add(ctx: ObjectContext, request: str) -> int:
    count = ctx.get("count", int, 0) + 1
    key = await ctx.run(book, request)
    ctx.set("count", count)
    ctx.append("requests", f"{request} {key}")
    return count


@counter.handler(shared=True)
async def seen(ctx: ObjectContext) -> list[str]:
    return ctx.items("requests", str)


@front.handler
async def order(ctx: Context, request: str, key: str) -> int:
    """Through a call, so that its exactly-once is under fire too."""
    return await ctx.call(add, request, key=key)


if __name__ == "__main__":
    Holdfast(FOLDER / "load.db", services=[counter, front]).serve(
        HttpOptions(port=int(sys.argv[2]), admin_port=int(sys.argv[3]))
    )
