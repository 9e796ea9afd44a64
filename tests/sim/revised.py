"""Shapes whose code is changed from one life to the next: some say so, some do not, some are mended."""

import asyncio
from typing import Any

from holdfast import Context, ObjectContext
from tests.sim.between import CALL_FAILED, KEYS, counter, entry_of, leaf, steps_of
from tests.sim.workloads import FEW, QUICK, expect, own, shape, work

EDITED = {"Sim/edited", "Sim/recalled"}  # nothing in them says so
FLAWED = {"Sim/flawed", "Counter/flawed_key"}  # they raise until they are mended


@shape(lambda r: (r.randint(2, 4),))
async def edited(ctx: Context, count: int) -> list[str]:
    """Its code is changed between lives: other arguments, another name, another number of steps."""
    edit = ctx.dep("life").edit
    found = []
    for number in range(min(count, 10) - (edit == "fewer")):
        name = "renamed" if edit == "name" else None
        found.append(await ctx.run(work, number + 50 * (edit == "argument"), name=name, retry=QUICK))
    return found


@shape(lambda r: (r.randint(2, 4),))
async def recalled(ctx: Context, count: int) -> list[str]:
    """The same of calls: other arguments, another handler, another number of calls."""
    edit = ctx.dep("life").edit
    found = []
    for number in range(min(count, 10) - (edit == "fewer")):
        called: Any = steps_of if edit == "name" else leaf
        given = number + 50 * (edit == "argument")
        try:
            found.append(await ctx.call(called, given))
            expect(ctx, own(found[-1], given), "G3", f"the call with {given} was given {found[-1]!r}")
        except CALL_FAILED as error:
            found.append(type(error).__name__)
        await asyncio.sleep(0.3)
    return found


@shape(lambda r: (r.randint(1, 4),))
async def renewed(ctx: Context, count: int) -> list[str]:
    """Its code is changed once, and says so."""
    found = []
    for number in range(min(count, 10)):
        ctx.emit({"turn": number})
        if ctx.dep("life").renewed and ctx.version("greeting"):
            found.append(await ctx.run(work, number, 5, name="greet", retry=QUICK))
            ctx.send(leaf, number)
        found.append(await ctx.run(work, number, retry=QUICK))
    ctx.emit("over")
    return found


@shape(lambda r: (r.randint(0, 3),))
async def flawed(ctx: Context, count: int) -> str:
    """It has sent things when it raises; mended, it sends more behind them."""
    for number in range(min(count, 10)):
        await ctx.run(work, number, retry=FEW)
        ctx.send(leaf, number)
    ctx.send(leaf, 7)
    if not ctx.dep("life").mended:
        raise RuntimeError("a bug")
    ctx.send(leaf, 8)
    return await ctx.run(work, 9, retry=QUICK)


@shape(lambda r: (r.random() < 0.5,), counter, KEYS)
async def flawed_key(ctx: ObjectContext, first: bool) -> int:
    """It has read and written when it raises."""
    count = ctx.get("count", int, 0)
    if first:
        await ctx.run(work, 5, retry=FEW)
    ctx.set("count", count + 1)
    ctx.append("log", entry_of(ctx))
    if not ctx.dep("life").mended:
        raise RuntimeError("a bug")
    await ctx.run(work, 6, retry=QUICK)
    ctx.set("mended", count)
    return count
