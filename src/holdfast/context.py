"""What handler code holds: every durable thing it can ask for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast, overload
from uuid import UUID

import msgspec

from holdfast.core.commands import CallSpec, CancelOther, SendCall, SendSignal
from holdfast.core.entries import PromiseInfo
from holdfast.core.ids import MADE, check_id, check_signal_name
from holdfast.core.loop import TIME_MAX
from holdfast.core.machine import Machine
from holdfast.core.patches import running
from holdfast.core.retry import Retry
from holdfast.core.tasks import Step
from holdfast.errors import BadArguments, BadTimer, HandlerMissing, UnknownHandler, WrongPlace
from holdfast.once import Policy
from holdfast.service import Handler, Registry, run_id
from holdfast.steps import find_dep, plan_step, secrets_of
from holdfast.values import MISSING, codec_for, digest, encode_value, schema_of, show_inputs

T = TypeVar("T")
AsyncHandler = Callable[..., Awaitable[T]]
GeneratorHandler = Callable[..., Generator[Any, Any, T]]


class Sent:
    """An invocation this handler has started or knows: its `id`."""

    __slots__ = ("id",)

    def __init__(self, id: str) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"Sent({self.id!r})"


class Context:
    """The handler's side of its invocation. Given to it as first argument; of use only while the handler runs."""

    def __init__(
        self, machine: Machine, deps: Mapping[str, Any], registry: Registry, headers: Mapping[str, str] | None = None
    ) -> None:
        self._machine = machine
        self._deps = deps
        self._registry = registry
        self.headers: Mapping[str, str] = MappingProxyType(
            dict(headers or {})
        )  # given at the start: trace context and the like

    @property
    def id(self) -> str:
        """The invocation's id."""
        return self._machine.id

    @property
    def replaying(self) -> bool:
        """Whether what happens now has happened before: for logs and traces, which should say it once. Never branch on
        it."""
        return self._machine.replaying

    @property
    def attempt(self) -> int:
        """Which attempt of the handler this is: 1, and one more behind each point where a person opened it again after
        it had failed (`retry`). The same on replay: before such a point it still says what it said there. A crash, a
        pause and the attempts of a step do not count."""
        return self._machine.reopened + 1

    @property
    def random(self) -> Random:
        """Random numbers that are the same on replay. Raises WrongPlace in a step body: its draws are not replayed."""
        self._machine.check_place()
        return self._machine.random

    @overload
    def run(
        self, fn: Callable[..., Awaitable[T]], /, *args: Any, name: str | None = None, key: str | None = None,
        retry: Retry | None = None, timeout: float | timedelta | None = None, returns: Any = MISSING,
        once: bool | Literal["raise"] | Callable[..., Awaitable[T]] | Callable[..., T] = False, **kwargs: Any,
    ) -> Step[T]: ...  # fmt: skip

    @overload
    def run(
        self, fn: Callable[..., T], /, *args: Any, name: str | None = None, key: str | None = None,
        retry: Retry | None = None, timeout: float | timedelta | None = None, returns: Any = MISSING,
        once: bool | Literal["raise"] | Callable[..., Awaitable[T]] | Callable[..., T] = False, **kwargs: Any,
    ) -> Step[T]: ...  # fmt: skip

    def run(
        self, fn: Callable[..., Any], /, *args: Any, name: str | None = None, key: str | None = None,
        retry: Retry | None = None, timeout: float | timedelta | None = None, returns: Any = MISSING,
        once: Policy = False, **kwargs: Any,
    ) -> Step[Any]:  # fmt: skip
        """Runs `fn(*args, **kwargs)` as a step: once its result is recorded it never runs again (G2).

        An async function runs on the engine's event loop, a sync one in a thread. The result is written by the
        function's return annotation, or by `returns`. It begins at once; await it, or give it to gather or a task.

        name: shown in the journal and part of the step's identity; the function's own name if left out.
        key: told apart on replay by this instead of the scalar arguments, when those differ from run to run.
        retry: what follows a failure; without it, patient for a day, then a pause.
        timeout: seconds an attempt may take; a late attempt counts as failed.
        returns: the result's type, for a function without a return annotation.
        once: for what must not be done twice. Its start is written before it begins, and it is not begun again before
            it is known that nothing came of it: after a crash in its middle, and after an attempt that raised anything
            but NotDone or TerminalError. True asks a person; a function, called as `fn` would be, looks and returns the
            result or raises NotDone; "raise" raises OutcomeUnknown. `retry` is for NotDone, and for the function.

        At the await: TerminalError if the body raised it, StepFailed when retries are used up, OutcomeUnknown.
        Raises WrongPlace outside the running handler, BadArguments for options that cannot be.
        """
        spec = plan_step(fn, args, kwargs, name=name, key=key, retry=retry, timeout=timeout, returns=returns, once=once)
        return self._machine.ask_step(spec)

    async def sleep(self, delay: float | timedelta) -> None:
        """Waits, also across restarts: asyncio.sleep with its argument checked.

        `delay` is in seconds. Raises BadTimer if it is negative, not a number or ends beyond year 9999.
        """
        await asyncio.sleep(self._seconds(delay))

    async def sleep_until(self, when: datetime) -> None:
        """Waits until a moment; one that has passed returns at once.

        `when` must know its time zone. Raises BadTimer if it does not.
        """
        if when.tzinfo is None:
            raise BadTimer(
                f"{when.isoformat()} has no time zone", fix="datetime(..., tzinfo=UTC), or .astimezone() for local time"
            )
        await asyncio.sleep(max(0.0, when.timestamp() - self._machine.loop.time()))

    def promise(self, name: str | None = None, *, type: Any = Any) -> Step[Any]:
        """A durable value that someone outside settles by its `.id`; await it for the value.

        `type` is the value's type hint. Rejected, it raises TerminalError (status 409) with the reason.
        """
        return self._promise(name or "promise", type, PromiseInfo("", schema=schema_of(type)))

    @overload
    def ask(
        self, question: str, type: type[T], *, about: Any = None, timeout: float | timedelta | None = None
    ) -> Step[T]: ...

    @overload
    def ask(
        self, question: str, type: Any = str, *, about: Any = None, timeout: float | timedelta | None = None
    ) -> Step[Any]: ...

    def ask(
        self, question: str, type: Any = str, *, about: Any = None, timeout: float | timedelta | None = None
    ) -> Step[Any]:
        """Asks a person, through the inbox; await it for the typed answer. The question is put at once.

        `about` is shown beside the question. At the await: TimeoutError after `timeout` seconds without an answer,
        TerminalError (status 409) if the question was rejected. Raises BadTimer as `sleep`.
        """
        loop = self._machine.loop
        when = None if timeout is None else loop.time() + self._seconds(timeout)
        deadline = None if when is None else math.ceil(when * 1000)
        _check_question(question)
        shown = msgspec.json.encode(msgspec.json.decode(show_inputs((about,), {}, secrets_of(self._deps)))[0]).decode()
        question_put = self._promise("ask", type, PromiseInfo("", question, schema_of(type), shown, deadline))
        return self._expiring(question_put, when)

    @overload
    def call(
        self, handler: AsyncHandler[T], /, *args: Any, key: str | None = None, id: str | None = None, **kwargs: Any
    ) -> Step[T]: ...

    @overload
    def call(
        self, handler: GeneratorHandler[T], /, *args: Any, key: str | None = None, id: str | None = None, **kwargs: Any
    ) -> Step[T]: ...

    @overload
    def call(
        self, handler: str, /, *args: Any, key: str | None = None, id: str | None = None, **kwargs: Any
    ) -> Step[Any]: ...

    def call(
        self, handler: Any, /, *args: Any, key: str | None = None, id: str | None = None, **kwargs: Any
    ) -> Step[Any]:
        """Calls another handler, exactly once (G4); await it for what it returns. It is an invocation of its own, begun
        at once or in its turn; cancelling the wait cancels it.

        handler: the function, or its stored name ("Service/handler"). `key` is that of an object or workflow. `id`
        names the invocation; one that is there already with the same input is attached to, and cancelling the wait does
        not touch it.

        At the await: TerminalError if it raised one, InvocationFailed, InvocationCancelled, IdConflict, WouldDeadlock
        when it would wait for this very handler. Raises BadArguments, WrongPlace; HandlerMissing, which pauses this
        invocation, when this process does not have the handler.
        """
        found, text, known = self._target(handler, args, kwargs, key, id)

        def plan(local: str) -> CallSpec:
            return CallSpec(
                found.name, found, text, key=key, digest=digest((found.target, key, *args), kwargs),
                id=known or self._machine.secret(MADE, local), headers=self.headers,
            )  # fmt: skip

        return self._machine.ask_call(plan, found.name, found.returns)

    def send(
        self, handler: Callable[..., Any] | str, /, *args: Any, key: str | None = None, id: str | None = None,
        delay: float | timedelta = 0.0, **kwargs: Any,
    ) -> Sent:  # fmt: skip
        """Starts another handler, exactly once (G4), and waits for nothing; it begins after `delay` (seconds).

        As `call` else. The other invocation goes on whatever happens to this one. Raises BadTimer as `sleep`.
        """
        found, text, known = self._target(handler, args, kwargs, key, id)
        seconds = self._seconds(delay)
        local = self._machine.local_name(found.name)
        sent = known or self._machine.secret(MADE, local)
        self._machine.do(
            SendCall(
                CallSpec(
                    found.name, found, text, key=key, digest=b"", id=sent, delay=seconds,
                    headers=self.headers,
                )
            )
        )  # fmt: skip
        return Sent(sent)

    def attach(self, invocation: Sent | str, type: Any = Any) -> Step[Any]:
        """Another invocation's result, whoever started it; await it. Cancelling the wait does not touch it.

        `type` is the result's type hint. At the await: as `call`, and UnknownInvocation.
        """
        return self._machine.ask_attach(_id_of(invocation), codec_for(type))

    def cancel(self, invocation: Sent | str, reason: str = "") -> None:
        """Asks another invocation to end; its clean-up runs. One that is not there or has ended is passed over."""
        given: object = reason
        if not isinstance(given, str):
            raise BadArguments(f"the reason of a cancel is {type(reason).__name__}", fix="give a text, or leave it out")
        self._machine.do(CancelOther(_id_of(invocation), reason or f"cancelled by {self.id}"))

    def signal(self, invocation: Sent | str, name: str, value: Any = None, type: Any = MISSING) -> None:
        """Sends a named message to another invocation, exactly once, written as `type` or as what it is. One that is
        not there or has ended gets none."""
        text = encode_value(value, type)
        self._machine.do(SendSignal(_id_of(invocation), check_signal_name(name), text))

    def receive(self, name: str, type: Any = Any, *, timeout: float | timedelta | None = None) -> Step[Any]:
        """The next message of that name; await it. What arrived before is kept, oldest first.

        `type` is the message's type hint; one that does not fit raises Unreadable at the await, as TimeoutError after
        `timeout` seconds without one. Raises BadTimer as `sleep`.
        """
        when = None if timeout is None else self._machine.loop.time() + self._seconds(timeout)
        return self._expiring(self._machine.ask_signal(check_signal_name(name), codec_for(type)), when)

    def emit(self, event: Any, type: Any = MISSING) -> None:
        """Tells the watchers of this invocation something: once, durably, in order with its steps. Written as `type` or
        as what it is."""
        self._machine.emit(encode_value(event, type))

    def version(self, change: str, latest: int = 1) -> int:
        """Which side of a deliberate change of the code this invocation is on: `latest` if it comes here now for the
        first time, 0 if it had passed here before the change was made. The same on every replay.

        `latest` counts up from 1 with each further change under the same name.
        """
        return self._machine.version(change, latest)

    def now(self) -> datetime:
        """The time, in UTC: when the last thing the handler waited for came. The same on replay."""
        return datetime.fromtimestamp(self._machine.loop.time(), UTC)

    def uuid(self) -> UUID:
        """A random UUID (version 4) that is the same on replay. Raises WrongPlace in a step body."""
        return UUID(bytes=self.random.randbytes(16), version=4)

    def dep(self, name: str) -> Any:
        """A dependency registered as Holdfast(deps={name: ...}); in step bodies use holdfast.step().dep(name).
        Raises UnknownDependency."""
        return find_dep(self._deps, name)

    def _seconds(self, delay: float | timedelta) -> float:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        if seconds >= 0 and self._machine.loop.time() + seconds <= TIME_MAX:
            return seconds
        raise BadTimer(
            f"cannot wait for {seconds} seconds",
            cause="a wait is 0 seconds or more and ends before year 10000",
            fix="check the argument; to wait for something that has no date, use ctx.promise",
        )

    def _expiring(self, step: Step[T], when: float | None) -> Step[T]:
        if when is not None and not step.done():
            timer = self._machine.loop.call_at(when, step.expire)
            step.add_done_callback(lambda _: timer.cancel())
        return step

    def _target(
        self, wanted: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any], key: str | None,
        id: str | None,
    ) -> tuple[Handler, bytes, str | None]:  # fmt: skip
        try:
            handler = self._registry.find(wanted)
        except UnknownHandler as error:
            # Not raised as it is: code that catches it would take another path than with the handler in its place.
            fix = "register it before the engine starts, then resume this invocation"
            raise self._machine.stop(HandlerMissing(error.what, cause=error.cause, fix=fix)) from None
        handler.check_key(key)
        if handler.main and handler.service is not None and key is not None:
            id = run_id(handler.service, key)
        return handler, handler.arguments.encode(args, kwargs), None if id is None else check_id(id)

    def _promise(self, name: str, type: Any, info: PromiseInfo) -> Step[Any]:
        return self._machine.ask_promise(name, codec_for(type), lambda local: msgspec.structs.replace(info, step=local))


def current() -> Context:
    """The context of the handler that is running, for code that was not handed it, such as an agent library's
    callbacks. Raises WrongPlace outside a handler, in a step's body too."""
    loop = running()
    machine = None if loop is None else loop.host
    if isinstance(machine, Machine):
        machine.check_place()
        return cast("Context", machine.context)
    raise WrongPlace(
        "holdfast.current() was called where no handler is running",
        cause="this is a step's body, or code that Holdfast does not run",
        fix="call it in handler code; a step's body has holdfast.step()",
    )


def _check_question(question: Any) -> None:
    if not isinstance(question, str) or not question.strip():
        raise BadArguments(
            f"{question!r:.60} is no question",
            fix="give a text for a person to read; what needs none is a promise: ctx.promise",
        )


def _id_of(invocation: Sent | str) -> str:
    return check_id(invocation if isinstance(invocation, str) else invocation.id)
