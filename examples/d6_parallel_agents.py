"""Parallel agents: three reviewers look at the same idea at once, each in a run of its own, and a fourth sums up.

    python -m examples.d6_parallel_agents
    holdfast serve examples.d6_parallel_agents:hf

Each reviewer is a call to another handler, begun before the first is awaited. They recover by themselves: what one has
finished is not asked again because another one failed. When the review is cancelled, so are they.
"""

from __future__ import annotations

import asyncio

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service

IDEA = "A toaster that prints the weather on the bread."
VIEWS = ("safety", "cost", "delight")


def look(view: str, idea: str) -> str:
    return llm.say(f"You are a reviewer of ideas. Look at {view} only, in one sentence.", idea)


def sum_up(reviews: dict[str, str]) -> str:
    told = "\n".join(f"{view}: {review}" for view, review in reviews.items())
    return llm.say("You are the chair of the review. Weigh what was said and decide.", told)


ideas = Service("Ideas")


@ideas.handler
async def review(ctx: Context, idea: str) -> str:
    """What comes of the idea."""
    found = await asyncio.gather(*(ctx.call(review_one, view, idea) for view in VIEWS))
    return await ctx.run(sum_up, dict(zip(VIEWS, found, strict=True)))


@ideas.handler
async def review_one(ctx: Context, view: str, idea: str) -> str:
    """One reviewer."""
    return await ctx.run(look, view, idea)


hf = Holdfast("d6_parallel_agents.db", services=[ideas], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="idea-1", text=IDEA)
    with hf as client:
        run = client.start(review, given.text, id=given.id)
        print(run.result())
        account(client, run)


if __name__ == "__main__":
    main()
