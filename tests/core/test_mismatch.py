"""A handler that leaves its journal's path is stopped, and the report says where, how and why (G3)."""

import asyncio
from typing import Any

import pytest

from holdfast.core.entries import PromiseSettled, StepCompleted
from holdfast.errors import HandlerFault, Mismatch, Unreadable
from tests.core.case import Ctx, Life, Shape, Watched, digest, live
from tests.core.shapes import echo

UNCHANGED = "; if the code is the same, its path depends on the clock, chance, a global or the order of a set"
NEXT = "  next step: put the old code back and resume, or start a new invocation; the journal was not changed"


def chain(*names: str, **arguments: Any) -> Shape:
    """Steps one after another; `sleep` is a sleep, `?name` a promise."""

    async def handler(ctx: Ctx) -> None:
        for name in names:
            if name == "sleep":
                await asyncio.sleep(1)
            elif name.startswith("?"):
                await ctx.promise(name[1:])
            else:
                await ctx.run(echo, arguments.get(name, 1), name=name)

    return handler


def side_by_side(*branches: str) -> Shape:
    """One task for each text, of steps named by its letters."""

    async def handler(ctx: Ctx) -> None:
        async def branch(names: str) -> None:
            for name in names:
                await ctx.run(echo, 1, name=name)

        async with asyncio.TaskGroup() as group:
            for names in branches:
                group.create_task(branch(names))
        await ctx.run(echo, 1, name="sum")

    return handler


def at_once(name: str) -> Shape:
    """Two steps of one name, asked for together."""

    async def handler(ctx: Ctx) -> None:
        await asyncio.gather(ctx.run(echo, 1, name=name), ctx.run(echo, 1, name=name))

    return handler


def report(old: Shape, new: Shape, seed: int = 0) -> str:
    """What is said when the new code replays the old code's journal."""
    journal = live(old, seed).journal
    machine = Watched()
    with pytest.raises(Mismatch) as caught:
        Life(new, journal, machine=machine)
    assert machine.take_commands() == []
    with pytest.raises(Mismatch):
        machine.receive(journal[-1])
    assert machine.take_commands() == []
    machine.evict()
    return str(caught.value)


def parts(text: str) -> tuple[str, str, str]:
    """Both paths, and the cause without its common end."""
    lines = {line.strip().partition(":")[0]: line.partition(":")[2].strip() for line in text.splitlines()}
    return lines["recorded"], lines["now"], lines["likely cause"].removesuffix(UNCHANGED)


CHANGES: dict[str, tuple[Shape, Shape, str, str, str]] = {
    "renamed": (
        chain("load", "score", "save"),
        chain("load", "rank", "save"),
        "load#1 > score#1 > save#1",
        "load#1 > rank#1",
        "'rank#1' was inserted before 'score#1', or is its new name",
    ),
    "inserted": (
        chain("load", "save"),
        chain("load", "check", "save"),
        "load#1 > save#1",
        "load#1 > check#1",
        "'check#1' was inserted before 'save#1', or is its new name",
    ),
    "removed": (
        chain("load", "check", "save"),
        chain("load", "save"),
        "load#1 > check#1 > save#1",
        "load#1 > save#1",
        "'check#1' was removed, or now comes after 'save#1'",
    ),
    "swapped": (
        chain("load", "check", "save"),
        chain("check", "load", "save"),
        "load#1 > check#1 > save#1",
        "check#1",
        "'load#1' was removed, or now comes after 'check#1'",
    ),
    "ended early": (
        chain("load", "check", "save"),
        chain("load"),
        "load#1 > check#1 > save#1",
        "load#1 > the end",
        "steps were removed from the code, or a condition came out otherwise than in the first run",
    ),
    "one round more": (
        chain("turn", "turn", "save"),
        chain("turn", "turn", "turn", "save"),
        "turn#1 > turn#2 > save#1",
        "turn#1 > turn#2 > turn#3",
        "a loop goes round more often than before, or a step of the same name was inserted",
    ),
    "one round less": (
        chain("turn", "turn", "turn", "save"),
        chain("turn", "turn", "save"),
        "turn#1 > turn#2 > turn#3 > save#1",
        "turn#1 > turn#2 > save#1",
        "a loop goes round less often than before, or a step of the same name was removed",
    ),
    "sleep removed": (
        chain("load", "sleep", "save"),
        chain("load", "save"),
        "load#1 > timer#1 > save#1",
        "load#1 > save#1",
        "a sleep or a timeout was removed, or is set later than before",
    ),
    "sleep inserted": (
        chain("load", "save"),
        chain("load", "sleep", "save"),
        "load#1 > save#1",
        "load#1 > timer#1",
        "a sleep was inserted before 'save#1'",
    ),
    "a promise made a step": (
        chain("load", "?ok", "save"),
        chain("load", "ok", "save"),
        "load#1 > ok#1 > save#1",
        "load#1 > ok#1 as a step",
        "a promise was replaced by a step of the same name",
    ),
    "a step made a promise": (
        chain("load", "ok", "save"),
        chain("load", "?ok", "save"),
        "load#1 > ok#1 > save#1",
        "load#1 > ok#1 as a promise",
        "a step was replaced by a promise of the same name",
    ),
    "tasks in another order": (
        side_by_side("ab", "cd"),
        side_by_side("cd", "ab"),
        "2/c#1 > 1/a#1 > 1/b#1 > 2/d#1 > sum#1",
        "2/a#1 > 1/c#1",
        "tasks are created in another order than before, or a step moved into another task",
    ),
    "renamed in a task": (
        side_by_side("ab", "cd"),
        side_by_side("ax", "cd"),
        "2/c#1 > 1/a#1 > 1/b#1 > 2/d#1 > sum#1",
        "2/c#1 > 1/a#1 > 1/x#1 > 2/d#1",
        "'1/x#1' was inserted before '1/b#1', or is its new name",
    ),
    "renamed in a gather": (
        at_once("make"),
        at_once("left"),
        "make#2 > make#1",
        "left#1 > left#2",
        "'left#1' was inserted before 'make#2', or is its new name",
    ),
    "everything gone": (
        chain("load"),
        chain("?never"),
        "load#1",
        "never#1",
        "'never#1' was inserted before 'load#1', or is its new name",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_code_is_caught_and_explained(change: str) -> None:
    old, new, recorded, now, cause = CHANGES[change]
    text = report(old, new)
    assert parts(text) == (recorded, now, cause)
    assert text.endswith(NEXT)


@pytest.mark.parametrize("change", CHANGES)
def test_the_old_code_still_replays_after_the_report(change: str) -> None:
    old, new, *_ = CHANGES[change]
    report(old, new)
    journal = live(old, 0).journal
    life = Life(old, journal)
    assert life.outcome == ("returned", "null")
    life.machine.evict()


def test_a_report_reads_like_this() -> None:
    assert report(chain("load", "score", "save"), chain("load", "rank", "save")) == (
        "[HF303] the journal's entry 1 completes 'score#1', but the code at that point waits for 'rank#1'\n"
        "  recorded: load#1 > score#1 > save#1\n"
        "  now:      load#1 > rank#1\n"
        "    --- recorded\n"
        "    +++ now\n"
        "     load#1\n"
        "    -score#1\n"
        "    +rank#1\n"
        f"  likely cause: 'rank#1' was inserted before 'score#1', or is its new name{UNCHANGED}\n"
        f"{NEXT}"
    )


def test_a_report_of_changed_arguments_reads_like_this() -> None:
    assert report(chain("load", "ask", "save"), chain("load", "ask", "save", ask="other")) == (
        "[HF303] step 'ask#1' was recorded with other arguments than the code gives it now (entry 1)\n"
        "  recorded: load#1 > ask#1 > save#1\n"
        "  now:      load#1 > ask#1 with other arguments\n"
        "    --- recorded\n"
        "    +++ now\n"
        "     load#1\n"
        "    -ask#1\n"
        "    +ask#1 with other arguments\n"
        "  likely cause: an argument comes from the clock, from random numbers, from the order of a set or from a "
        "global, the code that makes it was edited, or steps of this name come in another order\n"
        f"{NEXT}"
    )


def test_a_report_from_the_middle_of_a_long_journal_shows_the_place_and_no_more() -> None:
    names = [f"s{n}" for n in range(400)]
    text = report(chain(*names), chain(*names[:200], "new", *names[200:]))
    recorded, now, _ = parts(text)
    assert recorded == "... > " + " > ".join(f"s{n}#1" for n in range(194, 206)) + " > ..."
    assert now == "... > " + " > ".join(f"s{n}#1" for n in range(194, 200)) + " > new#1"
    assert len(text) < 1500


def test_a_report_from_many_tasks_shows_the_one_that_parted() -> None:
    old = [chr(97 + n) + "y" for n in range(20)]
    text = report(side_by_side(*old), side_by_side(*old[:10], *(names[0] + "z" for names in old[10:])), seed=3)
    assert text.count("/z#1") == 4  # in the first line, in the path, in the diff and in the cause: always the same one
    assert len(text) < 1500


def test_the_arguments_of_a_failed_step_are_checked_too() -> None:
    def failing(argument: str) -> Shape:
        async def handler(ctx: Ctx) -> None:
            await ctx.run(int, argument)

        return handler

    assert "'int#1' was recorded with other arguments" in report(failing("x"), failing("y"))


def test_steps_added_side_by_side_are_new_and_no_mismatch() -> None:
    async def one(ctx: Ctx) -> None:
        await asyncio.gather(ctx.run(echo, 1), ctx.promise("later"))

    async def two(ctx: Ctx) -> None:
        await asyncio.gather(ctx.run(echo, 1), ctx.promise("later"), ctx.run(echo, 2, name="new"))

    first = Life(one)
    first.receive(first.entry("echo#1"))
    life = Life(two, first.journal)
    assert list(life.flight) == ["new#1"]
    for each in (first, life):
        each.machine.evict()


def test_a_result_that_does_not_decode_stops_the_machine_without_commands() -> None:
    def decode(text: bytes) -> Any:
        raise Unreadable("no")

    async def handler(ctx: Ctx) -> None:
        both = ctx.run(echo, 1), ctx.run(echo, 2)
        both[0].codec = type("Broken", (), {"decode": staticmethod(decode)})
        await asyncio.gather(*both)

    machine = Watched()
    with pytest.raises(Unreadable):
        Life(handler, [StepCompleted(1, "echo#1", digest((1,), {}), b"", b"", 1, 1)], machine=machine)
    assert machine.take_commands() == []
    machine.evict()


def test_a_rejection_whose_reason_is_damaged_is_unreadable() -> None:
    machine = Watched()
    with pytest.raises(Unreadable, match="'ok#1' was rejected with does not decode"):
        Life(chain("?ok"), [PromiseSettled(1, "ok#1", b"\xff{", ok=False)], machine=machine)
    assert machine.take_commands() == []
    machine.evict()


def test_a_fault_on_replay_is_the_fault_and_not_a_mismatch() -> None:
    async def now_does_io(ctx: Ctx) -> None:
        await ctx.run(echo, 1, name="load")
        asyncio.get_running_loop().stop()

    machine = Watched()
    with pytest.raises(HandlerFault) as caught:
        Life(now_does_io, live(chain("load", "save"), 0).journal, machine=machine)
    assert "loop.stop()" in str(caught.value)
    assert machine.take_commands() == []
    machine.evict()
