"""Tool calls that need a person's word, as questions in the inbox.

Promises: all calls of a turn that wait are asked for at once; an answer given while nothing runs is honoured; what a
person has changed is what the tool is called with. Refuses: to run a tool without its answer; to edit a call of a tool
that is no function (a shell's, a hosted server's): it is rejected, and the model told what was wanted.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Literal

from agents import RunState
from agents.items import ToolApprovalItem
from openai.types.responses import ResponseFunctionToolCall

from holdfast import Context
from holdfast.integrations.openai_agents.options import Edits

NOT_AS_ASKED = "A person did not allow this call, but would allow one with these arguments:"


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
        elif answer.decision == "approve":
            state.approve(item)
        elif isinstance(item.raw_item, ResponseFunctionToolCall):
            edits[item.name or "", item.raw_item.call_id] = json.dumps(answer.arguments)
            state.approve(item)
        else:
            state.reject(item, rejection_message=f"{NOT_AS_ASKED} {json.dumps(answer.arguments)}")


async def _ask(ctx: Context, item: ToolApprovalItem) -> Approval:
    about = {"agent": item.agent.name, "tool": item.name, "arguments": _arguments(item)}
    return await ctx.ask(f"May {item.agent.name} call {item.name}?", Approval, about=about)


def _arguments(item: ToolApprovalItem) -> Any:
    try:
        return json.loads(item.arguments or "{}")
    except ValueError:
        return item.arguments
