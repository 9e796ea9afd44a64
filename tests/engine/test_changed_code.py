"""Code, names or bytes that changed under invocations in flight: caught, explained, paused, nothing lost (G3, G10)."""

import asyncio
import contextlib

import pytest

from holdfast import (
    Context,
    InvocationFailed,
    InvocationPaused,
    Limits,
    MemoryStore,
    Service,
    StoreCorrupt,
    WrongStatus,
)
from holdfast.stores.base import Batch, EntryRow
from tests.engine.world import FakeClock, Wrapped, engine_of, open_promise, paused, tick, wait_for

HOLD = Limits(drain_seconds=0)


def status(client, id):
    return client.attach(id).status().status


def named(name, *, waits="promise"):
    async def h(ctx: Context) -> str:
        first = await ctx.run(str.upper, "paid", returns=str)
        if waits == "promise":
            await ctx.promise("hold")
        elif waits == "timer":
            await asyncio.sleep(3600)
        else:
            await ctx.run(asyncio.sleep, 3600 if waits == "body" else 0)
        return first

    h.__name__ = name
    return h


def test_a_renamed_handler_pauses_what_runs_and_goes_on_when_it_is_put_back(world):
    with world.holdfast(named("plan", waits="body"), limits=HOLD) as client:
        client.start("plan", id="x")
        wait_for(lambda: len(client.attach("x").journal()) == 2)
    before = world.journal("x")
    with world.holdfast(named("plan_trip", waits="body")) as client:
        reason = paused(client.attach("x"))
        assert "no handler 'plan' is registered; known: plan_trip" in reason
        assert "renamed or removed" in reason
        client.resume("x")
        assert "no handler 'plan'" in paused(client.attach("x")), "a resume without the handler pauses again"
    assert world.journal("x") == before
    with world.holdfast(named("plan", waits="nothing")) as client:
        assert status(client, "x") == "paused"
        client.resume("x")
        assert client.attach("x").result(20) == "PAID"


def test_a_renamed_handler_lets_sleepers_sleep_and_pauses_them_when_they_wake(world):
    clock = FakeClock()
    with world.holdfast(named("plan", waits="timer"), clock=clock) as client:
        client.start("plan", id="x")
        wait_for(lambda: status(client, "x") == "suspended")
    with world.holdfast(named("other"), clock=clock) as client:
        assert status(client, "x") == "suspended"
        clock.wind(3600)
        tick(client)
        assert "no handler 'plan'" in paused(client.attach("x"))
    with world.holdfast(named("plan", waits="timer"), clock=clock) as client:
        client.resume("x")
        assert client.attach("x").result(20) == "PAID"


def test_a_service_that_is_not_given_any_more_pauses_its_invocations_and_no_others(world):
    trips, mail = Service("Trips"), Service("Mail")
    plan, send = trips.handler(named("plan")), mail.handler(named("send", waits="body"))
    with world.holdfast(trips, mail, limits=HOLD) as client:
        for x in range(3):
            client.start(send, id=f"mail-{x}")
        client.start(plan, id="trip")
        open_promise(client)
    with world.holdfast(trips) as client:
        for x in range(3):
            assert "no handler 'Mail/send'" in paused(client.attach(f"mail-{x}"))
        client.resolve(open_promise(client))
        assert client.attach("trip").result(20) == "PAID"


async def first(ctx: Context) -> str:
    return await ctx.run(str.upper, "a", name="first", returns=str)


async def second(ctx: Context, word: str = "b") -> str:
    return await ctx.run(str.upper, word, name="second", returns=str)


def version(*parts):
    """A handler that does the parts one after another and then waits for a word."""

    async def h(ctx: Context) -> str:
        said = [await part(ctx) for part in parts]
        said.append(await ctx.promise("word", type=str))
        return " ".join(said)

    return h


CHANGES = {
    "a step was removed": (version(second), "'first#1'"),
    "all steps were removed": (version(), "'first#1'"),
    "the order was changed": (version(second, first), "'first#1'"),
    "a step was put in front": (version(lambda ctx: ctx.run(len, "x", returns=str), first, second), "'first#1'"),
    "a step was renamed": (
        version(first, lambda ctx: ctx.run(str.upper, "b", name="third", returns=str)),
        "'second#1'",
    ),
    "an argument was changed": (version(first, lambda ctx: second(ctx, "c")), "other arguments"),
    "a timer was put between": (version(first, lambda ctx: asyncio.sleep(60, "z"), second), "'second#1'"),
    "the handler ends before": (lambda: None, "the handler ended"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_code_is_paused_with_both_paths_and_the_old_code_finishes(world, change):
    changed, says = CHANGES[change]
    if change == "the handler ends before":

        async def h(ctx: Context) -> str:
            return await first(ctx)

        changed = h
    old = version(first, second)
    with world.holdfast(old) as client:
        client.start(old, id="x")
        open_promise(client)
    before = world.journal("x")
    for _ in range(2):
        with world.holdfast(changed) as client:
            with contextlib.suppress(WrongStatus):  # in the first round it is not paused yet
                client.resume("x")
            promise = open_promise(client)
            with pytest.raises(WrongStatus, match="cannot be rebuilt"):
                client.resolve(promise, "too early")
            reason = paused(client.attach("x"))
            assert says in reason
            assert "recorded: first#1 > second#1" in reason
            assert "  now: " in reason
            assert "put the old code back and resume" in reason
            assert "likely cause" in reason
        assert world.journal("x") == before, "nothing is overwritten"
    with world.holdfast(old) as client:
        client.resume("x")
        client.resolve(open_promise(client), "c")
        assert client.attach("x").result(20) == "A B c"


def test_code_may_be_changed_beyond_what_was_recorded(world):
    old = version(first)
    with world.holdfast(old) as client:
        client.start(old, id="x")
        open_promise(client)

    async def h(ctx: Context) -> str:
        said = [await first(ctx), await ctx.promise("word", type=str)]
        return " ".join([*said, await second(ctx, "new")])

    with world.holdfast(h) as client:
        client.resolve(open_promise(client), "b")
        assert client.attach("x").result(20) == "A b NEW"


def test_a_handler_may_be_moved_to_another_module_and_its_local_names_changed(world):
    def one():
        async def h(ctx: Context, goal: str) -> str:
            got = await ctx.run(str.upper, goal, returns=str)
            return got + await ctx.promise("p", type=str)

        return h

    def other():
        async def h(context: Context, goal: str, extra: int = 0) -> str:
            renamed = await context.run(str.upper, goal, returns=str)
            return renamed + await context.promise("p", type=str) + "!" * extra

        other_h = h
        other_h.__module__ = "somewhere.else"
        return other_h

    with world.holdfast(one()) as client:
        client.start("h", "rome", id="x")
        open_promise(client)
    with world.holdfast(other()) as client:
        client.resolve(open_promise(client), "?")
        assert client.attach("x").result(20) == "ROME?"


def test_a_signature_that_no_longer_takes_what_was_stored_pauses_with_the_reason(world):
    def code(changed):
        if changed:

            async def h(ctx: Context, city: str) -> str:
                return city
        else:

            async def h(ctx: Context, goal: str) -> str:
                return goal + await ctx.promise("p", type=str)

        return h

    with world.holdfast(code(changed=False)) as client:
        client.start("h", "rome", id="x")
        open_promise(client)
    with world.holdfast(code(changed=True)) as client:
        with pytest.raises(WrongStatus, match="cannot be rebuilt"):
            client.resolve(open_promise(client), "!")
        reason = paused(client.attach("x"))
        assert "the stored arguments do not fit h(): 'goal' is not a parameter" in reason
    with world.holdfast(code(changed=False)) as client:
        client.resume("x")
        client.resolve(open_promise(client), "!")
        assert client.attach("x").result(20) == "rome!"


def test_a_handler_that_depends_on_chance_from_outside_is_caught_on_replay(world):
    outside = iter(range(100))

    async def h(ctx: Context) -> None:
        await ctx.run(abs, next(outside))
        await ctx.promise("hold")

    with world.holdfast(h) as client:
        client.start(h, id="x")
        open_promise(client)
    with world.holdfast(h) as client:
        with pytest.raises(WrongStatus, match="cannot be rebuilt"):
            client.resolve(open_promise(client))
        reason = paused(client.attach("x"))
        assert "step 'abs#1' was recorded with other arguments" in reason
        assert "the clock, from random numbers" in reason


def test_an_unreadable_journal_entry_stops_its_invocation_and_no_other(world):
    async def h(ctx: Context, x: int) -> int:
        await ctx.run(abs, x)
        await ctx.promise("hold")
        return x

    with world.holdfast(h) as client:
        for x in range(3):
            client.start(h, x, id=f"x{x}")
        wait_for(lambda: len(engine_of(client).store.open_promises(9)) == 3)
    with world.opened() as store:
        store.commit(Batch(entries=[EntryRow(store.find("x1").n, 1, b"\x01\xc1 this is no entry")]))
    before = world.journal("x1")
    with world.holdfast(h) as client:
        for row in engine_of(client).store.open_promises(9):
            with contextlib.suppress(WrongStatus):
                client.resolve(row.id)
        assert client.attach("x0").result(20) == 0
        assert client.attach("x2").result(20) == 2
        assert "a stored record does not decode" in paused(client.attach("x1"))
    assert world.journal("x1") == before


class Damaged(Wrapped):
    """Reading one invocation's rows fails, as on a damaged page."""

    def __init__(self, inner, what, id):
        super().__init__(inner)
        self.what = what
        self.id = id

    def _check(self, what, n):
        row = self.inner.find(self.id)
        if what == self.what and row is not None and row.n == n:
            raise StoreCorrupt("a page of the file is damaged", fix="restore a backup")

    def get(self, n):
        self._check("get", n)
        return self.inner.get(n)

    def entries(self, n):
        self._check("entries", n)
        return self.inner.entries(n)

    def blob_digests(self, n):
        self._check("blob_digests", n)
        return self.inner.blob_digests(n)

    def promises_of(self, n):
        self._check("promises_of", n)
        return self.inner.promises_of(n)


@pytest.mark.parametrize("what", ["get", "entries", "blob_digests", "promises_of"])
def test_a_damaged_page_stops_the_invocation_that_needs_it_and_no_other(world, what):
    async def say(word: str) -> str:
        return word * 400

    async def h(ctx: Context) -> int:
        first = await ctx.run(say, "a")
        waits = ctx.promise("never")
        await asyncio.sleep(60)
        waits.cancel()
        return len(first + await ctx.run(say, "b"))

    clock = FakeClock()
    with world.holdfast(h, clock=clock) as client:
        for id in ("a", "b", "c"):
            client.start(h, id=id)
        wait_for(lambda: len(engine_of(client).store.open_promises(9)) == 3)
    clock.wind(60)
    with world.holdfast(h, clock=clock, wrap=lambda inner: Damaged(inner, what, "b")) as client:
        assert client.attach("a").result(3) == 800
        assert client.attach("c").result(3) == 800
        if what == "get":  # not even its status can be written: it stays as it is until the file is mended
            with pytest.raises(TimeoutError):
                client.attach("b").result(0.05)
        else:
            assert "a page of the file is damaged" in paused(client.attach("b"))
    with world.holdfast(h, clock=clock) as client:
        if what != "get":
            client.resume("b")
        assert client.attach("b").result(3) == 800


def test_a_paused_invocation_survives_any_number_of_restarts(world):
    async def h(ctx: Context) -> None:
        async def body() -> None:
            raise TypeError("a slip")

        await ctx.run(body)

    with world.holdfast(h) as client:
        reason = paused(client.start(h, id="x"))
    for _ in range(3):
        with world.holdfast(h) as client:
            assert client.attach("x").status().reason == reason
            assert [view.id for view in client.list(status="paused")] == ["x"]
            with pytest.raises(InvocationPaused):
                client.attach("x").result(1)


def test_a_journal_with_a_gap_or_too_much_is_never_run_past(memory_world):
    """Entries written by nobody: as after a restore of half a backup."""

    async def h(ctx: Context) -> int:
        return await ctx.run(abs, 1) + await ctx.run(abs, 2)

    store = MemoryStore()
    world = memory_world
    world._memory = store
    with world.holdfast(h) as client:
        client.start(h, id="x").result(20)
    entries = world.journal("x")
    with world.holdfast(h) as client:
        client.start(h, id="y").result(20)
    with world.opened():
        row = store.find("y")
        store._entries[row.n] = {0: entries[1]}
        store._invocations[row.n] = row._replace(status=0, outcome=None)
    with world.holdfast(h) as client:
        assert "the journal's entry 0 completes 'abs#2'" in paused(client.attach("y"))


def test_a_failed_invocation_stays_failed(world):
    async def h(ctx: Context) -> None:
        raise ValueError("no")

    async def fixed(ctx: Context) -> None: ...

    fixed.__name__ = "h"
    with world.holdfast(h) as client:
        client.start(h, id="x")
    with world.holdfast(fixed) as client, pytest.raises(InvocationFailed, match="ValueError: no"):
        client.start(fixed, id="x").result(20)
