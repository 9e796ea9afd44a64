"""Where an invocation stands: its journal as lines, after them what it waits for, and why one in a queue has not begun.

Promises: what one that is parked waits for is found by a replay of a copy, so that it is the same whether it is in
memory or not. Where code and journal do not fit, or nobody has the code, it is what the store alone can tell. Refuses:
to bring anything to memory, or to change it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.core import entries as records
from holdfast.core.ids import signal_of
from holdfast.core.invocation import Status
from holdfast.core.machine import Machine
from holdfast.core.payload import unpack
from holdfast.core.tasks import Step
from holdfast.engine import rehearsal
from holdfast.engine.engine import Engine
from holdfast.engine.gates import FIRST
from holdfast.engine.reasons import tries_of
from holdfast.errors import BadArguments, HandlerFault, Unreadable
from holdfast.stores.base import InvocationRow, PromiseRow, Store
from holdfast.views import (
    QueueView,
    StepView,
    moment,
    view_body,
    view_called,
    view_entry,
    view_given_up,
    view_promised,
    view_tried,
    view_waiting,
)

CHILDREN_MAX = 1_000  # called invocations shown in one journal
QUEUE_MAX = 1_000  # that are counted before one that waits


def journal_of(engine: Engine, row: InvocationRow, after: int, limit: int | None) -> list[StepView]:
    """The lines from a place on, `limit` of them at most; with the last of them, what is being worked on or waited for.
    Raises Unreadable, BadArguments."""
    if after < 0 or (limit is not None and limit < 1):
        raise BadArguments(f"no journal has {limit} lines from place {after} on", fix="give after=0, limit=1 or more")
    store = engine.reading()
    asked = {records.decode_info(promise.about).step: promise for promise in store.promises_of(row.n)}
    read = reader(store, row.n)
    bodies = store.entries(row.n, after, limit)
    lines = [view_entry(records.decode_entry(body), place, read, asked) for place, body in enumerate(bodies, after)]
    if len(lines) == limit:
        return lines
    return lines + _open_lines(engine, row, asked)


def queue_of(engine: Engine, row: InvocationRow) -> QueueView | None:
    """Why one has not begun whose time has come; None for all others."""
    if row.status != Status.QUEUED or row.wake_at is not None:
        return None
    store = engine.reading()
    if row.lock is not None:
        ahead = _ahead(store.queued_for_lock(row.lock, QUEUE_MAX), row.n)
        holder = engine.gates.holder(row.lock)
        if ahead or holder is not None or row.lane is None:
            held = None if holder is None else store.get(holder)
            return QueueView("key", row.lock, None if held is None else held.id, ahead)
    if row.lane is not None:
        ahead = _ahead([n for _, n in store.queued_for_lane(row.lane, FIRST, QUEUE_MAX)], row.n)
        if ahead or not _has_room(engine, row, row.lane):
            return QueueView("limit", row.lane, None, ahead)
    return QueueView("room", None, None, 0)


def steps_of(engine: Engine, row: InvocationRow) -> dict[str, StepView]:
    """The steps that are being worked on, or wait for their next attempt, by id."""
    resident = engine.resident(row.n)
    if resident is not None:
        return {step: view_body(body) for step, body in (*resident.bodies.items(), *resident.resting.items())}
    with contextlib.suppress(Unreadable):  # told when it is loaded, and pauses
        return {tried.step: view_tried(tried) for tried in tries_of(row)}
    return {}


def reader(store: Store, n: int) -> Callable[[bytes], bytes]:
    """What turns payloads of an invocation into JSON text."""
    return lambda payload: unpack(payload, lambda first, last: store.blobs(n, first, last))


def _has_room(engine: Engine, row: InvocationRow, lane: str) -> bool:
    handler = engine.handler_of(row.target)
    if handler is None or handler.limit is None or handler.limit.concurrency is None or handler.limit.rate is not None:
        return False
    return len(engine.reading().lane_running(lane)) < handler.limit.concurrency


def _ahead(queue: list[int], n: int) -> int:
    return queue.index(n) if n in queue else len(queue)


def _open_lines(engine: Engine, row: InvocationRow, asked: Mapping[str, PromiseRow]) -> list[StepView]:
    called = _unanswered(engine.reading(), row.n)
    waits = [] if Status(row.status).ended else _waits_of(engine, row, asked)
    if waits is None:  # nobody can say what the handler waits for now, but what it has asked for is known
        open_promises = [(step, promise) for step, promise in asked.items() if promise.status == 0]
        promised = [view_promised(promise.id, step, promise) for step, promise in open_promises]
        return [*steps_of(engine, row).values(), *promised] + [view_called(child.call or "", child) for child in called]
    shown = {line.child for line in waits}
    return waits + [view_given_up(child) for child in called if child.id not in shown]


def _waits_of(engine: Engine, row: InvocationRow, asked: Mapping[str, PromiseRow]) -> list[StepView] | None:
    """What an invocation waits for, None if its code cannot be asked."""
    resident = engine.resident(row.n)
    if resident is not None:
        return _waits(engine, resident.machine, asked, steps_of(engine, row))
    handler = engine.handler_of(row.target)
    if handler is None:
        return None
    if row.began is None:
        return []
    # What is wrong with code or journal stops the invocation when it is loaded, and is told then.
    with contextlib.suppress(HandlerFault, Exception):
        journal = rehearsal.journal_of(engine.driver, row.n)
        with rehearsal.rehearsed(engine.driver, row, handler, journal) as machine:
            return _waits(engine, machine, asked, steps_of(engine, row))
    return None


def _waits(
    engine: Engine, machine: Machine, asked: Mapping[str, PromiseRow], steps: Mapping[str, StepView]
) -> list[StepView]:
    """`steps` are those that were begun, as they are shown."""
    lines = [steps.get(step.local) or _wait(engine, step, asked) for step in machine.waiting.values()]
    timers = sorted(machine.loop.timers.values(), key=lambda timer: timer.when())
    return lines + [view_waiting("timer", timer.id, due=moment(math.ceil(timer.when() * 1000))) for timer in timers]


def _wait(engine: Engine, step: Step[Any], asked: Mapping[str, PromiseRow]) -> StepView:
    match step.kind:
        case "promise":
            return view_promised(step.id, step.local, asked.get(step.local))
        case "shared":
            return view_promised(step.id, step.local, engine.reading().promise(step.id))
        case "call" | "attach":
            child = engine.reading().find(step.id)
            return view_waiting("call", step.local, child=step.id) if child is None else view_called(step.local, child)
        case "signal":
            return view_waiting("signal", signal_of(step.local))
        case _:
            if step.id == step.local:
                return view_waiting("step", step.local)
            row = asked.get(step.local)  # somebody is asked what came of it
            return view_promised(step.id, step.local, row if row is not None and row.id == step.id else None)


def _unanswered(store: Store, n: int) -> list[InvocationRow]:
    """Those that were called, and whose end is not in the journal."""
    called = [child for child in store.children(n, CHILDREN_MAX) if child.call]
    if not called:
        return []
    journal = [records.decode_entry(body) for body in store.entries(n)]
    answered = {entry.child for entry in journal if isinstance(entry, (records.CallCompleted, records.CallErrored))}
    return [child for child in called if child.id not in answered]
