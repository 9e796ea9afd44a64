"""Every example dies at its commits, is answered while it is down, is cancelled in every state, and moves to another
process. Whatever the history: the same is seen at its end, and nothing is asked or done again that was recorded.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from examples.offline import OfflineServer
from holdfast import AsyncClient
from tests.examples.plays import PLAYS
from tests.examples.survival import History, cancel_all, rest

POINTS = int(os.environ.get("EXAMPLE_POINTS", "6"))  # of each example's commits; 1000 is all of them
ASKING = sorted(name for name, play in PLAYS.items() if play.answers is not None)
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Whole(NamedTuple):
    """A history that nothing disturbs."""

    seen: Any
    asked: Counter[str]
    commits: int


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """One event loop for all lives: the clients of an example may belong to one."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def begin(shared_server) -> Callable[[str], History]:
    def new(name: str) -> History:
        shared_server.reset()
        return History(PLAYS[name], shared_server)

    return new


@pytest.fixture(scope="session")
def whole(begin, run) -> Callable[[str], Whole]:
    @cache
    def live(name: str) -> Whole:
        history = begin(name)
        return Whole(run(history.live()), history.requests(), history.life.commits)

    return live


@pytest.fixture(autouse=True)
def _served(shared_server, monkeypatch) -> None:
    monkeypatch.setenv("OFFLINE_URL", shared_server.url)


def spread(commits: int) -> list[int]:
    """Some of the commits 1 to `commits`, the first and the last among them."""
    count = min(commits, POINTS)
    return sorted({1 + round(place * (commits - 1) / max(1, count - 1)) for place in range(count)})


@pytest.mark.parametrize("name", sorted(PLAYS))
def test_a_death_at_any_commit_changes_nothing_and_pays_nothing_again(name, begin, run, whole):
    seen, asked, commits = whole(name)
    for commit in spread(commits):
        for keeps_last in (False, True):
            history = begin(name)
            died = run(history.die(commit, keeps_last=keeps_last))
            lost = history.bodies.keys() - history.recorded() if died else set()
            assert run(history.live()) == seen
            again = history.requests() - asked
            assert not asked - history.requests(), "a request was never made"
            assert again.total() <= len(lost), f"{again} was asked again, and only {lost} was lost"


@pytest.mark.parametrize("name", ASKING)
def test_what_is_answered_while_the_program_is_down_counts(name, begin, run, whole):
    seen, asked, _ = whole(name)
    history = begin(name)

    async def answered_while_down() -> None:
        async with history.opened(resting=True) as client:
            for ask in await client.asks():
                await client.answer(ask.id, history.play.answers)

    questions = 0
    while run(history.die_at_a_question()):
        questions += 1
        run(answered_while_down())
    assert questions
    assert run(history.live(answers=False)) == seen
    assert history.requests() == asked


@pytest.mark.parametrize("name", sorted(PLAYS))
def test_a_cancel_in_any_state_ends_all_of_it_and_undoes_what_was_done(name, begin, run, whole):
    for commit in spread(whole(name).commits):
        for cancelled in (cancelled_alive, cancelled_down):
            history = begin(name)
            run(cancelled(history, commit))
            history.play.undone(history.server)


async def cancelled_alive(history: History, commit: int) -> None:
    async def beside(client: AsyncClient) -> None:
        while history.life.commits < commit:
            await asyncio.sleep(0)
        await cancel_all(client)

    await history.live(beside=beside)


async def cancelled_down(history: History, commit: int) -> None:
    if not await history.die(commit):
        return
    async with history.opened(resting=True) as client:
        await cancel_all(client)
    async with history.opened() as client:
        await rest(client)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_another_process_with_another_hash_seed_goes_on_with_all_of_them(whole, tmp_path):
    names = list({play.hf: name for name, play in PLAYS.items()}.values())  # a program's clients go to one server
    with ExitStack() as running:
        urls = {name: running.enter_context(OfflineServer()).url for name in names}
        first, second = (child(phase, tmp_path, urls) for phase in ("die", "finish"))
    assert sum(life["died"] for life in first.values()) > len(names) / 2
    for name in names:
        seen, asked, _ = whole(name)
        assert second[name]["seen"] == json.loads(json.dumps(seen, default=str)), name
        again = Counter(first[name]["asked"]) + Counter(second[name]["asked"]) - asked
        assert again.total() <= first[name]["lost"], name


def child(phase: str, folder: Path, urls: dict[str, str]) -> Any:
    """What a process of its own says of its lives of all examples; `die` and `finish` have different hash seeds."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.examples.child", phase, str(folder), json.dumps(urls)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": str(len(phase))},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
