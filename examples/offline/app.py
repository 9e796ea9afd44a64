"""The HTTP face of the offline services: an OpenAI-compatible model, a search, a browser, weather, bookings, payments,
an outbox.

Promises: the request and response shapes of the real services, as far as agents use them; every request logged, every
fault on order obeyed. Refuses requests without a key, as the real ones do, and never keeps the key.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.offline import chat, responses, world
from examples.offline.conversation import BadRequest, Conversation, Reply, reply_tokens
from examples.offline.faults import Fault, Faults
from examples.offline.ledger import Ledger, Request, digest_of
from examples.offline.scripts import Scripts

JSON = "application/json"
CLIENT_LEFT = 499  # seen by nobody; the number proxies log for it


@dataclass(frozen=True, slots=True)
class Answer:
    """What leaves the server: the pieces are one body, sent one by one."""

    pieces: list[bytes]
    media: str = JSON
    status: int = 200
    completion_tokens: int = 0

    @classmethod
    def of(cls, value: object, *, status: int = 200) -> Answer:
        return cls([json.dumps(value, ensure_ascii=False).encode()], status=status)


@dataclass(frozen=True, slots=True)
class Work:
    """A request that has been understood. `answer(True)` gives an answer with nothing in it."""

    digest: str
    text: str
    answer: Callable[[bool], Answer]
    model: str = ""
    turn: int | None = None
    prompt_tokens: int = 0


Reader = Callable[[HTTPRequest, Any, Request], Work]


class OfflineApp:
    """All state of one server. `latency` is waited before every answer."""

    def __init__(self, scripts: Scripts, *, latency: float = 0.0) -> None:
        self._scripts = scripts
        self._latency = latency
        self._faults = Faults()
        self._ledger = Ledger()
        self._outbox = world.Outbox()
        self._bookings = world.Bookings()
        self._payments = world.Payments()
        self.asgi = Starlette(
            routes=[
                Route("/v1/chat/completions", self._serve(self._chat), methods=["POST"]),
                Route("/v1/responses", self._serve(self._responses), methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/search", self._serve(_search), methods=["POST"]),
                Route("/content", self._serve(_content), methods=["POST"]),
                Route("/v1/current.json", self._serve(_weather)),
                Route("/reminders", self._serve(self._remind), methods=["POST"]),
                Route("/mails", self._serve(self._mail), methods=["POST"]),
                Route("/bookings/{reference}", self._serve(self._book), methods=["PUT", "DELETE"]),
                Route("/v1/payments", self._serve(self._pay), methods=["POST"]),
                Route("/v1/payments", self._serve(self._find_payments)),
                Route("/admin/requests", self._requests),
                Route("/admin/outbox", self._sent),
                Route("/admin/bookings", self._booked),
                Route("/admin/payments", self._paid),
                Route("/admin/faults", self._order, methods=["POST", "DELETE"]),
                Route("/admin/reset", self._reset, methods=["POST"]),
            ]
        )

    def _serve(self, read: Reader) -> Callable[[HTTPRequest], Awaitable[Response]]:
        async def endpoint(http: HTTPRequest) -> Response:
            logged = self._ledger.open(http.url.path)
            try:
                work = read(http, await _asked(http), logged)
                logged.digest, logged.model, logged.turn = work.digest, work.model, work.turn
                headers = http.headers
                fault = self._faults.take(logged.path, work.text, work.turn, digest=work.digest, headers=headers)
            except (BadRequest, KeyError, TypeError, AttributeError) as wrong:
                logged.outcome, logged.status = "refused", getattr(wrong, "status", 400)
                return _error(str(wrong) or "the request has not the expected form", logged.status)
            except ClientDisconnect:  # died while it was still sending
                logged.outcome = "gone"
                return Response(status_code=CLIENT_LEFT)
            return await self._answer(http, logged, work, fault)

        return endpoint

    async def _answer(self, http: HTTPRequest, logged: Request, work: Work, fault: Fault | None) -> Response:
        logged.fault = fault.kind if fault else ""
        late = fault.seconds if fault is not None and fault.kind == "late" else 0.0
        if await _client_left(http, self._latency + (fault.seconds if fault is not None and not late else 0.0)):
            logged.outcome = "gone"
            return Response(status_code=CLIENT_LEFT)
        if fault is not None and fault.kind == "error":
            logged.outcome, logged.status = "failed", fault.status
            return _error("a failure on order", fault.status, fault.retry_after)
        answer = work.answer(fault is not None and fault.kind == "empty")
        logged.status = answer.status
        logged.prompt_tokens, logged.completion_tokens = work.prompt_tokens, answer.completion_tokens
        if await _client_left(http, late):
            logged.outcome = "gone"
            return Response(status_code=CLIENT_LEFT)
        if fault is not None and fault.kind in {"cut", "malformed"}:
            logged.outcome = "cut" if fault.kind == "cut" else "failed"
            return _response(answer, fault)
        logged.outcome = "answered"  # before it leaves: who has the answer must find it in the log
        return _response(answer)

    def _chat(self, http: HTTPRequest, body: Any, logged: Request) -> Work:
        talk = chat.read(_with_key(http, body))
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return self._model_work(body, talk, lambda reply: chat.Answer(logged.number, _now(), talk, reply), usage)

    def _responses(self, http: HTTPRequest, body: Any, logged: Request) -> Work:
        talk = responses.read(_with_key(http, body))
        return self._model_work(body, talk, lambda r: responses.Answer(logged.number, _now(), talk, r, body), True)

    def _model_work(
        self,
        body: Mapping[str, Any],
        talk: Conversation,
        wire: Callable[[Reply | None], chat.Answer | responses.Answer],
        usage: bool,
    ) -> Work:
        if not talk.model:
            raise BadRequest("'model' is missing")

        def answer(empty: bool) -> Answer:
            reply = None if empty else self._scripts.reply(talk)
            tokens = reply_tokens(reply) if reply else 0
            if not body.get("stream"):
                return Answer([wire(reply).whole()], completion_tokens=tokens)
            return Answer(list(wire(reply).pieces(usage=usage)), "text/event-stream", completion_tokens=tokens)

        text = "\n".join(turn.text for turn in talk.turns)
        return Work(talk.digest, text, answer, talk.model, talk.answered, talk.tokens)

    def _remind(self, http: HTTPRequest, body: Any, _: Request) -> Work:
        key = http.headers.get("idempotency-key")
        if not key:
            raise BadRequest("the header Idempotency-Key is missing")
        message = str(body["message"])
        return Work(digest_of([key, message]), message, lambda _: Answer.of({"sent": self._outbox.send(key, message)}))

    def _mail(self, http: HTTPRequest, body: Any, logged: Request) -> Work:
        return self._remind(http, {"message": f"{body['to']}: {body['text']}"}, logged)

    def _book(self, http: HTTPRequest, body: Any, _: Request) -> Work:
        reference = str(http.path_params["reference"])
        what = "" if http.method == "DELETE" else str(body["what"])

        def answer(_: bool) -> Answer:
            if http.method == "DELETE":
                self._bookings.cancel(reference)
            elif problem := self._bookings.book(reference, what):
                return Answer.of({"error": problem}, status=409)
            return Answer.of({"reference": reference, "status": self._bookings.status[reference]})

        return Work(digest_of([http.method, reference, what]), f"{http.method} {what}", answer)

    def _pay(self, http: HTTPRequest, body: Any, _: Request) -> Work:
        key, reference, amount = http.headers.get("idempotency-key", ""), str(body["reference"]), int(body["amount"])

        def answer(_: bool) -> Answer:
            payment = self._payments.pay(key, reference, amount)
            if payment is None:
                return Answer.of({"error": "the Idempotency-Key was used for another payment"}, status=422)
            return Answer.of(payment, status=201)

        return Work(digest_of([key, reference, amount]), reference, answer)

    def _find_payments(self, http: HTTPRequest, _: Any, __: Request) -> Work:
        reference = http.query_params.get("reference", "")
        found = {"data": self._payments.find(reference)}
        return Work(digest_of(reference), reference, lambda empty: Answer.of({"data": []} if empty else found))

    async def _models(self, _: HTTPRequest) -> Response:
        names = [*self._scripts.models, "offline"]
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "offline"} for name in names]
        return JSONResponse({"object": "list", "data": models})

    async def _requests(self, _: HTTPRequest) -> Response:
        return JSONResponse(self._ledger.report())

    async def _sent(self, _: HTTPRequest) -> Response:
        return JSONResponse({"messages": self._outbox.messages()})

    async def _booked(self, _: HTTPRequest) -> Response:
        return JSONResponse({"status": self._bookings.status, "cancelled": self._bookings.cancelled})

    async def _paid(self, _: HTTPRequest) -> Response:
        return JSONResponse({"payments": self._payments.all})

    async def _order(self, http: HTTPRequest) -> Response:
        if http.method == "DELETE":
            self._faults.clear()
            return JSONResponse({"ok": True})
        try:
            fault = Fault.read(await _asked(http))
        except (BadRequest, TypeError) as wrong:
            return _error(str(wrong), 400)
        self._faults.add(fault)
        return JSONResponse(asdict(fault))

    async def _reset(self, _: HTTPRequest) -> Response:
        self._ledger.clear()
        self._faults.clear()
        self._outbox.clear()
        self._bookings.clear()
        self._payments.clear()
        return JSONResponse({"ok": True})


def _search(http: HTTPRequest, body: Any, _: Request) -> Work:
    """Serper's POST /search."""
    if not http.headers.get("x-api-key"):
        raise BadRequest("Unauthorized.", status=403)
    query, limit = str(body["q"]), int(body.get("num", 10))
    found = {"searchParameters": {"q": query}} if not query.strip() else world.search(query, limit)
    empty = {"searchParameters": {"q": query}}
    return Work(digest_of(body), query, lambda hollow: Answer.of(empty if hollow else found))


def _content(http: HTTPRequest, body: Any, _: Request) -> Work:
    """Browserless' POST /content."""
    if not http.query_params.get("token"):
        raise BadRequest("Bad or missing authentication.", status=401)
    url = str(body["url"])
    page = world.PAGES.get(url)
    status, html = (200, page.html) if page else (404, f"<html><body>{url} was not found</body></html>")

    def answer(empty: bool) -> Answer:
        return Answer([b"" if empty else html.encode()], "text/html", status)

    return Work(digest_of(body), url, answer)


def _weather(http: HTTPRequest, _: Any, __: Request) -> Work:
    """WeatherAPI's GET /v1/current.json. A fault with contains="Denver" takes one city down."""
    if not http.query_params.get("key"):
        raise BadRequest("API key is invalid or not provided.", status=401)
    city = http.query_params.get("q", "")
    found = world.weather(city)
    missing = {"error": {"code": 1006, "message": "No matching location found."}}
    answer = Answer.of(found) if found else Answer.of(missing, status=400)
    return Work(digest_of(city), city, lambda empty: Answer.of({}) if empty else answer)


async def _asked(http: HTTPRequest) -> Any:
    body = await http.body()
    try:
        return json.loads(body) if body else {}
    except ValueError:
        raise BadRequest("the body is no JSON") from None


async def _client_left(http: HTTPRequest, seconds: float) -> bool:
    """Waits that long, shorter when the client breaks the connection: then True. The body must have been read."""
    if seconds <= 0:
        return False
    left = asyncio.ensure_future(http.receive())
    done, _ = await asyncio.wait({left}, timeout=seconds)
    left.cancel()
    return bool(done)


def _with_key(http: HTTPRequest, body: Any) -> Any:
    if not http.headers.get("authorization", "").startswith("Bearer "):
        raise BadRequest("You didn't provide an API key.", status=401)
    return body


def _error(message: str, status: int, retry_after: float | None = None) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": None}}, status, headers)


def _now() -> int:
    return int(time.time())


class _ConnectionCut(Exception):
    """Makes the HTTP server drop the connection."""


def _response(answer: Answer, broken: Fault | None = None) -> Response:
    """The answer; with a fault its first half, and then the connection breaks or rubbish follows."""
    pieces, whole = answer.pieces, len(answer.pieces) == 1
    cut = broken is not None and broken.kind == "cut"
    headers = {"content-length": str(len(pieces[0]))} if whole and (cut or not broken) else {}
    if broken:
        pieces = [pieces[0][: len(pieces[0]) // 2]] if whole else pieces[: len(pieces) // 2]
    if broken and not cut and not whole:
        pieces = [*pieces, b'data: {"broken":\n\n']

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if cut:
            raise _ConnectionCut

    return StreamingResponse(body(), answer.status, headers, media_type=answer.media)
