"""The face for operators: every invocation, state, schedules, the store.

Promises: what it does is what the Python client does; a query reads a snapshot and is cut off before it can hold
anything up. Refuses: to write files anywhere but beside the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
from starlette.responses import Response

from holdfast.client import AsyncClient
from holdfast.core.invocation import Status
from holdfast.handle import AsyncHandle
from holdfast.http import exchange as kinds
from holdfast.http.auth import Guard
from holdfast.http.exchange import Exchange, Query, read_json
from holdfast.http.face import Face, Operation, answer, routes_of
from holdfast.http.invocations import DELAY, ID, Invocations, Started, started
from holdfast.http.limits import HttpLimits, Traffic
from holdfast.http.openapi import about_operations
from holdfast.http.refusals import BadRequest
from holdfast.stores.sqlite.reading import Table, read_table
from holdfast.views import AskView, CheckView, InfoView, InvocationView, PromiseView, ScheduleView

TEXT = kinds.TEXT
STATUS = Query(
    "status", "only those with this status", kinds.text, {"enum": [status.name.lower() for status in Status]}
)
TARGET = Query("target", 'only those of "Service/handler", or of all handlers of "Service/"', kinds.text, TEXT)
KEY = Query("key", "only those of this key", kinds.text, TEXT)
PARENT = Query("parent", "only those that this invocation started", kinds.text, TEXT)
BEFORE = Query("before", "the id that the last answer gave as next", kinds.text, TEXT)
AFTER = Query("after", "the key that the last answer gave as next", kinds.text, TEXT)
LIMIT = Query("limit", "rows of one answer, 1 to 1000", kinds.count, kinds.COUNT | {"default": 100}, default=100)
REASON = Query("reason", "why; it is shown with the invocation", kinds.text, TEXT, default="asked for over HTTP")
FROM = Query("from", "the step to begin at; without it, the start", kinds.text, TEXT)
STEP = Query("step", "the step whose result is replaced", kinds.text, TEXT, required=True)
NEW_ID = Query("id", "the new invocation's id", kinds.text, TEXT)
OLDER_THAN = Query("older_than", "a duration such as P7D", kinds.duration, kinds.DURATION, required=True)
HANDLER = Query("target", 'the handler, "Service/handler"', kinds.text, TEXT, required=True)
OBJECT_KEY = Query("key", "of an object or workflow", kinds.text, TEXT)
ORDER = (HANDLER, OBJECT_KEY, ID, DELAY)
LISTED = (STATUS, TARGET, KEY, PARENT, BEFORE, LIMIT)


class InvocationList(TypedDict):
    """Newest first. `next` is the id to give as `before` for the rows that follow."""

    invocations: list[InvocationView]
    next: str | None


class KeyList(TypedDict):
    """In order. `next` is the key to give as `after` for those that follow."""

    keys: list[str]
    next: str | None


class HandlerView(TypedDict):
    """A registered handler."""

    target: str
    service: str | None
    name: str
    kind: str
    shared: bool
    main: bool
    doc: str | None
    arguments: dict[str, Any]
    returns: dict[str, Any]


class Purged(TypedDict):
    """How many invocations are gone."""

    purged: int


class BackupOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The new file's name, in the folder of the store."""

    path: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]


class BackupDone(TypedDict):
    """Where the copy is."""

    path: str
    bytes: int


class SqlQuery(msgspec.Struct, forbid_unknown_fields=True):
    """One statement that reads."""

    query: str


def admin_app(
    client: AsyncClient, *, store_path: Path | None = None, limits: HttpLimits | None = None, guard: Guard | None = None
) -> Face:
    """The admin face as an ASGI application. `store_path` is the SQLite file, None for another store."""
    traffic = Traffic(limits or HttpLimits())
    operations = [
        *Tasks(client).operations(),
        *Invocations(client, traffic).operations(),
        *Objects(client).operations(),
        *Schedules(client).operations(),
        *Server(client, traffic, store_path).operations(),
    ]
    operations += about_operations("admin", operations)
    return Face(routes_of(operations), traffic, guard or Guard())


class Tasks:
    """Task control."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def operations(self) -> list[Operation]:
        """In the order of the page."""
        one = "/invocations/{id}"
        return [
            Operation("GET", "/invocations", "listInvocations", "Invocations, newest first.", self._list,
                      {200: InvocationList}, LISTED),
            Operation("POST", "/invocations", "start", "Starts a handler; does not wait.", self._start, {202: Started},
                      ORDER, body=Any, example={"name": "World"}),
            Operation("POST", "/invocations/purge", "purgeEnded", "Deletes those that ended long ago.",
                      self._purge_ended, {200: Purged}, (OLDER_THAN,)),
            self._move("cancel", "Asks it to end; its clean-up still runs, and its children end too.", REASON),
            self._move("kill", "Ends it at once, without clean-up.", REASON),
            self._move("pause", "Stops it until it is resumed.", REASON),
            self._move("resume", "Lets a paused one go on."),
            self._move("retry", "Reopens a failed one at the point where it failed."),
            Operation("POST", f"{one}/purge", "purge", "Deletes one that has ended.", self._purge, {204: None}),
            Operation("DELETE", one, "delete", "Deletes one that has ended.", self._purge, {204: None}),
            Operation("POST", f"{one}/restart", "restart", "A new run of it; steps before `from` are not run again.",
                      self._restart, {202: Started}, (FROM, NEW_ID)),
            Operation("POST", f"{one}/fork", "fork", "A new run in which one step's result is the body.",
                      self._fork, {202: Started}, (STEP, NEW_ID), body=Any, body_required=True, example=True),
            Operation("GET", "/asks", "listAsks", "Questions that wait for a person, oldest first.", self._asks,
                      {200: list[AskView]}),
            Operation("GET", "/promises", "listPromises", "All that waits to be settled, oldest first.",
                      self._promises, {200: list[PromiseView]}),
        ]  # fmt: skip

    def _move(self, name: str, about: str, *query: Query) -> Operation:
        """An operation that is a method of the handle and answers what became of the invocation."""

        async def call(exchange: Exchange) -> Response:
            values = exchange.query(query)
            handle = await self._attach(exchange)
            await getattr(handle, name)(*values.values())
            return answer(await handle.status())

        return Operation("POST", f"/invocations/{{id}}/{name}", name, about, call, {200: InvocationView}, query)

    async def _list(self, exchange: Exchange) -> Response:
        query = exchange.query(LISTED)
        found = await self._client.list(**query)
        more = found[-1].id if len(found) == query["limit"] else None
        return answer(InvocationList(invocations=found, next=more))

    async def _start(self, exchange: Exchange) -> Response:
        query = exchange.query(ORDER)
        return await started(await self._client.start_json(query.pop("target"), await exchange.body(), **query))

    async def _purge_ended(self, exchange: Exchange) -> Response:
        older_than: timedelta = exchange.query((OLDER_THAN,))["older_than"]
        return answer(Purged(purged=await self._client.purge_ended(older_than)))

    async def _purge(self, exchange: Exchange) -> Response:
        exchange.query(())
        await (await self._attach(exchange)).purge()
        return Response(status_code=204)

    async def _restart(self, exchange: Exchange) -> Response:
        query = exchange.query((FROM, NEW_ID))
        handle = await self._attach(exchange)
        return await started(await handle.restart(from_step=query["from"], new_id=query["id"]))

    async def _fork(self, exchange: Exchange) -> Response:
        query = exchange.query((STEP, NEW_ID))
        handle = await self._attach(exchange)
        body = await exchange.body()
        if not body:
            raise BadRequest("there is no body", fix="send the step's new result as JSON")
        return await started(await self._client.fork_json(handle.id, query["step"], body, new_id=query["id"]))

    async def _asks(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer(await self._client.asks())

    async def _promises(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer(await self._client.promises())

    async def _attach(self, exchange: Exchange) -> AsyncHandle[Any]:
        handle = await self._client.attach(exchange.param("id"))
        exchange.invocation = handle.id
        return handle


class Objects:
    """State of objects."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def operations(self) -> list[Operation]:
        """In the order of the page."""
        one = "/objects/{service}/{key}/{name}"
        return [
            Operation("GET", "/objects/{service}", "listKeys", "Keys that have state, in order.", self._keys,
                      {200: KeyList}, (AFTER, LIMIT)),
            Operation("GET", "/objects/{service}/{key}", "getState", "All state of a key.", self._state,
                      {200: dict[str, Any]}),
            Operation("PUT", one, "setState", "Sets one value, while no handler of the key is at work.", self._set,
                      {204: None}, body={"not": {"type": "null"}}, body_required=True, example=1),
            Operation("DELETE", one, "clearState", "Removes one value.", self._clear, {204: None}),
        ]  # fmt: skip

    async def _keys(self, exchange: Exchange) -> Response:
        query = exchange.query((AFTER, LIMIT))
        found = await self._client.objects(exchange.param("service"), after=query["after"] or "", limit=query["limit"])
        return answer(KeyList(keys=found, next=found[-1] if len(found) == query["limit"] else None))

    async def _state(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer(await self._client.state(exchange.param("service"), exchange.param("key")))

    async def _set(self, exchange: Exchange) -> Response:
        exchange.query(())
        value = read_json(await exchange.body(), Any)
        if value is None:
            raise BadRequest("null is no state", fix="DELETE the same path to remove the value")
        return await self._write(exchange, value)

    async def _clear(self, exchange: Exchange) -> Response:
        exchange.query(())
        return await self._write(exchange, None)

    async def _write(self, exchange: Exchange, value: Any) -> Response:
        service, key, name = (exchange.param(part) for part in ("service", "key", "name"))
        await self._client.set_state(service, key, name, value)
        return Response(status_code=204)


class Schedules:
    """What fires by itself."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def operations(self) -> list[Operation]:
        """In the order of the page."""
        one = "/schedules/{id}"
        pause = partial(self._switch, self._client.pause_schedule)
        resume = partial(self._switch, self._client.resume_schedule)
        return [
            Operation("GET", "/schedules", "listSchedules", "Schedules with their next and last times.", self._list,
                      {200: list[ScheduleView]}),
            Operation("POST", f"{one}/pause", "pauseSchedule", "Nothing fires until it is resumed.", pause,
                      {204: None}),
            Operation("POST", f"{one}/resume", "resumeSchedule", "Lets it fire again.", resume, {204: None}),
            Operation("POST", f"{one}/trigger", "triggerSchedule", "Fires it now, once.", self._trigger,
                      {202: Started}),
        ]  # fmt: skip

    async def _list(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer(await self._client.schedules())

    async def _switch(self, call: Callable[[str], Awaitable[None]], exchange: Exchange) -> Response:
        exchange.query(())
        await call(exchange.param("id"))
        return Response(status_code=204)

    async def _trigger(self, exchange: Exchange) -> Response:
        exchange.query(())
        return await started(await self._client.trigger_schedule(exchange.param("id")))


class Server:
    """The process and its store."""

    def __init__(self, client: AsyncClient, traffic: Traffic, store_path: Path | None) -> None:
        self._client = client
        self._traffic = traffic
        self._store_path = store_path

    def operations(self) -> list[Operation]:
        """In the order of the page."""
        return [
            Operation("GET", "/handlers", "listHandlers", "Registered handlers with their schemas.", self._handlers,
                      {200: list[HandlerView]}),
            Operation("GET", "/check", "check", "Replays every unfinished journal against this code.", self._check,
                      {200: list[CheckView]}),
            Operation("GET", "/info", "info", "Version, store and counts.", self._info, {200: InfoView}),
            Operation("POST", "/backup", "backup", "Copies the store to a new file beside it.", self._backup,
                      {200: BackupDone}, body=BackupOrder, body_required=True, example={"path": "copy.db"}),
            Operation("POST", "/sql", "sql", "Reads the store by SQL: 5 seconds, 10,000 rows.", self._sql,
                      {200: Table}, body=SqlQuery, body_required=True,
                      example={"query": "SELECT id, target FROM invocation LIMIT 5"}),
            Operation("GET", "/metrics", "metrics", "Counts for Prometheus.", self._metrics, {200: str},
                      media="text/plain"),
        ]  # fmt: skip

    async def _handlers(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer([
            HandlerView(
                target=one.target, service=one.service, name=one.name, kind=one.kind, shared=one.shared, main=one.main,
                doc=one.doc, arguments=one.arguments.schema(), returns=one.returns_schema(),
            )
            for one in self._client.handlers()
        ])  # fmt: skip

    async def _check(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer(await self._client.check())

    async def _info(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer(await self._client.info())

    async def _backup(self, exchange: Exchange) -> Response:
        exchange.query(())
        store = self._file()
        name = read_json(await exchange.body(), BackupOrder).path
        # A name and no path: who may ask for a copy may not choose any file of this machine. Nor one that SQLite would
        # take for a part of the store.
        if name.startswith(store.name):
            raise BadRequest(f"{name!r} would be taken for a part of the store", fix="give another, such as copy.db")
        target = store.with_name(name)
        await self._client.backup(target)
        return answer(BackupDone(path=name, bytes=(await asyncio.to_thread(target.stat)).st_size))

    async def _sql(self, exchange: Exchange) -> Response:
        exchange.query(())
        query = read_json(await exchange.body(), SqlQuery).query
        return answer(await asyncio.to_thread(read_table, self._file(), query))

    async def _metrics(self, exchange: Exchange) -> Response:
        exchange.query(())
        info = await self._client.info()
        lines = ["# TYPE holdfast_invocations gauge"]
        lines += [f'holdfast_invocations{{status="{status}"}} {count}' for status, count in info.counts.items()]
        gauges = {
            "running": info.running, "resident": info.resident, "uptime_seconds": info.uptime_seconds,
            "admin_requests_total": self._traffic.requests, "admin_watchers": self._traffic.watchers.taken,
        }  # fmt: skip
        for name, value in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# TYPE holdfast_{name} {kind}", f"holdfast_{name} {value:g}"]
        return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    def _file(self) -> Path:
        if self._store_path is None:
            raise BadRequest("the store is no file", fix="ask the database itself")
        return self._store_path
