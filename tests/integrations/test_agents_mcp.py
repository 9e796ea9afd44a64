"""MCP servers of agents in handlers: real ones, in processes of their own, over stdio and streamable HTTP."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp

from holdfast import Context, Holdfast, Retry, Service
from holdfast.integrations.openai_agents import run
from tests.crash.mortal import MortalStore
from tests.integrations.scripted import Item, Scripted, outputs

SERVER = str(Path(__file__).with_name("mcp_server.py"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def over_http(log: Path) -> Iterator[str]:
    port = free_port()
    child = subprocess.Popen([sys.executable, SERVER, "http", str(log), str(port)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until, "the MCP server does not come up"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        child.kill()
        child.wait()


def stdio(log: Path) -> MCPServerStdio:
    return MCPServerStdio({"command": sys.executable, "args": [SERVER, "stdio", str(log)]}, name="tools")


def add_twice(items: list[Item]) -> Any:
    said = outputs(items)
    return "; ".join(said) if said else [("add", '{"a":1,"b":2}'), ("add", '{"a":3,"b":4}')]


def life(agent: Agent[Any], store: MortalStore, **options: Any) -> Any:
    service = Service("S")

    @service.handler
    async def h(ctx: Context, text: str) -> str:
        return str((await run(agent, text, **options)).final_output)

    async def main() -> Any:
        async with Holdfast(store, services=[service]) as client:
            return await (await client.start(h, "go", id="it")).result(30)

    return asyncio.run(main())


def calls(log: Path) -> list[str]:
    return log.read_text().split()


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_tools_of_a_server_are_steps(transport: str, log: Path, request: pytest.FixtureRequest) -> None:
    if transport == "stdio":
        server: Any = stdio(log)
    else:
        server = MCPServerStreamableHttp({"url": request.getfixturevalue("over_http")}, name="tools")
    agent = Agent(name="A", model=Scripted(add_twice), mcp_servers=[server])
    store = MortalStore()
    store.die_at(4, keeps_last=True)
    with pytest.raises(Exception, match="the process died"):
        life(agent, store)
    answer = life(agent, store)
    assert "3" in answer
    assert "7" in answer
    assert 2 <= calls(log).count("add") <= 4, "two calls, and those whose answer was not recorded"
    before = calls(log)
    assert life(agent, store) == answer
    assert calls(log) == before, "a finished run asks nobody"


def test_a_failing_tool_of_a_server_is_told_to_the_model(log: Path) -> None:
    def script(items: list[Item]) -> Any:
        return "told: " + outputs(items)[0] if outputs(items) else [("fail", "{}")]

    agent = Agent(name="A", model=Scripted(script), mcp_servers=[stdio(log)])
    answer = life(agent, MortalStore(), tool_retry=Retry(max_attempts=2, initial=0))
    assert answer.startswith("told: ")
    assert "broken inside" in answer or "error" in answer.lower()


@pytest.mark.parametrize("call, asked", [(("add", '{"a":1}'), 0), (("refuse", "{}"), 1)])
def test_a_call_that_does_not_fit_is_told_to_the_model_at_once(log: Path, call: tuple[str, str], asked: int) -> None:
    def script(items: list[Item]) -> Any:
        return "told: " + outputs(items)[0] if outputs(items) else [call]

    agent = Agent(name="A", model=Scripted(script), mcp_servers=[stdio(log)])
    assert life(agent, MortalStore()).startswith("told: ")  # by Holdfast's own policy: patient for a day
    assert calls(log).count(call[0]) == asked


def test_a_server_that_is_not_there_is_a_failed_step(log: Path) -> None:
    server = MCPServerStreamableHttp({"url": f"http://127.0.0.1:{free_port()}/mcp", "timeout": 1}, name="gone")
    agent = Agent(name="A", model=Scripted(add_twice), mcp_servers=[server])
    with pytest.raises(Exception, match="gone: tools"):
        life(agent, MortalStore(), tool_retry=Retry(max_attempts=2, initial=0))
