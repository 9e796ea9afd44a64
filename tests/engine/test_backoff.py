"""Steps between two attempts: they hold no place and no room, and what they tried is known however long they wait."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from holdfast import Context, InvocationCancelled, Limits, Retry, Service, StepFailed, step
from tests.engine.family import status, until
from tests.engine.lives import life
from tests.engine.world import FakeClock, engine_of, open_promise, paused, tick, wait_for

MINUTE = Retry(initial=60, factor=1, jitter=0)


class Outage:
    """A service that is down until the test mends it, and who asks it."""

    def __init__(self, retry=MINUTE):
        self.down = True
        self.attempts = []  # (invocation, attempt), of each body that began
        self.cleaned = []
        self.service = group = Service("Group")

        async def fetch() -> str:
            self.attempts.append((step().invocation, step().attempt))
            if self.down:
                raise ConnectionError("the other side is down")
            return "fetched"

        async def quick() -> str:
            return "quick"

        @group.handler
        async def ask(ctx: Context) -> str:
            try:
                return await ctx.run(fetch, retry=retry)
            except StepFailed as failure:
                return f"{failure.attempts} attempts: {failure.message}"
            except asyncio.CancelledError:
                await ctx.run(self.cleaned.append, ctx.id)
                raise

        @group.handler
        async def both(ctx: Context) -> list[str]:
            return await asyncio.gather(ctx.run(fetch, retry=retry), ctx.promise("answer", type=str))

        @group.handler
        async def called(ctx: Context) -> str:
            return await ctx.promise("answer", type=str)

        @group.handler
        async def calls(ctx: Context) -> list[str]:
            return await asyncio.gather(ctx.run(fetch, retry=retry), ctx.call(called))

        @group.handler
        async def hasty(ctx: Context) -> str:
            try:
                async with asyncio.timeout(90):
                    return await ctx.run(fetch, retry=retry)
            except TimeoutError:
                return "gave up"

        @group.handler
        async def fine(ctx: Context) -> str:
            return await ctx.run(quick)

        self.ask, self.both, self.called, self.calls, self.hasty, self.fine = ask, both, called, calls, hasty, fine

    def life(self, world, clock=None, **options):
        return life(world, self.service, clock=clock or FakeClock(), **options)

    def tried(self, id):
        return [attempt for invocation, attempt in self.attempts if invocation == id]


def retrying(client, id):
    """The step of an invocation that waits for its next attempt, once it does and its row says so."""
    until(client, id, "suspended")
    (view,) = wait_for(lambda: [view for view in client.attach(id).journal() if view.state == "retrying"])
    return view


def wind(one, clock, seconds):
    clock.wind(seconds)
    tick(one.client)


def parked(one):
    wait_for(lambda: not one.engine.residents_count)


@pytest.mark.parametrize("waiting", [0, 99])
def test_those_that_wait_for_their_next_attempt_keep_nobody_else_from_running(world, waiting):
    outage = Outage()
    with outage.life(world, limits=Limits(running=2, bodies=2, waiting=waiting)) as one:
        for n in range(5):
            one.client.start(outage.ask, id=f"x{n}")
        for n in range(5):
            retrying(one.client, f"x{n}")
        assert one.client.start(outage.fine).result(5) == "quick"
        assert not one.engine.admission.running


def test_a_short_wait_holds_no_place_for_bodies_either(world):
    outage = Outage(Retry(initial=0.95, factor=1, jitter=0))
    with outage.life(world, limits=Limits(bodies=1)) as one:
        handle = one.client.start(outage.ask, id="x")
        wait_for(lambda: [view for view in handle.journal() if view.state == "retrying"])
        assert one.client.start(outage.fine).result(5) == "quick"
        assert outage.tried("x") == [1], "it ran while the other one waited"
        outage.down = False
        assert handle.result(5) == "fetched"
        assert outage.tried("x") == [1, 2]


@pytest.mark.parametrize("waiting", [0, 99])
def test_what_was_tried_and_when_it_is_tried_next_is_seen(world, waiting):
    outage, clock = Outage(), FakeClock()
    with outage.life(world, clock, limits=Limits(waiting=waiting)) as one:
        begun = one.client.start(outage.ask, id="x").status().created
        for attempt in (1, 2, 3):
            wait_for(lambda: outage.tried("x") == list(range(1, attempt + 1)))  # noqa: B023
            view = retrying(one.client, "x")
            assert (view.kind, view.id, view.tries) == ("step", "fetch#1", attempt)
            assert view.error == "ConnectionError: the other side is down"
            assert view.started == begun
            assert view.due == begun + timedelta(minutes=attempt)
            assert one.client.attach("x").status().wake_at == view.due
            if not waiting:
                parked(one)
            wind(one, clock, 59.999)
            one.client.start(outage.fine).result(5)
            assert len(outage.attempts) == attempt, "not before its time"
            wind(one, clock, 0.001)
        wait_for(lambda: outage.tried("x") == [1, 2, 3, 4])
        retrying(one.client, "x")
        outage.down = False
        wind(one, clock, 60)
        assert one.client.attach("x").result(5) == "fetched"
        (view,) = one.client.attach("x").journal()
        assert (view.state, view.tries, view.started) == ("done", 5, begun)


@pytest.mark.parametrize("how", ["parked", "dies", "stops"])
def test_attempts_are_counted_on_and_end_as_the_policy_says(world, how):
    outage, clock = Outage(Retry(max_attempts=4, initial=60, factor=1, jitter=0)), FakeClock()
    limits = Limits(waiting=0)
    with contextlib.ExitStack() as lives:
        one = lives.enter_context(outage.life(world, clock, limits=limits))
        one.client.start(outage.ask, id="x")
        for attempt in (1, 2, 3):
            wait_for(lambda: outage.tried("x") == list(range(1, attempt + 1)))  # noqa: B023
            retrying(one.client, "x")
            parked(one)
            if how == "parked":
                wind(one, clock, 60)
                continue
            if how == "dies":
                one.die()
            lives.close()
            clock.wind(30)
            one = lives.enter_context(outage.life(world, clock, limits=limits))
            assert retrying(one.client, "x").tries == attempt
            wind(one, clock, 29.9)
            one.client.start(outage.fine).result(5)
            assert len(outage.attempts) == attempt, "what remains of the wait is waited for"
            wind(one, clock, 0.1)
        assert one.client.attach("x").result(5) == "4 attempts: the other side is down"
    assert outage.tried("x") == [1, 2, 3, 4]


def test_patience_is_measured_from_the_first_attempt_over_lives(world):
    outage, clock = Outage(Retry(max_elapsed=timedelta(minutes=3), initial=60, factor=1, jitter=0)), FakeClock()
    with outage.life(world, clock) as one:
        one.client.start(outage.ask, id="x")
        retrying(one.client, "x")
    clock.wind(150)
    with outage.life(world, clock) as one:
        assert one.client.attach("x").result(5) == "2 attempts: the other side is down"


@pytest.mark.parametrize("kind", ["both", "calls"])
@pytest.mark.parametrize("waiting", [0, 99])
@pytest.mark.parametrize("dies", [False, True])
def test_one_that_is_woken_by_something_else_waits_on(world, kind, waiting, dies):
    outage, clock, limits = Outage(), FakeClock(), Limits(waiting=waiting)
    with outage.life(world, clock, limits=limits) as one:
        one.client.start(getattr(outage, kind), id="x")
        wait_for(lambda: outage.tried("x") == [1])
        retrying(one.client, "x")
        promise = open_promise(one.client)
        if not waiting:
            parked(one)
        clock.wind(20)
        one.client.resolve(promise, "yes")
        wait_for(lambda: [view for view in one.client.attach("x").journal() if view.state == "done"])
        if dies:
            one.die()
        else:
            until(one.client, "x", "suspended")
            assert outage.tried("x") == [1]
            assert retrying(one.client, "x").tries == 1
    outage.down = False
    with outage.life(world, clock, limits=limits) as one:
        until(one.client, "x", "suspended")
        wind(one, clock, 39.999)
        one.client.start(outage.fine).result(5)
        assert outage.tried("x") == [1]
        wind(one, clock, 0.001)
        assert one.client.attach("x").result(5) == ["fetched", "yes"]
    assert outage.tried("x") == [1, 2]


@pytest.mark.parametrize("waiting", [0, 99])
def test_a_timeout_around_it_strikes_while_it_waits(world, waiting):
    outage, clock = Outage(), FakeClock()
    with outage.life(world, clock, limits=Limits(waiting=waiting)) as one:
        handle = one.client.start(outage.hasty, id="x")
        retrying(one.client, "x")
        wind(one, clock, 60)
        wait_for(lambda: outage.tried("x") == [1, 2])
        assert retrying(one.client, "x").tries == 2
        wind(one, clock, 30)
        assert handle.result(5) == "gave up"
        wind(one, clock, 60)
        one.client.start(outage.fine).result(5)
    assert outage.tried("x") == [1, 2]


@pytest.mark.parametrize("waiting", [0, 99])
def test_a_cancel_of_one_that_waits_runs_its_clean_up_and_no_attempt(world, waiting):
    outage, clock = Outage(), FakeClock()
    with outage.life(world, clock, limits=Limits(waiting=waiting)) as one:
        handle = one.client.start(outage.ask, id="x")
        retrying(one.client, "x")
        if not waiting:
            parked(one)
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
        wind(one, clock, 60)
        one.client.start(outage.fine).result(5)
    assert (outage.tried("x"), outage.cleaned) == ([1], ["x"])


@pytest.mark.parametrize("waiting", [0, 99])
def test_one_that_is_paused_and_resumed_tries_anew_at_once(world, waiting):
    outage, clock = Outage(Retry(max_attempts=2, initial=60, factor=1, jitter=0)), FakeClock()
    with outage.life(world, clock, limits=Limits(waiting=waiting)) as one:
        handle = one.client.start(outage.ask, id="x")
        retrying(one.client, "x")
        if not waiting:
            parked(one)
        handle.pause("lunch")
        wind(one, clock, 60)
        one.client.start(outage.fine).result(5)
        assert (outage.tried("x"), status(one.client, "x")) == ([1], "paused")
        handle.resume()
        wait_for(lambda: outage.tried("x") == [1, 1])
        assert retrying(one.client, "x").tries == 1


def test_a_body_that_fails_while_its_invocation_is_paused_is_not_tried_again(world):
    attempts, let_go = [], []

    async def slow() -> None:
        attempts.append(step().attempt)
        while not let_go:
            await asyncio.sleep(0.002)
        raise ConnectionError("down")

    async def h(ctx: Context) -> None:
        await ctx.run(slow, retry=Retry(initial=0.01, factor=1))

    with world.holdfast(h) as client:
        handle = client.start(h)
        wait_for(lambda: attempts == [1])
        handle.pause("lunch")
        let_go.append(1)
        wait_for(lambda: not engine_of(client).residents_count, "it is dropped, for nothing of it runs")
        assert "lunch" in paused(handle)
    assert attempts == [1]


def test_many_steps_of_one_invocation_wait_together(world):
    attempts, clock = [], FakeClock()

    async def fetch(n: int) -> int:
        attempts.append((n, step().attempt))
        if step().attempt < 3:
            raise ConnectionError("x" * 10_000)
        return n

    async def h(ctx: Context) -> int:
        policies = [Retry(initial=60 + n, factor=1, jitter=0) for n in range(40)]
        return sum(await asyncio.gather(*[ctx.run(fetch, n, retry=retry) for n, retry in enumerate(policies)]))

    with life(world, h, clock=clock, limits=Limits(waiting=0, bodies=8)) as one:
        handle = one.client.start(h, id="x")
        for attempt in (1, 2):
            wait_for(lambda: len(attempts) == 40 * attempt)  # noqa: B023
            until(one.client, "x", "suspended")
            parked(one)
            views = handle.journal()
            assert [(view.state, view.tries) for view in views] == [("retrying", attempt)] * 40
            assert len(one.engine.store.find("x").outcome) < 40 * 300
            wind(one, clock, 120)
        assert handle.result(5) == sum(range(40))
    assert len(attempts) == len(set(attempts)) == 120


@pytest.mark.parametrize("initial", [0.05, 1.05])
def test_an_engine_that_has_stopped_makes_no_further_attempt(world, initial):
    outage = Outage(Retry(initial=initial, factor=1, jitter=0))

    async def main():
        async with world.holdfast(outage.service, limits=Limits(drain_seconds=0)) as client:
            await client.start(outage.ask, id="x")
            while not outage.attempts:
                await asyncio.sleep(0)
        await asyncio.sleep(initial + 0.1)

    asyncio.run(main())
    assert outage.tried("x") == [1]
    outage.down = False
    with world.holdfast(outage.service) as client:
        assert client.attach("x").result(5) == "fetched"
