"""Tool calls that need a person's word, as questions in the inbox.

Promises: all calls of a turn that wait are asked for at once; an answer given while nothing runs is honoured; what a
person has changed is what the tool is called with. Refuses: to run a tool without its answer.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Literal

from agents import RunState
from agents.items import ToolApprovalItem

from holdfast import Context
from holdfast.integrations.openai_agents.options import Edits


@dataclass
class Approval:
    """A person's answer. `arguments` are the tool's when the decision is "edit"; `reason` tells the model why it was
    rejected."""

    decision: Literal["approve", "edit", "reject"]
    arguments: dict[str, Any] | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.decision == "edit" and self.arguments is None:
            raise ValueError("an edit needs the arguments")


async def decide(ctx: Context, state: RunState[Any], waiting: list[ToolApprovalItem], edits: Edits) -> None:
    """Asks about every call that waits, and writes the answers into the state and the edits."""
    answers = await asyncio.gather(*[_ask(ctx, item) for item in waiting])
    for item, answer in zip(waiting, answers, strict=True):
        if answer.decision == "reject":
            state.reject(item, rejection_message=answer.reason)
            continue
        if answer.decision == "edit" and item.call_id is not None:
            edits[item.name or "", item.call_id] = json.dumps(answer.arguments)
        state.approve(item)


async def _ask(ctx: Context, item: ToolApprovalItem) -> Approval:
    about = {"agent": item.agent.name, "tool": item.name, "arguments": _arguments(item)}
    return await ctx.ask(f"May {item.agent.name} call {item.name}?", Approval, about=about)


def _arguments(item: ToolApprovalItem) -> Any:
    try:
        return json.loads(item.arguments or "{}")
    except ValueError:
        return item.arguments
