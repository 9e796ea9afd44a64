"""The engine with one promise broken on purpose, again and again: the worlds must notice, and by the right name.

A check that has never been seen failing checks nothing. Each mutant is a patch of a few lines, made as the test runs;
those said to be once its own are mistakes the engine has had. One that shows only where several things meet gets
weather in which they do, so that the seeds looked at are more than enough.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.core import entries as records
from holdfast.core.commands import CancelStep
from holdfast.core.invocation import Move, Status
from holdfast.core.machine import Machine
from holdfast.engine.committer import Committer
from holdfast.engine.driver import Driver
from holdfast.engine.effects import Body, Effects
from holdfast.engine.engine import Engine
from holdfast.engine.rows import Rows
from holdfast.engine.timers import Timers
from holdfast.steps import StepInfo
from holdfast.stores.memory import MemoryStore
from tests.sim.faults import draw
from tests.sim.mutants import SEEDS_MAX, TIGHT, Mutate, Patch, first_breach, mutant
from tests.sim.runs import run

# Two engines at one store, and nothing else the matter with it. No pauses, kills and the like: each is a row without an
# entry, and the fence is made of entries. Nothing that meets: who has a key or a place only the one engine knows.
CALM = ("fails", "fulls", "rots", "edits", "crash_commits", "mendless", "misshapen", "missing", "kills", "pauses",
        "retries", "copies", "purges", "triggers")  # fmt: skip
ALONE = ("chain", "fan", "group", "timeout", "stuck", "race", "sleeper", "clocks", "agent", "ask", "approvals",
         "guarded", "first", "saga", "steps", "large", "threads", "dice", "pipeline")  # fmt: skip
TWINS: dict[str, Any] = {"twins": True, "shapes": ALONE, "every": 0, **dict.fromkeys(CALM, 0.0)}
MUTANTS: list[Any] = []


def caught_by(*promises: str, **weather: Any) -> Callable[[Mutate], Mutate]:
    return mutant(MUTANTS, promises, weather)


# Commits


@caught_by("G1")
def waiters_wake_before_the_sync(patch: Patch) -> None:
    inline, in_lane = Committer._commit_inline, Committer._commit_in_lane

    def early_inline(self: Any, batch: Any, after: Any) -> None:
        self._run(after)
        inline(self, batch, [])

    def early_in_lane(self: Any, batch: Any, after: Any) -> None:
        self._run(after)
        in_lane(self, batch, [])

    patch.setattr(Committer, "_commit_inline", early_inline)
    patch.setattr(Committer, "_commit_in_lane", early_in_lane)


@caught_by("G11")
def bodies_start_before_the_commit(patch: Patch) -> None:
    after = Committer.after

    def early(self: Any, call: Any, *args: Any) -> None:
        if call.__name__ == "_start_body":
            call(*args)
        else:
            after(self, call, *args)

    patch.setattr(Committer, "after", early)


@caught_by("G11")
def a_failed_sync_is_taken_for_done(patch: Patch) -> None:
    def shrug(self: Any, batch: Any, after: Any, error: Any, waited: float = 0.0) -> None:
        self._busy = False
        self._run(after)

    patch.setattr(Committer, "_refused", shrug)


@caught_by("G11", shapes=("fan", "group", "race"), plans=10, fails=0.9, transient=0.4, limits=TIGHT)
def queued_bodies_begin_after_a_failed_sync(patch: Patch) -> None:
    """Once its own: to stop a body between two attempts made room for the next."""

    def cancel(self: Any) -> None:
        for body in list(self._bodies):
            body.cancel()

    patch.setattr(Effects, "cancel", cancel)


@caught_by("G4", "G3", "G8")
def parked_before_it_is_durable(patch: Patch) -> None:
    tell = Driver.tell

    def early(self: Any, resident: Any) -> None:
        tell(self, resident)
        if resident.status is Status.SUSPENDED:
            self.bodies.effects.loop.call_soon(self._watcher.settled, resident)

    patch.setattr(Driver, "tell", early)


@caught_by("G8", lives=0, plans=10, latency=0.02, limits=TIGHT)
def queued_before_it_is_durable(patch: Patch) -> None:
    """Once its own: the row was looked for too early, and the number forgotten."""
    added = Rows.added

    def early(self: Any, row: Any) -> None:
        added(self, row)
        self._engine.admission.queue(row.n)

    patch.setattr(Rows, "added", early)
    patch.setattr(Engine, "row_settled", lambda self, row: self._numbers.pop(row.id, None))


# Journals and replay


@caught_by("G3", "G11")
def a_result_is_delivered_and_not_recorded(patch: Patch) -> None:
    append = Driver.append
    seen = []

    def forgetful(self: Any, resident: Any, entry: Any) -> None:
        seen.append(entry)
        if not isinstance(entry, records.StepCompleted) or len(seen) % 7:
            append(self, resident, entry)

    patch.setattr(Driver, "append", forgetful)


@caught_by("G3", shapes=("edited",), edits=0.8)
def digests_are_not_compared(patch: Patch) -> None:
    wants = Machine.wants

    def lax(self: Any, entry: Any) -> bool:
        return wants(self, entry) or (isinstance(entry, records.StepCompleted) and entry.step in self.waiting)

    patch.setattr(Machine, "wants", lax)


@caught_by("G3", "G8", shapes=("edited",), edits=0.8)
def nothing_recorded_is_checked(patch: Patch) -> None:
    patch.setattr(Machine, "wants", lambda self, entry: True)


@caught_by("G3")
def replayed_in_another_order(patch: Patch) -> None:
    replay = Machine.replay

    def shuffled(self: Any, entries: Any, obeyed: Any = None) -> None:
        entries = list(entries)
        entries[-2:] = reversed(entries[-2:])
        replay(self, entries, obeyed)

    patch.setattr(Machine, "replay", shuffled)


@caught_by("G2")
def the_last_record_is_lost_on_replay(patch: Patch) -> None:
    replay = Machine.replay
    patch.setattr(Machine, "replay", lambda self, entries, obeyed=None: replay(self, entries[:-1], obeyed))


@caught_by("G3", shapes=("race", "first"), mendless=0.3)
def a_paused_handler_does_not_follow(patch: Patch) -> None:
    """Once its own: what it would have given up was recorded, and no replay could explain it."""
    patch.setattr(Driver, "_follow", lambda self, resident, entry, value: None)


@caught_by("G3", shapes=("race", "first"), stops=0.9, drain_seconds=10.0)
def a_stopping_engine_does_not_follow(patch: Patch) -> None:
    """Once its own: a clean stop in the middle of a race."""
    deliver = Driver.deliver

    def deaf(self: Any, resident: Any, entry: Any, *value: Any) -> None:
        if self._watcher.stopping:
            self.append(resident, entry)
        else:
            deliver(self, resident, entry, *value)

    patch.setattr(Driver, "deliver", deaf)


@caught_by("G2")
def every_attempt_has_its_own_key(patch: Patch) -> None:
    patch.setattr(StepInfo, "idempotency_key", property(lambda self: f"hf_{self.invocation}_{self.id}_{self.attempt}"))


@caught_by("g8_attempts_are_counted_on", shapes=("tries",), transient=0.4, limits=TIGHT | {"waiting": 0})
def what_was_tried_is_forgotten(patch: Patch) -> None:
    patch.setattr(Body, "recall", lambda *_: None)


@caught_by("G4")
def a_body_is_begun_twice(patch: Patch) -> None:
    begin = Body.begin

    def twice(self: Any) -> None:
        begin(self)
        if self.info is None:
            return  # a step declared once: it begins when its start is durable
        context = self.spec.context.copy()
        context.run(self.info.bind)
        self._effects.call(self, self.spec.fn, context)

    patch.setattr(Body, "begin", twice)


# Timers


@caught_by("G5", shapes=("clocks", "timeout", "sleeper"))
def a_timer_is_dropped(patch: Patch) -> None:
    arm = Timers.arm
    calls = []

    def forgetful(self: Any, n: int, deadline: int, *, stored: bool) -> bool:
        calls.append(n)
        return True if len(calls) % 3 == 0 else arm(self, n, deadline, stored=stored)

    patch.setattr(Timers, "arm", forgetful)


@caught_by("G5", shapes=("clocks", "timeout", "sleeper"))
def timers_fire_early(patch: Patch) -> None:
    due = Machine.due
    patch.setattr(Machine, "due", lambda self, now: due(self, now + 400))


@caught_by("G5", "G8", shapes=("guarded", "timeout", "stuck"))
def a_far_deadline_is_left_to_a_row_that_changes(patch: Patch) -> None:
    """Once its own: nobody armed it again when a body began under it."""
    arm = Timers.arm

    def boastful(self: Any, n: int, deadline: int, *, stored: bool) -> bool:
        arm(self, n, deadline, stored=stored)
        return True

    patch.setattr(Timers, "arm", boastful)


@caught_by("G8", "G5", shapes=("stuck", "guarded"), missing=0.0, limits=TIGHT)
def one_without_room_holds_up_the_others(patch: Patch) -> None:
    """Once its own: the timer behind it would have made the room."""

    def blocked(self: Any) -> None:
        now = self._clock.now()
        if now >= self._next_refill():
            self._refill(now)
        while self._heap and self._heap[0][0] <= now:
            if not self._wake(self._heap[0][1]):
                self._held[self._heap[0][1]] = None
                return
            self._heap.pop(0)
            self._heap.sort()
        self._arm()

    patch.setattr(Timers, "_wake_due", blocked)


# Promises


@caught_by("G6", "G8", shapes=("approvals", "guarded", "first"), mendless=0.3)
def a_settlement_is_lost_over_a_pause(patch: Patch) -> None:
    promises_of = MemoryStore.promises_of

    def open_ones(self: Any, n: int) -> Any:
        return [row for row in promises_of(self, n) if row.status == 0]

    patch.setattr(MemoryStore, "promises_of", open_ones)


@caught_by("G3", "G6")
def a_settlement_is_not_recorded(patch: Patch) -> None:
    append = Driver.append

    def forgetful(self: Any, resident: Any, entry: Any) -> None:
        if not isinstance(entry, records.PromiseSettled):
            append(self, resident, entry)

    patch.setattr(Driver, "append", forgetful)


@caught_by("G4", shapes=("approvals", "guarded", "first"))
def settled_promises_are_withdrawn_at_the_end(patch: Patch) -> None:
    """Once its own: after a replay all promises were taken for open ones."""
    replay = Driver._replay

    def generous(self: Any, resident: Any, journal: Any, headers: Any) -> None:
        replay(self, resident, journal, headers)
        rows = self.store.promises_of(resident.n)
        resident.promises |= {records.decode_info(row.about).step: row.id for row in rows}

    patch.setattr(Driver, "_replay", generous)


@caught_by("G6", shapes=("ask", "first", "guarded"))
def a_promise_given_up_stays_open(patch: Patch) -> None:
    patch.setattr(Driver, "_withdraw", lambda self, resident, local: resident.promises.pop(local, None))


# Starts, ends, cancels


@caught_by("G6")
def an_id_is_taken_for_anything(patch: Patch) -> None:
    def lax(self: Any, order: Any) -> bool:
        return order.id in self._numbers or self.store.find(order.id) is not None

    patch.setattr(Engine, "_exists", lax)


@caught_by("G4", "G6")
def ids_are_forgotten(patch: Patch) -> None:
    patch.setattr(Engine, "_exists", lambda *_: False)


@caught_by("G7", shapes=("saga",), cancels=0.7)
def a_cancel_ends_without_clean_up(patch: Patch) -> None:
    def blunt(self: Any, resident: Any, reason: str) -> None:
        self.append(resident, records.CancelRequested(self.now(resident), reason))
        self.end(resident, Move.CANCEL, records.Cancelled(reason))

    patch.setattr(Driver, "cancel", blunt)


@caught_by("G7")
def a_cancel_is_not_recorded(patch: Patch) -> None:
    append = Driver.append

    def forgetful(self: Any, resident: Any, entry: Any) -> None:
        if not isinstance(entry, records.CancelRequested):
            append(self, resident, entry)

    patch.setattr(Driver, "append", forgetful)


@caught_by("G7")
def bodies_do_not_hear_of_the_end(patch: Patch) -> None:
    obey = Driver._obey

    def deaf(self: Any, resident: Any, command: Any) -> None:
        if isinstance(command, CancelStep):
            resident.bodies.pop(command.step, None)
        else:
            obey(self, resident, command)

    patch.setattr(Driver, "_obey", deaf)


# Bounds and neighbours


@caught_by("G9")
def nothing_is_parked(patch: Patch) -> None:
    settled = Engine.settled

    def hoard(self: Any, resident: Any) -> None:
        if resident.status is not Status.SUSPENDED:
            settled(self, resident)

    patch.setattr(Engine, "settled", hoard)


@caught_by("G9")
def all_bodies_run_at_once(patch: Patch) -> None:
    def eager(self: Any, body: Any) -> None:
        if not body.gone:
            self._begin(body)

    patch.setattr(Effects, "start", eager)


@caught_by("G10", "G8", rots=0.8)
def damage_stops_the_engine(patch: Patch) -> None:
    pause = Driver.pause

    def alarm(self: Any, resident: Any, error: Any) -> None:
        if getattr(error, "code", "") == "HF203":
            self._watcher.fail(error)
        pause(self, resident, error)

    patch.setattr(Driver, "pause", alarm)


# The fence


@caught_by("G4", **TWINS)
def the_fence_is_gone(patch: Patch) -> None:
    """Two engines write one journal."""
    patch.setattr(MemoryStore, "_entry_keys", lambda self, batch, gone: set())


@pytest.mark.parametrize("mutate, promises, weather", MUTANTS)
def test_a_mutant_is_caught(
    mutate: Callable[[Patch], None], promises: set[str], weather: dict[str, Any], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    assert first_breach(promises, weather) is not None, f"{SEEDS_MAX} worlds did not notice"


def test_the_fence_keeps_two_engines_from_one_journal() -> None:
    for seed in range(100):
        done = run(replace(draw(seed), **TWINS))
        assert not done.breaches, done.report()
