"""Limits of handlers: how many at once, how often, in what order, over restarts, and together with keys of objects."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from holdfast import BadHandler, Context, InvocationFailed, Limit, Limits, Object, Service, WouldDeadlock
from holdfast.engine import gates, retirement
from tests.engine.lives import Flags, all_in_lane, life
from tests.engine.world import FakeClock, Wrapped, engine_of, in_engine, wait_for


class Work:
    """A limited handler whose bodies wait for the test, and how many were inside at once."""

    def __init__(self, limit):
        flags = self.flags = Flags()
        self.service = service = Service("S")

        @service.handler(limit=limit)
        async def h(ctx: Context, name: str, who: str = "nobody") -> str:
            return await ctx.run(flags.body, name)

        @service.handler(limit=limit)
        async def waits(ctx: Context, name: str = "", who: str = "nobody") -> str:
            return await ctx.receive("go", str)

        @service.handler
        async def free(ctx: Context) -> str:
            return "free"

        self.h, self.waits, self.free = h, waits, free

    def life(self, world, **options):
        return life(world, self.service, **options)


def advance(client, lane):
    """The moment the lane's timer would come: the clock is the test's, the loop's is not."""
    in_engine(client, lambda: engine_of(client).gates.advance_lane(lane))


def test_no_more_than_so_many_run_and_the_others_follow_in_order(world):
    work = Work(Limit(concurrency=2))
    names = [f"n{n}" for n in range(6)]
    with work.life(world) as one:
        handles = [one.client.start(work.h, name) for name in names]
        wait_for(lambda: len(work.flags.ran) == 2)
        assert [handle.status().status for handle in handles] == ["ready"] * 2 + ["queued"] * 4
        assert one.client.start(work.free).result(5) == "free"
        for name, handle in zip(names, handles, strict=True):
            work.flags.gate(name).set()
            assert handle.result(5) == name
    assert work.flags.ran == names


def test_over_a_restart_they_go_on_in_order(world):
    work = Work(Limit(concurrency=1))
    names = [f"n{n}" for n in range(8)]
    with work.life(world) as one:
        for name in names:
            one.client.start(work.h, name, id=name)
        wait_for(lambda: work.flags.ran == ["n0"])
    for count in (3, 6, 8):
        with work.life(world) as one:
            for name in names[:count]:
                work.flags.gate(name).set()
            for name in names[:count]:
                assert one.client.attach(name).result(5) == name
            if count < 8:
                wait_for(lambda: work.flags.ran[-1] == names[count])  # noqa: B023
                assert one.client.attach(names[-1]).status().status == ("ready" if count == 7 else "queued")
    first_times = list(dict.fromkeys(work.flags.ran))
    assert first_times == names
    assert all(count <= 2 for count in work.flags.runs.values())


@pytest.mark.parametrize("waiting", [0, 9])
def test_parked_ones_count_and_paused_ones_do_not(world, waiting):
    work = Work(Limit(concurrency=1))
    with work.life(world, limits=Limits(waiting=waiting)) as one:
        first = one.client.start(work.waits, id="first")
        second = one.client.start(work.waits, id="second")
        third = one.client.start(work.waits, id="third")
        wait_for(lambda: first.status().status == "suspended")
        assert second.status().status == "queued"
        one.client.start(work.free).result(5)
        assert second.status().status == "queued"
        first.pause()
        wait_for(lambda: second.status().status == "suspended")
        assert third.status().status == "queued"
    with work.life(world, limits=Limits(waiting=waiting)) as one:
        first, second, third = (one.client.attach(id) for id in ("first", "second", "third"))
        assert [view.status().status for view in (first, second, third)] == ["paused", "suspended", "queued"]
        first.resume()
        wait_for(lambda: first.status().status == "suspended")
        second.signal("go", "2")
        assert second.result(5) == "2"
        one.client.start(work.free).result(5)
        assert third.status().status == "queued", "the one that was resumed has the place"
        first.signal("go", "1")
        assert first.result(5) == "1"
        wait_for(lambda: third.status().status == "suspended")


def test_a_resumed_one_counts_before_its_resume_is_durable(world, monkeypatch):
    all_in_lane(monkeypatch)
    work = Work(Limit(concurrency=1))
    with work.life(world) as one:
        first = one.client.start(work.waits, id="first")
        wait_for(lambda: first.status().status == "suspended")
        first.pause()
        client = one.client._client
        one.together(client.resume("first"), later(one, client.start(work.waits, id="second")))
        one.client.start(work.free).result(5)
        assert one.client.attach("second").status().status == "queued"
        first.signal("go", "1")
        assert first.result(5) == "1"
        one.client.signal("second", "go", "2")
        assert one.client.attach("second").result(5) == "2"


async def later(one, work):
    await one.engine.durable()
    await asyncio.sleep(0)
    return await work


@pytest.mark.parametrize("how", ["fails", "cancel", "kill", "fault", "cancel of a queued one"])
def test_whatever_ends_one_lets_the_next_begin(world, how):
    service = Service("S")

    async def faulty() -> None:
        raise TypeError("a bug")

    @service.handler(limit=Limit(concurrency=1))
    async def h(ctx: Context, how: str) -> str:
        order = await ctx.receive("go", str)
        if how == "fails":
            raise ValueError(order)
        if how == "fault":
            await ctx.run(faulty)
        return order

    with life(world, service) as one:
        first, second, third = (one.client.start(h, how, id=id) for id in ("first", "second", "third"))
        wait_for(lambda: first.status().status == "suspended")
        if how == "cancel of a queued one":
            second.cancel()
            first.signal("go", "x")
            second = third
        elif how in {"fails", "fault"}:
            first.signal("go", "x")
        else:
            getattr(first, how)()
        wait_for(lambda: second.status().status == "suspended")


def test_each_value_of_an_argument_has_a_limit_of_its_own(world):
    work = Work(Limit(concurrency=1, by="who"))
    with work.life(world) as one:
        a1 = one.client.start(work.h, "a1", who="a")
        a2 = one.client.start(work.h, "a2", who="a")
        b1 = one.client.start(work.h, "b1", who="b")
        wait_for(lambda: set(work.flags.ran) == {"a1", "b1"})
        assert [handle.status().status for handle in (a1, a2, b1)] == ["ready", "queued", "ready"]
        work.flags.gate("b1").set()
        b1.result(5)
        assert a2.status().status == "queued"
        work.flags.gate("a1").set()
        wait_for(lambda: "a2" in work.flags.ran)


def test_an_argument_left_out_has_its_default_as_value(world):
    work = Work(Limit(concurrency=1, by="who"))
    with work.life(world) as one:
        one.client.start(work.h, "first")
        wait_for(lambda: work.flags.ran)
        assert one.client.start(work.h, "second", who="nobody").status().status == "queued"


def test_long_values_that_begin_alike_are_told_apart(world):
    work = Work(Limit(concurrency=1, by="who"))
    with work.life(world) as one:
        one.client.start(work.h, "a", who="x" * 1_000 + "a")
        one.client.start(work.h, "b", who="x" * 1_000 + "b")
        wait_for(lambda: set(work.flags.ran) == {"a", "b"})


def test_so_often_in_any_period_and_over_restarts(world):
    clock = FakeClock()
    work = Work(Limit(rate=3, per=60))
    names = [f"n{n}" for n in range(7)]
    for name in names:
        work.flags.gate(name).set()

    def ran(one, count):
        advance(one.client, "S/h")
        one.client.start(work.free).result(5)
        wait_for(lambda: len(work.flags.ran) >= count)
        assert work.flags.ran == names[:count]

    with work.life(world, clock=clock) as one:
        one.client.start(work.h, names[0], id=names[0]).result(5)  # else it would run again after the death
        clock.wind(50)
        for name in names[1:]:
            one.client.start(work.h, name, id=name)
        for name in names[:3]:
            one.client.attach(name).result(5)
        clock.wind(9.9)
        ran(one, 3)
    with work.life(world, clock=clock) as one:
        ran(one, 3)
        clock.wind(0.1)
        ran(one, 4)  # a burst after an idle time is no second allowance within the period
        one.client.attach(names[3]).result(5)
        clock.wind(49.9)
        ran(one, 4)
    with work.life(world, clock=clock) as one:
        clock.wind(0.1)
        ran(one, 6)
        for name in names[4:6]:
            one.client.attach(name).result(5)
        clock.wind(9.9)
        ran(one, 6)
        clock.wind(0.1)
        ran(one, 7)


def test_a_rate_needs_no_push_its_own_timer_comes(world):
    work = Work(Limit(rate=1, per=0.1))
    for n in range(4):
        work.flags.gate(f"n{n}").set()
    with work.life(world) as one:
        handles = [one.client.start(work.h, f"n{n}") for n in range(4)]
        assert [handle.result(5) for handle in handles] == ["n0", "n1", "n2", "n3"]
        began = [handle.status().began for handle in handles]
        gaps = [(b - a).total_seconds() for a, b in pairwise(began)]
        assert all(gap >= 0.099 for gap in gaps), gaps


def test_a_clock_that_is_set_back_does_not_stop_a_rate_for_longer_than_its_period(world):
    clock = FakeClock()
    work = Work(Limit(rate=1, per=60))
    with work.life(world, clock=clock) as one:
        one.client.start(work.h, "a")
        wait_for(lambda: work.flags.ran == ["a"])
        clock.wind(-86_400)
        one.client.start(work.h, "b")
        clock.wind(60)
        advance(one.client, "S/h")
        wait_for(lambda: work.flags.ran == ["a", "b"])


def test_rate_and_concurrency_together(world):
    clock = FakeClock()
    work = Work(Limit(rate=2, per=60, concurrency=1))
    with work.life(world, clock=clock) as one:
        handles = [one.client.start(work.h, f"n{n}") for n in range(3)]
        wait_for(lambda: work.flags.ran == ["n0"])
        work.flags.gate("n0").set()
        wait_for(lambda: work.flags.ran == ["n0", "n1"])
        work.flags.gate("n1").set()
        handles[1].result(5)
        one.client.start(work.free).result(5)
        assert handles[2].status().status == "queued"
        clock.wind(60)
        advance(one.client, "S/h")
        wait_for(lambda: work.flags.ran == ["n0", "n1", "n2"])


class Shop:
    """An object with a limit over all its keys."""

    def __init__(self, limit):
        flags = self.flags = Flags()
        desk = self.service = Object("Desk")

        @desk.handler(limit=limit)
        async def write(ctx: Context, name: str, then: str = "") -> str:
            done = await ctx.run(flags.body, name)
            if then:
                done += await ctx.call(write, name=f"{name} called", key=then)
            return done

        @desk.handler(shared=True, limit=limit)
        async def look(ctx: Context, name: str) -> str:
            return await ctx.run(flags.body, name)

        self.write, self.look = write, look


def test_with_keys_one_a_key_and_so_many_over_all(world):
    shop = Shop(Limit(concurrency=2))
    with life(world, shop.service) as one:
        names = [f"{key}{n}" for n in range(2) for key in "abc"]
        handles = {name: one.client.start(shop.write, name, key=name[0]) for name in names}
        wait_for(lambda: len(shop.flags.ran) == 2)
        assert shop.flags.ran == ["a0", "b0"]
        shop.flags.gate("a0").set()
        wait_for(lambda: len(shop.flags.ran) == 3)
        assert shop.flags.ran[2] == "c0", "it came before a1"
        for name in names:
            shop.flags.gate(name).set()
        assert [handle.result(5) for handle in handles.values()] == names
        order = shop.flags.ran
        assert all(order.index(f"{key}0") < order.index(f"{key}1") for key in "abc")


def test_by_key_is_one_limit_for_each_key(world):
    shop = Shop(Limit(concurrency=1, by="key"))
    with life(world, shop.service) as one:
        for name in ("a0", "a1", "b0"):
            one.client.start(shop.look, name, key=name[0])
        wait_for(lambda: set(shop.flags.ran) == {"a0", "b0"})
        shop.flags.gate("a0").set()
        wait_for(lambda: "a1" in shop.flags.ran)


@pytest.mark.parametrize("burst", [3, 50])
def test_a_burst_on_one_key_keeps_no_other_key_from_its_place(world, burst):
    shop = Shop(Limit(concurrency=2))
    with life(world, shop.service) as one:
        first = one.client.start(shop.write, "a", then="other", key="k")
        wait_for(lambda: shop.flags.ran == ["a"])
        for n in range(burst):
            one.client.start(shop.write, f"n{n}", key="k")
        shop.flags.gate("a").set()
        shop.flags.gate("a called").set()
        assert first.result(5) == "aa called", "there is a place left for what it calls"
        for n in range(burst):
            shop.flags.gate(f"n{n}").set()
        wait_for(lambda: len(shop.flags.ran) == burst + 2)
    assert shop.flags.ran[2:] == [f"n{n}" for n in range(burst)]


def test_after_a_restart_a_burst_on_one_key_keeps_no_other_key_from_its_place(world):
    shop = Shop(Limit(concurrency=2))
    with life(world, shop.service) as one:
        one.client.start(shop.write, "a", key="k", id="a")
        for n in range(40):
            one.client.start(shop.write, f"n{n}", key="k")
        one.client.start(shop.write, "other", key="o", id="o")
        one.client.start(shop.write, "third", key="p", id="p")
        wait_for(lambda: {"a", "other"} <= set(shop.flags.ran))
    with life(world, shop.service) as one:
        shop.flags.gate("other").set()
        assert one.client.attach("o").result(5) == "other"
        shop.flags.gate("third").set()
        assert one.client.attach("p").result(5) == "third"


def test_over_a_restart_those_of_many_keys_go_on_in_order_of_arrival(world):
    shop = Shop(Limit(concurrency=1))
    keys = "zyxabc"
    with life(world, shop.service) as one:
        for key in keys:
            one.client.start(shop.write, key, key=key, id=key)
        wait_for(lambda: shop.flags.ran == ["z"])
    for key in keys:
        shop.flags.gate(key).set()
    with life(world, shop.service) as one:
        assert [one.client.attach(key).result(5) for key in keys] == list(keys)
    assert shop.flags.ran == ["z", *keys]


def test_a_call_for_which_its_callers_leave_no_place_is_refused(world):
    service = Service("S")

    @service.handler(limit=Limit(concurrency=1))
    async def h(ctx: Context, depth: int) -> int:
        return depth if not depth else await ctx.call(h, depth - 1)

    with life(world, service) as one, pytest.raises(InvocationFailed, match="it would wait for itself") as caught:
        one.client.start(h, 1).result(5)
    assert WouldDeadlock.__name__ in str(caught.value)


def test_a_limit_that_is_changed_in_the_code_counts_for_what_is_queued(world):
    narrow, wide = Work(Limit(concurrency=1)), Work(Limit(concurrency=3))
    with narrow.life(world) as one:
        for n in range(4):
            one.client.start(narrow.h, f"n{n}", id=f"n{n}")
        wait_for(lambda: narrow.flags.ran == ["n0"])
    with wide.life(world) as one:
        wait_for(lambda: len(wide.flags.ran) == 3)
        for n in range(4):
            wide.flags.gate(f"n{n}").set()
        for n in range(4):
            assert one.client.attach(f"n{n}").result(5) == f"n{n}"


@pytest.mark.parametrize(
    "now", [None, Limit(concurrency=1, by="name"), Limit(rate=100, per=1)], ids=["none", "by", "rate"]
)
def test_what_was_queued_under_another_kind_of_limit_is_not_forgotten(world, now):
    before, after = Work(Limit(concurrency=1)), Work(now)
    with before.life(world) as one:
        for n in range(4):
            one.client.start(before.h, f"n{n}", id=f"n{n}")
        wait_for(lambda: before.flags.ran == ["n0"])
    for n in range(5):
        after.flags.gate(f"n{n}").set()
    with after.life(world) as one:
        one.client.start(after.h, "n4", id="n4")
        for n in range(5):
            assert one.client.attach(f"n{n}").result(5) == f"n{n}"
    with before.life(world) as one:
        one.client.start(before.h, "more", id="more")
        before.flags.gate("more").set()
        assert one.client.attach("more").result(5) == "more"


def test_a_limit_may_come_to_a_handler_whose_invocations_are_queued_for_their_key(world):
    before, after = Shop(None), Shop(Limit(concurrency=1))
    with life(world, before.service) as one:
        for name in ("a", "b", "c"):
            one.client.start(before.write, name, key="k", id=name)
        wait_for(lambda: before.flags.ran == ["a"])
    for name in ("a", "b", "c", "d"):
        after.flags.gate(name).set()
    with life(world, after.service) as one:
        one.client.start(after.write, "d", key="k", id="d")
        for name in ("a", "b", "c", "d"):
            assert one.client.attach(name).result(5) == name
    assert after.flags.ran == ["a", "b", "c", "d"]


def test_a_queued_one_whose_handler_is_gone_keeps_nobody_waiting(world):
    work = Work(Limit(concurrency=1))
    other = Service("Other")

    @other.handler
    async def fine(ctx: Context) -> str:
        return "fine"

    with work.life(world) as one:
        for n in range(3):
            one.client.start(work.h, f"n{n}", id=f"n{n}")
        wait_for(lambda: work.flags.ran == ["n0"])
    with life(world, other) as one:
        assert one.client.start(fine).result(5) == "fine"
        wait_for(lambda: {one.client.attach(f"n{n}").status().status for n in range(3)} == {"paused"})
    with work.life(world) as one:
        for n in range(3):
            work.flags.gate(f"n{n}").set()
            one.client.resume(f"n{n}")
            assert one.client.attach(f"n{n}").result(5) == f"n{n}"


@pytest.mark.parametrize(
    "wrong", [{}, {"concurrency": 0}, {"rate": 0}, {"concurrency": -1}, {"rate": 1, "per": 0}, {"rate": 1, "per": -5}]
)
def test_a_limit_that_limits_nothing_or_everything_is_refused(wrong):
    with pytest.raises(BadHandler, match="limits nothing, or everything"):
        Limit(**wrong)


def test_a_limit_by_what_is_no_argument_is_refused():
    service = Service("S")
    with pytest.raises(BadHandler, match="no argument 'nobody' to limit by"):

        @service.handler(limit=Limit(concurrency=1, by="nobody"))
        async def h(ctx: Context, who: str) -> None: ...

    with pytest.raises(BadHandler, match="to limit by"):

        @service.handler(limit=Limit(concurrency=1, by="key"))
        async def k(ctx: Context) -> None: ...

    with pytest.raises(BadHandler, match="to limit by"):

        @service.handler(limit=Limit(concurrency=1, by="ctx"))
        async def c(ctx: Context) -> None: ...


class Untold(Wrapped):
    """A commit waits before it is durable, or after, while nobody has heard of it."""

    def __init__(self, inner):
        super().__init__(inner)
        self.before, self.after = threading.Event(), threading.Event()
        self.before.set()
        self.after.set()

    def commit(self, batch):
        assert self.before.wait(10)
        self.inner.commit(batch)
        assert self.after.wait(10)


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_place_is_given_once_whatever_is_durable_before_anybody_heard_of_it(world, monkeypatch, how):
    all_in_lane(monkeypatch)
    work, stores = Work(Limit(concurrency=1)), []
    with world.holdfast(work.service) as client:
        client.start(work.waits, id="parked")
    hf = world.holdfast(work.service, wrap=lambda inner: stores.append(Untold(inner)) or stores[0])
    with hf as client, ThreadPoolExecutor() as threads:
        engine, store, parked = engine_of(client), stores[0], client.attach("parked")
        store.after.clear()
        told = [threads.submit(getattr(parked, how))]
        wait_for(lambda: store.inner.find(parked.id).status == {"kill": 7, "pause": 3}[how])
        told.append(threads.submit(client.start, work.waits, id="a"))
        wait_for(lambda: engine.number_of("a"))
        store.before.clear()
        store.after.set()
        wait_for(lambda: not engine.rows.is_open(engine.store.find(parked.id).n))
        told.append(threads.submit(client.start, work.waits, id="b"))
        wait_for(lambda: engine.number_of("b"))
        store.before.set()
        for one in told:
            one.result(5)
        a, b = client.attach("a"), client.attach("b")
        wait_for(lambda: a.status().status == "suspended")
        assert b.status().status == "queued"
        a.signal("go", "x")
        wait_for(lambda: b.status().status == "suspended")


def test_a_rate_that_is_whole_again_leaves_nothing_behind(world, monkeypatch):
    """By an argument there is one for each value there ever was."""
    monkeypatch.setattr(retirement, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(retirement, "RATES_SLICE", 7)
    clock, work = FakeClock(), Work(Limit(rate=2, per=60, by="who"))
    users = [f"u{n:02}" for n in range(30)]
    with work.life(world, clock=clock) as one:
        store = one.engine.store
        for who in users:
            work.flags.gate(who).set()
            one.client.start(work.h, who, who=who).result(5)
        assert len(store.state_names("", "rate")) == 30
        clock.wind(3_600)
        for name in ("again", "once more", "and more"):
            work.flags.gate(name).set()
            one.client.start(work.h, name, who="u07", id=name)
        wait_for(lambda: work.flags.ran[-2:] == ["again", "once more"])
        time.sleep(0.05)
        assert len(store.state_names("", "rate")) == 30, "a clock may be set back"
        clock.wind(61)
        advance(one.client, 'S/h="u07"')
        one.client.attach("and more").result(5)
        wait_for(lambda: store.state_names("", "rate") == ['S/h="u07"'])
    with work.life(world, clock=clock) as one:
        work.flags.gate("late").set()
        one.client.start(work.h, "late", who="u07", id="late").result(5)
        one.client.start(work.h, "late", who="u07", id="later")
        one.client.start(work.free).result(5)
        assert one.client.attach("later").status().status == "queued", "it is not whole"


def test_a_rate_notices_a_clock_that_is_set_forward(world, monkeypatch):
    """As a machine that slept for an hour has done: the loop's own clock stood still."""
    monkeypatch.setattr(gates, "WAIT_SECONDS_MAX", 0.02)
    clock, work = FakeClock(), Work(Limit(rate=1, per=3_600))
    for name in "ab":
        work.flags.gate(name).set()
    with work.life(world, clock=clock) as one:
        one.client.start(work.h, "a").result(5)
        handle = one.client.start(work.h, "b")
        one.client.start(work.free).result(5)
        clock.wind(3_600)
        assert handle.result(5) == "b"
