"""Sync bodies that wait for a thread, and those that never return: neither is taken for the other, and neither keeps
the steps of all others from running."""

import asyncio
import gc
import threading
import time

import pytest

from holdfast import (
    Context,
    InvocationCancelled,
    InvocationFailed,
    Limits,
    NotDone,
    Retry,
    StepFailed,
    WrongStatus,
    step,
)
from holdfast.engine.effects import Body
from holdfast.engine.once import OnceSteps
from tests.engine.lives import Held, all_in_lane, life
from tests.engine.world import FakeClock, in_engine, one_ask, tick, wait_for

SINGLE = Retry(max_attempts=1)
AGAIN = Retry(initial=0.01, jitter=0)


class Hanging:
    """Bodies that hang until the test lets go of them, and one that does not."""

    def __init__(self):
        self.let_go = threading.Event()
        self.hung, self.back = [], []

        def hang(name: str) -> str:
            self.hung.append(name)
            self.let_go.wait(10)
            self.back.append(name)
            return name

        def quick(name: str) -> str:
            return name

        async def hangs(ctx: Context, name: str, timeout: float | None = None) -> str:
            try:
                return await ctx.run(hang, name, timeout=timeout, retry=SINGLE)
            except StepFailed as failure:
                return failure.message

        async def is_given_up(ctx: Context, name: str) -> str:
            try:
                async with asyncio.timeout(0.05):
                    return await ctx.run(hang, name)
            except TimeoutError:
                return "given up"

        async def works(ctx: Context, name: str) -> str:
            return await ctx.run(quick, name)

        self.hang, self.hangs, self.is_given_up, self.works = hang, hangs, is_given_up, works

    def life(self, world, *more, drain_seconds=0.0, **limits):
        handlers = (self.hangs, self.is_given_up, self.works, *more)
        return life(world, *handlers, limits=Limits(drain_seconds=drain_seconds, **limits))


@pytest.fixture
def hanging():
    made = Hanging()
    yield made
    made.let_go.set()


def states(handle):
    return [line.state for line in handle.journal()]


LATE = "attempt 1 took longer than 0.05 s"

# A line for threads


def test_no_more_run_in_threads_than_allowed_and_in_order(memory_world):
    together, began, names = threading.Barrier(3), [], set()

    def body(n: int) -> int:
        began.append(n)
        together.wait(5)
        names.add(threading.current_thread().name)
        return n

    async def h(ctx: Context) -> list[int]:
        return await asyncio.gather(*[ctx.run(body, n) for n in range(9)])

    with memory_world.holdfast(h, limits=Limits(threads=3)) as client:
        assert client.start(h).result(5) == list(range(9))
    assert len(names) == 3
    assert [sorted(began[n : n + 3]) for n in (0, 3, 6)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_timeout_does_not_count_the_wait_for_a_thread(memory_world):
    def slow(n: int) -> int:
        time.sleep(0.1)
        return n

    async def h(ctx: Context, n: int) -> int:
        return await ctx.run(slow, n, timeout=0.5, retry=SINGLE)

    with memory_world.holdfast(h, limits=Limits(threads=1)) as client:
        handles = [client.start(h, n) for n in range(9)]
        assert [handle.result(5) for handle in handles] == list(range(9))


def test_a_timeout_strikes_in_time_also_when_a_thread_came_late(memory_world, hanging):
    def slow() -> None:
        time.sleep(0.1)

    async def h(ctx: Context) -> None:
        await ctx.run(slow)

    with hanging.life(memory_world, h, threads=1) as one:
        one.client.start(h)
        assert one.client.start(hanging.hangs, "x", 0.05).result(5) == LATE
        assert hanging.hung == ["x"]


def test_those_in_line_for_a_thread_take_no_place_from_async_bodies(memory_world, hanging):
    async def soon() -> str:
        return "soon"

    async def h(ctx: Context) -> str:
        return await ctx.run(soon)

    with hanging.life(memory_world, h, bodies=3, threads=1) as one:
        handles = [one.client.start(hanging.hangs, name) for name in "abcdef"]
        wait_for(lambda: hanging.hung)
        assert [one.client.start(h).result(5) for _ in range(3)] == ["soon"] * 3
        hanging.let_go.set()
        assert [handle.result(5) for handle in handles] == list("abcdef")
        assert hanging.hung == list("abcdef")


def test_neither_line_keeps_the_other_from_a_place(memory_world, hanging):
    """Async and sync bodies have their turns one after the other, however long the lines are."""
    ran = []

    async def async_body(n: int) -> None:
        ran.append("async")

    def sync_body(n: int) -> None:
        ran.append("sync")

    async def h(ctx: Context) -> None:
        first = ctx.run(hanging.hang, "first")
        await asyncio.gather(first, *[ctx.run(body, n) for body in (async_body, sync_body) for n in range(20)])

    with hanging.life(memory_world, h, bodies=1) as one:
        handle = one.client.start(h)
        wait_for(lambda: hanging.hung)
        hanging.let_go.set()
        handle.result(5)
    assert ran in (["async", "sync"] * 20, ["sync", "async"] * 20)


def test_one_that_is_paused_in_line_does_not_begin_before_it_is_resumed(world, hanging):
    with hanging.life(world, threads=1) as one:
        one.client.start(hanging.hangs, "a")
        wait_for(lambda: hanging.hung == ["a"])
        waits = one.client.start(hanging.hangs, "b")
        assert states(waits) == ["waiting"]
        last = one.client.start(hanging.works, "c")
        waits.pause("lunch")
        hanging.let_go.set()
        assert last.result(5) == "c"
        assert hanging.hung == ["a"]
        waits.resume()
        assert waits.result(5) == "b"


def test_one_that_is_paused_and_resumed_in_line_runs_once(world, hanging):
    with hanging.life(world, threads=1) as one:
        one.client.start(hanging.hangs, "a")
        wait_for(lambda: hanging.hung == ["a"])
        waits = one.client.start(hanging.hangs, "b")
        for _ in range(3):
            waits.pause("lunch")
            waits.resume()
        assert states(waits) == ["waiting"]
        hanging.let_go.set()
        assert waits.result(5) == "b"
        assert hanging.hung == ["a", "b"]


def test_one_that_is_paused_in_line_for_its_next_attempt_counts_on(world, hanging):
    attempts = []

    def flaky() -> str:
        attempts.append(step().attempt)
        if len(attempts) == 1:
            time.sleep(0.1)  # meanwhile another one has come to the line
            raise ConnectionError("no")
        return "yes"

    async def h(ctx: Context) -> str:
        return await ctx.run(flaky, retry=AGAIN)

    with hanging.life(world, h, threads=1) as one:
        handle = one.client.start(h)
        wait_for(lambda: attempts)
        one.client.start(hanging.hangs, "a")
        wait_for(lambda: hanging.hung)
        wait_for(lambda: states(handle) == ["retrying"])
        handle.pause("lunch")
        hanging.let_go.set()
        assert one.client.start(hanging.works, "b").result(5) == "b"
        assert len(attempts) == 1
        handle.resume()
        assert handle.result(5) == "yes"


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_one_that_is_given_up_in_line_never_begins(world, hanging, how):
    with hanging.life(world, threads=1) as one:
        one.client.start(hanging.hangs, "a")
        wait_for(lambda: hanging.hung == ["a"])
        handles = [one.client.start(hanging.hangs, name) for name in "bc"]
        last = one.client.start(hanging.works, "d")
        for handle in handles:
            getattr(handle, how)()
            with pytest.raises(InvocationCancelled):
                handle.result(5)
        hanging.let_go.set()
        assert last.result(5) == "d"
        assert hanging.hung == ["a"]


def test_those_that_are_given_up_in_line_do_not_stay_in_memory(memory_world, hanging):
    def bodies():
        gc.collect()
        return sum(isinstance(each, Body) for each in gc.get_objects())

    with hanging.life(memory_world, threads=1) as one:
        one.client.start(hanging.hangs, "a")
        wait_for(lambda: hanging.hung == ["a"])
        before = bodies()
        for n in range(20):
            handle = one.client.start(hanging.hangs, f"given up {n}")
            handle.kill()
            with pytest.raises(InvocationCancelled):
                handle.result(5)
        wait_for(lambda: bodies() <= before + 1)


# Threads that are left behind


@pytest.mark.parametrize("how", ["late", "given up", "cancelled"])
def test_a_body_that_never_returns_keeps_no_other_from_a_thread(world, hanging, how):
    with hanging.life(world, threads=2) as one:
        handler = hanging.is_given_up if how == "given up" else hanging.hangs
        more = (0.05,) if how == "late" else ()
        handles = [one.client.start(handler, name, *more) for name in "ab"]
        wait_for(lambda: sorted(hanging.hung) == ["a", "b"])
        for handle in handles:
            if how == "cancelled":
                handle.cancel()
                with pytest.raises(InvocationCancelled):
                    handle.result(5)
            else:
                assert handle.result(5) == (LATE if how == "late" else how)
        assert one.client.start(hanging.works, "c").result(5) == "c"
        hanging.let_go.set()
        wait_for(lambda: sorted(hanging.back) == ["a", "b"])
        assert [one.client.start(hanging.works, name).result(5) for name in "defg"] == list("defg")


def test_so_many_threads_are_left_behind_and_no_more(memory_world, hanging, caplog):
    with hanging.life(memory_world, threads=2) as one:
        before = threading.active_count()
        for n in range(4):
            assert one.client.start(hanging.hangs, f"h{n}", 0.05).result(5) == LATE
            assert ("sync bodies run that nobody waits for" in caplog.text) == (n >= 2)
        waits = one.client.start(hanging.works, "waits")
        one.client.start(hanging.works, "too")
        assert states(waits) == ["waiting"]
        assert threading.active_count() <= before + 4
        hanging.let_go.set()
        assert waits.result(5) == "waits"
        wait_for(lambda: threading.active_count() <= before + 2)


def test_the_threads_of_lambdas_that_give_coroutines_are_given_back(memory_world):
    gate = []

    async def slow(n: int) -> int:
        while len(gate) < 4:
            gate.append(n) if n not in gate else None
            await asyncio.sleep(0.002)
        return n

    async def h(ctx: Context) -> list[int]:
        return await asyncio.gather(*[ctx.run(lambda n=n: slow(n), name="slow", returns=int) for n in range(4)])

    with memory_world.holdfast(h, limits=Limits(threads=1)) as client:
        assert client.start(h).result(5) == [0, 1, 2, 3]


@pytest.mark.parametrize("back", ["between the attempts", "beside the next one", "after the end"])
def test_what_a_thread_that_was_left_behind_gives_does_not_count(world, back):
    first, second, gone = threading.Event(), threading.Event(), threading.Event()
    attempts = []

    def body() -> str:
        at = step()
        attempts.append(at.attempt)
        if at.attempt > 1:
            second.wait(10)
            return "second"
        first.wait(10)
        at.emit("from the first")
        gone.set()
        return "first"

    retry = Retry(initial=0.5 if back == "between the attempts" else 0.01, jitter=0)

    async def h(ctx: Context) -> str:
        return await ctx.run(body, timeout=0.1, retry=retry)

    with life(world, h, limits=Limits(threads=1, drain_seconds=0)) as one:
        handle = one.client.start(h)
        wait_for(lambda: states(handle) == ["retrying"])
        n = one.engine.number_of(handle.id)
        if back == "after the end":
            second.set()
            assert handle.result(5) == "second"
        elif back == "beside the next one":
            wait_for(lambda: len(attempts) > 1)
        first.set()
        assert gone.wait(5)
        assert in_engine(one.client, lambda: one.engine.bus.chunks(n)) == []
        second.set()
        assert handle.result(5) == "second"
        assert [line.state for line in handle.journal()] == ["done"]
        assert attempts == list(range(1, len(attempts) + 1))


def test_a_stop_does_not_wait_for_those_left_behind(world, hanging):
    with hanging.life(world, threads=1, drain_seconds=30) as one:
        for name in "ab":
            assert one.client.start(hanging.hangs, name, 0.05).result(5) == LATE
        waits = one.client.start(hanging.works, "c", id="c")
        assert states(waits) == ["waiting"]
        one.client._thread.call(one.engine.stop())
        hanging.let_go.set()
        wait_for(lambda: sorted(hanging.back) == ["a", "b"])
    with hanging.life(world) as one:
        assert one.client.attach("c").result(5) == "c"


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_one_that_is_paused_with_a_body_that_hangs_can_be_given_up(world, hanging, how):
    with hanging.life(world, threads=1) as one:
        handle = one.client.start(hanging.hangs, "a")
        wait_for(lambda: hanging.hung)
        handle.pause("lunch")
        waits = one.client.start(hanging.works, "b")
        with pytest.raises(WrongStatus, match="still waits for a body that runs"):
            handle.resume()
        getattr(handle, how)()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
        assert waits.result(5) == "b"


def test_one_that_is_paused_while_a_body_hangs_past_its_timeout_tries_again_when_it_is_resumed(world, hanging):
    attempts = []

    def body() -> str:
        attempts.append(step().attempt)
        return hanging.hang("a") if len(attempts) == 1 else "second"

    async def h(ctx: Context) -> str:
        return await ctx.run(body, timeout=0.5, retry=AGAIN)

    with hanging.life(world, h, threads=1) as one:
        handle = one.client.start(h)
        wait_for(lambda: hanging.hung)
        handle.pause("lunch")
        wait_for(lambda: one.engine.residents_count == 0)
        hanging.let_go.set()
        assert one.client.start(hanging.works, "b").result(5) == "b"
        assert len(attempts) == 1
        handle.resume()
        assert handle.result(5) == "second"


def test_a_thread_that_comes_back_when_its_engine_is_gone_disturbs_nobody(memory_world, hanging, caplog):
    def ends() -> None:
        hanging.hang("a")
        step().emit("too late")

    async def h(ctx: Context) -> str:
        return await ctx.run(ends, timeout=0.05, retry=SINGLE)

    others = set(threading.enumerate())
    with memory_world.holdfast(h, limits=Limits(drain_seconds=0)) as client:
        with pytest.raises(InvocationFailed, match="took longer"):
            client.start(h).result(5)
        client.start(h)
        wait_for(lambda: len(hanging.hung) == 2)
    caplog.clear()
    hanging.let_go.set()
    wait_for(lambda: set(threading.enumerate()) <= others)
    assert caplog.records == []


# Steps declared once


def pays(body, once, **options):
    async def order(ctx: Context) -> str:
        return await ctx.run(body, once=once, retry=AGAIN, returns=str, **options)

    return order


def test_a_checker_in_a_thread_that_is_late_is_called_again(world, hanging):
    looked = []

    def look() -> str:
        looked.append(step().attempt)
        if len(looked) == 1:
            hanging.hang("look")
            raise NotDone
        return "found"

    paid = []

    async def pay() -> str:
        paid.append(1)
        raise ConnectionError("cut")

    order = pays(pay, look, timeout=0.1)
    with hanging.life(world, order, threads=1) as one:
        handle = one.client.start(order, id="order")
        wait_for(lambda: len(looked) > 1)
        hanging.let_go.set()
        assert handle.result(5) == "found"
    assert (paid, looked) == ([1], [1, 2])


class NoThreads:
    """The system has no thread while `refused` says so."""

    def __init__(self, monkeypatch):
        self.refused = 0
        begin = threading.Thread.start

        def start(thread):
            if self.refused and thread.name.startswith("holdfast-step"):
                self.refused -= 1
                raise RuntimeError("can't start new thread")
            begin(thread)

        monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("once", [None, True])
def test_where_the_system_has_no_thread_the_body_has_not_run_and_runs_once(world, monkeypatch, once):
    began = []

    def pay() -> str:
        began.append(step().attempt)
        return "paid"

    async def order(ctx: Context) -> str:
        return await ctx.run(pay, retry=AGAIN, **({"once": once} if once else {}))

    none = NoThreads(monkeypatch)
    none.refused = 2
    with world.holdfast(order, limits=Limits(threads=1)) as client:
        handle = client.start(order)
        assert handle.result(5) == "paid"
        assert client.start(order).result(5) == "paid"
        assert states(handle) == (["begun", "not done"] * 2 + ["begun", "done"] if once else ["done"])
    assert len(began) == 2


def test_a_checker_that_has_no_thread_has_not_said_that_nothing_was_done(world, monkeypatch):
    none, paid = NoThreads(monkeypatch), []

    async def pay() -> str:
        paid.append(1)
        none.refused = 1
        raise ConnectionError("cut after the order went out")

    def look() -> str:
        return "found"

    order = pays(pay, look)
    with world.holdfast(order) as client:
        assert client.start(order).result(5) == "found"
    assert paid == [1]


def test_a_body_that_gives_itself_up_as_the_engine_stops_has_not_said_that_nothing_was_done(world):
    paid, stopping = [], threading.Event()

    async def pay() -> str:
        paid.append(1)
        while not stopping.is_set():
            await asyncio.sleep(0.002)
        raise asyncio.CancelledError

    order = pays(pay, True)
    with life(world, order) as one:
        one.client.start(order, id="order")
        wait_for(lambda: paid)
        one.engine._effects.hold()
        stopping.set()
        one.client._thread.call(one.engine.stop())
    with life(world, order) as one:
        one_ask(one.client)
    assert paid == [1]


def test_what_is_given_up_in_a_handlers_turn_lets_nobody_begin_in_it(world, monkeypatch):
    """The step that takes its place may end as it begins, and is itself given up in that very turn."""
    all_in_lane(monkeypatch)
    clock, stores, begins = FakeClock(), [], OnceSteps.begins

    async def lost() -> None:
        await asyncio.sleep(30)

    async def other() -> None:
        pass

    async def order(ctx: Context) -> str:
        try:
            async with asyncio.timeout(60):
                steps = [ctx.run(other, once=True)] if len(stores) > 1 else []
                await asyncio.gather(*steps, ctx.run(lost, once="raise"))
        except TimeoutError:
            return "late"
        return "in time"

    def begins_and_is_held(self, resident, body):
        begins(self, resident, body)
        if len(stores) > 1:
            stores[1].open_gate.clear()

    def held(inner):
        stores.append(Held(inner))
        return stores[-1]

    monkeypatch.setattr(OnceSteps, "begins", begins_and_is_held)
    with life(world, order, clock=clock, kind=held) as one:
        handle = one.client.start(order, id="order")
        wait_for(lambda: "begun" in states(handle))
    with life(world, order, clock=clock, kind=held, limits=Limits(bodies=1)) as one:
        wait_for(lambda: one.store.waiting)
        clock.wind(61)
        tick(one.client)
        one.store.open_gate.set()
        handle = one.client.attach("order")
        assert handle.result(5) == "late"
        assert "unknown" not in states(handle)
