"""Two operations on one invocation in the same moment: each is done or refused, the store takes all of it, and the next
process goes on from what was acknowledged."""

import contextlib
import itertools

import pytest

from holdfast import Limits, UsageError, WrongStatus
from tests.engine.lives import all_in_lane
from tests.engine.test_control_table import (
    Office,
    asking,
    asking_and_paused,
    behind_its_key,
    copied,
    copied_and_paused,
    done,
    failed,
    parked,
    paused_by_a_person,
    paused_while_a_body_runs,
    running,
    waiting,
)
from tests.engine.world import FakeClock, wait_for

SITUATIONS = [
    behind_its_key, running, waiting, parked, paused_by_a_person, paused_while_a_body_runs, copied, copied_and_paused,
    asking, asking_and_paused, done, failed,
]  # fmt: skip

OPERATIONS = {
    "cancel": lambda client, office: client.cancel("x"),
    "kill": lambda client, office: client.kill("x"),
    "pause": lambda client, office: client.pause("x"),
    "resume": lambda client, office: client.resume("x"),
    "retry": lambda client, office: client.retry("x"),
    "purge": lambda client, office: client.purge("x"),
    "signal": lambda client, office: client.signal("x", "go", "!"),
    "fork": lambda client, office: client.fork("x", "note#1", "other", new_id="new"),
    "answer": lambda client, office: answer(client),
    "again": lambda client, office: start_again(client),
}


async def answer(client):
    """Settles the promise that x waits for."""
    await client._engine.durable()
    n = client._engine.store.find("x").n
    for row in client._engine.store.promises_of(n):
        await client.resolve(row.id, "yes")


async def start_again(client):
    """Starts with the id and the input of x."""
    row = client._engine.store.find("x")
    await client._engine.durable()  # the others wait as long before they look
    return await client.start_json(row.target, row.input[1:], id="x", key=row.key)


@pytest.mark.parametrize("pair", list(itertools.product(OPERATIONS, repeat=2)), ids="-".join)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_two_at_once(memory_world, monkeypatch, situation, pair):
    all_in_lane(monkeypatch)
    office, clock = Office(), FakeClock()
    limits = Limits(waiting=0 if situation is parked else 9)
    with office.life(memory_world, clock, limits=limits) as one:
        situation(office, one.client)
        client = one.client._client
        outcomes = one.together(*[OPERATIONS[name](client, office) for name in pair])
        assert one.engine.failure is None
        if pair == ("purge", "again") and not isinstance(outcomes[1], UsageError):
            one.client.attach("x").status()  # it is there, or was begun anew
        for outcome in outcomes:
            assert not isinstance(outcome, BaseException) or isinstance(outcome, UsageError), outcome
        done = [
            name for name, outcome in zip(pair, outcomes, strict=True) if not isinstance(outcome, UsageError)
        ]  # fmt: skip
        one.die()
    office.broken = False
    with office.life(memory_world, clock) as one:
        assert_kept(office, one, done)
        assert one.engine.failure is None


def assert_kept(office, one, done):
    """What was acknowledged, in that order, is so."""
    stored = {view.id: view for view in one.client.list()}
    if "purge" in done and "again" not in done:
        assert "x" not in stored
        assert done[0] != "purge" or not {"retry", "pause", "signal", "cancel", "kill"} & set(done), "it comes first"
        return
    if "purge" not in done:
        assert "x" in stored
    if "fork" in done:
        assert "new" in stored
    if "kill" in done:
        assert stored["x"].status == "killed"
    elif "cancel" in done and done[0] not in {"signal", "answer"}:
        assert stored["x"].status != "done"
        free_the_key(one)
        if "fork" in done:  # it may be before one that was paused in its queue
            with contextlib.suppress(WrongStatus):
                one.client.kill("new")
        if "pause" in done and one.client.attach("x").status().status == "paused":
            one.client.resume("x")
        wait_for(lambda: free_the_key(one) or one.client.attach("x").status().status == "cancelled")
    elif "pause" in done and "resume" not in done:
        assert stored["x"].status == "paused"
    assert office.flags.runs["x", "note#1"] <= 1 + ("purge" in done), "it is paid once"


def free_the_key(one):
    """Lets whoever has it go on, a copy that came to it before too."""
    for row in one.engine.store.open_promises(9):
        with contextlib.suppress(WrongStatus):
            one.client.resolve(row.id, "yes")
    if any((view.id, view.status) == ("new", "suspended") for view in one.client.list()):
        with contextlib.suppress(WrongStatus):
            one.client.signal("new", "go", "on")
