"""Replays of a copy: what would happen, without a body, a row or a message.

Promises: leaves no trace. Refuses: to go on where the journal ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from holdfast.core import entries as records
from holdfast.core.entries import NOTES, STARTS, Entry
from holdfast.core.machine import Machine
from holdfast.core.mismatch import label
from holdfast.engine.reasons import obeyed_of
from holdfast.engine.starts import split_headers
from holdfast.errors import HandlerFault, HoldfastError, WrongStatus
from holdfast.service import Handler
from holdfast.stores.base import InvocationRow, PromiseRow

if TYPE_CHECKING:
    from holdfast.engine.driver import Driver

ANSWERS = (
    records.StepCompleted, records.StepErrored, records.StepUnknown, records.CallCompleted, records.CallErrored,
)  # fmt: skip


@contextmanager
def rehearsed(driver: Driver, row: InvocationRow, handler: Handler, journal: list[Entry]) -> Iterator[Machine]:
    """The machine of an invocation after a replay of `journal`; gone with the block. Raises HandlerFault and
    HoldfastError as the replay does."""
    obeyed = -1 if row.began is None else obeyed_of(row, len(journal))
    with _begun(driver, row, handler, journal, replaying=obeyed >= 0) as machine:
        machine.replay(journal, obeyed)
        yield machine


def journal_of(driver: Driver, n: int) -> list[Entry]:
    """A stored journal. Raises Unreadable."""
    return [records.decode_entry(body) for body in driver.store.entries(n)]


def problem_of(driver: Driver, row: InvocationRow, handler: Handler) -> str | None:
    """What would stop an invocation if it were replayed by the code at hand now; None if nothing would."""
    try:
        with rehearsed(driver, row, handler, journal_of(driver, row.n)):
            return None
    except (HandlerFault, HoldfastError) as fault:
        return str(fault)
    except Exception as error:  # noqa: BLE001  # damaged bytes: the answer of this one, and no end of the others
        return f"{type(error).__name__}: {error}"


def waits_for(
    driver: Driver, row: InvocationRow, handler: Handler, asked: PromiseRow, value: bytes, *, ok: bool
) -> bool:
    """Whether an invocation that is not in memory waits for a promise. Raises Unreadable when the value does not fit
    it, WrongStatus when journal and code do not fit."""
    try:
        with rehearsed(driver, row, handler, journal_of(driver, row.n)) as machine:
            promise = machine.waiting.get(records.decode_info(asked.about).step)
    except (HandlerFault, HoldfastError) as fault:
        raise WrongStatus(
            f"invocation {row.id!r} is paused and cannot be rebuilt to take a value: {fault.what}",
            fix="mend the cause and resume it, then settle the promise",
        ) from None
    if promise is None or promise.id != asked.id:
        return False
    promise.read(value, ok=ok)
    return True


def reopened(
    driver: Driver, row: InvocationRow, handler: Handler, journal: list[Entry], failing: int, done: bytes
) -> tuple[list[Entry], list[str]]:
    """A journal without the failure at `failing`: what came before it, and of what came after it all that the code
    still waits for at that point. What followed from those was done then. And the ids of the calls it waits for.

    If the handler itself raised, at the journal's end, `done` are the digests of what it had wanted done since the last
    entry. Raises as a replay does, and WrongStatus when the code wants other things done there now.
    """
    kept = journal[:failing]
    with _begun(driver, row, handler, journal, replaying=True) as machine:
        machine.replay(kept, -1)
        if failing == len(journal) and not machine.last_deeds().startswith(done):
            raise WrongStatus(
                "before it raised, it had sent or written other things since its last wait than the code does now",
                fix="put that part of the code back, or restart it from a step",
            )
        machine.replaying = True
        noted = []
        for entry in journal[failing + 1 :]:
            if isinstance(entry, NOTES):
                noted.append(entry)
            elif not isinstance(entry, records.Reopened) and machine.wants(entry):
                machine.receive(entry)
                kept.append(entry)
        # Of what it noted after the failure, what it has asked for again.
        kept += [note for note in noted if machine.has_come_to(note)]
        return kept, [step.id for step in machine.waiting.values() if step.kind == "call"]


def adopted(driver: Driver, row: InvocationRow, handler: Handler, prefix: list[Entry], id: str) -> list[Entry]:
    """The beginning of a journal as that of an invocation with another id, which may be among the arguments of its
    steps. What was begun in the other one is begun anew here, by another idempotency key. Raises as a replay does."""
    prefix = [entry for entry in prefix if not isinstance(entry, STARTS)]
    with _begun(driver, row, handler, prefix, replaying=True) as machine:
        machine.replay(prefix)
    entries: list[Entry] = []
    with _begun(driver, row._replace(id=id), handler, prefix, replaying=True) as machine:
        for entry in prefix:
            step = machine.waiting.get(label(entry))
            if step is not None and step.spec is not None and isinstance(entry, ANSWERS):
                entry = msgspec.structs.replace(entry, digest=step.spec.digest)  # noqa: PLW2901
            entries.append(entry)
            machine.replaying = True
            machine.replay([entry])
    return entries


@contextmanager
def _begun(
    driver: Driver, row: InvocationRow, handler: Handler, journal: list[Entry], *, replaying: bool
) -> Iterator[Machine]:
    """The machine of an invocation at its first wait."""
    resident = driver.resident(row._replace(began=row.began or row.created), handler, fresh=False)
    machine = resident.machine
    try:
        resident.text, headers = split_headers(driver.read(row.n, row.input))
        machine.recall(journal)
        machine.replaying = replaying
        driver.call_handler(resident, headers)
        yield machine
    finally:
        machine.evict()
