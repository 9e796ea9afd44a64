"""Finds waits that would lead back to who waits.

Promises: a call or an attachment whose wait leads back to the caller, through calls, attachments, the locks of keys and
the places under a limit, is refused with the chain (G8: nothing waits for ever in silence). Who has given up a wait is
not in the chain: what is parked is brought back and asked what it waits for. Refuses: to walk further than a bound.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

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

LOOKS_MAX = 10_000  # at invocations and limits, for a cycle of waits
LOADS_MAX = 100  # of them brought back for it; of what is parked beyond, the rows tell whom it called
PLACES_MAX = 100  # of a limit; a larger one is taken to have a place some time


class Places(NamedTuple):
    """A limit, all of whose places are taken."""

    lane: str
    held: tuple[int, ...]


Node = int | Places  # an invocation waits for what it has called, and in a queue for who is before it


class Waits:
    """Who waits for whom."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def refusal(self, caller: Resident, spec: CallSpec) -> WouldDeadlock | None:
        """Why a call cannot be made, if it cannot."""
        search = Search(self._engine, caller)
        what = f"cannot call {spec.handler.target!r}" + ("" if spec.key is None else f" of key {spec.key!r}")
        for node, wanted in search.before(gate_of(spec.handler, spec.key, spec.text), None):
            if search.is_stuck(node):
                return _deadlock(caller, what, [wanted, *search.path(node)])
        return None

    def refusal_to_join(self, caller: Resident, row: InvocationRow) -> WouldDeadlock | None:
        """Why one that is there already cannot be waited for, if it cannot."""
        search = Search(self._engine, caller)
        if search.is_stuck(row.n):
            return _deadlock(caller, f"cannot wait for {row.id!r}", [row.id, *search.path(row.n)])
        return None


class Search:
    """Looks for what can never go on once the caller waits."""

    def __init__(self, engine: Engine, caller: Resident) -> None:
        self._engine = engine
        self._caller = caller.n
        self._free: set[Node] = set()  # these can go on
        self._taken: set[Node] = set()  # for stuck, while they were being looked at
        self._next: dict[Node, Node] = {}  # of what is stuck, for what
        self._looks = 0
        self._loads = 0

    def is_stuck(self, node: Node) -> bool:
        """Whether it waits, directly or through others, for the caller. One that waits for several is stuck if one of
        them is, a limit if all who hold its places are."""
        while self._looks < LOOKS_MAX:
            known = len(self._free)
            self._taken.clear()
            if not self._walk(node):
                return False
            if self._taken.isdisjoint(self._free) or len(self._free) == known:
                return True
        return False

    def path(self, node: Node) -> list[str]:
        """What follows in the chain, up to the caller or to what was in it before."""
        seen, words = {node}, list[str]()
        while node != self._caller and node in self._next:
            node = self._next[node]
            words.append(self._name(node))
            if node in seen:
                break
            seen.add(node)
        return words

    def before(self, gate: Gate, n: int | None) -> list[tuple[Node, str]]:
        """Whom one that is to pass a gate waits for, and in what words. `n`: it is in the queue."""
        found: list[tuple[Node, str]] = []
        gates = self._engine.gates
        places = gates.taken(gate, PLACES_MAX)
        if places and gate.lane is not None:
            node = Places(gate.lane, tuple(sorted(places)))
            found.append((node, self._name(node)))
        ahead = None if gate.lock is None else gates.ahead(gate.lock, n)
        if ahead is not None:
            found.append((ahead, f"{gate.lock}, held by {self._name(ahead)}"))
        return found

    def _walk(self, start: Node) -> bool:
        # Depth first, as who can go on is mostly found at once. By hand: a chain may be longer than Python's stack.
        stuck: set[Node] = set()
        open_looks = {start: self._look(start)}
        answer: bool | None = None
        while open_looks:
            node = next(reversed(open_looks))
            try:
                wanted = open_looks[node].send(answer)
            except StopIteration as end:
                del open_looks[node]
                answer = bool(end.value)
                (stuck if answer else self._free).add(node)
                continue
            answer = None
            if wanted in open_looks:
                self._taken.add(wanted)
                answer = True
            elif wanted == self._caller or wanted in stuck:
                answer = True
            elif wanted in self._free or self._looks >= LOOKS_MAX:
                answer = False
            else:
                open_looks[wanted] = self._look(wanted)
        return bool(answer)

    def _look(self, node: Node) -> Generator[Node, bool | None, bool]:
        self._looks += 1
        if node == self._caller:
            return True
        if isinstance(node, Places):
            for n in node.held:
                if not (yield n):
                    return False
            others = [n for n in node.held if n != self._caller]
            self._next[node] = others[0] if others else self._caller
            return True
        for wanted in self._wanted(node):
            if (yield wanted):
                self._next[node] = wanted
                return True
        return False

    def _wanted(self, n: int) -> list[Node]:
        rows = self._engine.rows
        row = rows.get(n)
        if row is None or Status(row.status).ended:
            return []
        if _is_in_queue(row):
            return [node for node, _ in self.before(rows.gate(row), n)]
        resident = self._engine.resident(n)
        if resident is None and self._loads < LOADS_MAX:
            self._loads += 1
            resident = self._engine.bring_back(n)
        if resident is None or resident.pausing:
            called = [child for child in rows.children(n, LOOKS_MAX) if child.call is not None]
        else:
            asked = [step.id for step in resident.machine.waiting.values() if step.kind in {"call", "attach"}]
            called = [there for id in asked if (there := rows.find(id)) is not None]
        return [there.n for there in called if not Status(there.status).ended]

    def _name(self, node: Node) -> str:
        if isinstance(node, Places):
            first, *more = [self._name(n) for n in node.held]
            return f"the limit of {node.lane}, held by {first}" + (f" and {len(more)} more" if more else "")
        row = self._engine.rows.get(node)
        return "?" if row is None else row.id


def _is_in_queue(row: InvocationRow) -> bool:
    """Whether it has not had its turn. One that was paused meanwhile waits for it, once a person has resumed it."""
    return row.status == Status.QUEUED or (row.status == Status.PAUSED and was_queued(row))


def _deadlock(caller: Resident, what: str, chain: list[str]) -> WouldDeadlock:
    return WouldDeadlock(
        f"{caller.id!r} {what}: it would wait for itself: {' waits for '.join([caller.id, *chain])}",
        cause="who holds a key or a place under a limit keeps it until it ends, and this one waits for the call",
        fix="send instead of call, call a shared handler, raise the limit, or do the work in the handler itself",
    )
