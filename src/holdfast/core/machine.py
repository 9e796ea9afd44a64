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
from holdfast.core.asks import Asks, Plan
from holdfast.core.commands import (
    DEEDS,
    Attach,
    CallHandler,
    CancelCall,
    CancelStep,
    Command,
    Deed,
    EndCancelled,
    FindOut,
    OpenPromise,
    Raise,
    Return,
    RunStep,
    SharePromise,
    StepSpec,
    WithdrawPromise,
    digest_of,
)
from holdfast.core.drive import drive
from holdfast.core.entries import (
    NOTES,
    STARTS,
    CallCompleted,
    CallErrored,
    CancelRequested,
    Completion,
    Entry,
    Failure,
    Note,
    PromiseSettled,
    Reopened,
    SignalArrived,
    StepCompleted,
    StepErrored,
    StepUnknown,
    TimerFired,
)
from holdfast.core.handles import TimerHandle
from holdfast.core.ids import idempotency_key, spread
from holdfast.core.loop import CancelledError, HandlerLoop, untie
from holdfast.core.state import StateView
from holdfast.core.tasks import Step, Task
from holdfast.errors import (
    HandlerFault,
    HandlerStuck,
    OutcomeUnknown,
    StepFailed,
    TerminalError,
    Unreadable,
    call_error,
)

OUTCOMES = (StepCompleted, StepErrored, StepUnknown)
COMMANDS_MIN = 64  # so many are worth looking through for those that nobody wants any more
LIVE = object()  # "no value given": decode the entry's own payload


class Machine(Asks):
    """The state of one invocation in memory."""

    def __init__(self, id: str, *, created: int, seed: int, read: Callable[[bytes], bytes], plan_thread: Plan) -> None:
        """`created` is in milliseconds, `seed` of the handler's random numbers, `read` turns a payload into JSON text,
        `plan_thread` makes the step of a function that asyncio.to_thread was given."""
        super().__init__(plan_thread)
        self.id = id
        self.seed = seed
        self.at = created  # of the last entry; the handler's time
        self.loop = HandlerLoop(self, now=created / 1000, base=spread(id))  # type: ignore[abstract]  # refusals are set on
        self.ended = False
        self.read = read
        self.replaying = True  # what happens now has happened before, and what it asked for was done
        self.state: StateView | None = None  # of an object's key
        self.context: Any = None  # what its handler holds
        self._root: Task[Any] | None = None
        self._closing = False
        self._earlier = 0  # of the commands, those of entries before the last
        self._forget_at = COMMANDS_MIN
        self._cancel_reason: str | None = None

    @functools.cached_property
    def random(self) -> Random:
        """The handler's random numbers: 2.5 KB and 10 us to make, so only when asked for."""
        return Random(f"{self.seed} {self.reopened}" if self.reopened else self.seed)  # noqa: S311  # for handlers, no secrets

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
        for entry in entries:
            if isinstance(entry, OUTCOMES):
                if self.unknown:
                    self.unknown.pop(entry.step, None)
            elif isinstance(entry, NOTES):
                self._noted[entry.note] = entry
                if isinstance(entry, STARTS):
                    self.learn(entry)
        self.promised = bool(self.begins)  # somebody may be asked what came of them

    def replay(self, entries: Sequence[Entry], obeyed: int | None = None) -> None:
        """Goes the recorded path. `obeyed`: of so many entries the deeds that followed were done and are not asked for
        again; all, if left out; -1: not even those of the handler's beginning. Raises Mismatch when the code leaves the
        path, Unreadable when a result does not decode."""
        if obeyed is None:
            obeyed = len(entries)
        try:
            with self.loop.hooked():
                self._take(entries, obeyed)
        except Unreadable:
            self._commands.clear()
            raise
        if obeyed >= len(entries):
            self.go_live()
        self.replaying = False

    def _take(self, entries: Sequence[Entry], obeyed: int) -> None:
        for index, entry in enumerate(entries):
            if index == obeyed:
                self.go_live(entry.deeds if isinstance(entry, Reopened) else None)
            if isinstance(entry, StepCompleted) and not self.ended and self.wants(entry):  # as nearly all are
                self._apply(entry, LIVE)
            elif isinstance(entry, Reopened):
                self._reopen()
            elif not isinstance(entry, NOTES) and self._follows(entries, index, entry):
                self._apply(entry, LIVE)

    def _follows(self, entries: Sequence[Entry], index: int, entry: Completion) -> bool:
        if self.ended:
            if isinstance(entry, (CancelRequested, SignalArrived)):
                return False  # what nobody asked for may come when the handler is over
            raise self._dead(mismatch.ended_early(entries, index, self._raised()))
        if self.wants(entry) or isinstance(entry, CancelRequested):
            return True
        raise self._mismatch(entries, index)

    def go_live(self, last: int | None = None) -> None:
        """Says that all the handler has asked for so far was done, but for what it waits for; what follows is new.
        `last`: of the deeds since the last entry only so many were done."""
        new = 0 if last is None else len(self._last_deeds()[last:])
        deeds = [command for command in self._commands if isinstance(command, DEEDS)]
        done = {id(deed) for deed in deeds[: len(deeds) - new]}
        if done:
            self._commands = [command for command in self._commands if id(command) not in done]
        self.replaying = False

    def last_deeds(self) -> bytes:
        """Digests of what the handler wants done since the last entry."""
        return _digests(self._last_deeds())

    def _last_deeds(self) -> list[Deed]:
        return [command for command in self._commands[self._earlier :] if isinstance(command, DEEDS)]

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
        commands, self._commands, self._earlier = self._wanted(), [], 0
        return commands

    def _wanted(self) -> list[Command]:
        return [one for one in self._commands if (subject := _subject(one)) is None or subject in self.waiting]

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
        self._root = self.context = None

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

    def _mismatch(self, entries: Sequence[Entry], index: int) -> HandlerFault:
        """Why the handler does not want an entry of the journal."""
        step = self.waiting.get(mismatch.label(entries[index]))
        if step is None:
            return self._dead(mismatch.not_asked(entries, index, self._waiting()))
        kind = _KINDS.get(step.kind, step.kind)
        if kind != mismatch.kind_of(entries[index]):
            return self._dead(mismatch.other_kind(entries, index, self._waiting(), kind))
        return self._dead(mismatch.other_arguments(entries, index, self._waiting()))

    def wants(self, entry: Completion) -> bool:
        """Whether the handler, as it stands now, waits for just this."""
        if isinstance(entry, OUTCOMES):  # as nearly all are, and a replay asks of each
            step = self.waiting.get(entry.step)
            return (
                step is not None and step.kind == "step" and step.spec is not None and step.spec.digest == entry.digest
            )
        if isinstance(entry, TimerFired):
            return entry.timer in self.loop.timers
        if isinstance(entry, (CancelRequested, SignalArrived)):
            return isinstance(entry, SignalArrived)
        step = self.waiting.get(mismatch.label(entry))
        if step is None or _KINDS.get(step.kind, step.kind) != mismatch.kind_of(entry):
            return False
        return isinstance(entry, PromiseSettled) or step.spec is None or step.spec.digest == entry.digest

    def _reopen(self) -> None:
        self.reopened += 1
        self.__dict__.pop("random", None)

    def _waiting(self) -> list[str]:
        return [*self.loop.timers, *self.waiting]

    def _apply(self, entry: Completion, value: Any) -> None:
        if len(self._commands) > self._forget_at:  # a replay asks for all that was ever done
            self._commands = self._wanted()
            self._forget_at = COMMANDS_MIN + 2 * len(self._commands)
        self._earlier = len(self._commands)
        self.at = max(self.at, entry.at)  # a signal may have come before it began
        self.loop.now = self.at / 1000
        match entry:
            case StepCompleted():
                step = self.waiting.pop(entry.step)
                self.loop.deliver(step, step.codec.decode(self.read(entry.result)) if value is LIVE else value)
            case StepErrored():
                self.loop.deliver(self.waiting.pop(entry.step), error=_error(entry.step, entry.failure))
            case StepUnknown():
                step = self.waiting.pop(entry.step)
                self.loop.deliver(step, error=self._lost(step, entry.failure))
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
                # A second one would break off the clean-up that the first began.
                if self._root is not None and self._cancel_reason is None:
                    self._cancel_reason = entry.reason
                    self.loop.cancel([self._root], entry.reason)
        self._run()

    def _lost(self, step: Step[Any], failure: Failure) -> OutcomeUnknown:
        assert isinstance(step.spec, StepSpec)  # for the type checker: its entry is that of a step
        key = idempotency_key(self.seed, self.id, step.local, step.spec.reopened)
        return OutcomeUnknown(step.local, failure.message, idempotency_key=key, details=failure.details)

    def _settle(self, entry: PromiseSettled, value: Any) -> None:
        promise = self.waiting.pop(entry.promise)
        if value is LIVE:
            value = promise.read(self.read(entry.value), ok=entry.ok)
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
        deeds = self._last_deeds()
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
        self._commands.append(self._end(deeds))

    def _raised(self) -> str:
        """How the handler ended, if it raised, for the mismatch report."""
        end = next((command for command in self._commands if isinstance(command, Raise)), None)
        return "" if end is None else f" with {type(end.error).__name__}: {end.error}"

    def _end(self, deeds: list[Deed]) -> Command:
        assert self._root is not None  # for the type checker: `_close` has looked
        try:
            return Return(self._root.result())
        except CancelledError as error:
            if self._cancel_reason is not None:
                return EndCancelled(self._cancel_reason)
            return Raise(error, _digests(deeds))
        except HandlerFault as fault:
            raise self._dead(fault) from None
        except BaseException as error:  # noqa: BLE001  # whatever the handler raised is its outcome
            return Raise(error, _digests(deeds))

    def _dead(self, fault: HandlerFault) -> HandlerFault:
        self.loop.fault = fault
        self._commands.clear()
        self._notes.clear()
        return fault


def _digests(deeds: list[Deed]) -> bytes:
    return b"".join(digest_of(deed) for deed in deeds)


async def _raising(error: Exception) -> None:
    raise error


_KINDS = {"attach": "call", "shared": "promise"}  # what their entries complete


def _subject(command: Command) -> str | None:
    """What a command is of no use without: the wait it is for."""
    match command:
        case RunStep() | FindOut():
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
