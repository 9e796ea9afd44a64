"""The handler's loop is an asyncio loop: a shape whose end does not hang on luck ends as on asyncio's own."""

import pytest

from tests.core import shapes, shapes_anyio
from tests.core.case import CANCELLABLE, SHAPES
from tests.core.plain import durable, plain

ENDS_MAX = 3  # more and the end hangs on which step comes first, which is asyncio's own affair

OTHERWISE = {
    "anyio_cancel_swallowed": "spins for ever on asyncio",
    "anyio_which_library": "shows the name of a task",
    "chance": "asks for uuids",
    "context_variables": "a thread is a step",
    "failures": "shows the id of a step",
    "gather_that_fails": "shows the id of a step",
    "generator_in_a_task_left_behind": "asyncio.run does not wait for a task that was left behind",
    "steps_started_before_they_are_awaited": "only a step passes for a coroutine",
    "task_group": "only a step passes for a coroutine",
    "task_group_with_a_failing_child": "shows the id of a step",
    "anyio_group_with_a_failing_child": "shows the id of a step",
    "threads": "a thread is a step",
    "written_as_a_generator": "asyncio has no generator handlers",
}


@pytest.mark.parametrize("name", sorted(set(SHAPES) - CANCELLABLE - set(OTHERWISE)))
def test_a_shape_ends_and_asks_as_on_asyncio(name: str) -> None:
    ends = []
    for seed in range(20):
        end = durable(SHAPES[name], seed)
        if end not in ends:
            ends.append(end)
        shapes.kept.clear()
        if len(ends) > ENDS_MAX:
            return
    for seed in range(4):
        assert plain(SHAPES[name], seed) in ends
        shapes.kept.clear()


def test_enough_of_the_corpus_is_compared() -> None:
    assert OTHERWISE.keys() <= SHAPES.keys()
    compared = [
        name
        for name in set(SHAPES) - CANCELLABLE - set(OTHERWISE)
        if len({durable(SHAPES[name], seed)[0] for seed in range(8)}) <= ENDS_MAX
    ]
    assert len(compared) >= 20
    assert shapes_anyio.__name__
    shapes.kept.clear()
