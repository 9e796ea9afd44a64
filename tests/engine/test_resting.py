"""hf.resting(): what a person does to a file while no program runs it, and the next program goes on from there. Some of
it needs the handlers' code, most does not."""

import asyncio
import re
from datetime import timedelta

import pytest

from holdfast import (
    AlreadySettled,
    BadArguments,
    Context,
    InvocationCancelled,
    InvocationFailed,
    Limit,
    Limits,
    Object,
    Retry,
    Service,
    StoreLocked,
    UnknownHandler,
    UnknownInvocation,
    WrongStatus,
)
from tests.engine.lives import Flags, life
from tests.engine.test_control_table import SITUATIONS, TABLE, Office, options_of, release
from tests.engine.world import FakeClock, open_promise, wait_for


def resting(world, what, *handlers, **options):
    """Runs `what(client)` on the file while nothing runs it."""

    async def rest():
        async with world.holdfast(*handlers, **options).resting() as client:
            return await what(client)

    return asyncio.run(rest())


OPERATIONS = {
    "cancel": lambda client: client.cancel("x", "enough"),
    "kill": lambda client: client.kill("x", "enough"),
    "pause": lambda client: client.pause("x", "wait"),
    "resume": lambda client: client.resume("x"),
    "retry": lambda client: client.retry("x"),
    "purge": lambda client: client.purge("x"),
    "signal": lambda client: client.signal("x", "go", "!"),
}
ENDS = {"cancelled": "cancelled", "killed": "killed", "gone": "gone"}


@pytest.mark.parametrize("code", [True, False], ids=["with code", "without"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_every_operation_in_every_status(memory_world, situation, operation, code):
    office, clock = Office(), FakeClock()
    with office.life(memory_world, clock, **options_of(situation)) as one:
        handle = situation(office, one.client)
        before = handle.status().status
    expected = TABLE[SITUATIONS[situation]][operation]
    if before == "ready":  # nothing runs now, and it may have gone on at its death
        expected = {"signal": "signalled"}.get(operation, expected)
    handlers = [office.desk, office.job] if code else []
    ran = list(office.flags.ran)

    if " " in expected or (operation == "retry" and not code):
        told = re.escape(expected) if " " in expected else "no handler"
        with pytest.raises((WrongStatus, UnknownHandler), match=told):
            resting(memory_world, OPERATIONS[operation], *handlers, clock=clock)
        expected = before
    else:
        resting(memory_world, OPERATIONS[operation], *handlers, clock=clock)
    assert office.flags.ran == ran, "nothing runs"
    clock.wind(3601)
    office.broken = False
    with office.life(memory_world, clock) as one:
        goes_on(office, one, operation, expected)
    assert office.flags.runs["x", "note#1"] <= 1


def goes_on(office, one, operation, expected):
    """What a program that runs it makes of it."""
    if expected == "gone":
        with pytest.raises(UnknownInvocation):
            one.client.attach("x")
        return
    handle = one.client.attach("x")
    if expected == "paused":
        assert handle.status().status == "paused"
    if expected == "cancelled":
        for row in one.engine.store.open_promises(9):
            one.client.resolve(row.id, "yes")
    elif expected not in ENDS:
        release(office, one.client)
    if expected in ENDS:
        wait_for(lambda: handle.status().status == ENDS[expected], expected)
        return
    wait_for(lambda: handle.status().status in {"suspended", "done", "failed"})
    if handle.status().status == "suspended":
        assert operation != "signal", "it is lost"
        handle.signal("go", "?")
    if expected != "failed":
        assert handle.result(5).startswith("first")


class Desk:
    """An agent that asks, sleeps, calls and cleans up."""

    def __init__(self):
        flags = self.flags = Flags()
        self.broken = True
        service = self.service = Service("S")
        desk = self.desk = Object("Desk")

        @service.handler
        async def asks(ctx: Context) -> str:
            name = await ctx.run(flags.note, "first")
            try:
                answer = await ctx.ask("Well?", str)
            except asyncio.CancelledError:
                await ctx.run(flags.note, "clean-up 1")
                await ctx.run(flags.note, "clean-up 2")
                raise
            return name + answer + await ctx.run(flags.note, " last")

        @service.handler
        async def calls(ctx: Context) -> str:
            return "called " + await ctx.call(asks, id="child")

        @service.handler
        async def fails(ctx: Context) -> str:
            return await ctx.run(flags.note, "first") + await ctx.run(self.maybe, retry=Retry(max_attempts=1))

        @desk.handler
        async def write(ctx: Context, text: str) -> str:
            ctx.append("log", text)
            await ctx.run(flags.note, text)
            return text

        @service.handler(limit=Limit(concurrency=1))
        async def limited(ctx: Context, text: str) -> str:
            return await ctx.run(flags.note, text)

        self.asks, self.calls, self.fails, self.write, self.limited = asks, calls, fails, write, limited

    async def maybe(self) -> str:
        if self.broken:
            raise ConnectionError("down")
        return " paid"

    @property
    def handlers(self):
        return [self.service, self.desk]

    def life(self, world, **options):
        return life(world, *self.handlers, **options)


def test_nothing_runs_and_nothing_of_the_file_is_changed_by_looking(world):
    desk = Desk()
    with desk.life(world) as one:
        one.client.start(desk.asks, id="x")
        open_promise(one.client)
        one.client.start(desk.limited, "later", id="later", delay=0.01)
    before = world.all_bytes() if world.kind == "memory" else None

    async def look(client):
        await asyncio.sleep(0.05)
        handle = await client.attach("x")
        return [
            [view.status for view in await client.list()], (await handle.status()).status, len(await handle.journal()),
            [ask.question for ask in await client.asks()], (await client.info()).counts,
            [view.ok for view in await client.check()],
        ]  # fmt: skip

    found = resting(world, look, *desk.handlers)
    assert found == [["queued", "suspended"], "suspended", 2, ["Well?"], {"suspended": 1, "queued": 1}, [True]]
    assert before is None or world.all_bytes() == before
    assert desk.flags.ran == ["first"]


def test_the_file_belongs_to_one_at_a_time(world):
    desk = Desk()
    with desk.life(world), pytest.raises(StoreLocked):
        resting(world, lambda client: client.info())


def test_what_is_started_there_runs_in_the_next_program(world):
    desk = Desk()

    async def start(client):
        await client.start(desk.write, "a", key="k", id="a")
        await client.start("Desk/write", "b", key="k", id="b", headers={"x": "y"})
        await client.start_json("S/limited", b'{"text": "c"}', id="c")
        await client.start(desk.limited, "d", id="d", delay=60)
        again = await client.start(desk.write, "a", key="k", id="a")
        assert (await again.status()).status == "queued"

    clock = FakeClock()
    resting(world, start, *desk.handlers, clock=clock)
    assert desk.flags.ran == []
    with desk.life(world, clock=clock) as one:
        assert [one.client.attach(id).result(5) for id in "abc"] == list("abc")
        assert one.client.attach("d").status().status == "queued"
        assert one.client.state("Desk", "k") == {"log": ["a", "b"]}
    with pytest.raises(UnknownHandler):
        resting(world, lambda client: client.start("Desk/write", "x", key="k"))


@pytest.mark.parametrize("code", [True, False], ids=["with code", "without"])
def test_an_answer_given_there_counts(world, code):
    desk = Desk()
    with desk.life(world) as one:
        handle = one.client.start(desk.calls, id="x")
        promise = open_promise(one.client)

    async def answer(client):
        (ask,) = await client.asks()
        assert ask.id == promise
        await client.answer(ask.id, "yes")
        with pytest.raises(AlreadySettled):
            await client.answer(ask.id, "no")
        assert await client.asks() == []

    resting(world, answer, *(desk.handlers if code else []))
    assert desk.flags.ran == ["first"]
    with desk.life(world) as one:
        handle = one.client.attach("x")
        assert handle.result(5) == "called firstyes last"
    assert desk.flags.ran == ["first", " last"]


def test_an_answer_that_does_not_fit_is_refused_where_the_code_is_known_and_pauses_where_it_was_not(world):
    desk = Desk()
    with desk.life(world) as one:
        one.client.start(desk.asks, id="x")
        promise = open_promise(one.client)
    with pytest.raises(BadArguments, match="does not fit promise"):
        resting(world, lambda client: client.answer(promise, 5), *desk.handlers)
    resting(world, lambda client: client.answer(promise, 5))
    with desk.life(world) as one:
        wait_for(lambda: one.client.attach("x").status().status == "paused")
        assert one.engine.failure is None


def test_an_answer_to_a_paused_one_is_found_at_its_resume(world):
    desk = Desk()
    with desk.life(world) as one:
        handle = one.client.start(desk.asks, id="x")
        promise = open_promise(one.client)
        handle.pause()

    async def answer_and_resume(client):
        await client.answer(promise, "yes")
        await client.resume("x")

    resting(world, answer_and_resume)
    with desk.life(world) as one:
        assert one.client.attach("x").result(5) == "firstyes last"


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("first", ["nothing", "pause"])
def test_a_cancel_there_cleans_up_in_the_next_program_once(world, times, first):
    desk = Desk()
    with desk.life(world) as one:
        handle = one.client.start(desk.asks, id="x")
        open_promise(one.client)
        if first == "pause":
            handle.pause()

    async def cancel(client):
        for n in range(times):
            await client.cancel("x", f"reason {n}")

    resting(world, cancel)
    resting(world, lambda client: client.cancel("x", "another session"))
    assert desk.flags.ran == ["first"]
    with desk.life(world) as one:
        with pytest.raises(InvocationCancelled, match="reason 0"):
            one.client.attach("x").result(5)
        assert one.client.asks() == []
    assert desk.flags.ran == ["first", "clean-up 1", "clean-up 2"]


def test_many_things_done_there_in_one_session_all_count(world):
    desk = Desk()

    async def receive(ctx: Context) -> list[int]:
        return [await ctx.receive("n", int) for _ in range(5)]

    with life(world, receive) as one:
        handle = one.client.start(receive, id="x")
        wait_for(lambda: handle.status().status == "suspended")

    async def work(client):
        await client.signal("x", "n", 0)
        await client.pause("x")
        await client.signal("x", "n", 1)
        await asyncio.gather(*[client.signal("x", "n", n) for n in (2, 3)])
        await client.resume("x")
        await client.signal("x", "n", 4)

    resting(world, work)
    with life(world, receive) as one:
        assert one.client.attach("x").result(5) == [0, 1, 2, 3, 4]
    assert desk.flags.ran == []


def test_deeds_after_what_came_there_are_done_once(world):
    desk = Desk()
    service = Service("T")

    @service.handler
    async def sends(ctx: Context) -> str:
        for n in range(3):
            word = await ctx.receive("word", str)
            ctx.send(desk.write, f"{n} {word}", key="k")
        return "done"

    handlers = [service, *desk.handlers]
    with life(world, *handlers) as one:
        handle = one.client.start(sends, id="x")
        handle.signal("word", "live")
        wait_for(lambda: len(one.client.list(target="Desk/write", status="done")) == 1)

    async def signal(client):
        await client.signal("x", "word", "resting")

    resting(world, signal)
    with life(world, *handlers) as one:
        wait_for(lambda: len(one.client.list(target="Desk/write", status="done")) == 2)
    resting(world, signal, *handlers)
    with life(world, *handlers) as one:
        assert one.client.attach("x").result(5) == "done"
        wait_for(lambda: len(one.client.list(target="Desk/write", status="done")) == 3)
    with life(world, *handlers) as one:
        assert one.client.state("Desk", "k") == {"log": ["0 live", "1 resting", "2 resting"]}
    assert desk.flags.ran == ["0 live", "1 resting", "2 resting"]


def test_a_kill_there_reaches_the_called_and_tells_the_caller(world):
    desk = Desk()
    with desk.life(world) as one:
        one.client.start(desk.calls, id="x")
        open_promise(one.client)
    resting(world, lambda client: client.kill("child", "no use"))
    with desk.life(world) as one:
        with pytest.raises(InvocationFailed, match="killed: no use"):
            one.client.attach("x").result(5)
        one.client.purge("x")
        one.client.purge("child")
        one.client.start(desk.calls, id="y")
        open_promise(one.client)
    resting(world, lambda client: client.kill("y", "enough"))
    with desk.life(world) as one:
        assert [one.client.attach(id).status().status for id in ("y", "child")] == ["killed", "killed"]
    assert "clean-up 1" not in desk.flags.ran


def test_a_retry_restart_and_fork_there_go_on_in_the_next_program(world):
    desk = Desk()
    with desk.life(world) as one:
        handle = one.client.start(desk.fails, id="x")
        with pytest.raises(InvocationFailed):
            handle.result(5)

    async def work(client):
        await client.retry("x")
        await client.restart("x", from_step="note#1", new_id="y")
        await client.fork("x", "note#1", "edited", new_id="z")
        return [view.status for view in await client.list()]

    assert resting(world, work, *desk.handlers) == ["queued"] * 3
    desk.broken = False
    with desk.life(world) as one:
        assert [one.client.attach(id).result(5) for id in "xyz"] == ["first paid", "first paid", "edited paid"]
    assert desk.flags.ran == ["first", "first"]


def test_the_key_and_the_limit_are_free_for_the_next_when_one_was_ended_there(world):
    flags = Flags()
    desk, service = Object("Desk"), Service("S")

    @desk.handler
    async def write(ctx: Context, name: str) -> str:
        return await ctx.run(flags.body, name)

    @service.handler(limit=Limit(concurrency=1))
    async def limited(ctx: Context, name: str) -> str:
        return await ctx.run(flags.body, name)

    with life(world, desk, service) as one:
        for name in ("a", "b"):
            one.client.start(write, name, key="k", id=f"key {name}")
            one.client.start(limited, name, id=f"lane {name}")
        wait_for(lambda: flags.ran == ["a", "a"])

    async def end(client):
        await client.kill("key a")
        await client.pause("lane a")

    resting(world, end)
    flags.gate("b").set()
    with life(world, desk, service) as one:
        assert [one.client.attach(id).result(5) for id in ("key b", "lane b")] == ["b", "b"]
        one.client.resume("lane a")
        flags.gate("a").set()
        assert one.client.attach("lane a").result(5) == "a"


def test_state_is_changed_there_and_not_while_a_writer_has_not_ended(world):
    desk = Desk()
    hold = Object("Hold")

    @hold.handler
    async def holds(ctx: Context) -> None:
        await ctx.promise("p")

    with life(world, hold, *desk.handlers) as one:
        one.client.start(desk.write, "a", key="k").result(5)
        one.client.start(holds, key="k", id="holder")
        open_promise(one.client)

    async def change(client):
        await client.set_state("Desk", "k", "n", 5)
        with pytest.raises(WrongStatus, match="by 'holder'"):
            await client.set_state("Hold", "k", "n", 5)
        return await client.state("Desk", "k")

    assert resting(world, change) == {"log": ["a"], "n": 5}
    with life(world, hold, *desk.handlers) as one:
        assert one.client.state("Desk", "k") == {"log": ["a"], "n": 5}


def test_purges_there_and_their_ids_are_free(world):
    desk = Desk()
    with desk.life(world) as one:
        one.client.start(desk.write, "a", key="k", id="x").result(5)
        one.client.start(desk.write, "b", key="k", id="y").result(5)

    async def purge(client):
        await client.purge("x")
        assert await client.purge_ended(timedelta(0)) == 1
        await client.start(desk.write, "c", key="k", id="x")

    resting(world, purge, *desk.handlers)
    with desk.life(world) as one:
        assert one.client.attach("x").result(5) == "c"
        assert [view.id for view in one.client.list()] == ["x"]


def test_a_result_that_is_there_is_told_and_one_that_is_not_is_waited_for_no_longer_than_said(world):
    desk = Desk()
    with desk.life(world) as one:
        one.client.start(desk.write, "a", key="k", id="done").result(5)
        one.client.start(desk.asks, id="x")
        open_promise(one.client)

    async def look(client):
        assert await (await client.attach("done")).result() == "a"
        with pytest.raises(TimeoutError):
            await (await client.attach("x")).result(0.05)

    resting(world, look, *desk.handlers, limits=Limits(waiting=0))


def test_it_can_be_left_and_entered_again_and_run_then(world):
    desk = Desk()
    hf = world.holdfast(*desk.handlers)

    async def sessions():
        for n in range(3):
            async with hf.resting() as client:
                await client.start(desk.write, f"{n}", key="k", id=f"{n}")
        async with hf as client:
            return [await (await client.attach(f"{n}")).result(5) for n in range(3)]

    assert asyncio.run(sessions()) == ["0", "1", "2"]
