"""The offline services as a thread of this process, and a client for the log and faults of a server anywhere."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import uvicorn

from examples.offline.app import OfflineApp
from examples.offline.faults import Fault
from examples.offline.ledger import Request
from examples.offline.scripts import BUILT_IN, Script, Scripts

LOOPBACK = "127.0.0.1"  # never reachable from another machine: it checks no key


class OfflineAdmin:
    """Looks at a running server and orders faults."""

    def __init__(self, url: str) -> None:
        self.url = url

    def requests(self, path: str = "/") -> list[Request]:
        """The requests whose path begins so, oldest first."""
        logged = [Request(**row) for row in self._call("GET", "/admin/requests")["requests"]]
        return [request for request in logged if request.path.startswith(path)]

    def tokens(self) -> int:
        """All tokens of answered model calls."""
        tokens: dict[str, int] = self._call("GET", "/admin/requests")["tokens"]
        return sum(tokens.values())

    def outbox(self) -> list[str]:
        """The messages that were sent."""
        messages: list[str] = self._call("GET", "/admin/outbox")["messages"]
        return messages

    def bookings(self) -> dict[str, str]:
        """Every reference, and whether it is booked or cancelled."""
        status: dict[str, str] = self._call("GET", "/admin/bookings")["status"]
        return status

    def cancelled(self) -> list[str]:
        """The references that were cancelled, in order."""
        references: list[str] = self._call("GET", "/admin/bookings")["cancelled"]
        return references

    def payments(self) -> list[dict[str, Any]]:
        """What the bank has paid."""
        paid: list[dict[str, Any]] = self._call("GET", "/admin/payments")["payments"]
        return paid

    def order(self, fault: Fault) -> None:
        """From now on this goes wrong."""
        self._call("POST", "/admin/faults", asdict(fault))

    def clear_faults(self) -> None:
        self._call("DELETE", "/admin/faults")

    def reset(self) -> None:
        """Forgets all requests, faults, messages, bookings and payments."""
        self._call("POST", "/admin/reset")

    def wait_for(self, met: Callable[[list[Request]], bool], *, seconds: float = 20.0) -> list[Request]:
        """Waits until the log looks so, and gives it."""
        until = time.monotonic() + seconds
        while not met(logged := self.requests()):
            if time.monotonic() > until:
                raise TimeoutError(f"the log of {self.url} did not come to look as wanted; it is {logged}")
            time.sleep(0.03)  # each look is a request, which takes time from the one that is awaited
        return logged

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310 - our own loopback url
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


class OfflineServer(OfflineAdmin):
    """`with OfflineServer() as server: server.url` - ready when the block begins, gone when it ends.

    `models` and `phrases` add scripts: by the name of the model, or by words in the system prompt.
    """

    def __init__(
        self,
        *,
        models: Mapping[str, Script] | None = None,
        phrases: Mapping[str, Script] | None = None,
        faults: Iterable[Fault] = (),
        latency: float = 0.0,
        port: int = 0,
    ) -> None:
        self._socket = _listen(port)
        super().__init__(f"http://{LOOPBACK}:{self._socket.getsockname()[1]}")
        scripts = Scripts(models or {}, {**BUILT_IN, **(phrases or {})})
        app = OfflineApp(scripts, latency=latency)
        config = uvicorn.Config(app.asgi, log_config=None, log_level="critical", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.run, name="offline-services", daemon=True)
        self._faults = list(faults)

    def run(self) -> None:
        """Serves in this thread until told to stop."""
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        self._thread.start()
        for fault in self._faults:
            self.order(fault)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._server.force_exit = True  # a request that is being held must not hold the test
        self._thread.join(timeout=5)
        self._socket.close()


def _listen(port: int) -> socket.socket:
    """A socket whose protocol is named: asyncio turns off Nagle's delay, 40 ms an answer, for no other."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((LOOPBACK, port))
    listening.listen()
    return listening
