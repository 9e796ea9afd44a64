"""Server-sent events: everything once, in order, and on from where the connection broke."""

import contextlib
import json
import socket
from typing import Any

import httpx
import pytest

from holdfast import Context, Service, step
from holdfast.http.limits import HttpLimits
from tests.http.serving import problem, serving, wait_for

talk = Service("Talk")


async def speak(words: int) -> str:
    for number in range(words):
        step().emit(f"word {number}")
    return "done"


async def note(number: int) -> int:
    return number


@talk.handler
async def say(ctx: Context, words: int) -> str:
    return await ctx.run(speak, words)


@talk.handler
async def count(ctx: Context, steps: int) -> int:
    for number in range(steps):
        await ctx.run(note, number)
    ctx.emit({"counted": steps})
    await ctx.ask("Go on?", bool)
    await ctx.run(note, steps)
    return steps


@talk.handler
async def boast(ctx: Context, size: int, times: int) -> None:
    for _ in range(times):
        ctx.emit("x" * size)
    await ctx.ask("Enough?", bool)


@pytest.fixture(scope="module")
def server():
    with serving(talk, limits=HttpLimits(heartbeat_seconds=0.1, write_seconds=0.5)) as running:
        yield running


class Stream:
    """The events of one connection."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = response.iter_lines()
        self.comments = 0

    def next(self) -> dict[str, Any] | None:
        """The next event as {id, event, data}; None at the end."""
        found: dict[str, str] = {}
        for line in self.lines:
            if not line and "data" in found:
                return {"id": found["id"], "event": found["event"], "data": json.loads(found["data"])}
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, text = line.partition(": ")
                found[name] = text
        return None

    def until(self, event: str) -> list[dict[str, Any]]:
        """All events up to the first of that kind."""
        found = []
        while (one := self.next()) is not None:
            found.append(one)
            if one["event"] == event:
                break
        return found


@contextlib.contextmanager
def watching(server, id, last=None, port="ingress"):
    headers = {} if last is None else {"Last-Event-ID": last}
    with getattr(server, port).stream("GET", f"/invocations/{id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


def steps(events):
    return [event["data"]["output"] for event in events if event["event"] == "step"]


def answered(server, id):
    server.admin.post(f"/promises/{server.promise_of(id)}/resolve", json=True)


@pytest.mark.parametrize("port", ["ingress", "admin"])
def test_a_stream_tells_everything_and_ends_with_the_end(server, port):
    id = server.started("/Talk/count", json={"steps": 3})
    with watching(server, id, port=port) as stream:
        first = stream.until("emit")
        assert steps(first) == [0, 1, 2]
        assert first[-1]["data"]["output"] == {"counted": 3}
        answered(server, id)
        events = stream.until("never")
    assert steps(events) == [3]
    assert (events[-1]["event"], events[-1]["data"]["status"]) == ("status", "done")


def test_a_stream_that_broke_goes_on_after_the_last_event(server):
    id = server.started("/Talk/count", json={"steps": 20})
    seen = []
    last = None
    for _ in range(10):  # each connection breaks after two steps
        with watching(server, id, last) as stream:
            while len(steps(seen)) < 20 and (event := stream.next()) is not None:
                last = event["id"]
                seen.append(event)
                if event["event"] == "step" and event["data"]["output"] % 2:
                    break
    assert steps(seen) == list(range(20))
    answered(server, id)
    with watching(server, id, last) as stream:
        rest = stream.until("never")
    assert steps(rest) == [20]
    journal = [event for event in seen + rest if event["event"] != "status"]
    assert len({event["id"] for event in journal}) == len(journal)
    assert server.ingress.get(f"/invocations/{id}/events", headers={"Last-Event-ID": rest[-1]["id"]}).status_code == 204


def test_a_client_that_has_not_seen_the_end_is_told_it(server):
    id = server.started("/Talk/say", json={"words": 0})
    with watching(server, id) as stream:
        *_, last_line, end = stream.until("never")
    with watching(server, id, last_line["id"]) as stream:
        assert [event["data"]["status"] for event in stream.until("never")] == ["done"]
    again = server.ingress.get(f"/invocations/{id}/events", headers={"Last-Event-ID": end["id"]})
    assert (again.status_code, again.content) == (204, b"")


def test_what_a_body_tells_is_streamed(server):
    id = server.started("/Talk/say", json={"words": 3})
    with watching(server, id) as stream:
        events = stream.until("never")
    chunks = [event["data"]["event"] for event in events if event["event"] == "chunk"]
    assert chunks in ([], ["word 0", "word 1", "word 2"])  # live only: it may be over before we look
    assert steps(events) == ["done"]


def test_a_silent_stream_is_kept_alive(server):
    id = server.started("/Talk/count", json={"steps": 0})
    with watching(server, id) as stream:
        stream.until("emit")
        wait_for(lambda: server.traffic.watchers.taken == 1)
        stream.until("status")
        lines = (line for line in stream.lines if line.startswith(":"))
        assert [next(lines), next(lines)] == [": still here"] * 2


@pytest.mark.parametrize("last", ["x", "1;2", "-", "9;a;b;c"])
def test_an_id_that_is_no_events_is_refused_before_the_stream_begins(server, last):
    id = server.started("/Talk/say", json={"words": 0})
    answer = server.ingress.get(f"/invocations/{id}/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, problem(answer)["code"]) == (400, "HF102")


def test_a_watcher_that_leaves_gives_its_place_back(server):
    id = server.started("/Talk/count", json={"steps": 0})
    with watching(server, id) as stream:
        stream.until("emit")
        assert server.traffic.watchers.taken == 1
    wait_for(lambda: server.traffic.watchers.taken == 0, "the place to be given back")
    assert server.status(id) == "suspended"


def test_a_watcher_that_does_not_read_is_dropped_and_resumes_without_a_gap(server):
    id = server.started("/Talk/boast", json={"size": 500_000, "times": 40})
    server.promise_of(id)
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(f"GET /invocations/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_for(lambda: server.traffic.watchers.taken == 1)
        wait_for(lambda: server.traffic.watchers.taken == 0, "the watcher to be dropped")
    with watching(server, id) as stream:
        emits = [event for event in (stream.next() for _ in range(40)) if event["event"] == "emit"]
    assert len(emits) >= 39


def test_more_watchers_than_places_are_told_to_come_again():
    with serving(talk, limits=HttpLimits(watchers=2)) as server:
        id = server.started("/Talk/count", json={"steps": 0})
        with watching(server, id) as first, watching(server, id) as second:
            first.until("emit"), second.until("emit")
            third = server.ingress.get(f"/invocations/{id}/events")
            assert (third.status_code, problem(third)["code"]) == (503, "HF610")
            assert third.headers["retry-after"] == "1"
        wait_for(lambda: server.traffic.watchers.taken == 0)
        with watching(server, id) as again:
            again.until("emit")
