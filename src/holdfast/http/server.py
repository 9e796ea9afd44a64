"""Serving both faces from the process and the loop of the engine.

Promises: both ports are bound before the engine starts, so that a port in use starts nothing; a stop answers who waits
(503, the invocation goes on), then stops the engine; a second signal ends at once. Refuses: an address beyond loopback
without a token.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import uvicorn

from holdfast.client import AsyncClient
from holdfast.errors import BadArguments
from holdfast.http.admin import admin_app
from holdfast.http.auth import LOOPBACK_NAMES, Guard, is_loopback, read_hashes
from holdfast.http.face import Face
from holdfast.http.ingress import ingress_app
from holdfast.http.limits import HttpLimits
from holdfast.http.options import HttpOptions
from holdfast.http.protocol import connection_of

TOKEN_VARIABLE = "HOLDFAST_TOKEN"  # noqa: S105  # its name, not its value
BACKLOG = 1_024  # connections the kernel keeps until we accept them


class Program(Protocol):
    """What is served: a Holdfast."""

    @property
    def store_path(self) -> Path | None:
        """The SQLite file."""

    async def __aenter__(self) -> AsyncClient: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def over(self) -> None:
        """Returns when the engine is told to end. Raises what made it fail."""


class Listeners:
    """The bound sockets of both faces. Nothing is accepted yet."""

    def __init__(self, options: HttpOptions) -> None:
        """Raises BadArguments when one cannot be bound, or may not be without a token."""
        self._hashes = [] if options.tokens_file is None else read_hashes(options.tokens_file)
        self._tokens = list(options.tokens)
        if token := os.environ.get(TOKEN_VARIABLE):
            self._tokens.append(token)
        self.options = options
        self.ingress = _bind(options.host, options.port)
        try:
            self.admin = _bind(options.admin_host, options.admin_port)
        except BaseException:
            self.ingress.close()
            raise
        try:
            self.guards = (self._guard(self.ingress), self._guard(self.admin))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the ports back."""
        self.ingress.close()
        self.admin.close()

    def _guard(self, bound: socket.socket) -> Guard:
        address = bound.getsockname()[0]
        guard = Guard(tokens=self._tokens, hashes=self._hashes, origins=self.options.origins)
        if not is_loopback(address):
            if not guard.hashes:
                raise BadArguments(
                    f"{address} can be reached from other machines, and there is no token",
                    cause="whoever reaches it could run, read and delete everything",
                    fix=f"set {TOKEN_VARIABLE}, or name a file of tokens; or bind to 127.0.0.1",
                )
            return guard
        shown = f"[{address}]" if ":" in address else address
        hosts = {*LOOPBACK_NAMES, shown, *self.options.hosts}
        return Guard(tokens=self._tokens, hashes=self._hashes, hosts=hosts, origins=self.options.origins)


class Servers:
    """Both faces, once they accept. `async with`: on leaving, who waits is answered and the ports are given back."""

    def __init__(self, client: AsyncClient, store_path: Path | None, listeners: Listeners) -> None:
        limits = listeners.options.limits
        self.client = client
        self._listeners = listeners
        ingress_guard, admin_guard = listeners.guards
        self._faces = (
            (ingress_app(client, limits=limits, guard=ingress_guard), listeners.ingress),
            (admin_app(client, store_path=store_path, limits=limits, guard=admin_guard), listeners.admin),
        )
        self._servers = [(_server(face, limits), bound) for face, bound in self._faces]
        self.ingress_url = _url(listeners.ingress)
        self.admin_url = _url(listeners.admin)

    async def __aenter__(self) -> Self:
        for server, bound in self._servers:
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup(sockets=[bound])
        self._ticks = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for face, _ in self._faces:
            face.traffic.stopping.set()
        self._ticks.cancel()
        late = asyncio.get_running_loop().call_later(self._listeners.options.limits.stop_seconds, self._abort)
        await asyncio.gather(*(server.shutdown(sockets=[bound]) for server, bound in self._servers))
        late.cancel()

    def _abort(self) -> None:
        """Ends what clients do not read. Before uvicorn would cancel the tasks that answer, and log each."""
        for server, _ in self._servers:
            for connection in list(server.server_state.connections):
                connection.transport.abort()

    async def _tick(self) -> None:
        """The Date header, once a second. Uvicorn's own loop looks ten times a second whether it should end."""
        while True:
            for server, _ in self._servers:
                await server.on_tick(0)
            await asyncio.sleep(1.0)


async def serve(program: Program, options: HttpOptions, ready: Callable[[Servers], None] | None = None) -> None:
    """Serves until SIGINT, SIGTERM or the end of the engine. `ready` is called once requests are answered.

    Raises BadArguments, BadHandler, StoreError; what made the engine fail.
    """
    listeners = Listeners(options)
    try:
        async with program as client, Servers(client, program.store_path, listeners) as servers:
            stop = asyncio.ensure_future(_signals().wait())
            over = asyncio.ensure_future(program.over())
            if ready is not None:
                ready(servers)
            try:
                await asyncio.wait((stop, over), return_when=asyncio.FIRST_COMPLETED)
                if over.done():
                    over.result()
            finally:
                stop.cancel()
                over.cancel()
    finally:
        listeners.close()


def _signals() -> asyncio.Event:
    """Set at the first SIGINT or SIGTERM; the second ends the process at once."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def note() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        came.set()

    for number in numbers:
        loop.add_signal_handler(number, note)
    return came


def _server(face: Face, limits: HttpLimits) -> uvicorn.Server:
    config = uvicorn.Config(
        face, http=connection_of(limits), ws="none", lifespan="off", interface="asgi3", log_config=None,
        access_log=False, proxy_headers=False, server_header=False, backlog=BACKLOG,
        timeout_keep_alive=int(limits.idle_seconds), timeout_graceful_shutdown=int(limits.stop_seconds) + 1,
    )  # fmt: skip
    return uvicorn.Server(config)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as failure:
        raise BadArguments(f"{host!r} is no address: {failure}", fix="give one of this machine's addresses") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError as failure:
        bound.close()
        raise BadArguments(
            f"cannot serve on {host}:{port}: {failure.strerror}",
            cause="another process uses the port" if failure.errno == 98 else "",
            fix="end that process, or choose other ports: --port and --admin-port, HttpOptions(port=, admin_port=)",
        ) from None
    bound.setblocking(False)
    return bound


def _url(bound: socket.socket) -> str:
    address, port = bound.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
