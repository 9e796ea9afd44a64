"""The bodies of an invocation's steps: asked for, tried again, recorded.

Promises: a body begins after the commit of its asking, and each of its results is recorded or given up. One that waits
long for its next attempt is no work in hand: its invocation can be parked, and its row says what was tried (G8, G9).
Refuses: to run them; that is for effects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.core import entries as records
from holdfast.core.commands import StepSpec
from holdfast.core.entries import Failure, Paused, StepBegun, Tried
from holdfast.engine.committer import Committer
from holdfast.engine.effects import Body, Effects
from holdfast.engine.ports import Clock
from holdfast.engine.resident import Resident
from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.engine.driver import Driver

REST_SECONDS = 1.0  # a wait for the next attempt that is shorter is not worth two changes of a row
RESTING_MAX = 1_000  # steps of an invocation that wait so; its row says of each what was tried


class Bodies:
    """Between a driver and its effects."""

    def __init__(self, driver: Driver, committer: Committer, clock: Clock) -> None:
        self._driver = driver
        self._committer = committer
        self._clock = clock
        self.effects: Effects

    def ask(self, resident: Resident, step: str, spec: StepSpec, begun: StepBegun | None = None) -> None:
        """The handler waits for a step that is not in the journal. `begun`: and it is to be looked what came of it."""
        body = Body(self.effects, resident, step, spec, begun)
        tried = resident.tries.pop(step, None)
        if tried is not None:
            body.recall(tried)
        if body.next_at > self._clock.now():
            resident.resting[step] = body
        else:
            self._begin(resident, body)

    def try_again(self, resident: Resident) -> None:
        """Begins the attempts whose time has come."""
        now = self._clock.now()
        for body in [body for body in resident.resting.values() if body.next_at <= now]:
            del resident.resting[body.step]
            self._begin(resident, body)

    def tries(self, resident: Resident) -> tuple[Tried, ...]:
        """What the row has to say of those that wait."""
        return tuple(body.tried() for body in resident.resting.values())

    def give_up(self, resident: Resident, step: str) -> None:
        """Nobody waits for a step any more."""
        body = resident.bodies.pop(step, None) or resident.resting.pop(step, None)
        if body is not None:
            body.cancel()

    def pause(self, resident: Resident) -> None:
        """Nothing new begins; what runs may finish."""
        for body in (*resident.bodies.values(), *resident.resting.values()):
            # One that nobody waits for any more was cancelled in the very run that failed: it must not be recorded.
            if body.retrying or not body.started or body.step not in resident.machine.waiting:
                self.give_up(resident, body.step)

    def sort_out(self, resident: Resident) -> None:
        """Those that nobody waits for any more are given up, so that they are not recorded."""
        for body in (*resident.bodies.values(), *resident.resting.values()):
            if body.step not in resident.machine.waiting:
                self.give_up(resident, body.step)

    def end(self, resident: Resident) -> None:
        """Nobody waits for any of them."""
        for step in (*resident.bodies, *resident.resting):
            self.give_up(resident, step)

    def completed(self, resident: Resident, body: Body, text: bytes, value: Any) -> None:
        """A body has returned."""
        if resident.bodies.pop(body.step, None) is not body:
            return
        driver = self._driver
        try:
            entry = records.StepCompleted(
                driver.now(resident), body.step, body.spec.digest, driver.pack(resident, text),
                driver.pack(resident, body.inputs), body.tries, body.since,
            )  # fmt: skip
        except HoldfastError as error:  # what was stored before cannot be read
            self.unpackable(resident, error)
            return
        driver.deliver(resident, entry, value)

    def errored(self, resident: Resident, body: Body, failure: Failure) -> None:
        """A body has failed for good."""
        if resident.bodies.pop(body.step, None) is not body:
            return
        driver = self._driver
        try:
            inputs = driver.pack(resident, body.inputs)
        except HoldfastError as error:
            self.unpackable(resident, error)
            return
        entry = records.StepErrored(driver.now(resident), body.step, body.spec.digest, failure, inputs, body.since)
        driver.deliver(resident, entry)

    def faulted(self, resident: Resident, body: Body, failure: Failure, why: str) -> None:
        """A body cannot go on until a person has looked."""
        if resident.bodies.pop(body.step, None) is body and not resident.pausing:
            who = "step" if body.begun is None else "the checker of step"
            reason = f"{who} {body.step!r} {why}: {failure.type}: {failure.message}\n{failure.details}".rstrip()
            self._driver.pause(resident, Paused("HF502", reason, self._clock.now()))
        else:
            self.let_go(resident)

    def failed(self, resident: Resident, body: Body, delay: float) -> None:
        """An attempt has failed, and there is to be another one."""
        if resident.bodies.get(body.step) is not body:
            return
        if resident.pausing:
            self.give_up(resident, body.step)
            self.let_go(resident)
        elif delay < REST_SECONDS or len(resident.resting) >= RESTING_MAX:
            self.effects.later(body, delay)
        else:
            resident.resting[body.step] = resident.bodies.pop(body.step)
            self._driver.write_status(resident)

    def _begin(self, resident: Resident, body: Body) -> None:
        resident.bodies[body.step] = body
        self._committer.after(self._start_body, resident, body)

    def _start_body(self, resident: Resident, body: Body) -> None:
        if not resident.pausing:
            self.effects.start(body)

    def unpackable(self, resident: Resident, error: HoldfastError) -> None:
        """What came of a body cannot be stored, for what was stored before cannot be read."""
        if not resident.pausing:
            self._driver.pause(resident, error)
        else:
            self.let_go(resident)

    def let_go(self, resident: Resident) -> None:
        """A body has ended and left nothing; one that is paused leaves memory with the last of them."""
        if resident.pausing and not resident.busy:
            self._driver.tell(resident)
