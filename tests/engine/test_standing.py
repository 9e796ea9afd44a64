"""What an invocation waits for is plain to see: in memory or parked, running or at rest, with its code or without."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from holdfast import (
    BadArguments,
    Context,
    Limit,
    Limits,
    Object,
    ObjectContext,
    Retry,
    Service,
    Workflow,
    WorkflowContext,
    step,
)
from tests.engine.lives import life
from tests.engine.world import wait_for

desk = Service("Desk")
shelf = Object("Shelf")
flow = Workflow("Flow")


@desk.handler
async def nothing(ctx: Context) -> None:
    await ctx.receive("never")


@desk.handler
async def all_of_it(ctx: Context) -> None:
    """Waits for one of each kind at once."""
    await ctx.run(abs, 1)
    await asyncio.gather(
        ctx.promise("delivery", type=str),
        ctx.ask("Now?", bool, timeout=3600),
        ctx.receive("news", str),
        ctx.call(nothing, id="called"),
        ctx.attach("other"),
        ctx.sleep(7200),
    )


@flow.main
async def approve(ctx: WorkflowContext) -> str:
    return await ctx.promise("approved", type=str)


@shelf.handler
async def hold(ctx: ObjectContext) -> None:
    await ctx.receive("never")


@shelf.handler(limit=Limit(concurrency=1))
async def both(ctx: ObjectContext) -> None:
    await ctx.receive("never")


@desk.handler(limit=Limit(concurrency=1, by="who"))
async def limited(ctx: Context, who: str) -> None:
    await ctx.receive("never")


@desk.handler
async def gives_up(ctx: Context) -> None:
    async with asyncio.timeout(0.01):
        await ctx.call(nothing, id="called")


ALL = (desk, shelf, flow)


def waits(handle):
    """What is waited for, without what differs from run to run."""
    return [
        (line.kind, line.id, line.state, line.child, line.promise is not None)
        for line in handle.journal()
        if line.place is None
    ]


EVERY_KIND = [
    ("promise", "delivery#1", "waiting", None, True),
    ("promise", "ask#1", "waiting", None, True),
    ("signal", "news", "waiting", None, False),
    ("call", "nothing#1", "running", "called", False),
    ("call", "attach#1", "running", "other", False),
    ("timer", "timer#1", "waiting", None, False),
    ("timer", "1/timer#1", "waiting", None, False),
]


def test_every_kind_of_wait_is_a_line_in_memory_parked_and_in_the_next_life(world, weather):
    with world.life(*ALL, **weather) as client:
        client.start(nothing, id="other")
        handle = client.start(all_of_it, id="x")
        wait_for(lambda: handle.status().status == "suspended")
        assert waits(handle) == EVERY_KIND
    with world.life(*ALL, **weather) as client:
        handle = client.attach("x")
        assert waits(handle) == EVERY_KIND
        handle.pause()
        assert waits(handle) == EVERY_KIND
        handle.resume()
        client.attach("called").kill()
        wait_for(lambda: handle.status().status == "failed")
        assert waits(handle) == []


def test_a_line_says_until_when(memory_world):
    with life(memory_world, *ALL) as one:
        one.client.start(nothing, id="other")
        handle = one.client.start(all_of_it, id="x")
        began = wait_for(lambda: handle.status().status == "suspended" and handle.status().began)
        due = {line.id: line.due - began for line in handle.journal() if line.due}
        around = {"ask#1": 3600, "timer#1": 3600, "1/timer#1": 7200}
        assert due.keys() == around.keys()
        assert all(abs(due[id].total_seconds() - seconds) < 5 for id, seconds in around.items())


def test_the_id_in_the_line_settles_the_promise(memory_world):
    async def wait(ctx: Context) -> str:
        return await ctx.promise("delivery", type=str)

    with life(memory_world, flow, wait) as one:
        for handle in (one.client.start(wait), one.client.start(approve, key="7")):
            wait_for(lambda handle=handle: handle.status().status == "suspended")
            (line,) = handle.journal()
            one.client.resolve(line.promise, "yes")
            assert handle.result(5) == "yes"
            assert [line.output for line in handle.journal()] == ["yes"]


@pytest.mark.parametrize("weather", [{}, {"limits": Limits(waiting=0)}], ids=["kept", "parked"])
def test_a_workflow_says_which_promise_of_its_key_it_waits_for(world, weather):
    with life(world, *ALL, **weather) as one:
        handle = one.client.start(approve, key="7")
        wait_for(lambda: handle.status().status == "suspended")
        (line,) = handle.journal()
        assert (line.kind, line.id, line.state, line.promise) == ("promise", "approved#1", "waiting", "Flow:7:approved")


def test_without_the_code_the_store_still_tells_what_was_asked_for(world):
    with life(world, *ALL) as one:
        one.client.start(nothing, id="other")
        handle = one.client.start(all_of_it, id="x")
        wait_for(lambda: handle.status().status == "suspended")
        one.die()

    async def at_rest(*services):
        async with world.holdfast(*services).resting() as client:
            lines = await (await client.attach("x")).journal()
            return [(line.kind, line.id, line.state) for line in lines if line.place is None]

    assert asyncio.run(at_rest(*ALL)) == [wait[:3] for wait in EVERY_KIND]
    left = [line[:3] for line in EVERY_KIND if line[1] in {"delivery#1", "ask#1", "nothing#1"}]
    assert asyncio.run(at_rest()) == left

    changed = Service("Desk")

    @changed.handler(limit=None)
    async def all_of_it_now(ctx: Context) -> None: ...

    changed.handlers["all_of_it"] = changed.handlers.pop("all_of_it_now")
    changed.handlers["all_of_it"].target = "Desk/all_of_it"
    assert asyncio.run(at_rest(changed)) == left, "code that does not fit the journal"


def test_a_step_between_attempts_says_its_error_its_attempts_and_when_it_is_tried_again(memory_world):
    def fail() -> None:
        raise ConnectionError("no route")

    async def h(ctx: Context) -> None:
        await ctx.run(fail, retry=Retry(initial=60, jitter=0))

    with life(memory_world, h) as one:
        handle = one.client.start(h)
        (line,) = wait_for(lambda: [line for line in handle.journal() if line.state == "retrying"])
        assert (line.id, line.tries, line.error) == ("fail#1", 1, "ConnectionError: no route")
        assert timedelta(seconds=50) < line.due - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_step_that_waits_for_room_or_for_a_resume_is_waiting(memory_world):
    go = threading.Event()

    async def first(ctx: Context) -> None:
        await ctx.run(body)

    async def body() -> None:
        await asyncio.to_thread(go.wait, 5)

    async def h(ctx: Context) -> int:
        return await ctx.run(broken)

    def broken() -> int:
        if step().attempt == 1 and not go.is_set():
            raise TypeError("broken")
        return 1

    with life(memory_world, first, h, limits=Limits(bodies=1)) as one:
        held, queued = one.client.start(first), one.client.start(h)
        (line,) = wait_for(held.journal)
        assert (line.id, line.state) == ("body#1", "running")
        (line,) = wait_for(queued.journal)
        assert (line.id, line.state, line.tries, line.started) == ("broken#1", "waiting", 0, None)
        go.set()
        assert queued.result(5) == 1
    go.clear()
    with life(memory_world, first, h) as one:
        handle = one.client.start(h)
        wait_for(lambda: handle.status().status == "paused")
        assert waits(handle) == [("step", "broken#1", "waiting", None, False)]


def test_a_call_that_was_given_up_is_said_to_be_so(memory_world):
    with life(memory_world, *ALL) as one:
        handle = one.client.start(gives_up)
        wait_for(lambda: handle.status().status == "failed")
        (line,) = [line for line in handle.journal() if line.kind == "call"]
        assert (line.id, line.child) == ("nothing#1", "called")
        assert "does not wait for it any more" in line.error


def test_one_in_a_queue_says_for_what_who_has_it_and_how_many_come_before(world):
    def queue(id):
        found = one.client.attach(id).status().queue
        return None if found is None else (found.waits_for, found.name, found.holder, found.ahead)

    with life(world, *ALL) as one:
        for id in ("h1", "h2", "h3"):
            one.client.start(hold, key="a", id=id)
        for id in ("l1", "l2", "l3"):
            one.client.start(limited, "anna", id=id)
        one.client.start(nothing, id="later", delay=3600)
        one.client.start(both, key="b", id="b1")
        one.client.start(both, key="b", id="b2")
        one.client.start(both, key="c", id="b3")
        assert [queue(id) for id in ("h1", "h2", "h3")] == [
            None, ("key", "Shelf/a", "h1", 0), ("key", "Shelf/a", "h1", 1),
        ]  # fmt: skip
        assert [queue(id) for id in ("l1", "l2", "l3")] == [
            None, ("limit", 'Desk/limited="anna"', None, 0), ("limit", 'Desk/limited="anna"', None, 1),
        ]  # fmt: skip
        assert queue("later") is None
        assert one.client.attach("later").status().wake_at is not None
        assert queue("b2") == ("key", "Shelf/b", "b1", 0)
        assert queue("b3") == ("limit", "Shelf/both", None, 1)
        assert all(view.queue is None for view in one.client.list())


def test_one_that_waits_for_room_says_so(memory_world):
    go = threading.Event()

    async def busy(ctx: Context) -> None:
        await ctx.run(go.wait, 5, returns=bool)

    with life(memory_world, busy, *ALL, limits=Limits(running=1)) as one:
        first, second = one.client.start(busy), one.client.start(busy)
        wait_for(first.journal)
        assert second.status().queue.waits_for == "room"
        assert one.client.start(limited, "anna").status().queue.waits_for == "room", "its limit has a place"
        go.set()
        second.result(5)
        assert second.status().queue is None


def test_a_long_journal_is_read_page_by_page(world):
    async def h(ctx: Context) -> None:
        for number in range(5):
            await ctx.run(abs, number)
        await ctx.receive("never")

    with life(world, h) as one:
        handle = one.client.start(h)
        wait_for(lambda: handle.status().status == "suspended")
        whole = handle.journal()
        assert [line.place for line in whole] == [0, 1, 2, 3, 4, None]
        pages = [handle.journal(after, 2) for after in (0, 2, 4)]
        assert [line for page in pages for line in page] == whole
        assert handle.journal(0, 5) == whole[:5]
        assert handle.journal(5, 5) == whole[5:]
        assert handle.journal(99) == whole[5:]
        for wrong in ((-1, 5), (0, 0)):
            with pytest.raises(BadArguments, match="no journal has"):
                handle.journal(*wrong)


def test_what_was_settled_or_has_ended_while_nobody_ran_it_is_not_waited_for(world):
    async def wait(ctx: Context) -> None:
        await asyncio.gather(ctx.promise("yes", type=int), ctx.promise("open"), ctx.call(nothing, id="called"))

    with world.life(*ALL, wait) as client:
        handle = client.start(wait, id="x")
        wait_for(lambda: handle.status().status == "suspended")

    async def at_rest():
        async with world.holdfast(*ALL, wait).resting() as client:
            (first, *_) = await (await client.attach("x")).journal()
            await client.resolve(first.promise, 7)
            await client.kill("called")
            return [(line.id, line.state, line.output) for line in await (await client.attach("x")).journal()]

    assert asyncio.run(at_rest()) == [("yes#1", "done", 7), ("open#1", "waiting", None), ("nothing#1", "failed", None)]


def test_a_status_that_is_not_whole_reads_no_values(memory_world):
    with life(memory_world, *ALL) as one:
        for id in ("h1", "h2"):
            one.client.start(hold, key="a", id=id)
        view = one.client.attach("h2").status(whole=False)
        assert (view.status, view.input, view.queue) == ("queued", None, None)
        whole = one.client.attach("h2").status()
        assert (whole.input, whole.queue is None) == ({}, False)
