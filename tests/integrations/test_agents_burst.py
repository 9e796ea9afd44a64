"""200 chat sessions at once on a real server, each with a message under way when the process is killed."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.offline import Fault, OfflineServer

ROOT = Path(__file__).parents[2]
SESSIONS = 200
MESSAGES = 2
HELD = 600.0  # seconds: longer than any test, so that each call is under way at the kill


class Served:
    """`holdfast serve examples.b5_chat:hf`, again and again over one file."""

    def __init__(self, folder: Path, offline: OfflineServer) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            self.port, self.admin = one.getsockname()[1], two.getsockname()[1]
        self.folder = folder
        named = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        self.env = {**named, "OFFLINE_URL": offline.url, "PYTHONPATH": str(ROOT)}
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "holdfast.cli", "serve", "examples.b5_chat:hf", "--port", str(self.port),
                   "--admin-port", str(self.admin)]  # fmt: skip
        self.child = subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=1)
                return
            except httpx.TransportError:
                assert time.monotonic() < until, "the server does not come up"
                assert self.child.poll() is None, "the server ended"
                time.sleep(0.05)

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()


@pytest.fixture
def offline() -> Iterator[OfflineServer]:
    with OfflineServer() as server:
        yield server


@pytest.fixture
def served(tmp_path: Path, offline: OfflineServer) -> Iterator[Served]:
    made = Served(tmp_path, offline)
    yield made
    made.kill()


def words(session: int, number: int) -> str:
    return f"message {number} of {session}"


async def say(web: httpx.AsyncClient, session: int, number: int) -> None:
    path = f"/Chat/session-{session}/message/send"
    sent = await web.post(
        path, json={"text": words(session, number)}, headers={"Idempotency-Key": f"{session}-{number}"}
    )
    assert sent.status_code == 202, sent.text


async def begin(served: Served) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=60) as web:
        for number in range(MESSAGES):
            await asyncio.gather(*[say(web, session, number) for session in range(SESSIONS)])


async def answers(served: Served) -> list[list[Any]]:
    """What each session's last message is answered, and its history."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=120) as web:

        async def of(session: int) -> list[Any]:
            last = await web.post(f"/Chat/session-{session}/message", json={"text": words(session, MESSAGES)})
            return [last.json(), (await web.post(f"/Chat/session-{session}/history", json={})).json()]

        return await asyncio.gather(*[of(session) for session in range(SESSIONS)])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_200_sessions_each_killed_once(served: Served, offline: OfflineServer) -> None:
    served.start()
    offline.order(Fault("slow", path="/v1/responses", times=None, seconds=HELD))
    asyncio.run(begin(served))
    offline.wait_for(lambda log: sum(request.outcome == "open" for request in log) == SESSIONS, seconds=120)
    served.kill()
    offline.clear_faults()
    served.start()
    for session, (answer, history) in enumerate(asyncio.run(answers(served))):
        assert answer == f"Answer {MESSAGES + 1}, to: {words(session, MESSAGES)}"
        said = [item["content"] for item in history if item["role"] == "user"]
        assert said == [words(session, number) for number in range(MESSAGES + 1)], "in order, each once"
    answered = Counter(request.digest for request in offline.requests() if request.outcome == "answered")
    assert len(answered) == SESSIONS * (MESSAGES + 1)
    assert sum(answered.values()) <= len(answered) + SESSIONS, "only what was under way at the kill is asked again"
