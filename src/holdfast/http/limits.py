"""Every bound of the HTTP face in one place, and the counts that are held against them.

Promises: whatever clients send, or do not read, memory and places stay within these bounds; a request beyond them is
told to come again (503, Retry-After) before anything was started. Refuses: to queue requests in memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from holdfast.http.refusals import Busy
from holdfast.values import VALUE_BYTES_MAX

RETRY_SECONDS = "1"  # Retry-After of a refusal: places come free from one moment to the next


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one face may hold at once. Give one to HttpOptions(limits=HttpLimits(...)) to change a bound."""

    connections: int = 400  # a file each; 1,024 is a common bound, and step bodies may hold 512
    waiting: int = 300  # requests that wait for a result; the other connections stay free for who resolves them
    watchers: int = 100  # event streams
    body_bytes: int = VALUE_BYTES_MAX  # of one request
    bodies_bytes: int = 256 * 1024 * 1024  # of all requests that are being read or stored
    head_bytes: int = 32 * 1024  # request line and headers
    head_seconds: float = 10.0  # for the request line and headers to arrive
    body_seconds: float = 60.0  # for the body to arrive
    write_seconds: float = 30.0  # a client that reads nothing for so long is dropped
    idle_seconds: float = 30.0  # an unused connection is closed
    wait_seconds: float = 600.0  # how long a call waits for its result if it does not say
    wait_seconds_max: float = 3_600.0  # and if it does
    heartbeat_seconds: float = 15.0  # a comment in a silent event stream, so that proxies keep it
    stop_seconds: float = 5.0  # for answers that are on their way when the server stops


class Places:
    """A bounded number of something; `with places:` takes one. Raises Busy when none is free."""

    def __init__(self, count: int, what: str) -> None:
        self.taken = 0
        self._count = count
        self._what = what

    def __enter__(self) -> None:
        if self.taken >= self._count:
            raise busy(f"{self.taken} {self._what} already, which is the limit")
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


class Traffic:
    """What one face has in hand."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.requests = 0  # ever
        self.buffered = 0  # bytes of bodies
        self.waiting = Places(limits.waiting, "requests wait for a result")
        self.watchers = Places(limits.watchers, "event streams are open")
        self.stopping = asyncio.Event()

    def take(self, count: int) -> None:
        """Counts bytes of a body. Raises Busy when all bodies together would be too large."""
        if self.buffered + count > self.limits.bodies_bytes:
            raise busy(f"{self.buffered:,} bytes of other requests are in memory")
        self.buffered += count

    def check_open(self) -> None:
        """Raises Busy when the server is stopping."""
        if self.stopping.is_set():
            raise stopping()


def busy(what: str) -> Busy:
    """The refusal of a request for which there is no place."""
    return Busy(
        what,
        cause="more is asked at once than this server takes",
        fix="send the same request again, with an Idempotency-Key if it starts something",
        headers={"Retry-After": RETRY_SECONDS},
    )


def stopping() -> Busy:
    """What a request is told when the server stops."""
    return Busy(
        "the server is stopping",
        cause="it was told to, or its store failed",
        fix="ask again when it is back; what was acknowledged goes on",
        headers={"Retry-After": RETRY_SECONDS, "Connection": "close"},
    )
