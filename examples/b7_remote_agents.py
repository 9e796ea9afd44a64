"""Remote agents as tools: each its own service, called durably, while the caller takes no memory.

    python -m examples.b7_remote_agents
    holdfast serve examples.b7_remote_agents:hf

A tool that takes the handler's context calls the other agent's handler. What they share is what is passed. The two
agents of one turn run at the same time, each with a journal of its own.
"""

from __future__ import annotations

from agents import Agent, RunContextWrapper, function_tool

from examples.sdk import BROKEN_LEG, CONFIG, Claim, told
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

fraud_agent = Agent(name="Fraud", instructions="You are a fraud analyst. How likely is it that this claim is false?")
eligibility_agent = Agent(name="Eligibility", instructions="You are a policy clerk. Is this claim covered?")
fraud, eligibility = Service("FraudAgent"), Service("EligibilityAgent")


@fraud.handler
async def analyse(ctx: Context, claim: Claim) -> str:
    """How likely fraud is."""
    return str((await run(fraud_agent, told(claim), run_config=CONFIG)).final_output)


@eligibility.handler
async def examine(ctx: Context, claim: Claim) -> str:
    """Whether the policy covers it."""
    return str((await run(eligibility_agent, told(claim), run_config=CONFIG)).final_output)


@function_tool
async def check_fraud(wrapper: RunContextWrapper[Context], claim: Claim) -> str:
    """Whether a claim may be fraud."""
    return await wrapper.context.call(analyse, claim)


@function_tool
async def check_eligibility(wrapper: RunContextWrapper[Context], claim: Claim) -> str:
    """Whether a claim is covered."""
    return await wrapper.context.call(examine, claim)


coordinator = Agent(
    name="Coordinator",
    instructions="You are a claim coordinator. Analyse the claim with your tools, then decide.",
    tools=[check_fraud, check_eligibility],
)
claims = Service("CoordinatedClaims")


@claims.handler
async def review(ctx: Context, claim: Claim) -> str:
    """Decides on a claim."""
    return str((await run(coordinator, claim.model_dump_json(), run_config=CONFIG)).final_output)


hf = Holdfast("b7_remote_agents.db", services=[claims, fraud, eligibility], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="claim-1", text=BROKEN_LEG.reason)
    with hf as client:
        reviewed = client.start(review, BROKEN_LEG.model_copy(update={"reason": given.text}), id=given.id)
        print(reviewed.result())
        account(client, reviewed)


if __name__ == "__main__":
    main()
