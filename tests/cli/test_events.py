"""A stream of events that survives broken connections: nothing lost, nothing twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from holdfast.cli import events
from holdfast.cli.events import parse
from holdfast.cli.link import Link
from holdfast.cli.problems import CommandFailed
from holdfast.cli.wire import Event


async def lines(text: str) -> AsyncIterator[str]:
    for line in text.splitlines():
        yield line


def parsed(text: str) -> list[tuple[Event, float | None]]:
    async def collect() -> list[tuple[Event, float | None]]:
        return [found async for found in parse(lines(text))]

    return asyncio.run(collect())


def test_events_are_read_as_the_standard_says() -> None:
    text = 'retry: 2000\n\n: still here\n\nid: 7\nevent: step\ndata: {"a":\ndata: 1}\n\n'
    text += "data:2\n\nevent: lost\n\nid: 8\ndata: 3"
    assert parsed(text) == [(Event("7", "step", {"a": 1}), 2.0), (Event("", "message", 2), 2.0)]


class Server:
    """Answers each request with the next of the given bodies, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.resumed: list[str | None] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.resumed.append(request.headers.get("last-event-id"))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, text=answer)


def event(id: int, kind: str, **data: Any) -> str:
    return f"id: {id}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def watched(server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int]:
    monkeypatch.setattr(events, "AGAIN_SECONDS", 0.001)
    away: list[None] = []

    async def collect() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(server), base_url="http://a") as client:
            link = Link(client, "http://a", server=True)
            return [found.id async for found in events.events(link, "trip-1", on_away=lambda: away.append(None))]

    return asyncio.run(collect()), len(away)


def test_it_goes_on_behind_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(
        event(1, "step") + event(2, "step"),  # ended by the server
        httpx.ConnectError("refused"),
        httpx.ConnectError("refused"),
        httpx.Response(503, json={"code": "HF506", "title": "EngineStopped", "status": 503}),
        event(3, "step") + event(4, "status", status="done") + event(5, "step"),
    )
    assert watched(server, monkeypatch) == (["1", "2", "3", "4"], 1)
    assert server.resumed == [None, "2", "2", "2", "2"]


def test_an_invocation_that_is_not_there_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = httpx.Response(
        404, json={"code": "HF104", "title": "UnknownInvocation", "detail": "no invocation", "status": 404}
    )
    with pytest.raises(CommandFailed, match="no invocation"):
        watched(Server(gone), monkeypatch)


def test_nothing_after_the_last_event_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(Server(event(1, "step"), httpx.Response(204)), monkeypatch) == (["1"], 0)


def test_a_problem_in_the_stream_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = event(2, "problem", status=404, code="HF104", title="UnknownInvocation", detail="it was purged")
    with pytest.raises(CommandFailed, match="it was purged"):
        watched(Server(event(1, "step") + gone), monkeypatch)
