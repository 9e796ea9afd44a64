"""The one way to talk: the admin face over HTTP, to a server or, when none runs, to the same app in this process.

Promises: a command cannot tell the two apart, so nothing works on a file that does not work on a server. An answer that
is no success is raised as CommandFailed. Refuses: to guess. A server that was named and is not there is an error, not
a reason to open the file; one that was not named is refused when it serves another store than this folder's.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from holdfast.app import Holdfast
from holdfast.cli.loading import load_app
from holdfast.cli.problems import CommandFailed, from_answer, from_error
from holdfast.cli.where import Where
from holdfast.cli.wire import Info
from holdfast.errors import AppNotLoaded, StoreForeign, StoreLocked, TimedOut, Unreachable

T = TypeVar("T")

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
ACCEPTED = 202  # not done yet

Params = Mapping[str, Any] | None

JSON_HEADERS = {"Content-Type": "application/json"}


class Answer(NamedTuple, Generic[T]):
    """A success: its status, its bytes, and the bytes as the wanted type."""

    status: int
    raw: bytes
    value: T


class Link:
    """An open way to one store. `server` tells whether somebody runs what is started; `place` names it for a person."""

    def __init__(self, client: httpx.AsyncClient, place: str, *, server: bool) -> None:
        self.client = client
        self.place = place
        self.server = server

    async def get(self, path: str, want: type[T], params: Params = None) -> Answer[T]:
        """Reads. Parameters that are None are left out."""
        return await self.ask("GET", path, want, params=params)

    async def post(self, path: str, want: type[T], body: bytes | None = None, params: Params = None) -> Answer[T]:
        """Changes something."""
        return await self.ask("POST", path, want, params=params, body=body)

    async def ask(
        self, method: str, path: str, want: type[T], *, params: Params = None, body: bytes | None = None
    ) -> Answer[T]:
        """One request. Raises CommandFailed for every answer that is no success, and when there is none."""
        known = {name: str(value) for name, value in (params or {}).items() if value is not None}
        headers = JSON_HEADERS if body is not None else {}
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        try:
            answer = await self.client.request(
                method, path, params=known, content=body, headers=headers, timeout=timeout
            )
        except httpx.TimeoutException as error:
            raise self._late(error) from error
        except httpx.TransportError as error:
            raise self.lost(error) from error
        if not answer.is_success:
            raise from_answer(answer.status_code, answer.content, self.place)
        return Answer(answer.status_code, answer.content, self._decode(answer, want))

    def lost(self, error: Exception) -> CommandFailed:
        """The failure for a connection that does not come about, or breaks."""
        return from_error(unreachable(self.place, error))

    def _late(self, error: httpx.TimeoutException) -> CommandFailed:
        if isinstance(error, httpx.ConnectTimeout):
            return self.lost(error)
        late = TimedOut(
            f"{self.place} did not answer within {READ_SECONDS:.0f} seconds",
            cause="it is busy, or its disk is",
            fix="ask again; `holdfast doctor` looks at the machine",
        )
        return from_error(late)

    def _decode(self, answer: httpx.Response, want: type[T]) -> T:
        if want is type(None):
            return None  # the caller wants no body, whatever is in it
        try:
            return msgspec.json.decode(answer.content, type=want)
        except msgspec.MsgspecError as error:
            raise from_answer(answer.status_code, b"", self.place) from error


def at(*parts: str) -> str:
    """A path of parts that may hold any character."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def unreachable(place: str, error: Exception) -> Unreachable:
    """Why a server cannot be talked to."""
    return Unreachable(
        f"no server answers at {place}: {str(error) or type(error).__name__}",
        cause="it is not running, or it listens elsewhere",
        fix="start it with `holdfast serve`, or name it with --url or HOLDFAST_URL",
    )


@asynccontextmanager
async def connect(where: Where) -> AsyncIterator[Link]:
    """The link to where the command shall go. Raises StoreError, AppNotLoaded; CommandFailed when it is used."""
    configured = where.fallback and (where.app is not None or where.store is not None)
    if where.url is None or (configured and not await _listens(where.url)):
        async with _in_process(where) as link:
            yield link
        return
    async with _client(where.url, where.token) as client:
        link = Link(client, where.url, server=True)
        if configured and (other := stranger(where, (await link.get("/info", Info)).value)) is not None:
            raise other
        yield link


def stranger(where: Where, info: Info) -> Unreachable | None:
    """Why a server that nobody named is not this folder's: it serves another file than the configured one. None when it
    is, or when there is no file to compare. Raises AppNotLoaded."""
    flag = "--app" if where.store is None else "--store"
    own = where.store or _file_of(where)
    if own is None or not info.store or Path(info.store).resolve() == own.resolve():
        return None
    own, here = own.absolute(), Path.cwd()
    name = f"this folder's {own.relative_to(here)}" if own.is_relative_to(here) else f"the configured {own}"
    return Unreachable(
        f"the server at {where.url} serves {info.store}, not {name}",
        cause="another project's server has the usual port",
        fix=f"name it with --url, or this {'app' if flag == '--app' else 'file'} with {flag}",
    )


def _file_of(where: Where) -> Path | None:
    if where.app is None:
        return None
    try:
        with redirect_stdout(sys.stderr):  # what the app prints is no part of the server's answer
            return load_app(where.app).store_path
    except AppNotLoaded as error:
        fix = f"mend it, or name the server with --url {where.url}: whether it is this app's is not known without"
        raise AppNotLoaded(error.what, cause=error.cause, fix=fix) from error


def _client(url: str, token: str | None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = httpx.URL(url)
    loopback = address.host in ("127.0.0.1", "localhost", "::1")
    # Reading the machine's certificates takes a tenth of a second. Without TLS a context that trusts nobody does.
    trusted = ssl.create_default_context() if address.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # A proxy from the environment cannot know this machine's loopback.
    return httpx.AsyncClient(base_url=url, headers=headers, verify=trusted, trust_env=not loopback)


async def _listens(url: str) -> bool:
    """Whether anybody does. What it is, the next request shows."""
    async with _client(url, None) as client:
        try:
            await client.get("/health", timeout=CONNECT_SECONDS)
        except httpx.ConnectError:
            return False
        except httpx.HTTPError:
            return True
        return True


@asynccontextmanager
async def _in_process(where: Where) -> AsyncIterator[Link]:
    from holdfast.http.admin import admin_app

    try:
        hf = _holdfast(where)
        path = hf.store_path if where.store is None else where.store.absolute()
        async with hf.resting(where.store) as client:
            transport = httpx.ASGITransport(app=admin_app(client, store_path=path))
            # The name passes the admin face's check against rebinding; nothing is sent anywhere.
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                yield Link(http, str(path), server=False)
    except StoreLocked as error:
        if where.fallback:  # nothing listened there, and yet somebody runs it
            fix = "ask again in a moment if its server starts or stops; one on another port is named with --url"
        else:
            fix = "ask the server that it runs: leave --app and --store out, or name it with --url"
        raise StoreLocked(error.what, cause=error.cause, fix=fix) from error


def _holdfast(where: Where) -> Holdfast:
    if where.store is not None and not (where.store.exists() and where.store.stat().st_size):
        raise StoreForeign(
            f"{where.store} is {'empty' if where.store.exists() else 'not there'}",
            cause="a store is made by the program that runs handlers, not by looking at it",
            fix="check the path",
        )
    if where.app is not None:
        return load_app(where.app)
    assert where.store is not None  # for the type checker: without an app there is a store
    return Holdfast(where.store)
