"""As test_mutants.py, of the promises between invocations: each mutant must be noticed by the check that is for it."""

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from holdfast import watching
from holdfast.core import entries as records
from holdfast.core.commands import AppendItem, SetState
from holdfast.core.machine import Machine
from holdfast.engine import control as control_module
from holdfast.engine import driver as driver_module
from holdfast.engine import reruns as reruns_module
from holdfast.engine import schedules as schedules_module
from holdfast.engine.control import Control
from holdfast.engine.driver import Driver
from holdfast.engine.engine import Engine
from holdfast.engine.gates import Gates
from holdfast.engine.links import Links
from holdfast.engine.objects import ObjectState
from holdfast.engine.rates import Spent
from holdfast.engine.reruns import Reruns
from holdfast.engine.rows import Rows
from holdfast.engine.schedules import Rule, Schedules
from holdfast.engine.waits import Waits
from holdfast.stores.base import TrimRow
from holdfast.stores.memory import MemoryStore
from tests.sim.mutants import SEEDS_MAX, TIGHT, Mutate, Patch, first_breach, mutant

MUTANTS: list[Any] = []
# Families of shapes, as in faults.py.
KEYS = ("add", "pass_on", "wipe", "look", "glance")
CALLS = ("caller", "hasty", "tree", "trip")
NAMES = ("named", "sender", "follower")
SIGNALS = ("talker", "listener", "patient")
FLOWS = ("proceed", "approve", "witness")
LIMITS = ("narrow", "turns", "paced", "crowd")


def caught_by(*checks: str, **weather: Any) -> Callable[[Mutate], Mutate]:
    return mutant(MUTANTS, checks, weather)


def nth(count: int) -> Callable[[], bool]:
    """True every count-th time."""
    turn = itertools.count(1)
    return lambda: next(turn) % count == 0


# Calls and sends


@caught_by("g8_nothing_waits_for_ever", shapes=CALLS, limits=TIGHT | {"waiting": 0})
def a_parked_caller_is_not_woken(patch: Patch) -> None:
    patch.setattr(Links, "_wake", lambda *_: None)


# A parked caller is told by the commit of the end alone, and not once more when that is durable. To leave the second
# telling out is no mutant: the next two are what makes the first enough.


@caught_by("g8_nothing_waits_for_ever", shapes=NAMES, latency=0.02)
def an_end_that_is_not_durable_yet_is_not_known(patch: Patch) -> None:
    """Who asks for it just then finds a row without an outcome."""
    tell = Links.tell

    def forgetful(self: Any, row: Any, end: Any) -> None:
        tell(self, row, end)
        self._ends.clear()

    patch.setattr(Links, "tell", forgetful)
    patch.setattr(Links, "_is_told", lambda *_: None)


@caught_by("g4_the_store_refused_nothing_of_its_own", shapes=SIGNALS, limits=TIGHT | {"waiting": 0}, latency=0.02,
           signals=0.9)  # fmt: skip
def one_is_brought_back_while_its_row_is_on_its_way(patch: Patch) -> None:
    patch.setattr(Rows, "is_open", lambda *_: False)


@caught_by("g8_nothing_waits_for_ever", shapes=NAMES, lives=3, stops=0.9)
def who_is_attached_is_forgotten(patch: Patch) -> None:
    patch.setattr(MemoryStore, "waiters", lambda self, subject: [])


@caught_by("g4_every_call_has_one_child", shapes=CALLS)
def a_call_is_made_twice(patch: Patch) -> None:
    call = Links._call

    def twice(self: Any, resident: Any, local: str, spec: Any) -> None:
        call(self, resident, local, spec)
        id, spec.id = spec.id, spec.id + "'"
        call(self, resident, local, spec)
        spec.id = id

    patch.setattr(Links, "_call", twice)


@caught_by("g4_every_call_has_one_child", shapes=("add", "shopper", "caller"), purges=0.9, lives=3)
def a_result_is_purged_that_is_still_needed(patch: Patch) -> None:
    async def purge(self: Any, id: str) -> None:
        row = await self._engine.known(id)
        if row.status >= 4 and self._engine.resident(row.n) is None:
            self._engine.rows.purge(row)
        await self._engine.durable()

    patch.setattr(Control, "purge", purge)


@caught_by("g4_every_send_is_one_invocation", shapes=NAMES)
def a_send_is_lost(patch: Patch) -> None:
    send, lost = Links._send, nth(5)
    patch.setattr(Links, "_send", lambda self, *args: None if lost() else send(self, *args))


@caught_by("g4_every_send_is_one_invocation", shapes=NAMES)
def a_send_is_done_twice(patch: Patch) -> None:
    send = Links._send

    def twice(self: Any, id: str, resident: Any, spec: Any) -> None:
        send(self, id, resident, spec)
        send(self, id + "'", resident, msgspec.structs.replace(spec, id=id + "'"))

    patch.setattr(Links, "_send", twice)


@caught_by("g4_every_send_is_one_invocation", "g4_state_changes_apply_once", shapes=("add", "sender"), pauses=0.5,
           slow=0.3, keen=0.5)  # fmt: skip
def deeds_of_what_came_meanwhile_are_not_done(patch: Patch) -> None:
    """Whoever was paused or woken has obeyed all of its journal, it is said."""
    patch.setattr(driver_module, "obeyed_of", lambda row, length: length)


@caught_by("g4_sends_begin_after_their_delay", shapes=("sender",), delays=0.0)
def a_send_does_not_wait(patch: Patch) -> None:
    create_at_once(patch)


def create_at_once(patch: Patch) -> None:
    create = Engine.create

    def at_once(self: Any, order: Any) -> None:
        order.not_before = None
        create(self, order)

    patch.setattr(Engine, "create", at_once)


@caught_by("g6_callers_get_what_the_called_ended_with", shapes=CALLS)
def a_caller_gets_what_another_returned(patch: Patch) -> None:
    returned, other = Driver.returned, nth(5)

    def mixed(self: Any, resident: Any, local: str, child: str, text: bytes) -> None:
        returned(self, resident, local, child, b'"not this"' if text[:1] == b'"' and other() else text)

    patch.setattr(Driver, "returned", mixed)


@caught_by("G3", shapes=("recalled",), edits=0.9, lives=4, slow=0.3)
def a_call_that_has_begun_may_be_given_other_arguments(patch: Patch) -> None:
    """Once its own: the caller got what came of the old ones."""
    patch.setattr(Links, "_is_other", lambda *_: False)


@caught_by("g8_nothing_waits_for_ever", shapes=("add", "pass_on"), plans=10)
def circles_of_waits_are_not_found(patch: Patch) -> None:
    patch.setattr(Waits, "refusal", lambda *_: None)


# Signals and shared promises


@caught_by("g4_signals_arrive_once", shapes=SIGNALS)
def a_signal_of_a_handler_is_lost(patch: Patch) -> None:
    signal, lost = Links._signal, nth(4)
    patch.setattr(Links, "_signal", lambda self, *args: None if lost() else signal(self, *args))


@caught_by("g4_signals_arrive_once", shapes=SIGNALS)
def a_signal_arrives_twice(patch: Patch) -> None:
    post = Links.post

    def twice(self: Any, *args: Any) -> None:
        post(self, *args)
        post(self, *args)

    patch.setattr(Links, "post", twice)


@caught_by("g4_signals_arrive_once", shapes=SIGNALS, signals=0.9, lives=3)
def a_signal_to_one_that_is_parked_is_lost(patch: Patch) -> None:
    append = Rows.append

    def deaf(self: Any, row: Any, entry: Any) -> None:
        if not isinstance(entry, records.SignalArrived):
            append(self, row, entry)

    patch.setattr(Rows, "append", deaf)


@caught_by("g4_signals_arrive_once", shapes=("talker",), plans=10, terminal=0.3, retries=0.9, lives=3, keen=0.5)
def a_retry_does_all_deeds_again(patch: Patch) -> None:
    reopen = Rows.reopen
    patch.setattr(Rows, "reopen", lambda self, row, by, _, length: reopen(self, row, by, -1, length))


@caught_by("g8_nothing_waits_for_ever", shapes=FLOWS)
def who_waits_for_a_shared_promise_is_not_told(patch: Patch) -> None:
    patch.setattr(Links, "_deliver_promise", lambda *_: None)


@caught_by("g6_shared_promises_have_one_value", shapes=FLOWS)
def a_witness_is_told_something_else(patch: Patch) -> None:
    settle = Driver.settle_or_pause
    patch.setattr(Driver, "settle_or_pause", lambda self, resident, local, value, ok: settle(
        self, resident, local, b"55" if ok and resident.length else value, ok=ok))  # fmt: skip


@caught_by("g6_settled_by_handlers_is_settled", shapes=FLOWS)
def a_settlement_by_a_handler_is_lost(patch: Patch) -> None:
    patch.setattr(Links, "_settle_shared", lambda *_: None)


@caught_by("G6", shapes=("proceed",), plans=8, purges=0.9)
def a_purged_workflow_leaves_its_state(patch: Patch) -> None:
    patch.setattr(Rows, "workflow_of", lambda *_: None)


# Keys


@caught_by("g4_one_writer_of_a_key", shapes=KEYS, pauses=0.9, keen=0.9)
def who_is_resumed_does_not_wait_for_its_key(patch: Patch) -> None:
    """One that was paused in the queue goes on without its turn."""
    patch.setattr(control_module, "was_queued", lambda row: False)


@caught_by("g4_one_writer_of_a_key", shapes=KEYS)
def two_write_to_a_key_at_once(patch: Patch) -> None:
    patch.setattr(Gates, "_is_free", lambda self, lock, n: True)


@caught_by("g4_one_writer_of_a_key", shapes=KEYS, limits=TIGHT | {"waiting": 0})
def who_is_parked_has_lost_its_key(patch: Patch) -> None:
    patch.setattr(MemoryStore, "holder", lambda self, lock: None)


@caught_by("g4_keys_go_in_order_of_arrival", shapes=KEYS, plans=10)
def the_last_come_is_served_first(patch: Patch) -> None:
    queued = MemoryStore.queued_for_lock
    patch.setattr(MemoryStore, "queued_for_lock", lambda self, lock, limit: queued(self, lock, 1000)[::-1][:limit])


@caught_by("g4_state_changes_apply_once", "g4_places_of_lists_are_in_order_and_taken_once", shapes=KEYS)
def a_change_of_state_is_lost(patch: Patch) -> None:
    write, lost = ObjectState.write, nth(6)
    patch.setattr(ObjectState, "write", lambda self, *args: None if lost() else write(self, *args))


@caught_by("g4_state_changes_apply_once", shapes=KEYS, limits=TIGHT | {"waiting": 0})
def deeds_are_done_again_after_every_replay(patch: Patch) -> None:
    def all_is_new(self: Any, last: int | None = None) -> None:
        self.replaying = False

    patch.setattr(Machine, "go_live", all_is_new)


@caught_by("g4_state_changes_apply_once", shapes=KEYS, crash_commits=0.6, lives=6)
def state_is_written_a_commit_later(patch: Patch) -> None:
    obey = Driver._obey

    def late(self: Any, resident: Any, command: Any) -> None:
        if isinstance(command, (SetState, AppendItem)):
            self._committer.after(lambda: resident.state.write(self._committer.batch, command))
        else:
            obey(self, resident, command)

    patch.setattr(Driver, "_obey", late)


@caught_by("G3", shapes=KEYS)
def what_was_read_is_not_noted(patch: Patch) -> None:
    keep = Driver._keep_notes

    def forgetful(self: Any, resident: Any, notes: Any, *, over: bool) -> None:
        keep(self, resident, [note for note in notes if not isinstance(note, records.StateRead)], over=over)

    patch.setattr(Driver, "_keep_notes", forgetful)


@caught_by("g4_counters_count_their_writers", "G4", shapes=("add",), plans=10)
def a_writer_reads_what_was_before_its_turn(patch: Patch) -> None:
    value = ObjectState.value
    seen: dict[tuple[str, str], Any] = {}

    def stale(self: Any, name: str) -> Any:
        now = value(self, name)
        before, seen[self._key, name] = seen.get((self._key, name), now), now
        return before

    patch.setattr(ObjectState, "value", stale)


@caught_by("g4_what_people_write_is_written_once", shapes=("add", "shopper"), plans=10, writes=0.9, keen=0.9,
           latency=0.02)  # fmt: skip
def one_begins_while_people_write(patch: Patch) -> None:
    patch.setattr(Gates, "borrow", lambda *_: None)


@caught_by("g4_places_of_lists_are_in_order_and_taken_once", shapes=("add", "wipe"), plans=10)
def places_of_a_list_are_taken_again(patch: Patch) -> None:
    """Once its own: a copy took a new list for the one that its original had read."""

    def trim(self: Any, batch: Any, name: str) -> None:
        head = self._head(name)
        batch.trims.append(TrimRow(self._service, self._key, name, self._end(name) if head is None else head))

    patch.setattr(ObjectState, "trim", trim)


@caught_by("g3_what_a_failed_one_had_read_is_recorded", shapes=("add", "flawed_key"), lives=2, mended_from=2)
def what_one_that_failed_had_read_is_not_noted(patch: Patch) -> None:
    """Once its own: opened again, it read anew."""
    keep = Driver._keep_notes
    patch.setattr(Driver, "_keep_notes", lambda self, resident, notes, over: keep(
        self, resident, notes, over=resident.machine.ended))  # fmt: skip


# Retries and copies


@caught_by("g4_every_send_is_one_invocation", "g4_state_changes_apply_once", shapes=("flawed", "flawed_key"),
           retries=0.9, lives=2, mended_from=1)  # fmt: skip
def mended_code_does_again_what_was_done(patch: Patch) -> None:
    """Whoever raised by itself had done nothing since its last wait, it is said."""
    patch.setattr(reruns_module, "DIGEST_BYTES", 1 << 20)


@caught_by("g4_every_send_is_one_invocation", "g4_state_changes_apply_once", shapes=("flawed", "flawed_key"),
           retries=0.9, lives=2, mended_from=1)  # fmt: skip
def mended_code_does_nothing_new(patch: Patch) -> None:
    """All that it wants done at that point was done, it is said."""
    go_live = Machine.go_live
    patch.setattr(Machine, "go_live", lambda self, last=None: go_live(self))


@caught_by("g4_every_send_is_one_invocation", "g4_state_changes_apply_once", shapes=("renewed", "add"), copies=0.9,
           renewed_from=0)  # fmt: skip
def what_follows_from_an_edited_result_is_not_done(patch: Patch) -> None:
    copy = Reruns._copy
    patch.setattr(Reruns, "_copy", lambda self, *args, edited=False: copy(self, *args, edited=False))


# Limits


@caught_by("g4_limits_hold", shapes=("crowd",), plans=10)
def a_place_is_given_away_twice(patch: Patch) -> None:
    leave = Gates._leave_lane

    def generous(self: Any, name: Any, n: Any) -> None:
        if self._lane(name).inside:
            self._lane(name).inside.pop()
        leave(self, name, n)

    patch.setattr(Gates, "_leave_lane", generous)


@caught_by("g4_limits_hold", shapes=LIMITS, plans=10, lives=4, stops=0.9)
def after_a_restart_nobody_is_counted(patch: Patch) -> None:
    patch.setattr(MemoryStore, "lane_running", lambda self, lane: [])


@caught_by("g4_limits_hold", shapes=("paced",), plans=10, lives=4, clock_ahead=0.0, clock_back=0.0, clock_steps=0.0)
def after_a_restart_no_rate_is_known(patch: Patch) -> None:
    patch.setattr(Gates, "_stored_rate", lambda *_: Spent(0, []))


@caught_by("g8_nothing_waits_for_ever", shapes=LIMITS, plans=10)
def nobody_is_called_when_a_place_is_free(patch: Patch) -> None:
    patch.setattr(Gates, "advance_lane", lambda *_: None)


# Ends that reach others


@caught_by("g7_cancel_reaches_the_called", shapes=("hasty",))
def a_cancel_is_not_passed_on(patch: Patch) -> None:
    patch.setattr(Links, "_cancel_called", lambda *_: None)


@caught_by("g7_cancel_reaches_the_called", shapes=("sender",))
def a_handler_cannot_cancel_another(patch: Patch) -> None:
    patch.setattr(Links, "_cancel", lambda *_: None)


@caught_by("g7_the_sent_go_on", shapes=NAMES, cancels=0.9)
def a_cancel_reaches_those_that_were_sent(patch: Patch) -> None:
    cancel = Driver.cancel

    def wide(self: Any, resident: Any, reason: str) -> None:
        cancel(self, resident, reason)
        for child in self.store.children(resident.n, 100):
            if child.status < 4 and child.call is None:
                self._watcher.links.later(self._watcher.links._cancel, child.id, "its caller was cancelled")

    patch.setattr(Driver, "cancel", wide)


@caught_by("g7_kill_reaches_the_called", shapes=CALLS, kills=0.9, lives=3)
def a_kill_does_not_reach_the_called(patch: Patch) -> None:
    patch.setattr(Rows, "children", lambda self, n, limit: [])


@caught_by("g9_who_rests_runs_nothing", rests=0.9, lives=3, signals=0.9)
def a_signal_brings_one_back_where_nothing_is_to_run(patch: Patch) -> None:
    bring_back = Engine.bring_back

    def eager(self: Any, n: int) -> Any:
        resting, self.resting = self.resting, False
        try:
            return bring_back(self, n)
        finally:
            self.resting = resting

    patch.setattr(Engine, "bring_back", eager)


# Notes and schedules


@caught_by("g3_notes_are_recorded_once", shapes=("renewed",), limits=TIGHT | {"waiting": 0}, lives=4)
def progress_is_told_again_after_a_replay(patch: Patch) -> None:
    recall = Machine.recall

    def forgetful(self: Any, entries: Any) -> None:
        recall(self, [entry for entry in entries if not isinstance(entry, records.Emitted)])

    patch.setattr(Machine, "recall", forgetful)


@caught_by("g3_what_was_emitted_is_recorded", shapes=("renewed",))
def progress_is_not_recorded(patch: Patch) -> None:
    keep = Driver._keep_notes

    def forgetful(self: Any, resident: Any, notes: Any, *, over: bool) -> None:
        keep(self, resident, [note for note in notes if not isinstance(note, records.Emitted)], over=over)

    patch.setattr(Driver, "_keep_notes", forgetful)


@caught_by("G3", shapes=("renewed",), lives=4, renewed_from=0)
def a_version_is_forgotten(patch: Patch) -> None:
    recall = Machine.recall

    def forgetful(self: Any, entries: Any) -> None:
        recall(self, [entry for entry in entries if not isinstance(entry, records.VersionMarked)])

    patch.setattr(Machine, "recall", forgetful)


@caught_by("g6_watchers_see_each_event_once", looks=1.0, lives=3)
def a_watcher_that_comes_back_begins_anew(patch: Patch) -> None:
    init = watching._Place.__init__
    patch.setattr(watching._Place, "__init__", lambda self, _: init(self, None))


@caught_by("g4_no_occurrence_twice", every=40, lives=6, life_seconds=600.0, crash_turns=0)
def a_schedule_does_not_remember_that_it_has_fired(patch: Patch) -> None:
    iso, count = schedules_module._iso, itertools.count()
    patch.setattr(schedules_module, "_iso", lambda ms: f"{iso(ms)}~{next(count)}")

    def forget(self: Any, id: str, stored: Any) -> None:
        write(self, id, stored)
        if stored.last_at is not None:
            self._engine.committer.batch.states.pop()

    write = Schedules._write
    patch.setattr(Schedules, "_write", forget)


@caught_by("g5_no_occurrence_is_early", every=40)
def a_schedule_fires_early(patch: Patch) -> None:
    def eager(self: Any) -> None:
        for plan in self._plans.values():
            stored = self._stored[plan.id]
            self._fire(plan, stored, max(stored.next_at, self._engine.clock.now()))
        self._arm()

    patch.setattr(Schedules, "_tick", eager)


@caught_by("g5_cron_is_kept", every=40, cron="*/2 * * * *", rescheduled_from=0)
def a_cron_expression_is_taken_a_minute_later(patch: Patch) -> None:
    after = Rule.after
    patch.setattr(Rule, "after", lambda self, moment, *, since=None: (
        at + 60_000 for at in after(self, moment, since=since)))  # fmt: skip


@caught_by("g5_starts_wait_for_their_time", delays=0.9, every=0)
def a_start_does_not_wait(patch: Patch) -> None:
    create_at_once(patch)


@caught_by("g5_schedules_make_up_for_all", every=40, missed="all", cron="", rescheduled_from=0, lives=4,
           clock_ahead=0.9, clock_back=0.0, clock_steps=0.0, missing=0.0, triggers=0.0)  # fmt: skip
def a_schedule_does_not_make_up_for_what_it_missed(patch: Patch) -> None:
    fire = Schedules._fire

    def careless(self: Any, plan: Any, stored: Any, now: int) -> None:
        last = now - (now - stored.next_at) % plan.rule.every_ms
        fire(self, plan, msgspec.structs.replace(stored, next_at=last), now)

    patch.setattr(Schedules, "_fire", careless)


@pytest.mark.parametrize("mutate, checks, weather", MUTANTS)
def test_a_mutant_is_caught(mutate: Mutate, checks: set[str], weather: dict[str, Any], monkeypatch: Patch) -> None:
    mutate(monkeypatch)
    assert first_breach(checks, weather) is not None, f"{SEEDS_MAX} worlds did not notice"
