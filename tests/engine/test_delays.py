"""Starts and sends that begin later: never early, over restarts, in order, and as invocations of that later time."""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast import BadTimer, Context, Limit, Limits, Object, Service
from tests.engine.lives import Flags, life
from tests.engine.world import FakeClock, engine_of, tick, wait_for


class Work:
    """Handlers that say when they began."""

    def __init__(self):
        flags = self.flags = Flags()
        service = self.service = Service("S")
        desk = self.desk = Object("Desk")

        @service.handler
        async def h(ctx: Context, name: str = "x") -> str:
            began = ctx.now().isoformat()
            await ctx.run(flags.note, name)
            return began

        @service.handler
        async def sends(ctx: Context, delay: float, name: str) -> str:
            return ctx.send(h, name, delay=delay, id=name).id

        @desk.handler
        async def write(ctx: Context, name: str) -> str:
            return await ctx.run(flags.note, name)

        @desk.handler
        async def hold(ctx: Context) -> None:
            await ctx.run(flags.body, "hold")

        self.h, self.sends, self.write, self.hold = h, sends, write, hold

    def life(self, world, clock, **options):
        return life(world, self.service, self.desk, clock=clock, **options)


def iso(ms):
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


@pytest.mark.parametrize("delay", [60, 60.5, timedelta(minutes=1)])
def test_a_delayed_start_begins_at_its_time_and_not_before(world, delay):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        handle = one.client.start(work.h, delay=delay)
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        view = handle.status()
        assert view.status == "queued"
        assert view.began is None
        assert view.wake_at == datetime.fromtimestamp(clock.ms / 1000 + seconds, UTC)
        clock.wind(seconds - 0.001)
        tick(one.client)
        one.client.start(work.h, "other").result(5)
        assert handle.status().status == "queued"
        clock.wind(0.001)
        tick(one.client)
        assert handle.result(5) == iso(clock.ms)


def test_the_handlers_time_is_that_of_its_beginning_also_on_replay(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        handle = one.client.start(work.h, delay=60, id="x")
        created = clock.ms
    clock.wind(3600)
    began = clock.ms
    with work.life(world, clock) as one:
        handle = one.client.attach("x")
        assert handle.result(5) == iso(began)
        view = handle.status()
        assert (view.created, view.began) == tuple(datetime.fromtimestamp(ms / 1000, UTC) for ms in (created, began))


@pytest.mark.parametrize("lives", [1, 2, 3])
def test_it_waits_over_restarts_for_the_time_that_is_left(world, lives):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        one.client.start(work.h, delay=60, id="x")
    for _ in range(lives):
        clock.wind(54 / lives)
        with work.life(world, clock) as one:
            one.client.start(work.h, "other").result(5)
            assert one.client.attach("x").status().status == "queued"
    clock.wind(6.1)
    with work.life(world, clock) as one:
        assert one.client.attach("x").result(5) == iso(clock.ms)
    assert work.flags.ran.count("x") == 1


@pytest.mark.parametrize("keeps_last", [False, True])
@pytest.mark.parametrize("commit", range(1, 6))
def test_it_runs_once_whatever_commit_is_the_last(world, commit, keeps_last):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        one.client.start(work.sends, 60, "x", id="sender").result(5)
    clock.wind(61)
    with work.life(world, clock, dies_at=commit, keeps_last=keeps_last) as one:
        wait_for(lambda: one.store.dead or one.client.attach("x").status().status == "done")
    with work.life(world, clock) as one:
        one.client.attach("x").result(5)
        assert [view.id for view in one.client.attach("x").journal()] == ["note#1"]
    assert len(work.flags.runs) == 1
    assert work.flags.runs["x", "note#1"] <= 2, "twice only if it died before the record"


def test_a_send_with_delay_begins_later_and_once(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        assert one.client.start(work.sends, 60, "x").result(5) == "x"
        assert one.client.attach("x").status().status == "queued"
        clock.wind(59)
        tick(one.client)
        assert work.flags.ran == []
    clock.wind(1)
    with work.life(world, clock) as one:
        assert one.client.attach("x").result(5) == iso(clock.ms)
    assert work.flags.ran == ["x"]


def test_one_that_is_cancelled_or_killed_before_its_time_never_begins(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock, limits=Limits(waiting=0)) as one:
        cancelled, killed = (one.client.start(work.h, delay=60, id=id) for id in ("cancelled", "killed"))
        cancelled.cancel()
        killed.kill()
        clock.wind(61)
        tick(one.client)
        one.client.start(work.h, "other").result(5)
        assert [handle.status().status for handle in (cancelled, killed)] == ["cancelled", "killed"]
        assert cancelled.status().wake_at is None
    with work.life(world, clock) as one:
        one.client.start(work.h, "more").result(5)
    assert work.flags.ran == ["other", "more"]


def test_its_place_in_the_line_of_its_key_is_that_of_its_time(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        one.client.start(work.hold, key="k", id="hold")
        wait_for(lambda: work.flags.ran)
        one.client.start(work.write, "in 30 s", key="k", delay=30)
        one.client.start(work.write, "in 10 s", key="k", delay=10)
        one.client.start(work.write, "at once", key="k")
        clock.wind(20)
        tick(one.client)
        one.client.start(work.write, "after 20 s", key="k")
        clock.wind(20)
        tick(one.client)
        one.client.start(work.write, "after 40 s", key="k", id="last")
        work.flags.gate("hold").set()
        one.client.attach("last").result(5)
    assert work.flags.ran == ["hold", "at once", "in 10 s", "after 20 s", "in 30 s", "after 40 s"]


def test_those_that_come_due_while_nothing_runs_begin_in_the_order_of_their_times(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        for seconds in (50, 10, 40, 20, 30):
            one.client.start(work.write, f"{seconds}", key="k", delay=seconds, id=f"{seconds}")
    clock.wind(3600)
    with work.life(world, clock) as one:
        for seconds in (10, 20, 30, 40, 50):
            one.client.attach(f"{seconds}").result(5)
    assert work.flags.ran == ["10", "20", "30", "40", "50"]


def test_one_whose_key_is_held_waits_on_after_its_time(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        one.client.start(work.hold, key="k")
        handle = one.client.start(work.write, "late", key="k", delay=10)
        wait_for(lambda: work.flags.ran)
        clock.wind(11)
        tick(one.client)
        wait_for(lambda: handle.status().wake_at is None)
        assert handle.status().status == "queued"
        work.flags.gate("hold").set()
        assert handle.result(5) == "late"


def test_a_delayed_one_takes_its_place_under_a_limit_only_when_its_time_has_come(world):
    clock, flags = FakeClock(), Flags()
    service = Service("S")

    @service.handler(limit=Limit(concurrency=1))
    async def h(ctx: Context, name: str) -> str:
        return await ctx.run(flags.note, name)

    with life(world, service, clock=clock) as one:
        late = one.client.start(h, "late", delay=60)
        assert one.client.start(h, "now").result(5) == "now"
        clock.wind(60)
        tick(one.client)
        assert late.result(5) == "late"


def test_many_that_are_due_at_once_all_begin(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        for n in range(100):
            one.client.start(work.h, f"{n}", delay=10 + n % 3, id=f"{n}")
    clock.wind(60)
    with work.life(world, clock, limits=Limits(running=4, waiting=2, backlog=8)) as one:
        for n in range(100):
            one.client.attach(f"{n}").result(20)
    assert sorted(work.flags.ran, key=int) == [f"{n}" for n in range(100)]


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), timedelta(days=-1), 101 * 366 * 86_400])
def test_a_delay_that_cannot_be_is_refused(world, delay):
    work = Work()
    with work.life(world, None) as one:
        with pytest.raises(BadTimer):
            one.client.start(work.h, delay=delay)
        assert one.client.list() == []


@pytest.mark.parametrize("delay", [0, 0.0, None, timedelta(0)])
def test_no_delay_begins_at_once(world, delay):
    work = Work()
    with work.life(world, None) as one:
        one.client.start(work.h, delay=delay).result(5)


def test_a_delay_of_less_than_a_millisecond_begins(world):
    work = Work()
    with work.life(world, None) as one:
        one.client.start(work.h, delay=1e-9).result(5)


def test_a_clock_that_is_set_back_makes_it_wait_longer_and_it_still_begins(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        handle = one.client.start(work.h, delay=60)
        clock.wind(-3600)
        tick(one.client)
        assert handle.status().status == "queued"
        clock.wind(3660)
        tick(one.client)
        handle.result(5)


def test_sleepers_that_have_not_begun_are_rows_and_no_memory(world):
    clock, work = FakeClock(), Work()
    with work.life(world, clock) as one:
        for n in range(20):
            one.client.start(work.h, delay=3600 + n)
        engine = engine_of(one.client)
        wait_for(lambda: not engine._residents and not engine._numbers and not engine.rows._open)
        assert engine._timers._heap == []
