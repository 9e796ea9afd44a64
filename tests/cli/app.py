"""What the command line is tried on: a bit of everything, offline. Steps leave a line in steps.log for each run."""

import asyncio
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from holdfast import Context, Holdfast, Object, ObjectContext, Service, TerminalError, Workflow

desk = Service("Desk")
chat = Object("Chat")
flow = Workflow("Flow")


@dataclass
class Wish:
    cost: int
    board: Literal["none", "half", "full"]
    note: str | None = None


def note(word: str) -> str:
    with Path("steps.log").open("a") as log:
        log.write(word + "\n")
    return word


async def slow(word: str) -> str:
    await asyncio.sleep(0.3)
    return note(word)


@desk.handler
async def greet(ctx: Context, name: str, times: int = 1) -> str:
    """Greets somebody.

    As often as wanted.
    """
    return " ".join([f"Hello {name}"] * times)


@desk.handler
async def work(ctx: Context, rounds: int) -> list[str]:
    """Works step by step."""
    return [await ctx.run(slow, f"round {number}") for number in range(rounds)]


@desk.handler
async def approve(ctx: Context, amount: int) -> str:
    """Asks for a yes."""
    await ctx.run(note, "looked at")
    return "yes" if await ctx.ask(f"Pay {amount} euros?", bool, about={"amount": amount}) else "no"


@desk.handler
async def wish(ctx: Context) -> Wish:
    """Asks for a form."""
    return await ctx.ask("What do you wish?", Wish)


@desk.handler
async def day(ctx: Context) -> date:
    """Asks for a date."""
    return await ctx.ask("On which day?", date)


@desk.handler
async def refuse(ctx: Context) -> None:
    """Fails for good."""
    raise TerminalError("the account is closed", status=402)


def unmended() -> int:
    return int(Path("number.txt").read_text())


@desk.handler
async def stumble(ctx: Context) -> int:
    """Pauses until its step is mended: a TypeError is no outage."""
    await ctx.run(note, "before")
    return await ctx.run(spoiled)


def spoiled() -> int:
    if not Path("mended").exists():
        raise TypeError("the code is wrong")
    return 7


@desk.handler
async def caller(ctx: Context) -> str:
    """Calls another handler."""
    return await ctx.call(greet, "child")


@desk.handler
async def hear(ctx: Context) -> str:
    """Waits for a message."""
    return await ctx.receive("news", str)


@desk.handler
async def deliver(ctx: Context) -> str:
    """Waits for a delivery."""
    return await ctx.promise("parcel", type=str)


@desk.handler
async def rest(ctx: Context, seconds: float) -> str:
    """Sleeps."""
    await asyncio.sleep(seconds)
    return "rested"


@desk.handler
async def number(ctx: Context) -> int:
    """Fails until number.txt is there; a retry goes on where it failed."""
    await ctx.run(note, "first")
    if not Path("number.txt").exists():
        raise TerminalError("there is no number")
    return await ctx.run(unmended)


@chat.handler
async def message(ctx: ObjectContext, text: str) -> int:
    """Adds a message."""
    ctx.append("history", text)
    ctx.set("last", text)
    return len(ctx.items("history", str))


@chat.handler(shared=True)
async def history(ctx: ObjectContext) -> list[str]:
    """All messages."""
    return ctx.items("history", str)


@flow.main
async def run(ctx: Context) -> str:
    """Waits for its signal."""
    return await ctx.receive("go", str)


hf = Holdfast("agent.db", services=[desk, chat, flow])
hf.schedule(greet, "clock", id="hourly", every=3600)
