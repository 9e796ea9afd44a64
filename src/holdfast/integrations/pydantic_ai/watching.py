"""A handler of an agent's events that tells the invocation's watchers."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai import AgentStreamEvent, RunContext

from holdfast import WrongPlace, step

_event = TypeAdapter[AgentStreamEvent](AgentStreamEvent)


async def tell_watchers(ctx: RunContext[Any], stream: AsyncIterable[AgentStreamEvent]) -> None:
    """`HoldfastDurability(event_stream_handler=tell_watchers)`: what the model says is told while it says it.

    Events of tools are not told: their steps are.
    """
    del ctx
    async for event in stream:
        _tell(event)


def _tell(event: AgentStreamEvent) -> None:
    try:
        body = step()
    except WrongPlace:  # an agent that runs outside of Holdfast has no watchers
        return
    body.emit(_event.dump_python(event, mode="json"))
