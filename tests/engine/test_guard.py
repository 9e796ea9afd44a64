"""I/O in a handler outside a step is refused before a byte leaves, by call and line; held loops and waits for nothing
are reported; steps may do it all."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from holdfast import Context, InvocationFailed, Limits, Retry
from holdfast.engine.guard import Watchdog
from tests.engine.world import in_engine, open_promise, paused, wait_for

HERE = Path(__file__).name
BODY = '{"object":"list","data":[]}'
ANSWER = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n{BODY}".encode()
ONCE = Retry(max_attempts=1)


class Server:
    """Answers every HTTP request with BODY and counts them, by connection and by request."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        try:
            while data := connection.recv(65_536):
                pending += data
                while b"\r\n\r\n" in pending:
                    _, _, pending = pending.partition(b"\r\n\r\n")
                    self.requests += 1
                    connection.sendall(ANSWER)
        except OSError:
            return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the accept
        self._thread.join()
        self._socket.close()
        for connection in self._open:
            connection.close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


async def fresh_async_client(server, tools):
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(server.url)).text


async def warm_async_client(server, tools):
    return (await tools["async"].get(server.url)).text


async def fresh_sync_client(server, tools):
    return httpx.get(server.url, trust_env=False).text


async def warm_sync_client(server, tools):
    return tools["sync"].get(server.url).text


async def urllib_open(server, tools):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(server.url) as answer:
        return answer.read().decode()


async def plain_socket(server, tools):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return connection.recv(65_536).decode().rpartition("\n")[2]


async def plain_socket_without_names(server, tools):
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", server.port))
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        return connection.recv(65_536).decode().rpartition("\n")[2]


async def warm_socket(server, tools):
    tools["socket"].sendall(b"GET / HTTP/1.1\r\n\r\n")
    return tools["socket"].recv(65_536).decode().rpartition("\n")[2]


async def asyncio_streams(server, tools):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await reader.read(65_536)
    writer.close()
    return answer.decode().rpartition("\n")[2]


async def warm_asyncio_stream(server, tools):
    reader, writer = tools["stream"]
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    return (await reader.read(65_536)).decode().rpartition("\n")[2]


async def name_lookup(server, tools):
    socket.getaddrinfo("localhost", 80)
    return "ok"


async def async_name_lookup(server, tools):
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    return "ok"


async def datagram(server, tools):
    with socket.socket(type=socket.SOCK_DGRAM) as connection:
        connection.sendto(b"x", ("127.0.0.1", server.port))
    return "ok"


async def listening(server, tools):
    made = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    made.close()
    return "ok"


async def subprocess_run(server, tools):
    return subprocess.run(["echo", "ok"], capture_output=True, text=True).stdout.strip()


async def os_system(server, tools):
    os.system("true")
    return "ok"


async def os_popen(server, tools):
    with os.popen("echo ok") as pipe:
        return pipe.read().strip()


async def asyncio_subprocess(server, tools):
    process = await asyncio.create_subprocess_exec("echo", "ok", stdout=subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()


async def asyncio_shell(server, tools):
    process = await asyncio.create_subprocess_shell("echo ok", stdout=subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()


def openai_to(server):
    return openai.AsyncOpenAI(
        api_key="x", base_url=server.url, http_client=openai.DefaultAsyncHttpxClient(trust_env=False)
    )


async def fresh_openai_client(server, tools):
    async with openai_to(server) as client:
        return repr((await client.models.list()).data)


async def warm_openai_client(server, tools):
    return repr((await tools["openai"].models.list()).data)


IO = [
    fresh_async_client, warm_async_client, fresh_sync_client, warm_sync_client, urllib_open, plain_socket,
    plain_socket_without_names, warm_socket, asyncio_streams, warm_asyncio_stream, name_lookup, async_name_lookup,
    datagram, listening, subprocess_run, os_system, os_popen, asyncio_subprocess, asyncio_shell,
    fresh_openai_client, warm_openai_client,
]  # fmt: skip


@contextlib.contextmanager
def warm(client, server):
    """Clients with open connections, made outside of any handler on the loop the steps run on."""
    tools = {"sync": httpx.Client(trust_env=False), "socket": socket.create_connection(("127.0.0.1", server.port))}
    assert tools["sync"].get(server.url).text == BODY

    async def make():
        tools["async"] = httpx.AsyncClient(trust_env=False)
        assert (await tools["async"].get(server.url)).text == BODY
        tools["stream"] = await asyncio.open_connection("127.0.0.1", server.port)
        tools["openai"] = openai_to(server)
        assert (await tools["openai"].models.list()).data == []

    async def close():
        await tools["async"].aclose()
        tools["stream"][1].close()
        await tools["openai"].close()

    client._thread.call(make())
    wait_for(lambda: server.connections == 5)
    try:
        yield tools
    finally:
        client._thread.call(close())
        tools["sync"].close()
        tools["socket"].close()


@pytest.mark.parametrize("style", ["plain", "swallowed", "in a task"])
@pytest.mark.parametrize("io", IO, ids=[io.__name__ for io in IO])
def test_io_in_a_handler_is_refused_and_the_server_sees_nothing(memory_world, server, io, style):
    async def h(ctx: Context) -> str:
        await ctx.run(len, "a step before")
        if style == "plain":
            return await io(server, tools)
        if style == "in a task":
            return await asyncio.gather(io(server, tools), ctx.promise("never"))
        try:
            return await io(server, tools)
        except BaseException:  # noqa: BLE001
            return "swallowed"

    with memory_world.holdfast(h) as client, warm(client, server) as tools:
        seen = server.connections, server.requests
        reason = paused(client.start(h))
        assert reason.startswith("[HF301] ")
        assert " in a handler, outside a step, at " in reason
        assert f"{HERE}:" in reason or ".py:" in reason
        assert "await ctx.run(function, ...)" in reason
        time.sleep(0.01)
        assert (server.connections, server.requests) == seen


@pytest.mark.parametrize("io", IO, ids=[io.__name__ for io in IO])
def test_a_step_may_do_all_of_it(memory_world, server, io):
    async def h(ctx: Context) -> str:
        return await ctx.run(io, server, tools, retry=ONCE)

    with memory_world.holdfast(h) as client, warm(client, server) as tools:
        assert client.start(h).result(5) in ("ok", BODY, "[]")


SYNC_IO = {
    "urllib": lambda server: urllib.request.build_opener(urllib.request.ProxyHandler({})).open(server.url).read(),
    "socket": lambda server: socket.create_connection(("127.0.0.1", server.port)).close(),
    "subprocess": lambda server: subprocess.run(["true"]),
}


@pytest.mark.parametrize("io", SYNC_IO)
@pytest.mark.parametrize("how", ["sync step", "to_thread"])
def test_a_sync_step_may_do_it_in_its_thread(memory_world, server, io, how):
    def body() -> str:
        SYNC_IO[io](server)
        return "ok"

    async def h(ctx: Context) -> str:
        return await (ctx.run(body) if how == "sync step" else asyncio.to_thread(body))

    with memory_world.holdfast(h) as client:
        assert client.start(h).result(5) == "ok"


def test_the_refusal_names_the_call_and_the_line_of_the_handler(world):
    async def h(ctx: Context) -> None:
        subprocess.run(["true"])  # the line

    line = h.__code__.co_firstlineno + 1
    with world.holdfast(h) as client:
        reason = paused(client.start(h))
    assert "subprocess.Popen in a handler, outside a step" in reason
    assert f"{HERE}:{line} in " in reason
    assert "h" in reason


def test_a_refused_handler_goes_on_when_its_io_is_in_a_step(world):
    calls = []

    def pay() -> str:
        calls.append("pay")
        return "paid"

    def code(mended):
        async def h(ctx: Context) -> str:
            paid = await ctx.run(pay)
            if mended:
                await ctx.run(lambda: subprocess.run(["true"]).returncode, name="true")
            else:
                subprocess.run(["true"])
            return paid

        return h

    with world.holdfast(code(mended=False)) as client:
        paused(client.start("h", id="x"))
    with world.holdfast(code(mended=True)) as client:
        client.resume("x")
        assert client.attach("x").result(20) == "paid"
    assert calls == ["pay"]


def test_io_before_the_first_step_is_refused_too(world):
    async def h(ctx: Context) -> None:
        socket.create_connection(("127.0.0.1", 1))

    with world.holdfast(h) as client:
        assert "[HF301]" in paused(client.start(h))


def test_io_in_a_finally_block_while_the_handler_is_dropped_does_no_harm(world):
    async def h(ctx: Context) -> None:
        try:
            await ctx.promise("never")
        finally:
            socket.create_connection(("127.0.0.1", 1))

    with world.holdfast(h) as client:
        client.start(h, id="x")
        open_promise(client)
    with world.holdfast(h) as client:
        assert client.attach("x").status().status == "suspended"


def test_a_file_may_be_read_in_a_handler(world, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")

    async def h(ctx: Context) -> str:
        with path.open() as file:
            return file.read() + path.read_text()

    with world.holdfast(h) as client:
        assert client.start(h).result(20) == "hellohello"


def test_logging_and_printing_are_free_in_a_handler(world, caplog, capsys):
    async def h(ctx: Context) -> None:
        print("printed")  # noqa: T201
        logging.getLogger("mine").warning("logged")

    with world.holdfast(h) as client:
        client.start(h).result(20)
    assert "printed" in capsys.readouterr().out
    assert "logged" in caplog.text


def test_other_code_of_the_process_is_not_touched_by_the_guard(memory_world, server):
    async def h(ctx: Context) -> None:
        await ctx.promise("hold")

    with memory_world.holdfast(h) as client:
        client.start(h)
        assert httpx.get(server.url, trust_env=False).text == BODY
        assert subprocess.run(["true"]).returncode == 0

        async def outside():
            async with httpx.AsyncClient(trust_env=False) as other:
                return (await other.get(server.url)).text

        assert asyncio.run(outside()) == BODY
        assert client._thread.call(outside()) == BODY


def test_tls_is_refused_on_a_warm_connection(memory_world):
    left, right = socket.socketpair()
    context = ssl.create_default_context()
    wrapped = context.wrap_socket(left, server_hostname="x", do_handshake_on_connect=False)

    async def h(ctx: Context) -> None:
        wrapped.write(b"x")

    with memory_world.holdfast(h) as client:
        assert "SSLSocket" in paused(client.start(h))
    wrapped.close()
    left.close()
    right.close()


def test_a_handler_that_holds_the_loop_is_named_while_it_does(memory_world, caplog):
    async def h(ctx: Context) -> int:
        time.sleep(0.35)  # holds everything
        return 1

    line = h.__code__.co_firstlineno + 1
    with memory_world.holdfast(h, limits=Limits(stuck_seconds=0.1)) as client:
        assert client.start(h).result(3) == 1
    said = [record.getMessage() for record in caplog.records if "HF302" in record.getMessage()]
    assert len(said) == 1
    assert f"held for more than 0.1 s by handler code at {__file__}:{line} in " in said[0]
    assert "every other invocation waits" in said[0]


def test_a_generator_that_holds_the_loop_is_named_by_its_own_line_and_by_that_of_what_it_called(memory_world, caplog):
    def hold() -> None:
        time.sleep(0.35)

    def h(ctx: Context) -> Generator[Any, Any, int]:
        yield ctx.run(int, "1")
        hold()
        return 1

    called, holds = h.__code__.co_firstlineno + 2, hold.__code__.co_firstlineno + 1
    with memory_world.holdfast(h, limits=Limits(stuck_seconds=0.1)) as client:
        assert client.start(h).result(3) == 1
    said = [record.getMessage() for record in caplog.records if "HF302" in record.getMessage()]
    assert len(said) == 1
    assert f"by handler code at {__file__}:{called} in {h.__qualname__}, now at {__file__}:{holds} in " in said[0]


def test_a_step_that_takes_long_in_its_thread_is_not_reported(memory_world, caplog):
    async def h(ctx: Context) -> None:
        await ctx.run(time.sleep, 0.25)

    with memory_world.holdfast(h, limits=Limits(stuck_seconds=0.1)) as client:
        client.start(h).result(3)
    assert "HF302" not in caplog.text


def test_a_loop_that_is_late_for_the_machine_was_busy_is_held_by_nobody(caplog, monkeypatch):
    monkeypatch.setattr(Watchdog, "_pulse", lambda _: None)  # as if the process had been stopped

    async def idle() -> None:
        watchdog = Watchdog(asyncio.get_running_loop(), 0.1)
        watchdog.start()
        await asyncio.sleep(0.43)
        watchdog.stop()

    asyncio.run(idle())
    assert "HF302" not in caplog.text


def test_an_async_step_that_holds_the_loop_is_named_too(memory_world, caplog):
    async def body() -> None:
        time.sleep(0.35)

    async def h(ctx: Context) -> None:
        await ctx.run(body)

    line = body.__code__.co_firstlineno + 1
    with memory_world.holdfast(h, limits=Limits(stuck_seconds=0.1)) as client:
        client.start(h).result(3)
    assert f"{HERE}:{line}" in caplog.text


def test_a_handler_that_goes_round_for_ever_is_paused_by_line(world):
    async def h(ctx: Context) -> None:
        while True:
            await asyncio.sleep(0)

    with world.holdfast(h) as client:
        reason = paused(client.start(h))
    assert "[HF302] the handler went round 100000 times without waiting for anything" in reason
    assert HERE in reason
    assert "wait for an event, a step or a timer instead" in reason


def test_a_handler_that_waits_for_what_nothing_can_bring_is_paused_by_line(world):
    async def event(ctx: Context) -> None:
        await asyncio.Event().wait()

    async def queue(ctx: Context) -> None:
        await ctx.run(len, "a")
        await asyncio.Queue().get()

    async def each_other(ctx: Context) -> None:
        one, two = asyncio.Event(), asyncio.Event()

        async def wait(mine, other):
            await mine.wait()
            other.set()

        await asyncio.gather(wait(one, two), wait(two, one))

    with world.holdfast(event, queue, each_other) as client:
        for handler in (event, queue, each_other):
            reason = paused(client.start(handler))
            assert "[HF302] the handler waits for something nothing can bring" in reason
            assert HERE in reason or "asyncio" in reason


def test_a_wait_for_nothing_beside_a_timer_is_no_deadlock(world):
    async def h(ctx: Context) -> str:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.02)
        except TimeoutError:
            return "timed out"
        return "?"

    with world.holdfast(h) as client:
        assert client.start(h).result(20) == "timed out"


def test_a_lock_shared_between_invocations_is_refused_clearly(world):
    lock = asyncio.Lock()

    async def h(ctx: Context) -> None:
        async with lock:
            await ctx.promise("hold")

    with world.holdfast(h) as client:
        first = client.start(h)
        promise = open_promise(client)
        second = client.start(h)
        reason = paused(second)
        assert "[HF302] the handler waits for something nothing can bring" in reason
        assert "a lock that another invocation holds" in reason
        client.resolve(promise)
        assert first.result(20) is None
        second.resume()
        client.resolve(open_promise(client))
        assert second.result(20) is None


def test_an_event_set_by_other_code_is_refused_on_both_sides(world):
    box = []

    async def waits(ctx: Context) -> None:
        box.append(asyncio.Event())
        await asyncio.wait_for(box[0].wait(), 3600)

    async def sets(ctx: Context) -> None:
        box[0].set()

    with world.holdfast(waits, sets) as client:
        first = client.start(waits)
        wait_for(lambda: first.status().status == "suspended")
        assert "[HF304]" in paused(client.start(sets))


def test_a_future_resolved_by_another_thread_is_refused(world):
    box = []

    async def h(ctx: Context) -> None:
        future = asyncio.get_running_loop().create_future()
        box.append(future)
        await asyncio.wait([future, ctx.promise("hold")])

    with world.holdfast(h) as client:
        client.start(h)
        open_promise(client)
        with pytest.raises(BaseException, match=r"HF304.*tried to wake a handler from outside its journal"):
            in_engine(client, lambda: box[0].set_result(1))


def test_the_error_of_a_refused_call_can_be_found_by_its_code_in_the_failure_of_sdk_code(world):
    """An SDK that turns every Exception of a tool into text cannot hide the refusal: it is no Exception."""

    async def tool() -> str:
        subprocess.run(["true"])
        return "never"

    async def h(ctx: Context) -> str:
        try:
            return await tool()
        except Exception as error:  # noqa: BLE001
            return f"the tool said {error}"

    with world.holdfast(h) as client:
        assert "[HF301]" in paused(client.start(h))


def test_an_ordinary_error_in_a_handler_is_no_refusal(world):
    async def h(ctx: Context) -> None:
        Path("/nowhere/at/all").read_text()

    with world.holdfast(h) as client, pytest.raises(InvocationFailed, match="FileNotFoundError"):
        client.start(h).result(20)


def test_the_guard_costs_nothing_to_programs_without_an_engine():
    program = "import holdfast, sys; assert 'pydantic' not in sys.modules and 'anyio' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": "src"}).returncode == 0
