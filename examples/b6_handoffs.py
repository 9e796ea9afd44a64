"""Several agents with handoffs: intake passes a claim on to a specialist, and the next message goes straight there.

    python -m examples.b6_handoffs "A hospital bill of 3000 USD for a broken leg." --id ada
    python -m examples.b6_handoffs "Did you see the X-ray?" --id ada
    holdfast serve examples.b6_handoffs:hf

The agents share a conversation, which is the state of the session's key, and so is the name of who spoke last. The
same line again is the same message; `--message 2` says the same words again.
"""

from __future__ import annotations

from agents import Agent

from examples.sdk import CONFIG
from examples.services import dependencies
from examples.terminal import MESSAGE, options
from holdfast import Holdfast, Object, ObjectContext
from holdfast.integrations.openai_agents import DurableSession, run

medical = Agent(
    name="Medical",
    handoff_description="Medical claims, from intake to decision.",
    instructions="You are the specialist for medical claims. Decide up to 50000 USD.",
)
auto = Agent(
    name="Auto",
    handoff_description="Claims about cars, from intake to decision.",
    instructions="You are the specialist for auto claims. Decide up to 25000 USD.",
)
intake = Agent(
    name="Intake",
    instructions="You are the intake of claims. Pass each claim on to the specialist for it.",
    handoffs=[medical, auto],
)
AGENTS = {agent.name: agent for agent in (intake, medical, auto)}
desk = Object("ClaimDesk")


@desk.handler
async def message(ctx: ObjectContext, text: str) -> str:
    """Answers a customer, whose session is the key."""
    agent = AGENTS[ctx.get("last_agent", str, intake.name)]
    result = await run(agent, text, session=DurableSession(), run_config=CONFIG)
    ctx.set("last_agent", result.last_agent.name)
    return f"{result.last_agent.name}: {result.final_output}"


hf = Holdfast("b6_handoffs.db", services=[desk], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="ada", text="A hospital bill of 3000 USD for a broken leg.", message=MESSAGE)
    with hf as client:
        print(client.call(message, given.text, key=given.id, idempotency_key=given.message or given.text))
        print(f"The next message goes to {client.state('ClaimDesk', given.id)['last_agent']}.")


if __name__ == "__main__":
    main()
