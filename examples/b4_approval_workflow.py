"""Approval as a service of its own: the agent's tool calls another handler, exactly once.

    python -m examples.b4_approval_workflow
    holdfast serve examples.b4_approval_workflow:hf

The approval is an invocation with a journal of its own, shown under the one that called it. It may take weeks, it may
be used by other agents, and it is begun once, whatever dies in between.
"""

from __future__ import annotations

from agents import Agent, RunContextWrapper, function_tool

from examples.sdk import CONFIG
from examples.services import dependencies
from examples.terminal import account, options, result
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

BILL = "Process my hospital bill of 3000 USD for a broken leg."
approvals = Service("Approvals")


@approvals.handler
async def request(ctx: Context, amount: int) -> str:
    """Asks a person about a claim."""
    approved = await ctx.ask("Pay this claim?", bool, about={"amount": amount})
    return "approved" if approved else "rejected"


@function_tool
async def human_approval(wrapper: RunContextWrapper[Context], amount: int) -> str:
    """Asks a person whether a claim of more than 1000 USD is paid."""
    return await wrapper.context.call(request, amount)


agent = Agent(
    name="Claims",
    instructions="You are an insurance claim agent. Claims of more than 1000 USD need a human's approval.",
    tools=[human_approval],
)
claims = Service("DelegatedClaims")


@claims.handler
async def review(ctx: Context, claim: str) -> str:
    """Decides on a claim."""
    return str((await run(agent, claim, run_config=CONFIG)).final_output)


hf = Holdfast("b4_approval_workflow.db", services=[claims, approvals], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="claim-1", text=BILL)
    with hf as client:
        reviewed = client.start(review, given.text, id=given.id)
        print(result(client, reviewed))
        account(client, reviewed)


if __name__ == "__main__":
    main()
