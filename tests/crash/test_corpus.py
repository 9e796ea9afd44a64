"""Every commit of every shape of program is a moment to die: just before it is durable, and just after.

Whatever the moment, the next life ends with the same answer, no body whose record was durable runs again, and a sleeper
never wakes early. The shapes are small programs over the public API; the two examples are crashed in the same way in
tests/examples/test_survival.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from holdfast import (
    AsyncClient,
    Context,
    Holdfast,
    InvocationCancelled,
    Retry,
    StepFailed,
    StoreError,
    TerminalError,
    step,
)
from holdfast.core import entries
from holdfast.stores.base import Store
from tests.crash.mortal import MortalStore

NAP = 0.004  # seconds; long enough to be a wait, short enough for hundreds of lives

CANCEL = "cancel me"  # the question that `answer` answers so

Ran = list[tuple[str, str]]


async def say(word: str) -> str:
    info = step()
    await asyncio.sleep(0)
    info.dep("ran").append((info.invocation, info.id))
    return word


def shout(word: str) -> str:  # in a thread
    info = step()
    info.dep("ran").append((info.invocation, info.id))
    return word.upper()


async def slow(word: str) -> str:
    await asyncio.sleep(60)
    return word


async def fails(_word: str) -> str:
    raise ConnectionError("down")


async def chain(ctx: Context) -> str:
    return "".join([await ctx.run(say, word) for word in "abcde"])


async def fan_out(ctx: Context) -> list[str]:
    async def two(word: str) -> str:
        return await ctx.run(say, await ctx.run(shout, word))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(two(word)) for word in "abc"]
    return [task.result() for task in tasks] + await asyncio.gather(ctx.run(say, "d"), ctx.run(shout, "e"))


async def nested_tasks(ctx: Context) -> str:
    async def tree(depth: int, path: str) -> str:
        here = await ctx.run(say, path)
        if not depth:
            return here
        return here + "".join(await asyncio.gather(tree(depth - 1, path + "l"), tree(depth - 1, path + "r")))

    return await tree(2, "t")


async def timeouts(ctx: Context) -> str:
    try:
        async with asyncio.timeout(NAP):
            await ctx.run(slow, "never")
    except TimeoutError:
        late = await ctx.run(say, "late")
    return late + await asyncio.wait_for(ctx.run(say, "soon"), 60)


async def race(ctx: Context) -> str:
    winner, loser = asyncio.ensure_future(ctx.run(say, "w")), asyncio.ensure_future(ctx.run(slow, "l"))
    done, _ = await asyncio.wait({winner, loser}, return_when=asyncio.FIRST_COMPLETED)
    loser.cancel()
    return done.pop().result() + await ctx.run(say, "after")


async def compensation(ctx: Context) -> str:
    undo: list[str] = []
    try:
        for word in ("hotel", "flight"):
            undo.append(await ctx.run(say, word))  # noqa: PERF401  # as a user would write it
        await ctx.run(fails, "car", retry=Retry(max_attempts=1))
    except StepFailed:
        return " ".join([await ctx.run(say, f"undo {word}") for word in reversed(undo)])
    raise TerminalError("the car was there")


async def sleepers(ctx: Context) -> list[str]:
    async def after(seconds: float, word: str) -> str:
        due = ctx.now().timestamp() + seconds
        await asyncio.sleep(seconds)
        assert time.time() >= due - 0.001, "woken early"
        return await ctx.run(say, word)

    return await asyncio.gather(after(2 * NAP, "b"), after(NAP, "a"), after(0, "0"))


async def agent(ctx: Context) -> str:
    messages: list[dict[str, str]] = []
    for turn in range(3):
        text = await ctx.run(say, f"turn {turn} " + "x" * 300)
        messages.append({"role": "assistant", "content": text})
        for tool in asyncio.as_completed([ctx.run(shout, f"a{turn}"), ctx.run(say, f"b{turn}")]):
            messages.append({"role": "tool", "content": await tool})  # noqa: PERF401
    return " ".join(sorted(message["content"][:6] for message in messages))


async def asks(ctx: Context) -> str:
    first = await ctx.ask("first?", str)
    async with asyncio.timeout(600):
        second = await ctx.ask("second?", str, about={"first": first})
    return await ctx.run(say, f"{first} {second}")


async def cancelled(ctx: Context) -> str:
    undo: list[str] = []
    try:
        undo.append(await ctx.run(say, "hotel"))
        undo += await asyncio.gather(ctx.run(say, "flight"), ctx.run(shout, "car"))
        await asyncio.gather(ctx.ask(CANCEL), ctx.sleep(600))
    except asyncio.CancelledError:
        for word in reversed(undo):
            await ctx.run(say, f"undo {word}")
        raise
    return "not cancelled"


async def generators(ctx: Context) -> str:
    async def words() -> AsyncIterator[str]:
        try:
            for word in "abc":
                yield await ctx.run(say, word)
        finally:
            await ctx.run(say, "closed")

    said = ""
    async for word in words():
        said += word
        if word == "b":
            break
    return said + await ctx.run(say, "end")


def by_yield(ctx: Context) -> Any:
    first = yield ctx.run(say, "a")
    try:
        yield ctx.run(fails, "x", retry=Retry(max_attempts=1))
    except StepFailed:
        second = yield ctx.run(shout, "b")
    yield ctx.sleep(NAP)
    return first + second


SHAPES: list[Callable[..., Any]] = [
    chain, fan_out, nested_tasks, timeouts, race, compensation, sleepers, agent, asks, cancelled, generators, by_yield,
]  # fmt: skip


class World:
    """One store, one invocation, as many lives as it takes."""

    def __init__(self, shape: Callable[..., Any]) -> None:
        self.shape = shape
        self.store = MortalStore()
        self.ran: Ran = []

    async def live(self) -> Any:
        """The answer. Raises StoreError when this life ended before."""
        hf = Holdfast(self.store, deps={"ran": self.ran})
        hf.handler(self.shape)
        async with hf as client:
            handle = await client.start(self.shape, id="it")
            answering = asyncio.create_task(answer(client))
            try:
                return await handle.result(10)
            except InvocationCancelled:
                return sorted(self.recorded_in(client._engine.store))
            finally:
                answering.cancel()

    def recorded(self) -> Ran:
        self.store.open()
        try:
            return self.recorded_in(self.store)
        finally:
            self.store.close()

    def recorded_in(self, store: Store) -> Ran:
        row = store.find("it")
        journal = [] if row is None else [entries.decode_entry(body) for body in store.entries(row.n)]
        return [("it", entry.step) for entry in journal if isinstance(entry, entries.StepCompleted)]


async def answer(client: AsyncClient) -> None:
    while True:
        for ask in await client.asks():
            if ask.question == CANCEL:
                await (await client.attach("it")).cancel()
            else:
                await client.answer(ask.id, ask.question[0])
        await asyncio.sleep(0.001)


def commits_and_answer(shape: Callable[..., Any]) -> tuple[int, Any]:
    world = World(shape)
    expected = asyncio.run(world.live())
    return world.store.commits, expected


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_death_at_any_commit_changes_nothing(shape: Callable[..., Any]) -> None:
    commits, expected = commits_and_answer(shape)
    assert commits >= 3
    died = 0
    for commit in range(1, commits + 3):  # a later run may need a commit more: bodies do not end in step
        for keeps_last in (False, True):
            world = World(shape)
            world.store.die_at(commit, keeps_last=keeps_last)
            try:
                assert asyncio.run(world.live()) == expected
            except StoreError:
                died += 1
                recorded, before = world.recorded(), len(world.ran)
                assert asyncio.run(world.live()) == expected
                assert not set(recorded) & set(world.ran[before:]), "recorded, and run again"
    # Not 2 * commits: bodies that end together share a commit, and which do depends on the threads.
    assert died >= commits // 2


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_life_that_ends_at_every_commit_still_comes_to_the_end(shape: Callable[..., Any]) -> None:
    """Each life gets two commits further; the last of them is durable, but nobody in that life hears of it."""
    _, expected = commits_and_answer(shape)
    world = World(shape)
    for _ in range(200):
        world.store.die_at(2, keeps_last=True)
        recorded, before = world.recorded(), len(world.ran)
        try:
            result = asyncio.run(world.live())
        except StoreError:
            continue
        finally:
            assert not set(recorded) & set(world.ran[before:]), "recorded, and run again"
        assert result == expected
        return
    pytest.fail("two hundred lives were not enough")
