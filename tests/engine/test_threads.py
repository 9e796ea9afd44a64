"""Sync bodies run in daemon threads: few, reused, and never in the way of the program's end."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

from holdfast.engine.threads import Threads
from tests.engine.world import wait_for


def test_an_idle_thread_is_used_again() -> None:
    threads = Threads(8)
    names = {threads.submit(lambda: threading.current_thread().name).result(5) for _ in range(20)}
    assert len(names) == 1
    threads.close()


def test_as_many_as_are_to_be_kept_stay_and_the_others_end() -> None:
    threads, together, others = Threads(2), threading.Barrier(5), set(threading.enumerate())
    work = [threads.submit(lambda: together.wait(5)) for _ in range(5)]
    assert sorted(future.result(5) for future in work) == list(range(5))
    wait_for(lambda: len(set(threading.enumerate()) - others) == 2)
    threads.close()
    wait_for(lambda: set(threading.enumerate()) <= others)


def test_those_that_work_when_it_is_closed_end_afterwards() -> None:
    threads, gate, others = Threads(2), threading.Event(), set(threading.enumerate())
    threads.submit(lambda: None).result(5)
    work = [threads.submit(lambda: gate.wait(5)) for _ in range(2)]
    threads.close()
    gate.set()
    assert all(future.result(5) for future in work)
    wait_for(lambda: set(threading.enumerate()) <= others)


def test_a_body_that_never_returns_does_not_keep_the_program_alive(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import threading, time
        from holdfast import Context, Holdfast, Limits

        hf = Holdfast("a.db", limits=Limits(drain_seconds=0.1))
        begun = threading.Event()

        def stuck() -> None:
            begun.set()
            threading.Event().wait()

        @hf.handler
        async def wait(ctx: Context) -> None:
            await ctx.run(stuck)

        with hf as client:
            client.start(wait, id="a")
            begun.wait(5)
        print("ended")
        """
    )
    run = subprocess.run(  # the program above
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "ended\n", "")
