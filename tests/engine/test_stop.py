"""Ending: what runs is drained and recorded, the rest goes on at the next start, and nothing is left behind."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from holdfast import Context, EngineStopped, Holdfast, HoldfastError, Limits, Retry, StoreCorrupt, UsageError
from tests.engine.world import Wrapped, engine_of, open_promise, wait_for

ROOT = Path(__file__).parents[2]


def test_a_body_that_runs_when_the_block_ends_is_waited_for_and_recorded(world):
    calls = []

    async def body() -> str:
        calls.append("begun")
        await asyncio.sleep(0.05)
        calls.append("done")
        return "paid"

    async def after() -> None:
        calls.append("after")

    async def h(ctx: Context) -> str:
        paid = await ctx.run(body)
        await ctx.run(after)
        return paid

    with world.holdfast(h) as client:
        client.start(h, id="x")
        wait_for(lambda: calls)
    assert calls == ["begun", "done"], "nothing new begins"
    assert len(world.journal("x")) == 1
    with world.holdfast(h) as client:
        assert client.attach("x").result(20) == "paid"
    assert calls == ["begun", "done", "after"]


def test_a_body_that_fails_while_the_engine_stops_is_recorded_or_tried_at_the_next_start(world):
    calls = []

    async def body() -> str:
        calls.append(1)
        await asyncio.sleep(0.03)
        if len(calls) == 1:
            raise ConnectionError("down")
        return "up"

    async def h(ctx: Context) -> str:
        return await ctx.run(body)

    with world.holdfast(h) as client:
        client.start(h, id="x")
        wait_for(lambda: calls)
    with world.holdfast(h) as client:
        assert client.attach("x").result(20) == "up"
    assert len(calls) == 2


def test_who_ends_it_is_told_what_it_waits_for(world, monkeypatch, caplog):
    monkeypatch.setattr("holdfast.engine.engine.SAY_SECONDS", 0.0)
    began = threading.Event()

    async def body() -> None:
        began.set()
        await asyncio.sleep(0.1)

    async def h(ctx: Context) -> None:
        await ctx.run(body)

    with world.holdfast(h, limits=Limits(drain_seconds=5)) as client:
        client.start(h)
        assert began.wait(2)
    said = [record.getMessage() for record in caplog.records if "stopping" in record.getMessage()]
    assert said == ["stopping: waits up to 5 s for steps that run: 1"]


def test_a_mendless_fault_while_the_engine_stops_is_found_again_at_the_next_start(world):
    began = threading.Event()

    async def body() -> None:
        began.set()
        await asyncio.sleep(0.03)
        raise TypeError("a slip")

    async def h(ctx: Context) -> None:
        await ctx.run(body)

    with world.holdfast(h) as client:
        client.start(h, id="x")
        assert began.wait(2)
    with world.holdfast(h) as client:
        wait_for(lambda: client.attach("x").status().status == "paused")


def test_a_body_longer_than_the_drain_is_cancelled_cleans_up_and_runs_again(world):
    calls = []

    async def body() -> str:
        calls.append("begun")
        if calls.count("begun") == 2:
            return "at last"
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            calls.append("cleaned up")
            raise
        return "?"

    async def h(ctx: Context) -> str:
        return await ctx.run(body)

    began = time.monotonic()
    with world.holdfast(h, limits=Limits(drain_seconds=0.03)) as client:
        client.start(h, id="x")
        wait_for(lambda: calls)
    assert time.monotonic() - began < 1
    assert calls == ["begun", "cleaned up"]
    assert world.journal("x") == []
    with world.holdfast(h) as client:
        assert client.attach("x").result(20) == "at last"


def test_a_body_between_attempts_does_not_hold_up_the_stop(world):
    calls = []

    async def body() -> None:
        calls.append(1)
        raise ConnectionError("down")

    async def h(ctx: Context) -> None:
        await ctx.run(body)

    began = time.monotonic()
    with world.holdfast(h) as client:
        client.start(h)
        wait_for(lambda: calls)
    assert time.monotonic() - began < 2


def test_queued_bodies_do_not_begin_any_more(world):
    calls = []

    async def body(x: int) -> None:
        calls.append(x)
        await asyncio.sleep(0.03)

    async def h(ctx: Context) -> None:
        await asyncio.gather(*[ctx.run(body, x) for x in range(5)])

    with world.holdfast(h, limits=Limits(bodies=1)) as client:
        client.start(h, id="x")
        wait_for(lambda: calls)
    assert calls == [0]
    with world.holdfast(h) as client:
        client.attach("x").result(20)
    assert calls == [0, 1, 2, 3, 4]


def test_sync_bodies_that_wait_for_a_thread_do_not_begin_any_more(world):
    calls = []

    def body(x: int) -> int:
        calls.append(x)
        time.sleep(0.03)
        return x

    async def h(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*[ctx.run(body, x) for x in range(5)]))

    with world.holdfast(h, limits=Limits(threads=1)) as client:
        client.start(h, id="x")
        wait_for(lambda: calls)
    assert calls == [0]
    assert len(world.journal("x")) == 1
    with world.holdfast(h) as client:
        assert client.attach("x").result(20) == [0, 1, 2, 3, 4]
    assert sorted(calls) == [0, 1, 2, 3, 4]


def test_no_further_attempt_begins_while_bodies_are_waited_for(world):
    calls = []

    async def bad() -> None:
        calls.append("bad")
        raise ConnectionError("down")

    async def slow() -> None:
        await asyncio.sleep(0.1)
        calls.append("slow")

    async def fails_in_the_end() -> None:
        await asyncio.sleep(0.05)
        calls.append("late")
        raise ConnectionError("down")

    async def h(ctx: Context) -> None:
        soon = Retry(initial=0.02, factor=1)
        await asyncio.gather(ctx.run(slow), ctx.run(bad, retry=soon), ctx.run(fails_in_the_end, retry=soon))

    with world.holdfast(h) as client:
        client.start(h, id="x")
        wait_for(lambda: calls)
    assert calls[-2:] == ["late", "slow"]
    assert calls.count("bad") <= 2
    assert calls.count("late") == 1
    assert len(world.journal("x")) == 1


def test_the_handlers_own_finally_blocks_do_not_run_durably_at_a_stop(world):
    log = []

    async def undo() -> None:
        log.append("undo")

    async def h(ctx: Context) -> None:
        try:
            await ctx.promise("never")
        finally:
            log.append("left")
            await ctx.run(undo)

    for _ in range(2):
        with world.holdfast(h) as client:
            client.start(h, id="x")
            open_promise(client)
    assert "undo" not in log
    assert world.journal("x") == []


def test_no_thread_of_the_engine_is_left(world):
    def threads():
        return {thread for thread in threading.enumerate() if thread.name.startswith("holdfast")}

    async def h(ctx: Context) -> int:
        return await ctx.run(len, "abc") + await asyncio.to_thread(len, "abc")

    before = threads()
    with world.holdfast(h) as client:
        assert client.start(h).result(20) == 6
        assert threads() - before
    wait_for(lambda: not threads() - before, "the end of all threads")


def test_an_engine_that_cannot_start_leaves_nothing_behind(world):
    async def h(ctx: Context) -> int:
        return 1

    class Damaged(Wrapped):
        def next_wake(self):
            raise StoreCorrupt("the index is gone")

        due = ready = last_number = next_wake

    before = threading.active_count()
    broken = world.holdfast(h, wrap=Damaged)
    for _ in range(2):
        with pytest.raises(StoreCorrupt), broken:
            pass
    wait_for(lambda: threading.active_count() == before)
    with world.holdfast(h) as client:
        assert client.start(h).result(20) == 1


def test_an_error_in_the_block_ends_the_engine_too(world):
    async def h(ctx: Context) -> int:
        return 1

    hf = world.holdfast(h)
    with pytest.raises(ZeroDivisionError), hf:
        1 / 0  # noqa: B018
    with hf as client:
        assert client.start(h).result(20) == 1


def test_stop_acknowledges_or_refuses_every_call_that_is_under_way(world):
    ends = []

    async def h(ctx: Context) -> int:
        return await ctx.run(len, "abc")

    def hammer():
        for _ in range(10_000):
            try:
                ends.append(client.start(h).id)
            except EngineStopped:
                return
        raise AssertionError("it never stopped")

    with world.holdfast(h) as client:
        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(3)
        assert not thread.is_alive(), "a caller was left waiting"
    with world.holdfast(h) as client:
        assert all(client.attach(id).result(3) == 3 for id in ends)


def test_tasks_the_bodies_left_on_the_loop_are_cancelled(world):
    ended = threading.Event()

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def body() -> None:
        body.task = asyncio.create_task(background())
        await asyncio.sleep(0)

    async def h(ctx: Context) -> None:
        await ctx.run(body)

    with world.holdfast(h) as client:
        client.start(h).result(20)
        assert not ended.is_set()
    assert ended.is_set()


def test_the_async_block_leaves_other_tasks_of_the_program_alone(world):
    async def h(ctx: Context) -> int:
        return 1

    async def main():
        mine = asyncio.create_task(asyncio.sleep(0.05, "alive"))
        async with world.holdfast(h) as client:
            assert await (await client.start(h)).result() == 1
        return await mine

    assert asyncio.run(main()) == "alive"


def test_an_async_block_that_is_cancelled_still_lets_go_of_the_store(world):
    async def h(ctx: Context) -> int:
        return 1

    async def use(entered):
        async with world.holdfast(h):
            entered.set()
            await asyncio.sleep(60)

    async def main():
        entered = asyncio.Event()
        task = asyncio.create_task(use(entered))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with world.holdfast(h) as client:
            return await (await client.start(h)).result()

    assert asyncio.run(main()) == 1


def test_a_backup_taken_while_all_goes_on_can_be_run(tmp_path):
    async def h(ctx: Context, x: int) -> int:
        return await ctx.run(abs, x) + await ctx.promise("more", type=int)

    def open_on(name):
        hf = Holdfast(tmp_path / name)
        hf.handler(h)
        return hf

    with open_on("agent.db") as client:
        for x in range(10):
            client.start(h, x, id=f"x{x}")
        wait_for(lambda: len(engine_of(client).store.open_promises(99)) == 10)
        client.backup(tmp_path / "copy.db")
        client.start(h, 10, id="after the copy")
        with pytest.raises(HoldfastError):
            client.backup(tmp_path / "copy.db")
        assert client.start(h, 11, id="goes on").status().status in ("ready", "suspended")
    with open_on("copy.db") as client:
        assert len(client.list()) == 10
        for row in engine_of(client).store.open_promises(99):
            client.resolve(row.id, 100)
        assert [client.attach(f"x{x}").result(20) for x in range(10)] == [100 + x for x in range(10)]


def test_a_backup_of_a_store_in_memory_is_refused(memory_world, tmp_path):
    with memory_world.holdfast() as client, pytest.raises(UsageError, match="this store is in memory"):
        client.backup(tmp_path / "copy.db")


def test_two_engines_on_two_stores_may_run_in_one_program(tmp_path, memory_world):
    async def h(ctx: Context, x: int) -> int:
        return await ctx.run(abs, x)

    other = Holdfast(tmp_path / "other.db")
    other.handler(h)
    with memory_world.holdfast(h) as one, other as two:
        pairs = [(one.start(h, -x), two.start(h, -x)) for x in range(10)]
        assert [(a.result(20), b.result(20)) for a, b in pairs] == [(x, x) for x in range(10)]


SERVER = """
import asyncio, signal, sys
from holdfast import Context, Holdfast, Limits

hf = Holdfast("agent.db", limits=Limits(drain_seconds=float(sys.argv[1])))

original = asyncio.SelectorEventLoop.add_signal_handler

def told(loop, number, *rest):
    original(loop, number, *rest)
    if number == signal.SIGTERM:
        print("ready", flush=True)

asyncio.SelectorEventLoop.add_signal_handler = told

async def body() -> str:
    print("begun", flush=True)
    await asyncio.sleep(float(sys.argv[2]))
    print("done", flush=True)
    return "paid"

@hf.handler
async def h(ctx: Context) -> str:
    paid = await ctx.run(body)
    await ctx.promise("hold")
    return paid

async def first_start():
    async with hf as client:
        await client.start(h, id="x")

if len(sys.argv) > 3:
    asyncio.run(first_start())
else:
    hf.run()
    print("stopped", flush=True)
"""


@pytest.fixture
def server(tmp_path):
    """Starts the program above over one file; everything it started is dead at the end."""
    children = []

    def start(drain: float, body: float, *more: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER), str(drain), str(body), *more],
            cwd=tmp_path, env={"PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        children.append(child)
        return child

    out, err = start(0, 60, "start").communicate(timeout=20)
    assert (out in ("", "begun\n"), err) == (True, "")
    yield start
    for child in children:
        child.kill()
        child.communicate()


def hear(child: subprocess.Popen[str], *words: str) -> None:
    """Reads what the server says until it has said all the words."""
    waited = set(words)
    while waited:
        word = child.stdout.readline().strip()
        assert word, child.communicate()[1]
        waited.discard(word)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_bodies_finish_and_records_them(server, number):
    child = server(10, 0.15)
    hear(child, "ready", "begun")
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out, err) == (0, "done\nstopped\n", "")
    child = server(10, 0.15)
    hear(child, "ready")
    time.sleep(0.05)
    child.send_signal(number)
    assert child.communicate(timeout=20)[0] == "stopped\n", "the body was recorded and does not run again"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_and_loses_nothing(server, number):
    child = server(60, 60)
    hear(child, "ready", "begun")
    child.send_signal(number)
    time.sleep(0.1)
    assert child.poll() is None
    child.send_signal(number)
    out, _ = child.communicate(timeout=5)
    assert child.returncode == -number
    assert out == ""
    child = server(10, 0.05)
    hear(child, "begun", "done")


def test_a_failed_store_ends_a_server_instead_of_leaving_it_idle(tmp_path):
    program = """
        import asyncio
        from holdfast import Context, Holdfast, MemoryStore, StoreFailed

        class Failing(MemoryStore):
            failing = False

            def commit(self, batch):
                if self.failing:
                    raise StoreFailed("the sync failed")
                super().commit(batch)

        store = Failing()
        hf = Holdfast(store)

        @hf.handler
        async def h(ctx: Context) -> None:
            await asyncio.sleep(0.05)

        async def begin():
            async with hf as client:
                await client.start(h)

        asyncio.run(begin())
        store.failing = True
        hf.run()
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert run.returncode != 0
    assert "the sync failed" in run.stderr


def test_open_work_is_seen_by_the_engine_only_while_it_runs(memory_world):
    async def h(ctx: Context) -> None:
        await ctx.promise("hold")

    with memory_world.holdfast(h) as client:
        client.start(h)
        engine = engine_of(client)
    assert engine._residents == {}
