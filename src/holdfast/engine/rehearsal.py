"""Replays of a copy: what would happen, without a body, a row or a message.

Promises: leaves no trace. Refuses: to go on where the journal ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.core import entries as records
from holdfast.core.entries import NOTES, Entry
from holdfast.core.machine import Machine
from holdfast.engine.reasons import obeyed_of
from holdfast.engine.starts import split_headers
from holdfast.errors import HandlerFault, HoldfastError, WrongStatus
from holdfast.service import Handler
from holdfast.stores.base import InvocationRow

if TYPE_CHECKING:
    from holdfast.engine.driver import Driver


@contextmanager
def rehearsed(driver: Driver, row: InvocationRow, handler: Handler, journal: list[Entry]) -> Iterator[Machine]:
    """The machine of an invocation after a replay of `journal`; gone with the block. Raises HandlerFault and
    HoldfastError as the replay does."""
    resident = driver.resident(row._replace(began=row.began or row.created), handler, fresh=False)
    machine = resident.machine
    try:
        resident.text, headers = split_headers(driver.read(row.n, row.input))
        machine.recall(journal)
        obeyed = -1 if row.began is None else obeyed_of(row, len(journal))
        machine.replaying = obeyed >= 0
        driver.call_handler(resident, headers)
        machine.replay(journal, obeyed)
        yield machine
    finally:
        machine.evict()


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


def waits_for(driver: Driver, row: InvocationRow, handler: Handler, local: str, value: bytes, *, ok: bool) -> bool:
    """Whether an invocation that is not in memory waits for a promise. Raises Unreadable when the value does not fit
    it, WrongStatus when journal and code do not fit."""
    try:
        with rehearsed(driver, row, handler, journal_of(driver, row.n)) as machine:
            promise = machine.waiting.get(local)
    except (HandlerFault, HoldfastError) as fault:
        raise WrongStatus(
            f"invocation {row.id!r} is paused and cannot be rebuilt to take a value: {fault.what}",
            fix="mend the cause and resume it, then settle the promise",
        ) from None
    if promise is not None:
        promise.read(value, ok=ok)
    return promise is not None


def reopened(driver: Driver, row: InvocationRow, handler: Handler, journal: list[Entry], failing: int) -> list[Entry]:
    """A journal without the failure at `failing`: what came before it, and of what came after it all that the code
    still waits for at that point. Raises HandlerFault, HoldfastError as a replay does."""
    kept = journal[:failing]
    with rehearsed(driver, row._replace(outcome=None), handler, kept) as machine:
        for entry in journal[failing + 1 :]:
            if isinstance(entry, NOTES):
                continue
            if isinstance(entry, records.SignalArrived) or machine.wants(entry):
                machine.receive(entry)
                kept.append(entry)
    return kept
