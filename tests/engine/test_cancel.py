"""Cancel in every state: bodies are stopped, and compensation still runs durably (G7)."""

import asyncio
import threading
import time

import pytest

from holdfast import (
    BadArguments,
    Context,
    InvocationCancelled,
    InvocationFailed,
    Limits,
    Retry,
    StoreFailed,
    UnknownInvocation,
    WrongStatus,
    step,
)  # fmt: skip
from tests.engine.world import BrokenStore, one_ask, open_promise, paused, wait_for


def cancelled(handle, reason="cancelled by the client"):
    with pytest.raises(InvocationCancelled, match=f"was cancelled: {reason}"):
        handle.result(3)
    assert handle.status().status == "cancelled"
    assert handle.status().reason == reason


def test_cancel_stops_the_async_body_that_runs(world):
    began, stopped = threading.Event(), threading.Event()

    async def call_model() -> None:
        began.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            stopped.set()
            raise

    async def h(ctx: Context) -> None:
        await ctx.run(call_model)

    with world.holdfast(h) as client:
        handle = client.start(h)
        assert began.wait(2)
        handle.cancel("too dear")
        assert stopped.wait(2)
        cancelled(handle, "too dear")
        assert [view.kind for view in handle.journal()] == ["cancel"]
        assert handle.journal()[0].error == "too dear"


def test_cancel_tells_the_sync_body_that_runs(world):
    began, stopped = threading.Event(), threading.Event()

    def crunch() -> None:
        info = step()
        began.set()
        until = time.monotonic() + 10
        while not info.cancelled and time.monotonic() < until:
            time.sleep(0.002)
        stopped.set()

    async def h(ctx: Context) -> None:
        await ctx.run(crunch)

    with world.holdfast(h) as client:
        handle = client.start(h)
        assert began.wait(2)
        handle.cancel()
        assert stopped.wait(2)
        cancelled(handle)


def test_cancel_before_the_first_step_runs_nothing(world):
    release, ran = threading.Event(), []

    async def hold(ctx: Context) -> None:
        await ctx.run(release.wait, 5)

    async def h(ctx: Context) -> None:
        await ctx.run(ran.append, 1)

    with world.holdfast(hold, h, limits=Limits(running=1)) as client:
        client.start(hold)
        handle = client.start(h)
        assert handle.status().status == "queued"
        handle.cancel()
        cancelled(handle)
        release.set()
    assert ran == []


def test_cancel_of_a_sleeper(world):
    async def h(ctx: Context) -> None:
        await asyncio.sleep(3600)

    with world.holdfast(h) as client:
        handle = client.start(h)
        handle.cancel()
        cancelled(handle)
        assert handle.status().wake_at is None


@pytest.mark.parametrize("waiting", [0, 9])
def test_cancel_of_a_parked_one_and_of_one_in_memory(world, waiting):
    cleaned = []

    async def h(ctx: Context) -> None:
        try:
            await ctx.promise("never")
        except asyncio.CancelledError:
            await ctx.run(cleaned.append, "up")
            raise

    hf = world.holdfast(h, limits=Limits(waiting=waiting))
    with hf as client:
        handle = client.start(h)
        wait_for(lambda: bool(hf._engine._residents) == bool(waiting))
        handle.cancel()
        cancelled(handle)
    assert cleaned == ["up"]


def test_cancel_of_one_that_asks_takes_the_question_back(world):
    async def h(ctx: Context) -> None:
        await ctx.ask("Are you there?")

    with world.holdfast(h) as client:
        handle = client.start(h)
        one_ask(client)
        handle.cancel()
        cancelled(handle)
        assert client.asks() == []


def test_cancel_of_one_between_two_attempts(world):
    async def bad() -> None:
        raise ConnectionError("down")

    async def h(ctx: Context) -> None:
        await ctx.run(bad, retry=Retry(initial=60))

    with world.holdfast(h) as client:
        handle = client.start(h)
        wait_for(lambda: [view for view in handle.journal() if view.state == "retrying"])
        handle.cancel()
        cancelled(handle)


def test_cancel_of_one_paused_by_a_slip_runs_its_clean_up(world):
    cleaned, calls = [], []

    async def bad() -> None:
        calls.append(1)
        raise TypeError("a slip")

    async def h(ctx: Context) -> None:
        try:
            await ctx.run(bad)
        except asyncio.CancelledError:
            await ctx.run(cleaned.append, "up")
            raise

    with world.holdfast(h) as client:
        handle = client.start(h)
        paused(handle)
        handle.cancel()
        cancelled(handle)
    assert cleaned == ["up"]
    assert calls == [1]


def test_cancel_of_one_whose_code_no_longer_fits_is_refused_with_the_reason(world):
    async def h(ctx: Context) -> None:
        await ctx.run(len, "abc")
        await ctx.promise("hold")

    def changed():
        async def h(ctx: Context) -> None:
            await ctx.promise("hold")

        return h

    with world.holdfast(h) as client:
        client.start(h, id="x")
        open_promise(client)
    with world.holdfast(changed()) as client:
        for _ in range(2):
            with pytest.raises(WrongStatus, match="'x' is paused and cannot run its clean-up") as caught:
                client.attach("x").cancel()
            assert "mend the cause and resume it first" in str(caught.value)
    with world.holdfast(h) as client:
        client.resume("x")
        client.attach("x").cancel()
        cancelled(client.attach("x"))


def test_cancel_of_one_that_has_ended_is_refused(world):
    async def fine(ctx: Context) -> None: ...

    async def bad(ctx: Context) -> None:
        raise ValueError("no")

    with world.holdfast(fine, bad) as client:
        for handler in (fine, bad):
            handle = client.start(handler)
            wait_for(lambda handle=handle: handle.status().status in ("done", "failed"))
            with pytest.raises(WrongStatus, match="has ended already"):
                handle.cancel()


def test_a_second_cancel_does_not_disturb_the_clean_up(world):
    began, release = threading.Event(), threading.Event()
    done = []

    def undo() -> str:
        began.set()
        release.wait(5)
        return "undone"

    async def h(ctx: Context) -> None:
        try:
            await ctx.promise("never")
        except asyncio.CancelledError:
            done.append(await ctx.run(undo))
            raise

    with world.holdfast(h) as client:
        handle = client.start(h)
        handle.cancel("first")
        assert began.wait(2)
        handle.cancel("second")
        release.set()
        cancelled(handle, "first")
        assert [view.kind for view in handle.journal()] == ["cancel", "step"]
        with pytest.raises(WrongStatus, match="has ended already"):
            handle.cancel("third")
    assert done == ["undone"]


@pytest.mark.parametrize("reason", [None, 5, ValueError("x"), {"a": 1}])
def test_a_reason_that_is_no_text_is_refused_before_it_is_stored(world, reason):
    async def h(ctx: Context) -> None:
        await ctx.promise("hold")

    with world.holdfast(h) as client:
        handle = client.start(h, id="x")
        with pytest.raises(BadArguments, match=f"the reason of a cancel is {type(reason).__name__}"):
            handle.cancel(reason)
        handle.cancel("a reason \ud800 of any letters")
    with world.holdfast(h) as client, pytest.raises(InvocationCancelled, match="of any letters"):
        client.attach("x").result(20)


def test_cancel_of_nobody_is_refused(world):
    with world.holdfast() as client, pytest.raises(UnknownInvocation):
        client.attach("nobody").cancel()


def test_a_handler_that_goes_on_after_its_cancel_ends_as_it_likes(world):
    async def returns(ctx: Context) -> str:
        try:
            await ctx.promise("never")
        except asyncio.CancelledError:
            return "finished in spite of it"

    async def raises(ctx: Context) -> None:
        try:
            await ctx.promise("never")
        except asyncio.CancelledError:
            raise ValueError("in the clean-up") from None

    with world.holdfast(returns, raises) as client:
        first, second = client.start(returns), client.start(raises)
        first.cancel()
        second.cancel()
        assert first.result(20) == "finished in spite of it"
        with pytest.raises(InvocationFailed, match="ValueError: in the clean-up"):
            second.result(20)


def test_cancel_reaches_every_task_and_body(world):
    began, stopped = [], []

    async def body(x: int) -> None:
        began.append(x)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            stopped.append(x)
            raise

    async def h(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            for x in range(5):
                group.create_task(ctx.run(body, x))
            group.create_task(asyncio.sleep(3600))

    with world.holdfast(h) as client:
        handle = client.start(h)
        wait_for(lambda: len(began) == 5)
        handle.cancel()
        cancelled(handle)
        wait_for(lambda: sorted(stopped) == [0, 1, 2, 3, 4])


def booking(log):
    """Three bookings, each with its undo, in reverse when it is cancelled."""

    async def book(what: str) -> str:
        log.append(f"book {what}")
        return f"{what}-1"

    async def undo(what: str) -> None:
        log.append(f"undo {what}")

    async def h(ctx: Context) -> None:
        booked = []
        try:
            for what in ("flight", "hotel", "car"):
                booked.append(await ctx.run(book, what))  # noqa: PERF401  # as a user would write it
            await ctx.promise("pay")
        except asyncio.CancelledError:
            for receipt in reversed(booked):
                await ctx.run(undo, receipt)
            raise

    return h


def test_compensation_runs_to_its_end_and_each_undo_once(world):
    log = []
    h = booking(log)
    with world.holdfast(h) as client:
        handle = client.start(h)
        open_promise(client)
        handle.cancel()
        cancelled(handle)
        kinds = [view.id for view in handle.journal()]
    assert log == ["book flight", "book hotel", "book car", "undo car-1", "undo hotel-1", "undo flight-1"]
    assert kinds == ["book#1", "book#2", "book#3", "cancel", "undo#1", "undo#2", "undo#3"]


@pytest.mark.parametrize("commits", range(4))
def test_compensation_goes_on_after_a_crash_in_its_midst(world, commits):
    log = []
    h = booking(log)

    class Dies(BrokenStore):
        left = None

        def commit(self, batch):
            if self.left is not None:
                if self.left == 0:
                    self.error = StoreFailed("the power is out")
                self.left -= 1
            super().commit(batch)

    stores = []
    hf = world.holdfast(h, wrap=lambda inner: stores.append(Dies(inner)) or stores[0])
    with hf as client:
        handle = client.start(h, id="x")
        open_promise(client)
        stores[0].left = commits
        with pytest.raises(StoreFailed):
            handle.cancel()
            handle.result(3)
    with world.holdfast(h) as client:
        handle = client.attach("x")
        if commits == 0:
            handle.cancel()  # the first was never acknowledged
        cancelled(handle)
        undone = [view.id for view in handle.journal() if view.id.startswith("undo")]
    assert undone == ["undo#1", "undo#2", "undo#3"]
    for receipt in ("car-1", "hotel-1", "flight-1"):
        assert 1 <= log.count(f"undo {receipt}") <= 2
    assert sum(line.startswith("undo") for line in log) <= 4, "at most the one in flight ran twice"


def test_many_are_cancelled_at_once(world):
    async def h(ctx: Context) -> None:
        await asyncio.gather(ctx.promise("never"), asyncio.sleep(3600))

    async def main():
        async with world.holdfast(h, limits=Limits(waiting=10)) as client:
            handles = [await client.start(h) for _ in range(60)]
            await asyncio.gather(*[handle.cancel() for handle in handles])
            ends = await asyncio.gather(*[handle.result(5) for handle in handles], return_exceptions=True)
            return [type(end) for end in ends]

    assert asyncio.run(main()) == [InvocationCancelled] * 60


def test_a_cancel_survives_a_restart(world):
    release = threading.Event()

    def undo() -> None:
        release.wait(5)

    async def h(ctx: Context) -> None:
        try:
            await ctx.promise("never")
        except asyncio.CancelledError:
            await ctx.run(undo)
            raise

    with world.holdfast(h, limits=Limits(drain_seconds=0)) as client:
        client.start(h, id="x").cancel("no need")
    release.set()
    with world.holdfast(h) as client:
        cancelled(client.attach("x"), "no need")
