"""Generator handlers: the same engine, `yield` in place of `await`."""

import asyncio
import threading
from collections.abc import Generator
from typing import Any

import pytest

from holdfast import Context, InvocationCancelled, InvocationFailed, Limits, Retry, StepFailed, TerminalError
from tests.engine.world import one_ask, open_promise, paused, wait_for

ONCE = Retry(max_attempts=1)


def fail() -> None:
    raise ConnectionError("down")


def test_a_generator_is_sent_what_it_yields(world):
    def h(ctx: Context, goal: str) -> Generator[Any, Any, str]:
        reply = yield ctx.run(str.upper, goal, name="ask", returns=str)
        both = yield asyncio.gather(ctx.run(len, "ab"), ctx.run(len, "abc"))
        yield asyncio.sleep(0.001)
        return f"{reply} {both}"

    with world.holdfast(h) as client:
        handle = client.start(h, "rome")
        assert handle.result(20) == "ROME [2, 3]"
        assert [view.kind for view in handle.journal()] == ["step", "step", "step", "timer"]


def test_errors_are_thrown_into_the_generator_where_it_yielded(world):
    def h(ctx: Context) -> Generator[Any, Any, list[str]]:
        seen = []
        try:
            yield ctx.run(fail, retry=ONCE)
        except StepFailed as error:
            seen.append(error.error_type)
        try:
            yield ctx.promise("p")
        except TerminalError as error:
            seen.append(str(error))
        return seen

    with world.holdfast(h) as client:
        handle = client.start(h)
        client.reject(open_promise(client), "no")
        assert handle.result(20) == ["ConnectionError", "no"]


def test_an_error_the_generator_does_not_catch_is_its_end(world):
    def h(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.run(fail, retry=ONCE)

    with world.holdfast(h) as client, pytest.raises(InvocationFailed, match="StepFailed"):
        client.start(h).result(20)


def test_the_finally_blocks_of_a_cancelled_generator_run_durably(world):
    log = []

    def h(ctx: Context) -> Generator[Any, Any, None]:
        try:
            yield ctx.promise("never")
        except asyncio.CancelledError:
            yield ctx.run(log.append, "undo")
            raise
        finally:
            yield ctx.run(log.append, "close")

    with world.holdfast(h) as client:
        handle = client.start(h)
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(20)
    assert log == ["undo", "close"]


def test_a_generator_goes_on_after_a_restart_where_it_was(world):
    calls = []

    def pay(x: int) -> int:
        calls.append(x)
        return x

    def h(ctx: Context) -> Generator[Any, Any, int]:
        total = 0
        for x in range(4):
            total += yield ctx.run(pay, x)
            yield ctx.promise("go")
        return total

    with world.holdfast(h) as client:
        client.start(h, id="x")
    for _ in range(4):
        with world.holdfast(h) as client:
            client.resolve(open_promise(client))
    with world.holdfast(h) as client:
        assert client.attach("x").result(20) == 6
    assert calls == [0, 1, 2, 3]


def test_a_generator_may_delegate_to_others(world):
    def ask(ctx: Context, question: str) -> Generator[Any, Any, int]:
        answer = yield ctx.run(len, question)
        return answer

    def h(ctx: Context) -> Generator[Any, Any, list[int]]:
        first = yield from ask(ctx, "a")
        second = yield from ask(ctx, "abc")
        return [first, second]

    with world.holdfast(h) as client:
        assert client.start(h).result(20) == [1, 3]


def test_a_generator_can_ask_a_person(world):
    def h(ctx: Context) -> Generator[Any, Any, str]:
        ok = yield ctx.ask("Go on?", bool)
        return "gone on" if ok else "stopped"

    with world.holdfast(h) as client:
        handle = client.start(h)
        client.answer(one_ask(client).id, True)
        assert handle.result(20) == "gone on"


def test_a_generator_that_yields_something_else_is_told_so(world):
    def h(ctx: Context) -> Generator[Any, Any, None]:
        yield 7

    with world.holdfast(h) as client:
        with pytest.raises(InvocationFailed, match=r"BadHandler: .*h yielded int, which cannot be awaited") as caught:
            client.start(h).result(20)
        assert "value = yield ctx.run(function, ...)" in str(caught.value)


def test_a_generator_that_returns_at_once_and_one_that_only_yields_are_handlers_too(world):
    def nothing(ctx: Context) -> Generator[Any, Any, int]:
        return 5
        yield

    def steps(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.run(len, "a")

    with world.holdfast(nothing, steps) as client:
        assert client.start(nothing).result(20) == 5
        assert client.start(steps).result(20) is None


def test_a_generator_is_parked_and_comes_back(world):
    def h(ctx: Context) -> Generator[Any, Any, int]:
        n = yield ctx.run(len, "abc")
        m = yield ctx.promise("m", type=int)
        return n + m

    hf = world.holdfast(h, limits=Limits(waiting=0))
    with hf as client:
        handle = client.start(h)
        id = open_promise(client)
        wait_for(lambda: hf._engine._residents == {})
        client.resolve(id, 4)
        assert handle.result(20) == 7


def test_io_in_a_generator_handler_is_refused(world):
    def h(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.run(len, "a")
        import socket

        socket.create_connection(("127.0.0.1", 9))

    with world.holdfast(h) as client:
        assert "in a handler, outside a step" in paused(client.start(h))


def test_a_running_body_of_a_generator_is_stopped_by_cancel(world):
    began, stopped = threading.Event(), threading.Event()

    async def body() -> None:
        began.set()
        try:
            await asyncio.sleep(10)
        finally:
            stopped.set()

    def h(ctx: Context) -> Generator[Any, Any, None]:
        yield ctx.run(body)

    with world.holdfast(h) as client:
        handle = client.start(h)
        assert began.wait(2)
        handle.cancel()
        assert stopped.wait(2)
