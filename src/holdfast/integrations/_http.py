"""The durable transport behind holdfast.integrations.httpx and holdfast.integrations.httpx2.

Promises: in a handler each request is one step: once its answer is recorded it is never sent again, and until then
every attempt carries the same Idempotency-Key. One retry policy, the step's: what the client gets is final. Refuses to
store secrets: no request header, no cookie, nothing in a URL or form that is named like one. Outside a handler, in a
step's body too, it is the transport it wraps.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import holdfast
from holdfast import BadArguments, Retry, StepInfo, TooLarge, WrongPlace
from holdfast.integrations._handlers import running
from holdfast.integrations._recorded import Answer, Events, Question

BODY_BYTES_MAX = 16 * 1024 * 1024  # of an answer; a step may return 32 MiB of JSON, and bytes grow by a third in it
ERROR_TEXT_MAX = 500  # of a failed answer's body, shown while the step is retried
SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110, 9.2.2
OF_THE_WIRE = {"content-encoding", "content-length", "transfer-encoding"}  # not of the body that is recorded
EVENTS = "text/event-stream"

T = TypeVar("T")


class Durable(Generic[T]):
    """A transport of either library. Made once a process, outside of handlers."""

    _library: ClassVar[Any]  # httpx or httpx2, which have the same names

    def __init__(
        self,
        wrapped: T | None = None,
        *,
        retry: Retry | None = None,
        hide: Iterable[str] = (),
        keep: Iterable[str] = (),
    ) -> None:
        """Puts the steps around `wrapped`, a plain AsyncHTTPTransport if left out.

        retry: what follows a failure, as in ctx.run. Failures are connection errors and the statuses 408, 429 and 5xx.
        hide: names of URL parameters and fields that are secret, beside those like "api_key" and "token".
        keep: names of answers' headers to record, beside those that clients look at.

        Raises WrongPlace in a handler.
        """
        if running() is not None:
            raise WrongPlace(
                "a durable transport was made in a handler",
                cause="the client is made there, and would be made again at each replay",
                fix="make the client where Holdfast is made, and reach it by ctx.dep(...) or as a global",
            )
        self._wrapped: Any = self._library.AsyncHTTPTransport() if wrapped is None else wrapped
        self._retry = retry
        self._hide = frozenset(hide)
        self._keep = frozenset(name.lower() for name in keep) - OF_THE_WIRE
        # The openai client asks this before its first request, in the handler. The first time it starts a subprocess,
        # which the guard refuses; after that the answer is kept.
        platform.platform()

    async def handle_async_request(self, request: Any) -> Any:
        """One request: a step if a handler makes it."""
        ctx = running()
        if ctx is None:
            return await self._wrapped.handle_async_request(request)
        if "upgrade" in request.headers:
            raise WrongPlace(
                f"a WebSocket to {request.url.host} was opened in a handler",
                cause="what comes through it cannot be recorded as one answer",
                fix="put the whole conversation into a function and run it as a step: await ctx.run(function, ...)",
            )
        content = await request.aread()
        question = Question.of(request, content, self._hide)

        async def send(**_shown: Any) -> Answer:
            return await self._send(request, content, question)

        answer = await ctx.run(
            send, **question.shown, name=question.name, key=question.digest, retry=self._retry, returns=Answer
        )
        body = answer.content()
        headers = [*answer.final_headers(), ("content-length", str(len(body)))]
        return self._library.Response(answer.status, headers=headers, stream=self._library.ByteStream(body))

    async def _send(self, request: Any, content: bytes, question: Question) -> Answer:
        """One attempt, in the step's body."""
        step = holdfast.step()
        headers = request.headers.copy()
        if request.method not in SAFE_TO_REPEAT:
            headers.setdefault("Idempotency-Key", step.idempotency_key)
        stream = self._library.ByteStream(content)
        sent = self._library.Request(
            request.method, request.url, headers=headers, stream=stream, extensions=request.extensions
        )
        try:
            response = await self._wrapped.handle_async_request(sent)
        except (self._library.UnsupportedProtocol, self._library.LocalProtocolError) as error:
            raise BadArguments(f"{question.name} cannot be sent: {error}", fix="mend its URL or headers") from error
        try:
            body = await self._read(response, step, question)
        finally:
            await response.aclose()
        if _may_pass(response) and not self._is_last(step.attempt):
            text = body[:ERROR_TEXT_MAX].decode("utf-8", "replace")
            what = f"{response.status_code} {response.reason_phrase} from {question.url}: {text}"
            raise self._library.HTTPStatusError(what, request=sent, response=response)
        return Answer.of(response, body, self._keep)

    async def _read(self, response: Any, step: StepInfo, question: Question) -> bytes:
        """The whole body. Events of a stream are told to the watchers as they come."""
        streams = response.is_success and response.headers.get("content-type", "").startswith(EVENTS)
        events = Events() if streams else None
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                raise TooLarge(
                    f"the answer to {question.name} is larger than {BODY_BYTES_MAX:,} bytes",
                    cause="a file was downloaded through the durable client, which records what it gets",
                    fix="download it in a step of your own, to a file or bucket, and return its name",
                )
            if events is not None:
                for event in events.feed(piece):
                    step.emit(event)
        return bytes(body)

    def _is_last(self, attempt: int) -> bool:
        """Whether nothing follows this attempt: then the client gets the service's own answer, and can raise its own
        error. A policy that ends by time raises StepFailed instead, and so does a connection that fails to the last:
        there is no answer to hand on."""
        retry = self._retry
        if retry is None or retry.max_attempts is None or retry.then == "pause":
            return False
        return attempt >= retry.max_attempts

    async def aclose(self) -> None:
        """Closes the wrapped transport. Raises WrongPlace in a handler: others use it."""
        _refuse_in_handler("closed")
        await self._wrapped.aclose()

    async def __aenter__(self) -> Self:
        _refuse_in_handler("opened by async with")
        await self._wrapped.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._wrapped.__aexit__(kind, error, trace)


def _refuse_in_handler(what: str) -> None:
    if running() is not None:
        raise WrongPlace(
            f"a durable client was {what} in a handler",
            cause="its connections belong to the process, and other invocations use them",
            fix="open and close the client where Holdfast is made, and only use it in handlers",
        )


def _may_pass(response: Any) -> bool:
    """Whether asking again may help. The service knows best: a 429 may also mean that no money is left."""
    told = response.headers.get("x-should-retry")
    if response.is_error and told in ("true", "false"):
        return bool(told == "true")
    return response.status_code in (408, 429) or response.status_code >= 500
