"""A server as a process: how it stops, what a kill leaves, what it needs to start."""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import pytest

from holdfast import BadHandler, Holdfast, MemoryStore, Object, StoreFailed
from holdfast.http.options import HttpOptions
from holdfast.http.server import serve
from tests.engine.world import BrokenStore
from tests.http.serving import WAIT_SECONDS, demo, problem, wait_for

ROOT = Path(__file__).parents[2]


class Process:
    """The child, and clients of its ports."""

    def __init__(self, database: Path, *ports: int) -> None:
        command = [sys.executable, "-m", "tests.http.child", str(database), *map(str, ports)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        urls = json.loads(self.process.stdout.readline())
        self.ports = [int(url.rpartition(":")[2]) for url in urls]
        self.ingress, self.admin = (httpx.Client(base_url=url, timeout=WAIT_SECONDS) for url in urls)

    def ask(self, id: str) -> str:
        """The open question of an invocation, once it is there."""

        def found() -> list[str]:
            return [ask["id"] for ask in self.admin.get("/asks").json() if ask["invocation"] == id]

        return wait_for(found)[0]

    def close(self) -> tuple[int, str]:
        """Waits for the end; the exit status and what it wrote to stderr."""
        _, written = self.process.communicate(timeout=15)
        return self.process.returncode, written


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def begin(*ports: int) -> Process:
            child = Process(tmp_path / "agent.db", *ports)
            stack.callback(child.process.communicate)
            stack.callback(child.process.kill)
            stack.enter_context(child.ingress)
            stack.enter_context(child.admin)
            return child

        yield begin


def in_background(call) -> tuple[threading.Thread, list]:
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


PROGRAM = """
    import logging, sys
    from holdfast import Holdfast, HttpOptions

    if sys.argv[1] == "logging":
        logging.basicConfig(level=logging.INFO)
    Holdfast("agent.db").serve(HttpOptions(port=0, admin_port=0))
"""


@pytest.mark.parametrize("words", ["", "logging"])
def test_a_program_that_serves_says_where_once(tmp_path, words):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), words]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    ) as process:  # fmt: skip
        said = process.stdout.readline()
        calls, control = re.findall(r"http://127\.0\.0\.1:\d+", said)
        assert httpx.get(f"{calls}/health").json() == {"status": "ok"}
        assert httpx.get(f"{control}/info").json()["store"] == str(tmp_path / "agent.db")
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=15)
    assert process.returncode == 0
    assert rest == ""
    assert "127.0.0.1" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_who_waits_and_the_work_goes_on_at_the_next_start(start, number):
    child = start()
    thread, answers = in_background(lambda: child.ingress.post("/Work/hold?id=held"))
    child.ask("held")
    time.sleep(1.1)  # beyond the first second, in which a result is waited for without looking up
    child.process.send_signal(number)
    thread.join(WAIT_SECONDS)
    (answer,) = answers
    assert (answer.status_code, problem(answer)["code"]) == (503, "HF610")
    assert answer.headers["retry-after"] == "1"
    assert problem(answer)["invocation"] == "held"
    assert child.close() == (0, "")

    again = start()
    again.admin.post(f"/promises/{again.ask('held')}/resolve", json="on")
    assert again.ingress.post("/Work/hold?id=held").json() == "on"


def test_a_stop_ends_event_streams(start):
    child = start()
    child.ingress.post("/Work/hold/send?id=held")
    with child.ingress.stream("GET", "/invocations/held/events") as response:
        lines = response.iter_lines()
        wait_for(lambda: next(lines).startswith("data:"))
        child.process.terminate()
        assert "status" not in "".join(lines)
    assert child.close() == (0, "")


def test_a_stop_lets_a_body_finish_and_a_second_signal_does_not_wait(start):
    child = start()
    child.ingress.post("/Work/rest/send?id=short", json={"seconds": 0.5})
    child.process.terminate()
    assert child.close() == (0, "")
    child = start()
    assert child.ingress.get("/invocations/short/result").json() == "rested"
    child.ingress.post("/Work/rest/send?id=long", json={"seconds": 60})
    child.process.terminate()
    time.sleep(0.5)
    assert child.process.poll() is None
    child.process.terminate()
    assert child.close()[0] == -signal.SIGTERM


def test_a_client_that_does_not_read_does_not_hold_up_a_stop(start):
    child = start()
    id = child.ingress.post("/Work/grow/send", json={"size": 20_000_000}).json()["id"]
    child.ingress.get(f"/invocations/{id}/result")
    with socket.create_connection(("127.0.0.1", child.ports[0])) as connection:
        connection.sendall(f"GET /invocations/{id}/result HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(1)
        child.process.terminate()
        assert child.close() == (0, "")


class Client:
    """Sends each request with its own key until it is answered, through kills and restarts."""

    def __init__(self, port: int, number: int, count: int) -> None:
        self.port, self.number, self.count = port, number, count
        self.answers: list[int] = []
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        for index in range(self.count):
            self.answers.append(self.until_answered(f"{self.number}-{index}"))

    def until_answered(self, key: str) -> int:
        until = time.monotonic() + 60
        while True:
            try:
                answer = httpx.post(
                    f"http://127.0.0.1:{self.port}/Counter/all/add", json={"by": 1},
                    headers={"Idempotency-Key": key}, timeout=10,
                )  # fmt: skip
                if answer.status_code == 200:
                    return answer.json()
                assert answer.status_code == 503, answer.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < until, key
            time.sleep(0.02)


@pytest.mark.slow
def test_kill_9_under_load_loses_no_request_and_does_none_twice(start):
    """Eight clients that retry with their Idempotency-Key, three kills: every request counts exactly once."""
    count, dice = 25, random.Random(7)
    child = start()
    clients = [Client(child.ports[0], number, count) for number in range(8)]
    for client in clients:
        client.thread.start()
    for _ in range(3):
        time.sleep(0.3 + dice.random() / 2)
        child.process.kill()
        child.process.communicate()
        child = start(*child.ports)
    for client in clients:
        client.thread.join(90)
    answers = sorted(total for client in clients for total in client.answers)
    assert answers == list(range(1, 8 * count + 1))
    assert child.admin.get("/objects/Counter/all").json() == {"total": 8 * count}


def free_ports() -> HttpOptions:
    return HttpOptions(port=0, admin_port=0)


def test_a_store_that_fails_ends_the_server_with_its_error(caplog):
    store = BrokenStore(MemoryStore())

    def break_it(servers):
        store.error = StoreFailed("a sync failed", fix="start again")
        thread, _ = in_background(lambda: httpx.post(servers.ingress_url + "/Demo/echo/send"))
        threads.append(thread)

    threads: list[threading.Thread] = []
    with pytest.raises(StoreFailed, match="a sync failed"):
        asyncio.run(serve(Holdfast(store, services=[demo]), free_ports(), break_it))
    threads[0].join(WAIT_SECONDS)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_cannot_be_served_gives_everything_back(tmp_path):
    hides = Object("invocations")

    @hides.handler
    async def get(ctx): ...

    hf = Holdfast(tmp_path / "agent.db", services=[hides])
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(BadHandler):
        asyncio.run(serve(hf, HttpOptions(port=port, admin_port=0)))
    with socket.create_server(("127.0.0.1", port)), hf as client:
        assert client.list() == []


def test_an_engine_without_a_server_loads_nothing_of_the_web():
    code = "import sys, holdfast; print({'starlette', 'uvicorn', 'httptools'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ))
    assert done.stdout == "set()\n"
