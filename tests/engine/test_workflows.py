"""Workflows: the main handler once per key, the others beside it; promises that belong to the key and settle once."""

import asyncio
import threading

import pytest

from holdfast import (
    AlreadySettled,
    BadArguments,
    BadHandler,
    Context,
    IdConflict,
    InvocationCancelled,
    InvocationFailed,
    Limits,
    TerminalError,
    UnknownPromise,
    Workflow,
    WorkflowContext,
    WrongPlace,
)
from tests.engine.family import child_of, status, until
from tests.engine.world import SlowStore, engine_of, in_engine, paused, wait_for


def signup(ran=None):
    flow = Workflow("Signup")

    @flow.main
    async def run(ctx: WorkflowContext, name: str = "Ada") -> str:
        if ran is not None:
            await ctx.run(ran.append, name)
        ctx.set("state", "waiting")
        word = await ctx.promise("word", type=str)
        ctx.set("state", "over")
        return f"{name} {word}"

    @flow.handler
    async def say(ctx: WorkflowContext, word: str) -> None:
        ctx.resolve("word", word)

    @flow.handler
    async def refuse(ctx: WorkflowContext, reason: str) -> None:
        ctx.reject("word", reason)

    @flow.handler
    async def waits(ctx: WorkflowContext) -> str:
        return "also " + await ctx.promise("word", type=str)

    @flow.handler
    async def look(ctx: WorkflowContext) -> str:
        return ctx.get("state", str, "nothing yet")

    flow.run, flow.say, flow.refuse, flow.waits, flow.look = run, say, refuse, waits, look
    return flow


def waiting(client, count=1):
    """Until so many wait for a shared promise."""
    wait_for(lambda: len(engine_of(client).store.waiters("Signup:k:word")) == count, f"{count} waiters")


def test_the_main_handler_runs_once_per_key(world, weather):
    ran = []
    flow = signup(ran)

    async def h(ctx: Context) -> str:
        return await ctx.call(flow.run, key="k")

    with world.holdfast(flow, h, **weather) as client:
        handles = [client.start(flow.run, key="k") for _ in range(3)]
        assert {handle.id for handle in handles} == {"Signup:k"} == {flow.run_id("k")}
        callers = [client.start(h) for _ in range(2)]
        waiting(client)
        for caller in callers:
            until(client, caller.id, "suspended")
        client.call(flow.say, "hi", key="k", timeout=5)
        assert {handle.result(5) for handle in [*handles, *callers]} == {"Ada hi"}
        assert client.call(flow.run, key="k", timeout=5) == "Ada hi", "also when it is over"
        assert client.call(h, timeout=5) == "Ada hi"
        with pytest.raises(IdConflict, match="another input"):
            client.start(flow.run, "Eve", key="k")
    assert ran == ["Ada"]


def test_the_other_handlers_read_beside_it_and_after_it(world, weather):
    flow = signup()
    with world.holdfast(flow, **weather) as client:
        assert client.call(flow.look, key="k", timeout=5) == "nothing yet"
        handle = client.start(flow.run, key="k")
        waiting(client)
        assert client.call(flow.look, key="k", timeout=5) == "waiting"
        client.call(flow.say, "hi", key="k", timeout=5)
        handle.result(5)
        assert client.call(flow.look, key="k", timeout=5) == "over"
        client.call(flow.say, "again", key="k", timeout=5)
        assert client.call(flow.waits, key="k", timeout=5) == "also hi"


def test_the_other_handlers_cannot_write_state(world):
    flow = Workflow("Flow")

    @flow.handler
    async def tries(ctx: WorkflowContext) -> str:
        try:
            ctx.set("a", 1)
        except WrongPlace as error:
            return error.what

    with world.holdfast(flow) as client:
        assert "cannot write state" in client.call(tries, key="k", timeout=5)


def test_a_workflow_has_one_main_handler():
    flow = signup()
    with pytest.raises(BadHandler, match="has a main handler already"):

        @flow.main
        async def second(ctx: WorkflowContext) -> None: ...


def test_keys_do_not_share_promises(world, weather):
    flow = signup()
    with world.holdfast(flow, **weather) as client:
        first, second = (client.start(flow.run, key=key) for key in ("a", "a:b"))
        client.call(flow.say, "one", key="a", timeout=5)
        assert first.result(5) == "Ada one"
        assert second.status().status == "suspended"
        client.call(flow.say, "two", key="a:b", timeout=5)
        assert second.result(5) == "Ada two"


def test_a_promise_that_is_resolved_before_anybody_waits(world, weather):
    flow = signup()
    with world.life(flow, **weather) as client:
        client.call(flow.say, "early", key="k", timeout=5)
    with world.holdfast(flow, **weather) as client:
        assert client.call(flow.run, key="k", timeout=5) == "Ada early"
        assert client.call(flow.waits, key="k", timeout=5) == "also early"
        assert client.promise("Signup:k:word").value == "early"


def test_a_promise_that_is_rejected(world, weather):
    flow = signup()
    with world.holdfast(flow, **weather) as client:
        handle = client.start(flow.run, key="k")
        waiting(client)
        client.call(flow.refuse, "no word", key="k", timeout=5)
        with pytest.raises(TerminalError, match="no word") as caught:
            handle.result(5)
        assert caught.value.status == 409
        with pytest.raises(TerminalError, match="no word"):
            client.call(flow.waits, key="k", timeout=5)
        assert client.promise("Signup:k:word").status == "rejected"


def test_of_two_settlements_the_first_counts(world, weather):
    flow = signup()
    with world.holdfast(flow, **weather) as client:
        for word in ("first", "second"):
            client.call(flow.say, word, key="k", timeout=5)
        client.call(flow.refuse, "third", key="k", timeout=5)
        assert client.call(flow.run, key="k", timeout=5) == "Ada first"


def test_two_handlers_that_settle_in_one_turn_settle_once(world):
    flow = Workflow("Signup")

    @flow.main
    async def run(ctx: WorkflowContext) -> list[str]:
        return [await ctx.promise("word", type=str), await ctx.promise("word", type=str)]

    @flow.handler
    async def say(ctx: WorkflowContext, word: str) -> None:
        await ctx.receive("go")
        ctx.resolve("word", word)
        ctx.resolve("word", f"{word} again")

    with world.holdfast(flow, wrap=SlowStore) as client:
        handle = client.start(run, key="k")
        sayers = [client.start(say, word, key="k") for word in ("a", "b")]
        for sayer in sayers:
            until(client, sayer.id, "suspended")
        engine = engine_of(client)

        def go():
            for sayer in sayers:
                engine.links.post(engine.rows.find(sayer.id), "go", b"null")

        in_engine(client, go)
        assert handle.result(5) == ["a", "a"]


@pytest.mark.parametrize("parked", [False, True])
def test_several_invocations_wait_for_one_promise(world, parked):
    flow = signup()
    with world.holdfast(flow, limits=Limits(waiting=0 if parked else 99)) as client:
        main = client.start(flow.run, key="k")
        others = [client.start(flow.waits, key="k") for _ in range(20)]
        waiting(client, 21)
        client.call(flow.say, "hi", key="k", timeout=5)
        assert main.result(5) == "Ada hi"
        assert [other.result(5) for other in others] == ["also hi"] * 20
        assert engine_of(client).store.waiters("Signup:k:word") == []


def test_one_invocation_waits_for_one_promise_twice(world, weather):
    flow = Workflow("Signup")

    @flow.main
    async def run(ctx: WorkflowContext) -> list[str]:
        both = await asyncio.gather(ctx.promise("word", type=str), ctx.promise("word", type=str))
        return [*both, await ctx.promise("word", type=str)]

    @flow.handler
    async def say(ctx: WorkflowContext, word: str) -> None:
        ctx.resolve("word", word)

    with world.life(flow, **weather) as client:
        client.start(run, key="k")
        waiting(client)
    with world.holdfast(flow, **weather) as client:
        client.call(say, "hi", key="k", timeout=5)
        assert client.attach("Signup:k").result(5) == ["hi"] * 3


def test_across_deaths(world, weather):
    ran = []
    flow = signup(ran)
    with world.life(flow, **weather) as client:
        client.start(flow.run, key="k")
        client.start(flow.waits, key="k", id="other")
        waiting(client, 2)
    with world.life(flow, **weather) as client:
        client.call(flow.say, "hi", key="k", timeout=5)
    with world.holdfast(flow, **weather) as client:
        assert client.attach("Signup:k").result(5) == "Ada hi"
        assert client.attach("other").result(5) == "also hi"
    assert ran == ["Ada"]


def test_a_promise_that_is_settled_while_its_waiters_are_paused(world, weather):
    flow = signup()
    with world.life(flow, **weather) as client:
        client.start(flow.run, key="k")
        waiting(client)
        client.pause("Signup:k")
        until(client, "Signup:k", "paused")
        client.call(flow.say, "hi", key="k", timeout=5)
    with world.holdfast(flow, **weather) as client:
        assert status(client, "Signup:k") == "paused"
        client.resume("Signup:k")
        assert client.attach("Signup:k").result(5) == "Ada hi"


def test_a_wait_for_a_promise_that_is_given_up(world, weather):
    flow = Workflow("Signup")

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(0.02):
                await ctx.promise("word", type=str)
        except TimeoutError:
            await ctx.receive("go")
            return "late, " + await ctx.promise("word", type=str)

    @flow.handler
    async def say(ctx: WorkflowContext, word: str) -> None:
        ctx.resolve("word", word)

    with world.holdfast(flow, **weather) as client:
        handle = client.start(run, key="k")
        wait_for(lambda: any((view.kind, view.state) == ("timer", "done") for view in handle.journal()))
        client.call(say, "hi", key="k", timeout=5)
        handle.signal("go")
        assert handle.result(5) == "late, hi"


def test_a_waiter_that_is_cancelled_or_ends_leaves_the_promise_to_the_others(world, weather):
    flow = signup()
    with world.holdfast(flow, **weather) as client:
        handle = client.start(flow.run, key="k")
        other = client.start(flow.waits, key="k")
        waiting(client, 2)
        other.cancel()
        with pytest.raises(InvocationCancelled):
            other.result(5)
        assert client.promise("Signup:k:word").status == "open"
        client.call(flow.say, "hi", key="k", timeout=5)
        assert handle.result(5) == "Ada hi"


def test_a_client_resolves_it_by_its_id_and_the_type_is_checked(world, weather):
    flow = signup()
    with world.holdfast(flow, **weather) as client:
        with pytest.raises(UnknownPromise):
            client.resolve("Signup:k:word", "too early for a client: nobody has asked")
        handle = client.start(flow.run, key="k")
        waiting(client)
        with pytest.raises(BadArguments, match="does not fit promise"):
            client.resolve("Signup:k:word", 7)
        assert client.promise("Signup:k:word").status == "open"
        client.resolve("Signup:k:word", "by a client")
        assert handle.result(5) == "Ada by a client"
        with pytest.raises(AlreadySettled):
            client.resolve("Signup:k:word", "again")
        client.call(flow.say, "again", key="k", timeout=5)
        view = client.promise("Signup:k:word")
        assert (view.status, view.value, view.invocation) == ("resolved", "by a client", None)


def test_a_handler_that_resolves_it_with_another_type_pauses_who_waits(world, weather):
    flow = Workflow("Signup")

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        return await ctx.promise("word", type=str)

    @flow.handler
    async def say(ctx: WorkflowContext) -> None:
        ctx.resolve("word", 7)

    with world.holdfast(flow, **weather) as client:
        handle = client.start(run, key="k")
        waiting(client)
        client.call(say, key="k", timeout=5)
        assert "str" in paused(handle)
        assert status(client, client.start(say, key="other").id) in {"done", "ready", "suspended"}, "no other is hurt"


def test_the_promise_is_listed_with_its_form(world):
    flow = signup()
    with world.holdfast(flow) as client:
        client.start(flow.run, key="k")
        waiting(client)
        view = client.promise("Signup:k:word")
        assert (view.status, view.schema["type"]) == ("open", "string")
        assert client.asks() == []


def test_the_journal_and_the_events_of_one_that_waited_for_it(world, weather):
    flow = signup()
    with world.holdfast(flow, **weather) as client:
        handle = client.start(flow.run, key="k")
        waiting(client)
        client.call(flow.say, "hi", key="k", timeout=5)
        handle.result(5)
        (line,) = [view for view in handle.journal() if view.kind == "promise"]
        assert (line.id, line.state, line.output) == ("word#1", "done", "hi")
        assert [event.data["id"] for event in handle.watch() if event.kind == "promise"] == ["word#1"]


def test_promises_without_a_name_belong_to_the_invocation(world, weather):
    flow = Workflow("Flow")

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        own = ctx.promise(type=str)
        await ctx.run(given.append, own.id)
        return await own

    given = []
    with world.holdfast(flow, **weather) as client:
        handle = client.start(run, key="k")
        wait_for(lambda: given)
        wait_for(lambda: handle.status().status == "suspended")
        client.resolve(given[0], "hi")
        assert handle.result(5) == "hi"


@pytest.mark.parametrize("name", ["", "a/b", "a#b", "a:b", "x" * 101])
def test_names_of_promises_that_cannot_be(world, name):
    flow = Workflow("Flow")

    @flow.main
    async def run(ctx: WorkflowContext) -> int:
        refused = 0
        for use in (ctx.promise, ctx.resolve, lambda name: ctx.reject(name, "no")):
            try:
                use(name)
            except BadArguments:
                refused += 1
        return refused

    with world.holdfast(flow) as client:
        assert client.call(run, key="k", timeout=5) == 3


def test_a_large_value(world, weather):
    flow = signup()
    with world.holdfast(flow, **weather) as client:
        handle = client.start(flow.run, key="k")
        waiting(client)
        client.call(flow.say, "x" * 300_000, key="k", timeout=5)
        assert len(handle.result(5)) == 300_004
        assert len(client.call(flow.waits, key="k", timeout=5)) == 300_005


def test_a_workflow_calls_and_is_called_and_is_cancelled_as_a_whole(world, weather):
    flow = Workflow("Flow")

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        return await ctx.call(part, key=ctx.key)

    @flow.handler
    async def part(ctx: WorkflowContext) -> str:
        return await ctx.promise("word", type=str)

    async def h(ctx: Context) -> str:
        return await ctx.call(run, key="k")

    with world.holdfast(flow, h, **weather) as client:
        handle = client.start(h)
        wait_for(lambda: client.list(target="Flow/part"))
        part_id = child_of(client, "Flow:k")
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
        until(client, part_id, "cancelled")
        until(client, "Flow:k", "cancelled")
        with pytest.raises(InvocationFailed, match="InvocationCancelled"):
            client.call(h, timeout=5)


def test_a_burst_of_settlements_and_waiters(world):
    """Whoever is first wins, and all who wait see the same."""
    flow = signup()

    async def main():
        async with world.holdfast(flow, wrap=SlowStore, limits=Limits(waiting=3)) as client:
            handles = [await client.start(flow.waits, key="k") for _ in range(10)]
            await asyncio.gather(
                *[client.call(flow.say, str(n), key="k", timeout=10) for n in range(10)],
                *[client.start(flow.waits, key="k", id=f"late {n}") for n in range(10)],
            )
            late = [await client.attach(f"late {n}") for n in range(10)]
            return {await handle.result(10) for handle in [*handles, *late]}

    assert len(asyncio.run(main())) == 1


def test_a_settlement_and_the_death_of_its_process(world, weather):
    flow, hold = signup(), threading.Event()

    @flow.handler
    async def says_and_works(ctx: WorkflowContext) -> str:
        ctx.resolve("word", "said")
        await ctx.run(hold.wait, 5)
        ctx.resolve("word", "said again")
        return "worked"

    options = {**weather, "limits": Limits(drain_seconds=0, waiting=getattr(weather.get("limits"), "waiting", 99))}
    with world.life(flow, **options) as client:
        client.start(flow.run, key="k")
        client.start(says_and_works, key="k", id="s")
        assert client.attach("Signup:k").result(5) == "Ada said"
    hold.set()
    with world.holdfast(flow, **options) as client:
        assert client.attach("s").result(5) == "worked"
        assert client.promise("Signup:k:word").value == "said"
