"""The OpenAI Agents SDK, durable in handlers.

    from holdfast.integrations.openai_agents import run

    @service.handler
    async def review(ctx: Context, claim: str) -> str:
        return (await run(agent, claim)).final_output

Importing it is enough for the stock `Runner.run` too. Agents, tools, models and sessions are the SDK's own.
"""

from holdfast.integrations.openai_agents.approvals import Approval
from holdfast.integrations.openai_agents.models import DurableProvider
from holdfast.integrations.openai_agents.options import Price
from holdfast.integrations.openai_agents.runner import Streamed, install, run, run_streamed
from holdfast.integrations.openai_agents.sessions import DurableSession

install()

__all__ = ["Approval", "DurableProvider", "DurableSession", "Price", "Streamed", "run", "run_streamed"]
