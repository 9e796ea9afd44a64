"""Routing to a remote agent: each agent is a service of its own, and the router calls the one that fits, by its name.

    python -m examples.d5_remote_routing
    holdfast serve examples.d5_remote_routing:hf

A call between handlers happens once, whatever dies: the agent is an invocation of its own with a journal of its own,
and while it works, the router is a row. `holdfast show question-1` draws them as parent and child.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service

QUESTION = "The invoice for my washing machine has the wrong address."


AGENTS = {"billing": "Billing/look_into", "repairs": "Repairs/send_mechanic"}  # a model chooses, it makes up no names


class Route(BaseModel):
    """Which agent answers."""

    agent: Literal["billing", "repairs"]


def choose(question: str) -> Route:
    return llm.fill(Route, "You are the switchboard. Which agent answers: billing or repairs?", question)


def think_about_billing(question: str) -> str:
    return llm.say("You are the billing agent. Say in one sentence what you will do.", question)


def think_about_repairs(question: str) -> str:
    return llm.say("You are the repairs agent. Say in one sentence what you will do.", question)


switchboard, billing, repairs = Service("Switchboard"), Service("Billing"), Service("Repairs")


@switchboard.handler
async def ask(ctx: Context, question: str) -> str:
    """The answer of the agent whose question it is."""
    route = await ctx.run(choose, question, retry=llm.THRICE)
    text: str = await ctx.call(AGENTS[route.agent], question)
    return f"{route.agent}: {text}"


@billing.handler
async def look_into(ctx: Context, question: str) -> str:
    """Invoices and payments."""
    return await ctx.run(think_about_billing, question)


@repairs.handler
async def send_mechanic(ctx: Context, question: str) -> str:
    """Machines that are broken."""
    return await ctx.run(think_about_repairs, question)


hf = Holdfast("d5_remote_routing.db", services=[switchboard, billing, repairs], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="question-1", text=QUESTION)
    with hf as client:
        run = client.start(ask, given.text, id=given.id)
        print(run.result())
        account(client, run)


if __name__ == "__main__":
    main()
