"""kill -9 of a server under load, whose clients try again under the same Idempotency-Key: exactly once in effect."""

import random
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.http.processes import Process

CLIENTS = 12
REQUESTS = 12  # of each client
KEYS = ("a", "b", "c")
KILLS = 8


class Client(threading.Thread):
    """Sends its requests one after another, each until it is answered."""

    def __init__(self, number: int, port: int, end: float) -> None:
        super().__init__()
        self.number = number
        self.answers: dict[str, int] = {}
        self.tries = 0
        self._base = f"http://127.0.0.1:{port}"
        self._end = end

    def run(self) -> None:
        random_ = random.Random(self.number)
        with httpx.Client(base_url=self._base, timeout=5.0) as web:
            for index in range(REQUESTS):
                request, key = f"c{self.number}-{index}", random_.choice(KEYS)
                path = f"/Counter/{key}/add" if index % 2 else "/Front/order"
                body = {"request": request} if index % 2 else {"request": request, "key": key}
                self.answers[request] = self._ask(web, path, body, request)

    def _ask(self, web: httpx.Client, path: str, body: dict[str, str], request: str) -> int:
        while time.monotonic() < self._end:
            self.tries += 1
            try:
                answer = web.post(path, json=body, headers={"Idempotency-Key": request})
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                count: int = answer.json()
                return count
            assert answer.status_code == 503, answer.text
        raise TimeoutError(request)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_request_is_answered_and_counts_once_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    server = Process("tests.http.load_app", tmp_path)
    try:
        clients = [Client(number, server.port, time.monotonic() + 90) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(KILLS):
            time.sleep(chance.random() * 0.3)
            server.kill()
            server.start()
        for client in clients:
            client.join(100)
        answers = {request: count for client in clients for request, count in client.answers.items()}
        assert len(answers) == CLIENTS * REQUESTS
        assert sum(client.tries for client in clients) > len(answers), "no kill met a request"
        lines = [line for key in KEYS for line in server.web.get(f"/Counter/{key}/seen").json()]
        # Each request changed the state once; each count was given once, without a gap.
        assert Counter(line.split()[0] for line in lines) == Counter(dict.fromkeys(answers, 1))
        for key in KEYS:
            told = [line.split()[0] for line in server.web.get(f"/Counter/{key}/seen").json()]
            assert [answers[request] for request in told] == list(range(1, len(told) + 1))
        # A body may run again after a kill, under the same key: who takes the key sees one effect of each request.
        effects = {tuple(line.split()) for line in (tmp_path / "effects").read_text(encoding="utf-8").splitlines()}
        assert effects == {tuple(line.split()) for line in lines}
    finally:
        server.close()
