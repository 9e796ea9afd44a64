"""Pause, resume and kill where they are hard: parked, queued, behind a key, between commits, with bodies that run."""

import asyncio
import contextlib
import threading
from collections import Counter

import pytest

from holdfast import (
    AlreadySettled,
    Context,
    InvocationCancelled,
    InvocationFailed,
    InvocationPaused,
    Limit,
    Limits,
    Object,
    Service,
    StoreFailed,
    TerminalError,
    WrongStatus,
)
from holdfast.core.invocation import Status
from holdfast.stores.base import StateRow
from tests.engine.lives import Flags, all_in_lane, life
from tests.engine.world import FakeClock, engine_of, in_engine, open_promise, paused, tick, wait_for


def resident(client, id):
    engine = engine_of(client)
    return in_engine(client, lambda: engine.resident(engine.store.find(id).n))


def test_a_body_that_runs_while_its_invocation_is_paused_is_recorded_and_not_run_again(world):
    flags = Flags()

    async def h(ctx: Context) -> str:
        return await ctx.run(flags.body, "long") + await ctx.run(flags.note, "after")

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        wait_for(lambda: flags.ran)
        handle.pause("lunch")
        assert paused(handle) == "lunch"
        flags.gate("long").set()
        wait_for(
            lambda: [view.state for view in handle.journal()].count("done") == 1 and resident(one.client, "x") is None
        )
        assert flags.ran == ["long"], "nothing new begins"
    with life(world, h) as one:
        handle = one.client.attach("x")
        assert handle.status().status == "paused"
        handle.resume()
        assert handle.result(5) == "longafter"
    assert flags.ran == ["long", "after"]


def test_a_cancel_stops_the_body_that_runs_on_while_its_invocation_is_paused(world):
    flags, stopped = Flags(), threading.Event()

    async def body() -> None:
        flags.ran.append("body")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise

    async def h(ctx: Context) -> None:
        try:
            await ctx.run(body)
        finally:
            await ctx.run(flags.note, "cleaned up")

    with life(world, h) as one:
        handle = one.client.start(h)
        wait_for(lambda: flags.ran)
        handle.pause()
        handle.cancel("not needed any more")
        assert stopped.wait(2)
        with pytest.raises(InvocationCancelled, match="not needed any more"):
            handle.result(5)
    assert flags.ran == ["body", "cleaned up"]


def test_a_cancel_of_one_that_is_paused_with_its_body_and_has_nothing_to_clean_up_is_no_error(world):
    flags = Flags()

    async def h(ctx: Context) -> None:
        await ctx.run(flags.body, "never")

    async def shrugs(ctx: Context) -> str:
        try:
            await ctx.run(flags.body, "never")
        except asyncio.CancelledError:
            return "shrugged"

    with life(world, h, shrugs) as one:
        handles = [one.client.start(handler) for handler in (h, shrugs)]
        wait_for(lambda: len(flags.ran) == 2)
        for handle in handles:
            handle.pause()
            handle.cancel("not needed any more")
        with pytest.raises(InvocationCancelled, match="not needed any more"):
            handles[0].result(5)
        assert handles[1].result(5) == "shrugged"


def test_a_delayed_start_that_was_paused_does_not_begin_before_its_time(world):
    clock, flags = FakeClock(), Flags()

    async def h(ctx: Context) -> str:
        return await ctx.run(flags.note, "began")

    with life(world, h, clock=clock) as one:
        handle = one.client.start(h, delay=60, id="x")
        handle.pause()
        handle.resume()
        assert handle.status().wake_at is not None
        clock.wind(59.9)
        tick(one.client)
        one.client.start(h, id="other").result(5)
        assert handle.status().status == "queued"
        handle.pause()
    with life(world, h, clock=clock) as one:
        handle = one.client.attach("x")
        clock.wind(0.2)
        tick(one.client)
        assert handle.status().status == "paused", "its time came, and it is paused"
        handle.resume()
        assert handle.result(5) == "began"
    assert flags.ran == ["began", "began"]


class Desk:
    """An object whose writers say who is at work, and a holder of keys."""

    def __init__(self):
        self.flags = Flags()
        self.inside = Counter()
        self.most = 0
        self.fails = True
        desk = self.service = Object("Desk")

        @desk.handler
        async def write(ctx: Context, name: str) -> str:
            try:
                await ctx.run(self.flags.note, name)
                await ctx.run(self.work, f"{name} works", ctx.key)
                await ctx.run(self.check, ctx.key)
            finally:
                await ctx.run(self.look, ctx.key)
            return name

        self.write = write

    async def work(self, name: str, key: str) -> None:
        self.inside[key] += 1
        await self.look(key)
        try:
            await self.flags.body(name)
        finally:
            self.inside[key] -= 1

    async def check(self, key: str) -> None:
        self.inside[key] += 1
        await self.look(key)
        self.inside[key] -= 1
        if self.fails:
            raise TerminalError("not yet")

    async def look(self, key: str) -> None:
        self.most = max(self.most, self.inside[key])

    def failed(self, client):
        """One that has failed, and another that holds the key."""
        self.flags.gate("a works").set()
        handle = client.start(self.write, "a", key="k", id="a")
        with pytest.raises(TerminalError, match="not yet"):
            handle.result(5)
        self.fails = False
        client.start(self.write, "b", key="k", id="b")
        wait_for(lambda: "b works" in self.flags.ran)
        return handle


@pytest.mark.parametrize("then", ["nothing", "cancel", "pause and resume", "pause and cancel", "signal"])
@pytest.mark.parametrize("how", ["retry", "restart"])
def test_a_reopened_or_copied_writer_waits_for_its_key_whatever_is_done_to_it(world, how, then):
    desk = Desk()
    with life(world, desk.service) as one:
        handle = desk.failed(one.client)
        if how == "retry":
            handle.retry()
        else:
            handle = handle.restart(from_step="check#1", new_id="copy")
        assert handle.status().status == "queued"
        if "pause" in then:
            handle.pause()
        if "resume" in then:
            handle.resume()
        if "cancel" in then:
            handle.cancel()
        if then == "signal":
            handle.signal("hey")
        one.client.start(desk.write, "c", key="other", id="c")
        wait_for(lambda: "c" in desk.flags.ran)
        assert handle.status().status == "queued"
        assert desk.most == 1
        desk.flags.gate("b works").set()
        if "cancel" in then:
            with pytest.raises(InvocationCancelled):
                handle.result(5)
        else:
            assert handle.result(5) == "a"
    assert desk.most == 1, "one writer at a time"
    assert desk.flags.ran.count("a") == 1


@pytest.mark.parametrize("how", ["retry", "restart"])
def test_a_reopened_or_copied_writer_that_is_paused_in_its_queue_is_in_nobodys_way(world, how):
    desk = Desk()
    with life(world, desk.service) as one:
        handle = desk.failed(one.client)
        if how == "retry":
            handle.retry()
        else:
            handle = handle.restart(from_step="check#1", new_id="copy")
        handle.pause("lunch")
        desk.flags.gate("b works").set()
        assert one.client.attach("b").result(5) == "b"
        desk.flags.gate("c works").set()
        assert one.client.call(desk.write, "c", key="k", timeout=5) == "c"
    with life(world, desk.service) as one:
        handle = one.client.attach(handle.id)
        assert (handle.status().status, handle.status().reason) == ("paused", "lunch")
        fourth = one.client.start(desk.write, "d", key="k", id="d")
        wait_for(lambda: "d works" in desk.flags.ran)
        handle.resume()
        assert handle.status().status == "queued", "d has the key"
        desk.flags.gate("d works").set()
        assert [fourth.result(5), handle.result(5)] == ["d", "a"]
    assert desk.most == 1, "one writer at a time"
    assert desk.flags.ran.count("a") == 1


def test_a_paused_writer_keeps_its_key_and_a_paused_one_that_waits_for_it_does_not(world):
    desk = Desk()
    desk.fails = False
    with life(world, desk.service) as one:
        first = one.client.start(desk.write, "a", key="k", id="a")
        second = one.client.start(desk.write, "b", key="k", id="b")
        third = one.client.start(desk.write, "c", key="k", id="c")
        wait_for(lambda: "a works" in desk.flags.ran)
        second.pause()
        first.pause()
        desk.flags.gate("a works").set()
        wait_for(lambda: resident(one.client, "a") is None)
        assert third.status().status == "queued"
    with life(world, desk.service) as one:
        third = one.client.attach("c")
        assert third.status().status == "queued"
        one.client.resume("a")
        assert one.client.attach("a").result(5) == "a"
        desk.flags.gate("c works").set()
        assert third.result(5) == "c", "b is paused and in nobody's way"
        one.client.resume("b")
        desk.flags.gate("b works").set()
        assert one.client.attach("b").result(5) == "b"
    assert desk.most == 1


def test_a_killed_writer_frees_its_key_and_no_clean_up_runs(world):
    flags = Flags()
    desk = Object("Desk")

    @desk.handler
    async def write(ctx: Context, name: str) -> str:
        try:
            await ctx.run(flags.body, name)
        finally:
            await ctx.run(flags.note, f"{name} cleaned up")
        return name

    with life(world, desk) as one:
        first = one.client.start(write, "a", key="k")
        second = one.client.start(write, "b", key="k")
        wait_for(lambda: flags.ran)
        first.kill("stuck")
        with pytest.raises(InvocationCancelled, match="killed: stuck"):
            first.result(5)
        flags.gate("b").set()
        assert second.result(5) == "b"
    assert flags.ran == ["a", "b", "b cleaned up"]


def test_a_kill_reaches_those_it_called_and_not_those_it_sent(world):
    flags = Flags()
    service = Service("S")

    @service.handler
    async def work(ctx: Context, name: str) -> str:
        return await ctx.run(flags.body, name)

    @service.handler
    async def middle(ctx: Context) -> str:
        return await ctx.call(work, "leaf", id="leaf")

    @service.handler
    async def root(ctx: Context) -> list[str]:
        ctx.send(work, "sent", id="sent")
        return list(await asyncio.gather(ctx.call(middle, id="middle"), ctx.run(flags.body, "own")))

    with life(world, service) as one:
        handle = one.client.start(root, id="root")
        wait_for(lambda: {"leaf", "sent", "own"} <= {*flags.ran})
        handle.kill("enough")
        assert {view.id: view.status for view in one.client.list()} == {
            "root": "killed", "middle": "killed", "leaf": "killed", "sent": "ready",
        }  # fmt: skip
        assert one.client.attach("leaf").status().reason == "killed: its caller 'middle' was killed: enough"
        (line,) = [line for line in one.client.attach("root").journal() if line.child == "middle"]
        assert (line.state, line.error) == ("failed", "killed: its caller 'root' was killed: enough")
        assert line.finished == one.client.attach("middle").status().updated
    with life(world, service) as one:
        flags.gate("sent").set()
        assert one.client.attach("sent").result(5) == "sent"
        assert one.client.attach("leaf").status().status == "killed"


@pytest.mark.parametrize("how", ["parked", "in memory", "with a body"])
def test_a_cancel_reaches_a_called_one_that_is_paused(world, how):
    flags = Flags()
    service = family(flags, with_a_body=how == "with a body")
    with life(world, service, limits=Limits(waiting=0 if how == "parked" else 9)) as one:
        handle = one.client.start(service.caller)
        wait_for(lambda: one.engine.store.open_promises(9) or flags.ran)
        one.client.pause("child")
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
        wait_for(lambda: one.client.attach("child").status().status == "cancelled")
    assert flags.ran[-1] == "cleaned up"


def family(flags, *, with_a_body):
    """A caller and the one it calls, which waits for a body or a promise and cleans up."""
    service = Service("S")

    @service.handler
    async def child(ctx: Context) -> None:
        try:
            await (ctx.run(flags.body, "long") if with_a_body else ctx.promise("never"))
        finally:
            await ctx.run(flags.note, "cleaned up")

    @service.handler
    async def caller(ctx: Context) -> None:
        await ctx.call(child, id="child")

    service.caller = caller
    return service


@pytest.mark.parametrize("keeps_last", [False, True])
@pytest.mark.parametrize("after", range(1, 5))
def test_a_cancel_of_a_called_one_that_is_paused_with_its_body_survives_a_death(world, after, keeps_last):
    flags = Flags()
    service = family(flags, with_a_body=True)
    with life(world, service) as one:
        handle = one.client.start(service.caller, id="x")
        wait_for(lambda: flags.ran)
        one.client.pause("child")
        one.store.dies_at, one.store.keeps_last = one.store.commits + after, keeps_last
        with contextlib.suppress(StoreFailed):
            handle.cancel()
        wait_for(lambda: one.store.dead or one.client.attach("child").status().status == "cancelled")
    with life(world, service) as one:
        flags.gate("long").set()
        if after == 1 and not keeps_last:
            assert one.client.attach("child").status().status == "paused", "it was never asked"
            one.client.attach("x").cancel()
        wait_for(lambda: one.client.attach("child").status().status == "cancelled")
        assert one.client.attach("x").status().status == "cancelled"
    assert flags.ran[-1] == "cleaned up"


def test_a_called_one_whose_other_body_runs_on_goes_on_with_its_clean_up_when_that_has_ended(world):
    flags = Flags()

    async def child(ctx: Context) -> str:
        other = asyncio.ensure_future(ctx.run(flags.body, "other"))
        try:
            await ctx.run(flags.body, "long")
        finally:
            await ctx.run(flags.note, "cleaned up " + await other)

    async def caller(ctx: Context) -> None:
        await ctx.call(child, id="child")

    with life(world, child, caller) as one:
        handle = one.client.start(caller)
        wait_for(lambda: len(flags.ran) == 2)
        one.client.pause("child")
        handle.cancel()
        assert not flags.gate("other").is_set()
        flags.gate("other").set()
        wait_for(lambda: one.client.attach("child").status().status == "cancelled")
    assert flags.ran[-1] == "cleaned up other"
    assert flags.ran.count("other") == 1


@pytest.mark.parametrize("turns", range(6))
def test_an_answer_to_a_called_one_while_its_caller_is_killed(memory_world, monkeypatch, turns):
    all_in_lane(monkeypatch)
    service = Service("S")

    @service.handler
    async def child(ctx: Context) -> str:
        return await ctx.promise("p", type=str)

    @service.handler
    async def caller(ctx: Context) -> str:
        return await ctx.call(child, id="child")

    async def answer(one, promise):
        for _ in range(turns):
            await one.engine.durable()
        await one.client._client.resolve(promise, "yes")

    with life(memory_world, service, limits=Limits(waiting=0)) as one:
        one.client.start(caller, id="x")
        promise = open_promise(one.client)
        one.client.pause("child")
        _, answered = one.together(one.client._client.kill("x"), answer(one, promise))
        assert one.engine.failure is None
        assert answered is None or isinstance(answered, AlreadySettled)
        assert one.client.attach("child").status().status == "killed"


def test_a_caller_of_one_that_is_killed_is_told(world):
    service = Service("S")

    @service.handler
    async def child(ctx: Context) -> None:
        await ctx.promise("never")

    @service.handler
    async def caller(ctx: Context) -> str:
        try:
            await ctx.call(child, id="child")
        except InvocationCancelled as error:
            return str(error)
        return "?"

    for waiting in (0, 9):
        with life(world, service, limits=Limits(waiting=waiting)) as one:
            handle = one.client.start(caller, id=f"caller {waiting}")
            open_promise(one.client)
            one.client.kill("child", "no use")
            assert "killed: no use" in handle.result(5)
            one.client.purge(handle.id)
            one.client.purge("child")


def test_a_kill_takes_back_what_was_asked(world):
    async def h(ctx: Context) -> None:
        await ctx.ask("Well?")

    for waiting in (0, 9):
        with life(world, h, limits=Limits(waiting=waiting)) as one:
            handle = one.client.start(h)
            (ask,) = wait_for(one.client.asks)
            handle.kill()
            assert one.client.asks() == []
            assert one.client._thread.call(one.client._client.promise(ask.id)).status == "withdrawn"


@pytest.mark.parametrize("operation", ["pause", "kill", "cancel", "signal"])
def test_what_ends_in_the_very_moment_is_not_said_to_be_paused_or_killed(world, monkeypatch, operation):
    all_in_lane(monkeypatch)
    flags = Flags()

    async def h(ctx: Context) -> str:
        return await ctx.run(flags.body, "long")

    with life(world, h) as one:
        handle = one.client.start(h)
        wait_for(lambda: flags.ran)
        errors = []
        with one.store.hold():
            one.client._thread.call(commit_something(one))
            thread = threading.Thread(target=lambda: errors.append(attempt(one, handle, operation)))
            thread.start()
            wait_for(lambda: one.engine._acks, "the operation waits for what came before")
            flags.gate("long").set()
            wait_for(lambda: ended(one))
            one.store.seconds = 0.05
        thread.join(5)
        error, status = errors[0]
        assert isinstance(error, WrongStatus), "its end was before"
        assert status == Status.DONE, "and is durable"
        assert handle.result(5) == "long"


def attempt(one, handle, name):
    """How an operation was refused, and how the invocation stood then in the store."""
    try:
        handle.signal("hey") if name == "signal" else getattr(handle, name)()
    except WrongStatus as error:
        return error, one.engine.store.find(handle.id).status


async def commit_something(one):
    """Keeps the writer thread busy."""
    one.engine.committer.batch.states.append(StateRow("", "rate", "x", b"1"))
    await asyncio.sleep(0)


def ended(one):
    residents = [*one.engine._residents.values()]
    return residents and residents[0].machine.ended


def test_a_paused_one_that_was_parked_gives_its_place_to_another(world):
    service = Service("S")

    @service.handler(limit=Limit(concurrency=1))
    async def h(ctx: Context) -> str:
        return await ctx.promise("p", type=str)

    with life(world, service, limits=Limits(waiting=0)) as one:
        first = one.client.start(h, id="first")
        promise = open_promise(one.client)
        second = one.client.start(h, id="second")
        third = one.client.start(h, id="third")
        wait_for(lambda: resident(one.client, "first") is None)
        assert second.status().status == "queued"
        first.pause()
        wait_for(lambda: second.status().status == "suspended")
        first.resume()
        one.client.resolve(promise, "done")
        assert first.result(5) == "done"
        assert third.status().status == "queued", "second has the place"
        second.kill()
        wait_for(lambda: third.status().status == "suspended")


def test_a_signal_to_one_that_is_queued_does_not_make_its_turn_forgotten(world, monkeypatch):
    all_in_lane(monkeypatch)
    flags = Flags()
    desk = Object("Desk")

    @desk.handler
    async def write(ctx: Context, name: str) -> str:
        return await ctx.run(flags.body, name)

    with life(world, desk) as one:
        first = one.client.start(write, "a", key="k")
        second = one.client.start(write, "b", key="k")
        wait_for(lambda: flags.ran == ["a"])
        flags.gate("b").set()
        with one.store.hold():
            flags.gate("a").set()
            wait_for(lambda: one.store.waiting, "the end of a is being written")
            in_engine(one.client, lambda: one.engine.links.post(one.engine.rows.find(second.id), "hey", b"1"))
        assert (first.result(5), second.result(5)) == ("a", "b")


def test_signals_to_one_whose_pause_is_not_durable_yet_are_all_kept(world, monkeypatch):
    all_in_lane(monkeypatch)

    async def h(ctx: Context) -> list[int]:
        return [await ctx.receive("n", int) for _ in range(6)]

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        wait_for(lambda: handle.status().status == "suspended")

        async def pause_and_signal():
            pause = asyncio.ensure_future(one.client._client.pause("x"))
            for n in range(6):
                # As handlers send them: nobody waits for what came before.
                one.engine.links.post(one.engine.rows.find("x"), "n", b"%d" % n)
                for _ in range(n):
                    await asyncio.sleep(0)
                if n == 2:
                    await pause
            await one.engine.durable()

        one.client._thread.call(pause_and_signal())
        assert one.engine.failure is None
        assert handle.status().status == "paused"
    with life(world, h) as one:
        one.client.resume("x")
        assert one.client.attach("x").result(5) == [0, 1, 2, 3, 4, 5]


def test_a_signal_that_comes_while_one_is_paused_at_its_very_end_is_no_mismatch(world):
    async def returns(ctx: Context) -> str:
        await ctx.run(abs, 1)
        return "done"

    async def returns_nonsense(ctx: Context):
        await ctx.run(abs, 1)
        return object()

    returns_nonsense.__name__ = "returns"
    with life(world, returns_nonsense) as one:
        handle = one.client.start(returns_nonsense, id="x")
        paused(handle)
        handle.signal("hey", 1)
        with pytest.raises(InvocationPaused):
            handle.result(1)
    with life(world, returns) as one:
        one.client.resume("x")
        assert one.client.attach("x").result(5) == "done"


@pytest.mark.parametrize("keeps_last", [False, True])
@pytest.mark.parametrize("operation", ["kill", "pause", "cancel"])
def test_an_operation_whose_commit_is_the_last_one_is_done_or_not(world, operation, keeps_last):
    async def h(ctx: Context) -> str:
        return await ctx.receive("go", str)

    with life(world, h, limits=Limits(waiting=0)) as one:
        handle = one.client.start(h, id="x")
        wait_for(lambda: resident(one.client, "x") is None)
        one.store.dies_at, one.store.keeps_last = one.store.commits + 1, keeps_last
        with pytest.raises(StoreFailed, match="the process died"):
            getattr(handle, operation)()
    with life(world, h) as one:
        handle = one.client.attach("x")
        expected = (
            {"kill": "killed", "pause": "paused", "cancel": "cancelled"}[operation] if keeps_last else "suspended"
        )
        wait_for(lambda: handle.status().status == expected)
        if not keeps_last:
            handle.signal("go", "on")
            assert handle.result(5) == "on"


def test_a_pause_names_its_reason_and_a_resume_clears_it(world):
    async def h(ctx: Context) -> str:
        return await ctx.receive("go", str)

    with life(world, h) as one:
        handle = one.client.start(h)
        handle.pause("waiting for the lawyers")
        view = handle.status()
        assert (view.status, view.reason) == ("paused", "waiting for the lawyers")
        handle.resume()
        wait_for(lambda: handle.status().status == "suspended")
        assert handle.status().reason is None
        handle.signal("go", "on")
        assert handle.result(5) == "on"


def test_a_failed_one_says_what_to_do_when_it_is_paused(world):
    async def h(ctx: Context) -> None:
        raise ValueError("no")

    with life(world, h) as one:
        handle = one.client.start(h)
        with pytest.raises(InvocationFailed):
            handle.result(5)
        with pytest.raises(WrongStatus, match="restart it for a new run"):
            handle.pause()
