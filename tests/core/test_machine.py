"""The machine's own face: what it asks for, in which order, and what it makes of each kind of entry."""

import asyncio
import gc
from typing import Any

import pytest

from holdfast.core.commands import CancelStep, EndCancelled, OpenPromise, Raise, Return, RunStep, WithdrawPromise
from holdfast.core.entries import CancelRequested, Failure, PromiseSettled, StepCompleted, StepErrored
from holdfast.core.machine import Machine
from holdfast.errors import BadArguments, StepFailed, TerminalError
from tests.core.case import Ctx, Life, Shape, Watched, digest, live
from tests.core.shapes import echo


def begun(shape: Shape) -> Machine:
    machine = Watched()
    machine.go_live()
    machine.begin(shape, Ctx(machine))
    return machine


def kinds(machine: Machine) -> list[str]:
    return [
        f"{type(command).__name__} {getattr(command, 'step', getattr(command, 'promise', ''))}".strip()
        for command in machine.take_commands()
    ]


def done(machine: Machine, step: str, result: bytes = b"1") -> StepCompleted:
    return StepCompleted(machine.at, step, machine.waiting[step].spec.digest, result, b"", 1, machine.at)


def test_commands_come_in_the_order_of_asking_and_are_handed_out_once() -> None:
    async def handler(ctx: Ctx) -> None:
        first, promise, second = ctx.run(echo, 1), ctx.promise("ok"), ctx.run(echo, 2)
        await first
        promise.cancel()
        second.cancel()
        await ctx.run(echo, 3)

    machine = begun(handler)
    assert kinds(machine) == ["RunStep echo#1", "OpenPromise ok#1", "RunStep echo#2"]
    assert kinds(machine) == []
    machine.receive(done(machine, "echo#1"))
    assert kinds(machine) == ["WithdrawPromise ok#1", "CancelStep echo#2", "RunStep echo#3"]
    machine.receive(done(machine, "echo#3"))
    assert kinds(machine) == ["Return"]
    assert machine.ended
    machine.evict()


def test_what_is_cancelled_before_it_was_handed_out_is_never_begun() -> None:
    async def handler(ctx: Ctx) -> None:
        ctx.run(echo, 1).cancel()
        ctx.promise("ok").cancel()
        await ctx.run(echo, 2)

    machine = begun(handler)
    assert [command for command in machine.take_commands() if isinstance(command, RunStep | OpenPromise)] == [
        RunStep("echo#2", machine.waiting["echo#2"].spec)
    ]
    machine.evict()


def test_on_replay_only_what_still_runs_is_begun() -> None:
    async def handler(ctx: Ctx) -> None:
        slow = ctx.run(echo, "slow")
        ctx.promise("forgotten").cancel()
        await ctx.run(echo, 1)
        await asyncio.gather(slow, ctx.run(echo, 2), ctx.promise("ok"))

    machine = Watched()
    machine.begin(handler, Ctx(machine))
    machine.replay([StepCompleted(machine.at, "echo#2", digest((1,), {}), b"1", b"", 1, 1)])
    begins = [command for command in machine.take_commands() if isinstance(command, RunStep | OpenPromise)]
    assert [getattr(command, "step", None) or command.promise for command in begins] == ["echo#1", "echo#3", "ok#1"]
    machine.evict()


def test_the_value_given_is_the_very_object_the_handler_gets() -> None:
    got: list[Any] = []

    async def handler(ctx: Ctx) -> None:
        got.append(await ctx.run(echo, 1))
        got.append(await ctx.promise("ok"))

    machine = begun(handler)
    values = object(), object()
    machine.receive(done(machine, "echo#1"), values[0])
    machine.receive(PromiseSettled(machine.at, "ok#1", b"null", ok=True), values[1])
    assert got == list(values)
    machine.evict()


def test_without_a_value_the_entrys_own_is_decoded() -> None:
    async def handler(ctx: Ctx) -> list[Any]:
        return [await ctx.run(echo, 1), await ctx.promise("ok")]

    machine = begun(handler)
    machine.receive(done(machine, "echo#1", b'{"a": 1}'))
    machine.receive(PromiseSettled(machine.at, "ok#1", b"[2]", ok=True))
    (*_, command) = machine.take_commands()
    assert command == Return([{"a": 1}, [2]])
    machine.evict()


def test_a_failed_step_raises_what_was_recorded() -> None:
    seen: list[Any] = []

    async def handler(ctx: Ctx) -> None:
        for _ in range(2):
            try:
                await ctx.run(echo, 1)
            except (StepFailed, TerminalError) as error:
                seen.append(error)

    machine = begun(handler)
    failures = Failure("KeyError", "'x'", "Traceback", attempts=3), Failure("Gone", "no such city", status=404)
    for count, failure in enumerate(failures, 1):
        machine.receive(StepErrored(machine.at, f"echo#{count}", b"", failure, b"", 1))
    failed, terminal = seen
    assert (failed.step, failed.error_type, failed.message) == ("echo#1", "KeyError", "'x'")
    assert (failed.attempts, failed.details) == (3, "Traceback")
    assert (type(terminal), str(terminal), terminal.status) == (TerminalError, "no such city", 404)
    machine.evict()


def test_a_rejected_promise_raises_its_reason() -> None:
    async def handler(ctx: Ctx) -> None:
        await ctx.promise("ok")

    machine = begun(handler)
    machine.receive(PromiseSettled(machine.at, "ok#1", b'"too late"', ok=False))
    (*_, command) = machine.take_commands()
    assert isinstance(command, Raise)
    assert isinstance(command.error, TerminalError)
    assert (str(command.error), command.error.status) == ("too late", 409)
    machine.evict()


def test_a_cancel_ends_in_cancelled_unless_the_handler_makes_something_else_of_it() -> None:
    async def plain(ctx: Ctx) -> None:
        await ctx.promise("ok")

    async def answers(ctx: Ctx) -> str:
        try:
            await ctx.promise("ok")
        except asyncio.CancelledError:
            return "cleaned"

    async def fails(ctx: Ctx) -> None:
        try:
            await ctx.promise("ok")
        finally:
            raise ValueError("in clean-up")

    ends = []
    for shape in (plain, answers, fails):
        machine = begun(shape)
        machine.take_commands()
        machine.receive(CancelRequested(machine.at, "enough"))
        withdrawn, end = machine.take_commands()
        assert withdrawn == WithdrawPromise("ok#1")
        ends.append(end)
        machine.evict()
    assert ends[:2] == [EndCancelled("enough"), Return("cleaned")]
    assert isinstance(ends[2], Raise)


def test_a_handler_that_cancels_itself_has_raised() -> None:
    async def handler(ctx: Ctx) -> None:
        raise asyncio.CancelledError

    machine = begun(handler)
    (command,) = machine.take_commands()
    assert isinstance(command, Raise)
    machine.evict()


def test_what_the_handler_leaves_behind_cleans_up_before_the_end() -> None:
    async def background(ctx: Ctx) -> None:
        try:
            await ctx.promise("never")
        finally:
            await ctx.run(echo, "undo")

    async def handler(ctx: Ctx) -> str:
        asyncio.create_task(background(ctx))
        await ctx.run(echo, 1)
        ctx.run(echo, "left running")
        return "done"

    machine = begun(handler)
    machine.take_commands()
    machine.receive(done(machine, "echo#1"))
    assert kinds(machine) == ["RunStep echo#2", "WithdrawPromise 1/never#1", "RunStep 1/echo#1"]
    assert not machine.ended
    machine.receive(done(machine, "1/echo#1"))
    assert kinds(machine) == ["CancelStep echo#2", "Return"]
    assert machine.ended
    machine.evict()


def test_a_step_cancelled_twice_or_when_it_is_done_is_stopped_once() -> None:
    async def handler(ctx: Ctx) -> None:
        first, second = ctx.run(echo, 1), ctx.run(echo, 2)
        await first
        assert not first.cancel()
        assert second.cancel()
        assert not second.cancel()
        await ctx.promise("ok")

    machine = begun(handler)
    machine.take_commands()
    machine.receive(done(machine, "echo#1"))
    assert [command for command in machine.take_commands() if isinstance(command, CancelStep)] == [CancelStep("echo#2")]
    machine.evict()


def test_an_error_nobody_awaits_is_logged_when_it_happens_and_not_on_every_replay(
    logs: pytest.LogCaptureFixture,
) -> None:
    async def handler(ctx: Ctx) -> None:
        async def lost() -> None:
            raise ValueError("nobody awaits me")

        asyncio.create_task(lost())
        await ctx.run(echo, 1)

    gc.collect()
    logs.clear()
    machine = begun(handler)
    entry = done(machine, "echo#1")
    machine.receive(entry)
    assert [record.getMessage() for record in logs.records] == ["Task exception was never retrieved"]
    assert "nobody awaits me" in str(logs.records[0].exc_info)
    machine.evict()
    logs.clear()
    again = Life(handler, [entry])
    assert again.outcome == ("returned", "null")
    again.machine.evict()
    assert logs.records == []


def test_a_callback_that_raises_is_logged_and_the_handler_goes_on(logs: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("in a callback")

    async def handler(ctx: Ctx) -> str:
        asyncio.get_running_loop().call_soon(broken)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    machine = begun(handler)
    assert machine.take_commands() == [Return("done")]
    assert "Exception in callback" in logs.text
    assert "in a callback" in logs.text
    machine.evict()


def test_time_stands_still_between_entries_and_is_the_entrys_then() -> None:
    async def handler(ctx: Ctx) -> list[float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(0)
        assert loop.time() == before
        await ctx.run(echo, 1)
        return [before, loop.time()]

    machine = begun(handler)
    start = machine.at
    machine.receive(StepCompleted(start + 777, "echo#1", b"", b"1", b"", 1, start))
    assert machine.take_commands()[-1] == Return([start / 1000, (start + 777) / 1000])
    machine.evict()


def test_a_long_chain_keeps_nothing_of_its_past() -> None:
    async def handler(ctx: Ctx) -> None:
        for n in range(3000):
            async with asyncio.timeout(60):
                await asyncio.gather(ctx.run(echo, n), asyncio.create_task(asyncio.sleep(0)))

    life = Life(handler)
    tasks = 0
    while life.outcome is None:
        life.receive(life.entry(life.choices()[0]))
        tasks = max(tasks, len(life.machine.loop._tasks))
    assert tasks < 200
    assert len(life.machine.loop._heap) < 200
    assert life.machine.waiting == {}
    life.machine.evict()


def test_two_invocations_of_one_handler_do_not_meet() -> None:
    async def handler(ctx: Ctx) -> Any:
        return [await ctx.run(echo, 1), ctx.uuid(), await ctx.run(echo, 2)]

    first, second = Life(handler, machine=Watched("inv_a")), Life(handler, machine=Watched("inv_b"))
    for step in ("echo#1", "echo#2"):
        for life in (first, second):
            life.receive(life.entry(step))
    assert first.outcome == second.outcome  # the same seed, so the same uuid: nothing of one is in the other
    assert first.machine.loop.next_hash() != second.machine.loop.next_hash()
    for life in (first, second):
        life.machine.evict()


def test_a_run_is_over_when_its_seed_says_so() -> None:
    async def handler(ctx: Ctx) -> Any:
        return await asyncio.gather(*(ctx.run(echo, n) for n in range(5)))

    assert live(handler, 7).journal == live(handler, 7).journal
    assert live(handler, 7).journal != live(handler, 8).journal


@pytest.mark.parametrize("name", ["1/fetch", "a#1", "~/x"])
def test_a_promise_cannot_take_the_id_of_another_tasks_step(name: str) -> None:
    async def handler(ctx: Ctx) -> Any:
        step = asyncio.create_task(ctx.run(echo, 1))
        try:
            ctx.promise(name)
        except BadArguments as error:
            return [str(error), await step]

    machine = begun(handler)
    machine.receive(done(machine, "echo#1"))
    command = machine.take_commands()[-1]
    assert isinstance(command, Return)
    assert f"{name!r} cannot be the name of a promise" in command.value[0]
    machine.evict()
