"""Finds calls that would wait for their own caller.

Promises: a call whose wait, through the locks of keys and the places under limits, leads back to its caller is refused
with the chain (G8: nothing waits for ever in silence). Looked at only when a lock is held or a limit is used up: the
graph of waits is walked in the store, and bounded.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from holdfast.core.commands import CallSpec
from holdfast.core.invocation import Status
from holdfast.engine.gates import Gate
from holdfast.engine.starts import gate_of
from holdfast.errors import WouldDeadlock
from holdfast.stores.base import InvocationRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine
    from holdfast.engine.resident import Resident

CHAIN_MAX = 10_000  # invocations looked at for a cycle of waits
CHILDREN_MAX = 1_000


class Waits:
    """Who waits for whom."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def refusal(self, caller: Resident, spec: CallSpec) -> WouldDeadlock | None:
        """Why a call cannot be made, if it cannot."""
        gate = gate_of(spec.handler, spec.key, spec.text)
        chain = self._lane_chain(caller, gate) or self._lock_chain(caller, gate.lock)
        return _deadlock(caller, spec, chain) if chain else None

    def _lane_chain(self, caller: Resident, gate: Gate) -> list[str]:
        """The caller and those above it, if all places under the limit are theirs."""
        if gate.lane is None or gate.limit is None or gate.limit.concurrency is None:
            return []
        rows = [row for n in self._above(caller) if (row := self._engine.rows.get(n)) is not None]
        inside = [row.id for row in rows if row.lane == gate.lane]
        return inside if len(inside) >= gate.limit.concurrency else []

    def _lock_chain(self, caller: Resident, lock: str | None) -> list[str]:
        """The ids from the holder of the lock to the caller or one above it, if one waits for the other all along."""
        holder = None if lock is None else self._engine.gates.holder(lock)
        if holder is None:
            return []
        above = self._above(caller)
        seen: dict[int, int | None] = {holder: None}
        queue = deque([holder])
        while queue and len(seen) < CHAIN_MAX:
            n = queue.popleft()
            if n in above:
                return self._path(seen, n)
            for row in self._engine.rows.children(n, CHILDREN_MAX):
                if row.call is None or Status(row.status).ended:
                    continue
                wanted = row.n
                if row.status == Status.QUEUED and row.lock is not None:
                    wanted = self._engine.gates.holder(row.lock) or row.n
                if wanted not in seen:
                    seen[wanted] = n
                    queue.append(wanted)
        return []

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


def _deadlock(caller: Resident, spec: CallSpec, chain: list[str]) -> WouldDeadlock:
    wanted = (
        f"{spec.handler.service}/{spec.key}" if spec.handler.lock(spec.key) else f"the limit of {spec.handler.target}"
    )
    waits = " waits for ".join([caller.id, f"{wanted}, held by {chain[0]}", *chain[1:]])
    return WouldDeadlock(
        f"{caller.id!r} cannot call {spec.handler.target!r} of key {spec.key!r}: it would wait for itself: {waits}",
        cause="who holds a key or a place under a limit keeps it until it ends, and this one waits for the call",
        fix="send instead of call, call a shared handler, raise the limit, or do the work in the handler itself",
    )
