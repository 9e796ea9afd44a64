"""Starting and finding invocations: ids, arguments, handlers, and the two clients (G1, G6)."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from holdfast import (
    BadArguments,
    BadHandler,
    Context,
    EngineStopped,
    Holdfast,
    IdConflict,
    InvocationFailed,
    Limits,
    MemoryStore,
    Service,
    TerminalError,
    UnknownHandler,
    UnknownInvocation,
    WrongPlace,
)  # fmt: skip
from tests.engine.world import BrokenStore, SlowStore, wait_for


async def double(ctx: Context, x: int) -> int:
    return 2 * x


async def shout(ctx: Context, text: str, times: int = 1) -> str:
    return text.upper() * times


async def forever(ctx: Context) -> None:
    await ctx.promise("never")


def test_a_start_returns_a_handle_that_knows_the_result(world):
    with world.holdfast(double) as client:
        handle = client.start(double, 21)
        assert handle.result() == 42
        assert handle.status().status == "done"
        assert handle.status().target == "double"


def test_an_id_is_made_when_none_is_given_and_sorts_by_time(world):
    with world.holdfast(double) as client:
        first = client.start(double, 1).id
        wait_for(lambda: client.start(double, 1).id[:10] >= first[:10])
        assert first.startswith("inv_")


def test_the_same_id_attaches_and_runs_nothing_again(world):
    calls = []

    async def count(ctx: Context, x: int) -> int:
        calls.append(x)
        return x

    with world.holdfast(count) as client:
        assert client.start(count, 7, id="once").result() == 7
        assert client.start(count, 7, id="once").result() == 7
        assert client.attach("once").result() == 7
    with world.holdfast(count) as client:
        assert client.start(count, 7, id="once").result() == 7
    assert calls == [7]


def test_arguments_given_by_name_and_by_position_are_the_same_input(world):
    with world.holdfast(shout) as client:
        assert client.start(shout, "a", times=2, id="x").result() == "AA"
        assert client.start(shout, "a", 2, id="x").result() == "AA"


def test_an_id_of_another_handler_is_a_conflict(world):
    with world.holdfast(double, shout) as client:
        client.start(double, 1, id="x").result()
        with pytest.raises(IdConflict, match=r"'x' belongs to an invocation of another handler, 'double'"):
            client.start(shout, "a", id="x")


def test_an_id_with_another_input_is_a_conflict_even_after_a_restart(world):
    with world.holdfast(double) as client:
        client.start(double, 1, id="x")
        with pytest.raises(IdConflict, match="another input"):
            client.start(double, 2, id="x")
    with world.holdfast(double) as client:
        with pytest.raises(IdConflict, match="another input"):
            client.start(double, 2, id="x")
        assert client.attach("x").result() == 2


def test_of_two_starts_at_once_with_one_id_one_wins_and_the_other_is_told(memory_world):
    async def main():
        async with memory_world.holdfast(double, wrap=SlowStore) as client:
            return await asyncio.gather(
                client.start(double, 1, id="x"), client.start(double, 2, id="x"), return_exceptions=True
            )

    won, lost = asyncio.run(main())
    assert won.id == "x"
    assert isinstance(lost, IdConflict)


def test_two_queued_starts_with_one_id_and_other_inputs_conflict_too(memory_world):
    async def hold(ctx: Context) -> None:
        await ctx.run(asyncio.sleep, 0.1)

    async def main():
        hf = memory_world.holdfast(hold, double, wrap=SlowStore, limits=Limits(running=1))
        async with hf as client:
            await client.start(hold)
            return await asyncio.gather(
                client.start(double, 1, id="x"), client.start(double, 2, id="x"), return_exceptions=True
            )

    won, lost = asyncio.run(main())
    assert won.id == "x"
    assert isinstance(lost, IdConflict)


@pytest.mark.parametrize("id", ["", "a" * 201, "new\nline", "\ud800"])
def test_an_id_that_cannot_be_one_is_refused(memory_world, id):
    with memory_world.holdfast(double) as client, pytest.raises(BadArguments, match="cannot be an invocation id"):
        client.start(double, 1, id=id)


def test_an_id_may_be_any_printable_text(world):
    with world.holdfast(double) as client:
        for id in ("a" * 200, "reise-née/17 ☂", "' OR 1=1 --"):
            assert client.start(double, 1, id=id).result() == 2
            assert client.attach(id).result() == 2


def test_an_unknown_handler_is_named_with_those_that_are_known(world):
    with world.holdfast(double) as client:
        with pytest.raises(UnknownHandler, match=r"no handler 'Trips/plan' is registered; known: double"):
            client.start("Trips/plan")
        with pytest.raises(UnknownHandler, match="no handler shout"):
            client.start(shout, "a")
        assert client.list() == []


def test_an_unknown_invocation_is_named(world):
    with world.holdfast(double) as client, pytest.raises(UnknownInvocation, match="'nobody'"):
        client.attach("nobody")


@pytest.mark.parametrize(
    "args, kwargs, says",
    [
        ((), {}, "missing a required argument: 'text'"),
        (("a", 1, 2), {}, "too many positional arguments"),
        (("a",), {"time": 2}, "unexpected keyword argument 'time'"),
        ((5,), {}, r"argument 'text': .*str.*int"),
        (("a", "b"), {}, r"argument 'times': .*int.*str"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_stored(world, args, kwargs, says):
    with world.holdfast(shout) as client:
        with pytest.raises(BadArguments, match=says) as caught:
            client.start(shout, *args, **kwargs)
        assert "shout()" in str(caught.value)
        assert client.list() == []


@dataclass
class Claim:
    amount: float
    tags: set[str]


def test_typed_arguments_arrive_as_their_type(world):
    async def review(ctx: Context, claim: Claim, *more: Claim, **named: int) -> list[float]:
        assert isinstance(claim, Claim)
        assert all(isinstance(one, Claim) for one in more)
        return [claim.amount, *(one.amount for one in more), *named.values()]

    with world.holdfast(review) as client:
        claim = Claim(1.5, {"a"})
        assert client.start(review, claim, claim, extra=7).result() == [1.5, 1.5, 7]


def test_a_handler_of_a_service_is_known_by_function_and_by_name(world):
    trips = Service("Trips")

    @trips.handler
    async def plan(ctx: Context, goal: str) -> str:
        return f"to {goal}"

    with world.holdfast(trips) as client:
        assert client.start(plan, "Rome").result() == "to Rome"
        assert client.start("Trips/plan", goal="Oslo").result() == "to Oslo"
        assert client.list()[0].target == "Trips/plan"


def test_a_handler_stays_the_function_it_was():
    hf = Holdfast(MemoryStore())
    assert hf.handler(double) is double
    assert asyncio.run(double(None, 4)) == 8


def test_a_sync_handler_is_refused_with_a_hint():
    def plain(ctx: Context) -> int:
        return 1

    with pytest.raises(BadHandler, match=r"'plain' is a plain function(.|\n)*async def"):
        Holdfast(MemoryStore()).handler(plain)


def test_an_async_generator_handler_is_refused():
    async def stream(ctx: Context) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(BadHandler, match="'stream' is an async generator, which has no result"):
        Holdfast(MemoryStore()).handler(stream)


def test_handlers_that_cannot_be_told_apart_are_refused():
    hf = Holdfast(MemoryStore())
    hf.handler(double)
    with pytest.raises(BadHandler, match="two handlers are called 'double'"):
        hf.handler(double)
    service = Service("S")
    service.handler(double)
    with pytest.raises(BadHandler, match="has a handler 'double' already"):
        service.handler(double)


def test_what_cannot_be_a_handler_is_refused():
    hf = Holdfast(MemoryStore())

    async def nothing() -> None: ...

    async def only_named(*, ctx: Context) -> None: ...

    for broken in (nothing, only_named, lambda ctx: None, functools.partial(double, x=1)):
        with pytest.raises(BadHandler):
            hf.handler(broken)
    with pytest.raises(BadHandler, match="cannot be the name of a service"):
        Service("no spaces")


def test_a_failing_handler_tells_its_caller_what_it_raised(world):
    async def fail(ctx: Context) -> None:
        raise LookupError("no such trip")

    with world.holdfast(fail) as client:
        handle = client.start(fail, id="f")
        with pytest.raises(InvocationFailed, match="'f' failed: LookupError: no such trip") as caught:
            handle.result()
        assert caught.value.error_type == "LookupError"
        assert 'raise LookupError("no such trip")' in caught.value.details
        assert handle.status().status == "failed"
        assert handle.status().reason == "LookupError: no such trip"


def test_a_terminal_error_reaches_the_caller_with_its_status(world):
    async def fail(ctx: Context) -> None:
        raise TerminalError("no money", status=402)

    with world.holdfast(fail) as client:
        client.start(fail, id="f")
    with world.holdfast(fail) as client, pytest.raises(TerminalError, match=r"^no money$") as caught:
        client.attach("f").result()
    assert caught.value.status == 402


def test_sys_exit_in_a_handler_fails_that_invocation_only(world):
    async def leave(ctx: Context) -> None:
        raise SystemExit(3)

    with world.holdfast(leave, double) as client:
        with pytest.raises(InvocationFailed, match="SystemExit: 3"):
            client.start(leave).result(20)
        assert client.start(double, 2).result(20) == 4


def test_a_list_shows_the_newest_first_and_can_be_narrowed(world):
    with world.holdfast(double, forever) as client:
        for x in range(3):
            client.start(double, x, id=f"d{x}").result()
        client.start(forever, id="f")
        assert [view.id for view in client.list()] == ["f", "d2", "d1", "d0"]
        assert [view.id for view in client.list(limit=2)] == ["f", "d2"]
        assert [view.id for view in client.list(status="done")] == ["d2", "d1", "d0"]
        assert [view.id for view in client.list(target="forever")] == ["f"]
        with pytest.raises(BadArguments, match="'asleep' is not a status"):
            client.list(status="asleep")
        with pytest.raises(BadArguments, match="limit is 0"):
            client.list(limit=0)


def test_a_result_can_be_waited_for_with_a_limit_and_asked_for_again(world):
    with world.holdfast(forever) as client:
        handle = client.start(forever)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                handle.result(timeout=0.01)


def test_waits_that_were_given_up_are_not_kept(memory_world):
    hf = memory_world.holdfast(forever)
    with hf as client:
        handle = client.start(forever)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                handle.result(timeout=0.001)
        assert sum(len(waiters) for waiters in hf._engine._waiters.values()) <= 1


def test_many_threads_may_use_one_blocking_client(world):
    results = []

    def work(base):
        handles = [client.start(double, base + x) for x in range(10)]
        results.extend(handle.result() for handle in handles)

    with world.holdfast(double) as client:
        threads = [threading.Thread(target=work, args=(100 * base,)) for base in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == sorted(2 * (100 * base + x) for base in range(8) for x in range(10))


def test_threads_that_wait_for_a_result_are_told_when_the_engine_stops(world):
    ends = []

    def wait(handle):
        with pytest.raises(EngineStopped):
            handle.result()
        ends.append(1)

    with world.holdfast(forever) as client:
        handle = client.start(forever)
        threads = [threading.Thread(target=wait, args=(handle,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(client._client._engine._waiters) == 1)
    for thread in threads:
        thread.join(2)
    assert len(ends) == 8


def test_the_async_client_does_what_the_blocking_one_does(world):
    async def main():
        async with world.holdfast(double, forever) as client:
            handle = await client.start(double, 21, id="d")
            assert await handle.result(20) == 42
            assert await (await client.attach("d")).result() == 42
            assert (await handle.status()).status == "done"
            assert await handle.journal() == []
            other = await client.start(forever, id="f")
            await other.cancel()
            assert [view.id for view in await client.list()] == ["f", "d"]
            assert await client.asks() == []

    asyncio.run(main())


def test_a_holdfast_can_be_used_again_after_its_block(world):
    hf = world.holdfast(double)
    for x in range(3):
        with hf as client:
            assert client.start(double, x, id=f"d{x}").result() == 2 * x

    async def main():
        async with hf as client:
            return await (await client.start(double, 9)).result()

    assert asyncio.run(main()) == 18


def test_a_holdfast_that_runs_cannot_be_entered_again(world):
    hf = world.holdfast(double)
    with hf as client:
        with pytest.raises(BadArguments, match="running already"), hf:
            pass
        assert client.start(double, 1).result() == 2


def test_a_client_is_of_no_use_after_its_block(world):
    with world.holdfast(double) as client:
        handle = client.start(double, 1)
    for call in (client.list, handle.result, lambda: client.start(double, 1), client.asks):
        with pytest.raises(EngineStopped, match="the engine has stopped"):
            call()


def test_an_async_client_is_of_no_use_after_its_block(world):
    async def main():
        async with world.holdfast(double) as client:
            handle = await client.start(double, 1)
        for call in (client.list, handle.result, client.asks, handle.status, handle.journal):
            with pytest.raises(EngineStopped):
                await call()

    asyncio.run(main())


def test_the_blocking_client_in_an_async_step_is_refused_and_does_not_hang(world):
    async def peek(ctx: Context) -> str:
        async def body() -> str:
            with pytest.raises(WrongPlace, match="the blocking client was used on the engine's own thread"):
                client.list()
            return "refused"

        return await ctx.run(body)

    with world.holdfast(peek) as client:
        assert client.start(peek).result(20) == "refused"


def test_the_blocking_client_may_be_used_in_a_sync_step(world):
    def start_another() -> int:
        return client.start(double, 4).result(20)

    async def outer(ctx: Context) -> int:
        return await ctx.run(start_another)

    with world.holdfast(outer, double) as client:
        assert client.start(outer).result(20) == 8


def test_starts_are_not_acknowledged_before_they_are_durable(memory_world):
    stores = []

    class Watching(BrokenStore):
        def commit(self, batch):
            stores.append(len(batch.starts))
            super().commit(batch)

    with memory_world.holdfast(double, wrap=Watching) as client:
        handle = client.start(double, 1)
        assert sum(stores) == 1
        assert handle.status().id == handle.id


def test_a_start_whose_id_is_new_and_its_result_are_one_look_into_the_store(memory_world):
    looks = []

    class Watching(BrokenStore):
        def find(self, id):
            looks.append(id)
            return self.inner.find(id)

        def waiters(self, subject):
            looks.append(subject)
            return self.inner.waiters(subject)

    with memory_world.holdfast(double, wrap=Watching) as client:
        handle = client.start(double, 1)
        assert handle.result(20) == 2
        assert looks == [handle.id]
