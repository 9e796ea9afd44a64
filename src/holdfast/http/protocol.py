"""Uvicorn's connection with the bounds that it lacks.

Promises: a client that sends its headers too slowly, too many of them, or does not read what it is sent, loses its
connection and holds no memory; what is no HTTP is answered by a problem as well. Refuses: connections beyond the limit.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from holdfast.http.limits import HttpLimits, busy
from holdfast.http.problems import problem
from holdfast.http.refusals import BadRequest, HeadersTooLarge, TooSlow

log = logging.getLogger("holdfast.http.connection")
log.setLevel(logging.ERROR)


class Connection(HttpToolsProtocol):
    """One connection. `limits` is set on a subclass made by `connection_of`: uvicorn makes the objects."""

    limits: HttpLimits

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, _loop)
        self.logger = log  # uvicorn warns of every request that is no HTTP, and any client can send those
        self._head_bytes = 0  # of a request whose headers are not complete
        self._read_timer: asyncio.TimerHandle | None = None  # for the headers, then for the body
        self._reading_body = False
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As asyncio calls it."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(problem(busy(f"{self.limits.connections} connections are open, which is the limit")))
            return
        self._read_timer = self.loop.call_later(self.limits.head_seconds, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio calls it."""
        self._stop_reading()
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As asyncio calls it."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._await_head(len(data))
        elif not cycle.more_body:  # all of a request is here
            self._head_bytes = 0
            self._stop_reading()
        elif not self._reading_body:
            self._head_bytes = 0
            self._stop_reading()
            self._reading_body = True
            self._read_timer = self.loop.call_later(self.limits.body_seconds, self._body_late, cycle)

    def pause_writing(self) -> None:
        """As asyncio calls it: the client does not read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """As asyncio calls it."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        """As uvicorn calls it, for what is no HTTP."""
        self._refuse(problem(BadRequest(msg.rstrip("."), cause="it is not HTTP/1.1", fix="send an HTTP request")))

    def timeout_keep_alive_handler(self) -> None:
        """As uvicorn calls it, for a connection that is not used. What was not read by now never will be."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _await_head(self, count: int) -> None:
        if self._reading_body:
            self._stop_reading()
        self._head_bytes += count
        if self._head_bytes > self.limits.head_bytes:
            limit = f"the limit is {self.limits.head_bytes:,} bytes"
            self._refuse(problem(HeadersTooLarge(f"request line and headers are too large; {limit}")))
        elif self._read_timer is None:
            self._read_timer = self.loop.call_later(self.limits.head_seconds, self._head_late)

    def _body_late(self, cycle: RequestResponseCycle) -> None:
        if cycle.response_complete:
            return
        if cycle.response_started:
            self.transport.abort()
            return
        late = TooSlow(
            f"the body did not arrive within {self.limits.body_seconds:g} s",
            cause="the connection is slow, or the client has stopped sending",
            fix="send it again, or keep what is large elsewhere and send its name",
        )
        self._refuse(problem(late))

    def _head_late(self) -> None:
        if self._head_bytes:
            late = f"request line and headers did not arrive within {self.limits.head_seconds:g} s"
            self._refuse(problem(TooSlow(late, fix="send them at once")))
        else:
            self.transport.close()  # it never asked for anything

    def _refuse(self, response: Response) -> None:
        if self.transport.is_closing():
            return
        head = [STATUS_LINE[response.status_code], b"connection: close\r\n"]
        head += [b"%b: %b\r\n" % pair for pair in response.raw_headers]
        self.transport.write(b"".join([*head, b"\r\n", bytes(response.body)]))
        self.transport.close()
        self._write_timer = self._write_timer or self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def _stop_reading(self) -> None:
        self._reading_body = False
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None


def connection_of(limits: HttpLimits) -> type[Connection]:
    """The class with its bounds."""
    return type("BoundConnection", (Connection,), {"limits": limits})
