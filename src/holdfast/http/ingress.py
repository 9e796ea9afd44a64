"""The face that programs talk to: every handler under its own path.

Promises: a call that was accepted is durable before anything is answered; the same Idempotency-Key or id is the same
invocation. Refuses: services whose names hide other routes; GET for handlers that may write.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from holdfast.client import AsyncClient
from holdfast.errors import BadHandler, UnknownHandler
from holdfast.handle import AsyncHandle
from holdfast.http.auth import Guard
from holdfast.http.exchange import Exchange, Query
from holdfast.http.face import Endpoint, Face, Operation, routes_of
from holdfast.http.invocations import DELAY, ID, Invocations, Started, result, started
from holdfast.http.limits import HttpLimits, Traffic
from holdfast.http.openapi import about_operations
from holdfast.http.refusals import BadRequest
from holdfast.service import Handler

SEND = "send"
RESERVED = frozenset({"health", "invocations", "promises"})
# Of the request, given to the handler as ctx.headers. No others: what is stored must hold no secrets.
PASSED_ON = ("traceparent", "tracestate", "baggage", "x-request-id")

KEY_HEADER = {"Idempotency-Key": "Requests with the same key are one invocation."}
WAIT_HEADER = {"Prefer": "wait=SECONDS: how long to wait for the result; then 202."}


def ingress_app(client: AsyncClient, *, limits: HttpLimits | None = None, guard: Guard | None = None) -> Face:
    """The ingress as an ASGI application. Raises BadHandler for a service whose name is a route's."""
    traffic = Traffic(limits or HttpLimits())
    handlers = Handlers(client, traffic)
    operations = [*handlers.operations, *Invocations(client, traffic).operations()]
    operations += about_operations("ingress", operations)
    return Face([handlers, *routes_of(operations[len(handlers.operations) :])], traffic, guard or Guard())


class Handlers(BaseRoute):
    """The route of all handlers: a table, looked up by the parts of the path."""

    def __init__(self, client: AsyncClient, traffic: Traffic) -> None:
        self._client = client
        self._traffic = traffic
        self.operations: list[Operation] = []
        self._keyed: dict[str, bool] = {}
        self._table: dict[tuple[str, ...], Endpoint] = {}  # by the path without the key
        for handler in client.handlers():
            self._add(handler)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette asks it. Raises UnknownHandler for a service that is known and a handler that is not."""
        first, *rest = scope["path"][1:].split("/")
        keyed = self._keyed.get(first)
        if keyed is None:
            return Match.NONE, {}
        params = {"key": rest.pop(0)} if keyed and rest else {}
        endpoint = self._table.get((first, *rest))
        if endpoint is None:
            raise self._unknown(first, rest)
        return Match.FULL, {"path_params": params, "endpoint": endpoint}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As Starlette calls it."""
        await scope["endpoint"](scope, receive, send)

    def _add(self, handler: Handler) -> None:
        keyed = handler.kind != "service"
        names = tuple(handler.target.split("/"))
        if names[0] in RESERVED or self._keyed.setdefault(names[0], keyed) != keyed or names in self._table:
            raise BadHandler(
                f"{handler.target!r} cannot be served over HTTP: its path belongs to something else",
                cause=f"these are routes: {', '.join(sorted(RESERVED))}; and {SEND!r} at the end of a path sends",
                fix="rename the service or the handler",
            )
        path = "/" + "/".join((names[0], *(("{key}",) if keyed else ()), *names[1:]))
        operations = self._operations(handler, path)
        self.operations += operations
        self._table[names] = Endpoint(one for one in operations if one.path == path)
        if (*names, SEND) in self._table:
            raise BadHandler(f"{handler.target!r} hides another's {SEND!r}", fix=f"rename the one called {SEND!r}")
        self._table[(*names, SEND)] = Endpoint(one for one in operations if one.path != path)

    def _operations(self, handler: Handler, path: str) -> list[Operation]:
        name = handler.target.replace("/", ".")
        about = handler.doc or f"Runs {handler.target} and waits for its result."
        body, returns = handler.arguments.schema(), handler.returns_schema()
        call, send = partial(self._call, handler), partial(self._send, handler)
        given: dict[str, Any] = {"body": body, "body_required": bool(handler.arguments.required())}
        found = [
            Operation("POST", path, name, about, call, {200: returns, 202: Started}, _ids(handler),
                      headers=KEY_HEADER | WAIT_HEADER, **given),
            Operation("POST", f"{path}/{SEND}", f"{name}.{SEND}", f"Starts {handler.target}; does not wait.", send,
                      {202: Started}, (*_ids(handler), DELAY), headers=KEY_HEADER, **given),
        ]  # fmt: skip
        if handler.shared and not handler.arguments.required():
            found.append(
                Operation("GET", path, f"{name}.get", about, call, {200: returns, 202: Started}, headers=WAIT_HEADER)
            )
        return found

    async def _call(self, handler: Handler, exchange: Exchange) -> Response:
        query = exchange.query(_ids(handler) if exchange.method == "POST" else ())
        wait = exchange.wait_seconds()
        with self._traffic.waiting:
            return await result(exchange, await self._start(handler, exchange, query), wait)

    async def _send(self, handler: Handler, exchange: Exchange) -> Response:
        return await started(await self._start(handler, exchange, exchange.query((*_ids(handler), DELAY))))

    async def _start(self, handler: Handler, exchange: Exchange, query: dict[str, Any]) -> AsyncHandle[Any]:
        id = exchange.invocation = query.get("id")
        idempotency_key = exchange.header(b"idempotency-key")
        if idempotency_key == "":
            raise BadRequest("the Idempotency-Key is empty", fix="send a text of your own, or leave the header out")
        if idempotency_key is not None and id is not None:
            raise BadRequest("there are an id and an Idempotency-Key", fix="send one of the two")
        headers = {name: text for name in PASSED_ON if (text := exchange.header(name.encode())) is not None}
        key = exchange.param("key") if "key" in exchange.params else None
        body = await exchange.body() if exchange.method == "POST" else b""
        try:
            handle = await self._client.start_json(
                handler.target, body, id=id, key=key, delay=query.get("delay"),
                idempotency_key=idempotency_key, headers=headers or None,
            )  # fmt: skip
        finally:
            del body
            exchange.free()
        exchange.invocation = handle.id
        return handle

    def _unknown(self, first: str, rest: Iterable[str]) -> UnknownHandler:
        keyed = self._keyed[first]
        known = sorted({names[1] for names in self._table if names[0] == first and len(names) > 1 and names[1] != SEND})
        shown = "/".join((first, *(("KEY",) if keyed else ()), "HANDLER"))
        return UnknownHandler(
            f"{first!r} has no handler {'/'.join(rest)!r}; it has: {', '.join(known) or 'none'}",
            cause=f"its paths are /{shown} and /{shown}/{SEND}" if known else f"its path is /{first}",
            fix="GET /openapi.json lists every path",
        )


def _ids(handler: Handler) -> tuple[Query, ...]:
    """A workflow's main handler runs once a key: the key is its id."""
    return () if handler.main else (ID,)
