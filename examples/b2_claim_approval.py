"""Insurance claim with a person's approval: the agent's tool waits for one HTTP call, hours or weeks, also while the
program is down.

    python -m examples.b2_claim_approval
    holdfast serve examples.b2_claim_approval:hf

The tool takes the handler's context, so it is handler code: it asks through the inbox and holds neither a thread nor
memory while nobody answers.
"""

from __future__ import annotations

from agents import Agent, RunContextWrapper, function_tool

from examples.sdk import CONFIG
from examples.services import dependencies
from examples.terminal import account, options, result
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

BILL = "Process my hospital bill of 3000 USD for a broken leg."


@function_tool
async def human_approval(wrapper: RunContextWrapper[Context], amount: int) -> str:
    """Asks a person whether a claim of more than 1000 USD is paid."""
    approved = await wrapper.context.ask("Pay this claim?", bool, about={"amount": amount})
    return "approved" if approved else "rejected"


agent = Agent(
    name="Claims",
    instructions="You are an insurance claim agent. Claims of more than 1000 USD need a human's approval.",
    tools=[human_approval],
)
claims = Service("Claims")


@claims.handler
async def review(ctx: Context, claim: str) -> str:
    """Decides on a claim."""
    return str((await run(agent, claim, run_config=CONFIG)).final_output)


hf = Holdfast("b2_claim_approval.db", services=[claims], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="claim-1", text=BILL)
    with hf as client:
        reviewed = client.start(review, given.text, id=given.id)
        print(result(client, reviewed))
        account(client, reviewed)


if __name__ == "__main__":
    main()
