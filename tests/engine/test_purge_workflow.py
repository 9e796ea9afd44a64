"""A workflow that is purged leaves nothing behind: what runs next with its key begins as if it were the first."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from holdfast import Limits, Object, ObjectContext, StoreFailed, UnknownPromise, Workflow, WorkflowContext, WrongStatus
from holdfast.engine import retirement
from tests.engine.lives import all_in_lane, life
from tests.engine.world import FakeClock, wait_for


def offer():
    flow = Workflow("Offer")

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        before = ctx.get("answer", str, "nothing")
        answer = await ctx.promise("answer", type=str)
        ctx.set("answer", answer)
        ctx.append("all", answer)
        return f"{before}, {answer}"

    @flow.handler
    async def say(ctx: WorkflowContext, word: str) -> None:
        ctx.resolve("answer", word)

    @flow.handler
    async def other(ctx: WorkflowContext) -> str:
        return await ctx.promise("other", type=str)

    flow.run, flow.say, flow.other = run, say, other
    return flow


def once(client, flow, key, word):
    """One whole run of the workflow."""
    handle = client.start(flow.run, key=key)
    client.call(flow.say, word, key=key, timeout=5)
    return handle.result(5)


@pytest.mark.parametrize("how", ["one", "by age", "retention"])
@pytest.mark.parametrize("waiting", [0, 9])
def test_what_runs_next_with_its_key_takes_nothing_of_it(world, monkeypatch, how, waiting):
    monkeypatch.setattr(retirement, "LOOK_SECONDS", 0.01)
    clock, flow = FakeClock(), offer()
    retention = timedelta(hours=1) if how == "retention" else None
    with life(world, flow, limits=Limits(waiting=waiting), clock=clock, retention=retention) as one:
        assert once(one.client, flow, "k", "old") == "nothing, old"
        clock.wind(1800)
        assert once(one.client, flow, "k:x", "kept") == "nothing, kept"
        clock.wind(1801)
        if how == "one":
            one.client.purge("Offer:k")
        elif how == "by age":
            assert one.client.purge_ended(timedelta(hours=1)) == 2, "it and the one that said it"
        wait_for(lambda: one.engine.store.find("Offer:k") is None)
        assert one.client.state("Offer", "k") == {}
        with pytest.raises(UnknownPromise):
            one.client.resolve("Offer:k:answer", "x")
        assert once(one.client, flow, "k", "new") == "nothing, new"
        assert one.client.attach("Offer:k:x").result(5) == "nothing, kept"
        assert one.client.state("Offer", "k:x") == {"answer": "kept", "all": ["kept"]}
        assert one.engine.store.promise("Offer:k:x:answer") is not None


@pytest.mark.parametrize("keeps_last", [False, True])
def test_a_death_in_the_commit_of_its_purge_leaves_all_of_it_or_nothing(world, keeps_last):
    flow = offer()
    with life(world, flow) as one:
        once(one.client, flow, "k", "old")
        one.store.dies_at, one.store.keeps_last = one.store.commits + 1, keeps_last
        with contextlib.suppress(StoreFailed):
            one.client.purge("Offer:k")
    with world.opened() as store:
        left = [
            store.find("Offer:k"), store.promise("Offer:k:answer"), store.state("Offer", "k", "answer"),
            store.state("Offer", "k", "all"), store.items_end("Offer", "k", "all") or None,
        ]  # fmt: skip
        assert [thing is None for thing in left] == [keeps_last] * 5
    with life(world, flow) as one:
        assert once(one.client, flow, "k", "new") == ("nothing, new" if keeps_last else "nothing, old")


def test_what_comes_while_its_purge_is_not_durable_is_of_the_next_run(world, monkeypatch):
    all_in_lane(monkeypatch)
    flow = offer()
    with life(world, flow) as one:
        once(one.client, flow, "k", "old")

        async def purge_and_begin():
            one.engine.rows.purge(one.engine.rows.find("Offer:k"))
            client = one.client._client
            await asyncio.gather(client.start(flow.run, key="k"), client.start(flow.say, "new", key="k"))

        one.client._thread.call(purge_and_begin())
        assert one.client.attach("Offer:k").result(5) == "nothing, new"


@pytest.mark.parametrize("how", ["one", "by age"])
def test_an_answer_that_nobody_waits_for_any_more_and_a_purge_in_one_moment(world, monkeypatch, how):
    all_in_lane(monkeypatch)
    flow = Workflow("Offer")

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(0.001):
                return await ctx.promise("answer", type=str)
        except TimeoutError:
            return "too late"

    with life(world, flow) as one:
        assert one.client.call(run, key="k", timeout=5) == "too late"
        engine = one.engine

        def answer():
            assert engine.links.settle_shared("Offer:k:answer", b'"yes"', ok=True)

        async def both():
            if how == "one":
                purge = asyncio.ensure_future(engine.control.purge("Offer:k"))
                await asyncio.sleep(0)
                engine.committer.after(answer)  # just when it has made sure that all is durable
                await purge
            else:
                answer()
                assert await engine.control.purge_ended(engine.clock.now()) == 0
                assert await engine.control.purge_ended(engine.clock.now()) == 0, "the answer is being written"
                await engine.durable()
                assert await engine.control.purge_ended(engine.clock.now()) == 1

        one.client._thread.call(both())
        assert engine.failure is None
        assert engine.store.find("Offer:k") is engine.store.promise("Offer:k:answer") is None


def test_as_long_as_another_handler_of_its_key_goes_on_it_is_kept(world):
    flow = offer()
    with life(world, flow) as one:
        once(one.client, flow, "k", "old")
        other = one.client.start(flow.other, key="k", id="other")
        one.client.start(flow.other, key="k2", id="other key")
        wait_for(lambda: other.status().status == "suspended")
        with pytest.raises(WrongStatus, match="'other' of the same key has not ended"):
            one.client.purge("Offer:k")
        one.client.purge_ended(timedelta(0))
        assert one.client.attach("Offer:k").result(5) == "nothing, old"
        one.client.resolve("Offer:k:other", "done")
        assert other.result(5) == "done"
        one.client.purge_ended(timedelta(0))
        assert [view.id for view in one.client.list()] == ["other key"]


def test_an_object_keeps_its_state_whatever_is_purged(world):
    box = Object("Box")

    @box.handler
    async def put(ctx: ObjectContext, word: str) -> None:
        ctx.set("word", word)

    with life(world, box) as one:
        one.client.start(put, "a", key="k", id="Box:k").result(5)
        one.client.purge("Box:k")
        assert one.client.state("Box", "k") == {"word": "a"}
