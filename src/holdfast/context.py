"""What handler code holds: every durable thing it can ask for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar, overload
from uuid import UUID

import msgspec

from holdfast.core.entries import PromiseInfo
from holdfast.core.ids import secret_name
from holdfast.core.loop import TIME_MAX
from holdfast.core.machine import Machine
from holdfast.core.retry import Retry
from holdfast.core.tasks import Step
from holdfast.errors import BadArguments, BadTimer
from holdfast.steps import find_dep, plan_step, secrets_of
from holdfast.values import MISSING, codec_for, schema_of, show_inputs

T = TypeVar("T")


class Context:
    """The handler's side of its invocation. Given to it as first argument; of use only while the handler runs."""

    def __init__(self, machine: Machine, deps: Mapping[str, Any]) -> None:
        self._machine = machine
        self._deps = deps

    @property
    def id(self) -> str:
        """The invocation's id."""
        return self._machine.id

    @property
    def random(self) -> Random:
        """Random numbers that are the same on replay. Raises WrongPlace in a step body: its draws are not replayed."""
        self._machine.check_place()
        return self._machine.random

    @overload
    def run(
        self, fn: Callable[..., Awaitable[T]], /, *args: Any, name: str | None = None, key: str | None = None,
        retry: Retry | None = None, timeout: float | timedelta | None = None, returns: Any = MISSING, **kwargs: Any,
    ) -> Step[T]: ...  # fmt: skip

    @overload
    def run(
        self, fn: Callable[..., T], /, *args: Any, name: str | None = None, key: str | None = None,
        retry: Retry | None = None, timeout: float | timedelta | None = None, returns: Any = MISSING, **kwargs: Any,
    ) -> Step[T]: ...  # fmt: skip

    def run(
        self, fn: Callable[..., Any], /, *args: Any, name: str | None = None, key: str | None = None,
        retry: Retry | None = None, timeout: float | timedelta | None = None, returns: Any = MISSING, **kwargs: Any,
    ) -> Step[Any]:  # fmt: skip
        """Runs `fn(*args, **kwargs)` as a step: once its result is recorded it never runs again (G2).

        An async function runs on the engine's event loop, a sync one in a thread. The result is written by the
        function's return annotation, or by `returns`. It begins at once; await it, or give it to gather or a task.

        name: shown in the journal and part of the step's identity; the function's own name if left out.
        key: told apart on replay by this instead of the scalar arguments, when those differ from run to run.
        retry: what follows a failure; without it, patient for a day, then a pause.
        timeout: seconds an attempt may take; a late attempt counts as failed.
        returns: the result's type, for a function without a return annotation.

        At the await: TerminalError if the body raised it, StepFailed when retries are used up.
        Raises WrongPlace outside the running handler, BadArguments for options that cannot be.
        """
        spec = plan_step(fn, args, kwargs, name=name, key=key, retry=retry, timeout=timeout, returns=returns)
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
        if when is not None:
            timer = loop.call_at(when, question_put.expire)
            question_put.add_done_callback(lambda _: timer.cancel())
        return question_put

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

    def _promise(self, name: str, type: Any, info: PromiseInfo) -> Step[Any]:
        promise = self._machine.ask_promise(
            name, codec_for(type), lambda local: msgspec.structs.replace(info, step=local)
        )
        promise.id = secret_name("prm_", self._machine.seed, self.id, promise.local)
        return promise


def _check_question(question: Any) -> None:
    if not isinstance(question, str) or not question.strip():
        raise BadArguments(
            f"{question!r:.60} is no question",
            fix="give a text for a person to read; what needs none is a promise: ctx.promise",
        )
