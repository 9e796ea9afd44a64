"""The clients that the steps of the examples use, in one dependency: the model, the web, and where things are.

Promises: the real service for every key that is set, the offline one for the rest (offline/endpoints.py). Refuses to
open anything before a step asks for it, so that an import, `holdfast check` or a look into a store costs nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import ssl
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import httpx2
import openai

import holdfast
from examples.offline.endpoints import Endpoints, endpoints


@dataclass(frozen=True, slots=True)
class Clients:
    """What a step's body may use. The model's client makes no retries of its own: Holdfast's are enough, and seen."""

    where: Endpoints
    web: httpx.Client
    openai: openai.OpenAI
    trust: ssl.SSLContext  # reading the machine's certificates takes a tenth of a second: once, for all of them


class Services:
    """Opens the clients when they are first asked for, and closes them with the program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # steps run side by side
        self._opened = ExitStack()
        self._clients: Clients | None = None

    def clients(self) -> Clients:
        with self._lock:
            if self._clients is None:
                atexit.register(self.close)
                self._clients = self._open()
            return self._clients

    def close(self) -> None:
        self._opened.close()

    def _open(self) -> Clients:
        where = self._opened.enter_context(endpoints())
        trust = ssl.create_default_context()
        web = self._opened.enter_context(httpx.Client(timeout=30, verify=trust))
        model = openai.OpenAI(
            base_url=where.openai.url, api_key=where.openai.key, max_retries=0,
            http_client=openai.DefaultHttpxClient(verify=trust),
        )  # fmt: skip
        return Clients(where, web, self._opened.enter_context(model), trust)


def dependencies() -> dict[str, Any]:
    """For Holdfast(deps=...). Held in memory, never stored."""
    return {"services": Services()}


def clients() -> Clients:
    """Those of the step whose body calls this."""
    services: Services = holdfast.step().dep("services")
    return services.clients()


class ToTheModel(httpx2.AsyncBaseTransport):
    """Sends a request to where the model is, with its key. Both are known in the body of a step only."""

    def __init__(self) -> None:
        self._transport: httpx2.AsyncHTTPTransport | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        use = await asyncio.to_thread(clients)  # the first one opens them, which would hold up all else on this loop
        where = use.where.openai
        url = httpx2.URL(where.url + request.url.path.removeprefix("/v1"))
        headers = request.headers | {"Authorization": f"Bearer {where.key}", "Host": url.netloc.decode()}
        sent = httpx2.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        if self._transport is None:
            # No connection outlives its answer: nobody could close it when the engine stops.
            limits = httpx2.Limits(max_keepalive_connections=0)
            self._transport = httpx2.AsyncHTTPTransport(verify=use.trust, limits=limits)
        return await self._transport.handle_async_request(sent)


def async_openai(transport: httpx2.AsyncBaseTransport | None = None) -> openai.AsyncOpenAI:
    """The model's client for async code, made before anything is open."""
    http = openai.DefaultAsyncHttpxClient(transport=transport or ToTheModel())
    return openai.AsyncOpenAI(base_url="https://api.openai.com/v1", api_key="set by ToTheModel", http_client=http)
