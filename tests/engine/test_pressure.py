"""Many that wait at once: for places under limits, keys of objects and room. None starves, and each queue keeps its
order."""

import asyncio
from itertools import pairwise

import pytest

from holdfast import Context, Limit, Limits, Object, Service
from holdfast.core.entries import Cancelled
from holdfast.core.invocation import Move
from holdfast.errors import StoreCorrupt
from tests.engine.lives import DEAD, Flags, Held, life
from tests.engine.world import FakeClock, World, Wrapped, engine_of, wait_for


class Crew:
    """An object whose `work` is limited over all keys, and whose `hold` takes a key without a place."""

    def __init__(self, limit, *, shared=False):
        flags = self.flags = Flags()
        crew = self.service = Object("Crew")

        @crew.handler(limit=limit, shared=shared)
        async def work(ctx: Context, name: str) -> str:
            return await ctx.run(flags.body, name)

        @crew.handler
        async def hold(ctx: Context) -> None:
            await ctx.receive("go")

        self.work, self.hold = work, hold


def status_of(client, id):
    return client.attach(id).status().status


@pytest.mark.parametrize("how", ["kill", "cancel"])
def test_those_that_are_given_up_in_the_queue_keep_nobody_from_the_place_they_waited_for(world, how):
    crew = Crew(Limit(concurrency=1))
    with life(world, crew.service) as one:
        first = one.client.start(crew.work, "first", key="first")
        wait_for(lambda: crew.flags.ran == ["first"])
        given_up = [one.client.start(crew.work, "never", key=f"k{n}") for n in range(40)]
        one.client.start(crew.work, "last", key="last")
        for handle in given_up:
            getattr(handle, how)()
        crew.flags.gate("first").set()
        assert first.result(5) == "first"
        wait_for(lambda: crew.flags.ran == ["first", "last"])


def test_a_queue_that_is_given_up_in_the_turn_in_which_it_is_named(world):
    group, flags = Service("Group"), Flags()

    @group.handler(limit=Limit(concurrency=1))
    async def work(ctx: Context, name: str) -> str:
        return await ctx.run(flags.body, name)

    with life(world, group) as one:
        one.client.start(work, "first")
        wait_for(lambda: flags.ran == ["first"])
        given_up = [one.client.start(work, "never").id for _ in range(40)]
        one.client.start(work, "last")
        engine, admit = one.engine, one.engine.admission._admit

        def first_kill():
            engine.admission._admit = admit
            for id in given_up:
                engine.rows.end(engine.rows.find(id), Move.KILL, Cancelled("nobody wants it"))
            admit()

        engine.admission._admit = first_kill
        flags.gate("first").set()
        wait_for(lambda: flags.ran == ["first", "last"])


def test_those_behind_a_held_key_keep_nobody_from_a_place_whatever_their_handler_was(world):
    """It took keys when they were queued, and takes none now."""
    before, now = Crew(Limit(concurrency=1)), Crew(Limit(concurrency=1), shared=True)
    with life(world, before.service) as one:
        one.client.start(before.hold, key="k", id="holder")
        wait_for(lambda: status_of(one.client, "holder") == "suspended")
        for n in range(40):
            one.client.start(before.work, f"k{n}", key="k", id=f"k{n}")
    with life(world, now.service) as one:
        one.client.start(now.work, "a", key="a")
        one.client.start(now.work, "b", key="b")
        wait_for(lambda: now.flags.ran == ["a"])
        now.flags.gate("a").set()
        wait_for(lambda: now.flags.ran == ["a", "b"])
        now.flags.gate("b").set()
        one.client.attach("holder").signal("go")
        for n in range(40):
            now.flags.gate(f"k{n}").set()
            assert one.client.attach(f"k{n}").result(5) == f"k{n}"
    assert now.flags.ran == ["a", "b", *(f"k{n}" for n in range(40))]


def test_over_many_keys_a_place_goes_to_the_longest_waiting_also_where_one_was_resumed(world):
    crew = Crew(Limit(concurrency=1))
    with life(world, crew.service, clock=FakeClock()) as one:  # all in one millisecond
        one.client.start(crew.work, "first", key="first")
        wait_for(lambda: crew.flags.ran == ["first"])
        for name in "abc":
            one.client.start(crew.work, name, key=name, id=name)
        one.client.attach("a").pause()
        one.client.attach("a").resume()
        for name in ("first", "a", "b", "c"):
            crew.flags.gate(name).set()
        for name in "abc":
            assert one.client.attach(name).result(5) == name
    assert crew.flags.ran == ["first", "b", "c", "a"]


def test_of_one_key_the_order_is_that_of_arrival_also_when_the_clock_is_set_back(world):
    crew, clock = Crew(Limit(concurrency=1)), FakeClock()
    names = ["first", "a", "b", "c", "d"]
    with life(world, crew.service, clock=clock) as one:
        for name in names:
            one.client.start(crew.work, name, key="k", id=name)
            clock.wind(-1 if name in {"first", "b"} else 0)
        one.client.attach("b").pause()
        one.client.attach("b").resume()
        for name in names:
            crew.flags.gate(name).set()
        for name in names:
            assert one.client.attach(name).result(5) == name
    assert crew.flags.ran == ["first", "a", "c", "d", "b"]


def test_a_key_with_many_that_wait_does_not_overtake_one_of_another_key(world):
    crew = Crew(Limit(concurrency=1))
    with life(world, crew.service) as one:
        names = [f"busy{n}" for n in range(5)]
        one.client.start(crew.work, names[0], key="busy", id=names[0])
        wait_for(lambda: crew.flags.ran == names[:1])
        one.client.start(crew.work, names[1], key="busy", id=names[1])
        one.client.start(crew.work, "other", key="other", id="other")
        for name in names[2:]:
            one.client.start(crew.work, name, key="busy", id=name)
        for name in (*names, "other"):
            crew.flags.gate(name).set()
        for name in (*names, "other"):
            one.client.attach(name).result(5)
    assert crew.flags.ran == [*names[:2], "other", *names[2:]]


class Watched(Wrapped):
    """Counts the looks at rows and queues; one invocation's row is damaged."""

    def __init__(self, inner):
        super().__init__(inner)
        self.looks = 0
        self.damaged = None

    def __getattr__(self, name):
        if name in {"get", "holder", "queued_for_lock", "queued_for_lane", "queued_locks", "queued_lanes"}:
            self.looks += 1
        return super().__getattr__(name)

    def get(self, n):
        self.looks += 1
        if n == self.damaged:
            raise StoreCorrupt("a page is damaged")
        return self.inner.get(n)


def watched(world, *services, stores, **options):
    return world.holdfast(*services, wrap=lambda inner: stores.append(Watched(inner)) or stores[-1], **options)


def test_many_that_wait_for_a_key_cost_those_behind_them_nothing(world):
    """Each is looked at once in a life, and not once for each that begins."""
    crew, stores, queued, begun = Crew(Limit(concurrency=1)), [], 300, 30
    names = [f"n{n}" for n in range(begun)]
    for name in names:
        crew.flags.gate(name).set()
    with life(world, crew.service) as one:
        one.client.start(crew.hold, key="k", id="holder")
        for _ in range(queued):
            one.client.start(crew.work, "k", key="k")
        one.client.start(crew.work, "last", key="last", id="last")
    with watched(world, crew.service, stores=stores, limits=Limits(drain_seconds=0)) as client:
        wait_for(lambda: crew.flags.ran[-1:] == ["last"])
        assert stores[0].looks < 10 * queued
        handles = [client.start(crew.work, name, key=name) for name in names]
        before = stores[0].looks
        crew.flags.gate("last").set()
        assert [handle.result(5) for handle in handles] == names
        assert stores[0].looks - before < 30 * begun


def test_one_that_cannot_be_read_keeps_nobody_from_its_key(world, caplog):
    crew, stores = Crew(Limit(concurrency=1)), []
    with watched(world, crew.service, stores=stores) as client:
        client.start(crew.work, "first", key="k")
        wait_for(lambda: crew.flags.ran == ["first"])
        stores[0].damaged = engine_of(client).store.find(client.start(crew.work, "never", key="k").id).n
        last = client.start(crew.work, "last", key="k")
        for name in ("first", "last"):
            crew.flags.gate(name).set()
        assert last.result(5) == "last"
    assert "cannot be read and is left out" in caplog.text


class Crowd:
    """`feed` keeps an engine with one place for running ones busy without a pause; the others wait for their share."""

    ROUNDS = 300

    def __init__(self):
        self.ran = []
        self.service = group = Service("Group")

        async def note(word: str) -> None:
            self.ran.append(word)

        @group.handler
        async def feed(ctx: Context) -> None:
            await ctx.run(note, "feed")

        @group.handler
        async def nap(ctx: Context) -> None:
            await ctx.sleep(10)
            await ctx.run(note, "nap")

        @group.handler(limit=Limit(concurrency=1))
        async def limited(ctx: Context) -> None:
            await ctx.run(note, "limited")

        @group.handler
        async def called(ctx: Context) -> None:
            await ctx.receive("go")
            await ctx.run(note, "called")

        self.feed, self.nap, self.limited, self.called = feed, nap, limited, called

    async def keep_busy(self, client):
        """Eight that start another one as soon as theirs has ended: somebody always waits for the place."""

        async def again():
            while self.ran.count("feed") < self.ROUNDS:
                await (await client.start(self.feed)).result(20)

        feeders = [asyncio.create_task(again()) for _ in range(8)]
        while self.ran.count("feed") < 10:
            await asyncio.sleep(0)
        return feeders


@pytest.mark.parametrize("kind", ["nap", "limited", "called"])
def test_while_new_ones_come_without_end_those_that_wait_for_something_else_get_their_share(world, kind):
    crowd, clock = Crowd(), FakeClock()

    async def main():
        limits = Limits(running=1, waiting=0)
        async with world.holdfast(crowd.service, limits=limits, clock=clock) as client:
            if kind != "limited":
                handles = [await client.start(getattr(crowd, kind)) for _ in range(20)]
            feeders = await crowd.keep_busy(client)
            if kind == "nap":
                clock.wind(10)
                client._engine._timers._tick()
            elif kind == "called":
                for handle in handles:
                    await handle.signal("go")
            else:
                handles = [await client.start(crowd.limited) for _ in range(20)]
            await asyncio.gather(*feeders, *[handle.result(20) for handle in handles])

    asyncio.run(main())
    others = [place for place, word in enumerate(crowd.ran) if word == kind]
    assert len(others) == 20
    assert others[-1] < crowd.ROUNDS / 2


def test_a_chain_of_sends_does_not_hold_the_loop_nor_the_room(world):
    """Each has ended in the turn in which it began, and the next one is sent in that very turn."""
    group, passed = Service("Group"), []

    @group.handler
    async def relay(ctx: Context, left: int) -> None:
        passed.append(left)
        if left:
            ctx.send(relay, left - 1)

    async def main():
        async with world.holdfast(group, limits=Limits(running=4)) as client:
            starting = asyncio.create_task(client.start(relay, 400))
            seen = [0]
            while not passed or passed[-1]:
                await asyncio.sleep(0)
                seen.append(len(passed))
            await starting
            return max(after - before for before, after in pairwise(seen))

    assert asyncio.run(main()) < 50


def test_those_beyond_the_line_are_not_overtaken_by_those_that_come_later(world):
    """The line keeps numbers of two; one that comes when a place in it is free must not take it from those in the
    store."""
    group, flags = Service("Group"), Flags()

    @group.handler
    async def work(ctx: Context, name: str) -> str:
        return await ctx.run(flags.body, name)

    names = [f"n{n}" for n in range(16)]
    with life(world, group, limits=Limits(running=1, backlog=2)) as one:
        for name in names[:8]:
            one.client.start(work, name, id=name)
        for done, name in enumerate(names[8:]):
            flags.gate(f"n{done}").set()
            one.client.attach(f"n{done}").result(5)
            one.client.start(work, name, id=name)
        for name in names:
            flags.gate(name).set()
        for name in names:
            one.client.attach(name).result(5)
    assert flags.ran == names


class Everything:
    """Writers of some keys under one limit, a limit of its own for each user, those that only want room, and sleepers
    that wake among them; the bodies that ran, in order, over all lives."""

    def __init__(self, keys, users, each):
        self.ran = []
        self.service = desk = Object("Desk")
        self.others = group = Service("Group")
        self.clock = FakeClock()

        async def note(name: str) -> None:
            self.ran.append(name)
            await asyncio.sleep(0)

        @desk.handler(limit=Limit(concurrency=4))
        async def write(ctx: Context, name: str) -> str:
            await ctx.run(note, name)
            return name

        @group.handler(limit=Limit(concurrency=1, by="user"))
        async def serve(ctx: Context, name: str, user: str) -> str:
            await ctx.run(note, name)
            return name

        @group.handler
        async def plain(ctx: Context, name: str) -> str:
            await ctx.run(note, name)
            return name

        @group.handler
        async def sleeper(ctx: Context, name: str) -> str:
            await ctx.sleep(5)
            await ctx.run(note, name)
            return name

        self.lines = [
            f"{kind}{n}" for kind, count in (("k", keys), ("u", users), ("p", 1), ("s", 1)) for n in range(count)
        ]
        self.work = [(line, place) for place in range(each) for line in self.lines]
        self.handlers = {"k": write, "u": serve, "p": plain, "s": sleeper}

    def start(self, client):
        for line, place in self.work:
            name = f"{line}.{place}"
            more = {"k": {"key": line}, "u": {"user": line}}.get(line[0], {})
            yield client.start(self.handlers[line[0]], name, id=name, **more)

    def order(self, line):
        return list(dict.fromkeys(name for name in self.ran if name.partition(".")[0] == line))


@pytest.mark.parametrize("kind, each", [("memory", 12), ("sqlite", 60)])
def test_thousands_behind_keys_limits_and_room_at_once_all_have_their_turn_in_order(tmp_path, kind, each):
    """The engine dies again and again in the midst of it."""
    world = World(kind, tmp_path)
    all_of_it = Everything(keys=9, users=5, each=each)
    total = len(all_of_it.work)
    limits = Limits(running=6, waiting=5, bodies=4, backlog=20)

    async def queue():
        async with world.holdfast(all_of_it.service, all_of_it.others, clock=all_of_it.clock).resting() as client:
            await asyncio.gather(*all_of_it.start(client))

    async def live(until):
        stores = []
        hf = world.holdfast(
            all_of_it.service, all_of_it.others, limits=limits, clock=all_of_it.clock,
            wrap=lambda inner: stores.append(Held(inner)) or stores[0],
        )  # fmt: skip
        async with hf as client:
            if until < total:
                while len(set(all_of_it.ran)) < until:
                    await asyncio.sleep(0.001)
                    all_of_it.clock.wind(1)
                    client._engine._timers._tick()
                stores[0].dead = True
                client._engine.fail(DEAD)
            else:
                for line, place in all_of_it.work:
                    handle = await client.attach(f"{line}.{place}")
                    assert await handle.result(20) == handle.id

    asyncio.run(queue())
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        asyncio.run(live(int(total * share)))
    for line in all_of_it.lines[:-2]:  # of keys and users; the others have no queue of their own
        assert all_of_it.order(line) == [f"{line}.{place}" for place in range(each)], line
    half = list(dict.fromkeys(all_of_it.ran))[: total // 2]
    shares = {line: sum(name.partition(".")[0] == line for name in half) for line in all_of_it.lines}
    assert min(shares.values()) >= each / 12, shares
    assert len(all_of_it.ran) - total <= 5 * limits.running, "what ran twice ran as its process died"
