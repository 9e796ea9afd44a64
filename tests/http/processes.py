"""A program that serves in a process of its own, to be killed and started again."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def until(met: Callable[[], Any], what: str) -> Any:
    """What `met` gives, once it gives something."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        found = met()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"waited {WAIT_SECONDS} s in vain: {what}")


class Process:
    """`python -m MODULE FOLDER PORT ADMIN_PORT`, on the same ports in every life."""

    def __init__(self, module: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self._command = [sys.executable, "-m", module, str(folder), str(self.port), str(self.admin_port)]
        self._environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PATH": "", **(environment or {})}
        self.web = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=WAIT_SECONDS)
        self.admin = httpx.Client(base_url=f"http://127.0.0.1:{self.admin_port}", timeout=WAIT_SECONDS)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment)
        until(self._answers, "the server answers")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self.web.close()
        self.admin.close()

    def post(self, path: str, body: Any) -> Any:
        answer = self.web.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def status(self, id: str) -> str:
        return str(self.web.get(f"/invocations/{id}").json()["status"])

    def result(self, id: str) -> Any:
        answer = self.web.get(f"/invocations/{id}/result", params={"wait": WAIT_SECONDS})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the server ended"
        try:
            return self.web.get("/health").status_code == 200
        except httpx.TransportError:
            return False
