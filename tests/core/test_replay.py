"""Replay takes exactly the recorded path (G3) and runs no recorded body again (G2): every shape, crashed everywhere."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.core import shapes, shapes_anyio
from tests.core.case import (
    CANCELLABLE,
    SHAPES,
    Ctx,
    Life,
    Run,
    crash_everywhere,
    die_often,
    every_order,
    live,
)  # fmt: skip

SEEDS = 20
MAY_RAISE = {"failures"}
ALL = sorted(SHAPES)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    shapes.kept.clear()


def runs(name: str) -> Iterator[Run]:
    for seed in range(SEEDS):
        yield live(SHAPES[name], seed, cancel=name in CANCELLABLE)


def test_the_corpus_is_all_there() -> None:
    assert {shapes_anyio.__name__, shapes.__name__} == {shape.__module__ for shape in SHAPES.values()}
    assert len(ALL) > 60


@pytest.mark.parametrize("name", ALL)
def test_a_crash_after_any_entry_changes_nothing(name: str) -> None:
    for run in runs(name):
        assert crash_everywhere(SHAPES[name], run) == []


@pytest.mark.parametrize("name", ALL)
def test_a_life_of_one_entry_each_comes_to_an_end(name: str) -> None:
    for seed in range(5):
        journal = die_often(SHAPES[name], seed, cancel=name in CANCELLABLE)
        life = Life(SHAPES[name], journal)
        assert life.outcome is not None
        life.machine.evict()


@pytest.mark.parametrize("name", sorted(set(ALL) - MAY_RAISE))
def test_a_shape_ends_as_it_should(name: str) -> None:
    ends = {run.snapshots[-1]["outcome"][0] for run in runs(name)}
    assert ends <= ({"returned", "cancelled"} if name in CANCELLABLE else {"returned"})
    assert "returned" in ends


@pytest.mark.parametrize("name", sorted(CANCELLABLE))
def test_a_cancelled_shape_is_cancelled_in_some_runs(name: str) -> None:
    entries = {type(entry).__name__ for run in runs(name) for entry in run.journal}
    assert "CancelRequested" in entries


def test_two_chains_of_the_same_step_never_swap_results_whatever_the_order() -> None:
    ends = [run.snapshots[-1]["outcome"] for run in checked_orders(shapes.swap)]
    assert ends == [["returned", "[[1, 1, 10], [2, 2, 20]]"]] * 6  # 4 completions, two of each chain


def test_parallel_tools_of_two_steps_keep_their_results_in_every_order() -> None:
    async def tools(ctx: Ctx) -> list[str]:
        async def tool(n: int) -> str:
            raw = await ctx.run(shapes.echo, f"{n}", name="fetch")
            return await ctx.run(shapes.echo, f"<{raw}>", name="summarise")

        async with shapes.asyncio.TaskGroup() as group:
            tasks = [group.create_task(tool(n)) for n in range(3)]
        return [task.result() for task in tasks]

    ends = [run.snapshots[-1]["outcome"] for run in checked_orders(tools)]
    assert ends == [["returned", '["<0>", "<1>", "<2>"]']] * 90


def test_a_timeout_and_its_step_end_one_way_or_the_other_in_every_order() -> None:
    ends = {tuple(run.snapshots[-1]["outcome"]) for run in checked_orders(shapes.timeout)}
    assert ends == {("returned", '"in time"'), ("returned", '"too late"')}


def test_every_order_of_a_race_replays() -> None:
    ends = {tuple(run.snapshots[-1]["outcome"]) for run in checked_orders(shapes.race)}
    assert ends == {("returned", f'[[{n}, -{n}], "prize"]') for n in (1, 2)}


def test_scopes_that_need_few_retries_each_never_wait_for_the_next_turn() -> None:
    for run in runs("anyio_many_scopes_cancelled"):
        assert run.snapshots[-1]["outcome"] == ["returned", "[0.0, true]"]
        assert len(run.journal) == 1


def checked_orders(shape: shapes.shape) -> Iterator[Run]:
    for run in every_order(shape):
        assert crash_everywhere(shape, run) == []
        yield run


def test_the_crash_check_sees_a_handler_that_depends_on_its_process() -> None:
    lives: list[int] = []

    async def fickle(ctx: Ctx) -> list[int]:
        lives.append(1)
        names = ["a", "b"] if len(lives) == 1 else ["b", "a"]
        return await shapes.asyncio.gather(*(ctx.run(shapes.echo, 1, name=name) for name in names))

    assert any("asked" in problem for problem in crash_everywhere(fickle, live(fickle, seed=0)))


def test_another_seed_is_another_run_of_the_same_shape() -> None:
    with ExitStack() as stack:
        first, second = Life(shapes.task_group), Life(shapes.task_group)
        stack.callback(first.machine.evict)
        stack.callback(second.machine.evict)
        assert first.snapshot() == second.snapshot()
    journals = {tuple(getattr(entry, "step", "timer") for entry in run.journal) for run in runs("task_group")}
    assert len(journals) > SEEDS // 2
