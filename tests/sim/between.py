"""Shapes of which each is more than one invocation: calls, sends, signals, objects, workflows, limits, schedules.

As in workloads.py: a handler depends on its arguments and what came back, and says itself what is not as promised. Ids,
keys and names are few, so that they meet.
"""

import asyncio
from contextlib import suppress
from typing import Any

from holdfast import (
    Context,
    IdConflict,
    InvocationCancelled,
    InvocationFailed,
    Limit,
    Object,
    ObjectContext,
    TerminalError,
    UnknownInvocation,
    Workflow,
    WorkflowContext,
    WouldDeadlock,
)
from tests.sim.workloads import FEW, QUICK, expect, grind, group_of, hold, own, shape, sim, work

KEYS = ("a", "b", "c")
KIN = tuple(f"kin-{number}" for number in range(4))  # ids that handlers give to what they call and send
CALL_FAILED = (TerminalError, InvocationFailed, InvocationCancelled, WouldDeadlock, IdConflict)

counter = group_of(Object("Counter"))
flow = group_of(Workflow("Flow"))


# Called


@sim.handler
async def leaf(ctx: Context, number: int) -> str:
    return await ctx.run(work, number, retry=FEW)


@sim.handler
async def slow(ctx: Context, number: int) -> str:
    """Takes longer than most would wait for it, and cleans up."""
    try:
        async with asyncio.timeout(500):
            return await ctx.run(hold, number, retry=QUICK)
    except TimeoutError:
        return "late"
    except asyncio.CancelledError:
        await ctx.run(work, number, 1, name="tidy", retry=QUICK)
        raise


@sim.handler
def steps_of(ctx: Context, number: int) -> Any:
    """As a generator, and in a thread."""
    found = yield ctx.run(grind, number, retry=FEW)
    yield asyncio.sleep(1.5)
    return found


CALLED = (leaf, steps_of, "Sim/leaf")


# Calls


@shape(lambda r: (r.randint(1, 4), r.random() < 0.5))
async def caller(ctx: Context, count: int, at_once: bool) -> list[str]:
    async def one(number: int) -> str:
        try:
            found = await ctx.call(CALLED[number % 3], number)
        except CALL_FAILED as error:
            return type(error).__name__
        expect(ctx, own(found, number), "G6", f"call {number} was given {found!r}")
        return found

    numbers = range(min(count, 10))
    if at_once:
        return await asyncio.gather(*(one(number) for number in numbers))
    return [await one(number) for number in numbers]


@shape(lambda r: (r.choice([0.02, 2.0, 200.0]), r.randint(1, 3)))
async def hasty(ctx: Context, seconds: float, count: int) -> str:
    """Gives up those it has called."""
    began = ctx.now().timestamp()
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(ctx.call(slow, number) for number in range(min(count, 5))))
    except TimeoutError:
        expect(ctx, ctx.now().timestamp() >= began + seconds, "G5", f"a timeout of {seconds} s struck early")
        return await ctx.run(work, 1, retry=QUICK)
    except CALL_FAILED as error:
        return type(error).__name__
    return "done"


@shape(lambda r: (r.randint(0, 2), r.randint(1, 2)))
async def tree(ctx: Context, depth: int, width: int) -> int:
    """Calls itself, further and further down."""
    if depth <= 0:
        await ctx.run(work, depth % 10, retry=QUICK)
        return 1
    below = (ctx.call(tree, min(depth, 4) - 1, width) for _ in range(min(width, 3)))
    found = await asyncio.gather(*below, return_exceptions=True)
    return sum(one for one in found if isinstance(one, int))


@shape(lambda r: (r.randint(0, 3), r.randint(0, 1)))
async def named(ctx: Context, kin: int, other: int) -> str:
    """Calls by a name that others use too, some of them for another handler."""
    try:
        return await ctx.call(steps_of if other else leaf, 1, id=KIN[kin % 4])
    except CALL_FAILED as error:
        return type(error).__name__


@shape(lambda r: (r.randint(1, 4), r.choice([0.0, 0.0, 4.0, 90.0])))
async def sender(ctx: Context, count: int, delay: float) -> list[str]:
    """Sends, waits for some of them, cancels one."""
    sent = []
    for number in range(min(count, 6)):
        id = KIN[number % 4] if number % 3 == 2 else None
        sent.append(ctx.send(leaf, number, id=id, delay=min(delay, 100)))
        if number % 2:
            await ctx.run(work, number, retry=QUICK)
    if count > 3:
        ctx.cancel(sent[0])
    found = []
    for one in sent[:2]:
        try:
            found.append(await ctx.attach(one, str))
        except CALL_FAILED as error:
            found.append(type(error).__name__)
    return found


@shape(lambda r: (r.randint(0, 5),))
async def follower(ctx: Context, kin: int) -> Any:
    """Waits for what others have called, if it is there."""
    try:
        async with asyncio.timeout(30):
            return await ctx.attach([*KIN, "nobody", "Flow:a"][kin % 6], Any)
    except (*CALL_FAILED, UnknownInvocation, TimeoutError) as error:
        return type(error).__name__


@sim.handler
async def echo(ctx: Context, text: str) -> str:
    await ctx.run(work, 1, retry=QUICK)
    return text


@shape(lambda r: (r.choice([300, 3_000, 40_000]), r.randint(1, 3)))
async def bulky(ctx: Context, size: int, count: int) -> list[int]:
    """Gives others what is too large to be stored more than once, and gets it back."""
    text = f"{ctx._machine.seed} " * (min(size, 50_000) // 20)
    sizes = []
    for number in range(min(count, 5)):
        given = f"{number} {text}"
        try:
            found = await ctx.call(echo, given)
            sizes.append(len(found))
            expect(
                ctx, found.startswith(given), "G6", f"call {number} with {len(given)} characters brought {found[:80]!r}"
            )
        except CALL_FAILED:
            continue
        sent = ctx.send(echo, text, delay=1.0)
    try:
        sizes.append(len(await ctx.attach(sent, str)) if sizes else 0)
    except (*CALL_FAILED, UnknownInvocation):
        sizes.append(-1)
    return sizes


@sim.handler
async def undo(ctx: Context, number: int) -> str:
    return await ctx.run(work, number, name="undo", retry=QUICK)


@shape(lambda r: (r.randint(1, 3),))
async def trip(ctx: Context, count: int) -> str:
    """A saga of calls."""
    booked: list[int] = []
    try:
        for number in range(min(count, 6)):
            await ctx.call(leaf, number)
            booked.append(number)
        await asyncio.sleep(3)
        return "booked"
    except BaseException:
        for number in reversed(booked):
            await ctx.call(undo, number)
        raise


# Signals


@shape(lambda r: (r.choice([0.4, 20.0, 400.0]), r.randint(1, 4)))
async def listener(ctx: Context, seconds: float, count: int) -> list[str]:
    heard: list[str] = []
    missed = 0
    while len(heard) < min(count, 20) and missed < 3:
        try:
            heard.append(await ctx.receive("word", str, timeout=seconds))
            await ctx.run(work, len(heard) % 10, retry=QUICK)
        except TimeoutError:
            missed += 1
    expect(ctx, len(set(heard)) == len(heard), "G4", f"a signal came twice: {heard}")
    return heard


@shape(lambda r: (r.randint(1, 3),))
async def patient(ctx: Context, count: int) -> list[str]:
    """Waits as long as it takes, for two names."""
    heard = [await ctx.receive("word", str) for _ in range(min(count, 5))]
    return [*heard, await ctx.receive("last", str)]


@shape(lambda r: (r.randint(1, 4),))
async def talker(ctx: Context, count: int) -> int:
    to = ctx.send(listener, 60.0, min(count, 10))
    words = [f"{ctx.id} {number}" for number in range(min(count, 10))]
    for number, word in enumerate(words):
        ctx.signal(to, "word", word)
        if number % 2:
            await ctx.run(work, number, retry=QUICK)
    try:
        heard = await ctx.attach(to, list[str])
    except CALL_FAILED:
        return -1
    mine = [word for word in heard if word in words]
    expect(ctx, mine == words[: len(mine)], "G4", f"{words} were sent, {heard} was heard")
    return len(mine)


@sim.handler
async def pong(ctx: Context, to: str, count: int) -> None:
    for _ in range(min(count, 6)):
        ctx.signal(to, "ball", await ctx.receive("ball", str, timeout=400.0))


@shape(lambda r: (r.randint(1, 4),))
async def ping(ctx: Context, count: int) -> int:
    """Plays with one it has sent, each waiting for the other."""
    own = f"{ctx._machine.seed}"
    other = ctx.send(pong, ctx.id, min(count, 6))
    heard: list[str] = []
    with suppress(TimeoutError):
        for number in range(min(count, 6)):
            ctx.signal(other, "ball", f"{own} {number}")
            heard.append(await ctx.receive("ball", str, timeout=400.0))
    mine = [ball for ball in heard if ball.startswith(own)]  # the id may have been another's before
    expect(ctx, mine == [f"{own} {number}" for number in range(len(mine))], "G4", f"{mine} came back")
    return len(heard)


@shape(lambda r: (r.choice([5.0, 300.0]), r.random() < 0.5))
async def interrupted(ctx: Context, seconds: float, calls: bool) -> str:
    """Works until it is told to stop: then what it called, or the body, is stopped too."""
    job = ctx.call(slow, 1) if calls else ctx.run(hold, 1, retry=QUICK)
    told = ctx.receive("last", str, timeout=seconds)
    done, pending = await asyncio.wait([job, told], return_when=asyncio.FIRST_COMPLETED)
    for one in pending:
        one.cancel()
    failed = [type(one.exception()).__name__ for one in done if one.exception()]
    return await ctx.run(work, len(failed), retry=QUICK)


# Objects


def entry_of(ctx: ObjectContext) -> str:
    """What one invocation writes: no other does, not even a later one of the same id."""
    return f"{ctx.id} {ctx._machine.seed}"


@shape(lambda r: (r.choice(["", "step", "sleep", "call", "after", "both"]),), counter, KEYS)
async def add(ctx: ObjectContext, over: str) -> int:
    """Reads, waits, writes: of two at once one would be lost."""
    count = ctx.get("count", int, 0)
    ctx.get("tone", str)  # which people write
    log = ctx.items("log", str) if over in {"step", "both"} else []
    if over in {"step", "both"}:
        await ctx.run(work, count % 10, retry=FEW)
    elif over == "sleep":
        await asyncio.sleep(2)
    elif over == "call":
        await ctx.call(leaf, count % 10)
    ctx.set("count", count + 1)
    ctx.append("log", entry_of(ctx))
    if over in {"after", "both"}:
        ctx.set("notes", "long enough to be compressed, " * (count % 9))
        await ctx.run(work, 1, name="after", retry=QUICK)
    if over in {"step", "both"}:
        expect(ctx, [*log, entry_of(ctx)] == ctx.items("log", str), "G4", f"{ctx.key}'s list grew under its writer")
    return count + 1


@shape(lambda r: (), counter, KEYS)
async def wipe(ctx: ObjectContext) -> int:
    """Empties it, and writes in the same turn."""
    log = ctx.items("log", str)
    count = ctx.get("count", int, 0)
    expect(ctx, count == len(log), "G4", f"{ctx.key} counted {count}, and its list has {len(log)}")
    ctx.clear()
    expect(ctx, ctx.keys() == [], "G4", f"{ctx.key} was cleared and has {ctx.keys()}")
    if len(log) % 2:
        ctx.append("log", entry_of(ctx))
        ctx.set("count", 1)
    await ctx.run(work, 3, retry=QUICK)
    return len(log)


@shape(lambda r: (r.choice(KEYS), r.choice(["", "step"])), counter, KEYS)
async def pass_on(ctx: ObjectContext, to: str, over: str) -> int:
    """Holds its key while it calls another's, which may be held by one that calls this one's, or its own."""
    count = ctx.get("count", int, 0)
    try:
        await ctx.call(add, over, key=to)
    except CALL_FAILED:
        to = ""
    ctx.set("count", count + 1)
    ctx.append("log", entry_of(ctx))
    return len(to)


@shape(lambda r: (), counter, KEYS, limit=Limit(concurrency=1))
async def charge(ctx: ObjectContext) -> int:
    """One at a time, whatever the key; and one at a time of the key."""
    count = ctx.get("count", int, 0)
    await ctx.run(work, 5, retry=QUICK)
    ctx.set("count", count + 1)
    ctx.append("log", entry_of(ctx))
    return count


@shape(lambda r: (r.choice(["", "wait"]),), counter, KEYS, limit=Limit(rate=2, per=8.0, by="key"))
async def meter(ctx: ObjectContext, over: str) -> int:
    """So often of a key."""
    count = ctx.get("count", int, 0)
    if over:
        await asyncio.sleep(3)
    ctx.set("count", count + 1)
    ctx.append("log", entry_of(ctx))
    return count


def reading(ctx: ObjectContext) -> tuple[int, list[str]]:
    ctx.get("tone", str)
    count, log = ctx.get("count", int, 0), ctx.items("log", str)
    expect(ctx, count == len(log), "G4", f"a reader of {ctx.key} saw {count} and {log}")
    return count, log


@shape(lambda r: (r.randint(1, 3),), counter, KEYS, shared=True)
async def look(ctx: ObjectContext, times: int) -> list[int]:
    seen = []
    for _ in range(min(times, 5)):
        seen.append(reading(ctx)[0])
        await ctx.run(work, 1, retry=QUICK)
    return seen


@shape(lambda r: (), counter, KEYS, shared=True)
async def glance(ctx: ObjectContext) -> list[Any]:
    """Reads and is over: what it read is in no journal."""
    return [*reading(ctx)]


@shape(lambda r: (r.randint(1, 3), r.random() < 0.5))
async def shopper(ctx: Context, count: int, at_once: bool) -> int:
    """Calls several keys, and their readers."""

    async def one(number: int) -> int:
        try:
            after: int = await ctx.call(add, ("", "step", "after")[number % 3], key=KEYS[number % 3])
            seen = await ctx.call("Counter/glance", key=KEYS[number % 3])
        except CALL_FAILED:
            return 0
        return after if seen else 0

    numbers = range(min(count, 6))
    if at_once:
        return sum(await asyncio.gather(*(one(number) for number in numbers)))
    return sum([await one(number) for number in numbers])


# Workflows


@shape(lambda r: (r.choice([2.0, 100.0]),), flow, KEYS, main=True)
async def proceed(ctx: WorkflowContext, seconds: float) -> int:
    """Waits for word, and passes it on to all who wait for the end."""
    left = ctx.items("ends", int)
    expect(ctx, left == [], "G6", f"{ctx.key} was never run, or is purged, and {left} is left of it")
    ctx.set("stage", "begun")
    try:
        async with asyncio.timeout(seconds):
            value = await ctx.promise("go", type=int)
    except TimeoutError:
        value = -1
    except TerminalError:
        value = -2
    ctx.set("stage", "going")
    await ctx.run(work, 1, retry=QUICK)
    ctx.resolve("done", value)
    ctx.append("ends", value)
    return value


@shape(lambda r: (r.randint(0, 99), r.random() < 0.2), flow, KEYS)
async def approve(ctx: WorkflowContext, value: int, no: bool) -> str | None:
    if no:
        ctx.reject("go", "no")
    else:
        ctx.resolve("go", value)
    await ctx.run(work, 2, retry=QUICK)
    return ctx.get("stage", str)


@shape(lambda r: (r.random() < 0.5,), flow, KEYS)
async def witness(ctx: WorkflowContext, both: bool) -> list[int]:
    """What it is told is what everybody is told."""
    found = []
    for name in ("go", "done") if both else ("done",):
        try:
            found.append(await ctx.promise(name, type=int))
        except TerminalError:
            found.append(-2)
    return found


# Limits


@shape(lambda r: (r.randint(0, 1),), limit=Limit(concurrency=2))
async def narrow(ctx: Context, depth: int) -> str:
    await ctx.run(work, 1, retry=QUICK)
    if depth > 0:
        return await ctx.call(leaf, 2)
    return "through"


@shape(lambda r: (r.choice(["x", "y"]), r.choice([0.0, 5.0])), limit=Limit(concurrency=1, by="who"))
async def turns(ctx: Context, who: str, seconds: float) -> str:
    await asyncio.sleep(min(seconds, 10))
    await ctx.run(work, 1, retry=QUICK)
    return who


@shape(lambda r: (), limit=Limit(rate=2, per=10.0))
async def paced(ctx: Context) -> str:
    return await ctx.run(work, 1, retry=QUICK)


@shape(lambda r: (r.choice(["x", "y"]),), limit=Limit(concurrency=1, rate=2, per=6.0, by="who"))
async def spaced(ctx: Context, who: str) -> str:
    return await ctx.run(work, len(who), retry=QUICK)


@shape(lambda r: (r.randint(1, 4),))
async def crowd(ctx: Context, count: int) -> int:
    """Many at once for few places."""
    calls = [ctx.call(narrow, number % 2) for number in range(min(count, 6))]
    calls += [ctx.call(turns, "xy"[number % 2], 1.0) for number in range(min(count, 6))]
    calls += [ctx.call(paced) for _ in range(min(count, 3))]
    calls += [ctx.call(spaced, "xy"[number % 2]) for number in range(min(count, 3))]
    return sum(isinstance(one, str) for one in await asyncio.gather(*calls, return_exceptions=True))


# Schedules


@sim.handler
async def tick(ctx: Context, way: str) -> str:
    return await ctx.run(work, len(way), retry=QUICK)


@counter.handler
async def tick_key(ctx: ObjectContext) -> int:
    count = ctx.get("count", int, 0)
    await ctx.run(work, 4, retry=QUICK)
    ctx.set("count", count + 1)
    ctx.append("log", entry_of(ctx))
    return count
