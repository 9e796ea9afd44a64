"""Agents made durable for one run.

Promises: every model, tool, handoff and MCP server that the run can reach is durable, however it was given. Refuses: to
change the agents it was given; a run works on copies, and its result names the originals.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agents import Agent, Handoff, Model, RunConfig, RunState, Tool
from agents.mcp import MCPServer

from holdfast import BadArguments
from holdfast.integrations.openai_agents.mcp import DurableMCPServer
from holdfast.integrations.openai_agents.models import DurableProvider, durable_model
from holdfast.integrations.openai_agents.tools import durable_tool

ORIGINAL = "_holdfast_original"


class Preparation:
    """The copies that one run works on."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Agent[Any], Agent[Any]]] = {}  # by the original's address, which stays in use

    def agent(self, agent: Agent[Any]) -> Agent[Any]:
        """The durable copy of an agent."""
        if hasattr(agent, ORIGINAL):
            return agent
        known = self._copies.get(id(agent))
        if known is not None:
            return known[1]
        made = copy.copy(agent)
        self._copies[id(agent)] = (agent, made)  # before its handoffs: they may lead back here
        setattr(made, ORIGINAL, agent)
        if isinstance(agent.model, Model):
            made.model = durable_model(agent.model)
        made.tools = [durable_tool(tool) for tool in agent.tools]
        made.handoffs = [self._handoff(one) for one in agent.handoffs]
        made.mcp_servers = self._servers(agent.mcp_servers)
        made.get_mcp_tools = functools.partial(_offered, made.get_mcp_tools, has_steps=True)  # type: ignore[method-assign]
        made.get_all_tools = functools.partial(_offered, made.get_all_tools)  # type: ignore[method-assign]
        return made

    def config(self, config: RunConfig | dict[str, Any] | None) -> RunConfig:
        """The run's configuration, with durable models."""
        known = config if isinstance(config, RunConfig) else RunConfig(**(config or {}))
        provider = known.model_provider
        if not isinstance(provider, DurableProvider):
            provider = DurableProvider(provider)
        model = durable_model(known.model) if isinstance(known.model, Model) else known.model
        return dataclasses.replace(known, model=model, model_provider=provider)

    def input(self, input: Any) -> Any:
        """The run's input; the agent of a state goes on as its copy."""
        if isinstance(input, RunState) and input._current_agent is not None:
            if input.get_interruptions() and not hasattr(input._current_agent, ORIGINAL):
                raise BadArguments(
                    "a state whose calls wait for approval was not made by a run in this handler",
                    cause="it was read from JSON, so its calls would be made past the journal",
                    fix="let run(...) ask, or go on with result.to_state() in the handler that has the result",
                )
            input._current_agent = self.agent(input._current_agent)
        return input

    def _handoff(self, handoff: Agent[Any] | Handoff[Any, Any]) -> Agent[Any] | Handoff[Any, Any]:
        if isinstance(handoff, Agent):
            return self.agent(handoff)
        invoke = handoff.on_invoke_handoff

        async def prepared(context: Any, arguments: str) -> Agent[Any]:
            return self.agent(await invoke(context, arguments))

        return dataclasses.replace(handoff, on_invoke_handoff=prepared)

    def _servers(self, servers: Sequence[MCPServer]) -> list[MCPServer]:
        return [server if isinstance(server, DurableMCPServer) else DurableMCPServer(server) for server in servers]


async def _offered(
    get: Callable[[Any], Awaitable[list[Tool]]], run_context: Any, *, has_steps: bool = False
) -> list[Tool]:
    """Tools that are made while the run goes on: by MCP servers, and by subclasses of Agent."""
    return [durable_tool(tool, has_steps=has_steps) for tool in await get(run_context)]


def restore(result: Any) -> None:
    """Lets a result name the agents that were given. One that waits for approvals keeps its copies: it is not over."""
    if result.interruptions:
        return
    for item in result.new_items:
        item.agent = original(item.agent)
        for end in ("source_agent", "target_agent"):
            if isinstance(getattr(item, end, None), Agent):
                setattr(item, end, original(getattr(item, end)))
    for name in ("_last_agent", "current_agent"):
        if isinstance(getattr(result, name, None), Agent):
            setattr(result, name, original(getattr(result, name)))


def original(agent: Agent[Any]) -> Agent[Any]:
    """The agent that a copy was made of."""
    found: Agent[Any] = getattr(agent, ORIGINAL, agent)
    return found
