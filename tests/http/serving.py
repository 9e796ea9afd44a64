"""A server on ports that the system chose, in a thread of its own, and what its clients do: ask, wait, send bytes."""

import asyncio
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from holdfast import Context, Holdfast, Object, ObjectContext, Service, TerminalError
from holdfast.http.limits import HttpLimits
from holdfast.http.options import HttpOptions
from holdfast.http.server import Listeners, Servers

WAIT_SECONDS = 20.0  # for things that take milliseconds on a free machine
JSON = "application/json"
PROBLEM = "application/problem+json"

demo = Service("Demo")
chat = Object("Chat")


async def add(x: int, y: int) -> int:
    return x + y


@demo.handler
async def total(ctx: Context, x: int, y: int = 1) -> int:
    """Adds two numbers, as a step."""
    return await ctx.run(add, x, y)


@demo.handler
async def echo(ctx: Context, value: Any = None) -> Any:
    return value


@demo.handler
async def fail(ctx: Context, how: str) -> None:
    if how == "terminal":
        raise TerminalError("no such flight", status=422)
    if how == "tell":
        await ctx.call(message, "a word without a key")
    raise ValueError(f"cannot {how}")


@demo.handler
async def approve(ctx: Context, about: dict[str, Any]) -> bool:
    return await ctx.ask("Approve?", bool, about=about)


@demo.handler
async def rounds(ctx: Context, count: int) -> str:
    for number in range(count):
        await ctx.run(add, number, 1)
    return await ctx.ask("Enough?", str)


@demo.handler
async def hold(ctx: Context) -> str:
    return await ctx.ask("What now?", str)


@demo.handler
async def hear(ctx: Context) -> Any:
    ctx.emit({"listening": True})
    return await ctx.receive("word")


@demo.handler
async def known(ctx: Context) -> dict[str, str]:
    return dict(ctx.headers or {})


@chat.handler
async def message(ctx: ObjectContext, text: str) -> list[str]:
    lines = [*ctx.get("lines", list[str], []), text]
    ctx.set("lines", lines)
    return lines


@chat.handler
async def wait(ctx: ObjectContext) -> None:
    await ctx.receive("go")


@chat.handler(shared=True)
async def history(ctx: ObjectContext) -> list[str]:
    return ctx.get("lines", list[str], [])


class Serving:
    """A running server. `ingress` and `admin` are clients of its ports."""

    def __init__(self, program: Any, options: HttpOptions) -> None:
        self.program = program
        self.listeners = Listeners(options)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    @contextlib.contextmanager
    def running(self) -> Iterator["Serving"]:
        self._thread.start()
        try:
            assert self._ready.wait(WAIT_SECONDS)
            ingress = httpx.Client(base_url=self.servers.ingress_url, timeout=WAIT_SECONDS)
            admin = httpx.Client(base_url=self.servers.admin_url, timeout=WAIT_SECONDS)
            with ingress as self.ingress, admin as self.admin:
                yield self
        finally:
            self.stop()

    def stop(self) -> None:
        if self._ready.is_set():
            self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self.listeners.close()

    def on_loop(self, call: Callable[[], Any]) -> Any:
        """Runs a function on the server's loop."""

        async def work() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(WAIT_SECONDS)

    @property
    def traffic(self) -> Any:
        """The ingress's counts."""
        return self.servers._faces[0][0].traffic

    def connect(self, port: str = "ingress") -> socket.socket:
        """A bare connection."""
        bound = getattr(self.listeners, port)
        connection = socket.create_connection(bound.getsockname())
        connection.settimeout(WAIT_SECONDS)
        return connection

    def raw(self, *parts: bytes, port: str = "ingress") -> bytes:
        """Sends bytes and returns all that comes until the server closes."""
        with self.connect(port) as connection:
            for part in parts:
                connection.sendall(part)
            return drain(connection)

    def started(self, path: str, **options: Any) -> str:
        """Sends, and returns the id."""
        answer = self.ingress.post(path + "/send", **options)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def status(self, id: str) -> str:
        return self.ingress.get(f"/invocations/{id}").json()["status"]

    def promise_of(self, id: str) -> str:
        """The open question of an invocation, once it is there."""

        def found() -> list[str]:
            return [ask["id"] for ask in self.admin.get("/asks").json() if ask["invocation"] == id]

        return wait_for(found, "an open question")[0]

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with self.program as client, Servers(client, self.program.store_path, self.listeners) as self.servers:
            self._ready.set()
            await self._end.wait()


@contextlib.contextmanager
def serving(
    *services: Service, limits: HttpLimits | None = None, store: Any = None,
    prepare: Callable[[Holdfast], None] | None = None, **options: Any,
) -> Iterator[Serving]:  # fmt: skip
    """A running server of some services."""
    folder = tempfile.TemporaryDirectory()
    program = Holdfast(store or Path(folder.name) / "agent.db", services=services or (demo, chat))
    if prepare is not None:
        prepare(program)
    chosen = HttpOptions(port=0, admin_port=0, limits=limits or HttpLimits(), **options)
    with folder, Serving(program, chosen).running() as server:
        yield server


def receive(connection: socket.socket) -> bytes:
    """The body of one answer, on a connection that stays open."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return body


def drain(connection: socket.socket) -> bytes:
    """All bytes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def wait_for(holds: Callable[[], Any], what: str = "") -> Any:
    """Waits until `holds()` is true, and returns it."""
    until = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < until, f"never came: {what or holds}"
        time.sleep(0.005)
    return found


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem in an answer, with what every problem has checked."""
    body = answer.json()
    assert answer.headers["content-type"] == PROBLEM, answer.text
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:holdfast:{body['code']}"
    assert {"title", "detail", "cause", "fix"} <= body.keys()
    assert "Traceback" not in answer.text
    return body
