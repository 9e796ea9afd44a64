"""What both faces serve: invocations by id, their events, promises.

Promises: a client that goes away cancels nothing, and one that waits is told where to ask again. Refuses nothing of
its own.
"""

from __future__ import annotations

from typing import Any, TypedDict

from starlette.responses import Response

from holdfast.client import AsyncClient
from holdfast.core.ids import ID_CHARS_MAX
from holdfast.handle import AsyncHandle
from holdfast.http import exchange as kinds
from holdfast.http.events import EVENT_HEADERS, MEDIA, Events
from holdfast.http.exchange import Exchange, Query, read_json
from holdfast.http.face import Operation, answer
from holdfast.http.limits import Traffic
from holdfast.http.problems import address, named
from holdfast.views import InvocationView, PromiseView, StepView

QUICK_SECONDS = 1.0  # how long a result is waited for without watching the connection, which costs two tasks

NAME = kinds.TEXT | {"maxLength": ID_CHARS_MAX}
ID = Query("id", "the invocation's id; one that is in use attaches to it", kinds.text, NAME)
DELAY = Query("delay", "when to begin: seconds, or a duration such as PT10S", kinds.duration, kinds.DURATION)
STEP = Query("step", "a step's id, as the journal shows it", kinds.text, kinds.TEXT, required=True)
PLACE = Query("after", "the place that the last answer gave as next", kinds.place, kinds.PLACE, default=0)
LINES = Query("limit", "lines of one answer, 1 to 1000", kinds.count, kinds.COUNT | {"default": 1000}, default=1000)
WAIT = Query("wait", "seconds to wait for the result", kinds.seconds, kinds.SECONDS)


class Started(TypedDict):
    """What is known of an invocation that was started and is not waited for."""

    id: str
    status: str


class JournalPage(TypedDict):
    """In order. `next` is the place to give as `after` for the lines that follow."""

    steps: list[StepView]
    next: int | None


class Settled(TypedDict):
    """What became of a promise."""

    id: str
    status: str


async def started(handle: AsyncHandle[Any], *, done: bool = False) -> Response:
    """202: it goes on. `done`: what is asked for next is its result."""
    view = await handle.status(whole=False)
    where = address(handle.id) + ("/result" if done else "")
    return answer(Started(id=handle.id, status=view.status), 202, named(handle.id) | {"Location": where})


async def result(exchange: Exchange, handle: AsyncHandle[Any], seconds: float) -> Response:
    """The result's JSON, or 202 when it is not there after `seconds`. Raises what the invocation ended with, Gone, Busy
    when the server stops."""
    exchange.invocation = handle.id
    quick = min(seconds, QUICK_SECONDS)
    try:
        body = await handle.result_json(quick)
    except TimeoutError:
        try:
            body = await exchange.while_connected(handle.result_json(seconds - quick))
        except TimeoutError:
            return await started(handle, done=True)
    return Response(body, 200, named(handle.id), "application/json")


class Invocations:
    """The operations over one client."""

    def __init__(self, client: AsyncClient, traffic: Traffic) -> None:
        self._client = client
        self._traffic = traffic
        self._events = Events(client, traffic)

    def operations(self) -> list[Operation]:
        """For both faces."""
        one = "/invocations/{id}"
        return [
            Operation("GET", one, "getInvocation", "An invocation's status, input and output.", self._status,
                      {200: InvocationView}),
            Operation("GET", one + "/result", "getResult", "Its result; 202 while there is none.", self._result,
                      {200: Any, 202: Started}, query=(WAIT,)),
            Operation("GET", one + "/journal", "getJournal", "All that came, in order, and what is waited for.",
                      self._journal, {200: JournalPage}, query=(PLACE, LINES)),
            Operation("GET", one + "/inputs", "getInputs", "What a recorded step was asked, also if it is large.",
                      self._inputs, {200: Any}, query=(STEP,)),
            Operation("GET", one + "/events", "watch", "What happens, as server-sent events, from the first one on.",
                      self._events.stream, {200: str, 204: None}, headers=EVENT_HEADERS, media=MEDIA),
            Operation("POST", one + "/signals/{name}", "signal", "Sends a named message to a running invocation.",
                      self._signal, {202: Started}, body=Any),
            Operation("GET", "/promises/{id}", "getPromise", "A promise or question.", self._promise,
                      {200: PromiseView}),
            Operation("POST", "/promises/{id}/resolve", "resolve", "Settles it with a value; no body is null.",
                      self._resolve, {200: Settled}, body=Any, example=True),
            Operation("POST", "/promises/{id}/reject", "reject", "Settles it with an error; the body is the reason.",
                      self._reject, {200: Settled}, body=str, example="too expensive"),
        ]  # fmt: skip

    async def _status(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer(await (await self._attach(exchange)).status())

    async def _result(self, exchange: Exchange) -> Response:
        limits = self._traffic.limits
        wait = exchange.query((WAIT,))["wait"]
        with self._traffic.waiting:
            handle = await self._attach(exchange)
            seconds = limits.wait_seconds if wait is None else min(wait, limits.wait_seconds_max)
            return await result(exchange, handle, seconds)

    async def _journal(self, exchange: Exchange) -> Response:
        query = exchange.query((PLACE, LINES))
        found = await (await self._attach(exchange)).journal(**query)
        last = found[-1].place if len(found) == query["limit"] else None
        return answer(JournalPage(steps=found, next=None if last is None else last + 1))

    async def _inputs(self, exchange: Exchange) -> Response:
        step = exchange.query((STEP,))["step"]
        return answer(await (await self._attach(exchange)).inputs(step))

    async def _signal(self, exchange: Exchange) -> Response:
        exchange.query(())
        handle = await self._attach(exchange)
        await self._client.signal_json(handle.id, exchange.param("name"), await exchange.body() or b"null")
        return await started(handle)

    async def _promise(self, exchange: Exchange) -> Response:
        exchange.query(())
        return answer(await self._client.promise(exchange.param("id")))

    async def _resolve(self, exchange: Exchange) -> Response:
        exchange.query(())
        id = exchange.param("id")
        await self._client.resolve_json(id, await exchange.body() or b"null")
        return answer(Settled(id=id, status="resolved"))

    async def _reject(self, exchange: Exchange) -> Response:
        exchange.query(())
        id = exchange.param("id")
        reason = read_json(await exchange.body() or b'"rejected by the client"', str)
        await self._client.reject(id, reason)
        return answer(Settled(id=id, status="rejected"))

    async def _attach(self, exchange: Exchange) -> AsyncHandle[Any]:
        handle = await self._client.attach(exchange.param("id"))
        exchange.invocation = handle.id
        return handle
