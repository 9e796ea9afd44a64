"""Finds waits that would lead back to who waits.

Promises: a call or an attachment whose wait leads back to the caller, through calls, attachments, the locks of keys and
the places under a limit, is refused with the chain (G8: nothing waits for ever in silence). Who has given up a wait is
not in the chain: what is parked is brought back and asked what it waits for. Refuses: to walk further than a bound.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from holdfast.core.commands import CallSpec
from holdfast.core.invocation import Status
from holdfast.engine.gates import Gate
from holdfast.engine.reasons import was_queued
from holdfast.engine.starts import gate_of
from holdfast.errors import WouldDeadlock
from holdfast.stores.base import InvocationRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine
    from holdfast.engine.resident import Resident

CHAIN_MAX = 10_000  # invocations looked at for a cycle of waits
LOADS_MAX = 100  # of them brought back for it; of what is parked beyond, the rows tell whom it called


class Waits:
    """Who waits for whom."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def refusal(self, caller: Resident, spec: CallSpec) -> WouldDeadlock | None:
        """Why a call cannot be made, if it cannot."""
        gate = gate_of(spec.handler, spec.key, spec.text)
        what = f"cannot call {spec.handler.target!r}" + ("" if spec.key is None else f" of key {spec.key!r}")
        chain = self._lane_chain(caller, gate)
        if chain:
            return _deadlock(caller, what, f"the limit of {spec.handler.target}, held by {chain[0]}", chain)
        holder = None if gate.lock is None else self._engine.gates.holder(gate.lock)
        chain = [] if holder is None else self._chain(caller, holder)
        return _deadlock(caller, what, f"{gate.lock}, held by {chain[0]}", chain) if chain else None

    def refusal_to_join(self, caller: Resident, row: InvocationRow) -> WouldDeadlock | None:
        """Why one that is there already cannot be waited for, if it cannot."""
        chain = self._chain(caller, row.n)
        return _deadlock(caller, f"cannot wait for {row.id!r}", chain[0], chain) if chain else None

    def _lane_chain(self, caller: Resident, gate: Gate) -> list[str]:
        """The caller and those above it, if all places under the limit are theirs."""
        if gate.lane is None or gate.limit is None or gate.limit.concurrency is None:
            return []
        rows = [row for n in self._above(caller) if (row := self._engine.rows.get(n)) is not None]
        inside = [row.id for row in rows if row.lane == gate.lane]
        return inside if len(inside) >= gate.limit.concurrency else []

    def _chain(self, caller: Resident, start: int) -> list[str]:
        """The ids from one invocation to the caller, if each waits for the next."""
        seen: dict[int, int | None] = {start: None}
        queue = deque([start])
        while queue and len(seen) < CHAIN_MAX:
            n = queue.popleft()
            if n == caller.n:
                return self._path(seen, n)
            for wanted in self._wanted_by(n, load=len(seen) < LOADS_MAX):
                if wanted not in seen:
                    seen[wanted] = n
                    queue.append(wanted)
        return []

    def _wanted_by(self, n: int, *, load: bool) -> list[int]:
        """Those that an invocation waits for, directly or for the lock they hold."""
        rows, gates = self._engine.rows, self._engine.gates
        row = rows.get(n)
        if row is not None and _is_in_queue(row):
            holder = None if row.lock is None else gates.holder(row.lock)
            return [] if holder is None else [holder]
        resident = self._engine.bring_back(n) if load else self._engine.resident(n)
        if resident is None or resident.pausing:
            called = [child for child in rows.children(n, CHAIN_MAX) if child.call is not None]
        else:
            asked = [step.id for step in resident.machine.waiting.values() if step.kind in {"call", "attach"}]
            called = [there for id in asked if (there := rows.find(id)) is not None]
        return [there.n for there in called if not Status(there.status).ended]

    def _above(self, caller: Resident) -> set[int]:
        above = {caller.n}
        row: InvocationRow | None = caller.row
        while row is not None and row.parent is not None and row.call is not None and row.parent not in above:
            above.add(row.parent)
            row = self._engine.rows.get(row.parent)
        return above

    def _path(self, seen: dict[int, int | None], n: int) -> list[str]:
        path = []
        step: int | None = n
        while step is not None:
            row = self._engine.rows.get(step)
            path.append("?" if row is None else row.id)
            step = seen[step]
        return path[::-1]


def _is_in_queue(row: InvocationRow) -> bool:
    """Whether it has not had its turn. One that was paused meanwhile waits for it, once a person has resumed it."""
    return row.status == Status.QUEUED or (row.status == Status.PAUSED and was_queued(row))


def _deadlock(caller: Resident, what: str, wanted: str, chain: list[str]) -> WouldDeadlock:
    waits = " waits for ".join([caller.id, wanted, *chain[1:]])
    return WouldDeadlock(
        f"{caller.id!r} {what}: it would wait for itself: {waits}",
        cause="who holds a key or a place under a limit keeps it until it ends, and this one waits for the call",
        fix="send instead of call, call a shared handler, raise the limit, or do the work in the handler itself",
    )
