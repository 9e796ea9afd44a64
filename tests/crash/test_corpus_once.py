"""Steps declared once die at every commit: just before it is durable, and just after. The bank is the truth.

Whatever the moment, the next life comes to the same answer, whoever is asked what came of the step, and every payment
was made once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import AsyncClient, Context, Holdfast, NotDone, OutcomeUnknown, Retry, StoreError, step
from tests.crash.mortal import MortalStore

Bank = Counter[tuple[str, str]]  # by idempotency key and word

QUICK = Retry(max_attempts=5, initial=0)


async def pay(word: str) -> str:
    """It may turn out that the bank is closed, and a payment takes a while on either side."""
    info = step()
    await asyncio.sleep(0)
    if word == "closed" and info.attempt == 1:
        raise NotDone("the bank is closed")
    bank: Bank = info.dep("bank")
    bank[info.idempotency_key, word] += 1
    await asyncio.sleep(0)
    return f"paid {word}"


def pay_in_a_thread(word: str) -> str:
    bank: Bank = step().dep("bank")
    bank[step().idempotency_key, word] += 1
    return f"paid {word}"


async def cut(word: str) -> str:
    await pay(word)
    raise ConnectionError("cut on the way back")


async def find(word: str) -> str:
    bank: Bank = step().dep("bank")
    if not bank[step().idempotency_key, word]:
        raise NotDone(f"nothing was paid for {word}")
    return f"paid {word}"


async def checked(ctx: Context) -> list[str]:
    return [await ctx.run(pay, word, once=find, retry=QUICK) for word in ("tea", "closed", "milk")]


async def asked(ctx: Context) -> list[str]:
    first = await ctx.run(pay, "tea", once=True)
    return [first, *await asyncio.gather(*(ctx.run(pay, word, once=True, retry=QUICK) for word in ("closed", "milk")))]


async def told(ctx: Context) -> list[str]:
    async def paid(word: str) -> str:
        try:
            return await ctx.run(pay, word, once="raise", retry=QUICK)
        except OutcomeUnknown as unknown:
            return await ctx.run(settle, word, unknown.idempotency_key, once=find_settled)

    return await asyncio.gather(paid("tea"), paid("milk"))


async def settle(word: str, key: str) -> str:
    """What a handler may do of its own: pays by the first step's key what that has not paid."""
    bank: Bank = step().dep("bank")
    if not bank[key, word]:
        bank[key, word] += 1
    return f"paid {word}"


async def find_settled(word: str, key: str) -> str:
    return await settle(word, key)


async def threads(ctx: Context) -> list[str]:
    return await asyncio.gather(*(ctx.run(pay_in_a_thread, word, once=find) for word in ("tea", "milk")))


async def broken_off(ctx: Context) -> list[str]:
    return [await ctx.run(cut, "tea", once=find), await ctx.run(cut, "milk", once=True)]


SHAPES: list[Callable[..., Any]] = [checked, asked, told, threads, broken_off]


class World:
    """One store, one bank, one invocation, as many lives as it takes."""

    def __init__(self, shape: Callable[..., Any]) -> None:
        self.shape = shape
        self.store = MortalStore()
        self.bank: Bank = Counter()

    async def live(self) -> Any:
        """The answer. Raises StoreError when this life ended before."""
        hf = Holdfast(self.store, deps={"bank": self.bank})
        hf.handler(self.shape)
        async with hf as client:
            handle = await client.start(self.shape, id="it")
            answering = asyncio.create_task(self.answer(client))
            try:
                return await handle.result(10)
            finally:
                answering.cancel()

    async def answer(self, client: AsyncClient) -> None:
        """What a person does who can look at the bank's books."""
        while True:
            for ask in await client.asks():
                (word,) = ask.about["arguments"]
                paid = self.bank[ask.about["idempotency_key"], word]
                said = {"outcome": "done", "result": f"paid {word}"} if paid else {"outcome": "not done"}
                await client.answer(ask.id, said)
            await asyncio.sleep(0.001)

    def check(self, words: int) -> None:
        paid = {key: times for key, times in self.bank.items() if times}
        assert set(paid.values()) == {1}, "paid twice"
        assert len(paid) == words


def commits_and_answer(shape: Callable[..., Any]) -> tuple[int, Any]:
    world = World(shape)
    expected = asyncio.run(world.live())
    world.check(len(expected))
    return world.store.commits, expected


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_death_at_any_commit_pays_everything_once(shape: Callable[..., Any]) -> None:
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
                assert asyncio.run(world.live()) == expected
            world.check(len(expected))
    assert died >= commits // 2


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_life_that_ends_at_every_commit_still_comes_to_the_end(shape: Callable[..., Any]) -> None:
    """Each life gets six commits further; the last of them is durable, but nobody in that life hears of it. With fewer
    none would get to its body: that nothing was done, and the next start, are commits of their own."""
    _, expected = commits_and_answer(shape)
    world = World(shape)
    for _ in range(200):
        world.store.die_at(6, keeps_last=True)
        try:
            result = asyncio.run(world.live())
        except StoreError:
            continue
        assert result == expected
        world.check(len(expected))
        return
    pytest.fail("two hundred lives were not enough")
