"""The promises between invocations: calls and sends, keys and their state, limits, signals, shared promises, schedules,
task control. Over the ledger, as in invariants.py: what was asked for by replay, what was written by the commits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import pairwise, permutations
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core import entries as records
from holdfast.core.commands import (
    AppendItem,
    CallHandler,
    CancelCall,
    CancelOther,
    SendCall,
    SendSignal,
    SetState,
    SettleShared,
)
from holdfast.core.invocation import Status
from holdfast.engine.objects import ObjectState
from holdfast.errors import Unreadable
from tests.sim.history import Answered, LifeBegan
from tests.sim.ledger import Act, Facts, Moved, StateText, owner_of
from tests.sim.revised import EDITED

if TYPE_CHECKING:
    from tests.sim.invariants import Inspection

HOLDS = {Status.READY, Status.SUSPENDED, Status.PAUSED}
RUNS = {Status.READY, Status.SUSPENDED}
REFUSED = {"HF112", "HF103"}  # WouldDeadlock, IdConflict
NOT_OF_THE_CALLED = REFUSED | {"HF104", "HF203"}  # UnknownInvocation, and a result of another type


def done(facts: Facts, act: Act) -> bool:
    """Whether a deed must have been done by now: those of entries that came to a paused one wait for its resume."""
    pending = facts.pending()
    if pending is None:
        return True
    place = facts.now.completions
    return act.place < 0 <= pending or (act.place >= 0 and facts.entries.index(place[act.place]) < pending)


def named(id: str) -> bool:
    """Whether a handler chose an id, which may have been there."""
    return not id.startswith("inv_")


def done_at(facts: Facts, act: Act) -> int:
    """The commit of a deed, or one soon before: what comes to one that nobody runs is seen when it is loaded."""
    heard = [moved.commit for moved in facts.moves if moved.commit >= act.commit and moved.row.outcome is None]
    heard += [commit for commit, _ in facts.ends if commit >= act.commit]
    waits = any(
        moved.row.outcome is not None and not moved.status.ended
        for moved in facts.moves
        if moved.commit == max((m.commit for m in facts.moves if m.commit <= act.commit), default=0)
    )
    return min(heard, default=act.commit) if waits else act.commit


def replayed(look: Inspection) -> list[Facts]:
    """Those whose acts are known."""
    return [
        facts for facts in look.fine() if facts.begun and not facts.replayed.wrong and facts.row.target not in EDITED
    ]


# Calls and sends


def g4_every_call_has_one_child(look: Inspection) -> None:
    children: dict[tuple[int, str], list[Facts]] = defaultdict(list)
    for facts in look.facts.values():
        if facts.row.parent is not None and facts.row.call is not None:
            children[facts.row.parent, facts.row.call].append(facts)
    for facts in replayed(look):
        asked: dict[str, set[str]] = defaultdict(set)  # another id after each retry
        for act in facts.acts():
            if isinstance(act.command, CallHandler):
                asked[act.command.call].add(act.command.spec.id)
                _has_child(look, facts, act, children)
        for (parent, call), found in children.items():
            if parent == facts.row.n and any(child.id not in asked[call] for child in found):
                look.broken("G4", f"{[child.id for child in found]} were called by {facts.id} {call}, which did not")


def _has_child(look: Inspection, facts: Facts, act: Act, children: Any) -> None:
    assert isinstance(act.command, CallHandler)
    spec, call = act.command.spec, act.command.call
    found = children.get((facts.row.n, call), [])
    # A retry comes to the same call again, and somebody may have purged what was called.
    if found and facts.reopened:
        return
    if len(found) == 1 and found[0].started >= act.commit:
        return
    entry = next((r.entry for v in facts.versions for r in v.records if getattr(r.entry, "call", None) == call), None)
    refused = isinstance(entry, records.CallErrored) and entry.code in REFUSED
    there = named(spec.id) and any(other.started <= _end_of(entry, facts) for other in look.of_id.get(spec.id, []))
    cut_short = entry is None and facts.status in {Status.PAUSED, Status.KILLED}
    given_up = any(isinstance(later.command, CancelCall) and later.command.call == call for later in facts.acts())
    if not found and (refused or there or cut_short or given_up):
        return
    look.broken("G4", f"{facts.id} {call} called {spec.id}, and has {[(c.id, c.started) for c in found]}")


def _end_of(entry: Any, facts: Facts) -> int:
    commits = [record.commit for record in facts.entries if record.entry is entry]
    return commits[0] if commits else 1 << 60


def g4_every_send_is_one_invocation(look: Inspection) -> None:
    wanted: dict[str, int] = {}
    for facts in replayed(look):
        for act in facts.acts():
            if isinstance(act.command, SendCall):
                id = act.command.spec.id
                wanted[id] = facts.row.n
                found = look.of_id.get(id, [])
                prompt = any(other.started >= act.commit for other in found)
                there = named(id) and any(other.started < act.commit for other in found)
                if not prompt and not there and done(facts, act):
                    look.broken("G4", f"{facts.id} sent {id} after commit {act.commit}, and it was not started")
    known = {facts.row.n for facts in replayed(look)}
    for facts in look.facts.values():
        sent = facts.row.parent in known and facts.row.call is None
        if sent and wanted.get(facts.id) is None:
            look.broken("G4", f"{facts.id} was sent by {look.facts[facts.row.parent or 0].id}, which did not send it")


def g4_sends_begin_after_their_delay(look: Inspection) -> None:
    for facts in replayed(look):
        for act in facts.acts():
            if isinstance(act.command, SendCall) and act.command.spec.delay:
                sent = look.known(act.command.spec.id)
                if sent is None or sent.row.parent != facts.row.n or sent.begun is None:
                    continue
                earliest = _time_of(facts, act) + int(act.command.spec.delay * 1000)
                latest = look.events[sent.begun - 1].wall
                if latest < earliest:
                    look.broken("G5", f"{sent.id} began at {latest}, and was sent for {earliest}")


def _time_of(facts: Facts, act: Act) -> int:
    return facts.row.began or 0 if act.place < 0 else facts.now.completions[act.place].entry.at


def g4_signals_arrive_once(look: Inspection) -> None:
    sent: dict[tuple[str, bytes], list[tuple[int, Facts | None, Act | None]]] = defaultdict(list)
    for facts in replayed(look):
        for act in facts.acts():
            if isinstance(act.command, SendSignal):
                sent[act.command.id, act.command.text].append((act.commit, facts, act))
    for answer in look.history.of(Answered):
        if answer.call == "signal":
            sent[answer.id, f'"{answer.value[1]}"'.encode()].append((answer.commits, None, None))
    for (id, text), sends in sent.items():
        target = look.known(id)
        if target is None or len(look.of_id[id]) > 1:
            continue
        arrived = [record.commit for record in _signals(target) if target.read(record.entry.value) == text]
        if len(arrived) > len(sends):
            look.broken("G4", f"{id} was sent {text!r} {len(sends)} times, and got it {len(arrived)} times")
        for commit, sender, act in sends:
            late = commit if sender is None or act is None else done_at(sender, act) + 2
            over = target.ends and target.ends[0][0] <= late
            undone = sender is not None and act is not None and not done(sender, act)
            if not arrived and not over and not undone and not target.reopened and target.started <= commit:
                look.broken("G4", f"{id} was sent {text!r} at commit {commit} and never got it")
        if sends[0][1] is None and arrived and arrived[0] > sends[0][0]:
            look.broken("G1", f"the signal {text!r} to {id} was acknowledged before it was durable")


def _signals(facts: Facts) -> list[Any]:
    """Those that arrived; a retry writes some of them anew."""
    if not facts.reopened:
        return [record for record in facts.entries if isinstance(record.entry, records.SignalArrived)]
    found: dict[Any, Any] = {}
    for version in facts.versions:
        for record in version.records:
            if isinstance(record.entry, records.SignalArrived):
                found.setdefault((record.entry.at, record.entry.name, record.entry.value), record)
    return list(found.values())


# What came of them


def g6_callers_get_what_the_called_ended_with(look: Inspection) -> None:
    for facts in look.fine():
        for version in facts.versions:
            for record in version.records:
                if isinstance(record.entry, (records.CallCompleted, records.CallErrored)):
                    _got_the_end(look, facts, record)


def _got_the_end(look: Inspection, facts: Facts, record: Any) -> None:
    entry = record.entry
    child = look.known(entry.child, record.commit)
    copied = facts.row.origin is not None and record.commit == facts.started  # and perhaps edited
    if child is None or copied or getattr(entry, "code", "") in NOT_OF_THE_CALLED:
        return
    ends = [outcome for commit, outcome in child.ends if commit <= record.commit]
    if not any(_is_of(facts, entry, child, outcome) for outcome in ends):
        look.broken("G6", f"{facts.id} got {entry!r:.200} of {entry.child}, which had ended with {ends!r:.200}")


def _is_of(facts: Facts, entry: Any, child: Facts, outcome: Any) -> bool:
    match outcome:
        case records.Returned(value):
            return isinstance(entry, records.CallCompleted) and child.read(value) == facts.read(entry.result)
        case records.Raised(failure):
            got = entry.failure if isinstance(entry, records.CallErrored) else None
            return got is not None and (failure.type, failure.message) == (got.type, got.message)
        case records.Cancelled():
            return isinstance(entry, records.CallErrored) and entry.code == "HF504"
    return False


def g6_shared_promises_have_one_value(look: Inspection) -> None:
    for row in look.promises.values():
        if row.n:
            continue
        if row.status and len(look.settles[row.id]) > 1:
            look.broken("G6", f"{row.id} was settled {len(look.settles[row.id])} times")
        name = row.id.rpartition(":")[2]
        prefix = row.id.rpartition(":")[0].replace(":", "/")
        for facts in look.fine():
            if f"{facts.row.target.partition('/')[0]}/{facts.row.key}" != prefix:
                continue
            for record in facts.entries:
                entry = record.entry
                if record.commit <= look.forgotten.get(owner_of(row.id), 0):
                    continue  # of one that was deleted with its workflow
                if isinstance(entry, records.PromiseSettled) and entry.promise.rpartition("/")[2] == f"{name}#1":
                    got = facts.read(entry.value), 1 if entry.ok else 2
                    if row.value is None or got != (row.value[1:], row.status):
                        look.broken("G6", f"{facts.id} was given {got} for {row.id}, which holds {row.value!r}")


def g6_settled_by_handlers_is_settled(look: Inspection) -> None:
    for facts in replayed(look):
        for act in facts.acts():
            if isinstance(act.command, SettleShared) and done(facts, act):
                row = look.promises.get(act.command.id)
                if done_at(facts, act) < look.forgotten.get(owner_of(act.command.id), 0):
                    continue
                if row is None or not row.status:
                    look.broken("G6", f"{facts.id} settled {act.command.id}, which is still open")


# Keys


def g4_one_writer_of_a_key(look: Inspection) -> None:
    for lock, held in _held(look).items():
        for commit, holders in held:
            if len(holders) > 1:
                names = sorted(look.facts[one].id for one in holders)
                look.broken("G4", f"{names} have begun with {lock} and not ended, at commit {commit}")


def _held(look: Inspection) -> dict[str, list[tuple[int, set[int]]]]:
    """By lock: who has begun with it and not ended, from commit to commit."""
    changes = sorted(
        (moved.commit, number, facts.row.n, moved)
        for facts in look.facts.values()
        if facts.row.lock is not None
        for number, moved in enumerate(facts.moves)
    )
    begun: set[int] = set()
    last = {(commit, n): moved for commit, _, n, moved in changes}
    runs = {(commit, n) for commit, _, n, moved in changes if moved.runs}
    found: dict[str, list[tuple[int, set[int]]]] = defaultdict(lambda: [(0, set())])
    for (commit, n), moved in sorted(last.items(), key=lambda item: (item[0][0], item[1].status not in _OVER)):
        if moved.status is Status.QUEUED:
            begun.discard(n)  # opened again, it waits for its turn as a new one does
        elif (commit, n) in runs:
            begun.add(n)
        held = found[look.facts[n].row.lock or ""]
        holders = held[-1][1] - {n}
        if moved.status in HOLDS and n in begun:
            holders.add(n)
        held.append((commit, holders))
    return found


_OVER = {Status.DONE, Status.FAILED, Status.CANCELLED, Status.KILLED, Status.QUEUED}


class Wait(NamedTuple):
    """The time of one in the queue of its key."""

    at: int  # milliseconds, by which it has its place
    arrived: int  # commit
    began: int  # commit
    facts: Facts


def g4_keys_go_in_order_of_arrival(look: Inspection) -> None:
    """Where the clock, by which they arrive, does not go back."""
    options = look.world.options
    if options.clock_back or options.clock_steps:
        return
    waits: dict[str, list[Wait]] = defaultdict(list)
    for facts in look.facts.values():
        if facts.row.lock is not None and look.sound(facts):
            waits[facts.row.lock] += _waits(facts)
    for lock, found in waits.items():
        for one, other in permutations(found, 2):
            # Who began may have been named while the other's arrival was on its way to the store.
            if other.at < one.at and other.arrived + 1 < one.began < other.began:
                look.broken("G4", f"{one.facts.id} overtook {other.facts.id} at {lock}, by commit {one.began}")


def _waits(facts: Facts) -> list[Wait]:
    found = []
    arrived: Moved | None = None
    for moved in facts.moves:
        if moved.status is Status.QUEUED:
            arrived = moved if moved.row.wake_at is None else None
        elif moved.status in RUNS and facts.begun is not None and facts.begun <= moved.commit:
            if arrived is not None or moved.commit == facts.started:
                since = arrived or moved
                found.append(Wait(since.row.updated, since.commit, moved.commit, facts))
            arrived = None
        else:
            arrived = None
    return found


def g4_state_changes_apply_once(look: Inspection) -> None:
    asked: dict[tuple[str, str, str], list[tuple[int, int, int, StateText]]] = defaultdict(list)
    doubtful: set[tuple[str, str]] = set()
    for facts in look.facts.values():
        service, key = facts.row.target.partition("/")[0], facts.row.key
        if key is None or facts.begun is None:
            continue
        if not look.sound(facts) or facts.replayed.wrong or facts.pending() is not None:
            doubtful.add((service, key))
            continue
        for order, act in enumerate(facts.acts()):
            if isinstance(act.command, (SetState, AppendItem)):
                kind = "set" if isinstance(act.command, SetState) else "append"
                change = StateText(kind, act.command.text)
                asked[service, key, act.command.name].append((act.commit, facts.row.n, order, change))
    for name in sorted(asked.keys() | look.state.keys()):
        if name[:2] in doubtful or name[2] == "tone":
            continue
        wanted = [change for *_, change in sorted(asked.get(name, []), key=lambda one: one[:3])]
        written = [change for _, change in look.state.get(name, [])]
        if wanted != written:
            look.broken("G4", f"state {name}: {wanted} was asked for, {written} was written")


def g4_what_people_write_is_written_once(look: Inspection) -> None:
    """And never beside a handler that may write."""
    told = {answer.value: answer for answer in look.history.of(Answered) if answer.call == "write" and answer.value}
    written: dict[str, int] = {}
    held = _held(look)
    for (service, key, name), changes in look.state.items():
        for commit, change in changes if name == "tone" else ():
            if change.text is None:
                continue  # a handler may have emptied it
            word = change.text.decode().strip('"')
            if word in written:
                look.broken("G4", f"{word!r} was written to {key} by commits {written[word]} and {commit}")
            written[word] = commit
            then = [(at, holders) for at, holders in held[f"{service}/{key}"] if at <= commit]
            beside = [n for at, holders in then if at == commit or (at, holders) == then[-1] for n in holders]
            if beside:
                look.broken("G4", f"{word!r} was written to {key} by commit {commit}, beside {beside}")
    for word, answer in told.items():
        if written.get(word, 1 << 60) > answer.commits:
            look.broken("G1", f"{word!r} was said to be written to {answer.id} at commit {answer.commits}, and was not")


def g4_places_of_lists_are_in_order_and_taken_once(look: Inspection) -> None:
    places: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for service, key, name, index in look.world.memory._items:
        places[service, key, name].append(index)
    for owner, indexes in places.items():
        if sorted(indexes) != list(range(min(indexes), max(indexes) + 1)):
            look.broken("G4", f"list {owner} has the places {sorted(indexes)}")
    taken: set[Any] = set()
    for event in look.events:
        taken = {place for place in taken if place[:2] not in event.batch.forgets}
        places_now = {item[:4] for item in event.batch.items}
        if twice := sorted(taken & places_now):
            look.broken("G3", f"places of lists were taken more than once: {twice}")
        taken |= places_now


def g4_counters_count_their_writers(look: Inspection) -> None:
    """What the handlers of Counter make of all this: a count and a list that never part."""
    store = look.world.memory
    if look.world.rotten:
        return
    for key in sorted(set(store.object_keys("Counter", "", 100)) - look.world.rewritten):
        _counts_its_writers(look, key)


def _counts_its_writers(look: Inspection, key: str) -> None:
    try:
        state = ObjectState(look.world.memory, "Counter", key).all()
    except Unreadable as error:
        look.broken("G4", f"Counter/{key} cannot be read: {error.what}")
        return
    log = [text.decode() for text in state.get("log", [])]
    count = int(bytes(state.get("count", b"0")))  # type: ignore[arg-type]
    if count != len(log):
        look.broken("G4", f"Counter/{key} counted {count}, and {log} wrote")
    if doubles := [one for one, times in Counter(log).items() if times > 1]:
        look.broken("G4", f"{doubles} wrote twice to Counter/{key}")


# Limits


def g4_limits_hold(look: Inspection) -> None:
    lanes: dict[str, list[Facts]] = defaultdict(list)
    for facts in look.facts.values():
        if facts.row.lane is not None:
            lanes[facts.row.lane].append(facts)
    for lane, members in lanes.items():
        if any(not look.sound(facts) for facts in members):
            continue
        limit = look.world.registry.find(members[0].row.target).limit
        assert limit is not None
        if limit.concurrency is not None:
            _concurrency_holds(look, lane, members, limit.concurrency)
        if limit.rate is not None and not look.world.options.clock_back and not look.world.options.clock_steps:
            _rate_holds(look, lane, members, limit)


def _concurrency_holds(look: Inspection, lane: str, members: list[Facts], most: int) -> None:
    changes = sorted({moved.commit for facts in members for moved in facts.moves})
    for commit in changes:
        inside = [
            facts
            for facts in members
            if facts.begun is not None and facts.begun <= commit and facts.status_at(commit) in RUNS
        ]
        # One that was paused goes on in its own right, whoever has come in its place.
        free = [facts for facts in inside if not _resumed(facts, commit)]
        if len(free) > most:
            look.broken("G4", f"{[facts.id for facts in free]} ran in {lane} at once, after commit {commit}")


def _resumed(facts: Facts, commit: int) -> bool:
    return any(moved.status is Status.PAUSED and moved.commit <= commit for moved in facts.moves)


def _rate_holds(look: Inspection, lane: str, members: list[Facts], limit: Any) -> None:
    begun = sorted(at for facts in members for at in _beginnings(facts))
    for first, beyond in zip(begun, begun[limit.rate :], strict=False):
        if beyond - first < limit.period_ms:
            look.broken("G4", f"{lane} began {limit.rate + 1} between {first} and {beyond}")
            return


def _beginnings(facts: Facts) -> list[int]:
    times = []
    waiting = True
    for moved in facts.moves:
        if moved.status is Status.QUEUED:
            waiting = True
        elif waiting and moved.status is not Status.PAUSED and (moved.row.began or facts.begun):
            if moved.status is not Status.KILLED and moved.status is not Status.CANCELLED:
                times.append(moved.row.updated)
            waiting = False
    return times


# Ends that reach others


def g7_cancel_reaches_the_called(look: Inspection) -> None:
    for facts in replayed(look):
        for act in facts.acts():
            if not isinstance(act.command, (CancelCall, CancelOther)) or not done(facts, act):
                continue
            other = look.known(act.command.id, act.commit)
            if other is None or (isinstance(act.command, CancelCall) and not _began(facts, act.command, other)):
                continue
            told = any(_is_cancel(record) for version in other.versions for record in version.records)
            over = any(commit <= done_at(facts, act) + 1 for commit, _ in other.ends) or _never_began(other)
            if not told and not over:
                look.broken("G7", f"{facts.id} gave up {other.id} after commit {act.commit}, and nobody told it")


def _began(facts: Facts, given_up: CancelCall, other: Facts) -> bool:
    """Whether it is the caller's own, and not one that it joined."""
    return (other.row.parent, other.row.call) == (facts.row.n, given_up.call)


def _is_cancel(record: Any) -> bool:
    return isinstance(record.entry, records.CancelRequested)


def _never_began(facts: Facts) -> bool:
    return facts.begun is None and facts.status in {Status.CANCELLED, Status.KILLED}


def g7_kill_reaches_the_called(look: Inspection) -> None:
    for answer in look.history.of(Answered):
        killed = look.known(answer.id, answer.commits) if answer.call == "kill" else None
        if killed is None:
            continue
        if killed.status_at(answer.commits) is not Status.KILLED:
            look.broken("G7", f"the kill of {answer.id} was acknowledged, and is not durable")
        left = [killed]
        while left:
            above = left.pop()
            for child in look.facts.values():
                if child.row.parent == above.row.n and child.row.call is not None and look.sound(child):
                    status = child.status_at(answer.commits)
                    if status is not None and not status.ended:
                        look.broken("G7", f"{answer.id} was killed, and {child.id}, which it called, is {status.name}")
                    elif status is Status.KILLED:
                        left.append(child)


def g7_the_sent_go_on(look: Inspection) -> None:
    for facts in look.fine():
        if facts.row.call is not None or facts.row.origin is not None:
            continue
        for record in facts.entries:
            if _is_cancel(record) and record.entry.reason.startswith("its caller"):
                look.broken("G7", f"{facts.id} was not called, and cancelled: {record.entry.reason}")
        for _, outcome in facts.ends:
            if isinstance(outcome, records.Cancelled) and outcome.reason.startswith(("its caller", "killed: its")):
                look.broken("G7", f"{facts.id} was not called, and ended: {outcome.reason}")


# Notes


def g3_notes_are_recorded_once(look: Inspection) -> None:
    for facts in look.fine():
        notes = [record.entry for record in facts.entries if isinstance(record.entry, records.NOTES)]
        names = [note.note for note in notes if not isinstance(note, records.STARTS)]  # a body may begin again
        if doubles := [name for name, times in Counter(names).items() if times > 1]:
            look.broken("G3", f"{facts.id} has noted {doubles} more than once")


def g3_what_was_emitted_is_recorded(look: Inspection) -> None:
    for facts in replayed(look):
        if facts.pending() is not None:
            continue
        told = [c.split()[1] for s in facts.replayed.path for c in s.commands if c.startswith("emit ")]
        kept = [record.entry.note for record in facts.entries if isinstance(record.entry, records.Emitted)]
        if sorted(told) != sorted(kept):
            look.broken("G3", f"{facts.id} told {told}, and {kept} is recorded")


def g3_what_a_failed_one_had_read_is_recorded(look: Inspection) -> None:
    """For a retry to read the same."""
    for facts in replayed(look):
        if facts.status is not Status.FAILED or facts.lost:
            continue
        told = [c for s in facts.replayed.path for c in s.commands if c.startswith("read ")]
        kept = [record.entry.note for record in facts.entries if isinstance(record.entry, records.StateRead)]
        if missing := [one for one in told if not any(one.startswith(f"read {note} ") for note in kept)]:
            look.broken("G3", f"{facts.id} failed having {missing}, and that is not recorded")


def g6_watchers_see_each_event_once(look: Inspection) -> None:
    for plan in look.world.plans:
        id, seen = plan.known or "", plan.seen
        facts = look.known(id)
        if facts is None or facts.reopened or len(look.of_id[id]) > 1 or facts.purged is not None:
            continue  # what was seen may have been taken back
        events = [told for record in facts.entries if (told := _told(record.entry)) is not None]
        whole = seen.to_the_end and facts.status.ended
        if seen.events != events[: len(seen.events)] or (whole and len(seen.events) < len(events)):
            look.broken("G6", f"watchers of {id} saw {seen.events}, and its journal has {events}")


def _told(entry: Any) -> tuple[str, str] | None:
    match entry:
        case records.StepCompleted() | records.StepErrored() | records.StepUnknown():
            return "step", entry.step
        case records.StepBegun() | records.StepNotDone():
            return "once", entry.note
        case records.TimerFired():
            return "timer", entry.timer
        case records.PromiseSettled():
            return "promise", entry.promise
        case records.CallCompleted() | records.CallErrored():
            return "call", entry.call
        case records.SignalArrived():
            return "signal", entry.name
        case records.CancelRequested():
            return "cancel", "cancel"
        case records.Emitted():
            return "emit", entry.note
    return None


# Schedules


def g4_no_occurrence_twice(look: Inspection) -> None:
    seen: dict[int, str] = {}
    for facts in _occurrences(look):
        due = _due(facts.id)
        if seen.setdefault(due, facts.id) != facts.id or len(look.of_id[facts.id]) > 1:
            look.broken("G4", f"{facts.id} was started twice, as {seen[due]}")


def g5_no_occurrence_is_early(look: Inspection) -> None:
    for facts in _occurrences(look):
        due, wall = _due(facts.id), look.events[facts.started - 1].wall
        if wall < due:
            look.broken("G5", f"{facts.id} was started at {wall}, before {due}")


def _occurrences(look: Inspection) -> list[Facts]:
    """What the schedule has started by its time."""
    found = [facts for facts in look.facts.values() if facts.id.startswith("often@") and "+" not in facts.id]
    return [facts for facts in found if facts.row.origin is None]


def _due(id: str) -> int:
    when = datetime.strptime(id.partition("@")[2][:20], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return int(when.timestamp()) * 1000


def g5_cron_is_kept(look: Inspection) -> None:
    """In a zone whose hours begin with those of UTC."""
    options = look.world.options
    if not options.cron:
        return
    for facts in _occurrences(look):
        minute, second = divmod(_due(facts.id) // 1000 % 3600, 60)
        fits = minute % 2 == 0 if options.cron.startswith("*/2") else minute == 7
        began = look.events[facts.started - 1].life
        if not (0 < options.rescheduled_from <= began) and (second or not fits):
            look.broken("G5", f"{facts.id} is none of the times of {options.cron!r}")


def g5_schedules_make_up_for_all(look: Inspection) -> None:
    """Where a schedule was never stopped, taken out or wound: every time there was, in even steps."""
    options = look.world.options
    if not options.every or options.missed != "all" or options.clock_back or options.clock_steps:
        return
    if options.cron or options.rescheduled_from:
        return
    stopped = any(answer.call == "schedule" and answer.value == "pause_schedule" and answer.life < options.lives
                  for answer in look.history.of(Answered))  # fmt: skip
    lives: list[LifeBegan] = look.history.of(LifeBegan)
    if stopped or any(life.missing.partition("/")[2].startswith("tick") for life in lives):
        return
    times = sorted(_due(facts.id) for facts in _occurrences(look))
    gaps = [(a, b) for a, b in pairwise(times) if abs(b - a - options.every * 1000) > 1_000]
    if gaps and len(times) < 900:
        look.broken("G5", f"the schedule every {options.every} s fired at {gaps}, and not between")


CHECKS = [
    g4_every_call_has_one_child, g4_every_send_is_one_invocation, g4_sends_begin_after_their_delay,
    g4_signals_arrive_once, g6_callers_get_what_the_called_ended_with, g6_shared_promises_have_one_value,
    g6_settled_by_handlers_is_settled, g4_one_writer_of_a_key, g4_keys_go_in_order_of_arrival,
    g4_state_changes_apply_once, g4_what_people_write_is_written_once, g4_places_of_lists_are_in_order_and_taken_once,
    g4_counters_count_their_writers, g4_limits_hold,
    g7_cancel_reaches_the_called, g7_kill_reaches_the_called, g7_the_sent_go_on, g3_notes_are_recorded_once,
    g3_what_was_emitted_is_recorded, g3_what_a_failed_one_had_read_is_recorded,
    g6_watchers_see_each_event_once, g4_no_occurrence_twice,
    g5_no_occurrence_is_early, g5_schedules_make_up_for_all, g5_cron_is_kept,
]  # fmt: skip
