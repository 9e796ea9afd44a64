"""The event loop a handler runs on: deterministic, without I/O, stepped from outside.

Promises: what runs, and in which order, depends only on the handler and on the completions delivered to it; `run`
goes on until nothing can go on. Refuses: sockets, subprocesses, signals and wake-ups from anywhere else, at once and
by name, so that nothing can slip past the journal.

Only this file and its neighbours tasks.py and patches.py touch asyncio. Step it from callbacks of the main loop, not
from inside one of its tasks: from Python 3.14 on there is one current task per thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import logging
import sys
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextvars import Context, copy_context
from types import FrameType, MethodType
from typing import Any, TypeVar

from holdfast.core.drive import drive
from holdfast.core.handles import Handle, TimerHandle
from holdfast.core.host import Evicted, Host, Nobody, closed
from holdfast.core.refusals import refuse_io
from holdfast.core.tasks import Branch, Future, Task
from holdfast.errors import BadTimer, ForeignWake, HandlerFault, HandlerStuck

T = TypeVar("T")

CALLBACKS_MAX = 100_000  # in one run; a handler that needs more never waits for anything: 0.1 s of spinning
CANCEL_RETRIES_MAX = 32  # by anyio for one scope in one run; more only spins while a task swallows its cancels
TIME_MAX = 253_402_300_799.0  # the last second of year 9999, where datetime ends

LIBRARY = asyncio.__file__.rpartition("asyncio")[0]  # the folder of the standard library
FRAMES = ("cr_frame", "gi_frame", "ag_frame")
AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")

CancelledError = asyncio.CancelledError
log = logging.getLogger("holdfast")

_get_running_loop = asyncio._get_running_loop
_set_running_loop = asyncio._set_running_loop


class HandlerLoop(asyncio.AbstractEventLoop):
    """One invocation's loop."""

    def __init__(self, host: Host, *, now: float, base: int) -> None:
        self.host = host
        self.now = now  # seconds since 1970, of the last delivered completion
        self.timers: dict[str, TimerHandle] = {}
        self.fault: HandlerFault | None = None
        self._heap: list[tuple[float, int, TimerHandle]] = []
        self._order = 0
        self._ready: deque[Handle] = deque()
        self._deferred: list[Handle] | None = None
        self._base = base
        self._hashes = 0
        self._root = Branch("")
        self._stray = Branch("~/")  # asked for by a bare callback, which belongs to no task
        self._tasks: list[Task[Any]] = []
        self._sweep_at = 64
        self._generators: dict[int, tuple[weakref.ref[Any], Context]] | None = None
        self._cancel_retries: dict[Any, int] | None = None
        self._running = False
        self._dead = False
        self._hooked = False

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        """Puts the hooks for async generators in place once, for many runs: each time costs four audit events."""
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._generator_begun, self._generator_dropped)
        self._hooked = True  # but no running loop: between runs results are read, by code that is not the handler's
        try:
            yield
        finally:
            self._hooked = False
            sys.set_asyncgen_hooks(*hooks)

    def run(self) -> None:
        """Runs until nothing is ready. Raises HandlerStuck after CALLBACKS_MAX callbacks."""
        self.check_alive()
        ready = self._ready
        if self._cancel_retries is not None:
            ready.extend(self._deferred or ())
            self._deferred = self._cancel_retries = None
        left = CALLBACKS_MAX
        handle: Handle | None = None
        prior, hooks = _get_running_loop(), sys.get_asyncgen_hooks()
        _set_running_loop(self)
        if not self._hooked:
            sys.set_asyncgen_hooks(self._generator_begun, self._generator_dropped)
        self._running = True
        try:
            while ready:
                handle = ready.popleft()
                if handle._cancelled or (type(handle.callback) is MethodType and self._defer(handle, handle.callback)):
                    continue
                try:
                    handle.context.run(handle.callback, *handle.args)
                except KeyboardInterrupt:  # but not SystemExit: sys.exit() in a handler ends that one invocation
                    raise
                except BaseException as error:  # noqa: BLE001  # as asyncio: reported, and the others go on
                    self._callback_failed(handle.callback, error)
                left -= 1
                if not left:
                    raise self._stuck()
        finally:
            handle = None  # an exception's traceback holds this frame, and through it its own task
            self._running = False
            if not self._hooked:
                sys.set_asyncgen_hooks(*hooks)
            _set_running_loop(prior)

    def start(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> Task[T]:
        """Makes the handler's own task; `run` begins it. Its context variables are empty: whoever starts or wakes an
        invocation has other ones each time."""
        with _Stepping(self):
            return self.create_task(begin(), context=Context())

    def deliver(self, future: asyncio.Future[Any], value: Any = None, error: BaseException | None = None) -> None:
        """Resolves a future from outside; `run` then lets the handler see it."""
        if future.done():
            return
        prior, self._running = self._running, True  # its callbacks may be scheduled; nothing runs yet
        try:
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        finally:
            self._running = prior

    def cancel(self, tasks: Iterable[asyncio.Task[Any]], reason: str) -> None:
        """Cancels tasks from outside."""
        with _Stepping(self):
            for task in tasks:
                task.cancel(reason)

    def next_timer(self) -> TimerHandle | None:
        """The timer that is due first, in order of (deadline, making)."""
        while self._heap:
            timer = self._heap[0][2]
            if timer.id in self.timers:
                return timer
            heapq.heappop(self._heap)
        return None

    def fire(self, id: str) -> bool:
        """Makes a timer's callback ready. False if there is no such timer."""
        timer = self.timers.pop(id, None)
        if timer is None:
            return False
        self._ready.append(timer)
        return True

    def live_tasks(self) -> list[Task[Any]]:
        """Tasks not done yet, oldest first."""
        self._tasks = [task for task in self._tasks if not task.done()]
        return list(self._tasks)

    def close_generators(self) -> bool:
        """Begins to close the async generators the handler left open, oldest first. False if there are none."""
        left_open = self._live_generators()
        if left_open:
            with _Stepping(self):
                for generator, context in left_open:
                    self._close_generator(generator, context)
        return bool(left_open)

    def branch(self) -> Branch:
        """The branch of the code that is running now."""
        task = asyncio.current_task(self)
        return task.branch if isinstance(task, Task) else self._stray

    def next_hash(self) -> int:
        """The hash of the next future or task that needs one."""
        self._hashes += 1
        return self._base + self._hashes

    def is_dead(self) -> bool:
        """Whether the loop was evicted."""
        return self._dead

    def evict(self) -> None:
        """Drops everything. Each coroutine, newest first, is thrown a private exception in its own context, so that
        its `finally` blocks run here and now and can neither start anything nor land on the main loop.

        `throw` and not `close`: before 3.13 `close` does not reach into async generators.
        """
        self._dead = True
        tasks = self.live_tasks()
        if tasks or self._ready or self._deferred or self._generators or self._heap:
            with _Stepping(self, dead=True):
                self._throw_out(tasks)
        self.host, self.fault = Nobody(), None

    def time(self) -> float:
        """The time of the last completion delivered: the same on replay."""
        return self.now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        """Runs the callback in this run."""
        if not self._running:
            raise self._foreign(callback)
        handle = Handle(callback, args, context if context is not None else copy_context())
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        """Allowed from the handler itself only; another thread has no place in a journal."""
        if _get_running_loop() is not self:
            raise self._foreign(callback)
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """A durable timer, in seconds from the last delivered time."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """A durable timer, in seconds since 1970. Raises BadTimer when it is not a number or beyond year 9999."""
        self.check_alive()
        if not -TIME_MAX <= when <= TIME_MAX:  # so also when it is not a number
            raise BadTimer(
                f"a timer in {when - self.now} seconds cannot be set",
                cause="the delay is not a number, or it ends beyond year 9999",
                fix="wait on a promise (ctx.promise) for what has no date",
            )
        timer = TimerHandle(
            self.branch().name("timer"), when, callback, args,
            context if context is not None else copy_context(), self,
        )  # fmt: skip
        self._order += 1
        self.timers[timer.id] = timer
        heapq.heappush(self._heap, (when, self._order, timer))
        if len(self._heap) > 2 * len(self.timers) + 64:  # a timeout that was not needed must not stay for its hour
            self._heap = [entry for entry in self._heap if entry[2].id in self.timers]
            heapq.heapify(self._heap)
        return timer

    def create_future(self) -> Future[Any]:
        """A future of this loop."""
        self.check_alive()
        return Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> Task[T]:
        """A task of this loop; its branch is the next child of the one that makes it. Never started eagerly: an eager
        start runs code in its maker's place, and asyncio's own has bugs before 3.14."""
        if self._dead:
            coro.close()
            self.check_alive()
        branch = self.branch().child() if self._tasks else self._root
        task = self._adopt(coro, name or branch.path or "handler", context, branch)
        if len(self._tasks) > self._sweep_at:
            self._sweep_at = max(64, 2 * len(self.live_tasks()))
        return task

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., Any], *args: Any
    ) -> Future[Any]:
        """asyncio.to_thread and friends: a step that runs in a thread, its result recorded."""
        if isinstance(func, functools.partial) and isinstance(getattr(func.func, "__self__", None), Context):
            # to_thread wraps the function as context.run(function, ...): unwrap it, the step has its own context
            inner, *rest = func.args
            return self.host.ask_thread(inner, (*rest, *args), dict(func.keywords))
        return self.host.ask_thread(func, args, {})

    def is_running(self) -> bool:
        """True while the handler is being run."""
        return self._running

    def is_closed(self) -> bool:
        """True after eviction."""
        return self._dead

    def get_debug(self) -> bool:
        """Never: debug mode keeps wall-clock times."""
        return False

    def get_task_factory(self) -> None:
        """There is none."""
        return

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """asyncio reports what nobody awaits. A lost fault must not stay silent; the rest is the handler's affair and
        goes to the log as asyncio would write it, the first time it happens."""
        error = context.get("exception")
        if isinstance(error, HandlerFault):
            self.fault = self.fault or error
        elif not self._dead and not self.host.replaying and not isinstance(error, Evicted):
            log.error("%s", context.get("message", "unhandled error"), exc_info=error)

    default_exception_handler = call_exception_handler

    def check_alive(self) -> None:
        """Raises in a loop that was dropped."""
        if self._dead:
            raise self._gone()

    def _gone(self) -> BaseException:
        # Only code that is being evicted may meet the private error; what kept the loop and comes later gets asyncio's.
        return Evicted() if _get_running_loop() is self else closed()

    def _live_generators(self) -> list[tuple[Any, Context]]:
        found = [(ref(), context) for ref, context in (self._generators or {}).values()]
        return [(one, context) for one, context in found if one is not None and one.ag_frame is not None]

    def _adopt(
        self, coro: Coroutine[Any, Any, T], name: str, context: Context | None, branch: Branch
    ) -> Task[T]:  # fmt: skip
        if context is None:
            context = copy_context()
        task = Task(coro, loop=self, name=name, context=context)
        task.context = context
        task.branch = branch
        self._tasks.append(task)
        return task

    def _throw_out(self, tasks: list[Task[Any]]) -> None:
        for task in reversed(tasks):
            _throw(self, task)
        for generator, context in reversed(self._live_generators()):
            _throw_generator(generator, context)
        untie(tasks)
        for handle in (*self._ready, *(self._deferred or ()), *self.timers.values()):
            handle.cancel()
        self._tasks.clear()
        self._ready.clear()
        self._deferred = self._generators = self._cancel_retries = None
        self._heap.clear()
        self.timers.clear()

    def _defer(self, handle: Handle, callback: MethodType) -> bool:
        # anyio cancels a scope again on every turn until its tasks have ended. A task that swallows its cancels
        # (openai-agents has one) would keep this run going for ever: from the 33rd time on, it waits for the next run.
        if callback.__name__ != "_deliver_cancellation":
            return False
        retries = self._cancel_retries = self._cancel_retries or {}
        scope = callback.__self__  # kept, and not its id: the next scope may be made at the same address
        retries[scope] = retries.get(scope, 0) + 1
        if retries[scope] <= CANCEL_RETRIES_MAX:
            return False
        self._deferred = [*(self._deferred or ()), handle]
        return True

    def _callback_failed(self, callback: Callable[..., Any], error: BaseException) -> None:
        if isinstance(error, Evicted):
            return
        self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": error})

    def _stuck(self) -> HandlerStuck:
        self.fault = HandlerStuck(
            f"the handler went round {CALLBACKS_MAX} times without waiting for anything, {self.where()}",
            cause="a loop around asyncio.sleep(0), or a wait for something that only this loop could change",
            fix="wait for an event, a step or a timer instead",
        )
        return self.fault

    def where(self) -> str:
        """File, line and function the handler stands in, for people: of what runs now, else of what could go on, else
        of the oldest task."""
        running = asyncio.current_task(self)
        tasks: list[Any] = [task for task in self._tasks if not task.done()]
        tasks.sort(key=lambda task: (task is not running, task._fut_waiter is not None))
        frames = [frame for task in tasks if (frame := _standing(task)) is not None]
        # A client's own helper tasks (anyio's connection races) have no line of the user's: the next task has.
        frames.sort(key=lambda frame: _is_library(frame.f_code.co_filename))
        if not frames:
            return "in no live task"
        return f"at {frames[0].f_code.co_filename}:{frames[0].f_lineno} in {frames[0].f_code.co_qualname}"

    def _foreign(self, callback: Callable[..., Any]) -> BaseException:
        if self._dead:
            return self._gone()
        fault = ForeignWake(
            f"{callback!r} tried to wake a handler from outside its journal",
            cause="a lock, event, queue or client is shared between invocations or with other code",
            fix="use it inside a step (ctx.run), or wait on a promise (ctx.promise)",
        )
        # An SDK may swallow what is raised; what is noted it cannot. Both sides: the woken one has lost its wake-up.
        self.fault = self.fault or fault
        other = _get_running_loop()
        if isinstance(other, HandlerLoop):
            other.fault = other.fault or fault
        return fault

    def _generator_begun(self, generator: AsyncGenerator[Any, Any]) -> None:
        table = self._generators = self._generators or {}
        key = self.next_hash()
        task = asyncio.current_task(self)
        context = task.context if isinstance(task, Task) else copy_context()
        table[key] = weakref.ref(generator, lambda _: table.pop(key, None)), context

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._dead:
            return
        # The collector may call this at any moment: its branch must not shift the counts of the others.
        context = copy_context()
        self._ready.append(Handle(self._close_generator, (generator, context), context))

    def _close_generator(self, generator: AsyncGenerator[Any, Any], context: Context) -> None:
        self._adopt(generator.aclose(), "aclose", context, self._stray.child())


class _Stepping:
    """Makes a loop the thread's running one, with its own hooks for async generators, and puts all back after."""

    __slots__ = ("_dead", "_hooks", "_loop", "_prior", "_was")

    def __init__(self, loop: HandlerLoop, *, dead: bool = False) -> None:
        self._loop = loop
        self._dead = dead

    def __enter__(self) -> None:
        loop = self._loop
        if loop.is_dead() and not self._dead:
            raise Evicted
        self._was = loop._running
        self._prior = _get_running_loop()
        self._hooks = sys.get_asyncgen_hooks()
        loop._running = True
        _set_running_loop(loop)
        sys.set_asyncgen_hooks(loop._generator_begun, loop._generator_dropped)

    def __exit__(self, *_: object) -> None:
        sys.set_asyncgen_hooks(*self._hooks)
        _set_running_loop(self._prior)
        self._loop._running = self._was


def _standing(task: Task[Any]) -> FrameType | None:
    # The innermost frame that is not a library's: people want their line that calls sleep, not one in asyncio.
    waiter: Any = task.get_coro()
    found: FrameType | None = None
    while waiter is not None:
        frame = next((f for name in FRAMES if (f := getattr(waiter, name, None)) is not None), None)
        if frame is not None and frame.f_code is drive.__code__:
            frame = frame.f_locals["generator"].gi_frame or frame
        if frame is not None and (found is None or not _is_library(frame.f_code.co_filename)):
            found = frame
        waiter = next((w for name in AWAITED if (w := getattr(waiter, name, None)) is not None), None)
    return found


def _is_library(file: str) -> bool:
    return file.startswith(LIBRARY) or "site-packages" in file


def untie(futures: Iterable[Any]) -> None:
    """Takes futures apart that will never be done: a task, what it waits for and who waits for it hold each other, and
    would stay until the collector comes by; anyio's book of tasks would hold them for ever."""
    states = getattr(sys.modules.get("anyio._backends._asyncio"), "_task_states", {})
    for future in futures:
        states.pop(future, None)
        waited: list[Any] = [future, getattr(future, "_fut_waiter", None)]
        for one in waited:
            for callback, _ in list(getattr(one, "_callbacks", None) or ()):
                one.remove_done_callback(callback)


def _throw(loop: HandlerLoop, task: Task[Any]) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coro: Any = task.get_coro()
    context = task.context
    asyncio.tasks._enter_task(loop, task)
    try:
        _until_it_ends(context, coro.throw)
    finally:
        asyncio.tasks._leave_task(loop, task)


def _throw_generator(generator: AsyncGenerator[Any, Any], context: Context) -> None:
    _until_it_ends(context, generator.athrow(Evicted()).throw)


def _until_it_ends(context: Context, throw: Callable[[BaseException], Any]) -> None:
    ended: BaseException | None = None
    try:
        for _ in range(CANCEL_RETRIES_MAX):  # code that catches BaseException and waits again gets it again
            context.run(throw, Evicted())
    except BaseException as error:  # noqa: BLE001  # whatever it raises, it has ended, which is all that is wanted
        ended = error
    while ended is not None:  # tracebacks hold frames, and those all there was
        ended.__traceback__, following = None, ended.__context__
        ended.__context__, ended = None, following


refuse_io(HandlerLoop)  # type: ignore[type-abstract]  # these are its missing methods
