"""Both http libraries, and a service that answers in memory and counts what it was asked."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import httpx2

from holdfast.integrations.httpx import DurableTransport as Transport1
from holdfast.integrations.httpx2 import DurableTransport as Transport2


class Pieces(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    """A body in pieces; one that is an exception is raised."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Library:
    """httpx or httpx2, and its durable transport."""

    def __init__(self, module: Any, transport: Any) -> None:
        self.module = module
        self.name = module.__name__
        self.durable = transport

    def service(self, answer: Callable[[Any], Any]) -> Any:
        """A transport that answers by a function; `asked` are the requests it saw."""
        module = self.module

        class Service(module.AsyncBaseTransport):
            def __init__(self) -> None:
                self.asked: list[Any] = []
                self.closed = 0

            async def handle_async_request(self, request: Any) -> Any:
                await request.aread()
                self.asked.append(request)
                response = answer(request)
                if isinstance(response, Exception):
                    raise response
                return await response if hasattr(response, "__await__") else response

            async def aclose(self) -> None:
                self.closed += 1

        return Service()

    def client(self, service: Any, **options: Any) -> Any:
        return self.module.AsyncClient(transport=self.durable(service, **options), base_url="https://api.example")

    def json(self, value: Any, status: int = 200, **headers: str) -> Any:
        return self.module.Response(status, json=value, headers=headers)

    def zipped(self, value: Any) -> Any:
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        body = gzip.compress(json.dumps(value).encode())
        return self.module.Response(200, headers=headers, stream=self.module.ByteStream(body))

    def stream(self, *pieces: bytes | Exception, kind: str = "text/event-stream") -> Any:
        return self.module.Response(200, headers={"content-type": kind}, stream=Pieces(*pieces))


LIBRARIES = [Library(httpx, Transport1), Library(httpx2, Transport2)]
