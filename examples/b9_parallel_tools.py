"""Several tools in one turn: the model asks for three, and they run at the same time, each a step of its own.

    python -m examples.b9_parallel_tools
    holdfast serve examples.b9_parallel_tools:hf

Nothing is done for it: the SDK's runner gathers the calls, and on Holdfast's event loop they replay exactly, whichever
finished first. Each tool takes half a second; look at the times in the account.
"""

from __future__ import annotations

import asyncio

from agents import Agent, function_tool

from examples.sdk import BROKEN_LEG, CONFIG, Claim
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

SECONDS = 0.5  # that each of the tools takes


@function_tool
async def check_eligibility(category: str) -> str:
    """Whether the policy covers a category."""
    await asyncio.sleep(SECONDS)
    return "covered" if category in {"orthopedic", "dental"} else "not covered"


@function_tool
async def compare_cost(category: str, amount: int) -> str:
    """How an amount compares to the usual."""
    await asyncio.sleep(SECONDS)
    return f"{amount} USD is usual for {category}" if amount < 5000 else "more than usual"


@function_tool
async def check_fraud(reason: str) -> str:
    """Whether a reason looks false."""
    await asyncio.sleep(SECONDS)
    return "no sign of fraud" if len(reason) < 200 else "the reason is suspiciously long"


agent = Agent(
    name="Claims",
    instructions="You are a thorough claim analyst. Use all your tools at once, then decide.",
    tools=[check_eligibility, compare_cost, check_fraud],
)
claims = Service("QuickClaims")


@claims.handler
async def review(ctx: Context, claim: Claim) -> str:
    """Decides on a claim."""
    return str((await run(agent, claim.model_dump_json(), run_config=CONFIG)).final_output)


hf = Holdfast("b9_parallel_tools.db", services=[claims], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="claim-1", text=BROKEN_LEG.reason)
    with hf as client:
        reviewed = client.start(review, BROKEN_LEG.model_copy(update={"reason": given.text}), id=given.id)
        print(reviewed.result())
        account(client, reviewed)


if __name__ == "__main__":
    main()
