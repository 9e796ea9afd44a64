"""What happens to an invocation, as server-sent events.

Promises: every event of the journal comes once, in order; a client that lost its connection goes on where it was by
Last-Event-ID, without a gap. Refuses: to keep events for a client that does not read them; it is dropped and resumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from holdfast.client import AsyncClient
from holdfast.errors import HoldfastError
from holdfast.http.exchange import Exchange
from holdfast.http.limits import Traffic
from holdfast.http.problems import named, problem
from holdfast.watching import EventView

MEDIA = "text/event-stream"
FIRST_SECONDS = 0.05  # what is wrong with a request shows within this, and is then no stream but a problem
SEEN = "!"
RETRY = b"retry: 2000\n\n"  # milliseconds after which a browser comes again
HEARTBEAT = b": still here\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second for nginx
EVENT_HEADERS = {"Last-Event-ID": "The id of the last event that was seen: the stream goes on after it."}


class Events:
    """The operation over one client."""

    def __init__(self, client: AsyncClient, traffic: Traffic) -> None:
        self._client = client
        self._traffic = traffic

    async def stream(self, exchange: Exchange) -> Response:
        """The stream, or 204 when there is nothing after the last event: browsers come again until they see that."""
        exchange.query(())
        handle = await self._client.attach(exchange.param("id"))
        exchange.invocation = handle.id
        after, _, seen = (exchange.header(b"last-event-id") or "").partition(SEEN)
        return _Stream(exchange, _unseen(self._client.watch(handle.id, after=after or None), seen), resumes=bool(after))


class _Stream(Response):
    def __init__(self, exchange: Exchange, events: AsyncIterator[EventView], *, resumes: bool) -> None:
        super().__init__(status_code=200, headers=HEADERS | named(exchange.invocation or ""), media_type=MEDIA)
        del self.headers["content-length"]
        self._exchange = exchange
        self._events = events
        self._resumes = resumes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        traffic = self._exchange.traffic
        with traffic.watchers:
            self._coming = self._next()
            ends = (
                asyncio.ensure_future(self._exchange.disconnected()),
                asyncio.ensure_future(traffic.stopping.wait()),
            )
            try:
                await asyncio.wait((self._coming, *ends), timeout=FIRST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                # What is wrong is raised here, while it can still be a problem.
                if self._coming.done() and self._coming.result() is None and self._resumes:
                    await Response(status_code=204, headers=HEADERS)(scope, receive, send)
                    return
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await _write(send, RETRY)
                await self._write_all(send, ends)
                await _write(send, b"", more=False)
            finally:
                for task in (self._coming, *ends):
                    task.cancel()
                await asyncio.wait((self._coming, *ends))
                await self._close()

    async def _write_all(self, send: Send, ends: tuple[asyncio.Future[Any], ...]) -> None:
        heartbeat = self._exchange.traffic.limits.heartbeat_seconds
        while True:
            await asyncio.wait((self._coming, *ends), timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if any(end.done() for end in ends):
                return
            if not self._coming.done():
                await _write(send, HEARTBEAT)
                continue
            try:
                event = self._coming.result()
            except HoldfastError as error:
                await _write(send, b"event: problem\ndata: %b\n\n" % bytes(problem(error).body))
                return
            if event is None:
                return
            await _write(send, frame(event))
            self._coming = self._next()

    def _next(self) -> asyncio.Future[EventView | None]:
        return asyncio.ensure_future(anext(self._events, None))

    async def _close(self) -> None:
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()


async def _unseen(events: AsyncIterator[EventView], status: str) -> AsyncIterator[EventView]:
    """Without the first status, if the client has seen it: a watch always begins with the one there is."""
    async for event in events:
        if event.kind != "status" or event.data["status"] != status:
            yield event
        status = "" if event.kind == "status" else status


def frame(event: EventView) -> bytes:
    """An event as it is sent."""
    # A status is no line of the journal and has no place of its own: which one was seen is told by its id.
    id = event.id + (SEEN + event.data["status"] if event.kind == "status" else "")
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id.encode(), event.kind.encode(), msgspec.json.encode(event.data))


async def _write(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
