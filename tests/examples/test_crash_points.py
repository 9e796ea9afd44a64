"""The examples die at every commit of theirs: just before it is durable, and just after. The offline services count.

Whatever the moment: the same answer in the next life, and no request is made again whose answer was recorded.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from examples.a1_travel_assistant import plan, plan_as_generator, trips
from examples.a2_reminder_assistant import remind, remind_as_generator, reminders
from examples.offline import OfflineServer
from examples.offline.endpoints import endpoints
from holdfast import Holdfast, StoreError
from holdfast.core import entries
from tests.crash.mortal import MortalStore

STORED = {
    "ask_model": "/v1/chat/completions",
    "search_internet": "/search",
    "scrape_website": "/content",
    "send_reminder": "/reminders",
}


class World:
    """One example over one store and one set of services."""

    def __init__(self, handler: Callable[..., Any], wish: str, server: OfflineServer, deps: dict[str, Any]) -> None:
        self.handler, self.wish, self.server, self.deps = handler, wish, server, deps
        self.store = MortalStore()
        server.reset()

    async def live(self) -> Any:
        async with Holdfast(self.store, services=[trips, reminders], deps=self.deps) as holdfast:
            handle = await holdfast.start(self.handler, self.wish, id="it")
            while True:
                try:
                    return await handle.result(0.02)
                except TimeoutError:
                    for ask in await holdfast.asks():
                        await holdfast.answer(ask.id, "120 euros, pasta")

    def recorded(self) -> Counter[str]:
        """How many requests of each kind have their answer in the journal."""
        self.store.open()
        row = self.store.find("it")
        journal = [] if row is None else [entries.decode_entry(body) for body in self.store.entries(row.n)]
        self.store.close()
        names = [entry.step.split("#")[0] for entry in journal if isinstance(entry, entries.StepCompleted)]
        return Counter(STORED[name] for name in names if name in STORED)

    def requested(self) -> Counter[str]:
        return Counter(request.path for request in self.server.requests())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name in ("OPENAI_API_KEY", "SERPER_API_KEY", "BROWSERLESS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with OfflineServer() as running:
        monkeypatch.setenv("OFFLINE_URL", running.url)
        yield running


@pytest.fixture
def deps(server: OfflineServer) -> Any:
    """One set of clients for all lives: a new one reads all certificates of the machine."""
    with (
        endpoints() as where,
        httpx.Client() as web,
        openai.OpenAI(base_url=where.openai.url, api_key="none", max_retries=0) as client,
    ):
        yield {"openai": client, "web": web, "endpoints": where}


def die_everywhere(
    handler: Callable[..., Any], wish: Callable[[], str], server: OfflineServer, deps: dict[str, Any]
) -> int:
    """Lives that ended early."""
    world = World(handler, wish(), server, deps)
    asyncio.run(world.live())
    commits, all_requests = world.store.commits, world.requested()
    died = 0
    for commit in range(1, commits + 1):
        for keeps_last in (False, True):
            world = World(handler, wish(), server, deps)
            world.store.die_at(commit, keeps_last=keeps_last)
            try:
                answer = asyncio.run(world.live())
            except StoreError:
                died += 1
                recorded, before = world.recorded(), world.requested()
                answer = asyncio.run(world.live())
                again = world.requested() - before
                assert again + recorded == all_requests, "a recorded answer was asked for again, or one is missing"
            assert answer
    return died


@pytest.mark.timeout(120)
@pytest.mark.parametrize("handler", [plan, plan_as_generator], ids=["async", "generator"])
def test_a1_dies_at_every_commit_and_pays_nothing_recorded_again(
    handler: Callable[..., Any], server: OfflineServer, deps: dict[str, Any]
) -> None:
    assert die_everywhere(handler, lambda: "Plan three days in Rome for me.", server, deps) >= 16


@pytest.mark.timeout(120)
@pytest.mark.parametrize("handler", [remind, remind_as_generator], ids=["async", "generator"])
def test_a2_dies_at_every_commit_and_sends_its_reminder_once(
    handler: Callable[..., Any], server: OfflineServer, deps: dict[str, Any]
) -> None:
    def soon() -> str:
        return f"Remind me at {(datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()} to water the plants"

    assert die_everywhere(handler, soon, server, deps) >= 6
    assert len(server.outbox()) == 1
