"""Orchestrator and workers: a model splits a task into parts that nobody knew before, workers do them, one joins them.

    python -m examples.d7_orchestrator_workers
    holdfast serve examples.d7_orchestrator_workers:hf

As many workers as the plan has parts, three at a time: a limit on the handler, kept across restarts. The plan is
recorded before the first worker begins, so a restart works on the same parts.
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Limit, Service

TASK = "A leaflet for new gardeners: compost, frost, slugs, and watering."


class Plan(BaseModel):
    """The parts of a leaflet."""

    parts: list[str]


def make_plan(task: str) -> Plan:
    return llm.fill(Plan, "You are the editor of leaflets. Split the task into parts that stand alone.", task)


def write(part: str) -> str:
    return llm.say("You are a writer of leaflets. Write this part in one sentence.", part)


def join(parts: list[str]) -> str:
    return llm.say("You are the layouter of leaflets. Make one text of the parts.", "\n".join(parts))


leaflets = Service("Leaflets")


@leaflets.handler
async def compose(ctx: Context, task: str) -> str:
    """The whole leaflet."""
    plan = await ctx.run(make_plan, task, retry=llm.THRICE)
    parts = await asyncio.gather(*(ctx.call(compose_part, part) for part in plan.parts))
    return await ctx.run(join, parts)


@leaflets.handler(limit=Limit(concurrency=3))
async def compose_part(ctx: Context, part: str) -> str:
    """A worker."""
    return await ctx.run(write, part)


hf = Holdfast("d7_orchestrator_workers.db", services=[leaflets], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="leaflet-1", text=TASK)
    with hf as client:
        run = client.start(compose, given.text, id=given.id)
        print(run.result())
        account(client, run)


if __name__ == "__main__":
    main()
