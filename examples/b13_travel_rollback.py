"""Rollback: an agent books a hotel, a flight and a car; when one cannot be had, what it booked is cancelled again.

    python -m examples.b13_travel_rollback
    holdfast serve examples.b13_travel_rollback:hf

The wish asks for a convertible, and there is none: the booking of the car ends in a TerminalError, and hotel and
flight are cancelled, the last one first. The undo steps are steps as any: kill the program in the middle of them, and
the next one cancels the rest and nothing twice. A run that is cancelled from outside is rolled back in the same way.
"""

from __future__ import annotations

import asyncio

from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from examples import llm
from examples.services import clients, dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, InvocationFailed, Service, TerminalError

WISH = "I want to go to San Francisco for three days, and drive a convertible."


class BookHotel(BaseModel):
    """Books a hotel."""

    city: str


class BookFlight(BaseModel):
    """Books a flight."""

    to: str


class BookCar(BaseModel):
    """Rents a car."""

    kind: str


TOOLS: list[type[BaseModel]] = [BookHotel, BookFlight, BookCar]


def ask_model(messages: llm.Messages) -> ChatCompletionMessage:
    return llm.chat(messages, TOOLS)


def book(reference: str, what: str) -> str:
    """The reference is ours, and the same in every attempt: an order that comes twice is one booking."""
    use = clients()
    answer = use.web.put(f"{use.where.office.url}/bookings/{reference}", json={"what": what})
    if answer.status_code == 409:  # no retry will find one
        raise TerminalError(answer.json()["error"], status=409)
    answer.raise_for_status()
    return f"booked as {reference}"


def cancel(reference: str) -> None:
    """Right for what is booked, for what is not, and for what was cancelled before."""
    use = clients()
    use.web.delete(f"{use.where.office.url}/bookings/{reference}").raise_for_status()


trips = Service("TravelAgency")


@trips.handler
async def arrange(ctx: Context, wish: str) -> str:
    """A whole trip, or none of it."""
    begun: list[str] = []
    try:
        try:
            return await agent(ctx, wish, begun)
        except TerminalError:
            await roll_back(ctx, begun)
            raise
    except asyncio.CancelledError:  # outside, for it may also come in the middle of a rollback
        await roll_back(ctx, begun)
        raise


async def roll_back(ctx: Context, begun: list[str]) -> None:
    """Cancels the bookings, the last one first."""
    while begun:
        await ctx.run(cancel, begun[-1])
        begun.pop()


async def agent(ctx: Context, wish: str, begun: list[str]) -> str:
    """The loop of model and tools. `begun` grows with every booking that is tried."""
    messages = llm.opening("You are a travel agency. Book a hotel, then a flight, then a car.", wish)
    for _ in range(llm.MAX_TURNS):
        message = await ctx.run(ask_model, messages)
        messages.append(llm.spoken(message))
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            match llm.wanted(call, TOOLS):
                case BookHotel(city=city):
                    text = await order(ctx, "hotel", city, begun)
                case BookFlight(to=city):
                    text = await order(ctx, "flight", city, begun)
                case BookCar(kind=kind):
                    text = await order(ctx, "car", kind, begun)
                case wrong:
                    text = str(wrong)
            messages.append(llm.told(call, text))
    raise TerminalError(f"the model found no end in {llm.MAX_TURNS} turns")


async def order(ctx: Context, kind: str, what: str, begun: list[str]) -> str:
    reference = f"{ctx.id}-{kind}-{len(begun) + 1}"
    begun.append(reference)  # before it is tried: a booking whose answer was lost must be cancelled too
    return await ctx.run(book, reference, what)


hf = Holdfast("b13_travel_rollback.db", services=[trips], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="trip-1", text=WISH)
    with hf as client:
        run = client.start(arrange, given.text, id=given.id)
        try:
            print(run.result())
        except (TerminalError, InvocationFailed) as failed:
            print(f"Nothing is booked: {failed}")
        account(client, run)


if __name__ == "__main__":
    main()
