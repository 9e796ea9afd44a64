"""What follows from one another with no step between: it goes on batch by batch, and nothing in it is done twice."""

import asyncio
import contextlib
import itertools

import pytest

from holdfast import Context, Limits, Object, ObjectContext, StoreFailed, Workflow, WorkflowContext
from holdfast.engine import links
from tests.engine.family import status
from tests.engine.lives import Flags, all_in_lane, life
from tests.engine.world import WAIT_SECONDS, Wrapped, in_engine, paused, wait_for

ROUNDS = 2_000
ROWS_MAX = 4 * links.DELIVERIES_MAX  # of a batch: what a delivery leads to is a few rows


class Weighed(Wrapped):
    """Tells how many rows the largest batch had."""

    def __init__(self, inner):
        super().__init__(inner)
        self.largest = 0

    def commit(self, batch):
        self.largest = max(self.largest, batch.rows())
        self.inner.commit(batch)


async def quick(ctx: Context, n: int) -> int:
    return n


async def sends_itself(ctx: Context, left: int) -> None:
    if left:
        ctx.send(sends_itself, left - 1, id=f"left {left - 1}")


async def signals_itself(ctx: Context, turns: int) -> int:
    for turn in range(turns):
        ctx.signal(ctx.id, "next", turn)
        assert await ctx.receive("next", int) == turn
    return turns


async def calls(ctx: Context, turns: int) -> int:
    return sum([await ctx.call(quick, 1) for _ in range(turns)])


async def attaches(ctx: Context, turns: int) -> int:
    await ctx.call(quick, 1, id="quick")
    return sum([await ctx.attach("quick", int) for _ in range(turns)])


async def plays(ctx: Context, other: str, turns: int, *, first: bool) -> int:
    """One side of a game in which each ball is the answer to the last one."""
    for turn in range(turns):
        if first:
            ctx.signal(other, "ball", turn)
        assert await ctx.receive("ball", int) == turn
        if not first:
            ctx.signal(other, "ball", turn)
    return turns


HANDLERS = [quick, sends_itself, signals_itself, calls, attaches, plays]


@pytest.mark.parametrize("handler", [signals_itself, calls, attaches])
def test_a_handler_that_never_waits_for_a_body_makes_no_endless_batch(world, handler):
    stores = []
    with world.holdfast(*HANDLERS, wrap=lambda inner: stores.append(Weighed(inner)) or stores[0]) as client:
        assert client.start(handler, ROUNDS).result(30) == ROUNDS
    assert stores[0].largest < ROWS_MAX


def test_a_chain_of_sends_makes_no_endless_batch(world):
    stores = []
    with world.holdfast(*HANDLERS, wrap=lambda inner: stores.append(Weighed(inner)) or stores[0]) as client:
        client.start(sends_itself, ROUNDS)
        wait_for(lambda: client.info().counts.get("done") == ROUNDS + 1)
    assert stores[0].largest < ROWS_MAX


def test_two_that_signal_each_other_for_ever_leave_room_for_others_and_for_a_stop(world):
    with world.holdfast(*HANDLERS) as client:
        client.start(plays, "a", 1_000_000, first=False, id="b")
        client.start(plays, "b", 1_000_000, first=True, id="a")
        for n in range(8):
            assert client.call(quick, n, timeout=WAIT_SECONDS) == n
        client.pause("a")
        assert status(client, "a") == "paused"
        client.kill("b")
        assert status(client, "b") == "killed"
        client.resume("a")
    with world.holdfast(*HANDLERS) as client:
        assert client.call(quick, 7, timeout=WAIT_SECONDS) == 7
        client.kill("a")


@pytest.mark.parametrize("waiting", [0, 9])
def test_over_a_death_at_any_commit_each_ball_is_played_once(world, waiting, monkeypatch):
    monkeypatch.setattr(links, "DELIVERIES_MAX", 7)
    deaths = sum(a_game_dies(world, Limits(waiting=waiting), *death) for death in _deaths(world, 12))
    assert deaths > 4, "they die in the midst of it"


def a_game_dies(world, limits, dies_at, keeps_last):
    a, b = (f"{side} {dies_at} {keeps_last}" for side in "ab")
    with life(world, plays, limits=limits) as one:
        one.client.start(plays, a, 40, first=False, id=b)
        one.store.dies_at, one.store.keeps_last = one.store.commits + dies_at, keeps_last
        with contextlib.suppress(StoreFailed):
            one.client.start(plays, b, 40, first=True, id=a)
        wait_for(lambda: one.store.dead or _over(one.client, a, b))
        dead = one.store.dead
    with life(world, plays, limits=limits) as one:
        one.client.start(plays, b, 40, first=True, id=a)  # the same, if it was acknowledged
        assert [one.client.attach(id).result(10) for id in (a, b)] == [40, 40]
    return dead


def _deaths(world, most):
    """At which commits to die, and whether that one is durable: all of them where a life is cheap."""
    return itertools.product(range(1, most, 1 if world.kind == "memory" else 5), (False, True))


def _over(client, *ids):
    return all(status(client, id) == "done" for id in ids)


def all_kinds():
    """An object and a workflow whose handlers ask for everything there is, each time for the next ball of many."""
    flags = Flags()
    box, flow = Object("Box"), Workflow("Flow")

    @box.handler
    async def use(ctx: ObjectContext, turns: int) -> list[int]:
        for turn in range(turns):
            ctx.send(heard, turn)
            ctx.signal(ctx.id, "ball", turn)
            call = ctx.call(quick, turn)
            left = asyncio.ensure_future(ctx.run(flags.note, f"left {turn}"))
            assert await ctx.receive("ball", int) == turn
            left.cancel()
            assert await call == turn
            if turn % 3 == 0:
                await asyncio.sleep(0.001)
            ctx.append("turns", turn)
            if turn % 5 == 0:
                await ctx.run(flags.note, f"kept {turn}")
        return ctx.items("turns", int)

    @box.handler(shared=True)
    async def seen(ctx: ObjectContext) -> list[int]:
        return ctx.items("turns", int)

    async def heard(ctx: Context, turn: int) -> None:
        await ctx.run(flags.note, f"heard {turn}")

    @flow.main
    async def run(ctx: WorkflowContext, turns: int) -> int:
        for turn in range(turns):
            ctx.send("Flow/answer", turn, key=ctx.key)
            assert await ctx.promise(f"p{turn}", type=int) == turn
        return turns

    @flow.handler
    async def answer(ctx: WorkflowContext, turn: int) -> None:
        ctx.resolve(f"p{turn}", turn)

    box.use, box.seen, flow.run = use, seen, run
    return flags, box, flow, [box, flow, heard, quick]


@pytest.mark.parametrize("most", [0, 3])
def test_over_a_death_at_any_commit_all_that_was_kept_back_is_done_once(world, most, monkeypatch):
    monkeypatch.setattr(links, "DELIVERIES_MAX", most)
    assert sum(all_kinds_die(world, 7, *death) for death in _deaths(world, 40)) > 4


def all_kinds_die(world, turns, dies_at, keeps_last):
    flags, box, flow, handlers = all_kinds()
    key = f"{dies_at} {keeps_last}"
    use, run = f"use {key}", f"Flow:{key}"
    with life(world, *handlers, limits=Limits(waiting=dies_at % 2)) as one:
        one.store.dies_at, one.store.keeps_last = one.store.commits + dies_at, keeps_last
        with contextlib.suppress(StoreFailed):
            one.client.start(box.use, turns, key=key, id=use)
            one.client.start(flow.run, turns, key=key)
        wait_for(lambda: one.store.dead or _over(one.client, use, run))
        dead = one.store.dead
    with life(world, *handlers) as one:
        one.client.start(box.use, turns, key=key, id=use)
        one.client.start(flow.run, turns, key=key)
        assert one.client.attach(use).result(10) == list(range(turns))
        assert one.client.attach(run).result(10) == turns
        assert one.client.call(box.seen, key=key, timeout=5) == list(range(turns))
        wait_for(lambda: len(one.client.list(target="heard", parent=use, status="done")) == turns)
        assert len(one.client.list(target="Flow/answer", key=key)) == turns
    wanted = {f"heard {turn}" for turn in range(turns)} | {f"kept {turn}" for turn in range(0, turns, 5)}
    assert wanted <= set(flags.ran)
    return dead


def test_a_body_that_is_given_up_in_a_turn_that_is_kept_back_is_not_recorded_any_more(world, monkeypatch):
    all_in_lane(monkeypatch)
    monkeypatch.setattr(links, "DELIVERIES_MAX", 0)
    flags = Flags()

    async def h(ctx: Context) -> str:
        long = asyncio.ensure_future(ctx.run(flags.body, "long"))
        word = await ctx.receive("word", str)
        long.cancel()
        return word + await ctx.receive("word", str)

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        wait_for(lambda: flags.ran == ["long"])
        with one.store.hold():
            in_engine(one.client, lambda: one.engine.links.post(one.engine.rows.find("x"), "word", b'"a"'))
            wait_for(lambda: one.store.waiting)
            flags.gate("long").set()
            wait_for(lambda: not in_engine(one.client, lambda: one.engine.resident(one.engine.number_of("x")).busy))
        handle.signal("word", "b")
        assert handle.result(5) == "ab"
        assert [view.kind for view in handle.journal()] == ["signal", "signal"]


async def shouts(ctx: Context, to: str, first: int, end: int) -> None:
    for n in range(first, end):
        ctx.signal(to, "word", n)
        if n % 7 == 0:
            await ctx.run(abs, n)


@pytest.mark.parametrize("waiting", [0, 9])
def test_one_that_does_not_read_what_handlers_send_it_is_paused_and_nothing_is_lost(world, waiting, monkeypatch):
    monkeypatch.setattr(links, "LETTERS_MAX", 20)

    async def deaf(ctx: Context) -> list[int]:
        await ctx.receive("go")
        return [await ctx.receive("word", int) for _ in range(50)]

    with life(world, deaf, shouts, limits=Limits(waiting=waiting)) as one:
        handle = one.client.start(deaf, id="deaf")
        one.client.call(shouts, "deaf", 0, 19, timeout=5)
        assert handle.status().status == "suspended"
        one.client.call(shouts, "deaf", 19, 35, timeout=5)
        assert "'deaf' has 20 signals it has not received" in paused(handle)
        one.client.resume("deaf")
        wait_for(lambda: handle.status().status == "suspended")
        one.client.call(shouts, "deaf", 35, 39, timeout=5)
        assert handle.status().status == "suspended", "a resume gives it room for as many again"
        one.client.call(shouts, "deaf", 39, 50, timeout=5)
        assert "has 40 signals" in paused(handle)
    with life(world, deaf, shouts, limits=Limits(waiting=waiting)) as one:
        one.client.resume("deaf")
        handle = one.client.attach("deaf")
        handle.signal("go")
        assert handle.result(5) == list(range(50))


def test_one_that_reads_what_it_is_sent_may_be_sent_any_number(world, monkeypatch):
    monkeypatch.setattr(links, "LETTERS_MAX", 5)

    async def hears(ctx: Context) -> int:
        return len([await ctx.receive("word", int) for _ in range(60)])

    with life(world, hears, shouts) as one:
        handle = one.client.start(hears, id="ear")
        one.client.start(shouts, "ear", 0, 60)
        assert handle.result(5) == 60
