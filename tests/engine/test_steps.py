"""Steps: what `ctx.run` takes, what a body may know and do, and that a recorded body never runs again (G2)."""

import asyncio
import contextvars
import functools
import threading
import time
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from holdfast import (
    BadArguments,
    Context,
    InvocationFailed,
    Limits,
    Retry,
    StepFailed,
    TerminalError,
    UnknownDependency,
    UnknownInvocation,
    WrongPlace,
    current,
    step,
)  # fmt: skip
from tests.engine.world import open_promise, paused, wait_for

ONCE = Retry(max_attempts=1)


class Shop:
    """Functions of every make."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def sell(self, what: str, price: int = 1) -> str:
        self.calls.append("sell")
        return f"{what} for {price}"

    def buy(self, what: str) -> str:
        self.calls.append("buy")
        return f"{what} on {threading.current_thread().name[:13]}"

    @classmethod
    def named(cls, what: str) -> str:
        return f"{cls.__name__}: {what}"

    @staticmethod
    def plain(what: str) -> str:
        return what


class CallableObject:
    def __call__(self, x: int) -> int:
        return x + 1


class AsyncCallable:
    async def __call__(self, x: int) -> int:
        return x + 2


def wrapped(fn):
    @functools.wraps(fn)
    def outer(*args, **kwargs):
        return fn(*args, **kwargs)

    return outer


shop = Shop()

RUNS = {
    "async bound method": (lambda ctx: ctx.run(shop.sell, "tea", price=3), "sell#1", "tea for 3"),
    "sync bound method": (lambda ctx: ctx.run(shop.buy, "tea"), "buy#1", "tea on holdfast-step"),
    "class method": (lambda ctx: ctx.run(Shop.named, "tea"), "named#1", "Shop: tea"),
    "static method": (lambda ctx: ctx.run(Shop.plain, "tea"), "plain#1", "tea"),
    "lambda": (lambda ctx: ctx.run(lambda: 7), "<lambda>#1", 7),
    "lambda that returns a coroutine": (lambda ctx: ctx.run(lambda: shop.sell("tea")), "<lambda>#1", "tea for 1"),
    "partial of an async function": (lambda ctx: ctx.run(functools.partial(shop.sell, price=2), "tea"), "sell#1",
                                     "tea for 2"),
    "partial of a sync function": (lambda ctx: ctx.run(functools.partial(pow, 2), 5), "pow#1", 32),
    "builtin": (lambda ctx: ctx.run(len, "four"), "len#1", 4),
    "class": (lambda ctx: ctx.run(int, "12"), "int#1", 12),
    "callable object": (lambda ctx: ctx.run(CallableObject(), 1), "CallableObject#1", 2),
    "async callable object": (lambda ctx: ctx.run(AsyncCallable(), 1), "AsyncCallable#1", 3),
    "wrapped async function": (lambda ctx: ctx.run(wrapped(shop.sell), "tea"), "sell#1", "tea for 1"),
    "a name of its own": (lambda ctx: ctx.run(len, "abc", name="count the letters"), "count the letters#1", 3),
    "to_thread": (lambda ctx: asyncio.to_thread(shop.buy, "tea"), "buy#1", "tea on holdfast-step"),
    "nothing returned": (lambda ctx: ctx.run(asyncio.sleep, 0), "sleep#1", None),
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_a_step_may_be_any_callable(memory_world, kind):
    call, name, expected = RUNS[kind]

    async def h(ctx: Context):
        return await call(ctx)

    with memory_world.holdfast(h) as client:
        handle = client.start(h)
        assert handle.result(20) == expected
        assert [view.id for view in handle.journal()] == [name]


@pytest.mark.parametrize("make", [Mock, MagicMock, AsyncMock])
def test_a_mock_is_a_function_like_any_other(memory_world, make):
    mock = make(return_value=7)

    async def h(ctx: Context) -> int:
        return await ctx.run(mock, "a")

    with memory_world.holdfast(h) as client:
        assert client.start(h).result(20) == 7
    mock.assert_called_once_with("a")


def test_to_thread_passes_over_an_annotation_that_has_no_json_form(world):
    """The openai client does so with a function of its own."""

    class Odd: ...

    def name_of_platform() -> Odd | str:
        return "Linux"

    async def h(ctx: Context) -> str:
        return await asyncio.to_thread(name_of_platform)

    with world.holdfast(h) as client:
        assert client.start(h).result(20) == "Linux"


def test_a_step_begins_when_it_is_asked_for_and_not_when_it_is_awaited(world):
    began = threading.Event()

    async def h(ctx: Context) -> int:
        later = ctx.run(began.set)
        await ctx.promise("go")
        await later
        return 1

    with world.holdfast(h) as client:
        client.start(h)
        assert began.wait(2)


def test_a_recorded_body_never_runs_again(world):
    calls = []

    async def body(x: int) -> int:
        calls.append(x)
        return x

    async def h(ctx: Context) -> int:
        total = 0
        for x in range(5):
            total += await ctx.run(body, x)
        await ctx.promise("wait")
        return total + await ctx.run(body, 5)

    for _ in range(3):
        with world.holdfast(h) as client:
            client.start(h, id="x")
            wait_for(lambda: client.attach("x").status().status == "suspended")
    with world.holdfast(h) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(20) == 15
    assert calls == [0, 1, 2, 3, 4, 5]


def test_what_was_asked_for_long_ago_and_has_not_come_is_asked_for_again(world):
    """Hundreds of steps that were recorded since do not push it out of what a replay wants."""
    begun, alive = [], "first"

    async def early() -> str:
        begun.append("early")
        if alive == "first":
            await asyncio.sleep(60)
        return "early"

    async def other(ctx: Context) -> str:
        return await ctx.promise("go", type=str)

    async def quick(n: int) -> None:
        pass

    async def h(ctx: Context) -> list[str]:
        first = ctx.run(early)
        second = ctx.call(other, id="other")
        for n in range(300):
            await ctx.run(quick, n)
        begun.append("all")
        return await asyncio.gather(first, second)

    with world.life(h, other) as client:
        client.start(h, id="x")
        wait_for(lambda: "all" in begun)
        promise = open_promise(client)
    alive = "second"
    with world.life(h, other) as client:
        client.resolve(promise, "other")
        assert client.attach("x").result(10) == ["early", "other"]
    assert begun == ["early", "all", "all", "early"]


def test_steps_in_parallel_do_not_wait_for_each_other(world):
    both = threading.Barrier(6)

    def body(x: int) -> int:
        both.wait(2)
        return x

    async def h(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*[ctx.run(body, x) for x in range(6)]))

    with world.holdfast(h) as client:
        assert client.start(h).result(3) == [0, 1, 2, 3, 4, 5]


def test_a_step_can_be_told_apart_by_name_and_count(world):
    async def h(ctx: Context) -> None:
        await ctx.run(len, "a")
        await ctx.run(len, "b")
        await asyncio.gather(ctx.run(len, "c", name="other"), asyncio.create_task(inner(ctx)))

    async def inner(ctx):
        await ctx.run(len, "d")

    with world.holdfast(h) as client:
        handle = client.start(h)
        handle.result(20)
        assert sorted(view.id for view in handle.journal()) == ["1/len#1", "len#1", "len#2", "other#1"]


def test_the_journal_shows_inputs_outputs_and_times(world):
    async def add(a: int, b: int) -> int:
        return a + b

    async def h(ctx: Context) -> int:
        return await ctx.run(add, 1, b=2)

    with world.holdfast(h) as client:
        handle = client.start(h)
        handle.result(20)
        (view,) = handle.journal()
    assert (view.kind, view.id, view.state, view.tries) == ("step", "add#1", "done", 1)
    assert view.inputs == [1, {"$named": {"b": 2}}]
    assert (view.output, view.error) == (3, None)
    assert view.started <= view.finished


def test_the_journal_shows_a_running_step(world):
    release = threading.Event()

    async def h(ctx: Context) -> None:
        await ctx.run(release.wait, 5)

    with world.holdfast(h) as client:
        handle = client.start(h)
        (view,) = wait_for(lambda: [view for view in handle.journal() if view.started])
        assert (view.id, view.state, view.tries, view.inputs, view.finished) == ("wait#1", "running", 1, [5], None)
        release.set()
        handle.result(20)


def test_large_outputs_are_shown_whole_and_large_inputs_when_asked_for(world):
    page = "all work and no play " * 3_000

    async def scrape(text: str) -> str:
        return text.upper()

    async def h(ctx: Context) -> int:
        return len(await ctx.run(scrape, page))

    with world.holdfast(h) as client:
        handle = client.start(h, id="x")
        assert handle.result(20) == len(page)
    with world.holdfast(h) as client:
        handle = client.attach("x")
        (view,) = handle.journal()
        assert (view.inputs, view.large) == (None, True)
        assert handle.inputs("scrape#1") == [page]
        with pytest.raises(UnknownInvocation, match="'x' has no recorded step 'scrape#2'"):
            handle.inputs("scrape#2")
    assert view.output == page.upper()


def test_a_body_sees_the_context_variables_of_its_caller_and_keeps_its_own_changes(world):
    var = contextvars.ContextVar("var", default="unset")

    async def body() -> str:
        was = var.get()
        var.set("changed by the body")
        return was

    def sync_body() -> str:
        return var.get()

    async def h(ctx: Context) -> list[str]:
        var.set("of the handler")
        return [await ctx.run(body), await ctx.run(sync_body), var.get()]

    with world.holdfast(h) as client:
        assert client.start(h).result(20) == ["of the handler"] * 3
    assert var.get() == "unset"


@pytest.mark.parametrize("is_async", [True, False])
def test_the_idempotency_key_is_the_same_in_every_attempt_and_every_process(world, is_async):
    seen = []

    def look() -> None:
        seen.append((step().id, step().attempt, step().idempotency_key))
        if len(seen) % 3:
            raise OSError("not yet")

    async def alook() -> None:
        look()

    async def h(ctx: Context) -> None:
        await ctx.run(alook if is_async else look, name="look", retry=Retry(initial=0))
        await ctx.promise("hold")

    async def again(ctx: Context) -> None:
        await ctx.run(look, retry=Retry(initial=0))
        await ctx.run(look, retry=Retry(initial=0))

    with world.holdfast(h, again) as client:
        client.start(h, id="a")
        wait_for(lambda: len(seen) == 3)
        client.start(again, id="b").result(20)
    keys = {key for _, _, key in seen[:3]}
    assert len(keys) == 1
    assert [attempt for _, attempt, _ in seen] == [1, 2, 3] * 3
    assert len({key for _, _, key in seen}) == 3, "another step has another key"


def test_the_idempotency_key_survives_the_death_of_the_process_in_the_body(world):
    seen = []
    release = threading.Event()

    async def body() -> str:
        seen.append(step().idempotency_key)
        if len(seen) == 1:
            await asyncio.sleep(60)
        return step().idempotency_key

    async def h(ctx: Context) -> str:
        return await ctx.run(body)

    with world.holdfast(h, limits=Limits(drain_seconds=0)) as client:
        client.start(h, id="x")
        wait_for(lambda: seen)
    with world.holdfast(h) as client:
        assert client.attach("x").result(20) == seen[0]
    assert seen == [seen[0]] * 2
    assert not release.is_set()


def test_two_stores_never_share_an_idempotency_key(tmp_path, memory_world):
    seen = []

    async def h(ctx: Context) -> None:
        await ctx.run(lambda: seen.append(step().idempotency_key))

    other = type(memory_world)("memory", tmp_path)
    for world in (memory_world, other):
        with world.holdfast(h) as client:
            client.start(h, id="the same id").result(20)
    assert len(set(seen)) == 2


def test_step_is_refused_where_no_step_runs(world):
    async def h(ctx: Context) -> str:
        with pytest.raises(WrongPlace, match="where no step is running"):
            step()
        return "refused"

    with pytest.raises(WrongPlace):
        step()
    with world.holdfast(h) as client:
        assert client.start(h).result(20) == "refused"


def test_a_body_gets_dependencies_by_name_and_so_does_the_handler(world):
    client_of_somebody = object()

    async def body() -> bool:
        return step().dep("somebody") is client_of_somebody

    async def h(ctx: Context) -> list[bool]:
        with pytest.raises(UnknownDependency, match="no dependency 'nobody' is registered; known: somebody"):
            ctx.dep("nobody")
        return [await ctx.run(body), ctx.dep("somebody") is client_of_somebody]

    with world.holdfast(h, deps={"somebody": client_of_somebody}) as client:
        assert client.start(h).result(20) == [True, True]


SECRET = "sk-THIS-MUST-NEVER-REACH-THE-DISK"


class Vendor:
    def __init__(self, key: str) -> None:
        self.key = key


def test_a_dependency_is_never_stored_even_when_it_is_an_argument(world):
    async def call(vendor: Vendor, key: str, nested: dict, *, more: object = None) -> str:
        assert vendor.key == key == nested["key"]
        return "paid"

    async def fails(vendor: Vendor) -> None:
        raise OSError("down")

    async def h(ctx: Context) -> str:
        vendor, key = ctx.dep("vendor"), ctx.dep("key")
        with pytest.raises(StepFailed):
            await ctx.run(fails, vendor, retry=ONCE)
        return await ctx.run(call, vendor, key, {"key": key, "list": [vendor]}, more=vendor)

    with world.holdfast(h, deps={"vendor": Vendor(SECRET), "key": SECRET}) as client:
        handle = client.start(h)
        assert handle.result(20) == "paid"
        failed, called = handle.journal()
    assert failed.inputs == [{"$dep": "vendor"}]
    assert called.inputs == [
        {"$dep": "vendor"}, {"$dep": "key"}, {"key": {"$dep": "key"}, "list": [{"$dep": "vendor"}]},
        {"$named": {"more": {"$dep": "vendor"}}},
    ]  # fmt: skip
    assert SECRET.encode() not in world.all_bytes()


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda ctx: ctx.run(7), r"was given int, not a function(.|\n)*ctx.run\(f, x\)"),
        (lambda ctx: ctx.run(len, "a", name="a/b"), "'a/b' cannot be the name of a step"),
        (lambda ctx: ctx.run(len, "a", name=""), "cannot be the name of a step"),
        (lambda ctx: ctx.run(len, "a", timeout=0), "timeout is 0.0 seconds"),
        (lambda ctx: ctx.run(len, "a", timeout=float("nan")), "timeout is nan seconds"),
        (lambda ctx: ctx.run(len, "a", retry=Retry(max_attempts=0)), "max_attempts is 0"),
    ],
)
def test_options_that_cannot_be_are_refused_where_they_are_given(memory_world, call, says):
    async def h(ctx: Context) -> str:
        with pytest.raises(BadArguments, match=says):
            await call(ctx)
        return "refused"

    with memory_world.holdfast(h) as client:
        assert client.start(h).result(20) == "refused"


def test_a_step_inside_a_step_is_refused_and_pauses(world):
    async def outer(ctx: Context) -> int:
        async def body() -> int:
            return await ctx.run(len, "abc")

        return await ctx.run(body)

    with world.holdfast(outer) as client:
        reason = paused(client.start(outer, id="x"))
        assert "the context of invocation 'x' was used while no handler is running: this is a step's body" in reason
        assert "let the body return its value" in reason


@pytest.mark.parametrize("use", ["random", "uuid"])
def test_the_handlers_random_numbers_are_refused_in_a_body(world, use):
    async def h(ctx: Context) -> None:
        await ctx.run(lambda: ctx.random.random() if use == "random" else str(ctx.uuid()), returns=float | str)

    with world.holdfast(h) as client:
        assert "was used while no handler is running" in paused(client.start(h))


def test_a_context_is_of_no_use_after_its_handler_has_ended(world):
    kept = []

    async def keep(ctx: Context) -> None:
        kept.append(ctx)

    async def other(ctx: Context) -> None:
        await kept[0].run(len, "a")

    with world.holdfast(keep, other) as client:
        client.start(keep, id="first").result(20)
        with pytest.raises(WrongPlace, match="the context of invocation 'first' was used while its handler has ended"):
            kept[0].run(len, "a")
        with pytest.raises(InvocationFailed, match=r"WrongPlace.*'first' was used while its handler has ended"):
            client.start(other).result(20)


def test_a_context_is_of_no_use_in_another_invocation(world):
    kept = []

    async def keep(ctx: Context) -> None:
        kept.append(ctx)
        await ctx.promise("hold")

    async def other(ctx: Context) -> None:
        await kept[0].run(len, "a")

    with world.holdfast(keep, other) as client:
        client.start(keep, id="first")
        with pytest.raises(InvocationFailed, match="'first' was used while another invocation is running"):
            client.start(other).result(20)
        with pytest.raises(WrongPlace):
            kept[0].run(len, "a")
        with pytest.raises(WrongPlace):
            kept[0].promise("a")


def test_at_most_so_many_bodies_run_at_once_and_the_others_follow_in_order(world):
    running, most, order = [], [], []

    async def body(x: int) -> None:
        running.append(x)
        order.append(x)
        most.append(len(running))
        await asyncio.sleep(0.002)
        running.remove(x)

    async def h(ctx: Context) -> None:
        await asyncio.gather(*[ctx.run(body, x) for x in range(20)])

    with world.holdfast(h, limits=Limits(bodies=2)) as client:
        client.start(h).result(3)
    assert max(most) == 2
    assert order == list(range(20))


def test_at_most_so_many_threads_run_at_once(world):
    running, most = [], []

    def body(x: int) -> None:
        running.append(x)
        most.append(len(running))
        time.sleep(0.002)
        running.remove(x)

    async def h(ctx: Context) -> None:
        await asyncio.gather(*[ctx.run(body, x) for x in range(20)])

    with world.holdfast(h, limits=Limits(threads=3)) as client:
        client.start(h).result(3)
    assert max(most) == 3


def test_many_queued_bodies_that_fail_as_they_begin_do_not_pile_up(memory_world):
    async def slow() -> None:
        await asyncio.sleep(0.1)

    async def no_arguments() -> None: ...

    async def h(ctx: Context, x: int) -> None:
        await (ctx.run(slow) if x < 2 else ctx.run(no_arguments, x, retry=ONCE))

    async def main():
        async with memory_world.holdfast(h, limits=Limits(bodies=2)) as client:
            handles = await asyncio.gather(*[client.start(h, x) for x in range(500)])
            return await asyncio.gather(*[handle.result(5) for handle in handles], return_exceptions=True)

    results = asyncio.run(main())
    assert results[:2] == [None, None]
    assert all("takes 0 positional arguments but 1 was given" in str(error) for error in results[2:])


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("error, says", [(SystemExit(3), r"called sys.exit(3)"), (KeyboardInterrupt(), "Interrupt")])
def test_a_body_that_would_end_the_program_pauses_and_the_engine_goes_on(world, is_async, error, says):
    def leave() -> None:
        raise error

    async def aleave() -> None:
        raise error

    async def h(ctx: Context) -> None:
        await ctx.run(aleave if is_async else leave)

    async def fine(ctx: Context) -> int:
        return await ctx.run(len, "abc")

    with world.holdfast(h, fine) as client:
        reason = paused(client.start(h))
        assert "a step's body " in reason
        assert says in reason
        assert client.start(fine).result(20) == 3


def test_a_dependency_that_is_no_secret_hides_nothing(world):
    async def body(*things: object) -> None: ...

    async def h(ctx: Context) -> None:
        await ctx.run(body, True, 1, None, "key")

    with world.holdfast(h, deps={"debug": True, "n": 1, "nothing": None, "key": "key"}) as client:
        handle = client.start(h)
        handle.result(20)
        assert handle.journal()[0].inputs == [True, 1, None, {"$dep": "key"}]


@pytest.mark.parametrize("where", ["body", "sync body", "handler"])
@pytest.mark.parametrize("message", [ValueError("no money"), None, 5, "a \ud800", "long " * 100_000])
def test_a_terminal_error_may_say_anything(memory_world, where, message):
    async def body() -> None:
        raise TerminalError(message, status=402)

    def sync_body() -> None:
        raise TerminalError(message, status=402)

    async def h(ctx: Context) -> None:
        if where == "handler":
            raise TerminalError(message, status=402)
        await ctx.run(body if where == "body" else sync_body)

    for _ in range(2):
        with memory_world.holdfast(h) as client, pytest.raises(TerminalError) as caught:
            client.start(h, id="x").result(20)
        assert caught.value.status == 402
        assert str(message)[:2] == str(caught.value)[:2]
        assert len(str(caught.value)) <= 10_000


@pytest.mark.parametrize("status", ["402", None, 7, 200, 600, 402.0, True])
def test_a_terminal_error_with_a_status_that_is_none_is_refused(memory_world, status):
    async def body() -> None:
        raise TerminalError("no", status=status)

    async def h(ctx: Context) -> None:
        await ctx.run(body)

    with memory_world.holdfast(h) as client:
        assert "give an HTTP status from 400 to 599" in paused(client.start(h))


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), GeneratorExit(), BaseException("x")])
@pytest.mark.parametrize("is_async", [True, False])
def test_errors_that_python_uses_itself_are_failures_like_others(memory_world, error, is_async):
    def body() -> None:
        raise error

    async def abody() -> None:
        raise error

    async def h(ctx: Context) -> None:
        await ctx.run(abody if is_async else body, retry=ONCE)

    with memory_world.holdfast(h) as client, pytest.raises(InvocationFailed, match="failed after 1 attempt"):
        client.start(h).result(20)


def test_a_terminal_error_in_a_body_is_final_and_can_be_caught_with_its_status(world):
    calls = []

    async def pay() -> None:
        calls.append(1)
        raise TerminalError("no money", status=402)

    async def h(ctx: Context) -> str:
        try:
            await ctx.run(pay)
        except TerminalError as error:
            first = f"{error} {error.status}"
        await ctx.promise("hold")
        return first

    async def uncaught(ctx: Context) -> None:
        await ctx.run(pay)

    with world.holdfast(h, uncaught) as client:
        with pytest.raises(TerminalError, match=r"^no money$") as caught:
            client.start(uncaught).result(20)
        assert caught.value.status == 402
        client.start(h, id="x")
    with world.holdfast(h, uncaught) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(20) == "no money 402"
    assert len(calls) == 2


def test_a_handler_begins_without_the_context_variables_of_whoever_started_it(world):
    mood: contextvars.ContextVar[str] = contextvars.ContextVar("mood", default="none")
    seen: list[str] = []

    async def h(ctx: Context) -> str:
        seen.append(mood.get())
        await ctx.run(len, "abc")
        return mood.get()

    mood.set("of the caller")
    with world.holdfast(h) as client:
        assert client.start(h).result(20) == "none"
    assert set(seen) == {"none"}


def test_current_is_the_context_of_the_handler_that_runs(world):
    seen = []

    async def tool(ctx: Context) -> bool:
        return current() is ctx

    async def inner(ctx: Context) -> bool:
        here = [current() is ctx]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(tool(ctx)) for _ in range(2)]
        return all(here + [task.result() for task in tasks])

    def body() -> None:
        with pytest.raises(WrongPlace, match="where no handler is running"):
            current()
        seen.append("refused")

    async def async_body() -> None:
        body()

    async def outer(ctx: Context) -> list[bool]:
        await asyncio.gather(ctx.run(body), ctx.run(async_body))
        return [await ctx.call(inner), current() is ctx, await tool(ctx)]

    with pytest.raises(WrongPlace):
        current()
    with world.holdfast(outer, inner) as client:
        assert client.start(outer).result(20) == [True, True, True]
    assert seen == ["refused", "refused"]
