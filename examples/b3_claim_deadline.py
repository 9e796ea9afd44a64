"""Insurance claim with a deadline: a person has three hours, then the agent goes on without.

    python -m examples.b3_claim_deadline --seconds 20
    holdfast serve examples.b3_claim_deadline:hf

Answer and deadline race, and whichever comes first counts for good. The deadline is durable: after a restart only the
remaining time is waited, and one that passed while nothing ran has passed. Who answers too late is told so (HTTP 409).
"""

from __future__ import annotations

from typing import Any

from agents import Agent, RunContextWrapper, function_tool

from examples.sdk import CONFIG
from examples.services import dependencies
from examples.terminal import account, options, result
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

BILL = "Process my hospital bill of 3000 USD for a broken leg."
THREE_HOURS = 3 * 3600.0


def agent_with(seconds: float) -> Agent[Any]:
    """The claim agent, whose person has so long to answer."""

    @function_tool
    async def human_approval(wrapper: RunContextWrapper[Context], amount: int) -> str:
        """Asks a person whether a claim of more than 1000 USD is paid."""
        try:
            approved = await wrapper.context.ask("Pay this claim?", bool, about={"amount": amount}, timeout=seconds)
        except TimeoutError:
            return "nobody answered in time, a clerk will call back"
        return "approved" if approved else "rejected"

    return Agent(
        name="Claims",
        instructions="You are an insurance claim agent. Claims of more than 1000 USD need a human's approval.",
        tools=[human_approval],
    )


claims = Service("HurriedClaims")


@claims.handler
async def review(ctx: Context, claim: str, seconds: float = THREE_HOURS) -> str:
    """Decides on a claim."""
    return str((await run(agent_with(seconds), claim, run_config=CONFIG)).final_output)


hf = Holdfast("b3_claim_deadline.db", services=[claims], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="claim-1", text=BILL, seconds="how long a person has")
    with hf as client:
        reviewed = client.start(review, given.text, float(given.seconds or THREE_HOURS), id=given.id)
        print(result(client, reviewed))
        account(client, reviewed)


if __name__ == "__main__":
    main()
