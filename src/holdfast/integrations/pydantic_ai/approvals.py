"""Tool calls that need a person's word, as questions in the inbox.

Promises: all calls that wait are asked for at once; an answer given while nothing runs is honoured; what a person has
changed is what the tool is called with. Refuses: to run a tool without its answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

from holdfast import Context


@dataclass
class Approval:
    """A person's answer. An "edit" needs the `arguments`; a `reason` tells the model why it was rejected."""

    decision: Literal["approve", "edit", "reject"]
    arguments: dict[str, Any] | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.decision == "edit" and self.arguments is None:
            raise ValueError("an edit needs the arguments")


async def decide(ctx: Context, agent: str, requests: DeferredToolRequests) -> DeferredToolResults:
    """Asks about every call that needs approval, and waits for all answers."""
    asked = [
        ctx.ask(
            f"May {agent} call {call.tool_name}?",
            Approval,
            about={"agent": agent, "tool": call.tool_name, "arguments": call.args_as_dict()}
            | requests.metadata.get(call.tool_call_id, {}),
        )
        for call in requests.approvals
    ]
    answers: list[Approval] = await asyncio.gather(*asked)
    outcomes = {call.tool_call_id: _outcome(answer) for call, answer in zip(requests.approvals, answers, strict=True)}
    return requests.build_results(approvals=outcomes)


def _outcome(answer: Approval) -> ToolApproved | ToolDenied:
    if answer.decision == "reject":
        return ToolDenied(answer.reason) if answer.reason else ToolDenied()
    return ToolApproved(override_args=answer.arguments if answer.decision == "edit" else None)
