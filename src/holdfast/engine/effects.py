"""Runs the bodies of steps: async ones as tasks, sync ones in threads, with their deadline and their retries.

Promises: a body starts only when told, so after the commit that covers its asking; a completion is handed over from
a callback of the main loop, once. Refuses: to know what the journal looks like.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Protocol

from holdfast.core.commands import StepSpec
from holdfast.core.entries import Failure, StepBegun, Tried
from holdfast.core.retry import MENDLESS, PATIENT, judge
from holdfast.engine.bus import Bus
from holdfast.engine.ports import Clock, Entropy
from holdfast.engine.reasons import describe
from holdfast.engine.resident import Resident
from holdfast.engine.threads import Threads
from holdfast.errors import HoldfastError, NotDone, TerminalError, WrongPlace
from holdfast.steps import StepInfo, is_async, secrets_of
from holdfast.values import show_inputs

log = logging.getLogger("holdfast")

KEPT_CHARS_MAX = 200  # of an error's text while the next attempt is waited for: a row may have many of them
CHANCE_BITS = 32
CLEANUP_SECONDS = 1.0


class Sink(Protocol):
    """Where completions go: the driver."""

    def completed(self, resident: Resident, body: Body, text: bytes, value: Any) -> None:
        """The body returned; `text` is the result's JSON and `value` the result as decoded from it."""

    def errored(self, resident: Resident, body: Body, failure: Failure) -> None:
        """The body's last failure is final."""

    def faulted(self, resident: Resident, body: Body, failure: Failure, why: str) -> None:
        """The body cannot go on until a person looks at it; `why` says in what way it failed."""

    def failed(self, resident: Resident, body: Body, delay: float) -> None:
        """An attempt has failed, and the next one is to be made in so many seconds."""


class OnceSink(Protocol):
    """Where bodies of steps declared once say how they fare."""

    def begins(self, resident: Resident, body: Body) -> None:
        """The body has its turn: `body.go` lets it make its attempt."""

    def not_done(self, resident: Resident, body: Body, failure: Failure) -> None:
        """Its attempt has failed, and it is known what came of it."""

    def may_begin(self, resident: Resident, body: Body, failure: Failure) -> None:
        """The checker says that nothing was done."""

    def unknown(self, resident: Resident, body: Body, failure: Failure) -> None:
        """Its attempt has failed, and nobody knows what came of it."""

    def lost(self, resident: Resident, body: Body, failure: Failure | None) -> None:
        """There is nobody to ask, or who was asked has failed for good."""


class Body:
    """One step's body, or the checker that looks what came of it, over all its attempts."""

    __slots__ = (
        "_effects", "_fn", "_timer", "attempt", "beginning", "begun", "future", "gone", "info", "inputs", "last_error",
        "late", "next_at", "resident", "spec", "started", "step", "threaded",
    )  # fmt: skip

    def __init__(
        self, effects: Effects, resident: Resident, step: str, spec: StepSpec, begun: StepBegun | None = None
    ) -> None:
        """`begun`: the beginning of which the checker looks what came of it."""
        self._effects = effects
        self.future: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.resident = resident
        self.step = step
        self.spec = spec
        self.attempt = 0
        self.started = 0  # milliseconds; of the first attempt
        self.next_at = 0  # milliseconds; of the next one, while it is waited for
        self.inputs = b"[]"
        self.info: StepInfo | None = None
        self.last_error: Failure | None = None  # shown while it is retried
        self.late = False  # this attempt ran into its timeout
        self.gone = False  # completed, cancelled or given up
        self.begun = begun
        self._fn: Callable[..., Any] | None = spec.fn
        if begun is not None and spec.once is not None:
            self._fn = spec.once.check
        self.threaded = self._fn is not None and (spec.threaded or not is_async(self._fn))
        self.beginning = False  # its start is on its way to the store

    @property
    def retrying(self) -> bool:
        """Whether it waits for its next attempt."""
        return self.next_at > 0

    @property
    def active(self) -> bool:
        """Whether an attempt runs, or will as soon as its start is durable."""
        return self.future is not None or self.beginning

    @property
    def since(self) -> int:
        """When the step began, in milliseconds."""
        return self.started if self.begun is None else self.begun.at

    @property
    def tries(self) -> int:
        """How often its body was begun."""
        return self.attempt if self.begun is None else self.begun.attempt

    def recall(self, tried: Tried) -> None:
        """Goes on from the attempts it has made before it was parked."""
        self.attempt, self.started, self.next_at = tried.failure.attempts, tried.started, tried.next_at
        self.last_error = tried.failure
        self._show_inputs()

    def tried(self) -> Tried:
        """What is to be known of its attempts when it is parked."""
        last = self.last_error
        assert last is not None  # for the type checker: it is retried
        kept = Failure(last.type, last.message[:KEPT_CHARS_MAX], status=last.status, attempts=self.attempt)
        return Tried(self.step, kept, self.started, self.next_at)

    def begin(self) -> None:
        """Makes the next attempt; of a step declared once, when its start is durable."""
        self.next_at = 0
        if not self.attempt:
            self.started = self._effects.clock.now()
            self._show_inputs()
        if self._fn is None:
            self._give_up()
            self._effects.once.lost(self.resident, self, None)
        elif self.spec.once is None or self.begun is not None:
            self._try()
        else:
            self.beginning = True
            self._effects.once.begins(self.resident, self)

    def go(self) -> None:
        """Makes an attempt whose start is durable."""
        self.beginning = False
        if not self.gone:
            self._try()

    def _show_inputs(self) -> None:
        self.inputs = show_inputs(self.spec.args, self.spec.kwargs, self._effects.secrets)

    def cancel(self) -> None:
        """Stops the body; nothing it may still give counts."""
        if self.gone:
            return
        self.gone = True
        if self.info is not None:
            self.info.cancelled = True
        if self._timer is not None:
            self._timer.cancel()
        if self.future is not None:
            self.future.cancel()
        else:
            self._effects.forget(self)

    def _try(self) -> None:
        self.attempt += 1
        self.late = False
        self._timer = None
        spec = self.spec
        info = StepInfo(
            self.step, self.resident.id, self.attempt, self.resident.seed, self._effects.deps, self._emit,
            spec.reopened,
        )  # fmt: skip
        self.info = info
        context = spec.context.copy()
        context.run(info.bind)
        assert self._fn is not None  # for the type checker: `begin` has looked
        try:
            self.future = self._effects.call(self, self._fn, context)
        except Exception as error:  # noqa: BLE001  # the system has no thread for it: a failed attempt, like any other
            # But not a checker's word that nothing was done.
            self._failed(error if self.begun is not None else NotDone(f"it could not begin: {error}"))
            return
        self.future.add_done_callback(self._done)
        if spec.timeout is not None:
            self._timer = self._effects.loop.call_later(spec.timeout, self._expire)

    def _emit(self, attempt: int, text: bytes) -> None:
        self._effects.loop.call_soon_threadsafe(self._emitted, attempt, text)

    def _emitted(self, attempt: int, text: bytes) -> None:
        # A thread that was left behind may still tell something.
        if not self.gone and self.future is not None and attempt == self.attempt:
            self._effects.bus.chunk(self.resident.n, self.step, attempt, text)

    def _expire(self) -> None:
        self.late = True
        if self.info is not None:
            self.info.cancelled = True
        if self.future is not None:
            self.future.cancel()  # a thread cannot be stopped: it is left behind, and no longer waited for

    def _done(self, future: asyncio.Future[Any]) -> None:
        if self.future is not future:
            return
        if not self.gone and not future.cancelled() and future.exception() is None:
            value = future.result()
            if inspect.isawaitable(value):
                self._go_on(value)
                return
        self.future = self.info = None  # it holds this one: only the collector would part them
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.gone:
            self._effects.finished(self)
            if not future.cancelled():
                future.exception()  # nobody waits for it; asyncio would complain that it was never retrieved
            return
        if future.cancelled():
            self._failed(
                TimeoutError(f"attempt {self.attempt} took longer than {self.spec.timeout} s")
                if self.late
                else RuntimeError("the body cancelled itself (asyncio.CancelledError)")
            )
            return
        error = future.exception()
        if error is not None:
            self._failed(_exited(error) if isinstance(error, SystemExit | KeyboardInterrupt) else error)
            return
        try:
            text, decoded = self.spec.codec.encode_checked(future.result())
        except HoldfastError as problem:
            self._failed(problem)
            return
        self.gone = True
        self._effects.finished(self)
        self._effects.sink.completed(self.resident, self, text, decoded)

    def _go_on(self, value: Any) -> None:
        # A lambda or wrapper that gave back a coroutine: `ctx.run(lambda: client.get(url))`. Its timeout runs on.
        context = self.spec.context.copy()
        if self.info is not None:
            context.run(self.info.bind)
        self.future = self._effects.loop.create_task(_contained(lambda: value), context=context)
        self.future.add_done_callback(self._done)
        self._effects.leave_thread(self)

    def _failed(self, error: BaseException) -> None:
        failure = self.last_error = describe(error, self.attempt)
        effects = self._effects
        if self.spec.once is not None and self._is_over(error, failure):
            return
        now = effects.clock.now()
        verdict = judge(
            self.spec.retry or PATIENT,
            error,
            attempt=self.attempt,
            elapsed=(now - self.started) / 1000,
            chance=effects.entropy.bits(CHANCE_BITS) / (1 << CHANCE_BITS),
            now=datetime.fromtimestamp(now / 1000, UTC),
        )
        if verdict.action == "again" and effects.held:
            self._give_up()
            return
        if verdict.action == "again":
            where = (self.resident.id, self.step, self.attempt, failure.type, verdict.delay)
            log.warning("%s: step %s: attempt %d failed with %s, the next one is in %.1f s", *where)
            self.next_at = now + math.ceil(verdict.delay * 1000)
            effects.release(self)
            effects.sink.failed(self.resident, self, verdict.delay)
            effects.bus.recorded(self.resident.n)
            return
        self._give_up()
        if verdict.action == "pause":
            spent = f"failed {self.attempt} times and its retries are used up"
            why = "failed in a way no retry can mend" if isinstance(error, MENDLESS) else spent
            effects.sink.faulted(self.resident, self, failure, why)
        elif self.begun is not None and not isinstance(error, TerminalError):
            effects.once.lost(self.resident, self, failure)
        else:
            effects.sink.errored(self.resident, self, failure)

    def _is_over(self, error: BaseException, failure: Failure) -> bool:
        once, looks = self._effects.once, self.begun is not None
        if looks and isinstance(error, NotDone):
            end = once.may_begin
        elif isinstance(error, (NotDone, TerminalError)):
            once.not_done(self.resident, self, failure)
            return False
        elif looks:
            return False
        else:
            # It says nothing of what was done before it: a connection that broke may have carried the order.
            end = once.unknown
        self._give_up()
        end(self.resident, self, failure)
        return True

    def _give_up(self) -> None:
        self.gone = True
        self._effects.finished(self)


class Effects:
    """All bodies of an engine; at most `bodies_max` at once, `threads_max` of them in threads.

    The others wait, those for a thread in a line of their own. They have begun nothing and hold no place: no time of
    theirs runs, and however long the line for threads is, async bodies go on.
    """

    def __init__(
        self, sink: Sink, clock: Clock, entropy: Entropy, deps: Mapping[str, Any], *, bodies_max: int, threads_max: int,
        bus: Bus,
    ) -> None:  # fmt: skip
        self.sink = sink
        self.clock = clock
        self.entropy = entropy
        self.deps = deps
        self.secrets = secrets_of(deps)
        self.bus = bus
        self.once: OnceSink
        self.loop = asyncio.get_running_loop()
        self._bodies_max = bodies_max
        self._threads_max = threads_max
        self._threads = Threads(threads_max)
        self._bodies: dict[Body, None] = {}  # those that run, in order
        self._in_threads: dict[Body, Future[Any] | None] = {}  # those of them that have a thread; None: about to use it
        self._left: set[Future[Any]] = set()  # these run in threads, and nobody waits for them any more
        self._for_tasks = OrderedDict[Body, None]()  # who waits, in order
        self._for_threads = OrderedDict[Body, None]()
        self._lines = deque((self._for_tasks, self._for_threads))  # the one whose turn was last is the first
        self._waiting: dict[Body, asyncio.TimerHandle] = {}  # a moment, for their next attempt
        self._beginning = False
        self.held = False

    def start(self, body: Body) -> None:
        """Begins a body or its next attempt, or lets it wait for its turn."""
        self._waiting.pop(body, None)
        if body.gone or self.held:
            return
        line = self._for_threads if body.threaded else self._for_tasks
        if self._has_room(line):
            self._begin(body)
        else:
            line[body] = None

    def later(self, body: Body, seconds: float) -> None:
        """Begins a body's next attempt after a while."""
        self._waiting[body] = self.loop.call_later(seconds, self.start, body)

    def forget(self, body: Body) -> None:
        """A body that has not begun, or waits for its next attempt, is given up."""
        waiting = self._waiting.pop(body, None)
        if waiting is not None:
            waiting.cancel()
        for line in self._lines:
            line.pop(body, None)
        self._bodies.pop(body, None)
        self._in_threads.pop(body, None)
        self.bus.body_ended(body.resident.n, body.step)
        self.loop.call_soon(self._begin_next)  # not now: it may be in a handler's turn, and one may end as it begins

    def finished(self, body: Body) -> None:
        """A body has ended: the next one may begin."""
        self.bus.body_ended(body.resident.n, body.step)
        self.release(body)

    def release(self, body: Body) -> None:
        """A body does not run now, as it has ended or waits for its next attempt: another one may."""
        self._bodies.pop(body, None)
        if body.threaded:
            self.leave_thread(body)
        else:
            self._begin_next()

    def leave_thread(self, body: Body) -> None:
        """A body has no use for a thread any more. One that still runs in it is left behind, and another thread may
        take its place; as many may be left so as may run."""
        job = self._in_threads.pop(body, None)
        if job is not None and not job.done():
            self._left.add(job)
            job.add_done_callback(self._came_back)
            more = len(self._left) - self._threads_max
            if more > 0:
                log.error(
                    "%d sync bodies run that nobody waits for any more: for others there are %d threads fewer",
                    len(self._left), more,
                )  # fmt: skip
        self._begin_next()

    def call(self, body: Body, fn: Callable[..., Any], context: Context) -> asyncio.Future[Any]:
        """One attempt: a task for an async function, a thread for any other."""
        spec = body.spec
        if body.threaded:
            work = functools.partial(context.run, fn, *spec.args, **spec.kwargs)
            job = self._in_threads[body] = self._threads.submit(work)
            return asyncio.wrap_future(job, loop=self.loop)
        return self.loop.create_task(_contained(fn, *spec.args, **spec.kwargs), context=context)

    def _has_room(self, line: OrderedDict[Body, None]) -> bool:
        if len(self._bodies) >= self._bodies_max:
            return False
        busy, most = len(self._in_threads), self._threads_max
        return line is self._for_tasks or (busy < most and busy + len(self._left) < 2 * most)

    def _begin(self, body: Body) -> None:
        self._bodies[body] = None
        if body.threaded:
            self._in_threads[body] = None
        body.begin()

    def _begin_next(self) -> None:
        if self._beginning or not (self._for_tasks or self._for_threads):
            return  # the first: one failed as it began, the loop below goes on, and no stack grows with the line
        self._beginning = True
        try:
            while (body := self._next()) is not None:
                self._begin(body)
        finally:
            self._beginning = False

    def _next(self) -> Body | None:
        for _ in range(len(self._lines)):
            self._lines.rotate()
            line = self._lines[0]
            if line and self._has_room(line):
                return line.popitem(last=False)[0]
        return None

    def _came_back(self, job: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the thread was left behind for good
            self.loop.call_soon_threadsafe(self._has_come_back, job)

    def _has_come_back(self, job: Future[Any]) -> None:
        self._left.discard(job)
        self._begin_next()

    def hold(self) -> None:
        """Begins nothing any more, neither a queued body nor another attempt; what runs goes on."""
        self.held = True
        for line in self._lines:
            line.clear()
        for waiting in self._waiting.values():
            waiting.cancel()

    def cancel(self) -> None:
        """Stops every body; what they may still give does not count."""
        self.hold()
        for body in list(self._bodies):
            body.cancel()

    async def close(self) -> None:
        """Stops every body and waits a moment for their clean-up; a thread that is still busy is left behind."""
        self.cancel()
        tasks = [body.future for body in self._bodies if body.future is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CLEANUP_SECONDS)
        self._threads.close()


async def _contained(body: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    # Called in here: a task that is cancelled before its first turn would leave the body's coroutine behind, begun by
    # nobody, and Python would complain of it.
    try:
        return await body(*args, **kwargs)
    except (SystemExit, KeyboardInterrupt) as error:  # out of a task it would end the engine's whole event loop
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # a real one: the program is to end
        raise _exited(error) from error


def _exited(error: SystemExit | KeyboardInterrupt) -> HoldfastError:
    called = f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else "raised KeyboardInterrupt"
    return WrongPlace(
        f"a step's body {called}",
        cause="it was written as a program of its own, or a command-line library ends what it runs in",
        fix="return a value or raise an exception; a program is run with subprocess",
    )
