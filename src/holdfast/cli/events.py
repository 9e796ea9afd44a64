"""Server-sent events of one invocation, as one stream that survives broken connections.

Promises: after a break it goes on behind the last event that came, so none is lost and none comes twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec

from holdfast.cli.codes import Exit
from holdfast.cli.link import CONNECT_SECONDS, Link, at
from holdfast.cli.problems import CommandFailed, from_answer
from holdfast.cli.wire import Event

AGAIN_SECONDS = 1.0  # between two tries, until the server names another number
NO_CONTENT = 204
SILENCE_SECONDS = 45.0  # three heartbeats


async def events(link: Link, invocation: str, *, on_away: Callable[[], None]) -> AsyncIterator[Event]:
    """What happens in an invocation, from its beginning until it ends. Raises CommandFailed when the server refuses."""
    last = ""
    again = AGAIN_SECONDS
    away = False
    while True:
        try:
            async with _open(link, invocation, last) as answer:
                if not answer.is_success:
                    raise from_answer(answer.status_code, await answer.aread(), link.place)
                if answer.status_code == NO_CONTENT:  # nothing comes after the last one
                    return
                async for event, retry in parse(answer.aiter_lines()):
                    if event.kind == "problem":
                        raise from_answer(int(event.data["status"]), msgspec.json.encode(event.data), link.place)
                    away = False
                    last, again = event.id or last, retry or again
                    yield event
                    if event.ends:
                        return
        except httpx.TransportError:
            lost = True
        except CommandFailed as failure:
            if failure.exit is not Exit.UNREACHABLE:
                raise
            lost = True
        else:
            lost = False  # the server ended the stream, as it does before it stops
        if lost and not away:
            on_away()
            away = True
        await asyncio.sleep(again)


def _open(link: Link, invocation: str, last: str) -> Any:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    return link.client.stream("GET", at("invocations", invocation, "events"), headers=headers, timeout=timeout)


async def parse(lines: AsyncIterator[str]) -> AsyncIterator[tuple[Event, float | None]]:
    """Events, each with the seconds the server asked to wait before coming back, if it has said so."""
    id, kind, data = "", "message", []
    retry: float | None = None
    async for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                id = value
            case "event":
                kind = value
            case "data":
                data.append(value)
            case "retry" if value.isdigit():
                retry = int(value) / 1000
            case "" if not line and data:
                yield Event(id, kind, msgspec.json.decode("\n".join(data))), retry
                id, kind, data = "", "message", []
