"""One invocation without any I/O: entries go in, commands come out.

Promises: the same entries in the same order always lead to the same commands in the same order (G3), live and on
replay, for this is the only way in. Refuses: a clock, chance, threads, the store; after a fault it does nothing more.

    machine.begin(...)            the handler runs to its first wait
    machine.replay(entries)       the recorded completions, one after another
    machine.receive(entry)        one more completion; record it in the same commit as what its commands cause
    machine.take_commands()       what to do once that commit is durable
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

from holdfast.core import mismatch
from holdfast.core.commands import (
    CancelStep,
    Command,
    EndCancelled,
    OpenPromise,
    Raise,
    Return,
    RunStep,
    StepSpec,
    WithdrawPromise,
)
from holdfast.core.drive import drive
from holdfast.core.entries import (
    CancelRequested,
    Entry,
    Failure,
    PromiseInfo,
    PromiseSettled,
    StepCompleted,
    StepErrored,
    TimerFired,
)
from holdfast.core.handles import TimerHandle
from holdfast.core.ids import spread
from holdfast.core.loop import CancelledError, HandlerLoop, untie
from holdfast.core.patches import running
from holdfast.core.refusals import refused
from holdfast.core.tasks import Step, Task
from holdfast.errors import (
    BadArguments,
    HandlerFault,
    HandlerStuck,
    StepFailed,
    TerminalError,
    Unreadable,
    ValueProblem,
    WrongPlace,
)

Plan = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], StepSpec]
LIVE = object()  # "no value given": decode the entry's own payload


class Machine:
    """The state of one invocation in memory."""

    def __init__(self, id: str, *, created: int, seed: int, read: Callable[[bytes], bytes], plan_thread: Plan) -> None:
        """`created` is in milliseconds, `seed` of the handler's random numbers, `read` turns a payload into JSON text,
        `plan_thread` makes the step of a function that asyncio.to_thread was given."""
        self.id = id
        self.seed = seed
        self.at = created  # of the last entry; the handler's time
        self.loop = HandlerLoop(self, now=created / 1000, base=spread(id))  # type: ignore[abstract]  # refusals are set on
        self.waiting: dict[str, Step[Any]] = {}  # asked for and not completed, oldest first
        self.ended = False
        self._read = read
        self._plan_thread = plan_thread
        self._commands: list[Command] = []
        self.replaying = True  # what happens now has happened before
        self.promised = False  # a promise was asked for, now or long ago
        self._root: Task[Any] | None = None
        self._closing = False
        self._cancel_reason: str | None = None

    @functools.cached_property
    def random(self) -> Random:
        """The handler's random numbers: 2.5 KB and 10 us to make, so only when asked for."""
        return Random(self.seed)  # noqa: S311  # for handlers, not for secrets

    def begin(self, handler: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Calls the handler and runs it to its first wait. Raises HandlerFault."""

        def call() -> Coroutine[Any, Any, Any]:
            try:
                made = handler(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # of a wrapper around the handler: its outcome too
                return _raising(error)
            return drive(made) if inspect.isgenerator(made) else made

        self._root = self.loop.start(call)
        self._run()

    def replay(self, entries: Sequence[Entry]) -> None:
        """Goes the recorded path. Raises Mismatch when the code leaves it, Unreadable when a result does not decode."""
        try:
            for index, entry in enumerate(entries):
                if self.ended:
                    raise self._dead(mismatch.ended_early(entries, index, self._raised()))
                self._check_recorded(entries, index)
                self._apply(entry, LIVE)
        except Unreadable:
            self._commands.clear()
            raise
        self.replaying = False

    def go_live(self) -> None:
        """Says that there is nothing to replay."""
        self.replaying = False

    def receive(self, entry: Entry, value: Any = LIVE) -> None:
        """Delivers one completion and runs the handler until it waits again.

        `value` is the decoded result where the caller has it already. Raises HandlerFault, or Unreadable when the
        entry's payload does not decode under its type.
        """
        if self.loop.fault is not None:
            raise self._dead(self.loop.fault)
        self._apply(entry, value)

    def take_commands(self) -> list[Command]:
        """What the handler has asked for since the last call and still wants."""
        commands, self._commands = self._commands, []
        return [c for c in commands if not isinstance(c, (RunStep, OpenPromise)) or _subject(c) in self.waiting]

    def due(self, now: int) -> TimerFired | None:
        """The entry of the next timer that is due at `now` (milliseconds); never early (G5)."""
        timer = self.loop.next_timer()
        if timer is None or _deadline(timer) > now:
            return None
        return TimerFired(at=max(now, self.at), timer=timer.id)

    def next_deadline(self) -> int | None:
        """When the next timer is due, in milliseconds."""
        timer = self.loop.next_timer()
        return None if timer is None else _deadline(timer)

    @property
    def cancelling(self) -> bool:
        """Whether a cancel was asked for."""
        return self._cancel_reason is not None

    def evict(self) -> None:
        """Drops the handler; the machine is of no use after it."""
        self.ended = True
        steps = list(self.waiting.values())
        self.waiting.clear()
        self.loop.evict()
        untie(steps)
        self._commands.clear()
        self._root = None

    def ask_step(self, spec: StepSpec) -> Step[Any]:
        """The handler wants a step run. Raises WrongPlace."""
        self.check_place()
        step = self._ask(spec.name, spec.codec)
        step.spec = spec
        self._commands.append(RunStep(step.local, spec))
        return step

    def ask_promise(self, name: str, codec: Any, info: Callable[[str], PromiseInfo]) -> Step[Any]:
        """The handler wants a promise; `info` says what it is about, given its id here. Raises WrongPlace, and
        BadArguments for a name that could be the id of another task's step."""
        self.check_place()
        if "/" in name or "#" in name:
            raise BadArguments(
                f"{name[:60]!r} cannot be the name of a promise",
                cause="'/' and '#' divide the parts of an id",
                fix="give another name",
            )
        self.promised = True
        promise = self._ask(name, codec)
        self._commands.append(OpenPromise(promise.local, info(promise.local)))
        return promise

    def ask_thread(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step[Any]:
        """asyncio.to_thread in the handler. One whose result cannot be kept is a library's own (openai asks for the
        platform that way): I/O in the handler, as what follows would be."""
        try:
            spec = self._plan_thread(fn, args, kwargs)
        except ValueProblem:
            name = getattr(fn, "__qualname__", type(fn).__name__)
            self.loop.fault = self.loop.fault or refused(f"asyncio.to_thread({name})", self.loop.where())
            raise self.loop.fault from None
        return self.ask_step(spec)

    def random_bytes(self, size: int) -> bytes:
        """For uuid4 in the handler."""
        return self.random.randbytes(size)

    def abandon(self, step: Step[Any]) -> None:
        """The handler cancelled a wait: its body is stopped, and what it may still give is not recorded."""
        if self.waiting.pop(step.local, None) is not None:
            self._commands.append(CancelStep(step.local) if step.spec else WithdrawPromise(step.local))

    def check_place(self) -> None:
        """Raises WrongPlace unless this invocation's handler is what is running."""
        here = running()
        if here is self.loop:
            if not self.ended:
                return
            self.loop.check_alive()
        if self.ended:
            what, fix = "its handler has ended", "keep the context inside the handler"
        elif here is not None:
            what, fix = "another invocation is running", "use the context that was given to that handler"
        else:
            what = "no handler is running: this is a step's body or other code"
            fix = "let the body return its value, and call ctx.run in the handler"
        raise WrongPlace(f"the context of invocation {self.id!r} was used while {what}", fix=fix)

    def _ask(self, name: str, codec: Any) -> Step[Any]:
        step: Step[Any] = Step(self.loop.branch().name(name), loop=self.loop)
        step.codec = codec
        self.waiting[step.local] = step
        return step

    def _check_recorded(self, entries: Sequence[Entry], index: int) -> None:
        entry = entries[index]
        if isinstance(entry, CancelRequested):
            return
        id = mismatch.label(entry)
        if id not in (self.loop.timers if isinstance(entry, TimerFired) else self.waiting):
            raise self._dead(mismatch.not_asked(entries, index, self._waiting()))
        if isinstance(entry, TimerFired):
            return
        spec = self.waiting[id].spec
        if (spec is None) is not isinstance(entry, PromiseSettled):
            raise self._dead(mismatch.other_kind(entries, index, self._waiting()))
        if isinstance(entry, (StepCompleted, StepErrored)) and spec is not None and spec.digest != entry.digest:
            raise self._dead(mismatch.other_arguments(entries, index, self._waiting()))

    def _waiting(self) -> list[str]:
        return [*self.loop.timers, *self.waiting]

    def _apply(self, entry: Entry, value: Any) -> None:
        self.at = entry.at
        self.loop.now = entry.at / 1000
        match entry:
            case StepCompleted():
                step = self.waiting.pop(entry.step)
                self.loop.deliver(step, step.codec.decode(self._read(entry.result)) if value is LIVE else value)
            case StepErrored():
                self.loop.deliver(self.waiting.pop(entry.step), error=_error(entry.step, entry.failure))
            case TimerFired():
                self.loop.fire(entry.timer)
            case PromiseSettled():
                self._settle(entry, value)
            case CancelRequested():
                self._cancel_reason = entry.reason
                if self._root is not None:
                    self.loop.cancel([self._root], entry.reason)
        self._run()

    def _settle(self, entry: PromiseSettled, value: Any) -> None:
        promise = self.waiting.pop(entry.promise)
        if value is LIVE:
            value = promise.read(self._read(entry.value), ok=entry.ok)
        if entry.ok:
            self.loop.deliver(promise, value)
        else:
            self.loop.deliver(promise, error=TerminalError(value, status=409))

    def _run(self) -> None:
        try:
            self.loop.run()
            if self._root is not None and self._root.done() and not self.ended and self.loop.fault is None:
                self._close()
        except HandlerStuck as fault:
            raise self._dead(fault)  # noqa: B904  # the same one
        if self.loop.fault is not None:
            raise self._dead(self.loop.fault)

    def _close(self) -> None:
        # As asyncio.run does: what the handler left behind is cancelled and may clean up durably before the end.
        if not self._closing:
            self._closing = True
            self.loop.cancel(self.loop.live_tasks(), "the handler has ended")
            self.loop.run()
        if not self.loop.live_tasks() and self.loop.close_generators():  # one that a task still reads cannot be closed
            self.loop.run()
        if self.loop.live_tasks():
            return
        for step in list(self.waiting.values()):
            self.abandon(step)
        self.ended = True
        self._commands.append(self._end())

    def _raised(self) -> str:
        """How the handler ended, if it raised, for the mismatch report."""
        end = next((command for command in self._commands if isinstance(command, Raise)), None)
        return "" if end is None else f" with {type(end.error).__name__}: {end.error}"

    def _end(self) -> Command:
        assert self._root is not None  # for the type checker: `_close` has looked
        try:
            return Return(self._root.result())
        except CancelledError as error:
            return Raise(error) if self._cancel_reason is None else EndCancelled(self._cancel_reason)
        except HandlerFault as fault:
            raise self._dead(fault) from None
        except BaseException as error:  # noqa: BLE001  # whatever the handler raised is its outcome
            return Raise(error)

    def _dead(self, fault: HandlerFault) -> HandlerFault:
        self.loop.fault = fault
        self._commands.clear()
        return fault


async def _raising(error: Exception) -> None:
    raise error


def _subject(command: RunStep | OpenPromise) -> str:
    return command.step if isinstance(command, RunStep) else command.promise


def _deadline(timer: TimerHandle) -> int:
    # The product may round down: a handler that compares its clock with the deadline would then wait again, for ever.
    deadline = math.ceil(timer.when() * 1000)
    return deadline if deadline / 1000 >= timer.when() else deadline + 1


def _error(step: str, failure: Failure) -> Exception:
    if failure.status is not None:
        return TerminalError(failure.message, status=failure.status)
    return StepFailed(step, failure.type, failure.message, attempts=failure.attempts, details=failure.details)
