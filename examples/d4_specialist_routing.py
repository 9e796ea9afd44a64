"""Routing to a specialist: one model call says whose question it is, and an agent with instructions of its own answers.

    python -m examples.d4_specialist_routing
    holdfast serve examples.d4_specialist_routing:hf

The choice is a typed answer, recorded like any other: after a crash the same specialist goes on.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service

QUESTION = "Is there a lift to the dinosaurs?"
SPECIALISTS = {
    "tickets": "You are the museum's ticket expert. Prices: adults 12, children 5, free on Thursdays.",
    "access": "You are the museum's access expert. Lifts at the east door; wheelchairs at the desk.",
    "collection": "You are the museum's collection expert. Dinosaurs on floor 2, minerals on floor 3.",
}


class Route(BaseModel):
    """Whose question it is."""

    specialist: Literal["tickets", "access", "collection"]


def choose(question: str) -> Route:
    return llm.fill(Route, "You are the museum's front desk. Who answers: tickets, access or collection?", question)


def answer_as(specialist: str, question: str) -> str:
    return llm.say(SPECIALISTS[specialist], question)


museum = Service("Museum")


@museum.handler
async def ask(ctx: Context, question: str) -> str:
    """The answer of the specialist whose question it is."""
    route = await ctx.run(choose, question, retry=llm.THRICE)
    text = await ctx.run(answer_as, route.specialist, question)
    return f"{route.specialist}: {text}"


hf = Holdfast("d4_specialist_routing.db", services=[museum], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="question-1", text=QUESTION)
    with hf as client:
        run = client.start(ask, given.text, id=given.id)
        print(run.result())
        account(client, run)


if __name__ == "__main__":
    main()
