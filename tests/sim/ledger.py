"""What the commits of a world say: every invocation with its journal, its moves and its links, read from the batches
alone, and its handler replayed over that journal by a machine that nothing else touches.

A journal has versions: a retry takes the failure out of it, with what followed, and what was done until then stays
done. A copy (restart, fork) begins with a prefix whose deeds are another's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core import entries as records
from holdfast.core.commands import DEEDS, CallHandler, CancelCall, Command, EndCancelled, Raise, Return
from holdfast.core.invocation import Status
from holdfast.core.payload import expand, unpack
from holdfast.core.state import StateView
from holdfast.engine.reasons import describe
from holdfast.engine.starts import split_headers
from holdfast.errors import HandlerFault, HoldfastError
from holdfast.objects import context_of
from holdfast.steps import plan_thread
from holdfast.stores.base import InvocationRow, MoveRow, PromiseRow
from tests.sim.history import Committed
from tests.sim.revised import EDITED
from tests.sim.watched import Segment, Watched

if TYPE_CHECKING:
    from tests.sim.world import World

FROM_OUTSIDE = (records.SignalArrived, records.CancelRequested)
UNASKED = (*records.NOTES, records.Reopened)  # what is no completion
EDITS = ("", "argument", "name", "fewer")
FOREVER = 1 << 60  # commits
WITHDRAWN = 3  # PromiseRow.status
LIST = b"\x02"  # first byte of the state row that says where a list begins

# The value that makes a machine decode the entry's own payload, whatever module it lives in.
LIVE = Watched.receive.__defaults__[0]  # type: ignore[index]


class Record(NamedTuple):
    """An entry, and the commit that wrote it."""

    commit: int
    entry: Any
    event: Committed


class Moved(NamedTuple):
    """A change of status, its start included."""

    commit: int
    status: Status
    row: InvocationRow | MoveRow
    event: Committed

    @property
    def runs(self) -> bool:
        """Whether its handler was run by then, and not only its row changed."""
        if self.status in {Status.READY, Status.SUSPENDED}:
            return True
        return self.row.began is not None and self.status is not Status.QUEUED


@dataclass
class Replayed:
    """A journal, replayed."""

    path: list[Segment] = field(default_factory=list)
    wrong: str = ""
    end: Any = None  # the command it ended with
    deadline: int | None = None  # of the timer it waits for


@dataclass
class Version:
    """A journal between two retries."""

    since: int  # commit
    records: list[Record]
    done: int  # of so many entries the deeds had been done before; -1: of none, not even the beginning's
    raised: bool = False  # the handler itself had raised: what it does now behind that point is to be done
    replayed: Replayed = field(default_factory=Replayed)

    @property
    def completions(self) -> list[Record]:
        return [record for record in self.records if not isinstance(record.entry, UNASKED)]

    @property
    def steps(self) -> list[tuple[Record, Segment]]:
        """Each completion, and where the replay stood with it."""
        return list(zip(self.completions, self.replayed.path[1:], strict=False))

    @property
    def first(self) -> int:
        """The first segment of the path whose deeds belong to this version."""
        if self.done < 0:
            return 0
        return 1 + sum(1 for record in self.records[: self.done] if not isinstance(record.entry, UNASKED))


class Act(NamedTuple):
    """Something a handler asked for, the commit that led to it, and the entry it follows (-1: the beginning)."""

    commit: int
    place: int
    command: Command


@dataclass
class Facts:
    """One invocation."""

    row: InvocationRow  # as it stands at the end
    started: int  # commit
    begun: int | None = None  # commit
    versions: list[Version] = field(default_factory=list)
    moves: list[Moved] = field(default_factory=list)
    ends: list[tuple[int, Any]] = field(default_factory=list)  # commit, outcome
    reopened: list[int] = field(default_factory=list)  # commits
    purged: int | None = None  # commit
    blobs: dict[int, bytes] = field(default_factory=dict)
    edit: str = ""  # the code that explains the journal

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def status(self) -> Status:
        return Status(self.row.status)

    @property
    def now(self) -> Version:
        return self.versions[-1]

    @property
    def entries(self) -> list[Record]:
        return self.now.records

    @property
    def steps(self) -> list[tuple[Record, Segment]]:
        return self.now.steps

    @property
    def replayed(self) -> Replayed:
        return self.now.replayed

    @property
    def ended(self) -> int | None:
        """The commit of its end, if it stands."""
        return self.ends[-1][0] if self.status.ended else None

    @property
    def paused(self) -> bool:
        """Ever."""
        return any(moved.status is Status.PAUSED for moved in self.moves)

    @property
    def outlived(self) -> bool:
        """Whether it may look at a list that others have emptied since: it is a copy, or was opened again."""
        return self.row.key is not None and (self.row.origin is not None or bool(self.reopened))

    @property
    def lost(self) -> bool:
        """Whether it was told that such a list is gone."""
        told = (outcome for _, outcome in self.ends if isinstance(outcome, records.Raised))
        return self.outlived and any(outcome.failure.type == "Unreadable" for outcome in told)

    def status_at(self, commit: int) -> Status | None:
        """Where it stood after a commit."""
        return next((moved.status for moved in reversed(self.moves) if moved.commit <= commit), None)

    def end_at(self, commit: int) -> Any:
        """How it had ended after a commit, None if it had not."""
        status = self.status_at(commit)
        if status is None or not status.ended:
            return None
        return next(outcome for number, outcome in reversed(self.ends) if number <= commit)

    def at(self, commit: int) -> Version:
        """The journal's version after a commit."""
        return next((version for version in reversed(self.versions) if version.since <= commit), self.versions[0])

    def removed(self, record: Record) -> int | None:
        """The commit that took an entry out of the journal."""
        for before, after in zip(self.versions, self.versions[1:], strict=False):
            if any(one is record for one in before.records) and not any(one is record for one in after.records):
                return after.since
        return None

    def read(self, payload: bytes) -> bytes:
        """The JSON text of a payload."""
        return unpack(payload, lambda first, last: sorted(b for b in self.blobs.items() if first <= b[0] <= last))

    def acts(self) -> Iterator[Act]:
        """All its handler asked for, each once, in order."""
        before: Version | None = None
        for version in self.versions:
            runs = self.runs(version)
            if runs is None:
                return
            completions = version.completions
            for index, segment in enumerate(version.replayed.path):
                if index < version.first:
                    yield from self._asked_again(version, index, segment)
                    if before is not None and version.raised and index == version.first - 1:
                        done = sum(isinstance(command, DEEDS) for command in before.replayed.path[-1].asked)
                        new = [command for command in segment.asked if isinstance(command, DEEDS)][done:]
                        yield from (Act(runs, index - 1, command) for command in new)
                    continue
                commit = max(runs, completions[index - 1].commit) if index else runs
                for command in segment.asked:
                    yield Act(commit, index - 1, command)
            before = version

    def runs(self, version: Version) -> int | None:
        """The commit with which it went on in a version of its journal, or began; None if it never did."""
        return next((moved.commit for moved in self.moves if moved.commit >= version.since and moved.runs), None)

    def _asked_again(self, version: Version, index: int, segment: Segment) -> Iterator[Act]:
        # What a copy still waits for, or has to ask again after a retry, was never asked for in its own name.
        came = {getattr(record.entry, "call", None) for record in version.records if record.commit <= version.since}
        before = version.replayed.path[: version.first]
        came |= {c.call for other in before for c in other.asked if isinstance(c, CancelCall)}
        for command in segment.asked:
            if isinstance(command, CallHandler) and command.call not in came:
                yield Act(version.since, index - 1, command)

    def pending(self) -> int | None:
        """Of so many entries the deeds were done, if those of later ones may not have been."""
        if self.status in {Status.DONE, Status.FAILED}:
            return None
        for moved in reversed(self.moves):
            if moved.status.ended:
                continue
            outcome = None if moved.row.outcome is None else records.decode_outcome(moved.row.outcome)
            if isinstance(outcome, (records.Paused, records.Woken)):
                return outcome.obeyed
            return None
        return None


class StateText(NamedTuple):
    """A change of an object's state: a value's text, None where it was removed, or an element of a list."""

    kind: str  # set or append
    text: bytes | None


class Ledger:
    """All of a world's commits, read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.broken = world.broken
        self.facts: dict[int, Facts] = {}
        self.of_id: dict[str, list[Facts]] = defaultdict(list)  # more than one where it was purged between
        self.promises: dict[str, PromiseRow] = {}
        self.settles: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        self.state: dict[tuple[str, str, str], list[tuple[int, StateText]]] = defaultdict(list)
        self.forgotten: dict[str, int] = {}  # by owner of named promises: the commit of the last purge
        self.events: list[Committed] = world.history.of(Committed)
        for number, event in enumerate(self.events, 1):
            self._read(number, event)

    def _read(self, number: int, event: Committed) -> None:
        batch = event.batch
        for n in batch.purges:
            self.facts[n].purged = number
        for service, key in batch.forgets:
            owner = f"{service}:{key}"
            self.forgotten[owner] = number
            for id in [id for id in self.promises if owner_of(id) == owner]:
                del self.promises[id]
                self.settles.pop(id, None)
        fresh = {row.n for row in batch.starts}
        for n, seq in batch.rewrites:
            facts = self.facts[n]
            facts.versions.append(Version(number, facts.entries[:seq], seq))
        for start in batch.starts:
            self._start(number, start, event)
        for row in batch.entries:
            self._entry(number, row, event)
        for n in fresh:
            facts = self.facts[n]
            facts.now.done = len(facts.entries) - _is_edited(facts.row) if _is_copy(facts.row) else -1
        for n, _ in batch.rewrites:
            self.facts[n].now.done = len(self.facts[n].entries)
        for move in batch.moves:
            self._move(number, move, event)
        for blob in batch.blobs:
            self.facts[blob.owner].blobs[blob.number] = blob.body
        for promise in batch.promises:
            earlier = self.promises.get(promise.id)
            if earlier is not None and earlier.status != WITHDRAWN:
                self.broken("G6", f"promise {promise.id} was made again, and its status was {earlier.status}")
            self.promises[promise.id] = promise
            self.settles.pop(promise.id, None)  # one that was withdrawn: a retry asks again
        for settle in batch.settles:
            self.settles[settle.id].append((number, settle))
            self.promises[settle.id] = self.promises[settle.id]._replace(status=settle.status, value=settle.value)
        for state in batch.states:
            if state.service and (state.body is None or state.body[:1] != LIST):  # else the engine's own
                text = None if state.body is None else expand(state.body)
                self.state[state[:3]].append((number, StateText("set", text)))
        for item in batch.items:
            if not item.body:
                continue  # no element: it says how far the places of a list are taken
            self.state[item[:3]].append((number, StateText("append", expand(item.body))))

    def _start(self, number: int, start: InvocationRow, event: Committed) -> None:
        if start.n in self.facts or any(facts.purged is None for facts in self.of_id[start.id]):
            self.broken("G6", f"{start.id} was started twice")
        facts = self.facts[start.n] = Facts(start, number, None if start.began is None else number)
        self.of_id[start.id].append(facts)
        facts.versions.append(Version(number, [], -1))
        self._moved(facts, number, start, event)

    def _entry(self, number: int, row: Any, event: Committed) -> None:
        facts = self.facts[row.n]
        if row.seq != len(facts.entries):
            self.broken("G4", f"{facts.id}: entry {row.seq} was written when there were {len(facts.entries)}")
        entry = records.decode_entry(row.body)
        if isinstance(entry, records.Reopened) and facts.now.since < number:  # nothing was taken out
            facts.versions.append(Version(number, list(facts.entries), len(facts.entries) + 1, raised=True))
        if facts.ended is not None and facts.ended < number and facts.now.since < number:
            self.broken("G6", f"{facts.id}: an entry was written after its end")
        facts.entries.append(Record(number, entry, event))

    def _move(self, number: int, move: MoveRow, event: Committed) -> None:
        facts = self.facts[move.n]
        status = Status(move.status)
        if facts.ended is not None:
            # A failed one may be opened again, and with it what it had cancelled.
            if facts.status not in {Status.FAILED, Status.CANCELLED} or status is not Status.QUEUED:
                self.broken("G6", f"{facts.id} was moved from {facts.status.name} to {status.name} after its end")
            facts.reopened.append(number)
        facts.row = facts.row._replace(
            status=move.status, updated=move.updated, wake_at=move.wake_at, outcome=move.outcome,
            began=facts.row.began if move.began is None else move.began,
        )  # fmt: skip
        if facts.begun is None and move.began is not None:
            facts.begun = number
        self._moved(facts, number, move, event)

    def _moved(self, facts: Facts, number: int, row: InvocationRow | MoveRow, event: Committed) -> None:
        status = Status(row.status)
        facts.moves.append(Moved(number, status, row, event))
        if status.ended:
            facts.ends.append((number, records.decode_outcome(row.outcome or b"")))

    def sound(self, facts: Facts) -> bool:
        """Whether none of its bytes was damaged, nor of what it was copied from."""
        rotten = self.world.rotten
        return facts.id not in rotten and (facts.row.origin or "").partition(" from ")[0] not in rotten

    def fine(self) -> list[Facts]:
        """All that were not damaged."""
        return [facts for facts in self.facts.values() if self.sound(facts)]

    def known(self, id: str, commit: int | None = None) -> Facts | None:
        """The facts of a sound invocation: of the last one with that id, or the one that had it after a commit."""
        for facts in reversed(self.of_id.get(id, [])):
            if commit is None or facts.started <= commit:
                return facts if self.sound(facts) else None
        return None

    def replay_all(self) -> None:
        """Every journal, in every version."""
        for facts in self.fine():
            if facts.row.began is None:  # its handler was never called
                continue
            for edit in EDITS if facts.row.target in EDITED else EDITS[:1]:
                facts.edit = edit
                for version in facts.versions:
                    version.replayed = self._replay(facts, version)
                if not facts.replayed.wrong and not self.end_differs(facts):
                    break

    def _replay(self, facts: Facts, version: Version) -> Replayed:
        row = facts.row
        handler = self.world.registry.find(row.target)
        told = _unheard if row.target in EDITED else self.world.told_by  # it may be the wrong code that tells
        life = SimpleNamespace(edit=facts.edit, renewed=True, mended=self._is_mended(facts, version), told=told)
        found = Replayed()
        machine = Watched(
            row.id, created=row.began or row.created, seed=row.seed, read=facts.read, plan_thread=plan_thread
        )
        try:
            text, headers = split_headers(facts.read(row.input))
            args, kwargs = handler.arguments.decode(text)
            machine.recall([record.entry for record in version.records])
            told = self.world.told.get((row.id, row.seed), {})
            machine._noted = {**told, **machine._noted}  # what the end was made of alone is in no journal
            if row.key is not None:
                machine.state = StateView(machine, _Elements(self, facts, version), writes=not handler.shared)
            machine.begin(
                handler.fn, context_of(machine, {"life": life}, self.world.registry, headers, handler, row.key), *args,
                **kwargs,
            )  # fmt: skip
            found.end = _take(machine)
            for record in version.records:
                if isinstance(record.entry, records.Reopened):
                    machine._reopen()
                if isinstance(record.entry, UNASKED):
                    continue
                if machine.ended and isinstance(record.entry, FROM_OUTSIDE):
                    continue  # it came too late, and nobody could know
                if machine.ended:
                    found.wrong = f"the handler ended, and the journal goes on with {record.entry}"
                    break
                machine._apply(record.entry, LIVE)
                found.end = _take(machine)
                if machine.path[-1].wrong:
                    break
        except (HandlerFault, HoldfastError, KeyError) as error:
            found.wrong = f"{type(error).__name__}: {error}"
        found.path = list(machine.path)
        found.deadline = None if machine.ended else machine.next_deadline()
        found.wrong = next((s.wrong for s in found.path if s.wrong), found.wrong)
        machine.evict()
        return found

    def _is_mended(self, facts: Facts, version: Version) -> bool:
        """Whether a version of a journal came to its end under mended code, or has not come to it."""
        until = next((other.since for other in facts.versions if other.since > version.since), FOREVER)
        ends = [moved for moved in facts.moves if version.since <= moved.commit < until and moved.status.ended]
        return not ends or ends[-1].event.life >= self.world.options.mended_from

    def end_differs(self, facts: Facts) -> str:
        """How the stored outcome is not what the journal leads to; nothing if it is."""
        status, end = facts.status, facts.replayed.end
        if not status.ended or status is Status.KILLED:
            return ""
        outcome = facts.ends[-1][1]
        if facts.row.began is None:
            return "" if isinstance(outcome, records.Cancelled) else f"it is {status.name}, and never began"
        match end:
            case Return(value) if isinstance(outcome, records.Returned):
                text = self.world.registry.find(facts.row.target).returns.encode_checked(value)[0]
                stored = facts.read(outcome.value)
                return "" if text == stored else f"{stored[:80]!r} is stored, the journal leads to {text[:80]!r}"
            case Raise(error) if isinstance(outcome, records.Raised):
                again = describe(error)
                same = (again.type, again.message) == (outcome.failure.type, outcome.failure.message)
                return "" if same else f"{outcome.failure.message!r} is stored, the journal leads to {again.message!r}"
            case EndCancelled() if isinstance(outcome, records.Cancelled):
                return ""
        return f"it is {status.name}, and the journal leads to {end}"


def owner_of(promise: str) -> str:
    """Of a named promise, the workflow's run."""
    return promise.rpartition(":")[0]


def _is_copy(row: InvocationRow) -> bool:
    return row.origin is not None and row.began is not None


def _is_edited(row: InvocationRow) -> bool:
    """Whether the last result it was given is another than its original had, so that nothing that follows was done."""
    return (row.origin or "").endswith(", edited")


def _unheard(*_: Any) -> None:
    pass


def _take(machine: Watched) -> Any:
    machine.path[-1].asked += machine.take_commands()
    return next((c for c in machine.path[-1].asked if isinstance(c, (Return, Raise, EndCancelled))), None)


class _Elements:
    """The source of a replay's state: all that is not in its journal are the elements of lists it looked at."""

    def __init__(self, ledger: Ledger, facts: Facts, version: Version) -> None:
        self._ledger = ledger
        self._facts = facts
        self._noted = {
            record.entry.note: record.commit
            for record in version.records
            if isinstance(record.entry, records.ItemsRead)
        }

    def value(self, name: str) -> bytes | None:
        raise KeyError(f"value {name} of {self._facts.id} was read, and is not in its journal")

    def names(self) -> list[str]:
        raise KeyError(f"the names of {self._facts.id} were read, and are not in its journal")

    def bounds(self, name: str) -> tuple[int, int]:
        raise KeyError(f"list {name} of {self._facts.id} was looked at, and that is not in its journal")

    def items(self, name: str, first: int, end: int) -> list[bytes]:
        """As they were when the list was looked at."""
        looked = min((commit for note, commit in self._noted.items() if f"list {name}#" in note), default=1 << 30)
        service = self._facts.row.target.partition("/")[0]
        found: dict[int, bytes] = {}
        for event in self._ledger.events[: looked - 1]:
            for item in event.batch.items:
                if item[:3] == (service, self._facts.row.key, name) and item.body:
                    found[item[3]] = expand(item.body)
        return [found[index] for index in range(first, end)]
