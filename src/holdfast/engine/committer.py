"""Group commit: everything that happens in one turn of the loop is one transaction and one sync.

Promises: what was given to `after` runs only once everything added before it is durable, in order; after a failed
commit nothing runs any more and `failed` is told why (G11). Refuses: to know what the rows mean.

Small batches are written on the loop's own thread while the disk answers fast: handing them to another thread costs
as much as the sync. Larger or slower ones go to the lane, one writer thread, while the loop goes on. There is no
linger time: what arrives during a commit is the next batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from holdfast.engine.ports import Lane
from holdfast.engine.reasons import as_failure
from holdfast.errors import EngineStopped, HoldfastError, StoreFailed, StoreFull
from holdfast.stores.base import Batch, Store

INLINE_ROWS_MAX = 16  # above it a commit's own work is worth the hop to the writer thread
INLINE_SECONDS_MAX = 0.0005  # average commit; slower disks would stall the loop
SLOW_SECONDS = 0.002  # one commit this slow, and for a moment all go to the writer thread
SLOW_PENALTY_SECONDS = 0.1
IDLE_SECONDS = 0.05
FULL_RETRY_SECONDS = 0.5  # until the first retry on a full disk; then as long again as it has been full
MAINTAIN_COMMITS = 32  # between looks at the log, each a hop to the lane; a log past its grown length costs more

log = logging.getLogger("holdfast")

Work = Callable[[], bool]  # whether there is more to do while nobody commits


class Committer:
    """The one way to the store's write side."""

    def __init__(
        self, store: Store, lane: Lane, *, full_seconds: float, failed: Callable[[HoldfastError], None],
        before: Callable[[], None],
    ) -> None:  # fmt: skip
        """`before` is called when a batch is about to be closed, to add what belongs to it."""
        self._store = store
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._full_seconds = full_seconds
        self._failed = failed
        self._before = before
        self._batch = Batch()
        self._after: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = False
        self._busy = False
        self._failure: HoldfastError | None = None
        self._average = 0.0
        self._slow_until = 0.0
        self._commits = 0
        self._idle: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._waiting_jobs: list[Work] = []

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
            raise self._failure.with_traceback(None)

    def halt(self, error: HoldfastError) -> None:
        """Commits nothing any more: what is in the open batch may be half of what belongs together."""
        if self._failure is None or isinstance(self._failure, StoreFull):
            self._failure = error

    async def backup(self, path: Path) -> None:
        """Copies the store to `path`, slice by slice between commits."""
        slices = self._store.backup(path)
        while await self._in_lane(lambda: _next(slices)):
            pass

    async def tidy(self) -> None:
        """Does at once what the store would do bit by bit while nobody commits. Raises StoreError."""
        while await self._in_lane(lambda: self._store.maintain(idle=True)):
            pass

    async def close(self) -> None:
        """Commits what is left and ends the lane. The store stays open."""
        while (self._busy or self._scheduled) and self._failure is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # once a life; an event would cost on every commit
        self._failure = self._failure or STOPPED  # who comes now is too late: the store will be closed
        for timer in (self._idle, self._again):
            if timer is not None:
                timer.cancel()
        await self._lane.close()

    def _flush(self) -> None:
        if self._failure is None or isinstance(self._failure, StoreFull):
            self._before()  # what it adds needs no flush of its own
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
            self._lane.submit(lambda: self._commit_in_lane(batch, after))

    def _inline(self, rows: int) -> bool:
        return (
            rows <= INLINE_ROWS_MAX
            and self._average < INLINE_SECONDS_MAX
            and (self._slow_until == 0.0 or self._lane.seconds() > self._slow_until)
        )

    def _commit_inline(self, batch: Batch, after: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        began = self._lane.seconds()
        error = self._try(batch)
        if error is not None:
            self._refused(batch, after, error)
            return
        self._committed(after, self._lane.seconds() - began)

    def _commit_in_lane(self, batch: Batch, after: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        began = self._lane.seconds()
        error = self._try(batch)
        if error is not None:
            self._loop.call_soon_threadsafe(self._refused, batch, after, error)
        else:
            self._loop.call_soon_threadsafe(self._written, after, self._lane.seconds() - began)

    def _try(self, batch: Batch) -> HoldfastError | None:
        try:
            self._store.commit(batch)
        except HoldfastError as error:
            return error
        except Exception as error:  # noqa: BLE001  # a bug in a store must stop the engine, not hang it in silence
            return StoreFailed(f"the store raised {type(error).__name__}: {error}", fix="report this as a bug")
        return None

    def _written(self, after: list[tuple[Callable[..., None], tuple[Any, ...]]], seconds: float) -> None:
        self._busy = False
        self._committed(after, seconds)
        self._reschedule()

    def _committed(self, after: list[tuple[Callable[..., None], tuple[Any, ...]]], seconds: float) -> None:
        self._failure = None
        self._average += (seconds - self._average) / 16
        if seconds > SLOW_SECONDS:
            self._slow_until = self._lane.seconds() + SLOW_PENALTY_SECONDS
        self._run(after)
        self._commits += 1
        if self._commits % MAINTAIN_COMMITS == 0:
            self._start_job(lambda: self._store.maintain(idle=False))
        elif self._idle is None:
            self._watch_idle()

    def _watch_idle(self) -> None:
        self._idle = self._loop.call_later(IDLE_SECONDS, self._look_idle, self._commits)

    def _look_idle(self, commits: int) -> None:
        self._idle = None
        if commits != self._commits:
            self._watch_idle()
        elif not self._busy:
            self._start_job(lambda: self._store.maintain(idle=True))

    def _run(self, after: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        for call, args in after:
            try:
                call(*args)
            except Exception as error:  # noqa: BLE001  # in silence, all that come after it would wait for ever
                self._failed(as_failure(error))
                return

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
        if isinstance(error, StoreFull) and waited >= self._full_seconds:
            fix = "free some space, then start it again: nothing acknowledged is lost"
            given_up = StoreFull(error.what, cause=error.cause, fix=fix)
            given_up.__cause__ = error.__cause__
            self._failed(given_up)
            return
        if not isinstance(error, StoreFull):
            self._failed(error)
            return
        delay = min(max(FULL_RETRY_SECONDS, waited), self._full_seconds - waited) or FULL_RETRY_SECONDS
        log.warning("%s\n  nothing was acknowledged; the commit is tried again in %.1f s", error, delay)

        def again() -> None:
            self._again = None
            next_error = self._try(batch)
            if next_error is not None:
                self._refused(batch, after, next_error, waited + delay)
            else:
                self._written(after, 0.0)

        self._again = self._loop.call_later(delay, again)

    def _reschedule(self) -> None:
        if self._batch.rows() or self._after or self._waiting_jobs:
            _ = self.batch

    async def _in_lane(self, work: Callable[[], Any]) -> Any:
        done: asyncio.Future[Any] = self._loop.create_future()

        def job() -> bool:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  # carried to the waiter
                self._loop.call_soon_threadsafe(done.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(done.set_result, result)
            return False

        self._waiting_jobs.append(job)
        self._reschedule()
        return await done

    def _start_job(self, job: Work) -> None:
        if self._busy:
            return
        self._busy = True

        def run() -> None:
            try:
                more = job()
            except Exception as error:  # noqa: BLE001  # a bug in a store must stop the engine, not hang it in silence
                self._loop.call_soon_threadsafe(self._job_failed, as_failure(error))
            else:
                self._loop.call_soon_threadsafe(self._job_done, more)

        self._lane.submit(run)

    def _job_done(self, more: bool) -> None:
        self._busy = False
        if more and self._idle is None and self._failure is None:
            self._watch_idle()
        self._reschedule()

    def _job_failed(self, error: HoldfastError) -> None:
        self._failure = error
        self._failed(error)


def _next(slices: Iterator[None]) -> bool:
    for _ in slices:
        return True
    return False


STOPPED = EngineStopped(
    "the engine has stopped", cause="the `with` block ended or stop() was called", fix="start it again: all goes on"
)
