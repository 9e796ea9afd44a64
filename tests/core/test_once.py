"""Steps declared once, in the machine alone: what a start in the journal makes of the same ask."""

import dataclasses
import json
from contextvars import copy_context
from pathlib import Path

import pytest

from holdfast.core.commands import CancelStep, FindOut, Once, Return, RunStep, StepSpec
from holdfast.core.entries import (
    CancelRequested,
    Failure,
    StepBegun,
    StepCompleted,
    StepErrored,
    StepNotDone,
    StepUnknown,
    decode_entry,
    encode,
)  # fmt: skip
from holdfast.core.ids import secret_name
from holdfast.core.machine import Machine
from holdfast.errors import Mismatch, OutcomeUnknown, TerminalError
from tests.core.case import JSON, START, Ctx, digest, plan
from tests.core.shapes import echo

GOLDEN = Path(__file__).parents[1] / "golden" / "once_1.json"
LOST = Failure("OutcomeUnknown", "its process ended before a result was recorded", "Traceback ...")


class Answers:
    """Reads a person's word."""

    def decode(self, text: bytes):
        return ("said", json.loads(text))


ASK = Once(answers=Answers())


class Payer(Ctx):
    def pay(self, amount: int, once: Once = ASK):
        spec = StepSpec(
            "pay", echo, (amount,), {}, digest=digest((amount,), {}), codec=JSON, context=copy_context(), once=once
        )  # fmt: skip
        return self.machine.ask_step(spec)


@dataclasses.dataclass
class At:
    """Entries of one journal, a millisecond apart."""

    ms: int = START

    def begun(self, step="pay#1", amount=12, attempt=1):
        return StepBegun(self._next(), step, digest((amount,), {}), attempt)

    def not_done(self, step="pay#1", by="checker"):
        return StepNotDone(self._next(), step, by, "no payment has this key")

    def done(self, step="pay#1", amount=12):
        return StepCompleted(self._next(), step, digest((amount,), {}), b'"paid"', b"", 1, START)

    def unknown(self, step="pay#1", amount=12):
        return StepUnknown(self._next(), step, digest((amount,), {}), LOST, b"", START)

    def errored(self, step="pay#1", amount=12):
        return StepErrored(self._next(), step, digest((amount,), {}), Failure("T", "no", status=402), b"", START)

    def _next(self):
        self.ms += 1
        return self.ms


async def buy(ctx: Payer) -> str:
    try:
        return await ctx.pay(12)
    except OutcomeUnknown as unknown:
        return f"{unknown.what}; {unknown.idempotency_key}; {await ctx.pay(13)}"
    except TerminalError as error:
        return f"{error.status}"


alive: list[Machine] = []


@pytest.fixture(autouse=True)
def _all_are_dropped():
    yield
    while alive:
        alive.pop().evict()


def replayed(journal, handler=buy) -> Machine:
    machine = Machine("inv_case", created=START, seed=17, read=lambda body: body, plan_thread=plan)
    alive.append(machine)
    machine.recall(journal)
    machine.begin(handler, Payer(machine))
    machine.replay(journal)
    return machine


def wants(machine):
    return [(type(command).__name__, command.step) for command in machine.take_commands()]


def test_a_step_is_to_be_run_until_its_start_is_in_the_journal():
    at = At()
    assert wants(replayed([])) == [("RunStep", "pay#1")]
    assert wants(replayed([at.begun()])) == [("FindOut", "pay#1")]
    assert wants(replayed([at.begun(), at.not_done()])) == [("RunStep", "pay#1")]
    assert wants(replayed([at.begun(), at.not_done(), at.begun(attempt=2)])) == [("FindOut", "pay#1")]


@pytest.mark.parametrize("end, result", [("done", "paid"), ("errored", "402")])
def test_one_that_is_over_is_neither_run_nor_asked_about(end, result):
    at = At()
    machine = replayed([at.begun(), getattr(at, end)()])
    assert machine.take_commands() == [Return(result)]


def test_the_handler_is_told_the_same_on_every_replay():
    at = At()
    journal = [at.begun(), at.unknown()]
    machine = replayed(journal)
    assert wants(machine) == [("RunStep", "pay#2")]
    journal += [at.begun("pay#2", 13), at.done("pay#2", 13)]
    (end,) = replayed(journal).take_commands()
    key = secret_name("hf_", 17, "inv_case", "pay#1")
    assert end == Return(
        "nobody knows what came of step 'pay#1': its process ended before a result was recorded; " + key + "; paid"
    )


def test_a_plain_step_of_the_same_name_is_run_whatever_was_begun():
    async def plain(ctx):
        return await ctx.run(echo, 12, name="pay")

    assert wants(replayed([At().begun()], plain)) == [("RunStep", "pay#1")]


def test_other_arguments_than_it_was_begun_with_are_a_mismatch_before_anything_is_asked():
    with pytest.raises(Mismatch, match="step 'pay#1' was begun with other arguments than the code gives it now"):
        replayed([At().begun(amount=11)])


def test_other_arguments_of_one_that_is_over_are_reported_with_both_paths():
    at = At()
    with pytest.raises(Mismatch, match="step 'pay#1' was recorded with other arguments"):
        replayed([at.begun(amount=11), at.done(amount=11)])


def test_each_beginning_has_a_question_of_its_own_the_same_in_every_life():
    at = At()
    journal = [at.begun()]
    first = replayed(journal).waiting["pay#1"].id
    assert first == replayed(journal).waiting["pay#1"].id
    journal += [at.not_done(), at.begun(attempt=2)]
    assert replayed(journal).waiting["pay#1"].id not in {first, "pay#1"}


def test_a_word_on_it_is_read_by_its_policy_and_a_result_by_its_type():
    step = replayed([At().begun()]).waiting["pay#1"]
    assert step.read(b'"yes"', ok=True) == ("said", "yes")
    assert step.read(b'"never mind"', ok=False) == "never mind"
    assert replayed([]).waiting["pay#1"].codec.decode(b'"paid"') == "paid"


def test_a_cancel_in_its_middle_drops_it():
    at = At()
    machine = replayed([at.begun(), CancelRequested(at.ms, "not wanted")])
    commands = machine.take_commands()
    assert CancelStep("pay#1") not in commands  # done in the life that had it
    assert not any(isinstance(command, (RunStep, FindOut)) for command in commands)


def test_a_journal_of_any_version_replays_to_its_outcome():
    saved = json.loads(GOLDEN.read_text(encoding="utf-8"))
    journal = [decode_entry(bytes.fromhex(body)) for body in saved["journal"]]
    assert [encode(entry).hex() for entry in journal] == saved["journal"]
    assert replayed(journal).take_commands() == [Return(saved["returned"])]
