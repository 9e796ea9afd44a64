"""MCP servers whose answers are recorded.

Promises: listing and calling tools are steps. The connection is made in a step's body when it is first needed, lives
in a task of its own on the engine's event loop, and is made anew after a failure. A call that the server refuses for
its arguments is told to the model at once. Refuses: to be connected by handler code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec
from agents import UserError
from agents.mcp import MCPServer
from mcp.types import INVALID_PARAMS, CallToolResult, GetPromptResult, ListPromptsResult
from mcp.types import Tool as MCPTool

from holdfast.integrations.openai_agents.options import giving_up_on, options, readable, running

T = TypeVar("T")


class Misfit(Exception):
    """A call that does not fit its tool: asked again, the answer would be the same."""


class DurableMCPServer(MCPServer):
    """A server as handler code may use it."""

    def __init__(self, server: MCPServer) -> None:
        self._server = server
        self.__dict__.update({name: value for name, value in vars(server).items() if name not in vars(self)})

    @property
    def name(self) -> str:
        return self._server.name

    async def connect(self) -> None:
        """Nothing yet: the first step that needs the server connects it."""

    async def cleanup(self) -> None:
        """Nothing: other invocations use the same connection. It ends with the engine's event loop."""

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> list[MCPTool]:
        return await self._step("tools", None, lambda: self._server.list_tools(run_context, agent), list[MCPTool])

    async def call_tool(self, tool_name: str, arguments: Any, *args: Any, **kwargs: Any) -> CallToolResult:
        async def call() -> CallToolResult:
            check = getattr(self._server, "_validate_required_parameters", None)
            if check is not None:
                try:
                    check(tool_name, arguments)
                except UserError as error:
                    raise Misfit(str(error)) from error
            return await self._server.call_tool(tool_name, arguments, *args, **kwargs)

        return await self._step(tool_name, arguments, call, CallToolResult)

    async def list_prompts(self) -> ListPromptsResult:
        return await self._step("prompts", None, self._server.list_prompts, ListPromptsResult)

    async def get_prompt(self, name: str, arguments: Any = None) -> GetPromptResult:
        return await self._step(name, arguments, lambda: self._server.get_prompt(name, arguments), GetPromptResult)

    async def _step(self, name: str, arguments: Any, use: Callable[[], Awaitable[T]], returns: type[T]) -> T:
        ctx = running()

        async def body(_: Any) -> T:
            connection = _connection(self._server)
            await connection.ready()
            try:
                return await use()
            except Misfit:
                raise
            except Exception as error:
                # Of the protocol's errors only this one is the call's fault: a session that is over has another.
                if getattr(getattr(error, "error", None), "code", None) == INVALID_PARAMS:
                    raise Misfit(str(error)) from error
                connection.drop()  # it may be the connection that failed: the next attempt makes another
                raise

        if ctx is None:
            return await body(arguments)
        return await ctx.run(
            body, arguments, name=readable(f"{self.name}: {name}"), returns=returns,
            retry=giving_up_on(Misfit, options().tool_retry),
            key=msgspec.json.encode([name, arguments], enc_hook=str).decode(),
        )  # fmt: skip


class _Connection:
    """One server, connected and cleaned up by one task, as its cancel scopes want it."""

    def __init__(self, server: MCPServer) -> None:
        self._server = server
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._own())

    @property
    def alive(self) -> bool:
        return not self._over.is_set() and not self._task.done()

    async def ready(self) -> None:
        """Returns once the server is connected. Raises what its connecting raised."""
        await asyncio.shield(self._connected)

    def drop(self) -> None:
        """Ends the connection."""
        self._over.set()

    async def _own(self) -> None:
        try:
            await self._server.connect()  # type: ignore[no-untyped-call]
            self._connected.set_result(None)
            await self._over.wait()
        except Exception as error:  # noqa: BLE001  # raised in the steps that wait for it
            if not self._connected.done():
                self._connected.set_exception(error)
        finally:
            self._over.set()
            await self._server.cleanup()  # type: ignore[no-untyped-call]


_connections: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[MCPServer, _Connection]] = (
    WeakKeyDictionary()
)


def _connection(server: MCPServer) -> _Connection:
    known = _connections.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    found = known.get(server)
    if found is None or not found.alive:
        found = known[server] = _Connection(server)
    return found
