"""Handlers that run by the clock: cron and interval schedules.

Promises: an occurrence and the next one's time are one commit, and its invocation's id is the schedule's and its time:
nothing fires twice, whatever dies when; what came due while nobody ran is made up for as the schedule says; one that a
person has paused fires no more, also when what was stored of it cannot be read. Refuses: schedules that no program
declares: one that is gone from the code is gone from the store at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from holdfast.core.ids import check_id
from holdfast.engine.starts import Order
from holdfast.errors import BadArguments, UnknownSchedule, Unreadable
from holdfast.service import Handler, run_id
from holdfast.stores.base import StateRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

log = logging.getLogger("holdfast")

Missed = Literal["once", "skip", "all"]

WAIT_SECONDS_MAX = 30.0  # a wall clock that is set forward is noticed after this long
LATE_MS = 60_000  # what fires later than this was missed
CRON_FIELDS = 5  # a sixth, for seconds, stands elsewhere in every program that has one
LOOK_BACK_MS = (3_600_000, 86_400_000, 40 * 86_400_000, 400 * 86_400_000, 1 << 62)
EVERY = "every "  # begins the text of an interval; of a cron expression that is no field
SCHEDULES = ("", "schedule")  # the state in which they are kept, by id
MADE_UP_MAX = 1_000  # missed occurrences that "all" makes up for; the oldest are left out


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A schedule's body in the store."""

    target: str
    rule: str
    zone: str
    missed: str
    input: bytes
    key: str | None
    next_at: int
    paused: bool = False
    last_at: int | None = None
    last_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """When: a cron expression in a time zone, or every so many milliseconds."""

    cron: str | None = None
    every_ms: int = 0
    zone: str = "UTC"

    @property
    def text(self) -> str:
        """As it is stored and shown."""
        return self.cron if self.cron is not None else f"{EVERY}{self.every_ms / 1000:.12g} s"

    def after(self, moment: int, *, since: int | None = None) -> Iterator[int]:
        """The times after a moment, in milliseconds. An interval counts from `since`, the last time it was due."""
        if self.cron is not None:
            begin = datetime.fromtimestamp(moment / 1000, ZoneInfo(self.zone))
            for when in CronSim(self.cron, begin):
                at = int(when.timestamp() * 1000)
                if at > moment:  # in an hour that comes twice it gives times of the first one also in the second
                    yield at
            return
        base = moment if since is None else since
        rounds = max(1, (moment - base) // self.every_ms + 1)
        while True:
            yield base + rounds * self.every_ms
            rounds += 1

    def due(self, first: int, now: int, limit: int) -> list[int]:
        """The last times, `limit` at most, from `first`, which is one, to now."""
        if self.cron is None:
            count = (now - first) // self.every_ms
            return [first + n * self.every_ms for n in range(max(0, count - limit + 1), count + 1)]
        for span in LOOK_BACK_MS:  # years of minutes would hold the loop, and only the last of them are wanted
            since = max(first - 1, now - span)
            found = deque(takewhile(lambda when: when <= now, self.after(since)), maxlen=limit)
            if len(found) == limit or since < first:
                break
        return list(found)


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule as the program declares it."""

    id: str
    handler: Handler
    rule: Rule
    missed: Missed
    text: bytes
    key: str | None


def make_rule(cron: str | None, every: float | timedelta | None, zone: str) -> Rule:
    """Raises BadArguments for what no clock can follow."""
    if (cron is None) is (every is None):
        raise BadArguments("a schedule needs cron or every, and not both", fix='cron="0 9 * * *", or every=3600')
    try:
        ZoneInfo(zone)
        if cron is not None and len(cron.split()) != CRON_FIELDS:
            raise CronSimError(f"it has {len(cron.split())} fields")
        if cron is not None:
            next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        why = str(error) or "it never comes"
        raise BadArguments(
            f"{cron!r} is no cron expression: {why}", fix="five fields: minute hour day month weekday"
        ) from None
    except (KeyError, ValueError, OSError):
        raise BadArguments(f"there is no time zone {zone!r}", fix="name one such as Europe/Berlin, or UTC") from None
    if every is None:
        return Rule(cron=cron, zone=zone)
    seconds = every.total_seconds() if isinstance(every, timedelta) else float(every)
    if not 1 <= seconds <= 10 * 366 * 86_400:
        raise BadArguments(f"a schedule cannot run every {seconds} seconds", fix="give 1 second to 10 years")
    return Rule(every_ms=int(seconds * 1000))


class Schedules:
    """The schedules of an engine."""

    def __init__(self, engine: Engine, plans: Iterable[Plan]) -> None:
        self._engine = engine
        self._plans = {check_id(plan.id): plan for plan in plans}
        self._stored: dict[str, Stored] = {}  # of those the program declares
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Takes over what the program declares, and begins to fire. Raises StoreError."""
        store, now = self._engine.store, self._engine.clock.now()
        ids = store.state_names(*SCHEDULES)
        for id in ids:
            if id not in self._plans:
                self._engine.committer.batch.states.append(StateRow(*SCHEDULES, id, None))
        for plan in self._plans.values():
            new = _begun(plan, next(plan.rule.after(now)))
            try:
                known = self._read(plan.id) if plan.id in ids else None
            except Unreadable as damage:  # it costs its past, and no more (G10); a person may have paused it
                log.error("a schedule is paused until somebody resumes it: %s", damage)  # noqa: TRY400
                known, new = None, msgspec.structs.replace(new, paused=True)
            if known is not None and _declared(known) == _declared(new):
                self._stored[plan.id] = known
                continue
            if known is not None:
                new = msgspec.structs.replace(new, paused=known.paused)
                if known.target == new.target:
                    new = msgspec.structs.replace(new, last_at=known.last_at, last_id=known.last_id)
            self._write(plan.id, new)
        self._tick()

    def stop(self) -> None:
        """Fires nothing any more."""
        if self._handle is not None:
            self._handle.cancel()
        self._plans = {}

    def all(self) -> list[tuple[str, Stored]]:
        """Every schedule there is, by id. Raises Unreadable."""
        ids = {*self._engine.reading().state_names(*SCHEDULES), *self._stored}
        return [(id, self._stored[id] if id in self._stored else self._read(id)) for id in sorted(ids)]

    async def pause(self, id: str, *, paused: bool) -> None:
        """Lets a schedule fire no more, or again; returns once that is durable. Occurrences of the pause are not made
        up for. Raises UnknownSchedule."""
        self._engine.check_open()
        stored = self._find(id)
        next_at = stored.next_at
        now = self._engine.clock.now()
        if not paused and stored.paused and next_at <= now:
            next_at = next(_rule(stored).after(now, since=next_at))
        self._write(id, msgspec.structs.replace(stored, next_at=next_at, paused=paused))
        self._arm()
        await self._engine.durable()

    async def trigger(self, id: str) -> str:
        """Fires a schedule now, beside its times; the id of the invocation. Raises UnknownSchedule."""
        self._engine.check_open()
        stored = self._find(id)
        handler = self._engine.registry.find(stored.target)
        now = self._engine.clock.now()
        unique = f"{id}@{_iso(now)}+{self._engine.entropy.bits(32):08x}"
        started = self._start(handler, unique, stored.input, stored.key)
        await self._engine.durable()
        return started

    def _find(self, id: str) -> Stored:
        if id in self._stored:
            return self._stored[id]
        if id in self._engine.reading().state_names(*SCHEDULES):
            return self._read(id)
        raise UnknownSchedule(f"no schedule has the id {id!r}", fix="check the id, or list the schedules")

    def _tick(self) -> None:
        now = self._engine.clock.now()
        for plan in self._plans.values():
            stored = self._stored[plan.id]
            if not stored.paused and stored.next_at <= now:
                self._fire(plan, stored, now)
        self._arm()

    def _fire(self, plan: Plan, stored: Stored, now: int) -> None:
        due = plan.rule.due(stored.next_at, now, MADE_UP_MAX if plan.missed == "all" else 1)
        following = next(plan.rule.after(now, since=stored.next_at))
        if plan.missed == "skip":
            due = [when for when in due if now - when <= LATE_MS]
        for when in due:
            started = self._start(plan.handler, f"{plan.id}@{_iso(when)}", plan.text, plan.key)
            stored = msgspec.structs.replace(stored, last_at=when, last_id=started)
        self._write(plan.id, msgspec.structs.replace(stored, next_at=following))

    def _start(self, handler: Handler, id: str, text: bytes, key: str | None) -> str:
        """Starts an invocation, unless it is there; its id."""
        if handler.main and handler.service is not None and key is not None:
            id = run_id(handler.service, key)
        if self._engine.rows.find(id) is None:
            self._engine.create(Order(id, handler, text, key))
        return id

    def _write(self, id: str, stored: Stored) -> None:
        self._stored[id] = stored
        self._engine.committer.batch.states.append(StateRow(*SCHEDULES, id, msgspec.msgpack.encode(stored)))

    def _read(self, id: str) -> Stored:
        body = self._engine.reading().state(*SCHEDULES, id)
        try:
            return msgspec.msgpack.decode(body or b"", type=Stored)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unreadable(
                f"the stored schedule {id!r} does not decode: {error}",
                cause="the file is damaged",
                fix="resume it where its program runs, if it shall fire; or restore a backup",
            ) from None

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._engine.resting:
            return
        moments = [stored.next_at for id, stored in self._stored.items() if id in self._plans and not stored.paused]
        earliest = min(moments, default=None)
        if earliest is None:
            return
        wait = max(0.0, (earliest - self._engine.clock.now()) / 1000)
        self._handle = asyncio.get_running_loop().call_later(
            min(wait, WAIT_SECONDS_MAX), self._engine.guard, self._tick
        )


def _begun(plan: Plan, next_at: int) -> Stored:
    rule = plan.rule
    return Stored(plan.handler.target, rule.text, rule.zone, plan.missed, plan.text, plan.key, next_at)


def _declared(stored: Stored) -> Stored:
    """What of it the program says."""
    return msgspec.structs.replace(stored, next_at=0, paused=False, last_at=None, last_id=None)


def _rule(stored: Stored) -> Rule:
    if stored.rule.startswith(EVERY):
        return Rule(every_ms=round(float(stored.rule.split()[1]) * 1000))
    return Rule(cron=stored.rule, zone=stored.zone)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
