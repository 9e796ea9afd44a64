"""Dropping a handler from memory: its clean-up runs then and there, in its own context, and can start nothing."""

import asyncio
import contextlib
import gc
import sys
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from anyio._backends import _asyncio as anyio_backend

from tests.core import shapes, shapes_anyio
from tests.core.case import CANCELLABLE, SHAPES, Ctx, Life, live
from tests.core.shapes import echo, who

# Closures that hold themselves and their context (the shape's own circle), and exceptions that the standard library,
# contextlib or anyio leave in a circle with their frames. Nothing of the loop takes part in those.
CIRCLES_OF_THEIR_OWN = {
    "anyio_cancelled_from_outside",
    "anyio_fail_after",
    "anyio_group_with_a_failing_child",
    "anyio_scopes_under_a_cancelled_scope",
    "anyio_start",
    "as_completed_in_time",
    "callbacks",
    "cancelled_in_a_group",
    "exit_stack",
    "task_group_with_a_failing_child",
    "tasks_in_tasks",
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def parts(life: Life) -> list[weakref.ref[Any]]:
    machine = life.machine
    return [
        weakref.ref(part) for part in (machine, machine.loop, *machine.loop.live_tasks(), *machine.waiting.values())
    ]


def lives(name: str) -> Iterator[Life]:
    """A life at every point of two runs."""
    for seed in range(2):
        run = live(SHAPES[name], seed, cancel=name in CANCELLABLE)
        for count in range(len(run.journal) + 1):
            yield Life(SHAPES[name], run.journal[:count])
            shapes.kept.clear()


@pytest.mark.parametrize("name", sorted(set(SHAPES) - CIRCLES_OF_THEIR_OWN))
def test_what_was_dropped_is_freed_without_the_collector(name: str, no_collector: None) -> None:
    for life in lives(name):
        refs = parts(life)
        life.machine.evict()
        del life
        shapes.kept.clear()
        assert [ref() for ref in refs if ref() is not None] == []


@pytest.mark.parametrize("name", sorted(CIRCLES_OF_THEIR_OWN))
def test_what_has_circles_of_its_own_is_freed_with_the_collector(name: str) -> None:
    refs = []
    for life in lives(name):
        refs += parts(life)
        life.machine.evict()
        del life
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []
    assert shapes_anyio.__name__  # the corpus is whole


def test_nothing_of_a_dropped_handler_stays_in_the_books_of_asyncio_and_anyio() -> None:
    gc.collect()
    before = books()
    for name in SHAPES:
        for life in lives(name):
            life.machine.evict()
    del life
    gc.collect()
    assert books() == before


def books() -> tuple[int, ...]:
    tasks = asyncio.tasks._scheduled_tasks if sys.version_info >= (3, 12) else asyncio.tasks._all_tasks
    return len(anyio_backend._task_states), len(tasks)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_dropping_makes_no_noise_at_any_point(name: str) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for life in lives(name):
            life.machine.evict()
            life.machine.evict()  # once more changes nothing
            assert life.machine.take_commands() == []
        del life
        gc.collect()
    assert [str(one.message) for one in warned] == []


def evicted(shape: Any, *steps: str) -> Life:
    life = Life(shape)
    for step in steps:
        life.receive(life.entry(step))
    life.machine.evict()
    return life


def test_clean_up_can_ask_for_nothing() -> None:
    tried = []

    async def attempt(what: str, call: Any) -> None:
        try:
            await call()
        except BaseException as error:  # noqa: BLE001  # what is thrown is no Exception
            tried.append((what, type(error).__name__))

    async def handler(ctx: Ctx) -> None:
        loop = asyncio.get_running_loop()
        running = ctx.run(echo, 0)
        try:
            await running
        finally:
            await attempt("step", lambda: ctx.run(echo, 1))
            await attempt("promise", lambda: ctx.promise("p"))
            await attempt("sleep", lambda: asyncio.sleep(1))
            await attempt("task", lambda: asyncio.create_task(asyncio.sleep(0)))
            await attempt("gather", lambda: asyncio.gather(asyncio.sleep(0)))
            await attempt("thread", lambda: asyncio.to_thread(print))
            await attempt("executor", lambda: loop.run_in_executor(None, print))
            await attempt("future", loop.create_future)
            await attempt("timeout", lambda: asyncio.wait_for(running, 5))
            await attempt("socket", lambda: asyncio.open_connection("localhost", 1))
            await attempt("event", asyncio.Event().wait)

    life = evicted(handler)
    assert [what for what, _ in tried] == [
        "step", "promise", "sleep", "task", "gather", "thread", "executor", "future", "timeout", "socket", "event",
    ]  # fmt: skip
    assert {error for _, error in tried} == {"Evicted"}
    assert life.machine.take_commands() == []
    assert life.machine.waiting == {}
    assert life.machine.next_deadline() is None


def test_clean_up_runs_newest_task_first_each_in_its_own_context() -> None:
    log = []

    async def child(name: str) -> None:
        token = who.set(name)
        try:
            await asyncio.Event().wait()
        finally:
            log.append(f"{name} is {who.get()} in {asyncio.current_task().get_name()}")
            who.reset(token)

    async def handler(ctx: Ctx) -> None:
        async with asyncio.TaskGroup() as group:
            for name in ("ada", "bob"):
                group.create_task(child(name), name=f"task of {name}")
            await child("root")

    evicted(handler)
    assert log == ["bob is bob in task of bob", "ada is ada in task of ada", "root is root in handler"]
    assert who.get() == "nobody"


def test_clean_up_of_an_open_generator_runs_in_the_context_it_was_begun_in() -> None:
    log = []

    async def session() -> Any:
        token = who.set("ada")
        try:
            yield 1
        finally:
            log.append(who.get())
            who.reset(token)
            log.append("reset")

    async def handler(ctx: Ctx) -> None:
        sessions = [session(), session()]
        log.extend([await anext(one) for one in sessions])
        shapes.kept.extend(sessions)
        await ctx.run(echo, 1)

    evicted(handler)
    shapes.kept.clear()
    assert log == [1, 1, "ada", "reset", "ada", "reset"]


def test_a_context_manager_around_a_wait_is_left_in_order() -> None:
    log = []

    @contextlib.asynccontextmanager
    async def inner(name: str) -> Any:
        try:
            yield
        finally:
            log.append(name)

    async def handler(ctx: Ctx) -> None:
        async with inner("outer"), inner("inner"), contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(inner("stacked"))
            await ctx.run(echo, 1)

    evicted(handler)
    assert log == ["stacked", "inner", "outer"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python complains when it is freed
def test_code_that_catches_everything_and_goes_on_is_left_behind() -> None:
    rounds = []

    async def stubborn(ctx: Ctx) -> None:
        while True:
            try:
                await ctx.promise("never") if not rounds else await asyncio.sleep(0)
            except BaseException:  # noqa: BLE001  # the thing under test
                rounds.append(1)

    life = evicted(stubborn)
    assert 30 < len(rounds) < 40
    assert life.machine.take_commands() == []
    with pytest.raises(RuntimeError, match="closed"):
        life.machine.loop.run()
    del life
    gc.collect()


def test_code_that_catches_everything_a_few_times_still_ends() -> None:
    log = []

    async def handler(ctx: Ctx) -> None:
        for n in range(5):
            try:
                await asyncio.sleep(3600) if n == 0 else await asyncio.sleep(0)
            except BaseException:  # noqa: BLE001  # the thing under test
                log.append(n)
        log.append("end")

    evicted(handler)
    assert log == [0, 1, 2, 3, 4, "end"]


def test_a_generator_handler_is_dropped_through_its_own_finally_block() -> None:
    log = []

    def handler(ctx: Ctx) -> Any:
        try:
            yield ctx.run(echo, 1)
        except Exception:  # noqa: BLE001  # the thing under test
            log.append("never: what is thrown is no Exception")
        finally:
            try:
                yield ctx.run(echo, "undo")
            except BaseException as error:  # noqa: BLE001  # the thing under test
                log.append(type(error).__name__)

    evicted(handler)
    assert log == ["Evicted"]


def test_a_task_that_has_not_begun_is_dropped_without_beginning() -> None:
    log = []

    async def late() -> None:
        log.append("begun")

    async def handler(ctx: Ctx) -> None:
        try:
            await ctx.run(echo, 1)
        finally:
            with contextlib.suppress(BaseException):
                asyncio.create_task(late())

    evicted(handler)
    assert log == []


def test_dropping_stops_no_body_and_withdraws_no_promise() -> None:
    async def handler(ctx: Ctx) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.run(echo, 1))
            await ctx.promise("answer")

    life = evicted(handler)
    assert len(life.machine.trace) == 2
    assert not any(line.startswith("drop") for line in life.machine.trace)
    again = Life(handler)
    assert sorted([*again.flight, *again.promises]) == ["answer#1", "echo#1"]
    again.machine.evict()


def test_the_main_loop_and_its_hooks_are_as_before() -> None:
    async def handler(ctx: Ctx) -> None:
        async def pages() -> Any:
            yield await ctx.run(echo, 1)

        async for _ in pages():
            pass

    async def main() -> None:
        hooks, loop, task = sys.get_asyncgen_hooks(), asyncio.get_running_loop(), asyncio.current_task()
        finished = loop.create_future()

        def drive() -> None:
            life = Life(handler)
            life.receive(life.entry("echo#1"))
            second = Life(handler)
            for one in (life, second):
                one.machine.evict()
            finished.set_result((sys.get_asyncgen_hooks(), asyncio.get_running_loop()))

        loop.call_soon(drive)
        assert await finished == (hooks, loop)
        assert asyncio.current_task() is task

    asyncio.run(main())


def test_a_finished_machine_is_freed_with_its_result_in_hand(no_collector: None) -> None:
    life = Life(shapes.gathered)
    refs = parts(life)
    while life.outcome is None:
        life.receive(life.entry(life.choices()[0]))
    life.machine.evict()
    outcome = life.outcome
    del life
    assert outcome[0] == "returned"
    assert [ref() for ref in refs if ref() is not None] == []
