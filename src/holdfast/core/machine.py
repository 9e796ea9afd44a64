"""One invocation without any I/O: entries go in, commands come out.

Promises: the same entries in the same order always lead to the same commands in the same order (G3), live and on
replay, for this is the only way in. Refuses: a clock, chance, threads, the store; after a fault it does nothing more.

    machine.begin(...)            the handler runs to its first wait
    machine.replay(entries)       the recorded completions, one after another
    machine.receive(entry)        one more completion; record it in the same commit as what its commands cause
    machine.take_notes()          what the handler was told meanwhile; record it after the completion
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
    DEEDS,
    Attach,
    CallHandler,
    CallSpec,
    CancelCall,
    CancelStep,
    Command,
    Deed,
    EndCancelled,
    OpenPromise,
    Raise,
    Return,
    RunStep,
    SharePromise,
    StepSpec,
    WithdrawPromise,
)
from holdfast.core.drive import drive
from holdfast.core.entries import (
    NOTES,
    CallCompleted,
    CallErrored,
    CancelRequested,
    Completion,
    Emitted,
    Entry,
    Failure,
    Note,
    PromiseInfo,
    PromiseSettled,
    SignalArrived,
    StepCompleted,
    StepErrored,
    TimerFired,
    VersionMarked,
)
from holdfast.core.handles import TimerHandle
from holdfast.core.ids import spread
from holdfast.core.loop import CancelledError, HandlerLoop, untie
from holdfast.core.mailbox import Mailbox
from holdfast.core.patches import running
from holdfast.core.payload import INLINE
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
    call_error,
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
        self.read = read
        self._plan_thread = plan_thread
        self._commands: list[Command] = []
        self.replaying = True  # what happens now has happened before, and what it asked for was done
        self.promised = False  # a promise was asked for, now or long ago
        self.mailbox = Mailbox()
        self._noted: dict[str, Note] = {}  # by id, from the journal
        self._notes: list[Note] = []  # not in the journal yet
        self._versions: dict[str, int] = {}
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

    def recall(self, entries: Sequence[Entry]) -> None:
        """Learns the notes of a journal; to be called before `begin`."""
        self._noted = {entry.note: entry for entry in entries if isinstance(entry, NOTES)}

    def replay(self, entries: Sequence[Entry], obeyed: int | None = None) -> None:
        """Goes the recorded path. `obeyed`: of so many entries the deeds that followed were done and are not asked for
        again; all, if left out; -1: not even those of the handler's beginning. Raises Mismatch when the code leaves the
        path, Unreadable when a result does not decode."""
        if obeyed is None:
            obeyed = len(entries)
        try:
            for index, entry in enumerate(entries):
                if index == obeyed:
                    self.go_live()
                if isinstance(entry, NOTES):
                    continue
                if self.ended:
                    raise self._dead(mismatch.ended_early(entries, index, self._raised()))
                self._check_recorded(entries, index, entry)
                self._apply(entry, LIVE)
        except Unreadable:
            self._commands.clear()
            raise
        if obeyed >= len(entries):
            self.go_live()
        self.replaying = False

    def go_live(self) -> None:
        """Says that all the handler has asked for so far was done, but for what it waits for; what follows is new."""
        self._commands = [command for command in self._commands if not isinstance(command, DEEDS)]
        self.replaying = False

    def receive(self, entry: Completion, value: Any = LIVE) -> None:
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
        return [command for command in commands if (subject := _subject(command)) is None or subject in self.waiting]

    def take_notes(self) -> list[Note]:
        """What the handler was told since the last call and the journal does not have yet."""
        notes, self._notes = self._notes, []
        return notes

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
        promise = self._ask(name, codec, "promise")
        self._commands.append(OpenPromise(promise.local, info(promise.local)))
        return promise

    def share_promise(self, name: str, id: str, codec: Any, info: PromiseInfo) -> Step[Any]:
        """The handler waits for a promise of its workflow. Raises WrongPlace."""
        self.check_place()
        promise = self._ask(name, codec, "shared")
        promise.id = id
        self._commands.append(SharePromise(promise.local, id, info))
        return promise

    def ask_call(self, plan: Callable[[str], CallSpec], name: str, codec: Any) -> Step[Any]:
        """The handler calls another one; `plan` is given the step's id. Raises WrongPlace."""
        self.check_place()
        step = self._ask(name, codec, "call")
        try:
            step.spec = spec = plan(step.local)
        except BaseException:
            del self.waiting[step.local]
            raise
        step.id = spec.id
        self._commands.append(CallHandler(step.local, spec))
        return step

    def ask_attach(self, id: str, codec: Any) -> Step[Any]:
        """The handler waits for an invocation that is there already. Raises WrongPlace."""
        self.check_place()
        step = self._ask("attach", codec, "attach")
        step.id = id
        self._commands.append(Attach(step.local, id))
        return step

    def ask_signal(self, name: str, codec: Any) -> Step[Any]:
        """The handler wants the next signal of that name. Raises WrongPlace."""
        self.check_place()
        step = self._ask(f"signal {name}", codec, "signal")
        payload = self.mailbox.take(name, step)
        if payload is not None:
            self._hand_over(step, payload)
        return step

    def local_name(self, name: str) -> str:
        """An id for something the handler makes here and does not wait for. Raises WrongPlace."""
        self.check_place()
        return self.loop.branch().name(name)

    def do(self, deed: Deed) -> None:
        """The handler wants something done and does not wait for it. Raises WrongPlace."""
        self.check_place()
        self._commands.append(deed)

    def note(self, name: str, make: Callable[[str], Note]) -> Note:
        """What the journal has noted at this place, or what `make` says now. Raises WrongPlace."""
        local = self.local_name(name)
        noted = self._noted.get(local)
        if noted is None:
            noted = make(local)
            self._notes.append(noted)
        return noted

    def emit(self, text: bytes) -> None:
        """The handler tells its watchers something. Raises WrongPlace."""
        self.note("emit", lambda local: Emitted(self.at, local, INLINE + text))

    def version(self, name: str, latest: int) -> int:
        """Which version of a change this invocation follows: the latest, or 0 if it passed here before there was any.
        Raises WrongPlace."""
        self.check_place()
        if name not in self._versions:
            local = f"version {name}"
            noted = self._noted.get(local)
            if isinstance(noted, VersionMarked):
                self._versions[name] = noted.version
            elif self.replaying:
                self._versions[name] = 0
            else:
                self._versions[name] = latest
                self._notes.append(VersionMarked(self.at, local, latest))
        return self._versions[name]

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
        if self.waiting.pop(step.local, None) is None:
            return
        match step.kind:
            case "step":
                self._commands.append(CancelStep(step.local))
            case "promise":
                self._commands.append(WithdrawPromise(step.local))
            case "call":
                self._commands.append(CancelCall(step.local, step.id))
            case "signal":
                self.mailbox.leave(step)

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

    def _ask(self, name: str, codec: Any, kind: str = "step") -> Step[Any]:
        step: Step[Any] = Step(self.loop.branch().name(name), loop=self.loop)
        step.codec = codec
        step.kind = kind
        self.waiting[step.local] = step
        return step

    def _check_recorded(self, entries: Sequence[Entry], index: int, entry: Completion) -> None:
        if isinstance(entry, (CancelRequested, SignalArrived)):
            return
        id = mismatch.label(entry)
        if id not in (self.loop.timers if isinstance(entry, TimerFired) else self.waiting):
            raise self._dead(mismatch.not_asked(entries, index, self._waiting()))
        if isinstance(entry, TimerFired):
            return
        step = self.waiting[id]
        kind = _KINDS.get(step.kind, step.kind)
        if kind != mismatch.kind_of(entry):
            raise self._dead(mismatch.other_kind(entries, index, self._waiting(), kind))
        if not isinstance(entry, PromiseSettled) and step.spec is not None and step.spec.digest != entry.digest:
            raise self._dead(mismatch.other_arguments(entries, index, self._waiting()))

    def _waiting(self) -> list[str]:
        return [*self.loop.timers, *self.waiting]

    def _apply(self, entry: Completion, value: Any) -> None:
        self.at = entry.at
        self.loop.now = entry.at / 1000
        match entry:
            case StepCompleted():
                step = self.waiting.pop(entry.step)
                self.loop.deliver(step, step.codec.decode(self.read(entry.result)) if value is LIVE else value)
            case StepErrored():
                self.loop.deliver(self.waiting.pop(entry.step), error=_error(entry.step, entry.failure))
            case CallCompleted():
                step = self.waiting.pop(entry.call)
                self.loop.deliver(step, step.codec.decode(self.read(entry.result)) if value is LIVE else value)
            case CallErrored():
                error = call_error(entry.code, entry.child, entry.failure)
                self.loop.deliver(self.waiting.pop(entry.call), error=error)
            case SignalArrived():
                receiver = self.mailbox.post(entry.name, entry.value)
                if receiver is not None:
                    self._hand_over(receiver, entry.value)
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
            value = promise.read(self.read(entry.value), ok=entry.ok)
        if entry.ok:
            self.loop.deliver(promise, value)
        else:
            self.loop.deliver(promise, error=TerminalError(value, status=409))

    def _hand_over(self, step: Step[Any], payload: bytes) -> None:
        del self.waiting[step.local]
        try:
            self.loop.deliver(step, step.codec.decode(self.read(payload)))
        except Unreadable as error:  # of the sender's making: it ends this wait, and not the invocation
            self.loop.deliver(step, error=error)

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
        self._notes.clear()
        return fault


async def _raising(error: Exception) -> None:
    raise error


_KINDS = {"attach": "call", "shared": "promise"}  # what their entries complete


def _subject(command: Command) -> str | None:
    """What a command is of no use without: the wait it is for."""
    match command:
        case RunStep():
            return command.step
        case OpenPromise() | SharePromise():
            return command.promise
        case CallHandler() | Attach():
            return command.call
        case _:
            return None


def _deadline(timer: TimerHandle) -> int:
    # The product may round down: a handler that compares its clock with the deadline would then wait again, for ever.
    deadline = math.ceil(timer.when() * 1000)
    return deadline if deadline / 1000 >= timer.when() else deadline + 1


def _error(step: str, failure: Failure) -> Exception:
    if failure.status is not None:
        return TerminalError(failure.message, status=failure.status)
    return StepFailed(step, failure.type, failure.message, attempts=failure.attempts, details=failure.details)
