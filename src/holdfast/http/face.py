"""One face (ingress or admin) as an ASGI application: what it serves, and what every request passes.

Promises: paths are matched as they were sent, so that %2F in an id is no separator; every error is a problem; nothing
that a handler or an engine raises ends the connection without an answer. Refuses: parameters and bodies that an
operation does not declare.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from holdfast.errors import HoldfastError
from holdfast.http.auth import Guard
from holdfast.http.exchange import CLOSE, WITHOUT_BODY, Exchange, Gone, Query
from holdfast.http.limits import Traffic
from holdfast.http.problems import problem
from holdfast.http.refusals import BadRequest, InternalError, UnknownRoute, WrongMethod

KEY = "holdfast"  # of the exchange in the scope
EXPOSED = "Holdfast-Invocation, Location, Retry-After"

log = logging.getLogger("holdfast.http")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: how it is done, and what OpenAPI says of it.

    `answers` are the bodies by status, as type hints; None for no body. `body` is the hint of the request's, or a
    schema; without one a body is refused.
    """

    method: str
    path: str
    name: str
    about: str
    call: Callable[[Exchange], Awaitable[Response]]
    answers: Mapping[int, Any]
    query: Sequence[Query] = ()
    body: Any = None
    body_required: bool = False
    example: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)  # request headers that it knows, with what they do
    media: str = "application/json"


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


class Endpoint:
    """All methods of one path."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        exchange.params = scope["path_params"]
        operation = self._by_method.get(exchange.method)
        if operation is None:
            raise wrong_method(exchange, self._by_method)
        if operation.body is None and exchange.method not in WITHOUT_BODY and exchange.has_body():
            names = ", ".join(one.name for one in operation.query)
            raise BadRequest(
                f"{exchange.method} {operation.path} takes no body",
                fix=f"its parameters stand in the query: {names}" if names else "send none",
                headers=CLOSE,
            )
        response = await operation.call(exchange)
        await response(scope, receive, send)


def wrong_method(exchange: Exchange, allowed: Iterable[str]) -> WrongMethod:
    """The refusal of a method that a path does not have."""
    allow = ", ".join(sorted(allowed))
    return WrongMethod(f"{exchange.method} is not for this path", fix=f"use {allow}", headers={"Allow": allow})


def routes_of(operations: Iterable[Operation]) -> list[BaseRoute]:
    """One route for each path, in the order given."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return [Route(path, Endpoint(group)) for path, group in by_path.items()]


class Face:
    """The application."""

    def __init__(self, routes: Sequence[BaseRoute], traffic: Traffic, guard: Guard) -> None:
        self.traffic = traffic
        self._guard = guard
        self._router = Router(routes, redirect_slashes=False, default=_not_found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served, not {scope['type']}")
        scope["path"] = _sent_path(scope)
        started = 0

        async def tell(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = message["status"]
            await send(message)

        self.traffic.requests += 1
        began = asyncio.get_running_loop().time() if log.isEnabledFor(logging.DEBUG) else 0.0
        exchange: Exchange | None = None
        failure: HoldfastError | None = None
        try:
            exchange = scope[KEY] = Exchange(scope, receive, self.traffic)
            await self._answer(exchange, scope, receive, self._shared(exchange, tell))
        except Gone:
            started = 499  # as proxies log it
        except HoldfastError as error:
            failure = error
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            failure = _internal()
        finally:
            if exchange is not None:
                exchange.free()
        known = exchange.invocation if exchange is not None else None
        if failure is not None:
            if started:
                raise failure  # its client sees that the answer breaks off
            await problem(failure, known)(scope, receive, self._shared(exchange, tell))
        if began:
            seconds = asyncio.get_running_loop().time() - began
            log.debug("%s %s %d %.1f ms %s", scope["method"], scope["path"], started, seconds * 1e3, known or "-")

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard.check(exchange.path, exchange.method, exchange.headers)
        self.traffic.check_open()
        if exchange.method == "OPTIONS" and b"access-control-request-method" in exchange.headers:
            await Response(status_code=204, headers=_preflight())(scope, receive, send)
            return
        if exchange.method not in WITHOUT_BODY:
            exchange.check_type()
        await self._router(scope, receive, send)

    def _shared(self, exchange: Exchange | None, send: Send) -> Send:
        """With the headers that let an allowed web page of another origin read the answer."""
        origin = exchange.headers.get(b"origin") if exchange is not None else None
        if origin is None or not self._guard.allows(origin.decode("latin-1")):
            return send

        async def shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"access-control-allow-origin", origin),
                    (b"access-control-expose-headers", EXPOSED.encode()),
                    (b"vary", b"Origin"),
                ]
            await send(message)

        return shared


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    del receive, send
    raise UnknownRoute(
        f"nothing is served under {scope['path'][:200]!r}",
        cause="the path is misspelt, or it belongs to the other port",
        fix="GET /openapi.json lists what there is",
    )


def _internal() -> InternalError:
    return InternalError(
        "the request failed by a mistake in Holdfast", cause="the log has the traceback", fix="report it, with the log"
    )


def _preflight() -> dict[str, str]:
    return {
        "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer",
        "Access-Control-Max-Age": "600",
    }


def _sent_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("ascii") if raw is not None else quote(scope["path"])
