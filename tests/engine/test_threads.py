"""Sync bodies run in daemon threads: few, reused, and never in the way of the program's end."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

from holdfast.engine.threads import Threads


def test_work_never_runs_in_more_threads_than_allowed() -> None:
    threads = Threads(3)
    together = threading.Barrier(3)
    names = {threads.submit(lambda: (together.wait(5), threading.current_thread().name)[1]) for _ in range(9)}
    assert len({future.result(5) for future in names}) == 3
    threads.close()


def test_an_idle_thread_is_used_again() -> None:
    threads = Threads(8)
    names = {threads.submit(lambda: threading.current_thread().name).result(5) for _ in range(20)}
    assert len(names) == 1
    threads.close()


def test_work_taken_back_before_it_began_does_not_run() -> None:
    threads = Threads(1)
    gate = threading.Event()
    ran: list[int] = []
    threads.submit(lambda: gate.wait(5))
    second = threads.submit(lambda: ran.append(2))
    third = threads.submit(lambda: ran.append(3))
    assert second.cancel()
    gate.set()
    third.result(5)
    assert ran == [3]
    threads.close()


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
