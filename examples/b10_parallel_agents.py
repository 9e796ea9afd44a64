"""Parallel agents: three look at a claim at once and a fourth decides; or two race, and the slower one is stopped.

    python -m examples.b10_parallel_agents
    python -m examples.b10_parallel_agents --race yes --id claim-2
    holdfast serve examples.b10_parallel_agents:hf

Each agent is a called invocation and recovers alone. Giving up a call cancels it: the loser's model call is stopped.
"""

from __future__ import annotations

import asyncio

from agents import Agent

from examples.sdk import BROKEN_LEG, CONFIG, Claim, told
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

AGENTS = {
    "eligibility": Agent(name="Eligibility", instructions="You are a policy clerk. Is this claim covered?"),
    "cost": Agent(name="Cost", instructions="You are a cost expert. Are these costs usual?"),
    "fraud": Agent(name="Fraud", instructions="You are a fraud analyst. How likely is it that this claim is false?"),
}
decider = Agent(name="Decision", instructions="You are a claim decider. Decide, on the analyses you are given.")
experts, claims = Service("Experts"), Service("DecidedClaims")


@experts.handler
async def opinion(ctx: Context, of: str, claim: Claim) -> str:
    """What one expert says of a claim."""
    return str((await run(AGENTS[of], told(claim), run_config=CONFIG)).final_output)


@claims.handler
async def review(ctx: Context, claim: Claim) -> str:
    """Hears all experts, and decides."""
    opinions = await asyncio.gather(*[ctx.call(opinion, name, claim) for name in AGENTS])
    analyses = " ".join(f"{name}: {said}" for name, said in zip(AGENTS, opinions, strict=True))
    return str((await run(decider, f"{told(claim)}. {analyses}", run_config=CONFIG)).final_output)


@claims.handler
async def race(ctx: Context, claim: Claim) -> str:
    """Hears the first expert who has an opinion."""
    calls = {asyncio.ensure_future(ctx.call(opinion, name, claim)): name for name in ("eligibility", "fraud")}
    done, slower = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for call in slower:
        call.cancel()
    return "; ".join(f"{calls[call]} was first: {call.result()}" for call in done)


hf = Holdfast("b10_parallel_agents.db", services=[claims, experts], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="claim-1", text=BROKEN_LEG.reason, race="anything: let two of them race")
    claim = BROKEN_LEG.model_copy(update={"reason": given.text})
    with hf as client:
        reviewed = client.start(race if given.race else review, claim, id=given.id)
        print(reviewed.result())
        account(client, reviewed)


if __name__ == "__main__":
    main()
