"""Waits that would lead back to who waits are refused with the chain (G8); what only looks like one is not."""

import asyncio

import pytest

from holdfast import (
    Context,
    InvocationCancelled,
    InvocationFailed,
    Limit,
    Limits,
    Object,
    ObjectContext,
    Service,
    Workflow,
    WouldDeadlock,
)
from holdfast.objects import WorkflowContext
from tests.engine.family import child_of, status, until
from tests.engine.world import engine_of, in_engine, open_promise, wait_for


def boxes():
    """An object whose handler goes the way it is given: it calls the first key with the rest of the way."""
    box = Object("Box")

    @box.handler
    async def visit(ctx: ObjectContext, path: list[str]) -> str:
        if not path:
            return ctx.key
        first, *rest = path
        if first == "wait":
            await ctx.promise("go")
            return await ctx.call(visit, rest[1:], key=rest[0])
        try:
            return f"{ctx.key} {await ctx.call(visit, rest, key=first)}"
        except WouldDeadlock as error:
            return f"{ctx.key} refused: {error.what}"

    @box.handler(shared=True)
    async def look(ctx: ObjectContext) -> str:
        return f"looked at {ctx.key}"

    @box.handler
    async def careful(ctx: ObjectContext) -> str:
        return await ctx.call(look, key=ctx.key)

    box.visit, box.look, box.careful = visit, look, careful
    return box


def test_a_handler_that_calls_its_own_key(world, weather):
    box = boxes()
    with world.holdfast(box, **weather) as client:
        told = client.start(box.visit, ["a"], key="a", id="x").result(5)
    assert told.startswith("a refused: 'x' cannot call 'Box/visit' of key 'a'")
    assert "would wait for itself: x waits for Box/a, held by x" in told


@pytest.mark.parametrize("length", [2, 3, 7])
def test_a_cycle_over_some_keys_is_refused_with_the_chain_and_all_end(world, weather, length):
    box = boxes()
    keys = [chr(97 + n) for n in range(length)]
    with world.holdfast(box, **weather) as client:
        told = client.start(box.visit, [*keys[1:], "a"], key="a", id="x").result(5)
        assert len(client.list(status="done")) == length
    first, _, refusal = told.partition("refused: ")
    assert first.split() == keys
    assert refusal.partition(";")[0].count(" waits for ") == length
    assert "Box/a, held by x" in refusal


def test_shared_handlers_and_sends_to_the_own_key_are_no_cycles(world, weather):
    box = boxes()

    @box.handler
    async def sends(ctx: ObjectContext) -> str:
        return ctx.send(box.visit, [], key=ctx.key).id

    with world.holdfast(box, **weather) as client:
        assert client.call(box.careful, key="a", timeout=5) == "looked at a"
        assert client.attach(client.call(sends, key="a", timeout=5)).result(5) == "a"


def test_a_diamond_is_no_deadlock(world, weather):
    box = boxes()

    async def h(ctx: Context) -> list[str]:
        return await asyncio.gather(
            ctx.call(box.visit, ["c"], key="a"), ctx.call(box.visit, ["c"], key="b"), ctx.call(box.visit, [], key="c")
        )

    with world.holdfast(box, h, **weather) as client:
        assert client.call(h, timeout=5) == ["a c", "b c", "c"]


def test_one_that_is_queued_behind_another_waits_and_is_not_refused(world, weather):
    box = boxes()
    with world.holdfast(box, **weather) as client:
        client.start(box.visit, ["wait", "z"], key="b", id="first")
        open_promise(client)
        handles = [client.start(box.visit, ["b"], key=key) for key in "acd"]
        for handle in handles:
            until(client, handle.id, "suspended")
        client.resolve(open_promise(client))
        assert [handle.result(5) for handle in handles] == ["a b", "c b", "d b"]


def two_roots(client, box, paths):
    """Both begin and call in one turn of the loop: neither sees the other's call in the store."""
    handles = [client.start(box.visit, ["wait", *path], key=key, id=f"root {key}") for key, path in paths.items()]
    wait_for(lambda: len(engine_of(client).store.open_promises(9)) == len(paths))
    engine = engine_of(client)

    def go():
        for row in engine.store.open_promises(9):
            resident = engine.bring_back(row.n)
            (local,) = [step.local for step in resident.machine.waiting.values()]
            engine.driver.settle(resident, local, b"null", ok=True)

    in_engine(client, go)
    return handles


def outcomes(handles):
    ends = []
    for handle in handles:
        try:
            ends.append(handle.result(5))
        except Exception as error:  # noqa: BLE001
            ends.append(str(error))
    return ends


def test_two_roots_that_call_each_others_keys(world, weather):
    box = boxes()
    with world.holdfast(box, **weather) as client:
        first, second = client.start(box.visit, ["wait", "b"], key="a"), client.start(box.visit, ["wait", "a"], key="b")
        wait_for(lambda: len(engine_of(client).store.open_promises(9)) == 2)
        for row in engine_of(client).store.open_promises(9):
            client.resolve(row.id)
        ends = outcomes([first, second])
    assert sum("would wait for itself" in end for end in ends) == 1
    assert sum(end in {"a", "b"} for end in ends) == 1


@pytest.mark.parametrize("paths", [{"a": ["b"], "b": ["a"]}, {"a": ["b"], "b": ["c"], "c": ["a"]}])
def test_two_and_three_roots_that_call_each_others_keys_in_one_turn(world, paths):
    box = boxes()
    with world.holdfast(box) as client:
        ends = outcomes(two_roots(client, box, paths))
    assert sum("would wait for itself" in end for end in ends) == 1, ends


def test_two_roots_that_call_each_others_keys_through_others_in_one_turn(world):
    box = boxes()
    with world.holdfast(box) as client:
        ends = outcomes(two_roots(client, box, {"a": ["p", "q", "b"], "b": ["r", "s", "a"]}))
    assert sum("would wait for itself" in end or "refused" in end for end in ends) == 1, ends


def test_a_cycle_through_a_service_in_one_turn(world):
    box, helper = boxes(), Service("Helper")

    @helper.handler
    async def on(ctx: Context, key: str) -> str:
        return await ctx.call(box.visit, [], key=key)

    @box.handler
    async def through(ctx: ObjectContext, key: str) -> str:
        await ctx.promise("go")
        return await ctx.call(on, key)

    with world.holdfast(box, helper) as client:
        handles = [client.start(through, "b", key="a"), client.start(through, "a", key="b")]
        wait_for(lambda: len(engine_of(client).store.open_promises(9)) == 2)
        engine = engine_of(client)

        def go():
            for row in engine.store.open_promises(9):
                resident = engine.bring_back(row.n)
                engine.driver.settle(resident, next(iter(resident.machine.waiting)), b"null", ok=True)

        in_engine(client, go)
        ends = outcomes(handles)
    assert sum("would wait for itself" in end for end in ends) == 1, ends


def test_a_cycle_that_closes_after_a_death(world, weather):
    box = boxes()
    with world.life(box, **weather) as client:
        client.start(box.visit, ["wait", "b"], key="a", id="x")
        open_promise(client)
        client.start(box.visit, ["a"], key="b", id="y")
        until(client, "y", "suspended")
    with world.holdfast(box, **weather) as client:
        client.resolve(open_promise(client))
        refused, other = outcomes([client.attach("x"), client.attach("y")])
    assert "would wait for itself" in refused
    assert other == "b a", "the key is free when the one that was refused has ended"


def test_clean_up_may_call_the_key_of_a_caller_that_gave_up(world, weather):
    """The caller holds its key, but it does not wait for this one any more."""
    box = Object("Account")

    @box.handler
    async def refund(ctx: ObjectContext) -> str:
        return f"refunded {ctx.key}"

    @box.handler
    async def pay(ctx: ObjectContext) -> str:
        try:
            async with asyncio.timeout(0.05):
                await ctx.call(book)
        except TimeoutError:
            await ctx.promise("hold")
            return "paid late"

    async def book(ctx: Context) -> str:
        try:
            await ctx.promise("never")
        except asyncio.CancelledError:
            await ctx.call(refund, key="k")
            raise

    with world.holdfast(box, book, **weather) as client:
        handle = client.start(pay, key="k")
        child = child_of(client, handle.id)
        wait_for(lambda: client.list(target="Account/refund"), "the call of the clean-up")
        (hold,) = [
            view
            for view in wait_for(lambda: engine_of(client).store.open_promises(9))
            if view.n == engine_of(client).store.find(handle.id).n
        ]
        client.resolve(hold.id)
        assert handle.result(5) == "paid late"
        with pytest.raises(InvocationCancelled):
            client.attach(child).result(5)
        assert [view.status for view in client.list(target="Account/refund")] == ["done"]


def test_a_workflow_that_calls_its_own_main_handler(world, weather):
    flow = Workflow("Flow")

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        try:
            return await ctx.call(run, key=ctx.key)
        except WouldDeadlock as error:
            return error.what

    with world.holdfast(flow, **weather) as client:
        assert "'Flow:k' cannot wait for 'Flow:k': it would wait for itself" in client.call(run, key="k", timeout=5)


def test_a_handler_called_by_a_workflow_that_calls_its_main_handler(world, weather):
    flow = Workflow("Flow")

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        return await ctx.call(back, key=ctx.key)

    @flow.handler
    async def back(ctx: WorkflowContext) -> str:
        try:
            return await ctx.call(run, key=ctx.key)
        except WouldDeadlock as error:
            return error.what

    with world.holdfast(flow, **weather) as client:
        told = client.call(run, key="k", timeout=5)
    assert "would wait for itself" in told
    assert "Flow:k" in told


def test_one_that_attaches_to_itself_or_to_who_called_it(world, weather):
    async def child(ctx: Context, id: str) -> str:
        try:
            return await ctx.attach(id)
        except WouldDeadlock as error:
            return error.what

    async def h(ctx: Context) -> str:
        return await ctx.call(child, ctx.id)

    with world.holdfast(child, h, **weather) as client:
        assert "would wait for itself" in client.start(child, "me", id="me").result(5)
        told = client.start(h, id="top").result(5)
    assert "cannot wait for 'top': it would wait for itself" in told


def test_two_that_attach_to_each_other(world, weather):
    async def h(ctx: Context, id: str) -> str:
        await ctx.receive("go")
        try:
            return await ctx.attach(id, str)
        except WouldDeadlock:
            return "refused"

    with world.holdfast(h, **weather) as client:
        first, second = client.start(h, "b", id="a"), client.start(h, "a", id="b")
        for handle in (first, second):
            handle.signal("go")
        assert [first.result(5), second.result(5)] == ["refused"] * 2


def test_a_cycle_over_a_key_and_an_attachment(world, weather):
    box = Object("Box")

    @box.handler
    async def waits(ctx: ObjectContext, id: str) -> str:
        return await ctx.attach(id, str)

    @box.handler
    async def visit(ctx: ObjectContext) -> str:
        return "visited"

    async def h(ctx: Context) -> str:
        await ctx.receive("go")
        try:
            return await ctx.call(visit, key="k")
        except WouldDeadlock as error:
            return error.what

    with world.holdfast(box, h, **weather) as client:
        client.start(h, id="h")
        holder = client.start(waits, "h", key="k", id="holder")
        until(client, "holder", "suspended")
        client.signal("h", "go")
        told = client.attach("h").result(5)
        assert holder.result(5) == told
    assert "would wait for itself" in told
    assert "held by holder" in told


def test_a_cycle_over_one_that_is_paused_in_its_queue(world, weather):
    """Else it would be one as soon as a person resumes it, and then nobody looks."""
    box = boxes()
    with world.holdfast(box, **weather) as client:
        x = client.start(box.visit, ["wait", "b"], key="a", id="x")
        to_x = open_promise(client)
        y = client.start(box.visit, ["wait", "a"], key="b", id="y")
        (to_y,) = wait_for(lambda: [p.id for p in engine_of(client).store.open_promises(9) if p.id != to_x], "y's")
        client.resolve(to_x)
        called = child_of(client, "x")
        client.pause(called)
        client.resolve(to_y)
        with pytest.raises(InvocationFailed, match="would wait for itself"):
            y.result(5)
        client.resume(called)
        assert x.result(5) == "b"


def test_an_attachment_that_was_given_up_is_no_cycle(world, weather):
    box = Object("Box")

    @box.handler
    async def waits(ctx: ObjectContext, id: str) -> str:
        try:
            async with asyncio.timeout(0.02):
                await ctx.attach(id)
        except TimeoutError:
            return await ctx.promise("hold", type=str)

    @box.handler
    async def visit(ctx: ObjectContext) -> str:
        return "visited"

    async def h(ctx: Context) -> str:
        await ctx.receive("go")
        return await ctx.call(visit, key="k")

    with world.holdfast(box, h, **weather) as client:
        handle = client.start(h, id="h")
        client.start(waits, "h", key="k")
        promise = open_promise(client)
        handle.signal("go")
        wait_for(lambda: client.list(target="Box/visit"))
        assert status(client, "h") == "suspended"
        client.resolve(promise, "over")
        assert handle.result(5) == "visited"


@pytest.mark.parametrize("places", [1, 3])
def test_a_recursion_deeper_than_its_limit_is_refused(world, places):
    group = Service("Group")

    @group.handler(limit=Limit(concurrency=places))
    async def down(ctx: Context, level: int) -> str:
        try:
            return f"{level} {await ctx.call(down, level + 1)}"
        except WouldDeadlock as error:
            return f"{level} refused: {error.what}"

    with world.holdfast(group, limits=Limits(waiting=0)) as client:
        told = client.call(down, 1, timeout=5)
    assert told.startswith(" ".join(str(level) for level in range(1, places + 1)) + " refused: ")
    assert "the limit of Group/down" in told


def test_a_long_chain_of_waits_is_walked_and_not_found_to_be_one(world):
    box = boxes()
    with world.holdfast(box, limits=Limits(waiting=0)) as client:
        path = [f"k{n}" for n in range(40)]
        held = client.start(box.visit, ["wait", "free"], key="k39")
        promise = open_promise(client)
        handle = client.start(box.visit, path[1:], key="k0")
        wait_for(lambda: len(client.list(limit=1000)) == 41)
        client.resolve(promise)
        assert held.result(5) == "free"
        assert handle.result(5) == " ".join(path)
