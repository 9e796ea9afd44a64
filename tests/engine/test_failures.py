"""What follows a failed attempt: another one, StepFailed at the await, or a pause with a reason (G8)."""

import asyncio
import threading
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast import Context, InvocationFailed, InvocationPaused, Limits, Retry, StepFailed, WrongStatus, step
from tests.engine.world import FakeClock, open_promise, paused, wait_for

SOON = Retry(initial=0)
ONCE = Retry(max_attempts=1)


class Flaky:
    """Fails so many times, then works."""

    def __init__(self, failures: int, error: BaseException) -> None:
        self.failures = failures
        self.error = error
        self.times: list[float] = []

    async def __call__(self) -> str:
        self.times.append(time.monotonic())
        if len(self.times) <= self.failures:
            raise self.error
        return "worked"


def running(flaky, retry):
    async def h(ctx: Context) -> str:
        return await ctx.run(flaky, name="flaky", retry=retry)

    return h


def test_a_transient_failure_is_tried_again_and_the_result_is_as_if_nothing_had_been(world):
    flaky = Flaky(3, ConnectionError("reset"))
    h = running(flaky, SOON)
    with world.holdfast(h) as client:
        handle = client.start(h)
        assert handle.result(20) == "worked"
        (view,) = handle.journal()
    assert (view.state, view.tries, view.error) == ("done", 4, None)
    assert len(flaky.times) == 4


def test_a_step_between_attempts_shows_how_often_it_failed_and_why(world):
    h = running(Flaky(9, ConnectionError("reset by the other side")), Retry(initial=60, jitter=0))
    with world.holdfast(h) as client:
        handle = client.start(h)
        (view,) = wait_for(lambda: [view for view in handle.journal() if view.state == "retrying"])
        assert (view.tries, view.error) == (1, "ConnectionError: reset by the other side")
        wait_for(lambda: handle.status().status == "suspended", "it holds no place while it waits")


def test_used_up_attempts_raise_step_failed_at_the_await(world):
    h = running(Flaky(9, ConnectionError("reset")), Retry(max_attempts=3, initial=0))
    with world.holdfast(h) as client:
        handle = client.start(h)
        with pytest.raises(InvocationFailed, match=r"StepFailed: .*'flaky#1' failed after 3 attempts: ConnectionError"):
            handle.result(20)
        (view,) = handle.journal()
    assert (view.state, view.tries, view.error, view.output) == ("failed", 3, "ConnectionError: reset", None)


def test_a_step_failure_has_the_same_shape_live_and_after_a_replay(world):
    flaky = Flaky(9, ConnectionError("reset"))
    shapes = []

    async def h(ctx: Context) -> None:
        try:
            await ctx.run(flaky, name="flaky", retry=Retry(max_attempts=2, initial=0))
        except StepFailed as failed:
            shapes.append((type(failed), str(failed), failed.step, failed.error_type, failed.message, failed.attempts,
                           failed.details, failed.__cause__))  # fmt: skip
        await ctx.promise("hold")

    for _ in range(2):
        with world.holdfast(h) as client:
            client.start(h, id="x")
            wait_for(lambda: client.attach("x").status().status == "suspended")
    with world.holdfast(h) as client:
        client.resolve(open_promise(client))
        client.attach("x").result(20)
    assert len(shapes) >= 2
    assert len(set(shapes)) == 1
    assert shapes[0][2:6] == ("flaky#1", "ConnectionError", "reset", 2)
    assert "raise self.error" in shapes[0][6]
    assert len(flaky.times) == 2


def test_step_failed_is_an_exception_that_ordinary_code_catches(world):
    async def h(ctx: Context) -> str:
        try:
            return await ctx.run(Flaky(9, OSError("no")), name="flaky", retry=ONCE)
        except Exception as error:  # noqa: BLE001
            return type(error).__name__

    with world.holdfast(h) as client:
        assert client.start(h).result(20) == "StepFailed"


def wish_by_attribute(value):
    error = ConnectionError("busy")
    error.retry_after = value
    return error


def wish_by_header(text):
    error = ConnectionError("busy")
    error.response = SimpleNamespace(headers={"retry-after": text})
    return error


@pytest.mark.parametrize(
    "error",
    [
        wish_by_attribute(0.08),
        wish_by_attribute(timedelta(seconds=0.08)),
        wish_by_header(format_datetime(datetime.fromtimestamp(1_700_000_000, UTC) + timedelta(seconds=1), usegmt=True)),
    ],
)
def test_retry_after_is_honoured(memory_world, error):
    clock = FakeClock()
    clock.ms = 1_700_000_000_920  # 80 ms before the date in the header
    flaky = Flaky(1, error)
    h = running(flaky, SOON)
    with memory_world.holdfast(h, clock=clock) as client:
        assert client.start(h).result(20) == "worked"
    first, second = flaky.times
    assert second - first >= 0.08


@pytest.mark.parametrize("wish", ["²", "soon", float("nan"), -5, "", 10**400, "9" * 400, b"3", object()])
def test_a_retry_after_that_makes_no_sense_changes_nothing(memory_world, wish):
    h = running(Flaky(1, wish_by_attribute(wish)), Retry(max_attempts=1))
    with memory_world.holdfast(h) as client, pytest.raises(InvocationFailed, match="busy"):
        client.start(h).result(20)


def test_errors_that_cannot_even_be_looked_at_are_failures_like_others(memory_world):
    class Broken(Exception):
        @property
        def retry_after(self):
            raise ValueError("no")

        def __str__(self):
            raise ValueError("no")

    h = running(Flaky(9, Broken()), ONCE)
    with memory_world.holdfast(h) as client, pytest.raises(InvocationFailed, match=r"Broken: .*its text cannot be had"):
        client.start(h).result(20)


def test_a_spent_patience_pauses_and_a_resume_tries_anew(world):
    flaky = Flaky(2, ConnectionError("down"))
    h = running(flaky, Retry(max_attempts=2, initial=0, then="pause"))
    with world.holdfast(h) as client:
        handle = client.start(h)
        assert "ConnectionError: down" in paused(handle)
        handle.resume()
        assert handle.result(20) == "worked"


def test_the_default_patience_ends_in_a_pause_after_a_day(world):
    clock = FakeClock()

    async def down() -> None:
        clock.wind(86_400)
        raise ConnectionError("still down")

    async def h(ctx: Context) -> None:
        await ctx.run(down)

    with world.holdfast(h, clock=clock) as client:
        assert "ConnectionError: still down" in paused(client.start(h))


MENDLESS = [TypeError, NameError, AttributeError, ImportError, NotImplementedError, RecursionError]


@pytest.mark.parametrize("kind", MENDLESS)
def test_a_fault_that_no_retry_can_mend_pauses_at_once_with_its_traceback(memory_world, kind):
    flaky = Flaky(9, kind("a slip of the pen"))
    h = running(flaky, Retry(max_attempts=5, initial=0))
    with memory_world.holdfast(h) as client:
        handle = client.start(h)
        reason = paused(handle)
        assert f"{kind.__name__}: a slip of the pen" in reason
        assert "Traceback (most recent call last)" in reason
        assert "raise self.error" in reason
        assert handle.status().status == "paused"
        assert handle.status().reason == reason
    assert len(flaky.times) == 1


def test_when_a_step_pauses_bodies_that_run_finish_and_are_recorded(world):
    release = threading.Event()
    calls = []

    async def slow() -> str:
        calls.append("slow")
        await asyncio.to_thread(release.wait, 5)
        return "slow is done"

    async def later() -> str:
        calls.append("later")
        return "later is done"

    def code(slip: bool):
        async def pay() -> None:
            calls.append("slips" if slip else "mended")
            if slip:
                raise TypeError("a slip")

        async def h(ctx: Context) -> list[str]:
            first = ctx.run(slow)
            await ctx.run(pay)
            return [await first, await ctx.run(later)]

        return h

    h = code(slip=True)
    with world.holdfast(h) as client:
        handle = client.start(h, id="x")
        assert "TypeError" in paused(handle)
        with pytest.raises(WrongStatus, match="still waits for a body that runs"):
            handle.resume()
        release.set()
        wait_for(lambda: [view for view in handle.journal() if view.id == "slow#1" and view.state == "done"])
        assert handle.status().status == "paused"

    with world.holdfast(code(slip=False)) as client:
        assert client.attach("x").status().status == "paused", "a restart alone resumes nothing"
        client.resume("x")
        assert client.attach("x").result(20) == ["slow is done", "later is done"]
    assert calls == ["slow", "slips", "mended", "later"]


def test_a_paused_invocation_is_told_to_everyone_who_waits(world):
    release = threading.Event()
    told = []

    def bad() -> None:
        release.wait(5)
        raise TypeError("a slip")

    async def h(ctx: Context) -> None:
        await ctx.run(bad)

    def wait(handle):
        with pytest.raises(InvocationPaused, match="finished steps are not run again"):
            handle.result(5)
        told.append(1)

    with world.holdfast(h) as client:
        handle = client.start(h)
        threads = [threading.Thread(target=wait, args=(handle,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        release.set()
        for thread in threads:
            thread.join()
    assert len(told) == 4


def test_only_a_paused_invocation_can_be_resumed(world):
    async def h(ctx: Context) -> None:
        await ctx.promise("hold")

    async def done(ctx: Context) -> None: ...

    with world.holdfast(h, done) as client:
        handle = client.start(h)
        with pytest.raises(WrongStatus, match="is suspended and cannot be resumed"):
            handle.resume()
        ended = client.start(done)
        ended.result(20)
        with pytest.raises(WrongStatus, match="is done and cannot be resumed"):
            ended.resume()


def test_of_two_resumes_at_once_one_is_told_that_it_goes_on_already(memory_world):
    mended = []

    async def body() -> int:
        if not mended:
            raise TypeError("a slip")
        await asyncio.sleep(0.02)
        return 1

    async def h(ctx: Context) -> int:
        return await ctx.run(body)

    async def main():
        async with memory_world.holdfast(h) as client:
            handle = await client.start(h)
            with pytest.raises(InvocationPaused):
                await handle.result(20)
            mended.append(1)
            both = await asyncio.gather(handle.resume(), handle.resume(), return_exceptions=True)
            return both, await handle.result(20)

    (first, second), result = asyncio.run(main())
    assert (first, result) == (None, 1)
    assert "is ready and cannot be resumed" in str(second)


def test_a_step_that_was_cancelled_just_before_the_handler_was_paused_is_not_recorded(world):
    release = threading.Event()
    ended = threading.Event()
    faulty = [True]

    def slow() -> str:
        release.wait(5)
        ended.set()
        return "too late"

    async def h(ctx: Context) -> str:
        left = ctx.run(slow)
        await ctx.run(len, "a")
        left.cancel()
        if faulty:
            import subprocess

            subprocess.run(["true"])
        return "mended"

    with world.holdfast(h) as client:
        handle = client.start(h)
        assert "subprocess" in paused(handle)
        release.set()
        assert ended.wait(2)
        time.sleep(0.02)
        assert [view.id for view in handle.journal()] == ["len#1"]
        faulty.clear()
        handle.resume()
        assert handle.result(20) == "mended"


@pytest.mark.parametrize("make", ["async", "sync", "lambda of a coroutine"])
def test_an_attempt_that_takes_too_long_counts_as_failed(world, make):
    late = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            late.set()
            raise

    def hang_in_thread() -> None:
        info = step()
        until = time.monotonic() + 5
        while not info.cancelled and time.monotonic() < until:
            time.sleep(0.002)
        late.set()

    bodies = {"async": hang, "sync": hang_in_thread, "lambda of a coroutine": lambda: hang()}  # noqa: PLW0108
    body = bodies[make]

    async def h(ctx: Context) -> None:
        await ctx.run(body, name="hang", timeout=0.03, retry=Retry(max_attempts=2, initial=0))

    says = r"2 attempts: TimeoutError: attempt 2 took longer than 0\.03 s"
    with world.holdfast(h) as client, pytest.raises(InvocationFailed, match=says):
        client.start(h).result(20)
    assert late.wait(2), "the body is told"


def test_a_late_thread_that_ends_after_its_attempt_changes_nothing(world):
    release = threading.Event()

    def hang() -> str:
        if step().attempt == 1:
            release.wait(5)
            return "too late"
        return "in time"

    async def h(ctx: Context) -> str:
        result = await ctx.run(hang, timeout=0.03, retry=SOON)
        await ctx.promise("hold")
        return result

    with world.holdfast(h) as client:
        handle = client.start(h)
        wait_for(lambda: handle.status().status == "suspended")
        release.set()
        time.sleep(0.02)
        view, waiting = handle.journal()
        assert (view.output, view.tries, waiting.state) == ("in time", 2, "waiting")


def test_asyncio_timeout_around_a_step_cancels_its_body(world):
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def h(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.03):
                await ctx.run(hang)
        except TimeoutError:
            return "gave up"
        return "came back"

    with world.holdfast(h) as client:
        handle = client.start(h)
        assert handle.result(20) == "gave up"
        assert cancelled.wait(2)
        assert [view.kind for view in handle.journal()] == ["timer"]


def test_a_body_that_cancels_itself_is_a_failed_attempt(world):
    async def body() -> None:
        raise asyncio.CancelledError

    async def h(ctx: Context) -> None:
        await ctx.run(body, retry=ONCE)

    with world.holdfast(h) as client, pytest.raises(InvocationFailed, match="the body cancelled itself"):
        client.start(h).result(20)


def test_a_body_may_ignore_its_cancellation_and_the_engine_still_stops(world):
    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue

    async def h(ctx: Context) -> None:
        await ctx.run(stubborn)

    began = time.monotonic()
    with world.holdfast(h, limits=Limits(drain_seconds=0)) as client:
        client.start(h)
    assert time.monotonic() - began < 2


def test_a_failure_keeps_a_readable_size_of_enormous_error_texts(world):
    h = running(Flaky(9, ValueError("x" * 5_000_000 + "\ud800")), ONCE)
    with world.holdfast(h) as client:
        handle = client.start(h)
        with pytest.raises(InvocationFailed) as caught:
            handle.result(20)
        assert len(str(caught.value)) < 100_000


def sync_body() -> None:
    raise TypeError("a slip")


async def async_body(times: int = 1) -> None:
    raise TypeError("a slip" * times)


def wrapped_body() -> None:
    try:
        sync_body()
    except TypeError as slip:
        raise TypeError("a slip of a slip") from slip


async def runs_sync(ctx: Context) -> None:
    await ctx.run(sync_body)


async def runs_async(ctx: Context) -> None:
    await ctx.run(async_body)


async def runs_what_gives_a_coroutine(ctx: Context) -> None:
    await ctx.run(lambda: async_body(2))


async def runs_in_a_thread(ctx: Context) -> None:
    await asyncio.to_thread(sync_body)


async def runs_wrapped(ctx: Context) -> None:
    await ctx.run(wrapped_body)


async def raises(ctx: Context) -> None:
    raise ValueError("a slip")


def yields(ctx: Context) -> Generator[Any, Any, None]:
    yield ctx.run(abs, 1)
    raise ValueError("a slip")


async def fails_by_its_step(ctx: Context) -> None:
    await ctx.run(unlucky, retry=Retry(max_attempts=1))


def unlucky() -> None:
    raise ConnectionError("no route")


@pytest.mark.parametrize(
    "handler, first",
    [
        (runs_sync, "sync_body"), (runs_async, "async_body"), (runs_what_gives_a_coroutine, "async_body"),
        (runs_in_a_thread, "sync_body"), (runs_wrapped, "wrapped_body"), (raises, "raises"), (yields, "yields"),
        (fails_by_its_step, "fails_by_its_step"),
    ],
)  # fmt: skip
def test_a_traceback_begins_in_the_users_code(memory_world, handler, first):
    with memory_world.holdfast(handler) as client:
        handle = client.start(handler)
        with pytest.raises((InvocationPaused, InvocationFailed)) as caught:
            handle.result(20)
        text = getattr(caught.value, "reason", "") or caught.value.details
        tracebacks = text.split("Traceback (most recent call last):\n")[1:]
        assert tracebacks
        assert all(f'File "{__file__}"' in one.splitlines()[0] for one in tracebacks)
        assert f"in {first}\n" in tracebacks[-1].splitlines(keepends=True)[0]


def test_what_failed_shows_its_traceback(world):
    with world.holdfast(raises, fails_by_its_step) as client:
        handle = client.start(raises)
        with pytest.raises(InvocationFailed):
            handle.result(20)
        assert (handle.status().reason, client.list()[0].details) == ("ValueError: a slip", None)
        assert 'raise ValueError("a slip")' in handle.status().details
        handle = client.start(fails_by_its_step)
        with pytest.raises(InvocationFailed):
            handle.result(20)
        (line,) = handle.journal()
        assert (line.state, line.error) == ("failed", "ConnectionError: no route")
        assert 'raise ConnectionError("no route")' in line.details
