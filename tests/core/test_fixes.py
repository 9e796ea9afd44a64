"""Each fix that keeps a handler on its loop, on and off: on, nothing happens; off, the failure is seen.

Those for sets, hashes and uuid4 are in test_processes.py. Two more are not of the core: that a machine is stepped from
callbacks only (the engine), and how results of SDK types are written (values).
"""

import sys
from pathlib import Path

import pytest

from tests.core.child import script

IN_A_MAIN_LOOP = """
    import asyncio, gc

    async def main():
        finished = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: finished.set_result(drive()))
        out = await finished
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        print(*out, sep="\\n")
"""


def test_a_generator_broken_off_is_closed_on_its_own_loop_not_on_the_main_one(tmp_path: Path) -> None:
    source = f"""{IN_A_MAIN_LOOP}
    def drive():
        life = case.Life(shapes.generator_broken_off)
        while life.choices():
            life.receive(life.entry(life.choices()[0]))
        return life.machine.trace

    asyncio.run(main())
    """
    assert "run ~.1/echo#1" in script(tmp_path, source)  # the step in the generator's finally block
    off = script(tmp_path, source, without="generator hooks")
    assert "run ~.1/echo#1" not in off
    assert "WrongPlace" in off  # that step was asked for on the main loop


def test_a_dropped_handler_runs_its_finally_blocks_then_and_in_its_own_context(tmp_path: Path) -> None:
    source = f"""{IN_A_MAIN_LOOP}
    log = []

    async def handler(ctx):
        token = shapes.who.set("ada")
        try:
            await ctx.run(shapes.echo, 1)
        finally:
            log.append(f"finally, as {{shapes.who.get()}}")
            shapes.who.reset(token)
            log.append("reset")

    def drive():
        life = case.Life(handler)
        life.machine.evict()
        log.append("evicted")
        return log

    asyncio.run(main())
    """
    assert script(tmp_path, source).split("\n")[:3] == ["finally, as ada", "reset", "evicted"]
    off = script(tmp_path, source, without="eviction")
    assert "finally, as nobody" in off
    assert "was created in a different Context" in off


def test_eviction_by_throw_reaches_into_async_generators_where_close_does_not(tmp_path: Path) -> None:
    source = """
    import gc

    async def handler(ctx):
        async def pages():
            try:
                yield await ctx.run(shapes.echo, 1)
            finally:
                print("finally")

        async for page in pages():
            print(page)

    life = case.Life(handler)
    life.machine.evict()
    print("evicted")
    """
    assert script(tmp_path, source).split() == ["finally", "evicted"]
    if sys.version_info < (3, 12):
        assert script(tmp_path, source, without="eviction by throw").split()[0] == "evicted"


def test_a_task_that_swallows_cancels_under_an_anyio_scope_does_not_spin(tmp_path: Path) -> None:
    source = """
    from holdfast.errors import HandlerStuck
    try:
        print(case.live(shapes_anyio.anyio_cancel_swallowed, 1).snapshots[-1]["outcome"])
    except HandlerStuck as stuck:
        print(stuck)
    """
    assert "returned" in script(tmp_path, source)
    off = script(tmp_path, source, without="cancel retries")
    assert "went round 100000 times" in off
    assert "shapes_anyio.py" in off


def test_an_anyio_thread_is_a_step(tmp_path: Path) -> None:
    source = """
    import time
    try:
        life = case.Life(shapes_anyio.anyio_threads)
        time.sleep(0.2)
        print(list(life.flight))
        life.machine.evict()
    except BaseException as error:
        print(type(error).__name__)
    """
    assert script(tmp_path, source).strip() == "['1/double#1', '2/double#1', '3/double#1']"
    assert "ForeignWake" in script(tmp_path, source, without="anyio threads")  # from the thread, past the journal


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_an_eager_task_begins_in_its_turn_and_has_a_branch_of_its_own(tmp_path: Path) -> None:
    source = """
    life = case.Life(shapes.eager_tasks)
    print(*life.machine.trace, sep="\\n")
    """
    on = script(tmp_path, source).splitlines()
    assert on[:4] == ["note job 0 made", "note job 1 made", "note job 2 made", "note job 0 begins"]
    assert [line.split()[1] for line in on if line.startswith("run")] == ["1/echo#1", "2/echo#1", "3/echo#1"]
    off = script(tmp_path, source, without="eager tasks")
    assert off.splitlines()[0] == "note job 0 begins"
    assert "run 1/echo#1" not in off


def test_without_a_digest_of_arguments_a_step_gets_the_result_of_another(tmp_path: Path) -> None:
    source = """
    from holdfast.errors import Mismatch

    def handler(*cities):
        async def travel(ctx):
            return [await ctx.run(shapes.echo, city) for city in cities]
        return travel

    journal = case.live(handler("rome", "oslo"), 0).journal
    try:
        print(case.Life(handler("oslo", "rome"), journal).outcome)
    except Mismatch as report:
        print(report)
    """
    assert "'echo#1' was recorded with other arguments" in script(tmp_path, source)
    assert '["rome", "oslo"]' in script(tmp_path, source, without="digests")


def test_all_tasks_come_in_an_order_that_does_not_depend_on_other_invocations(tmp_path: Path) -> None:
    source = """
    import asyncio

    async def handler(ctx):
        async def job(n):
            await ctx.run(shapes.echo, n)
            if n % 8 == 0:
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(job(n)) for n in range(33)]
        await asyncio.wait([task for n, task in enumerate(tasks) if n % 8])
        ctx.note([task.get_name() for task in asyncio.all_tasks()])
        for task in tasks:
            task.cancel()

    async def crowd(ctx):
        await asyncio.gather(*(asyncio.create_task(asyncio.sleep(9)) for _ in range(300)))

    def order(id):
        life = case.Life(handler, machine=case.Watched(id))
        while life.outcome is None:
            life.receive(life.entry(life.choices()[0]))
        return [line for line in life.machine.trace if "note" in line]

    alone = [order(f"inv_{n}") for n in range(60)]
    other = case.Life(crowd, machine=case.Watched("inv_other"))
    print("the same" if alone == [order(f"inv_{n}") for n in range(60)] else "differs")
    other.machine.evict()
    """
    assert script(tmp_path, source).split("\n")[0] == "the same"
    assert script(tmp_path, source, without="all tasks").split("\n")[0] == "differs"


def test_asyncio_wait_takes_bare_steps(tmp_path: Path) -> None:
    source = """print(case.live(shapes.wait_on_bare_steps, 1).snapshots[-1]["outcome"])"""
    assert "returned" in script(tmp_path, source)
    assert "Passing coroutines is forbidden" in script(tmp_path, source, without="steps in wait")


def test_a_coroutine_that_never_began_is_no_mistake_in_a_handler_that_is_dropped(tmp_path: Path) -> None:
    source = """
    async def handler(ctx):
        async def one(n):
            return await ctx.run(shapes.echo, n)

        return [await coroutine for coroutine in [one(n) for n in range(3)]]

    life = case.Life(handler)
    life.machine.evict()
    """
    assert script(tmp_path, source) == ""
    assert "was never awaited" in script(tmp_path, source, without="unawaited")


def test_a_coroutine_forgotten_while_the_handler_runs_is_still_warned_of(tmp_path: Path) -> None:
    source = """
    async def handler(ctx):
        async def forgotten():
            pass

        forgotten()
        await ctx.run(shapes.echo, 1)

    case.Life(handler).machine.evict()
    """
    assert "forgotten' was never awaited" in script(tmp_path, source)
