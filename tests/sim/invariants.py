"""The promises G1 to G11, as functions over a world's history: what clients were told, what bodies did, what the store
holds at the end, and a replay of every journal. G12 is read from the source: tests/tidy/test_calls.py.

Each check is named after its promise and knows nothing of the engine's insides, with two exceptions that must look in
from time to time: G9 (world.py samples the engine's memory) and the machines' paths for G3 (world.py, `Watched`).

Not there yet, and not checked: object keys and calls between handlers (the other half of G4), children (of G7).
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from holdfast.core import entries as records
from holdfast.core.commands import EndCancelled, Raise, Return
from holdfast.core.invocation import Status
from holdfast.core.payload import unpack
from holdfast.engine.effects import describe
from holdfast.engine.starts import split_headers
from holdfast.errors import HandlerFault, HoldfastError
from holdfast.objects import context_of
from holdfast.steps import plan_thread
from holdfast.stores.base import InvocationRow
from tests.sim.history import (
    Answered,
    BodyBegan,
    BodyEnded,
    Committed,
    LifeBegan,
    LifeEnded,
    LifeStops,
    Refused,
    Seen,
)  # fmt: skip
from tests.sim.loop import HOP_SECONDS_MAX
from tests.sim.workloads import EDITED, UNDOING
from tests.sim.world import Lived, Segment, Watched, World

LATE_MS = 3_000  # of a timer when nothing is in its way: commits that hold the loop, a turn or two
NEWS_SECONDS = 2 * HOP_SECONDS_MAX  # from the writer thread to the loop
CLEANUP_SECONDS = 3.0  # a stubborn body goes on for one at most

# Why an invocation may be paused: a body that fails, damaged bytes. Others are looked at by name.
PAUSE_CODES = {"HF502", "HF203", "HF201"}


@dataclass
class Replayed:
    """A journal, replayed by a machine that nothing else touches."""

    path: list[Segment] = field(default_factory=list)
    wrong: str = ""
    end: Any = None  # the command it ended with
    deadline: int | None = None  # of the timer it waits for


@dataclass
class Facts:
    """Of one invocation: its row at the end, and when what became durable."""

    row: InvocationRow
    started: int = 0  # commit
    entries: list[Any] = field(default_factory=list)  # (commit, decoded entry or None, commit's event)
    moves: list[Any] = field(default_factory=list)  # (commit, MoveRow, commit's event)
    ended: int | None = None  # commit
    paused: bool = False  # ever
    replayed: Replayed | None = None
    edit: str = ""  # the code that explains the journal

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def steps(self) -> list[tuple[tuple[int, Any, Committed], Segment]]:
        """Each completion, and where the replay stood with it."""
        assert self.replayed is not None
        completions = [record for record in self.entries if not isinstance(record[1], records.NOTES)]
        return list(zip(completions, self.replayed.path[1:], strict=False))


class Inspection:
    """All checks of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = world.history
        self.broken = world.broken
        self.lives: list[LifeBegan] = self.history.of(LifeBegan)
        self.ends: list[LifeEnded] = self.history.of(LifeEnded)
        self.facts: dict[int, Facts] = {n: Facts(row) for n, row in world.memory._invocations.items()}
        self.by_id = {facts.id: facts for facts in self.facts.values()}
        self.settles: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        self.events: list[Committed] = self.history.of(Committed)

    def run(self) -> None:
        """Every check, in order; the later ones use what the earlier ones read."""
        store = self.world.memory
        if strays := (store._entries.keys() | {row.n for row in store._promises.values()}) - self.facts.keys():
            self.broken("G4", f"rows of invocations that were never started: {sorted(strays)}")
            return
        self.read_commits()
        self.replay_all()
        for check in TWIN_CHECKS if self.world.options.twins else CHECKS:
            check(self)

    def read_commits(self) -> None:
        for number, event in enumerate(self.events, 1):
            batch = event.batch
            for start in batch.starts:
                self._start(number, start)
            for row in batch.entries:
                self._entry(number, row, event)
            for move in batch.moves:
                self._move(number, move, event)
            for settle in batch.settles:
                self.settles[settle.id].append((number, settle))

    def _start(self, number: int, start: InvocationRow) -> None:
        facts = self.facts[start.n]
        if facts.started:
            self.broken("G6", f"{start.id} was started twice")
        facts.started = number
        if Status(start.status).ended:
            facts.ended = number
        facts.paused = start.status == Status.PAUSED

    def _entry(self, number: int, row: Any, event: Committed) -> None:
        facts = self.facts[row.n]
        if row.seq != len(facts.entries):
            self.broken("G4", f"{facts.id}: entry {row.seq} was written when there were {len(facts.entries)}")
        if facts.ended is not None and facts.ended < number:
            self.broken("G6", f"{facts.id}: an entry was written after its end")
        facts.entries.append((number, records.decode_entry(row.body), event))

    def _move(self, number: int, move: Any, event: Committed) -> None:
        facts = self.facts[move.n]
        if facts.ended is not None and self.sound(facts):
            self.broken("G6", f"{facts.id} was moved to {Status(move.status).name} after its end")
        facts.moves.append((number, move, event))
        if Status(move.status).ended:
            facts.ended = number
        facts.paused |= move.status == Status.PAUSED

    def sound(self, facts: Facts) -> bool:
        """Whether none of its bytes was damaged."""
        return facts.id not in self.world.rotten

    def fine(self) -> list[Facts]:
        return [facts for facts in self.facts.values() if self.sound(facts)]

    def known(self, id: str) -> Facts | None:
        """The facts of a sound invocation."""
        facts = self.by_id.get(id)
        return facts if facts is not None and self.sound(facts) else None

    def replay_all(self) -> None:
        for facts in self.fine():
            if facts.row.began is None:  # its handler was never called
                facts.replayed = Replayed()
                continue
            edits = [""] if facts.row.target != EDITED else ["", "argument", "name", "fewer"]
            for edit in edits:
                facts.replayed, facts.edit = self.replay(facts, edit), edit
                if not facts.replayed.wrong and not self.end_differs(facts):
                    break

    def replay(self, facts: Facts, edit: str) -> Replayed:
        """The journal again, through a machine of its own, from the stored bytes."""
        row, store = facts.row, self.world.memory
        handler = self.world.registry.find(row.target)
        read = functools.partial(unpack, fetch=lambda first, last: store.blobs(row.n, first, last))
        life = SimpleNamespace(edit=edit, told=lambda it, promise, what: self.broken(promise, f"{it}: {what}"))
        found = Replayed()
        machine = Watched(row.id, created=row.began or row.created, seed=row.seed, read=read, plan_thread=plan_thread)
        try:
            journal = [records.decode_entry(body) for body in store.entries(row.n)]
            text, headers = split_headers(read(row.input))
            args, kwargs = handler.arguments.decode(text)
            machine.recall(journal)
            context = context_of(machine, {"life": life}, self.world.registry, headers, handler, row.key)
            machine.begin(handler.fn, context, *args, **kwargs)
            for entry in journal:
                if isinstance(entry, records.NOTES):
                    continue
                if machine.ended:
                    found.wrong = f"the handler ended, and the journal goes on with {entry}"
                    break
                machine._apply(entry, LIVE)
                if machine.path[-1].wrong:
                    break
            found.end = next((c for c in machine.take_commands() if isinstance(c, (Return, Raise, EndCancelled))), None)
        except (HandlerFault, HoldfastError, KeyError) as error:
            found.wrong = f"{type(error).__name__}: {error}"
        found.path = list(machine.path)
        found.deadline = None if machine.ended else machine.next_deadline()
        found.wrong = next((s.wrong for s in found.path if s.wrong), found.wrong)
        machine.evict()
        return found

    def end_differs(self, facts: Facts) -> str:
        """How the stored outcome is not what the journal leads to; nothing if it is."""
        row, end = facts.row, facts.replayed.end if facts.replayed is not None else None
        status = Status(row.status)
        if not status.ended:
            return ""
        outcome = records.decode_outcome(row.outcome or b"")
        if row.began is None:
            return "" if isinstance(outcome, records.Cancelled) else f"it is {status.name}, and never began"
        match end:
            case Return(value) if isinstance(outcome, records.Returned):
                text = self.world.registry.find(row.target).returns.encode_checked(value)[0]
                stored = unpack(outcome.value, lambda first, last: self.world.memory.blobs(row.n, first, last))
                return "" if text == stored else f"{stored[:80]!r} is stored, the journal leads to {text[:80]!r}"
            case Raise(error) if isinstance(outcome, records.Raised):
                again = describe(error)
                same = (again.type, again.message) == (outcome.failure.type, outcome.failure.message)
                return "" if same else f"{outcome.failure.message!r} is stored, the journal leads to {again.message!r}"
            case EndCancelled() if isinstance(outcome, records.Cancelled):
                return ""
        return f"it is {status.name}, and the journal leads to {end}"


# The value that makes a machine decode the entry's own payload, whatever module it lives in.
LIVE = Watched.receive.__defaults__[0]  # type: ignore[index]


def g1_acknowledged_starts_are_durable(look: Inspection) -> None:
    for answer in look.history.of(Answered):
        if answer.call == "start":
            facts = look.by_id.get(answer.id)
            if facts is None or not 0 < facts.started <= answer.commits:
                look.broken(
                    "G1", f"the start of {answer.id} was acknowledged at commit {answer.commits}, and was not there"
                )


def g1_what_was_started_is_what_was_asked(look: Inspection) -> None:
    for answer in look.history.of(Answered):
        facts = look.known(answer.id) if answer.call == "start" else None
        if facts is not None and facts.row.target != answer.value[0]:
            look.broken("G1", f"{answer.id} was started as {answer.value[0]} and is {facts.row.target}")


def g2_a_recorded_step_never_runs_again(look: Inspection) -> None:
    recorded: dict[tuple[str, str], int] = {}
    for facts in look.fine():
        for number, entry, _ in facts.entries:
            if isinstance(entry, (records.StepCompleted, records.StepErrored)):
                recorded.setdefault((facts.id, entry.step), number)
    for began in look.history.of(BodyBegan):
        number = recorded.get((began.id, began.step))
        if number is not None and number <= began.commits:
            look.broken("G2", f"{began.id} {began.step} ran in life {began.life}, though recorded by commit {number}")


def g2_one_key_for_all_attempts(look: Inspection) -> None:
    keys: dict[tuple[str, str], str] = {}
    steps: dict[str, tuple[str, str]] = {}
    for began in look.history.of(BodyBegan):
        step = (began.id, began.step)
        if keys.setdefault(step, began.key) != began.key:
            look.broken("G2", f"{began.id} {began.step} ran with two idempotency keys")
        if steps.setdefault(began.key, step) != step:
            look.broken("G2", f"{step} and {steps[began.key]} share an idempotency key")


def g3_every_journal_replays_to_its_end(look: Inspection) -> None:
    for facts in look.fine():
        assert facts.replayed is not None
        if facts.replayed.wrong:
            look.broken("G3", f"{facts.id} does not replay: {facts.replayed.wrong}")
        elif differs := look.end_differs(facts):
            look.broken("G3", f"{facts.id}: {differs}")


def g3_no_life_took_another_path(look: Inspection) -> None:
    for lived in look.world.machines:
        facts = look.known(lived.machine.id)
        if facts is None or facts.replayed is None or facts.replayed.wrong or lived.edit != facts.edit:
            continue
        died = lived.machine.fate == "died"
        if lived.machine.seed != facts.row.seed:  # of a start that came to nothing and was made again
            differs = "" if died else "it was never recorded"
        else:
            differs = _differs(lived, facts.replayed.path, excused=died)
        if differs:
            look.broken("G3", f"{facts.id} in life {lived.life}: {differs}")


def _differs(lived: Lived, path: list[Segment], *, excused: bool) -> str:
    for index, segment in enumerate(lived.machine.path):
        if index == len(path) or segment.entry != path[index].entry:
            # A process that died may have gone on with what it could not record any more.
            recorded = "nothing" if index == len(path) else path[index].entry
            return "" if excused else f"its handler was given {segment.entry}, the journal has {recorded}"
        if segment.commands != path[index].commands:
            return f"after {segment.entry} it asked for {segment.commands}, a replay asks for {path[index].commands}"
    return ""


def g3_pauses_for_a_mismatch_have_a_cause(look: Inspection) -> None:
    for facts in look.fine():
        for _, move, event in facts.moves:
            if move.status == Status.PAUSED:
                paused = records.decode_outcome(move.outcome)
                if paused.code == "HF303" and facts.row.target != EDITED:
                    look.broken("G3", f"{facts.id} in life {event.life}: {paused.reason.partition(chr(10))[0]}")


def g4_no_two_bodies_of_a_step_at_once(look: Inspection) -> None:
    running: dict[tuple[str, str], int] = {}
    for event in look.history.events:
        match event:
            case BodyBegan():
                attempt = running.get((event.id, event.step))
                if attempt is not None and attempt >= event.attempt:
                    look.broken("G4", f"{event.id} {event.step} ran twice at once in life {event.life}")
                running[event.id, event.step] = event.attempt
            case BodyEnded():
                if running.get((event.id, event.step)) == event.attempt:
                    del running[event.id, event.step]
            case LifeEnded():
                running.clear()


def g4_the_store_refused_nothing_of_its_own(look: Inspection) -> None:
    for refused in look.history.of(Refused):
        if "sync failed" not in refused.what and "disk is full" not in refused.what:
            look.broken("G4", f"life {refused.life}: {refused.what}")


def g5_timers_are_never_early(look: Inspection) -> None:
    for facts in look.fine():
        assert facts.replayed is not None
        for (_, entry, event), segment in facts.steps:
            if isinstance(entry, records.TimerFired) and event.wall < (segment.deadline or 0):
                look.broken("G5", f"{facts.id} {entry.timer} was due at {segment.deadline}, and fired at {event.wall}")


def g5_timers_are_not_late(look: Inspection) -> None:
    """Where nothing is in their way: room for all, no pause, a wall clock that runs."""
    options = look.world.options
    if options.pressed or options.small or options.clock_steps:
        return
    begun = {life.life: life.wall for life in look.lives}
    stops = {stop.life: stop.at for stop in look.history.of(LifeStops)}
    for facts in look.fine():
        assert facts.replayed is not None
        if facts.paused or facts.row.target == EDITED:
            continue
        for (_, entry, event), segment in facts.steps:
            if segment.deadline is None or event.at >= stops.get(event.life, event.at + 1):
                continue
            expected = max(segment.deadline, begun[event.life]) + LATE_MS
            if entry.at > expected:
                look.broken("G5", f"{facts.id}: a timer was due at {segment.deadline}, and at {entry.at} came {entry}")


def g5_timers_fire_if_anyone_lives(look: Inspection) -> None:
    for facts in look.fine():
        assert facts.replayed is not None
        status, deadline = Status(facts.row.status), facts.replayed.deadline
        if not status.ended and status is not Status.PAUSED and deadline and deadline < look.world.time.wall_max:
            look.broken("G5", f"{facts.id} is {status.name} when all is over, and its timer was due at {deadline}")


def g6_what_was_seen_never_changes(look: Inspection) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for sight in look.history.of(Seen):
        facts = look.known(sight.id)
        if facts is None or sight.kind == "paused":
            continue
        if seen.setdefault(sight.id, (sight.kind, sight.value)) != (sight.kind, sight.value):
            look.broken("G6", f"{sight.id} was seen {seen[sight.id]}, then {sight.kind} {sight.value}")
        if facts.ended is None or facts.ended > sight.commits:
            look.broken("G6", f"{sight.id} was seen {sight.kind} before that was durable")


def g6_settled_promises_never_change(look: Inspection) -> None:
    told: dict[str, Any] = {}
    for answer in look.history.of(Answered):
        if answer.call != "settle":
            continue
        row = look.world.memory._promises[answer.id]
        facts = look.facts[row.n]
        if not look.sound(facts):
            continue
        if told.setdefault(answer.id, answer.value) != answer.value or _times(look, answer) > 1:
            look.broken("G6", f"{answer.id} of {facts.id} was settled twice: {told[answer.id]}, {answer.value}")
        if not any(number <= answer.commits for number, _ in look.settles[answer.id]):
            look.broken("G1", f"the settlement of {answer.id} was acknowledged before it was durable")
        _delivered(look, facts, answer, row)


def _times(look: Inspection, answer: Answered) -> int:
    return sum(1 for other in look.history.of(Answered) if other.call == "settle" and other.id == answer.id)


def _delivered(look: Inspection, facts: Facts, answer: Answered, row: Any) -> None:
    kind, value = answer.value
    text = records.decode_info(row.about)
    written = f'"{value}"' if isinstance(value, str) else repr(value).lower()
    wanted = (b"\0" + written.encode(), kind == "resolved")
    got = [
        (entry.value, entry.ok)
        for _, entry, _ in facts.entries
        if isinstance(entry, records.PromiseSettled) and entry.promise == text.step
    ]
    if (row.value, row.status == 1) != wanted:
        look.broken("G6", f"{answer.id} of {facts.id} was settled {answer.value} and holds {row.value}")
    if got != [wanted] and Status(facts.row.status).ended:
        look.broken("G6", f"{facts.id} {text.step} was settled {answer.value}, its handler was given {got}")


def g6_withdrawn_is_withdrawn(look: Inspection) -> None:
    for id, settles in look.settles.items():
        if len(settles) > 1:
            look.broken("G6", f"promise {id} was settled by commits {[number for number, _ in settles]}")


def g6_nobody_is_asked_for_the_dead(look: Inspection) -> None:
    for promise in look.world.memory._promises.values():
        facts = look.facts[promise.n]
        if promise.status == 0 and Status(facts.row.status).ended and look.sound(facts):
            look.broken("G6", f"{facts.id} has ended, and its promise {promise.id} is still open")


def g7_cancelled_invocations_end(look: Inspection) -> None:
    for answer in look.history.of(Answered):
        facts = look.known(answer.id) if answer.call == "cancel" else None
        if facts is None or (facts.row.began is None and facts.ended is not None and facts.ended <= answer.commits):
            continue
        asked = [number for number, entry, _ in facts.entries if isinstance(entry, records.CancelRequested)]
        if not asked or asked[0] > answer.commits:
            look.broken("G7", f"the cancel of {facts.id} was acknowledged and is not in its journal")


def g7_compensation_runs(look: Inspection) -> None:
    for facts in look.fine():
        if facts.row.target != UNDOING or facts.row.status not in {Status.CANCELLED, Status.FAILED}:
            continue
        done, gave_up, undoing = set(), False, False
        assert facts.replayed is not None
        for (_, entry, _), segment in facts.steps:
            if isinstance(entry, records.StepCompleted):
                done.add(entry.step.partition("#")[0])
            elif isinstance(entry, records.StepErrored):
                gave_up |= entry.step.startswith("cancel_")  # an undoing that fails ends the undoing
            elif isinstance(entry, records.CancelRequested):
                gave_up |= undoing  # as in asyncio: what already undid a failure is itself broken off
            undoing |= any(command.startswith("ask cancel_") for command in segment.commands)
        for number in range(10):
            if f"book_{number}" in done and f"cancel_{number}" not in done and not gave_up:
                look.broken("G7", f"{facts.id} ended {Status(facts.row.status).name}, and book_{number} was not undone")


def g7_no_body_outlives_its_invocation(look: Inspection) -> None:
    ends: dict[str, float] = {}
    running: dict[tuple[str, str, int], float] = {}
    for event in look.history.events:
        overdue = [key for key in running if event.at > ends.get(key[0], 1e12) + CLEANUP_SECONDS]
        for key in overdue:
            look.broken("G7", f"the body of {key} runs on, {CLEANUP_SECONDS} s after the end of its invocation")
            del running[key]
        match event:
            case Committed():
                for row in (*event.batch.starts, *event.batch.moves):
                    if Status(row.status).ended:
                        ends.setdefault(look.facts[row.n].id, event.at)
            case BodyBegan():
                running[event.id, event.step, event.attempt] = event.at
            case BodyEnded():
                running.pop((event.id, event.step, event.attempt), None)
            case LifeEnded():
                running.clear()


def g8_nothing_waits_for_ever(look: Inspection) -> None:
    for facts in look.fine():
        status = Status(facts.row.status)
        if not status.ended and status is not Status.PAUSED:
            look.broken("G8", f"{facts.id} is {status.name} when all is over")
        if status is Status.PAUSED:
            _reason_of(look, facts)
    if look.ends and look.ends[-1].how != "stopped":
        look.broken("G8", f"the calm life {look.ends[-1].how}")


def _reason_of(look: Inspection, facts: Facts) -> None:
    paused = records.decode_outcome(facts.row.outcome or b"")
    fits = isinstance(paused, records.Paused) and paused.reason
    if not fits or (paused.code != "HF303" or facts.row.target != EDITED):
        look.broken("G8", f"{facts.id} is still paused after all resumes: {paused}")


def g8_pauses_say_why(look: Inspection) -> None:
    for facts in look.fine():
        target = facts.row.target
        for _, move, event in facts.moves:
            if move.status != Status.PAUSED:
                continue
            paused = records.decode_outcome(move.outcome)
            known = paused.code in PAUSE_CODES
            known |= paused.code == "HF303" and target == EDITED
            known |= paused.code == "HF101" and target == look.lives[event.life].missing
            if not paused.reason or not known:
                look.broken("G8", f"{facts.id} was paused: {paused.code} {paused.reason[:300]}")


def g9_bodies_are_bounded(look: Inspection) -> None:
    most = look.world.options.bounds().bodies
    for began in look.history.of(BodyBegan):
        if began.running > most:
            look.broken("G9", f"{began.running} bodies ran at once, at most {most} may")


def g10_damage_stops_one_only(look: Inspection) -> None:
    for facts in look.fine():
        for _, move, event in facts.moves:
            if move.status == Status.PAUSED and records.decode_outcome(move.outcome).code == "HF203":
                look.broken(
                    "G10", f"{facts.id} was paused as unreadable in life {event.life}, and nothing of it was damaged"
                )


def g11_bodies_start_after_their_commit(look: Inspection) -> None:
    for began in look.history.of(BodyBegan):
        facts = look.known(began.id)
        if facts is None or facts.replayed is None or facts.replayed.wrong or facts.row.target == EDITED:
            continue
        durable = sum(1 for (number, _, _), _ in facts.steps if number <= began.commits)
        asked = next((i for i, s in enumerate(facts.replayed.path) if f"ask {began.step}" in s.commands), None)
        if asked is None or asked > durable or not 0 < facts.started <= began.commits:
            look.broken(
                "G11",
                f"the body of {began.id} {began.step} began with {durable} entries durable, asked for after {asked}",
            )


def g11_nothing_after_a_failed_sync(look: Inspection) -> None:
    failed: Refused | None = None
    for event in look.history.events:
        match event:
            case Refused() if event.code != "HF401":
                failed = event
            case LifeEnded():
                failed = None
            case BodyBegan(late=False) if failed is not None and event.at < failed.at + NEWS_SECONDS:
                continue  # asked for by an earlier commit, and the loop has not heard of this one yet
            case Answered() | Seen() | BodyBegan() if failed is not None:
                look.broken("G11", f"after the failed sync in life {failed.life} came {event}")


CHECKS: list[Callable[[Inspection], None]] = [
    g1_acknowledged_starts_are_durable, g1_what_was_started_is_what_was_asked,
    g2_a_recorded_step_never_runs_again, g2_one_key_for_all_attempts,
    g3_every_journal_replays_to_its_end, g3_no_life_took_another_path, g3_pauses_for_a_mismatch_have_a_cause,
    g4_no_two_bodies_of_a_step_at_once, g4_the_store_refused_nothing_of_its_own,
    g5_timers_are_never_early, g5_timers_are_not_late, g5_timers_fire_if_anyone_lives,
    g6_what_was_seen_never_changes, g6_settled_promises_never_change, g6_withdrawn_is_withdrawn,
    g6_nobody_is_asked_for_the_dead,
    g7_cancelled_invocations_end, g7_compensation_runs, g7_no_body_outlives_its_invocation,
    g8_nothing_waits_for_ever, g8_pauses_say_why,
    g9_bodies_are_bounded,
    g10_damage_stops_one_only,
    g11_bodies_start_after_their_commit, g11_nothing_after_a_failed_sync,
]  # fmt: skip

# What the fence alone keeps, when the lock does not and two engines are at one store: journals of one line.
TWIN_CHECKS = [g3_every_journal_replays_to_its_end, g6_what_was_seen_never_changes, g8_nothing_waits_for_ever]


def inspect(world: World) -> None:
    """Runs every check over a world whose last life is over."""
    world.memory.open()
    try:
        Inspection(world).run()
    finally:
        world.memory.close()
