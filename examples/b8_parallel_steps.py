"""Parallel steps inside one tool: eligibility, cost and fraud are checked at the same time.

    python -m examples.b8_parallel_steps
    holdfast serve examples.b8_parallel_steps:hf

A tool that takes the handler's context is handler code: `asyncio.gather` over steps is all it needs. One that fails is
tried again alone, and after a crash only those run that had not finished.
"""

from __future__ import annotations

import asyncio

from agents import Agent, RunContextWrapper, function_tool

from examples.sdk import BROKEN_LEG, CONFIG, Claim
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

RATES = {"orthopedic": 2500, "dental": 400}


async def check_eligibility(category: str) -> str:
    return "covered" if category in RATES else "not covered"


async def compare_cost(category: str, amount: int) -> str:
    usual = RATES.get(category, 0)
    return f"{amount - usual:+d} USD against the usual {usual} USD"


async def check_fraud(reason: str) -> str:
    return "no sign of fraud" if len(reason) < 200 else "the reason is suspiciously long"


@function_tool
async def calculate_metrics(wrapper: RunContextWrapper[Context], claim: Claim) -> list[str]:
    """All that is to be known of a claim."""
    ctx = wrapper.context
    covered, cost, fraud = await asyncio.gather(
        ctx.run(check_eligibility, claim.category),
        ctx.run(compare_cost, claim.category, claim.amount),
        ctx.run(check_fraud, claim.reason),
    )
    return [covered, cost, fraud]


agent = Agent(
    name="Claims",
    instructions="You are a claim analyst. Calculate the metrics of the claim, then decide.",
    tools=[calculate_metrics],
)
claims = Service("AnalysedClaims")


@claims.handler
async def review(ctx: Context, claim: Claim) -> str:
    """Decides on a claim."""
    return str((await run(agent, claim.model_dump_json(), run_config=CONFIG)).final_output)


hf = Holdfast("b8_parallel_steps.db", services=[claims], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="claim-1", text=BROKEN_LEG.reason)
    with hf as client:
        reviewed = client.start(review, BROKEN_LEG.model_copy(update={"reason": given.text}), id=given.id)
        print(reviewed.result())
        account(client, reviewed)


if __name__ == "__main__":
    main()
