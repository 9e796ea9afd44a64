"""The promises G1 to G11, as functions over a world's history: what clients were told, what bodies did, what the store
holds at the end, and a replay of every journal. Here are those of one invocation, in invariants_between.py those of
several. G12 is read from the source: tests/tidy/test_calls.py.

Each check is named after its promise and knows nothing of the engine's insides, with two exceptions that must look in
from time to time: G9 (world.py samples the engine's memory) and the machines' paths for G3 (watched.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from holdfast.core import entries as records
from holdfast.core.invocation import Status
from holdfast.errors import HandlerMissing
from tests.sim import invariants_between, invariants_once
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
from tests.sim.ledger import FOREVER, Facts, Ledger, Record, Version, owner_of
from tests.sim.loop import HOP_SECONDS_MAX
from tests.sim.revised import EDITED
from tests.sim.watched import Segment
from tests.sim.workloads import UNDOING
from tests.sim.world import Lived, World

LATE_MS = 3_000  # of a timer when nothing is in its way: commits that hold the loop, a turn or two
NEWS_SECONDS = 2 * HOP_SECONDS_MAX  # from the writer thread to the loop
CLEANUP_SECONDS = 3.0  # a stubborn body goes on for one at most

# Why an invocation may be paused: a body that fails, damaged bytes, a person. Others are looked at by name.
PAUSE_CODES = {"HF502", "HF203", "HF201", "HF505"}


class Inspection(Ledger):
    """All checks of one world."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.history = world.history
        self.lives: list[LifeBegan] = self.history.of(LifeBegan)
        self.ends: list[LifeEnded] = self.history.of(LifeEnded)

    def run(self) -> None:
        """Every check, in order; the later ones use what the earlier ones read."""
        self.replay_all()
        every = [*CHECKS, *invariants_between.CHECKS, *invariants_once.CHECKS]
        for check in TWIN_CHECKS if self.world.options.twins else every:
            self.history.checking = check.__name__
            check(self)


def g1_acknowledged_starts_are_durable(look: Inspection) -> None:
    for answer in look.history.of(Answered):
        there = any(facts.started <= answer.commits for facts in look.of_id.get(answer.id, []))
        if answer.call == "start" and not there:
            look.broken("G1", f"{answer.id} was acknowledged at commit {answer.commits}, and was not there")


def g1_what_was_started_is_what_was_asked(look: Inspection) -> None:
    for answer in look.history.of(Answered):
        facts = look.known(answer.id, answer.commits) if answer.call == "start" else None
        if facts is not None and facts.row.target != answer.value[0]:
            look.broken("G1", f"{answer.id} was started as {answer.value[0]} and is {facts.row.target}")


def g2_a_recorded_step_never_runs_again(look: Inspection) -> None:
    recorded: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)  # from commit to commit
    for facts in look.fine():
        for version in facts.versions:
            for record in version.records:
                if isinstance(record.entry, (records.StepCompleted, records.StepErrored, records.StepUnknown)):
                    until = min(facts.removed(record) or FOREVER, facts.purged or FOREVER)
                    recorded[facts.id, record.entry.step].append((record.commit, until))
    for began in look.history.of(BodyBegan):
        for number, until in recorded.get((began.id, began.step), ()):
            if number <= began.commits < until:
                look.broken(
                    "G2", f"{began.id} {began.step} ran in life {began.life}, though recorded by commit {number}"
                )


def g2_one_key_for_all_attempts(look: Inspection) -> None:
    keys: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    steps: dict[str, tuple[str, str, int]] = {}
    for began in look.history.of(BodyBegan):
        epoch = sum(1 for facts in look.of_id[began.id] if facts.purged is not None and facts.purged <= began.commits)
        step = (began.id, began.step, epoch)
        keys[step].add(began.key)
        # A step of the clean-up that a retry has dropped, and one of its name that was asked for since, are two.
        if len(keys[step]) > 1 + max((len(facts.reopened) for facts in look.of_id[began.id]), default=0):
            look.broken("G2", f"{began.id} {began.step} ran with two idempotency keys")
        if steps.setdefault(began.key, step) != step:
            look.broken("G2", f"{step} and {steps[began.key]} share an idempotency key")


def g3_every_journal_replays_to_its_end(look: Inspection) -> None:
    for facts in look.fine():
        if facts.lost:
            continue
        if facts.replayed.wrong:
            look.broken("G3", f"{facts.id} does not replay: {facts.replayed.wrong}")
        elif differs := look.end_differs(facts):
            look.broken("G3", f"{facts.id}: {differs}")


def g3_no_life_took_another_path(look: Inspection) -> None:
    ends = {end.life: end.commits for end in look.ends}
    for lived in look.world.machines:
        same = [facts for facts in look.of_id.get(lived.machine.id, []) if facts.row.seed == lived.machine.seed]
        # Of a life without a handler, or one that calls it, the path may end early.
        died = lived.machine.fate == "died" or isinstance(lived.fault, HandlerMissing)
        if not same:  # of a start that came to nothing and was made again
            differs = "" if died or lived.machine.id in look.world.rotten else "it was never recorded"
        else:
            (facts,) = same
            version = facts.at(lived.machine.born_at)
            if not look.sound(facts) or version.replayed.wrong or facts.lost or _other_code(lived, facts):
                continue
            sure = _sure(facts, version, ends.get(lived.life, FOREVER) if died else FOREVER)
            path = version.replayed.path[:sure]
            differs = _differs(lived, path, excused=died or path != version.replayed.path)
        if differs:
            look.broken("G3", f"{lived.machine.id} in life {lived.life}: {differs}")


def _other_code(lived: Lived, facts: Facts) -> bool:
    return facts.row.target in EDITED and lived.edit != facts.edit


def _sure(facts: Facts, version: Version, end: int) -> int:
    """How much of a path every machine must have taken. What one read and could not record, others read anew: at the
    death of its life, and while it was paused, when it sees what comes and does nothing."""
    runs = facts.runs(version)
    if runs is None:
        return 0
    for place, commit in enumerate([runs, *(max(runs, record.commit) for record in version.completions)]):
        if commit > end or (place and facts.status_at(commit) is Status.PAUSED):
            return place
    return len(version.replayed.path)


def _differs(lived: Lived, path: list[Segment], *, excused: bool) -> str:
    for index, segment in enumerate(lived.machine.path):
        if index == len(path) or segment.entry != path[index].entry:
            # A process that died may have gone on with what it could not record any more.
            recorded = "nothing" if index == len(path) else path[index].entry
            return "" if excused else f"its handler was given {segment.entry}, the journal has {recorded}"
        asked = path[index].commands
        if isinstance(lived.fault, HandlerMissing):
            asked = asked[: len(segment.commands)]
        if segment.commands != asked:
            return f"after {segment.entry} it asked for {segment.commands}, a replay asks for {asked}"
    return ""


def g3_pauses_for_a_mismatch_have_a_cause(look: Inspection) -> None:
    for facts in look.fine():
        for moved in facts.moves:
            if moved.status is Status.PAUSED:
                paused = records.decode_outcome(moved.row.outcome or b"")
                if paused.code == "HF303" and not _may_differ(look, facts):
                    look.broken("G3", f"{facts.id} in life {moved.event.life}: {paused.reason.partition(chr(10))[0]}")


def _may_differ(look: Inspection, facts: Facts) -> bool:
    """Whether its code was changed, or what one was given that it has called."""
    called = (child for child in look.facts.values() if child.row.parent == facts.row.n)
    return facts.row.target in EDITED or any(not look.sound(child) for child in called)


def g4_no_two_bodies_of_a_step_at_once(look: Inspection) -> None:
    running: dict[tuple[str, str], int] = {}
    for event in look.history.events:
        match event:
            case BodyBegan():
                attempt = running.get((event.id, event.step))
                # One that is cancelled may go on for a while after the end: a retry does not wait for it, nor who has
                # the id after a purge.
                again = len(look.of_id[event.id]) > 1 or any(facts.reopened for facts in look.of_id[event.id])
                if attempt is not None and attempt >= event.attempt and not again:
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
        for (_, entry, event), segment in facts.steps:
            if isinstance(entry, records.TimerFired) and event.wall < (segment.deadline or 0):
                look.broken("G5", f"{facts.id} {entry.timer} was due at {segment.deadline}, and fired at {event.wall}")


def g5_starts_wait_for_their_time(look: Inspection) -> None:
    prompt = {plan.known for plan in look.world.plans if not plan.delay}
    wanted = {plan.known: plan.delay for plan in look.world.plans if plan.known not in prompt}
    for facts in look.fine():
        row = facts.moves[0].row
        asked = wanted.get(facts.id, 0.0) if facts.row.parent is None and facts.row.origin is None else 0.0
        waits = row.status == Status.QUEUED and row.wake_at is not None
        if asked and facts.row.target != "Sim/chain" and not waits:
            look.broken("G5", f"{facts.id} was to begin in {asked} s, and does not wait")
        if waits and facts.begun is not None and look.events[facts.begun - 1].wall < row.wake_at:
            look.broken("G5", f"{facts.id} was to begin at {row.wake_at}, and began before")


def g5_timers_are_not_late(look: Inspection) -> None:
    """Where nothing is in their way: room for all, no pause, a wall clock that runs."""
    options = look.world.options
    if options.pressed or options.small or options.clock_steps:
        return
    begun = {life.life: life.wall for life in look.lives}
    stops = {stop.life: stop.at for stop in look.history.of(LifeStops)}
    for facts in look.fine():
        # A copy begins with what was in time long ago.
        if facts.paused or facts.row.target in EDITED or facts.row.origin is not None or facts.reopened:
            continue
        for (_, entry, event), segment in facts.steps:
            if segment.deadline is None or event.at >= stops.get(event.life, event.at + 1):
                continue
            if look.lives[event.life].rests:
                continue  # where no timer fires
            expected = max(segment.deadline, begun[event.life]) + LATE_MS
            if entry.at > expected:
                look.broken("G5", f"{facts.id}: a timer was due at {segment.deadline}, and at {entry.at} came {entry}")


def g5_timers_fire_if_anyone_lives(look: Inspection) -> None:
    for facts in look.fine():
        status, deadline = facts.status, facts.replayed.deadline
        if not status.ended and status is not Status.PAUSED and deadline and deadline < look.world.time.wall_max:
            look.broken("G5", f"{facts.id} is {status.name} when all is over, and its timer was due at {deadline}")


def g6_what_was_seen_never_changes(look: Inspection) -> None:
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    for sight in look.history.of(Seen):
        facts = look.known(sight.id, sight.commits)
        if facts is None or sight.kind == "paused":
            continue
        if facts.end_at(sight.commits) is None:
            look.broken("G6", f"{sight.id} was seen {sight.kind} before that was durable")
            continue
        end = facts.row.n, max(number for number, _ in facts.ends if number <= sight.commits)
        if seen.setdefault(end, (sight.kind, sight.value)) != (sight.kind, sight.value):
            look.broken("G6", f"{sight.id} was seen {seen[end]}, then {sight.kind} {sight.value}")


def g6_settled_promises_never_change(look: Inspection) -> None:
    told: dict[str, Any] = {}
    for answer in look.history.of(Answered):
        row = look.promises.get(answer.id) if answer.call == "settle" else None
        if row is None or answer.commits < look.forgotten.get(owner_of(answer.id), 0):
            continue  # deleted since, and perhaps made anew
        if row.n and not look.sound(look.facts[row.n]):
            continue
        if told.setdefault(answer.id, answer.value) != answer.value or _times(look, answer) > 1:
            look.broken("G6", f"{answer.id} was settled twice: {told[answer.id]}, {answer.value}")
        if not any(number <= answer.commits for number, _ in look.settles[answer.id]):
            look.broken("G1", f"the settlement of {answer.id} was acknowledged before it was durable")
        if (row.value, row.status == 1) != _written(answer):
            look.broken("G6", f"{answer.id} was settled {answer.value} and holds {row.value}")
        if row.n:
            _delivered(look, look.facts[row.n], answer, row)


def _times(look: Inspection, answer: Answered) -> int:
    since = look.forgotten.get(owner_of(answer.id), 0)
    told = (other for other in look.history.of(Answered) if other.call == "settle" and other.id == answer.id)
    return sum(1 for other in told if other.commits >= since)


def _written(answer: Answered) -> tuple[bytes, bool]:
    kind, value = answer.value
    return b"\0" + (f'"{value}"' if isinstance(value, str) else repr(value).lower()).encode(), kind == "resolved"


def _delivered(look: Inspection, facts: Facts, answer: Answered, row: Any) -> None:
    step = records.decode_info(row.about).step
    got = [
        (record.entry.value, record.entry.ok)
        for record in facts.entries
        if isinstance(record.entry, records.PromiseSettled) and record.entry.promise == step
    ]
    if not got and any(_is_cancel(record) and _lay(look, facts, record) for record in facts.entries):
        return  # nobody ran it between the two, and a cancel is what it heard of first
    if got != [_written(answer)] and facts.status.ended and facts.status is not Status.KILLED:
        look.broken("G6", f"{facts.id} {step} was settled {answer.value}, its handler was given {got}")


def _lay(look: Inspection, facts: Facts, record: Record) -> bool:
    """Whether an entry was written while its invocation was a row alone."""
    return look.lives[record.event.life].rests or facts.status_at(record.commit - 1) is Status.PAUSED


def g6_withdrawn_is_withdrawn(look: Inspection) -> None:
    for id, settles in look.settles.items():
        if len(settles) > 1:
            look.broken("G6", f"promise {id} was settled by commits {[number for number, _ in settles]}")


def g6_nobody_is_asked_for_the_dead(look: Inspection) -> None:
    for promise in look.promises.values():
        facts = look.facts.get(promise.n)
        if facts is not None and promise.status == 0 and facts.status.ended and look.sound(facts):
            look.broken("G6", f"{facts.id} has ended, and its promise {promise.id} is still open")


def g7_cancelled_invocations_end(look: Inspection) -> None:
    for answer in look.history.of(Answered):
        facts = look.known(answer.id, answer.commits) if answer.call == "cancel" else None
        if facts is None or (facts.row.began is None and facts.ended is not None and facts.ended <= answer.commits):
            continue
        asked = [record.commit for version in facts.versions for record in version.records if _is_cancel(record)]
        if not asked or asked[0] > answer.commits:
            look.broken("G7", f"the cancel of {facts.id} was acknowledged and is not in its journal")


def _is_cancel(record: Record) -> bool:
    return isinstance(record.entry, records.CancelRequested)


def g7_compensation_runs(look: Inspection) -> None:
    for facts in look.fine():
        if facts.row.target != UNDOING or facts.status not in {Status.CANCELLED, Status.FAILED} or facts.reopened:
            continue
        done, gave_up, undoing = set(), False, False
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
                look.broken("G7", f"{facts.id} ended {facts.status.name}, and book_{number} was not undone")


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
                    else:
                        ends.pop(look.facts[row.n].id, None)
            case BodyBegan():
                running[event.id, event.step, event.attempt] = event.at
            case BodyEnded():
                running.pop((event.id, event.step, event.attempt), None)
            case LifeEnded():
                running.clear()


def g8_nothing_waits_for_ever(look: Inspection) -> None:
    for facts in look.fine():
        status = facts.status
        if not status.ended and status is not Status.PAUSED:
            look.broken("G8", f"{facts.id} is {status.name} when all is over")
        if status is Status.PAUSED:
            _reason_of(look, facts)
    if look.ends and look.ends[-1].how != "stopped":
        look.broken("G8", f"the calm life {look.ends[-1].how}")


def _reason_of(look: Inspection, facts: Facts) -> None:
    paused = records.decode_outcome(facts.row.outcome or b"")
    fits = isinstance(paused, records.Paused) and paused.reason
    known = paused.code == "HF303" and _may_differ(look, facts)
    if not fits or not (known or (paused.code == "HF203" and facts.outlived)):
        look.broken("G8", f"{facts.id} is still paused after all resumes: {paused}")


def g8_pauses_say_why(look: Inspection) -> None:
    for facts in look.fine():
        target = facts.row.target
        for moved in facts.moves:
            if moved.status is not Status.PAUSED:
                continue
            paused = records.decode_outcome(moved.row.outcome or b"")
            known = paused.code in PAUSE_CODES
            known |= paused.code == "HF303" and _may_differ(look, facts)
            known |= paused.code == "HF305" and bool(look.lives[moved.event.life].missing)
            known |= paused.code == "HF101" and target == look.lives[moved.event.life].missing
            if not paused.reason or not known:
                look.broken("G8", f"{facts.id} was paused: {paused.code} {paused.reason[:300]}")


def g8_attempts_are_counted_on(look: Inspection) -> None:
    """What a row says of attempts that failed holds for whoever brings its invocation back."""
    begun: dict[tuple[str, str], list[BodyBegan]] = defaultdict(list)
    for began in look.history.of(BodyBegan):
        begun[began.id, began.step].append(began)
    for facts in look.fine():
        for moved, after in pairwise(facts.moves):
            if after.status is Status.PAUSED:
                continue  # a person who resumes it begins to count anew
            outcome = None if moved.row.outcome is None else records.decode_outcome(moved.row.outcome)
            for tried in outcome.tries if isinstance(outcome, records.Woken) else ():
                for began in begun[facts.id, tried.step]:
                    if not moved.commit <= began.commits <= after.commit or began.life > after.event.life:
                        continue  # who dies in the midst of an attempt leaves no word of those before it
                    if began.attempt <= tried.failure.attempts or began.wall < tried.next_at:
                        look.broken(
                            "G8", f"{facts.id}: {tried} was recorded, and attempt {began.attempt} came after it"
                        )


def g9_bodies_are_bounded(look: Inspection) -> None:
    most = look.world.options.bounds().bodies
    for began in look.history.of(BodyBegan):
        if began.running > most:
            look.broken("G9", f"{began.running} bodies ran at once, at most {most} may")


def g9_who_rests_runs_nothing(look: Inspection) -> None:
    resting = {life.life for life in look.lives if life.rests}
    for lived in look.world.machines:
        if lived.life in resting:
            look.broken("G9", f"{lived.machine.id} was brought to memory in life {lived.life}, which only rested")
    for facts in look.facts.values():
        for moved in facts.moves:
            if moved.event.life in resting and moved.status in {Status.SUSPENDED, Status.DONE, Status.FAILED}:
                look.broken(
                    "G9", f"{facts.id} became {moved.status.name} in life {moved.event.life}, which only rested"
                )


def g10_damage_stops_one_only(look: Inspection) -> None:
    for facts in look.fine():
        for moved in facts.moves:
            paused = records.decode_outcome(moved.row.outcome or b"") if moved.status is Status.PAUSED else None
            if paused is not None and paused.code == "HF203" and not facts.outlived:
                look.broken(
                    "G10", f"{facts.id} was paused as unreadable in life {moved.event.life}, and is not damaged"
                )


def g11_bodies_start_after_their_commit(look: Inspection) -> None:
    for began in look.history.of(BodyBegan):
        facts = look.known(began.id, began.commits)
        if facts is None or facts.row.target in EDITED or facts.replayed.wrong:
            continue
        version = facts.at(began.commits)
        durable = sum(1 for record in version.completions if record.commit <= began.commits)
        asked = next((i for i, s in enumerate(version.replayed.path) if f"ask {began.step}" in s.commands), None)
        if asked is None or asked > durable or facts.started > began.commits:
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
            case Answered() | Seen() if failed is not None and event.at == failed.at:
                continue  # of the commit before, and told before this one was tried, which took its time
            case Answered() | Seen() | BodyBegan() if failed is not None:
                look.broken("G11", f"after the failed sync in life {failed.life} came {event}")


CHECKS: list[Callable[[Inspection], None]] = [
    g1_acknowledged_starts_are_durable, g1_what_was_started_is_what_was_asked,
    g2_a_recorded_step_never_runs_again, g2_one_key_for_all_attempts,
    g3_every_journal_replays_to_its_end, g3_no_life_took_another_path, g3_pauses_for_a_mismatch_have_a_cause,
    g4_no_two_bodies_of_a_step_at_once, g4_the_store_refused_nothing_of_its_own,
    g5_timers_are_never_early, g5_starts_wait_for_their_time, g5_timers_are_not_late, g5_timers_fire_if_anyone_lives,
    g6_what_was_seen_never_changes, g6_settled_promises_never_change, g6_withdrawn_is_withdrawn,
    g6_nobody_is_asked_for_the_dead,
    g7_cancelled_invocations_end, g7_compensation_runs, g7_no_body_outlives_its_invocation,
    g8_nothing_waits_for_ever, g8_pauses_say_why, g8_attempts_are_counted_on,
    g9_bodies_are_bounded, g9_who_rests_runs_nothing,
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
