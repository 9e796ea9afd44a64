"""Steps that are declared once, with the engine broken on purpose: the worlds must notice, as in test_mutants.py."""

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.core import entries as records
from holdfast.core.commands import CancelStep
from holdfast.core.machine import Machine
from holdfast.engine.driver import Driver
from holdfast.engine.effects import Body
from holdfast.engine.once import OnceSteps
from holdfast.errors import NotDone
from tests.sim.mutants import SEEDS_MAX, Mutate, Patch, first_breach, mutant

MUTANTS: list[Any] = []


def caught_by(*promises: str, **weather: Any) -> Callable[[Mutate], Mutate]:
    return mutant(MUTANTS, promises, {"shapes": ("purchase", "bazaar", "deposit"), **weather})


@caught_by("g2_a_body_begins_once_for_each_start")
def a_start_is_not_recorded(patch: Patch) -> None:
    patch.setattr(OnceSteps, "begins", lambda self, resident, body: self._committer.after(body.go))


@caught_by("g2_nothing_is_paid_twice")
def a_start_is_not_recorded_and_only_the_bank_looks(patch: Patch) -> None:
    patch.setattr(OnceSteps, "begins", lambda self, resident, body: self._committer.after(body.go))


@caught_by("g2_a_body_begins_once_for_each_start")
def a_body_begins_before_its_start_is_durable(patch: Patch) -> None:
    begins, go = OnceSteps.begins, Body.go

    def early(self: Any, resident: Any, body: Any) -> None:
        begins(self, resident, body)
        body.go()

    patch.setattr(OnceSteps, "begins", early)
    patch.setattr(Body, "go", lambda self: go(self) if self.beginning else None)


@caught_by("g2_nothing_is_paid_twice", "g2_nothing_begins_while_nobody_knows")
def what_was_begun_is_run_again(patch: Patch) -> None:
    def again(self: Any, resident: Any, local: str, spec: Any, *why: str) -> None:
        self._driver.bodies.ask(resident, local, spec)

    patch.setattr(OnceSteps, "find_out", again)


@caught_by("g2_nothing_is_paid_twice")
def a_start_in_the_journal_is_forgotten(patch: Patch) -> None:
    recall = Machine.recall

    def forgetful(self: Any, entries: Any) -> None:
        recall(self, [entry for entry in entries if not isinstance(entry, records.StepBegun)])

    patch.setattr(Machine, "recall", forgetful)


@caught_by("g2_nothing_is_paid_twice", transient=0.3)
def any_failure_is_taken_for_not_done(patch: Patch) -> None:
    def again(self: Any, resident: Any, body: Any, failure: Any) -> None:
        if resident.bodies.pop(body.step, None) is body:
            self._not_done(resident, body.step, "body", "")
            self._again(resident, body.step, body.spec)

    patch.setattr(OnceSteps, "unknown", again)


@caught_by("g2_nothing_is_paid_twice", hangs=0.3, transient=0.0, mendless=0.0, misshapen=0.0)
def a_timeout_is_taken_for_not_done(patch: Patch) -> None:
    failed = Body._failed

    def late(self: Any, error: Any) -> None:
        failed(self, NotDone() if self.late and self.spec.once is not None and self.begun is None else error)

    patch.setattr(Body, "_failed", late)


@caught_by("g2_nothing_is_paid_twice", transient=0.4)
def a_checker_that_fails_is_taken_for_not_done(patch: Patch) -> None:
    failed = Body._failed
    patch.setattr(Body, "_failed", lambda self, error: failed(self, error if self.begun is None else NotDone()))


@caught_by("g2_nothing_begins_while_nobody_knows")
def that_nothing_was_done_is_not_recorded(patch: Patch) -> None:
    append = Driver.append

    def forgetful(self: Any, resident: Any, entry: Any) -> None:
        if not isinstance(entry, records.StepNotDone):
            append(self, resident, entry)

    patch.setattr(Driver, "append", forgetful)


@caught_by("g2_nothing_is_paid_twice", retries=0.9, terminal=0.3, hangs=0.2)
def a_retry_forgets_what_was_begun(patch: Patch) -> None:
    recall = Machine.recall

    def recalled(self: Any, entries: Any) -> None:
        places = [place for place, entry in enumerate(entries) if isinstance(entry, records.Reopened)]
        cut = places[-1] if places else 0
        recall(self, [e for place, e in enumerate(entries) if place >= cut or not isinstance(e, records.StepBegun)])

    patch.setattr(Machine, "recall", recalled)


@caught_by("g6_what_a_person_said_counts")
def a_persons_word_is_not_recorded(patch: Patch) -> None:
    not_done = OnceSteps._not_done

    def deaf(self: Any, resident: Any, local: str, by: str, why: str) -> None:
        not_done(self, resident, local, "body" if by == "person" else by, why)

    patch.setattr(OnceSteps, "_not_done", deaf)


@caught_by("g6_nobody_is_asked_for_the_dead", "G6", cancels=0.7)
def a_question_outlives_its_step(patch: Patch) -> None:
    obey = Driver._obey

    def hoard(self: Any, resident: Any, command: Any) -> None:
        if isinstance(command, CancelStep):
            resident.promises.pop(command.step, None)
        obey(self, resident, command)

    patch.setattr(Driver, "_obey", hoard)


@pytest.mark.parametrize("mutate, promises, weather", MUTANTS)
def test_a_mutant_is_caught(
    mutate: Callable[[Patch], None], promises: set[str], weather: dict[str, Any], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    assert first_breach(promises, weather) is not None, f"{SEEDS_MAX} worlds did not notice"
