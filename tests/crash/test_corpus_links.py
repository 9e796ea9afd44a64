"""Every commit of every shape of invocations that call, send, signal, wait for keys and share promises is a moment to
die: just before it is durable, and just after.

Whatever the moment, the next life ends with the same answers, the same invocations and the same state (G4, G6), and no
body whose record was durable runs again (G2). The shapes of single invocations are in test_corpus.py.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest

from holdfast import (
    AsyncClient,
    Context,
    Holdfast,
    InvocationCancelled,
    Limits,
    Object,
    ObjectContext,
    Service,
    StoreError,
    TerminalError,
    Workflow,
    WorkflowContext,
    WouldDeadlock,
    step,
)
from holdfast.core import entries
from holdfast.core.invocation import Status
from holdfast.stores.base import Batch, Store
from tests.crash.mortal import MortalStore

NAP = 0.004  # seconds; long enough to be a wait, short enough for hundreds of lives
WAIT_SECONDS = 20.0

Ran = list[tuple[str, str]]


async def say(word: str) -> str:
    info = step()
    await asyncio.sleep(crc32(f"{word} {info.id}".encode()) % 5 * NAP / 8)  # so that not all is one commit
    info.dep("ran").append((info.invocation, info.id))
    return word


async def slow() -> None:
    await asyncio.sleep(60)


calls = Service("Calls")


@calls.handler
async def leaf(ctx: Context, word: str) -> str:
    await ctx.run(say, f"{word}?")
    return (await ctx.run(say, word)).upper()


@calls.handler
async def fails(ctx: Context, word: str) -> str:
    await ctx.run(say, f"{word}?")
    raise TerminalError(await ctx.run(say, word), status=418)


@calls.handler
async def tree(ctx: Context, depth: int, path: str) -> str:
    if not depth:
        return await ctx.call(leaf, path)
    return "".join(await asyncio.gather(*[ctx.call(tree, depth - 1, path + side) for side in "lr"]))


@calls.handler
async def called(ctx: Context) -> list[str]:
    told = [await ctx.call(leaf, "a"), await ctx.run(say, "between")]
    try:
        await ctx.call(fails, "no")
    except TerminalError as error:
        told.append(f"{error.status} {error.what}")
    told.append(await ctx.call(tree, 2, "t"))
    return told


@calls.handler
async def joins(ctx: Context) -> str:
    return await ctx.call(leaf, "the one", id="named")


@calls.handler
async def joined(ctx: Context) -> list[str]:
    return await asyncio.gather(ctx.call(joins), ctx.call(joins), ctx.call(leaf, "the one", id="named"))


@calls.handler
async def sent(ctx: Context) -> list[str]:
    first = ctx.send(leaf, "at once")
    await ctx.run(say, "sends")
    late = ctx.send(leaf, "late", delay=2 * NAP)
    ctx.send(leaf, "named", id="named")
    ctx.send(leaf, "named", id="named")
    return [await ctx.attach(late, str), await ctx.attach(first, str), await ctx.attach("named", str)]


@calls.handler
async def stubborn(ctx: Context) -> None:
    try:
        await ctx.call(waits)
    finally:
        await ctx.run(say, "undo above")


@calls.handler
async def waits(ctx: Context) -> None:
    try:
        await asyncio.gather(ctx.run(slow), ctx.promise("never"))
    finally:
        await ctx.run(say, "undo below")


@calls.handler
async def cancels(ctx: Context) -> str:
    try:
        async with asyncio.timeout(NAP):
            await ctx.call(stubborn)
    except TimeoutError:
        other = ctx.send(stubborn)
        await ctx.run(say, "late")
        ctx.cancel(other, "enough")
    try:
        await ctx.attach(other)
    except InvocationCancelled:
        return await ctx.run(say, "over")
    return "not cancelled"


@calls.handler
async def ear(ctx: Context) -> list[str]:
    heard: list[str] = []
    while (word := await ctx.receive("word", str)) != "end":
        heard.append(await ctx.run(say, word) if len(heard) % 2 else word)
    return heard


@calls.handler
async def mouth(ctx: Context, id: str, words: str) -> None:
    for word in words:
        ctx.signal(id, "word", word)
        await ctx.run(say, word)


@calls.handler
async def signals(ctx: Context) -> list[str]:
    listener = ctx.send(ear, id="ear")
    ctx.signal(listener, "word", "first")
    await ctx.call(mouth, listener.id, "abc")
    ctx.signal(listener, "word", "last")
    ctx.signal(listener, "word", "end")
    return await ctx.attach(listener, list[str])


@calls.handler
async def ping(ctx: Context, other: str, turns: int) -> int:
    for turn in range(turns):
        if turn or ctx.id == "ping a":
            ctx.signal(other, "ball", turn)
        await ctx.receive("ball", int)
        await ctx.run(say, f"turn {turn}")
    ctx.signal(other, "ball", turns)
    return turns


@calls.handler
async def plays(ctx: Context) -> list[int]:
    ids = ["ping b", "ping a"]
    for id, other in zip(ids, reversed(ids), strict=True):
        ctx.send(ping, other, 4, id=id)
    return [await ctx.attach(id, int) for id in ids]


account = Object("Account")


@account.handler
async def add(ctx: ObjectContext, amount: int) -> int:
    total = ctx.get("total", int, 0)
    await ctx.run(say, f"{ctx.key} {amount}")
    ctx.set("total", total + amount)
    ctx.append("log", amount)
    return total + amount


@account.handler(shared=True)
async def balance(ctx: ObjectContext) -> int:
    return ctx.get("total", int, 0)


@account.handler
async def move(ctx: ObjectContext, to: str, amount: int) -> str:
    ctx.set("total", ctx.get("total", int, 0) - amount)
    try:
        await ctx.call(add, amount, key=to)
    except WouldDeadlock:
        ctx.set("total", ctx.get("total", int, 0) + amount)
        return "refused"
    ctx.append("log", -amount)
    return "moved"


@account.handler
async def rewrites(ctx: ObjectContext) -> list[int]:
    for round in range(3):
        for n in range(round + 1):
            ctx.append("pages", 10 * round + n)
        await ctx.run(say, f"round {round}")
        if round < 2:
            ctx.clear("pages")
    ctx.set("title", "done")
    await ctx.run(say, "end")
    ctx.append("pages", 99)
    return ctx.items("pages", int)


@calls.handler
async def queues(ctx: Context) -> list[int]:
    for amount in (1, 2, 3):
        ctx.send(add, amount, key="a")
    totals = await asyncio.gather(*[ctx.call(add, 10, key=key) for key in "aab"])
    return [*sorted(totals), await ctx.call(balance, key="a"), await ctx.call(balance, key="b")]


@calls.handler
async def transfers(ctx: Context) -> list[str]:
    first = await asyncio.gather(ctx.call(move, "b", 5, key="a"), ctx.call(add, 7, key="b"))
    crossed = await asyncio.gather(ctx.call(move, "a", 1, key="b"), ctx.call(move, "c", 2, key="a"))
    return [str(one) for one in first] + crossed + [await ctx.call(move, "a", 3, key="a")]


@calls.handler
async def writes(ctx: Context) -> list[list[int]]:
    return [await ctx.call(rewrites, key="a"), await ctx.call(rewrites, key="a")]


flow = Workflow("Flow")


@flow.main
async def run(ctx: WorkflowContext) -> str:
    ctx.set("state", "waiting")
    word = await ctx.promise("word", type=str)
    ctx.set("state", await ctx.run(say, word))
    return word + await ctx.promise("second", type=str)


@flow.handler
async def resolve(ctx: WorkflowContext, name: str, word: str) -> None:
    ctx.resolve(name, word)
    await ctx.run(say, word)
    ctx.resolve(name, f"{word} again")


@flow.handler
async def also(ctx: WorkflowContext) -> str:
    await ctx.run(say, "waits too")
    return await ctx.promise("word", type=str)


@calls.handler
async def workflows(ctx: Context) -> list[str]:
    ctx.send(resolve, "second", "!", key="k")
    others = [ctx.send(also, key="k") for _ in range(2)]
    await ctx.run(say, "resolved early, waited for early")
    main = ctx.send(run, key="k")
    await ctx.call(resolve, "word", "hi", key="k")
    words = [await ctx.attach(one, str) for one in (main, *others)]
    return [*words, await ctx.call(run, key="k")]


@calls.handler
async def all_fails(ctx: Context) -> list[str]:
    ends = await asyncio.gather(
        ctx.call(fails, "a"), ctx.call(raises), ctx.call(leaf, "b"), return_exceptions=True
    )  # fmt: skip
    return [end if isinstance(end, str) else type(end).__name__ for end in ends]


@calls.handler
async def raises(ctx: Context) -> None:
    await ctx.run(say, "c")
    raise ValueError("no")


SHAPES: list[Callable[..., Any]] = [
    called, joined, sent, cancels, signals, plays, queues, transfers, writes, workflows, all_fails,
]  # fmt: skip


class SlowStore(MortalStore):
    """Commits go to the writer thread, and much happens while one is under way."""

    def commit(self, batch: Batch) -> None:
        time.sleep(NAP / 2)
        super().commit(batch)


PACES: dict[str, tuple[int, type[MortalStore]]] = {
    "kept": (99, MortalStore), "parked": (0, MortalStore), "slow": (99, SlowStore), "parked and slow": (0, SlowStore),
}  # fmt: skip


class World:
    """One store, one invocation that others follow from, as many lives as it takes."""

    def __init__(self, shape: Callable[..., Any], pace: str) -> None:
        self.shape = shape
        waiting, store = PACES[pace]
        self.limits = Limits(waiting=waiting)
        self.store = store()
        self.ran: Ran = []

    async def live(self) -> Any:
        """What came of it all. Raises StoreError when this life ended before."""
        hf = Holdfast(self.store, services=[calls, account, flow], deps={"ran": self.ran}, limits=self.limits)
        async with hf as client:
            handle = await client.start(self.shape, id="it")
            answer = await handle.result(WAIT_SECONDS)
            await self.calm(client)
            return answer, await self.ends(client), await self.state(client)

    async def calm(self, client: AsyncClient) -> None:
        """Until all that was sent has ended too."""
        async with asyncio.timeout(WAIT_SECONDS):
            while any(not Status(status).ended for status in client._engine.reading().counts()):
                await asyncio.sleep(0.001)
                client._engine.check_running()

    async def ends(self, client: AsyncClient) -> list[str]:
        views = [await (await client.attach(view.id)).status() for view in await client.list(limit=1000)]
        return sorted(f"{view.target} {view.key} {view.status} {view.input} {view.output}" for view in views)

    async def state(self, client: AsyncClient) -> dict[str, Any]:
        return {
            f"{service} {key}": _in_order(await client.state(service, key))
            for service in ("Account", "Flow")
            for key in await client.objects(service)
        }

    def recorded(self) -> set[tuple[str, str]]:
        self.store.open()
        try:
            return recorded_in(self.store)
        finally:
            self.store.close()


def _in_order(state: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on who came first to a key: of several at once any order is right."""
    return {name: sorted(value) if name == "log" else value for name, value in state.items()}


def recorded_in(store: Store) -> set[tuple[str, str]]:
    found = set()
    for row in store.list(limit=1000):
        journal = [entries.decode_entry(body) for body in store.entries(row.n)]
        found |= {(row.id, entry.step) for entry in journal if isinstance(entry, entries.StepCompleted)}
    return found


def calmly(shape: Callable[..., Any], pace: str) -> tuple[int, Any]:
    world = World(shape, pace)
    expected, commits = asyncio.run(world.live()), world.store.commits
    assert len(world.ran) == len(set(world.ran)) == len(world.recorded() & set(world.ran))
    assert commits >= 3
    return commits, expected


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_death_at_any_commit_changes_nothing(shape: Callable[..., Any], pace: str) -> None:
    commits, expected = calmly(shape, pace)
    died = 0
    for commit in range(1, commits + 3):  # a later run may need a commit more: bodies do not end in step
        for keeps_last in (False, True):
            world = World(shape, pace)
            world.store.die_at(commit, keeps_last=keeps_last)
            try:
                assert asyncio.run(world.live()) == expected
            except StoreError:
                died += 1
                recorded, before = world.recorded(), len(world.ran)
                assert asyncio.run(world.live()) == expected
                assert not recorded & set(world.ran[before:]), "recorded, and run again"
    assert died >= commits // 2


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_life_that_ends_at_every_commit_still_comes_to_the_end(shape: Callable[..., Any]) -> None:
    """Each life gets two commits further; the last of them is durable, but nobody in that life hears of it."""
    _, expected = calmly(shape, "kept")
    world = World(shape, "parked")
    for _ in range(400):
        world.store.die_at(2, keeps_last=True)
        recorded, before = world.recorded(), len(world.ran)
        try:
            result = asyncio.run(world.live())
        except StoreError:
            continue
        finally:
            assert not recorded & set(world.ran[before:]), "recorded, and run again"
        assert result == expected
        return
    pytest.fail("four hundred lives were not enough")
