"""Steps that are declared once: their starts in the journal, and what follows when nobody knows what came of one.

Promises: a body begins only after its start is durable, and not again before it is known that nothing came of it (G2).
Refuses: to guess. What an exception leaves open is found out by a checker or a person, or told to the handler.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.core.commands import OpenPromise, StepSpec
from holdfast.core.entries import (
    Completion,
    Failure,
    PromiseInfo,
    Start,
    StepBegun,
    StepCompleted,
    StepErrored,
    StepNotDone,
    StepUnknown,
)
from holdfast.core.ids import idempotency_key
from holdfast.core.loop import TIME_MAX
from holdfast.core.tasks import Step
from holdfast.engine.committer import Committer
from holdfast.engine.effects import Body
from holdfast.engine.resident import Resident
from holdfast.errors import HoldfastError
from holdfast.once import Verdict
from holdfast.values import show_inputs

if TYPE_CHECKING:
    from holdfast.engine.driver import Driver

log = logging.getLogger("holdfast")

SHOWN_BYTES_MAX = 10_000  # of a step's arguments, beside a question
BROKEN_OFF = "its process ended before a result was recorded"
GIVEN_UP = "somebody said that it has failed"
REJECTED = 409  # the status of a TerminalError that a person makes


class OnceSteps:
    """The driver's part for steps that are declared once."""

    def __init__(self, driver: Driver, committer: Committer) -> None:
        self._driver = driver
        self._committer = committer

    def begins(self, resident: Resident, body: Body) -> None:
        """A body has its turn: it begins when its start is durable."""
        attempt = resident.machine.begins.get(body.step, 0) + 1
        self._note(resident, StepBegun(self._driver.now(resident), body.step, body.spec.digest, attempt))
        self._committer.after(body.go)

    def not_done(self, resident: Resident, body: Body, failure: Failure) -> None:
        """An attempt has failed in a way that leaves nothing open."""
        self._not_done(resident, body.step, "body" if body.begun is None else "checker", _text(failure))

    def may_begin(self, resident: Resident, body: Body, failure: Failure) -> None:
        """The checker says that nothing was done: the body may begin again."""
        if resident.bodies.pop(body.step, None) is not body:
            return
        self._not_done(resident, body.step, "checker", _text(failure))
        self._again(resident, body.step, body.spec)

    def unknown(self, resident: Resident, body: Body, failure: Failure) -> None:
        """An attempt has failed, and nobody knows what came of it."""
        if resident.bodies.pop(body.step, None) is not body:
            return
        once = body.spec.once
        if once is not None and once.check is None and once.answers is None:
            self._lose(resident, body, failure, f"its body ended with {_text(failure)}")
        elif resident.pausing:
            self._driver.bodies.let_go(resident)  # the resume finds out
        else:
            self.find_out(resident, body.step, body.spec, f"its body ended with {_text(failure)}")
            self._driver.write_status(resident)

    def lost(self, resident: Resident, body: Body, failure: Failure | None) -> None:
        """Nobody can tell what came of a step."""
        if resident.bodies.pop(body.step, None) is body:
            why = BROKEN_OFF if failure is None else f"its checker ended with {_text(failure)}"
            self._lose(resident, body, failure, why)

    def find_out(self, resident: Resident, local: str, spec: StepSpec, why: str = BROKEN_OFF) -> None:
        """Asks by the step's policy what came of it as it was begun last."""
        begun = resident.machine.unknown[local]
        log.warning("%s: step %s was begun, and nobody knows what came of it", resident.id, local)
        if spec.once is None or spec.once.answers is None:
            self._driver.bodies.ask(resident, local, spec, begun)
        else:
            id = resident.machine.question(resident.machine.waiting[local])
            self._driver.open_promise(resident, OpenPromise(local, self._question(resident, begun, spec, why), id))

    def told(self, resident: Resident, step: Step[Any], verdict: Any, *, ok: bool) -> tuple[Completion, Any] | None:
        """What follows from a person's word on a step: its completion and value, or that it may begin again. `verdict`
        is the reason if the question was rejected."""
        if not ok:
            verdict = Verdict("failed", b"", None, verdict)
        spec, machine, driver = step.spec, resident.machine, self._driver
        assert isinstance(spec, StepSpec)  # for the type checker: nobody is asked about anything else
        begun = machine.unknown[step.local]
        now = driver.now(resident)
        inputs = driver.pack(resident, show_inputs(spec.args, spec.kwargs, driver.bodies.effects.secrets))
        if verdict.outcome == "done":
            result = driver.pack(resident, verdict.text)
            entry = StepCompleted(now, step.local, spec.digest, result, inputs, begun.attempt, begun.at)
            return entry, verdict.value
        self._not_done(resident, step.local, "person", verdict.reason)
        if verdict.outcome == "not done":
            return None
        failure = Failure("TerminalError", verdict.reason or GIVEN_UP, status=REJECTED, attempts=begun.attempt)
        return StepErrored(now, step.local, spec.digest, failure, inputs, begun.at), None

    def again(self, resident: Resident, step: Step[Any]) -> None:
        """A person says that nothing was done: the body may begin again."""
        assert isinstance(step.spec, StepSpec)  # for the type checker: nobody is asked about anything else
        self._again(resident, step.local, step.spec)

    def _again(self, resident: Resident, local: str, spec: StepSpec) -> None:
        if resident.pausing:
            self._driver.bodies.let_go(resident)  # it begins at the resume
        else:
            self._driver.bodies.ask(resident, local, spec)
            self._driver.write_status(resident)

    def _lose(self, resident: Resident, body: Body, failure: Failure | None, why: str) -> None:
        begun = resident.machine.unknown[body.step]
        told = Failure("OutcomeUnknown", why, "" if failure is None else failure.details, attempts=begun.attempt)
        driver = self._driver
        try:
            inputs = driver.pack(resident, body.inputs)
        except HoldfastError as error:
            driver.bodies.unpackable(resident, error)
            return
        driver.deliver(resident, StepUnknown(driver.now(resident), body.step, body.spec.digest, told, inputs, begun.at))

    def _not_done(self, resident: Resident, local: str, by: str, why: str) -> None:
        self._note(resident, StepNotDone(self._driver.now(resident), local, by, why))

    def _note(self, resident: Resident, start: Start) -> None:
        obeyed = resident.obeyed == resident.length  # the handler asks for nothing because of it
        self._driver.append(resident, start)
        if obeyed:
            resident.obeyed = resident.length
        resident.machine.learn(start)

    def _question(self, resident: Resident, begun: StepBegun, spec: StepSpec, why: str) -> PromiseInfo:
        assert spec.once is not None  # for the type checker: nobody is asked about anything else
        at = min(max(begun.at / 1000, 0), TIME_MAX)  # damaged, it may be none
        when = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        first = why.partition("\n")[0]
        inputs = show_inputs(spec.args, spec.kwargs, self._driver.bodies.effects.secrets)
        about = {
            "step": begun.note,
            "invocation": resident.id,
            "arguments": msgspec.Raw(inputs) if len(inputs) <= SHOWN_BYTES_MAX else None,
            "idempotency_key": idempotency_key(resident.seed, resident.id, begun.note, spec.reopened),
            "begun": when,
            "unknown": why,
        }
        return PromiseInfo(
            begun.note,
            f"What came of step {begun.note!r} of {resident.id!r}? It was begun at {when}, and {first}",
            spec.once.answers.schema(),
            msgspec.json.encode(about).decode(),
            begun=begun.attempt,
        )


def _text(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}" if failure.message else failure.type
