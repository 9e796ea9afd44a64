"""Handlers that run by the clock: cron in its time zone, intervals, what was missed; nothing twice, whatever dies."""

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from holdfast import (
    BadArguments,
    Context,
    EngineStopped,
    Object,
    Service,
    StoreError,
    UnknownHandler,
    UnknownSchedule,
    Workflow,
)
from holdfast.engine.schedules import MADE_UP_MAX, Rule
from tests.engine.lives import Flags, life
from tests.engine.world import FakeClock, engine_of, in_engine, wait_for

BERLIN = "Europe/Berlin"


def ms(text, zone="UTC"):
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def shown(moments, zone="UTC"):
    return [datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).strftime("%m-%d %H:%M%z") for at in moments]


def times(rule, after, count):
    return list(itertools.islice(rule.after(after), count))


@pytest.mark.parametrize(
    "cron, after, expected",
    [
        # In spring 02:00 to 03:00 does not exist: what was due in it comes at its end, once.
        ("30 2 * * *", "2024-03-30T00:00", ["03-30 02:30+0100", "03-31 03:00+0200", "04-01 02:30+0200"]),
        ("10,50 2 * * *", "2024-03-30T12:00", ["03-31 03:00+0200", "04-01 02:10+0200", "04-01 02:50+0200"]),
        ("0 * * * *", "2024-03-31T00:30", ["03-31 01:00+0100", "03-31 03:00+0200", "03-31 04:00+0200"]),
        # In autumn it comes twice: what is due at an hour comes once, what is due every hour twice.
        ("30 2 * * *", "2024-10-26T12:00", ["10-27 02:30+0200", "10-28 02:30+0100"]),
        ("30 * * * *", "2024-10-27T01:00", ["10-27 01:30+0200", "10-27 02:30+0200", "10-27 02:30+0100"]),
        ("0 9 * * 1-5", "2024-10-25T12:00", ["10-28 09:00+0100", "10-29 09:00+0100"]),
        ("0 0 29 2 *", "2024-03-01T00:00", ["02-29 00:00+0100"]),
    ],
)
def test_cron_is_read_in_its_time_zone(cron, after, expected):
    rule = Rule(cron=cron, zone=BERLIN)
    assert shown(times(rule, ms(after, BERLIN), len(expected)), BERLIN) == expected


ZONES = [
    "UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu", "Africa/Casablanca",
    "Pacific/Apia",
]  # fmt: skip
CRONS = ["30 2 * * *", "*/15 * * * *", "10,50 2 * * *", "*/7 1-3 * * *", "0 0 * * *", "15 0-4 31 3 *"]


def changes(zone):
    """The moments of a year at which a zone's clocks are changed."""
    hours = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(366 * 24)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    found = [int(hours[n].timestamp()) * 1000 for n in range(1, len(hours)) if offsets[n] != offsets[n - 1]]
    return found or [ms("2024-01-01T00:00")]


@pytest.mark.parametrize("zone", ZONES)
def test_the_next_time_is_always_later_whatever_the_clocks_do(zone):
    for change, cron in itertools.product(changes(zone), CRONS):
        rule = Rule(cron=cron, zone=zone)
        for minutes in range(-180, 180, 13):
            moment = change + minutes * 60_000 + 123
            found = times(rule, moment, 4)
            assert found == sorted(set(found))
            assert found[0] > moment
            assert times(rule, found[0], 3) == found[1:]


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "Australia/Lord_Howe"])
@pytest.mark.parametrize("cron", [*CRONS, "*/5 * * * *", "0 12 * * 0"])
def test_the_last_times_that_are_due_are_those_that_come_one_after_another(zone, cron):
    rule = Rule(cron=cron, zone=zone)
    for change, days in itertools.product(changes(zone), (0.1, 2, 50)):
        first = next(rule.after(change - 86_400_000))
        now = int(first + days * 86_400_000)
        all_of_them = list(itertools.takewhile(lambda when: when <= now, rule.after(first - 1)))  # noqa: B023
        for limit in (1, 3, 1_000):
            assert rule.due(first, now, limit) == all_of_them[-limit:]


def test_years_of_minutes_are_made_up_for_in_a_moment():
    for rule in (Rule(cron="* * * * *"), Rule(every_ms=1_000)):
        first = next(rule.after(ms("2000-01-01T00:00")))
        began = time.monotonic()
        assert len(rule.due(first, ms("2024-01-01T00:00"), MADE_UP_MAX)) == MADE_UP_MAX
        assert len(rule.due(first, ms("2024-01-01T00:00"), 1)) == 1
        assert time.monotonic() - began < 2


def test_an_interval_counts_from_when_it_was_due_and_not_from_when_it_came():
    rule = Rule(every_ms=60_000)
    assert times(rule, 1_000_000, 2) == [1_060_000, 1_120_000]
    assert list(itertools.islice(rule.after(1_500_001, since=1_060_000), 2)) == [1_540_000, 1_600_000]
    assert rule.due(1_060_000, 1_240_000, 9) == [1_060_000, 1_120_000, 1_180_000, 1_240_000]


class Clocked:
    """A program with a schedule."""

    def __init__(self, **schedule):
        self.flags = flags = Flags()
        self.clock = FakeClock()
        self.schedule = schedule
        self.service = service = Service("S")

        @service.handler
        async def report(ctx: Context, name: str = "report") -> str:
            await ctx.run(flags.note, name)
            return ctx.now().isoformat()

        @service.handler
        async def other(ctx: Context) -> str:
            return await ctx.run(flags.note, "other")

        self.report, self.other = report, other

    def life(self, world, *schedules, **options):
        given = schedules or (self.schedule,)

        def declare(hf):
            for one in given:
                one = {"handler": self.report, "id": "s", **one}  # noqa: PLW2901
                hf.schedule(one.pop("handler"), *one.pop("args", ()), **one)

        return life(world, self.service, clock=self.clock, declare=declare, **options)

    def wind(self, one, seconds):
        self.clock.wind(seconds)
        tick(one)

    def fired(self, one):
        return sorted(view.id for view in one.client.list(limit=1_000))


def tick(one):
    """The moment the timer would come: the clock is the test's, the loop's is not."""
    in_engine(one.client, engine_of(one.client).schedules._tick)
    one.client._thread.call(engine_of(one.client).durable())


def view_of(one, id="s"):
    (view,) = [view for view in one.client.schedules() if view.id == id]
    return view


def test_it_fires_at_its_times_and_says_so(world):
    work = Clocked(cron="0 * * * *", args=["hourly"])
    work.clock.ms = ms("2024-01-01T10:30")
    with work.life(world) as one:
        view = view_of(one)
        assert (view.target, view.rule, view.zone, view.missed) == ("S/report", "0 * * * *", "UTC", "once")
        assert (view.next_at, view.last_at, view.last_id, view.paused) == (
            datetime(2024, 1, 1, 11, tzinfo=UTC), None, None, False,
        )  # fmt: skip
        work.wind(one, 1799.9)
        assert work.fired(one) == []
        work.wind(one, 0.1)
        assert work.fired(one) == ["s@2024-01-01T11:00:00Z"]
        assert one.client.attach("s@2024-01-01T11:00:00Z").result(5) == "2024-01-01T11:00:00+00:00"
        work.wind(one, 3600)
        assert len(work.fired(one)) == 2
        view = view_of(one)
        assert view.last_at == datetime(2024, 1, 1, 12, tzinfo=UTC)
        assert view.last_id == "s@2024-01-01T12:00:00Z"
        assert view.next_at == datetime(2024, 1, 1, 13, tzinfo=UTC)
        wait_for(lambda: work.flags.ran == ["hourly", "hourly"])


def test_its_own_timer_comes(world):
    flags = Flags()
    service = Service("S")

    @service.handler
    async def report(ctx: Context) -> None:
        await ctx.run(flags.note, "report")

    with life(world, service, declare=lambda hf: hf.schedule(report, id="s", every=1)):
        wait_for(lambda: len(flags.ran) >= 2)


def test_nothing_fires_twice_whatever_commit_is_the_last(world):
    for keeps_last in (False, True):
        for commit in range(1, 8):
            work = Clocked(every=60)
            work.schedule["id"] = f"s{commit}{keeps_last}"
            with work.life(world):
                pass
            work.clock.wind(60)
            with work.life(world, dies_at=commit, keeps_last=keeps_last) as one:
                wait_for(lambda: one.store.dead or (work.flags.ran and one.client.list(status="done")))  # noqa: B023
            work.clock.wind(1)
            for _ in range(2):
                with work.life(world) as one:
                    id = f"{work.schedule['id']}@"
                    started = [view for view in one.client.list(limit=99) if view.id.startswith(id)]
                    assert len(started) == 1
                    one.client.attach(started[0].id).result(5)
            assert len(work.flags.runs) == 1, (commit, keeps_last)


@pytest.mark.parametrize(
    "missed, expected", [("once", [5]), ("skip", []), ("all", [1, 2, 3, 4, 5])], ids=["once", "skip", "all"]
)
def test_what_was_missed_while_nothing_ran(world, missed, expected):
    work = Clocked(every=3600, missed=missed)
    with work.life(world) as one:
        first = view_of(one).next_at
    work.clock.wind(5 * 3600 + 1800)
    with work.life(world) as one:
        tick(one)
        times = [first + timedelta(hours=n - 1) for n in expected]
        assert work.fired(one) == [f"s@{at:%Y-%m-%dT%H:%M:%SZ}" for at in times]
        assert view_of(one).next_at == first + timedelta(hours=5)
        work.wind(one, 1800)
        assert len(work.fired(one)) == len(expected) + 1
    with work.life(world) as one:
        assert len(work.fired(one)) == len(expected) + 1


@pytest.mark.parametrize("late, fires", [(59, True), (61, False)])
def test_a_little_late_is_not_missed(world, late, fires):
    work = Clocked(every=3600, missed="skip")
    with work.life(world):
        pass
    work.clock.wind(3600 + late)
    with work.life(world) as one:
        tick(one)
        assert bool(work.fired(one)) is fires


def test_of_very_many_missed_the_last_are_made_up_for(world, monkeypatch):
    monkeypatch.setattr("holdfast.engine.schedules.MADE_UP_MAX", 20)
    work = Clocked(every=60, missed="all")
    with work.life(world):
        pass
    work.clock.wind(100 * 60)
    with work.life(world) as one:
        tick(one)
        assert len(work.fired(one)) == 20
        last = datetime.fromtimestamp(work.clock.ms / 1000, UTC)
        assert work.fired(one)[-1] == f"s@{last:%Y-%m-%dT%H:%M:%SZ}"


def test_paused_it_does_not_fire_and_what_passed_is_not_made_up_for(world):
    work = Clocked(every=60, missed="all")
    with work.life(world) as one:
        one.client.pause_schedule("s")
        assert view_of(one).paused
        work.wind(one, 600)
        one.client.pause_schedule("s")
        one.die()
    with work.life(world) as one:
        tick(one)
        assert work.fired(one) == []
        work.clock.wind(30)
        one.client.resume_schedule("s")
        one.client.resume_schedule("s")
        tick(one)
        assert work.fired(one) == []
        view = view_of(one)
        assert not view.paused
        assert view.next_at > datetime.fromtimestamp(work.clock.ms / 1000, UTC)
        work.wind(one, 60)
        assert len(work.fired(one)) == 1


def test_a_trigger_fires_beside_the_times(world):
    work = Clocked(every=3600, args=["mine"])
    with work.life(world) as one:
        before = view_of(one)
        handles = [one.client.trigger_schedule("s") for _ in range(3)]
        assert len({handle.id for handle in handles}) == 3
        assert all(handle.id.startswith("s@") for handle in handles)
        for handle in handles:
            handle.result(5)
        assert view_of(one).next_at == before.next_at
        one.client.pause_schedule("s")
        one.client.trigger_schedule("s").result(5)
        work.wind(one, 3600)
    assert work.flags.ran == ["mine"] * 4


def test_a_changed_declaration_counts_from_now_and_keeps_the_pause(world):
    work = Clocked(every=3600, args=["old"])
    with work.life(world):
        pass
    work.clock.wind(3000)
    with work.life(world, {"every": 60, "args": ["new"]}) as one:
        tick(one)
        assert work.fired(one) == []
        work.wind(one, 60)
        wait_for(lambda: work.flags.ran == ["new"])
        one.client.pause_schedule("s")
        last = view_of(one).last_id
    with work.life(world, {"every": 90}) as one:
        view = view_of(one)
        assert (view.paused, view.rule, view.last_id) == (True, "every 90 s", last)
        work.wind(one, 900)
        assert len(work.fired(one)) == 1
    with work.life(world, {"cron": "0 0 1 1 *", "handler": work.other}) as one:
        view = view_of(one)
        assert (view.rule, view.target) == ("0 0 1 1 *", "S/other")


@pytest.mark.parametrize("change", [{"every": 7}, {"args": ["x"]}, {"missed": "all"}, {"cron": "1 1 1 1 1"}], ids=str)
def test_an_unchanged_declaration_keeps_its_time_and_every_change_is_seen(world, change):
    base = {"every": 3600}
    work = Clocked(**base)
    with work.life(world) as one:
        first = view_of(one).next_at
    work.clock.wind(600)
    with work.life(world) as one:
        assert view_of(one).next_at == first
    changed = {key: value for key, value in {**base, **change}.items() if key != "every" or "cron" not in change}
    with work.life(world, changed) as one:
        assert view_of(one).next_at != first


def test_long_intervals_that_are_nearly_alike_are_told_apart(world):
    work = Clocked(every=1_234_567)
    with work.life(world) as one:
        first = view_of(one).next_at
    with work.life(world, {"every": 1_234_568}) as one:
        assert view_of(one).next_at == first + timedelta(seconds=1)
        one.client.pause_schedule("s")
    with work.life(world, {"every": 1_234_568}) as one:
        one.client.resume_schedule("s")
        assert view_of(one).next_at == first + timedelta(seconds=1)


def test_a_removed_one_is_gone_and_what_it_started_is_not(world):
    work = Clocked(every=60)
    with work.life(world) as one:
        work.wind(one, 60)
        assert len(work.fired(one)) == 1
    with work.life(world, {"id": "another", "every": 60}) as one:
        tick(one)
        assert [view.id for view in one.client.schedules()] == ["another"]
        with pytest.raises(UnknownSchedule):
            one.client.pause_schedule("s")
        work.wind(one, 600)
        assert [id for id in work.fired(one) if id.startswith("s@")] == [work.fired(one)[-1]]
    with work.life(world) as one:
        tick(one)
        assert view_of(one).last_id is None, "it is a new one"


def test_several_schedules_do_not_mix(world):
    work = Clocked()
    with work.life(
        world,
        {"id": "a", "every": 60, "args": ["a"]},
        {"id": "b", "every": 90, "args": ["b"]},
        {"id": "c", "cron": "0 0 1 1 *", "args": ["c"]},
    ) as one:
        for _ in range(6):
            work.wind(one, 30)
        wait_for(lambda: len(work.flags.ran) == 5)
        assert sorted(work.flags.ran) == ["a", "a", "a", "b", "b"]
        assert [view.id for view in one.client.schedules()] == ["a", "b", "c"]


def test_a_clock_that_is_set_back_makes_it_wait_and_nothing_fires_twice(world):
    work = Clocked(every=60)
    with work.life(world) as one:
        work.wind(one, 60)
        assert len(work.fired(one)) == 1
        work.wind(one, -3600)
        assert len(work.fired(one)) == 1
    with work.life(world) as one:
        work.wind(one, 3590)
        assert len(work.fired(one)) == 1
        work.wind(one, 70)
        assert len(work.fired(one)) == 2


def test_an_object_is_written_in_its_turn_and_a_workflow_runs_once_per_key(world):
    flags, clock = Flags(), FakeClock()
    desk, flow = Object("Desk"), Workflow("Flow")

    @desk.handler
    async def write(ctx: Context) -> int:
        ctx.set("n", ctx.get("n", int, 0) + 1)
        return await ctx.run(abs, 1)

    @flow.main
    async def run(ctx: Context) -> str:
        await ctx.run(flags.note, "run")
        return "done"

    def declare(hf):
        hf.schedule(write, id="desk", every=60, key="k", missed="all")
        hf.schedule(run, id="flow", every=60, key="k", missed="all")

    with life(world, desk, flow, clock=clock, declare=declare):
        pass
    clock.wind(300)
    with life(world, desk, flow, clock=clock, declare=declare) as one:
        tick(one)
        wait_for(lambda: one.client.state("Desk", "k") == {"n": 5})
        assert view_of(one, "flow").last_id == "Flow:k"
        assert one.client.attach("Flow:k").result(5) == "done"
        assert one.client.trigger_schedule("flow").id == "Flow:k"
        assert one.client.trigger_schedule("flow").result(5) == "done"
    assert flags.ran == ["run"]


def test_a_schedule_whose_handler_is_gone_cannot_be_declared(world):
    work = Clocked(every=60, handler="S/nothing")
    with pytest.raises(UnknownHandler), work.life(world):
        pass


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"cron": "* * * * *", "every": 60},
        {"cron": "* * * *"},
        {"cron": "* * * * * *"},
        {"cron": "61 * * * *"},
        {"cron": "0 0 30 2 *"},
        {"cron": ""},
        {"cron": "every 5"},
        {"cron": "* * * * *", "zone": "Mars/Olympus"},
        {"cron": "* * * * *", "zone": "../../etc/passwd"},
        {"cron": "* * * * *", "zone": ""},
        {"every": 0.5},
        {"every": -1},
        {"every": float("nan")},
        {"every": timedelta(days=4000)},
        {"every": 60, "missed": "sometimes"},
        {"every": 60, "id": ""},
        {"every": 60, "key": "needless"},
        {"every": 60, "args": [1]},
    ],
    ids=str,
)
def test_what_no_clock_can_follow_is_refused(memory_world, wrong):
    work = Clocked(**wrong)
    with pytest.raises(BadArguments), work.life(memory_world):
        pass


def test_an_id_is_declared_once(memory_world):
    work = Clocked()
    with (
        pytest.raises(BadArguments, match="a schedule 's' already"),
        work.life(memory_world, {"every": 60}, {"every": 9}),
    ):
        pass


def test_an_unknown_schedule_is_told(world):
    work = Clocked(every=60)
    with work.life(world) as one:
        for attempt in (one.client.pause_schedule, one.client.resume_schedule, one.client.trigger_schedule):
            with pytest.raises(UnknownSchedule, match="no schedule has the id 'nobody'"):
                attempt("nobody")


def test_when_the_engine_has_ended_nobody_is_left_waiting(world):
    work = Clocked(every=60)
    with work.life(world) as one:
        client = one.client._client
        one.die()
        for work in (client.pause_schedule("s"), client.resume_schedule("s"), client.trigger_schedule("s")):
            with pytest.raises((StoreError, EngineStopped)):
                one.client._thread.call(asyncio.wait_for(work, 2))


@pytest.mark.parametrize("code", [True, False], ids=["with code", "without"])
def test_while_nothing_runs_it_is_paused_resumed_and_fires_nothing(world, code):
    work = Clocked(every=60, missed="all")
    with work.life(world) as one:
        one.client.pause_schedule("s")

    async def rest(what):
        hf = world.holdfast(*([work.service] if code else []), clock=work.clock)
        if code:
            hf.schedule(work.report, id="s", every=60, missed="all")
            hf.schedule(work.report, id="unborn", every=60)
        async with hf.resting() as client:
            await what(client)
            await asyncio.sleep(0.01)
            return next(view for view in await client.schedules() if view.id == "s")

    work.clock.wind(600)

    async def resume(client):
        await client.resume_schedule("s")
        work.clock.wind(120)
        await client.resume_schedule("s")  # now it is due, and nothing runs here
        await asyncio.sleep(0.02)
        work.clock.wind(-120)
        assert await client.list() == []

    view = asyncio.run(rest(resume))
    assert not view.paused
    assert view.next_at > datetime.fromtimestamp(work.clock.ms / 1000, UTC)
    work.clock.wind(30)
    with work.life(world) as one:
        tick(one)
        assert work.fired(one) == [], "the times of the pause are not made up for"
    view = asyncio.run(rest(lambda client: client.pause_schedule("s")))
    assert view.paused
    work.clock.wind(600)
    with work.life(world) as one:
        tick(one)
        assert work.fired(one) == []
        assert view_of(one).paused


def test_while_nothing_runs_a_trigger_is_kept_for_the_next_program(world):
    work = Clocked(every=3600)

    async def rest():
        hf = world.holdfast(work.service, clock=work.clock)
        hf.schedule(work.report, id="s", every=3600)
        async with hf.resting() as client:
            return (await client.trigger_schedule("s")).id

    with work.life(world):
        pass
    id = asyncio.run(rest())
    assert work.flags.ran == []
    with work.life(world) as one:
        one.client.attach(id).result(5)
    assert work.flags.ran == ["report"]
