"""Group commit: everything that happens in one turn of the loop is one transaction and one sync.

Promises: what was given to `after` runs only once everything added before it is durable, in order; after a failed
commit nothing runs any more and `failed` is told why (G11). Refuses: to know what the rows mean.

Small batches are written on the loop's own thread while the disk answers fast: handing them to another thread costs
as much as the sync. Larger or slower ones go to one writer thread, while the loop goes on. There is no linger time:
what arrives during a commit is the next batch.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from holdfast.errors import EngineStopped, HoldfastError, StoreFailed, StoreFull
from holdfast.stores.base import Batch, Store

INLINE_ROWS_MAX = 16  # above it a commit's own work is worth the hop to the writer thread
INLINE_SECONDS_MAX = 0.0005  # average commit; slower disks would stall the loop
SLOW_SECONDS = 0.002  # one commit this slow, and the next second goes to the writer thread
SLOW_PENALTY_SECONDS = 1.0
IDLE_SECONDS = 0.05
MAINTAIN_COMMITS = 256

log = logging.getLogger("holdfast")

Work = Callable[[], None]


class Committer:
    """The one way to the store's write side."""

    def __init__(self, store: Store, *, full_seconds: float, failed: Callable[[HoldfastError], None]) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._full_seconds = full_seconds
        self._failed = failed
        self._batch = Batch()
        self._after: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = False
        self._busy = False
        self._failure: HoldfastError | None = None
        self._average = 0.0
        self._slow_until = 0.0
        self._commits = 0
        self._idle: asyncio.TimerHandle | None = None
        self._jobs: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._waiting_jobs: list[Work] = []
        self._thread = threading.Thread(target=self._write, name="holdfast-writer", daemon=True)
        self._thread.start()

    @property
    def batch(self) -> Batch:
        """The batch that is being filled; it will be committed at the end of this turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)
        return self._batch

    def after(self, call: Callable[..., None], *args: Any) -> None:
        """Calls `call(*args)` on the loop once everything in the batch so far is durable."""
        _ = self.batch
        self._after.append((call, args))

    def check(self) -> None:
        """Raises what stopped the store, if anything did; StoreFull while the disk is full."""
        if self._failure is not None:
            raise self._failure

    async def backup(self, path: Path) -> None:
        """Copies the store to `path`, slice by slice between commits."""
        slices = self._store.backup(path)
        while await self._in_writer(lambda: _next(slices)):
            pass

    async def close(self) -> None:
        """Commits what is left and ends the writer thread. The store stays open."""
        while (self._busy or self._scheduled) and self._failure is None:
            await asyncio.sleep(0.001)
        if self._idle is not None:
            self._idle.cancel()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _flush(self) -> None:
        self._scheduled = False
        if self._busy or (self._failure is not None and not isinstance(self._failure, StoreFull)):
            return
        if self._waiting_jobs:
            self._start_job(self._waiting_jobs.pop(0))
            return
        batch, after = self._batch, self._after
        rows = batch.rows()
        if not rows and not after:
            return
        self._batch, self._after = Batch(), []
        if not rows:
            self._run(after)
        elif self._inline(rows):
            self._commit_inline(batch, after)
        else:
            self._busy = True
            self._jobs.put(lambda: self._commit_in_writer(batch, after))

    def _inline(self, rows: int) -> bool:
        return (
            rows <= INLINE_ROWS_MAX
            and self._average < INLINE_SECONDS_MAX
            and (self._slow_until == 0.0 or time.monotonic() > self._slow_until)
        )

    def _commit_inline(self, batch: Batch, after: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        began = time.perf_counter()
        try:
            self._store.commit(batch)
        except HoldfastError as error:
            self._refused(batch, after, error)
            return
        self._committed(after, time.perf_counter() - began)

    def _commit_in_writer(self, batch: Batch, after: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        began = time.perf_counter()
        try:
            self._store.commit(batch)
        except HoldfastError as error:
            self._loop.call_soon_threadsafe(self._refused, batch, after, error)
        except Exception as error:  # noqa: BLE001  # a bug in a store must stop the engine, not the thread in silence
            failure = StoreFailed(f"the store raised {type(error).__name__}: {error}", fix="report this as a bug")
            self._loop.call_soon_threadsafe(self._refused, batch, after, failure)
        else:
            self._loop.call_soon_threadsafe(self._written, after, time.perf_counter() - began)

    def _written(self, after: list[tuple[Callable[..., None], tuple[Any, ...]]], seconds: float) -> None:
        self._busy = False
        self._committed(after, seconds)
        self._reschedule()

    def _committed(self, after: list[tuple[Callable[..., None], tuple[Any, ...]]], seconds: float) -> None:
        self._failure = None
        self._average += (seconds - self._average) / 16
        self._slow_until = time.monotonic() + SLOW_PENALTY_SECONDS if seconds > SLOW_SECONDS else self._slow_until
        self._run(after)
        self._commits += 1
        if self._commits % MAINTAIN_COMMITS == 0:
            self._start_job(lambda: self._store.maintain(idle=False))
        elif self._idle is None:
            self._idle = self._loop.call_later(IDLE_SECONDS, self._look_idle, self._commits)

    def _look_idle(self, commits: int) -> None:
        self._idle = None
        if commits != self._commits:
            self._idle = self._loop.call_later(IDLE_SECONDS, self._look_idle, self._commits)
        elif not self._busy:
            self._start_job(lambda: self._store.maintain(idle=True))

    def _run(self, after: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        for call, args in after:
            call(*args)

    def _refused(
        self,
        batch: Batch,
        after: list[tuple[Callable[..., None], tuple[Any, ...]]],
        error: HoldfastError,
        waited: float = 0.0,
    ) -> None:
        # A full disk rolls the batch back whole and may be given space again: the same batch is tried for a while,
        # aloud, and new starts are refused meanwhile. Any other error is final: a failed sync is never retried.
        self._failure = error
        self._busy = True
        if not isinstance(error, StoreFull) or waited >= self._full_seconds:
            self._failed(error)
            return
        delay = min(max(0.5, waited), self._full_seconds - waited) or 0.5
        log.warning("%s\n  nothing was acknowledged; the commit is tried again in %.1f s", error, delay)

        def again() -> None:
            try:
                self._store.commit(batch)
            except HoldfastError as next_error:
                self._refused(batch, after, next_error, waited + delay)
            else:
                self._written(after, 0.0)

        self._loop.call_later(delay, again)

    def _reschedule(self) -> None:
        if self._batch.rows() or self._after or self._waiting_jobs:
            _ = self.batch

    async def _in_writer(self, work: Callable[[], Any]) -> Any:
        done: asyncio.Future[Any] = self._loop.create_future()

        def job() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  # carried to the waiter
                self._loop.call_soon_threadsafe(done.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(done.set_result, result)

        self._waiting_jobs.append(job)
        self._reschedule()
        return await done

    def _start_job(self, job: Work) -> None:
        if self._busy:
            return
        self._busy = True

        def run() -> None:
            try:
                job()
            except HoldfastError as error:
                self._loop.call_soon_threadsafe(self._job_failed, error)
            else:
                self._loop.call_soon_threadsafe(self._job_done)

        self._jobs.put(run)

    def _job_done(self) -> None:
        self._busy = False
        self._reschedule()

    def _job_failed(self, error: HoldfastError) -> None:
        self._failure = error
        self._failed(error)

    def _write(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _next(slices: Iterator[None]) -> bool:
    for _ in slices:
        return True
    return False


STOPPED = EngineStopped(
    "the engine has stopped", cause="the `with` block ended or stop() was called", fix="start it again: all goes on"
)
