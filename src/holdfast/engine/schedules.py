"""Handlers that run by the clock: cron and interval schedules.

Promises: an occurrence and the next one's time are one commit, and its invocation's id is the schedule's and its time:
nothing fires twice, whatever dies when; what came due while nobody ran is made up for as the schedule says. Refuses:
schedules that no program declares: one that is gone from the code is gone from the store at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from holdfast.core.ids import check_id
from holdfast.engine.starts import Order
from holdfast.errors import BadArguments, UnknownSchedule, Unreadable
from holdfast.service import Handler, run_id
from holdfast.stores.base import ScheduleRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

log = logging.getLogger("holdfast")

Missed = Literal["once", "skip", "all"]

WAIT_SECONDS_MAX = 30.0  # a wall clock that is set forward is noticed after this long
LATE_MS = 60_000  # what fires later than this was missed
MADE_UP_MAX = 1_000  # missed occurrences that "all" makes up for; the oldest are left out


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A schedule's body in the store."""

    rule: str
    zone: str
    missed: str
    input: bytes
    key: str | None
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
        return self.cron if self.cron is not None else f"every {self.every_ms / 1000:g} s"

    def after(self, moment: int, *, since: int | None = None) -> Iterator[int]:
        """The times after a moment, in milliseconds. An interval counts from `since`, the last time it was due."""
        if self.cron is not None:
            begin = datetime.fromtimestamp(moment / 1000, ZoneInfo(self.zone))
            for when in CronSim(self.cron, begin):
                yield int(when.timestamp() * 1000)
            return
        base = moment if since is None else since
        rounds = max(1, (moment - base) // self.every_ms + 1)
        while True:
            yield base + rounds * self.every_ms
            rounds += 1


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
        self._rows: dict[str, ScheduleRow] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Takes over what the program declares, and begins to fire. Raises StoreError."""
        now = self._engine.clock.now()
        for row in self._engine.store.schedules():
            if row.id in self._plans:
                self._rows[row.id] = row
            else:
                self._engine.committer.batch.unschedules.append(row.id)
        for plan in self._plans.values():
            known = self._rows.get(plan.id)
            earlier = _known(known)
            wanted = _stored(plan)
            if known is not None and earlier is not None and known.target == plan.handler.target:
                if msgspec.structs.replace(earlier, last_at=None, last_id=None) == wanted:
                    continue
                wanted = msgspec.structs.replace(wanted, last_at=earlier.last_at, last_id=earlier.last_id)
            paused = 0 if known is None else known.paused
            self._write(plan.id, plan.handler.target, wanted, next(plan.rule.after(now)), paused)
        self._tick()

    def stop(self) -> None:
        """Fires nothing any more."""
        if self._handle is not None:
            self._handle.cancel()
        self._plans = {}

    def all(self) -> list[tuple[ScheduleRow, Stored]]:
        """Every schedule there is, by id."""
        rows = {row.id: row for row in self._engine.reading().schedules()} | self._rows
        return [(row, _read(row)) for _, row in sorted(rows.items())]

    async def pause(self, id: str, *, paused: bool) -> None:
        """Lets a schedule fire no more, or again; returns once that is durable. Occurrences of the pause are not made
        up for. Raises UnknownSchedule."""
        row, stored = self._find(id)
        next_at = row.next_at
        plan = self._plans.get(id)
        if not paused and row.paused and plan is not None:
            next_at = next(plan.rule.after(self._engine.clock.now(), since=row.next_at))
        self._write(id, row.target, stored, next_at, int(paused))
        self._arm()
        await self._engine.durable()

    async def trigger(self, id: str) -> str:
        """Fires a schedule now, beside its times; the id of the invocation. Raises UnknownSchedule."""
        self._engine.check_open()
        row, stored = self._find(id)
        handler = self._engine.registry.find(row.target)
        now = self._engine.clock.now()
        started = f"{id}@{_iso(now)}+{self._engine.entropy.bits(32):08x}"
        self._engine.create(Order(started, handler, stored.input, stored.key))
        await self._engine.durable()
        return started

    def _find(self, id: str) -> tuple[ScheduleRow, Stored]:
        for row, stored in self.all():
            if row.id == id:
                return row, stored
        raise UnknownSchedule(f"no schedule has the id {id!r}", fix="check the id, or list the schedules")

    def _tick(self) -> None:
        now = self._engine.clock.now()
        for plan in self._plans.values():
            row = self._rows[plan.id]
            if not row.paused and row.next_at is not None and row.next_at <= now:
                self._fire(plan, row, now)
        self._arm()

    def _fire(self, plan: Plan, row: ScheduleRow, now: int) -> None:
        assert row.next_at is not None  # for the type checker: the caller has looked
        due = deque([row.next_at], MADE_UP_MAX if plan.missed == "all" else 1)
        earliest = row.next_at
        if plan.rule.cron is None:  # the times before are too many to be made up for, and need not be counted
            rounds = (now - row.next_at) // plan.rule.every_ms
            earliest += max(0, rounds - MADE_UP_MAX) * plan.rule.every_ms
        for when in plan.rule.after(earliest, since=row.next_at):
            if when > now:
                break
            due.append(when)
        following = next(islice(plan.rule.after(now, since=row.next_at), 1))
        if plan.missed == "skip" and now - due[-1] > LATE_MS:
            due.clear()
        stored = _read(row)
        for when in due:
            started = f"{plan.id}@{_iso(when)}"
            stored = msgspec.structs.replace(stored, last_at=when, last_id=started)
            key = plan.key
            if plan.handler.main and plan.handler.service is not None and key is not None:
                started = run_id(plan.handler.service, key)
            if self._engine.rows.find(started) is None:
                self._engine.create(Order(started, plan.handler, plan.text, key))
        self._write(plan.id, row.target, stored, following, row.paused)

    def _write(self, id: str, target: str, stored: Stored, next_at: int | None, paused: int) -> None:
        row = ScheduleRow(id, target, msgspec.msgpack.encode(stored), next_at, paused)
        self._rows[id] = row
        self._engine.committer.batch.schedules.append(row)

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        moments = [row.next_at for id, row in self._rows.items() if id in self._plans and not row.paused]
        earliest = min((moment for moment in moments if moment is not None), default=None)
        if earliest is None:
            return
        wait = max(0.0, (earliest - self._engine.clock.now()) / 1000)
        self._handle = asyncio.get_running_loop().call_later(
            min(wait, WAIT_SECONDS_MAX), self._engine.guard, self._tick
        )


def _stored(plan: Plan) -> Stored:
    return Stored(plan.rule.text, plan.rule.zone, plan.missed, plan.text, plan.key)


def _read(row: ScheduleRow) -> Stored:
    try:
        return msgspec.msgpack.decode(row.body, type=Stored)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(
            f"the stored schedule {row.id!r} does not decode: {error}",
            cause="the file is damaged",
            fix="restore a backup",
        ) from None


def _known(row: ScheduleRow | None) -> Stored | None:
    """What is stored of a declared schedule. Damage costs its past, and no more (G10): it begins anew."""
    try:
        return None if row is None else _read(row)
    except Unreadable as damage:
        log.error("a schedule begins anew: %s", damage)  # noqa: TRY400
        return None


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
