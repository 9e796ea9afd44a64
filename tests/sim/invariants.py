"""The promises as functions over the history of a world. Each is named as in docs/guarantees.md; each has been seen to
fail (test_mutants.py). They know what an observer outside can know: commits, answers to clients, runs of bodies; and the
paths the machines took, to compare them with each other."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from holdfast.core import entries as records
from holdfast.core.entries import Entry, PromiseSettled, StepCompleted, StepErrored
from holdfast.core.invocation import Status
from holdfast.errors import Unreadable
from tests.sim.history import Answered, BodyBegan, Committed, History, LifeEnded, Refused, Seen
from tests.sim.workloads import EDITED, UNDOING
from tests.sim.world import World


@dataclass
class Durable:
    """What the commits say of one invocation: commit numbers, from 1."""

    n: int
    id: str
    target: str
    started: int
    entries: list[tuple[int, Entry | None]] = field(default_factory=list)  # (commit, entry), by seq; None: unreadable
    ends: list[tuple[int, Status]] = field(default_factory=list)

    def recorded(self) -> dict[str, int]:
        """Commit of each step's record."""
        return {e.step: commit for commit, e in self.entries if isinstance(e, (StepCompleted, StepErrored))}


class Ledger:
    """The commits of a history, by invocation and promise."""

    def __init__(self, history: History) -> None:
        self.by_n: dict[int, Durable] = {}
        self.by_id: dict[str, Durable] = {}
        self.settled: dict[str, int] = {}
        self.gaps: list[str] = []
        for number, event in enumerate(history.of(Committed), 1):
            self._read(number, event)

    def _read(self, number: int, event: Committed) -> None:
        batch = event.batch
        for row in batch.starts:
            self.by_n[row.n] = self.by_id[row.id] = Durable(row.n, row.id, row.target, number)
            if Status(row.status).ended:
                self.by_n[row.n].ends.append((number, Status(row.status)))
        for entry in batch.entries:
            journal = self.by_n[entry.n].entries
            if entry.seq != len(journal):
                self.gaps.append(f"{self.by_n[entry.n].id} has entry {entry.seq} after {len(journal) - 1}")
            journal.append((number, _decode(entry.body)))
        for move in batch.moves:
            if Status(move.status).ended:
                self.by_n[move.n].ends.append((number, Status(move.status)))
        for settle in batch.settles:
            if settle.status in (1, 2):
                self.settled.setdefault(settle.id, number)


def inspect(world: World) -> None:
    """Adds every breach to the history."""
    ledger = Ledger(world.history)
    for promise in (starts, records_are_final, one_path, no_gaps, nothing_changes, clean_up, neighbours, dead_stores):
        promise(world, ledger)


def starts(world: World, ledger: Ledger) -> None:
    """G1: what was acknowledged is durable at that moment, and is there at the end."""
    for answer in world.history.of(Answered):
        if answer.call == "start":
            durable = ledger.by_id.get(answer.id)
            if durable is None or durable.started > answer.commits:
                world.broken("G1", f"the start of {answer.id} was acknowledged before it was durable")
            if answer.id not in _ids(world):
                world.broken("G1", f"the start of {answer.id} was acknowledged, and it is not there")
        elif answer.call == "settle" and ledger.settled.get(answer.id, 1 << 60) > answer.commits:
            world.broken("G1", f"the settlement of {answer.id} was acknowledged before it was durable")
    for seen in world.history.of(Seen):
        durable = ledger.by_id[seen.id]
        if seen.kind != "paused" and not any(commit <= seen.commits for commit, _ in durable.ends):
            world.broken("G1", f"the end of {seen.id} was told before it was durable")


def records_are_final(world: World, ledger: Ledger) -> None:
    """G2: a recorded step never runs again, and none before what led to it is durable; one key for all attempts."""
    asked_in = _asked_in(world)
    keys: dict[tuple[str, str], str] = {}
    for body in world.history.of(BodyBegan):
        durable = ledger.by_id.get(body.id)
        if durable is None or durable.started > body.commits:
            world.broken("G2", f"a body of {body.id} began before its start was durable")
            continue
        if durable.recorded().get(body.step, 1 << 60) <= body.commits and body.id not in world.rotten:
            world.broken("G2", f"{body.id} {body.step} is recorded, and its body ran again")
        cause = asked_in.get((body.life, body.id, body.step), 0)
        if cause and (len(durable.entries) < cause or durable.entries[cause - 1][0] > body.commits):
            world.broken("G2", f"{body.id} {body.step} began before what led to it was durable")
        if keys.setdefault((body.id, body.step), body.key) != body.key:
            world.broken("G2", f"{body.id} {body.step} has two idempotency keys")
    if len(set(keys.values())) != len(keys):
        world.broken("G2", "two steps share an idempotency key")


def one_path(world: World, _: Ledger) -> None:
    """G3: every machine of an invocation takes the path of the others; nobody is paused for a mismatch."""
    paths: dict[str, list[tuple[str, list[str]]]] = {}
    for lived in world.machines:
        machine = lived.machine
        if machine.id in world.rotten or lived.edit:
            continue
        for segment in machine.path:
            if segment.wrong and not _is_edited(world, machine.id):
                world.broken("G5" if "fired" in segment.wrong else "G3", f"{machine.id}: {segment.wrong}")
        if _is_edited(world, machine.id):
            continue
        path = [(repr(segment.entry), segment.commands) for segment in machine.path]
        known = paths.setdefault(machine.id, path)
        for earlier, later in zip(known[:-1], path[:-1], strict=False):  # the last one may have been cut short
            if earlier != later:
                world.broken("G3", f"{machine.id} took {later} where it had taken {earlier}")
                break
        if len(path) > len(known):
            paths[machine.id] = path
    for seen in world.history.of(Seen):
        excused = seen.id in world.rotten or _is_edited(world, seen.id)
        if seen.kind == "paused" and "[HF303]" in seen.value and not excused:
            world.broken("G3", f"{seen.id} was paused for a mismatch: {seen.value}")


def no_gaps(world: World, ledger: Ledger) -> None:
    """G4: one writer: journals have no gaps and no branches, and end once."""
    for gap in ledger.gaps:
        world.broken("G4", gap)
    for durable in ledger.by_n.values():
        if len(durable.ends) > 1:
            world.broken("G4", f"{durable.id} ended {len(durable.ends)} times")
        if durable.ends and any(commit > durable.ends[0][0] for commit, _ in durable.entries):
            world.broken("G4", f"{durable.id} went on after its end")


def nothing_changes(world: World, ledger: Ledger) -> None:
    """G6: an end, once seen, and a settlement, once acknowledged, never change; what is delivered is what was said."""
    ends: dict[str, tuple[str, str]] = {}
    for seen in world.history.of(Seen):
        end = (seen.kind, seen.value)
        if seen.kind != "paused" and seen.id not in world.rotten and ends.setdefault(seen.id, end) != end:
            world.broken("G6", f"{seen.id} ended as {ends[seen.id]} and then as {end}")
    said: dict[str, tuple[object, int]] = {}
    for answer in world.history.of(Answered):
        if answer.call != "settle":
            continue
        if answer.id in said and answer.commits >= said[answer.id][1]:
            world.broken("G6", f"promise {answer.id} was settled twice: {said[answer.id][0]} and {answer.value}")
        said.setdefault(answer.id, (answer.value, answer.commits))
    delivered: dict[int, int] = defaultdict(int)
    for durable in ledger.by_n.values():
        delivered[durable.n] = sum(isinstance(entry, PromiseSettled) for _, entry in durable.entries)
    for promise in world.memory._promises.values():
        row = world.memory._invocations[promise.n]
        if promise.status in (1, 2) and row.id not in world.rotten and Status(row.status) is Status.DONE:
            delivered[promise.n] -= 1
            if delivered[promise.n] < 0:
                world.broken("G6", f"{row.id} is done, and a settled promise of it was never delivered")


def clean_up(world: World, ledger: Ledger) -> None:
    """G7: whatever ended early has undone what it had done."""
    for durable in ledger.by_n.values():
        if durable.target != UNDOING or durable.id in world.rotten:
            continue
        steps = [e.step for _, e in durable.entries if isinstance(e, StepCompleted)]
        status = durable.ends[0][1] if durable.ends else None
        booked = {step.partition("#")[0][5:] for step in steps if step.startswith("book_")}
        undone = {step.partition("#")[0][7:] for step in steps if step.startswith("cancel_")}
        if status is Status.CANCELLED and booked - undone:
            world.broken("G7", f"{durable.id} was cancelled and has not undone {sorted(booked - undone)}")


def neighbours(world: World, _: Ledger) -> None:
    """G10: only the damaged one stops for its damage."""
    for seen in world.history.of(Seen):
        if seen.kind == "paused" and "[HF203]" in seen.value and seen.id not in world.rotten:
            world.broken("G10", f"{seen.id} was paused, and nothing of it was damaged: {seen.value}")


def dead_stores(world: World, _: Ledger) -> None:
    """G11: after a commit that failed for good, its life acknowledges nothing, commits nothing and begins nothing."""
    dead: set[int] = set()
    over: set[int] = set()
    for event in world.history.events:
        if isinstance(event, Refused) and event.code != "HF401":
            dead.add(event.life)
        elif isinstance(event, LifeEnded):
            over.add(event.life)  # what the disk then makes of the last batch is its own affair
        elif event.life in dead and event.life not in over and isinstance(event, (Answered, BodyBegan, Committed)):
            world.broken("G11", f"after the failed commit: {event!r:.300}")


def _asked_in(world: World) -> dict[tuple[int, str, str], int]:
    """Of each step of each life: the number of entries after which it was asked for."""
    found: dict[tuple[int, str, str], int] = {}
    for lived in world.machines:
        for count, segment in enumerate(lived.machine.path):
            for command in segment.commands:
                what, _, step = command.partition(" ")
                if what == "ask":
                    found.setdefault((lived.life, lived.machine.id, step), count)
    return found


def _is_edited(world: World, id: str) -> bool:
    return _ids(world).get(id) == EDITED


def _ids(world: World) -> dict[str, str]:
    return {row.id: row.target for row in world.memory._invocations.values()}


def _decode(body: bytes) -> Entry | None:
    try:
        return records.decode_entry(body)
    except Unreadable:
        return None
