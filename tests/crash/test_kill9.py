"""kill -9 of the real process, at moments drawn from a seed, until the work is done; hundreds of times.

Kill -9 keeps the page cache, so this says nothing about syncs (test_points.py does). It shows that what a process
acknowledged and recorded is enough for the next one: nothing lost, nothing recorded done twice, one answer for ever.
"""

import os
import random
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from holdfast.core import entries
from holdfast.core.invocation import Status
from holdfast.stores.sqlite.store import SqliteStore
from tests.crash.child import POINTS

ROOT = Path(__file__).parents[2]
COUNT = 24  # invocations
KILLS = int(os.environ.get("KILLS", "40"))  # at least, for each of five seeds
LIFE_SECONDS_MAX = 0.08  # after the first word of a life; all the work takes several times as long


def expected(number: int) -> str:
    goal, said = f"g{number}", [f"g{number}"]
    for turn in range(3):
        answer = f"{goal}{turn}!"
        said += [answer, f"{answer.upper()}!", f"{answer.upper()}!", "B"]
    return " ".join([*said, f"{goal} paid", "x!", "y!"])


def recorded(folder: Path) -> set[tuple[str, str]]:
    """(invocation, step) of every completed step in the journals."""
    store = SqliteStore(folder / "work.db")
    store.open()
    try:
        return {
            (row.id, entry.step)
            for row in store.list(limit=1_000)
            for entry in map(entries.decode_entry, store.entries(row.n))
            if isinstance(entry, entries.StepCompleted)
        }
    finally:
        store.close()


def ran(folder: Path) -> Counter[tuple[str, str]]:
    """How often each body came to its end; and that each step has one idempotency key."""
    keys: dict[tuple[str, str], str] = {}
    count: Counter[tuple[str, str]] = Counter()
    path = folder / "bodies"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        invocation, step, key = line.split(" ")
        assert keys.setdefault((invocation, step), key) == key
        count[invocation, step] += 1
    assert len(set(keys.values())) == len(keys), "two steps have one idempotency key"
    return count


def spawn(folder: Path, *mine: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.child", str(folder), str(COUNT), *mine],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": str(random.randrange(999))},
    )  # fmt: skip


def live(folder: Path, seconds: float) -> tuple[list[str], bool]:
    """What one life printed, and whether it was killed. Counts from its first word, so that a kill meets work."""
    with spawn(folder) as child:
        assert child.stdout is not None
        began, _, _ = select.select([child.stdout], [], [], 20)
        assert began, "the child said nothing for 20 seconds"
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().splitlines()
    assert child.returncode in (0, -signal.SIGKILL), lines
    return lines, child.returncode != 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_moment_nothing_is_lost_and_nothing_recorded_is_done_again(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    kills, generation = 0, 0
    while kills < KILLS:  # a generation of work after the other, each killed until it is done
        folder = tmp_path / str(generation)
        folder.mkdir()
        kills += live_until_done(folder, lambda here=folder: live(here, chance.uniform(0, LIFE_SECONDS_MAX)))
        generation += 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_point_of_our_choice_loses_nothing_either(point: str, tmp_path: Path) -> None:
    numbers = iter((1, 2, 3, 7, 20, 60, *[10**9] * 99))  # the last never comes: that life ends by itself

    def until_the_point() -> tuple[list[str], bool]:
        with spawn(tmp_path, point, str(next(numbers))) as child:
            out, _ = child.communicate(timeout=60)
        assert child.returncode in (0, -signal.SIGKILL), out
        return out.splitlines(), child.returncode != 0

    kills = live_until_done(tmp_path, until_the_point)
    assert kills >= (1 if "housekeeping" in point else 3 if "payment" in point else 5)  # some points are passed seldom


def live_until_done(folder: Path, one_life: Callable[[], tuple[list[str], bool]]) -> int:
    done_before: set[tuple[str, str]] = set()
    runs_before: Counter[tuple[str, str]] = Counter()
    acknowledged: set[str] = set()
    answers: dict[str, str] = {}
    kills = 0
    while True:
        lines, killed = one_life()
        for line in lines:
            word, id, *rest = line.split(" ", 2)
            acknowledged.add(id)
            if word == "ended":
                assert answers.setdefault(id, rest[0]) == rest[0], "an answer changed"
        done, runs = recorded(folder), ran(folder)
        assert done >= done_before, "a record was lost"
        again = {body for body in done_before if runs[body] > runs_before[body]}
        assert not again, f"recorded, and run again: {again}"
        done_before, runs_before = done, runs
        if not killed:
            break
        kills += 1
    paid = (folder / "paid").read_text(encoding="utf-8").split()
    assert len(set(paid)) == len(paid) == COUNT, "what must not be done twice was"
    assert acknowledged == set(answers) == {f"work-{number}" for number in range(COUNT)}
    assert answers == {f"work-{number}": expected(number) for number in range(COUNT)}
    # In one life four invocations ran (Limits of the child), each with three steps at most that run or have ended and
    # are not recorded yet: so no more bodies ran in vain.
    assert sum(runs_before.values()) - len(runs_before) <= 4 * 3 * kills
    return kills


@pytest.mark.timeout(60)
def test_starts_acknowledged_before_the_kill_are_there_after_it(tmp_path: Path) -> None:
    with spawn(tmp_path) as child:
        assert child.stdout is not None
        started = {child.stdout.readline().split()[1] for _ in range(3)}
        child.send_signal(signal.SIGKILL)
    store = SqliteStore(tmp_path / "work.db")
    store.open()
    rows = {row.id: row.status for row in store.list(limit=100)}
    store.close()
    assert started <= set(rows)
    assert Status.PAUSED not in rows.values()


def test_the_check_sees_a_body_that_runs_again(tmp_path: Path) -> None:
    """The canary: a journal that loses its last record makes the next life run a recorded body again."""
    lines, _ = live(tmp_path, 30)
    assert sum(line.startswith("ended") for line in lines) == COUNT
    done, runs = recorded(tmp_path), ran(tmp_path)
    forget_the_end_of(tmp_path / "work.db", "work-3")
    live(tmp_path, 30)
    assert {body for body in done if ran(tmp_path)[body] > runs[body]} == {("work-3", "ask#5")}


def forget_the_end_of(path: Path, id: str) -> None:
    connection = apsw.Connection(str(path))
    (n,) = connection.execute("SELECT n FROM invocation WHERE id=?", (id,)).fetchone()
    connection.execute("DELETE FROM entry WHERE n=?1 AND seq=(SELECT max(seq) FROM entry WHERE n=?1)", (n,))
    connection.execute("UPDATE invocation SET status=0, outcome=NULL WHERE n=?", (n,))
    connection.close()
