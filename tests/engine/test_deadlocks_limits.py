"""Waits over the places of limits that would lead back to who waits are refused with the chain (G8); a limit in which
somebody can go on is waited for."""

import pytest

from holdfast import Context, Limit, Limits, Object, Service, WouldDeadlock
from tests.engine.family import until
from tests.engine.lives import life
from tests.engine.world import World, engine_of, in_engine, wait_for

WAYS = {"kept": Limits(), "parked": Limits(waiting=0)}


@pytest.fixture(params=WAYS)
def limits(request):
    return WAYS[request.param]


def crew(places=2, others=1):
    """`work` and `other`, each with a limit. What they are given says whom they call when they are told to go: names of
    these two, of `plain`, which has no limit, or of a key. Each answers with its way, or that it was refused."""
    group = Service("Group")
    box = Object("Box")

    async def go(ctx: Context, way: list[str]) -> str:
        if not way:
            return "end"
        await ctx.receive("go")
        return await call(ctx, way)

    async def call(ctx: Context, way: list[str]) -> str:
        first, *rest = way
        try:
            if first in handlers:
                return f"{first} {await ctx.call(handlers[first], rest)}"
            return f"{first} {await ctx.call(visit, rest, key=first)}"
        except WouldDeadlock as error:
            return f"refused: {error.what}"

    @group.handler(limit=Limit(concurrency=places))
    async def work(ctx: Context, way: list[str]) -> str:
        return await go(ctx, way)

    @group.handler(limit=Limit(concurrency=others))
    async def other(ctx: Context, way: list[str]) -> str:
        return await go(ctx, way)

    @group.handler
    async def plain(ctx: Context, way: list[str]) -> str:
        return await call(ctx, way) if way else "end"

    @box.handler
    async def visit(ctx: Context, way: list[str]) -> str:
        return await go(ctx, way)

    @box.handler(limit=Limit(concurrency=others))
    async def busy(ctx: Context, way: list[str]) -> str:
        return await go(ctx, way)

    handlers = {"work": work, "other": other, "plain": plain}
    group.work, group.other, group.plain, box.visit, box.busy = work, other, plain, visit, busy
    return group, box


def waiting(client, handler, way, id, **more):
    handle = client.start(handler, way, id=id, **more)
    until(client, id, "suspended")
    return handle


def results(handles):
    return [handle.result(5) for handle in handles]


@pytest.mark.parametrize("places", [1, 2, 3])
def test_of_those_that_hold_all_places_and_call_for_more_the_last_is_refused(world, limits, places):
    group, box = crew(places)
    with world.holdfast(group, box, limits=limits) as client:
        handles = [waiting(client, group.work, ["work"], f"w{n}") for n in range(places)]
        for handle in handles[:-1]:
            handle.signal("go")
            wait_for(lambda: client.list(parent=handle.id))  # noqa: B023
        handles[-1].signal("go")
        *others, last = results(handles)
    assert others == ["work end"] * (places - 1)
    assert last.startswith(f"refused: 'w{places - 1}' cannot call 'Group/work': it would wait for itself: ")
    assert f"w{places - 1} waits for the limit of Group/work, held by w0" in last


def test_in_one_turn_too(world):
    group, box = crew(2)
    with world.holdfast(group, box) as client:
        handles = [waiting(client, group.work, ["work"], f"w{n}") for n in range(2)]
        engine = engine_of(client)

        def go():
            for handle in handles:
                engine.driver.signal(engine.resident(engine.store.find(handle.id).n), "go", b"null")

        in_engine(client, go)
        assert sorted(told.partition(":")[0] for told in results(handles)) == ["refused", "work end"]


def test_over_one_without_a_limit_in_between(world, limits):
    group, box = crew(2)
    with world.holdfast(group, box, limits=limits) as client:
        handles = [waiting(client, group.work, ["plain", "work"], f"w{n}") for n in range(2)]
        for handle in handles:
            handle.signal("go")
            wait_for(lambda: [view for view in client.list(target="Group/plain") if view.parent == handle.id])  # noqa: B023
        assert sorted(told[:13] for told in results(handles)) == ["plain refused", "plain work en"]


def test_two_limits_that_wait_for_each_other(world, limits):
    group, box = crew(1, 1)
    with world.holdfast(group, box, limits=limits) as client:
        first = waiting(client, group.work, ["other"], "first")
        second = waiting(client, group.other, ["work"], "second")
        first.signal("go")
        wait_for(lambda: client.list(parent="first"))
        second.signal("go")
        assert "waits for the limit of Group/work, held by first waits for " in second.result(5)
        assert first.result(5) == "other end"


def test_a_key_and_a_limit_that_wait_for_each_other(world, limits):
    group, box = crew(1)
    with world.holdfast(group, box, limits=limits) as client:
        first = waiting(client, group.work, ["k"], "first")
        second = waiting(client, box.visit, ["work"], "second", key="k")
        first.signal("go")
        wait_for(lambda: client.list(parent="first"))
        second.signal("go")
        assert "waits for the limit of Group/work, held by first waits for " in second.result(5)
        assert first.result(5) == "k end"


def test_one_that_would_wait_behind_another_of_its_key_which_waits_for_its_callers_place(world, limits):
    """Nobody holds the key: who is first in its queue waits for the place of who calls."""
    group, box = crew(1, 1)
    with world.holdfast(group, box, limits=limits) as client:
        holder = waiting(client, box.busy, ["k"], "holder", key="h")
        client.start(box.busy, [], key="k", id="first")
        until(client, "first", "queued")
        holder.signal("go")
        assert "waits for Box/k, held by first waits for the limit of Box/busy, held by holder" in holder.result(5)
        assert client.attach("first").result(5) == "end"


def test_a_cycle_that_closes_after_a_death(world, limits):
    group, box = crew(2)
    with life(world, group, box, limits=limits) as one:
        handles = [waiting(one.client, group.work, ["work"], f"w{n}") for n in range(2)]
        handles[0].signal("go")
        wait_for(lambda: one.client.list(parent="w0"))
    with world.holdfast(group, box, limits=limits) as client:
        client.attach("w1").signal("go")
        assert client.attach("w1").result(5).startswith("refused")
        assert client.attach("w0").result(5) == "work end"


def test_a_limit_in_which_somebody_can_go_on_is_waited_for(world, limits):
    group, box = crew(3)
    with world.holdfast(group, box, limits=limits) as client:
        handles = [waiting(client, group.work, ["work"], f"w{n}") for n in range(2)]
        free = waiting(client, group.work, ["plain"], "free")
        for handle in handles:
            handle.signal("go")
            wait_for(lambda: client.list(parent=handle.id))  # noqa: B023
        assert {view.status for view in client.list(target="Group/work") if view.parent} == {"queued"}
        free.signal("go")
        assert results([free, *handles]) == ["plain end", "work end", "work end"]


def test_one_that_holds_no_place_and_is_waited_for_by_nobody_waits(world, limits):
    group, box = crew(1, 1)
    with world.holdfast(group, box, limits=limits) as client:
        holder = waiting(client, group.work, ["k"], "holder")
        visitor = waiting(client, box.visit, ["plain"], "visitor", key="k")
        holder.signal("go")
        wait_for(lambda: client.list(parent="holder"))
        outside = client.start(group.plain, ["work"], id="outside")
        until(client, "outside", "suspended")
        visitor.signal("go")
        assert results([visitor, holder, outside]) == ["plain end", "k end", "work end"]


def test_a_paused_one_leaves_its_place_and_nobody_is_refused_for_it(world, limits):
    group, box = crew(2)
    with world.holdfast(group, box, limits=limits) as client:
        handles = [waiting(client, group.work, ["work"], f"w{n}") for n in range(2)]
        handles[0].signal("go")
        wait_for(lambda: client.list(parent="w0"))
        handles[0].pause()
        handles[1].signal("go")
        assert handles[1].result(5) == "work end"
        handles[0].resume()
        assert handles[0].result(5) == "work end"


def test_looking_for_a_cycle_costs_little_where_somebody_can_go_on(tmp_path, monkeypatch):
    """The places are held by many that wait for others; one look at one that works is enough."""
    from holdfast.engine.waits import Search

    looks = []
    look = Search._look
    monkeypatch.setattr(Search, "_look", lambda self, node: looks.append(node) or look(self, node))
    group, box = crew(50)
    with World("sqlite", tmp_path).holdfast(group, box) as client:
        for n in range(50):
            client.start(group.work, ["k"], id=f"w{n}")
        for n in range(50):
            until(client, f"w{n}", "suspended")
        callers = [client.start(group.plain, ["work"]) for _ in range(20)]
        for handle in callers:
            until(client, handle.id, "suspended")
    assert len(looks) <= 20 * 3


def test_a_chain_longer_than_pythons_stack_is_walked(tmp_path):
    box = Object("Box")

    @box.handler
    async def visit(ctx: Context, left: int) -> str:
        if not left:
            return await ctx.receive("go", str)
        return await ctx.call(visit, left - 1, key=f"k{left - 1}")

    @box.handler
    async def back(ctx: Context) -> str:
        try:
            return await ctx.call(visit, 0, key="k1100")
        except WouldDeadlock as error:
            return error.what

    with World("sqlite", tmp_path).holdfast(box, limits=Limits(waiting=2_000, drain_seconds=0)) as client:
        client.start(visit, 1_100, key="k1100", id="top")
        (end,) = wait_for(lambda: [view for view in client.list(key="k0") if view.status == "suspended"])
        outside = client.start(back, key="other")
        until(client, outside.id, "suspended")
        client.signal(end.id, "go", "found")
        assert client.attach("top").result(20) == "found"
