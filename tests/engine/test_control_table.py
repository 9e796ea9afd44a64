"""Every operation of a person on an invocation in every status: what it does or how it is refused, and that what was
acknowledged holds when the process dies at once."""

import asyncio
import re

import pytest

from holdfast import (
    Context,
    InvocationCancelled,
    InvocationFailed,
    Limits,
    Object,
    Retry,
    UnknownInvocation,
    WrongStatus,
)
from holdfast.core import entries as records
from tests.engine.lives import Flags, life
from tests.engine.world import FakeClock, engine_of, open_promise, paused, wait_for

HOUR = 3600
CANCELLED = "cancelled by the client"


class Office:
    """The handlers, and what their bodies did."""

    def __init__(self):
        self.flags = Flags()
        self.broken = True
        self.desk = Object("Desk")

        @self.desk.handler
        async def hold(ctx: Context) -> None:
            await ctx.promise("held")

        @self.desk.handler
        async def work(ctx: Context, how: str) -> str:
            return await self._work(ctx, how)

        async def job(ctx: Context, how: str) -> str:
            return await self._work(ctx, how)

        self.hold, self.work, self.job = hold, work, job

    async def _work(self, ctx: Context, how: str) -> str:
        word = await ctx.run(self.flags.note, "first")
        try:
            if how == "runs":
                await ctx.run(self.flags.body, "long")
            elif how == "tries":
                await ctx.run(self._unlucky, retry=Retry(initial=60, jitter=0))
            elif how == "fails":
                await ctx.run(self._unlucky, retry=Retry(max_attempts=1))
            elif how == "faulty":
                await ctx.run(self._faulty)
            elif how == "asks":
                word += await ctx.ask("Well?", str)
            elif how == "waits":
                word += await ctx.receive("go", str)
        except asyncio.CancelledError:
            await ctx.run(self.flags.note, "cleaned up")
            raise
        return word

    async def _unlucky(self) -> None:
        if self.broken:
            raise ConnectionError("down")

    async def _faulty(self) -> None:
        if self.broken:
            raise TypeError("a bug")

    def life(self, world, clock, **options):
        return life(world, self.desk, self.job, clock=clock, **options)


def behind_its_key(office, client):
    client.start(office.hold, key="k")
    return client.start(office.work, "waits", key="k", id="x")


def delayed(office, client):
    return client.start(office.job, "waits", delay=HOUR, id="x")


def without_room(office, client):
    client.start(office.job, "runs", id="other")
    wait_for(lambda: "long" in office.flags.ran)
    return client.start(office.job, "waits", id="x")


def running(office, client):
    handle = client.start(office.job, "runs", id="x")
    wait_for(lambda: "long" in office.flags.ran)
    return handle


def between_attempts(office, client):
    handle = client.start(office.job, "tries", id="x")
    wait_for(lambda: [view for view in handle.journal() if view.state == "retrying"])
    wait_for(lambda: handle.status().status == "suspended")
    return handle


def parked_between_attempts(office, client):
    handle = between_attempts(office, client)
    wait_for(lambda: not engine_of(client)._residents)
    return handle


def waiting(office, client):
    handle = client.start(office.job, "waits", id="x")
    wait_for(lambda: handle.status().status == "suspended")
    return handle


def asking(office, client):
    handle = client.start(office.job, "asks", id="x")
    open_promise(client)
    return handle


def asking_and_paused(office, client):
    handle = asking(office, client)
    handle.pause("lunch")
    return handle


def parked(office, client):
    handle = waiting(office, client)
    wait_for(lambda: not engine_of(client)._residents)
    return handle


def paused_by_a_person(office, client):
    handle = waiting(office, client)
    handle.pause("lunch")
    return handle


def paused_by_a_fault(office, client):
    handle = client.start(office.job, "faulty", id="x")
    paused(handle)
    return handle


def paused_while_a_body_runs(office, client):
    handle = running(office, client)
    handle.pause("lunch")
    return handle


def paused_before_it_began(office, client):
    handle = delayed(office, client)
    handle.pause("lunch")
    return handle


def paused_behind_its_key(office, client):
    handle = behind_its_key(office, client)
    handle.pause("lunch")
    return handle


def reopened(office, client):
    handle = client.start(office.work, "fails", key="k", id="x")
    with pytest.raises(InvocationFailed):
        handle.result(5)
    client.start(office.hold, key="k")
    handle.retry()
    return handle


def copied(office, client):
    original = client.start(office.work, "waits", key="k", id="original")
    original.signal("go", "!")
    original.result(5)
    client.start(office.hold, key="k")
    return client.restart("original", from_step="signal go", new_id="x")


def copied_and_paused(office, client):
    handle = copied(office, client)
    handle.pause("lunch")
    return handle


def done(office, client):
    handle = client.start(office.job, "", id="x")
    handle.result(5)
    return handle


def failed(office, client):
    handle = client.start(office.job, "fails", id="x")
    with pytest.raises(InvocationFailed):
        handle.result(5)
    return handle


def cancelled(office, client):
    handle = waiting(office, client)
    handle.cancel()
    with pytest.raises(InvocationCancelled):
        handle.result(5)
    return handle


def killed(office, client):
    handle = waiting(office, client)
    handle.kill()
    return handle


SITUATIONS = {
    behind_its_key: "queued",
    delayed: "queued",
    without_room: "queued",
    running: "ready",
    between_attempts: "suspended",
    parked_between_attempts: "suspended",
    waiting: "suspended",
    parked: "suspended",
    paused_by_a_person: "paused",
    paused_by_a_fault: "paused",
    paused_while_a_body_runs: "paused",
    paused_before_it_began: "paused",
    paused_behind_its_key: "paused",
    reopened: "queued",
    copied: "queued",
    copied_and_paused: "paused",
    done: "done",
    failed: "failed",
    cancelled: "cancelled",
    killed: "killed",
}
OVER = "invocation 'x' has ended already"
NOT_OVER = "invocation 'x' has not ended"

# By status: the status that follows when the operation is acknowledged, or the text of its WrongStatus.
TABLE = {
    "queued": {
        "cancel": "cancelled",
        "kill": "killed",
        "pause": "paused",
        "resume": "invocation 'x' is queued and cannot be resumed",
        "retry": "invocation 'x' is queued and cannot be retried",
        "purge": NOT_OVER,
        "signal": "queued",
    },
    "ready": {
        "cancel": "cancelled",
        "kill": "killed",
        "pause": "paused",
        "resume": "invocation 'x' is ready and cannot be resumed",
        "retry": "invocation 'x' is ready and cannot be retried",
        "purge": NOT_OVER,
        "signal": "ready",
    },
    "suspended": {
        "cancel": "cancelled",
        "kill": "killed",
        "pause": "paused",
        "resume": "invocation 'x' is suspended and cannot be resumed",
        "retry": "invocation 'x' is suspended and cannot be retried",
        "purge": NOT_OVER,
        "signal": "done",
    },
    "paused": {
        "cancel": "cancelled",
        "kill": "killed",
        "pause": "invocation 'x' is paused already",
        "resume": "resumed",
        "retry": "invocation 'x' is paused and cannot be retried",
        "purge": NOT_OVER,
        "signal": "paused",
    },
    "done": {
        "cancel": OVER,
        "kill": OVER,
        "pause": OVER,
        "resume": "invocation 'x' is done and cannot be resumed",
        "retry": "invocation 'x' is done and cannot be retried",
        "purge": "gone",
        "signal": OVER,
    },
    "failed": {
        "cancel": OVER,
        "kill": OVER,
        "pause": OVER,
        "resume": "invocation 'x' is failed and cannot be resumed",
        "retry": "reopened",
        "purge": "gone",
        "signal": OVER,
    },
}
TABLE["cancelled"] = {by: text.replace("is done", "is cancelled") for by, text in TABLE["done"].items()}
TABLE["killed"] = {by: text.replace("is done", "is killed") for by, text in TABLE["done"].items()}

EXCEPTIONS = {
    (paused_while_a_body_runs, "resume"): "invocation 'x' still waits for a body that runs",
    (between_attempts, "signal"): "suspended",
    (parked_between_attempts, "signal"): "suspended",
}

OPERATIONS = {
    "cancel": lambda handle: handle.cancel(),
    "kill": lambda handle: handle.kill("enough"),
    "pause": lambda handle: handle.pause("wait"),
    "resume": lambda handle: handle.resume(),
    "retry": lambda handle: handle.retry(),
    "purge": lambda handle: handle.purge(),
    "signal": lambda handle: handle.signal("go", "!"),
}
ENDS = {"cancelled", "killed", "done", "failed", "gone"}


def options_of(situation):
    if situation is without_room:
        return {"limits": Limits(running=1)}
    return {"limits": Limits(waiting=0)} if situation in {parked, parked_between_attempts} else {}


def status_of(client):
    try:
        return client.attach("x").status().status
    except UnknownInvocation:
        return "gone"


def release(office, client):
    """Lets everything go on that may."""
    for gate in ("long",):
        office.flags.gate(gate).set()
    engine = engine_of(client)
    for row in engine.store.open_promises(9):
        client.resolve(row.id, "yes")
    handle = client.attach("x")
    if handle.status().status == "paused":
        handle.resume()


def signals(client):
    engine = engine_of(client)
    journal = [records.decode_entry(body) for body in engine.store.entries(engine.store.find("x").n)]
    return sum(isinstance(entry, records.SignalArrived) for entry in journal)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_an_operation_in_a_status(world, situation, operation):
    office, clock = Office(), FakeClock()
    before = SITUATIONS[situation]
    expected = EXCEPTIONS.get((situation, operation)) or TABLE[before][operation]
    refused = " " in expected
    with office.life(world, clock, **options_of(situation)) as one:
        handle = situation(office, one.client)
        assert handle.status().status == before
        if refused:
            with pytest.raises(WrongStatus, match=re.escape(expected)):
                OPERATIONS[operation](handle)
            assert handle.status().status == before
        else:
            OPERATIONS[operation](handle)
        one.die()
    clock.wind(HOUR + 1)
    office.broken = False
    with office.life(world, clock) as one:
        ends_as(office, one.client, before if refused else expected, operation, refused)
    assert office.flags.runs["x", "note#1"] <= (situation not in {copied, copied_and_paused}), "it is paid once"


def ends_as(office, client, expected, operation, refused):
    """Looks at what a new process makes of it."""
    if expected in ENDS and expected != "done":
        release(office, client) if expected == "cancelled" else None
        wait_for(lambda: status_of(client) == expected, f"{status_of(client)} becomes {expected}")
        return
    handle = client.attach("x")
    if expected == "paused":
        assert handle.status().status == "paused"
    release(office, client)
    if operation != "signal" or refused:
        signalled = wait_for(lambda: handle.status().status in {"suspended", "done", "cancelled", "failed"})
        assert signalled
        if handle.status().status == "suspended":
            assert signals(client) == 0
            handle.signal("go", "?")
    else:
        assert signals(client) == 1
    assert handle.result(5) in {"first", "first!", "first?"}
