"""The shapes that run in the simulated world, and the bodies of their steps.

A handler depends on nothing but its arguments and what came back, as any handler must; it says so itself where a
result is not the one it asked for (`expect`). Bodies fail, hang and differ from run to run as the seed wants.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, NamedTuple

import holdfast
from holdfast import Context, Retry, Service, StepFailed, TerminalError

GROUPS: list[Service] = []


def group_of(group: Any) -> Any:
    """A service, object or workflow of the corpus."""
    GROUPS.append(group)
    return group


sim = group_of(Service("Sim"))
QUICK = Retry(initial=0.05, max_delay=2.0)
FEW = Retry(max_attempts=3, initial=0.05)
PATIENT = Retry(max_attempts=4, initial=20.0)  # it rests between its attempts

Arguments = Callable[[Random], tuple[Any, ...]]


class Shape(NamedTuple):
    """A handler that clients start."""

    target: str
    fn: Any
    draw: Arguments  # its arguments
    keys: tuple[str, ...]  # of an object or workflow
    main: bool


SHAPES: dict[str, Shape] = {}
UNDOING = "Sim/saga"  # it has a compensation to run


def shape(draw: Arguments, group: Any = sim, keys: tuple[str, ...] = (), **options: Any) -> Callable[[Any], Any]:
    """Adds a handler to the corpus."""

    def add(fn: Any) -> Any:
        main = options.pop("main", False)
        SHAPES[fn.__name__] = Shape(f"{group.name}/{fn.__name__}", fn, draw, keys, main)
        return (group.main if main else group.handler)(**options)(fn)

    return add


def expect(ctx: Context, good: bool, promise: str, what: str) -> None:
    """The handler's own check: a broken promise is the world's to report."""
    if not good:
        ctx.dep("life").told(ctx.id, promise, what, getattr(ctx, "key", None))


# Bodies


async def work(*key: int) -> str:
    """Gives back what it was asked, and something that no other run of it would give."""
    return await holdfast.step().dep("life").act(key)


def grind(*key: int) -> str:
    """The same in a thread."""
    return holdfast.step().dep("life").act_now(key)


async def model(messages: list[dict[str, str]]) -> dict[str, Any]:
    life = holdfast.step().dep("life")
    holdfast.step().emit(len(messages))
    said = await life.act((len(messages),))
    return {"role": "assistant", "content": said + " " + "lorem ipsum " * life.some(0, 60), "tools": life.some(0, 3)}


async def mail(promise: str) -> None:
    """Tells somebody outside about a promise."""
    life = holdfast.step().dep("life")
    await life.act(())
    life.world.inbox.setdefault(promise, None)


async def page(size: int) -> str:
    life = holdfast.step().dep("life")
    return await life.act((size,)) + "x" * size


async def hold(*key: int) -> str:
    """Takes longer than anything waits for it."""
    return await holdfast.step().dep("life").act(key, seconds=1e9)


def own(result: str, *key: int) -> bool:
    return result.startswith(repr(key))


# Shapes


@shape(lambda r: (r.randint(1, 6),))
async def chain(ctx: Context, size: int) -> list[str]:
    results = []
    for index in range(min(size, 20)):
        results.append(await ctx.run(work, index, retry=QUICK))
        expect(ctx, own(results[-1], index), "G3", f"step {index} was given {results[-1]!r}")
    return results


@shape(lambda r: (r.randint(1, 4), r.randint(1, 3)))
async def fan(ctx: Context, width: int, depth: int) -> list[list[str]]:
    async def branch(number: int) -> list[str]:
        found = []
        for turn in range(min(depth, 10)):
            found.append(await ctx.run(work, number, turn, retry=QUICK))
            expect(ctx, own(found[-1], number, turn), "G3", f"branch {number} was given {found[-1]!r}")
        return found

    return await asyncio.gather(*(branch(number) for number in range(min(width, 10))))


@shape(lambda r: (r.randint(1, 3),))
async def group(ctx: Context, width: int) -> str:
    results: list[str] = []

    async def inner(number: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for leaf in range(2):
                tasks.create_task(leaf_of(number, leaf))

    async def leaf_of(number: int, leaf: int) -> None:
        results.append(await ctx.run(work, number, leaf, retry=FEW))

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(min(width, 10)):
                tasks.create_task(inner(number))
    except* (StepFailed, TerminalError) as failed:
        results.append(f"{len(failed.exceptions)} failed")
    return await ctx.run(work, len(results), retry=QUICK)


@shape(lambda r: (r.choice([0.02, 0.5, 5.0, 90.0]), r.randint(1, 3)))
async def timeout(ctx: Context, seconds: float, turns: int) -> list[str]:
    results = []
    for turn in range(min(turns, 10)):
        began = ctx.now().timestamp()
        try:
            async with asyncio.timeout(seconds):
                results.append(await ctx.run(work, turn, retry=QUICK))
        except TimeoutError:
            expect(ctx, ctx.now().timestamp() >= began + seconds, "G5", f"a timeout of {seconds} s struck early")
            results.append(await ctx.run(work, turn, 99, retry=QUICK))
    return results


@shape(lambda r: (r.choice([1.0, 100.0]),))
async def stuck(ctx: Context, seconds: float) -> str:
    """Only its timer can free the room its body holds."""
    try:
        return await asyncio.wait_for(ctx.run(hold, 0, retry=QUICK), seconds)
    except TimeoutError:
        return await ctx.run(work, 1, retry=QUICK)


@shape(lambda r: (r.randint(1, 3), r.choice([30.0, 500.0])))
async def tries(ctx: Context, width: int, seconds: float) -> int:
    """Steps that rest between their attempts, until they succeed, fail or are given up."""
    trying = [ctx.run(work, number, retry=PATIENT) for number in range(min(width, 10))]
    done, pending = await asyncio.wait([*trying, asyncio.ensure_future(asyncio.sleep(seconds))],
                                       return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
    for step in pending:
        step.cancel()
    await ctx.run(work, 50, retry=PATIENT)
    return len(done)


@shape(lambda r: (r.randint(2, 4),))
async def race(ctx: Context, width: int) -> str:
    racers = [ctx.run(work, number, retry=FEW) for number in range(min(width, 10))]
    done, pending = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
    for loser in pending:
        loser.cancel()
    first = next(iter(done))
    return "failed" if first.exception() else first.result()


@shape(lambda r: (r.choice([0.0, 0.001, 0.3, 20.0, 61.0, 400.0, 3700.0]), r.randint(1, 3)))
async def sleeper(ctx: Context, seconds: float, turns: int) -> float:
    for _ in range(min(turns, 5)):
        began = ctx.now().timestamp()
        await ctx.sleep(min(seconds, 5_000))
        expect(ctx, ctx.now().timestamp() >= began + seconds, "G5", f"a sleep of {seconds} s was short")
    await ctx.run(work, 0, retry=QUICK)
    return seconds


@shape(lambda r: (r.choice([0.01, 1.0, 100.0]), r.randint(2, 5)))
async def clocks(ctx: Context, spread: float, count: int) -> list[int]:
    """Timers close to each other, set in any order, one of them taken back."""
    rung: list[int] = []

    async def clock(number: int) -> None:
        due = ctx.now().timestamp() + delays[number]
        await asyncio.sleep(delays[number])
        expect(ctx, ctx.now().timestamp() >= due, "G5", f"clock {number} of {delays} rang early")
        rung.append(number)

    delays = [ctx.random.random() * min(spread, 1_000) for _ in range(min(count, 10))]
    crew = [asyncio.create_task(clock(number)) for number in range(len(delays))]
    await ctx.run(work, 0, retry=FEW)
    crew.pop().cancel()
    await asyncio.gather(*crew)
    expect(ctx, rung == sorted(rung, key=lambda number: delays[number]), "G5", f"clocks {delays} rang as {rung}")
    return rung


@shape(lambda r: (r.randint(1, 5),))
async def agent(ctx: Context, turns: int) -> int:
    messages: list[dict[str, str]] = [{"role": "user", "content": "plan a trip " * 40}]
    for turn in range(min(turns, 10)):
        reply = await ctx.run(model, messages, retry=QUICK)
        messages.append({"role": "assistant", "content": reply["content"]})
        tools = await asyncio.gather(*(ctx.run(work, turn, tool, retry=QUICK) for tool in range(reply["tools"])))
        messages += [{"role": "tool", "content": found} for found in tools]
    return len(messages)


@shape(lambda r: (r.choice([0.5, 30.0, 300.0]),))
async def ask(ctx: Context, seconds: float) -> str:
    try:
        answer = await ctx.ask("Is this right?", bool, about={"id": ctx.id}, timeout=seconds)
    except TimeoutError:
        answer = None
    except TerminalError:
        answer = "rejected"
    return await ctx.run(work, 7, retry=QUICK) + repr(answer)


@shape(lambda r: (r.randint(1, 3), r.random() < 0.5))
async def approvals(ctx: Context, count: int, at_once: bool) -> list[str]:
    async def one(number: int) -> str:
        promise = ctx.promise("go", type=int)
        await ctx.run(mail, promise.id, retry=QUICK)
        try:
            return f"{number}: {await promise}"
        except TerminalError as error:
            return f"{number}: {error.what}"

    if at_once:
        return await asyncio.gather(*(one(number) for number in range(min(count, 5))))
    return [await one(number) for number in range(min(count, 5))]


@shape(lambda r: (r.choice([3.0, 90.0, 200.0]),))
async def guarded(ctx: Context, seconds: float) -> str:
    """A far deadline over a wait for somebody and then over a body that does not end."""
    promise = ctx.promise("go", type=int)
    await ctx.run(mail, promise.id, retry=QUICK)
    try:
        async with asyncio.timeout(seconds):
            value = await promise
            return await ctx.run(hold, value % 7, retry=QUICK)
    except TimeoutError:
        return "late"
    except TerminalError:
        return "rejected"


@shape(lambda r: (r.randint(1, 3),))
async def first(ctx: Context, width: int) -> str:
    """Whatever comes first: the others are given up, a promise among them."""
    promise = ctx.promise("go", type=int)
    await ctx.run(mail, promise.id, retry=QUICK)
    racers = [promise, *(ctx.run(work, number, retry=FEW, timeout=30.0) for number in range(min(width, 10)))]
    try:
        async with asyncio.TaskGroup() as tasks:
            for racer in racers:
                tasks.create_task(over_with(racer))
    except* (Over, StepFailed, TerminalError):
        pass
    return await ctx.run(work, 99, retry=QUICK)


class Over(Exception):  # no error: the first of a race
    """Ends a group of tasks."""


async def over_with(racer: Any) -> None:
    await racer
    raise Over


@shape(lambda r: (r.randint(1, 4),))
async def saga(ctx: Context, count: int) -> str:
    booked: list[int] = []
    try:
        for number in range(min(count, 10)):
            await ctx.run(work, number, name=f"book_{number}", retry=FEW)
            booked.append(number)
        await asyncio.sleep(3)
        return "booked"
    except BaseException:
        for number in reversed(booked):
            await ctx.run(work, number, name=f"cancel_{number}", retry=QUICK)
        raise


@shape(lambda r: (r.randint(1, 4),))
def steps(ctx: Context, count: int) -> Any:
    total = ""
    for number in range(min(count, 10)):
        try:
            total += yield ctx.run(work, number, retry=FEW)
            yield asyncio.sleep(0.2)
        except (StepFailed, TerminalError) as error:
            total += type(error).__name__
    return total[:60]


@shape(lambda r: (r.choice([300, 5_000, 60_000]), r.randint(1, 3)))
async def large(ctx: Context, size: int, count: int) -> str:
    pages: list[str] = []
    for _ in range(min(count, 5)):
        pages.append(await ctx.run(page, min(size, 100_000), retry=QUICK))
        await ctx.run(model, [{"role": "user", "content": text} for text in pages], retry=QUICK)
    return "".join(pages)


@shape(lambda r: (r.randint(1, 4),))
async def threads(ctx: Context, count: int) -> list[str]:
    found = [await ctx.run(grind, number, retry=QUICK, timeout=r) for number, r in enumerate([5.0] * min(count, 10))]
    found += await asyncio.gather(*(asyncio.to_thread(grind, len(found) + more) for more in range(2)))
    expect(ctx, own(found[-1], len(found) - 1), "G3", f"a thread gave {found[-1]!r}")
    return found


@shape(lambda r: (r.randint(1, 5),))
async def dice(ctx: Context, count: int) -> list[str]:
    """Its path hangs on chance, which must fall the same way on replay."""
    found = []
    for _ in range(min(count, 10)):
        if ctx.random.random() < 0.5:
            found.append(await ctx.run(work, ctx.random.randint(0, 99), retry=QUICK))
        else:
            await asyncio.sleep(ctx.random.random())
            found.append(str(ctx.uuid()))
    return found


@shape(lambda r: (r.randint(1, 5), r.randint(1, 2)))
async def pipeline(ctx: Context, count: int, workers: int) -> list[str]:
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    found: list[str] = []
    room = asyncio.Semaphore(2)

    async def worker() -> None:
        while (item := await queue.get()) >= 0:
            async with room:
                with suppress(StepFailed, TerminalError):
                    found.append(await ctx.run(work, item, retry=FEW, timeout=2.0))

    crew = [asyncio.create_task(worker()) for _ in range(min(workers, 5))]
    for item in [*range(min(count, 10)), *(-1 for _ in crew)]:
        await queue.put(item)
    await asyncio.gather(*crew)
    return found
