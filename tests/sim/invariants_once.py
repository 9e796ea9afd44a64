"""The promises of steps that are declared once (G2): what was paid was paid once, a body begins after its start is
durable and once for each, and no start follows another of which nobody knows what came.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from holdfast.core import entries as records
from tests.sim.history import Answered, BodyBegan

if TYPE_CHECKING:
    from tests.sim.invariants import Inspection
    from tests.sim.ledger import Facts, Record


def pays(step: str) -> bool:
    """Whether a step is one that pays, by its id."""
    return step.rpartition("/")[2].startswith("pay#")


def g2_nothing_is_paid_twice(look: Inspection) -> None:
    payer = {began.key: began.id for began in look.history.of(BodyBegan)}
    for key, receipts in look.world.bank.receipts.items():
        if len(receipts) > 1 and all(look.sound(facts) for facts in look.of_id[payer[key]]):
            look.broken("G2", f"{payer[key]} paid {len(receipts)} times by one key: {receipts}")


def g2_a_body_begins_once_for_each_start(look: Inspection) -> None:
    begun: Counter[tuple[int, str]] = Counter()
    for began in look.history.of(BodyBegan):
        facts = look.known(began.id, began.commits) if pays(began.step) else None
        if facts is None:
            continue
        begun[facts.row.n, began.step] += 1
        durable = sum(1 for record in _starts(facts, began.step) if record.commit <= began.commits)
        if begun[facts.row.n, began.step] > durable:
            look.broken("G2", f"{began.id} {began.step} began in life {began.life} with {durable} starts durable")


def _starts(facts: Facts, step: str) -> Iterator[Record]:
    """Every start of a step that was ever in the journal."""
    seen: set[int] = set()
    for version in facts.versions:
        for record in version.records:
            entry = record.entry
            if isinstance(entry, records.StepBegun) and entry.note == step and id(record) not in seen:
                seen.add(id(record))
                yield record


def g2_nothing_begins_while_nobody_knows(look: Inspection) -> None:
    for facts in look.fine():
        for version in facts.versions:
            unknown: dict[str, bool] = defaultdict(bool)
            for record in version.records:
                entry: Any = record.entry
                if isinstance(entry, records.StepBegun):
                    if unknown[entry.note]:
                        look.broken("G2", f"{facts.id} {entry.note} began again, and nobody knew what had come of it")
                    unknown[entry.note] = True
                elif isinstance(entry, records.StepNotDone):
                    unknown[entry.note] = False
                elif isinstance(entry, records.StepUnknown) and not unknown[entry.step] and facts.row.origin is None:
                    look.broken("G2", f"{facts.id} was told that {entry.step} is unknown, and it is not")


def g2_what_is_done_was_begun(look: Inspection) -> None:
    for facts in look.fine():
        if facts.row.origin is not None:
            continue  # what was done before the copy was made was begun by another
        begun = {record.entry.note for record in facts.entries if isinstance(record.entry, records.StepBegun)}
        for record in facts.entries:
            entry = record.entry
            if isinstance(entry, records.StepCompleted) and pays(entry.step) and entry.step not in begun:
                look.broken("G2", f"{facts.id} {entry.step} is done, and was never begun")


def g6_what_a_person_said_counts(look: Inspection) -> None:
    for answer in look.history.of(Answered):
        row = look.promises.get(answer.id) if answer.call == "decide" else None
        if row is None or not look.sound(look.facts[row.n]):
            continue
        facts, step = look.facts[row.n], records.decode_info(row.about).step
        outcome, result = answer.value
        if not any(number <= answer.commits for number, _ in look.settles[answer.id]):
            look.broken("G1", f"the word on {facts.id} {step} was acknowledged before it was durable")
        said = [record.entry for version in facts.versions for record in version.records]
        done = [e for e in said if isinstance(e, records.StepCompleted) and e.step == step]
        not_done = [e for e in said if isinstance(e, records.StepNotDone) and (e.note, e.by) == (step, "person")]
        heard = bool(done) if outcome == "done" else bool(not_done)
        if not heard and facts.status.name in {"DONE", "FAILED"}:
            look.broken("G6", f"{facts.id} {step} was said to be {outcome}, and the journal does not say so")
        if outcome == "done" and any(facts.read(e.result) != result for e in done) and facts.row.origin is None:
            look.broken("G6", f"{facts.id} {step} was said to have given {result}, and has {done}")


CHECKS = [
    g2_nothing_is_paid_twice, g2_a_body_begins_once_for_each_start, g2_nothing_begins_while_nobody_knows,
    g2_what_is_done_was_begun, g6_what_a_person_said_counts,
]  # fmt: skip
