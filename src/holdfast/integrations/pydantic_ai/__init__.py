"""Pydantic AI, durable in handlers.

    from holdfast.integrations.pydantic_ai import HoldfastDurability

    agent = Agent("openai:gpt-4.1-mini", name="reviewer", capabilities=[HoldfastDurability()])

    @service.handler
    async def review(ctx: Context, claim: str) -> str:
        return (await agent.run(claim)).output

Outside of a handler the agent is what it is without.
"""

from holdfast.integrations.pydantic_ai.approvals import Approval
from holdfast.integrations.pydantic_ai.durability import HoldfastDurability
from holdfast.integrations.pydantic_ai.watching import tell_watchers

__all__ = ["Approval", "HoldfastDurability", "tell_watchers"]
