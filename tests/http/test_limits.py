"""Bounds: bodies, headers, places, and clients that are slow or do not read."""

import asyncio
import json
import socket
import time

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from holdfast import Context, Service
from holdfast.http.limits import HttpLimits
from holdfast.http.protocol import connection_of
from tests.http.serving import WAIT_SECONDS, drain, problem, receive, serving, wait_for
from tests.http.test_problems import parts, raw_problem

big = Service("Big")


@big.handler
async def size(ctx: Context, text: str) -> int:
    return len(text)


@big.handler
async def grow(ctx: Context, size: int) -> str:
    return "x" * size


@big.handler
async def wait(ctx: Context) -> bool:
    return await ctx.ask("Well?", bool)


SMALL = HttpLimits(
    body_bytes=100_000, bodies_bytes=150_000, head_bytes=4_000, head_seconds=1.0, body_seconds=1.0, write_seconds=1.0,
    idle_seconds=2.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def small():
    with serving(big, limits=SMALL) as server:
        yield server


def head(path, length=None, **headers):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_body_up_to_the_limit_is_taken(small):
    text = "x" * (SMALL.body_bytes - 12)
    assert small.ingress.post("/Big/size", content=json.dumps({"text": text}).encode()).json() == len(text)


def test_a_body_over_the_limit_is_refused_before_it_is_read(small):
    refused = raw_problem(small.raw(head("/Big/size", SMALL.body_bytes + 1)))
    assert (refused["status"], refused["code"]) == (413, "HF606")
    assert raw_problem(small.raw(head("/Big/size", 10**18)))["status"] == 413
    assert b"100 Continue" not in small.raw(head("/Big/size", SMALL.body_bytes + 1, Expect="100-continue"))


def test_a_body_of_unknown_length_is_counted_while_it_comes(small):
    def pieces():
        for _ in range(30):
            yield b"x" * 5_000

    answer = small.ingress.post("/Big/size", content=pieces())
    assert (answer.status_code, problem(answer)["code"]) == (413, "HF606")
    wait_for(lambda: small.traffic.buffered == 0)


def test_bodies_of_all_requests_together_are_bounded(small):
    with small.connect() as first:
        first.sendall(head("/Big/size", 90_000) + b"x" * 80_000)
        wait_for(lambda: small.traffic.buffered == 80_000)
        second = small.ingress.post("/Big/size", content=b"x" * 90_000)
        assert (second.status_code, problem(second)["code"]) == (503, "HF610")
        assert second.headers["retry-after"] == "1"
    wait_for(lambda: small.traffic.buffered == 0, "the memory to be free again")
    assert small.ingress.post("/Big/size", json={"text": "x"}).json() == 1


def test_a_body_that_does_not_arrive_is_given_up(small):
    for sent in (b"", b"{"):
        late = raw_problem(small.raw(head("/Big/size", 1_000) + sent))
        assert (late["status"], late["code"]) == (408, "HF609")


@pytest.mark.parametrize("port", ["ingress", "admin"])
def test_headers_over_the_limit_are_refused(small, port):
    for line in (b"X-Long: " + b"a" * 5_000, b"\r\n".join(b"X-%d: a" % n for n in range(700))):
        sent = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + line
        for end in (b"", b"\r\n\r\n"):  # also if they never end
            assert raw_problem(small.raw(sent + end, port=port))["code"] == "HF608"
    assert raw_problem(small.raw(b"GET /" + b"a" * 5_000, port=port))["code"] == "HF608"


def test_headers_that_do_not_arrive_are_given_up(small):
    for sent in (b"G", b"GET /health HTTP/1.1\r\nHost: localhost\r\n"):
        late = raw_problem(small.raw(sent))
        assert (late["status"], late["code"]) == (408, "HF609")


def test_headers_that_trickle_are_given_up_as_well(small):
    with small.connect() as connection:
        began = time.monotonic()
        try:
            for letter in b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 1_000:
                connection.sendall(bytes([letter]))
                time.sleep(0.1)
        except OSError:
            pass  # closed on us, as it should be
        assert time.monotonic() - began < WAIT_SECONDS


def test_headers_that_trickle_on_a_used_connection_are_given_up_too(small):
    with small.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert receive(connection) == b'{"status":"ok"}'
        connection.sendall(b"GET /health HTT")
        assert raw_problem(drain(connection))["code"] == "HF609"


def test_a_connection_that_asks_nothing_is_closed(small):
    assert small.raw() == b""
    with small.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert parts(drain(connection))[0] == 200  # and after idle_seconds the end


def test_a_result_that_is_not_read_is_dropped(small):
    with small.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = b'{"size": 20000000}'
        connection.sendall(head("/Big/grow", len(body)) + body)
        taken = wait_for(lambda: small.on_loop(lambda: len(connections_of(small))), "the request")
        assert taken
        wait_for(lambda: small.on_loop(lambda: not connections_of(small)), "the connection to be dropped")


def test_what_is_left_of_an_answer_on_an_unused_connection_is_not_waited_for():
    """So little that it was never counted as not read: without this it would stay for ever."""

    class Transport:
        def __init__(self, left):
            self.left, self.calls = left, []

        def get_write_buffer_size(self):
            return self.left

        def is_closing(self):
            return False

        def __getattr__(self, name):
            return lambda *args: self.calls.append(name)

    async def after_idling(left):
        config = uvicorn.Config(lambda: None, lifespan="off")
        connection = connection_of(HttpLimits())(config, ServerState(), {}, asyncio.get_running_loop())
        connection.transport = Transport(left)
        connection.timeout_keep_alive_handler()
        return connection.transport.calls

    assert asyncio.run(after_idling(1)) == ["abort"]
    assert asyncio.run(after_idling(0)) == ["close"]


def connections_of(server):
    """The open connections of the ingress, but for those of the test's own client."""
    known = server.servers._servers[0][0].server_state.connections
    return [one for one in known if one.cycle is not None and not one.cycle.response_complete]


def test_more_waiting_calls_than_places_are_told_to_come_again_and_nothing_is_started():
    with serving(big, limits=HttpLimits(waiting=2)) as server:
        held = [server.connect() for _ in range(2)]
        for number, connection in enumerate(held):
            connection.sendall(head(f"/Big/wait?id=held-{number}", 0))
        wait_for(lambda: server.traffic.waiting.taken == 2)
        third = server.ingress.post("/Big/wait?id=third")
        assert (third.status_code, problem(third)["code"]) == (503, "HF610")
        assert third.headers["retry-after"] == "1"
        assert server.ingress.get("/invocations/third").status_code == 404
        # Whoever resolves what they wait for still gets in.
        for number, connection in enumerate(held):
            server.ingress.post(f"/promises/{server.promise_of(f'held-{number}')}/resolve", json=True)
            assert receive(connection) == b"true"
            connection.close()
        assert server.ingress.post("/Big/size", json={"text": "x"}).json() == 1


def test_more_connections_than_the_limit_are_refused_with_a_problem():
    with serving(big, limits=HttpLimits(connections=3)) as server:
        held = [server.connect() for _ in range(3)]
        wait_for(lambda: server.on_loop(lambda: len(server.servers._servers[0][0].server_state.connections)) == 3)
        refused = raw_problem(server.raw())
        assert (refused["status"], refused["code"]) == (503, "HF610")
        assert server.admin.get("/health").status_code == 200  # the other port has places of its own
        for connection in held:
            connection.close()
        wait_for(lambda: not server.on_loop(lambda: server.servers._servers[0][0].server_state.connections))
        assert server.ingress.get("/health").status_code == 200


def test_64_clients_at_once_are_all_answered():
    async def run(url):
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
            calls = (client.post("/Big/size", json={"text": "x" * number}) for number in range(256))
            return [answer.json() for answer in await asyncio.gather(*calls)]

    with serving(big) as server:
        assert asyncio.run(run(server.servers.ingress_url)) == list(range(256))
