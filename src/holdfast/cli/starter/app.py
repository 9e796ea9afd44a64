"""A small agent that survives: kill it at any point, start it again, and it goes on where it was.

It needs no key and no network: `think` stands for a call to a model. Replace it with a real one.
"""

import asyncio

from holdfast import Context, Holdfast, Object, ObjectContext, Service

desk = Service("Desk")
shelf = Object("Shelf")


async def think(prompt: str) -> str:
    """Any function, sync or async. As a step it runs once; what it returned is never asked for again."""
    await asyncio.sleep(2)  # a model takes its time
    return f"A thought about {prompt}."


@desk.handler
async def research(ctx: Context, topic: str, rounds: int = 3) -> str:
    """Thinks in rounds, then asks a person whether to keep the result."""
    thoughts = [await ctx.run(think, f"{topic}, round {number}") for number in range(1, rounds + 1)]
    keep = await ctx.ask(f"Keep {rounds} thoughts about {topic}?", bool, about=thoughts)
    if not keep:
        return "dropped"
    count = await ctx.call(add, thoughts, key=topic)
    return f"kept; the shelf of {topic} holds {count}"


@shelf.handler
async def add(ctx: ObjectContext, thoughts: list[str]) -> int:
    """One writer at a time for each key, and state that is stored with the journal."""
    for thought in thoughts:
        ctx.append("thoughts", thought)
    return len(ctx.items("thoughts", str))


@shelf.handler(shared=True)
async def read(ctx: ObjectContext) -> list[str]:
    """Runs beside the writer."""
    return ctx.items("thoughts", str)


hf = Holdfast("agent.db", services=[desk, shelf])
