"""Routing to a tool: the model chooses which tool answers a customer, and the loop goes on until it has an answer.

    python -m examples.d2_tool_routing
    holdfast serve examples.d2_tool_routing:hf

What the model chose is in the journal, and so is what the tool said: after a crash nobody is asked again. A tool that
does not exist, or arguments that do not fit, are told to the model.
"""

from __future__ import annotations

from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service, TerminalError

QUESTION = "Where is my order 4711?"
PARCELS = {"4711": "with the courier, expected tomorrow", "4712": "packed"}  # stands for a database


class TrackOrder(BaseModel):
    """Tells where an order is."""

    order: str


class ReturnGoods(BaseModel):
    """Makes a return label for an order."""

    order: str


class OpeningHours(BaseModel):
    """Tells when the shop is open."""


TOOLS: list[type[BaseModel]] = [TrackOrder, ReturnGoods, OpeningHours]


def ask_model(messages: llm.Messages) -> ChatCompletionMessage:
    return llm.chat(messages, TOOLS)


def track_order(order: str) -> str:
    return PARCELS.get(order, "error: there is no such order")


def return_goods(order: str) -> str:
    return f"label R-{order}"


desk = Service("ShopDesk")


@desk.handler
async def answer(ctx: Context, question: str) -> str:
    """The answer to a customer's question."""
    messages = llm.opening("You are the desk of a shop. Use the tool that fits, then answer in one sentence.", question)
    for _ in range(llm.MAX_TURNS):
        message = await ctx.run(ask_model, messages)
        messages.append(llm.spoken(message))
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            match llm.wanted(call, TOOLS):
                case TrackOrder(order=order):
                    text = await ctx.run(track_order, order)
                case ReturnGoods(order=order):
                    text = await ctx.run(return_goods, order)
                case OpeningHours():
                    text = "nine to six, closed on Sundays"
                case wrong:
                    text = str(wrong)
            messages.append(llm.told(call, text))
    raise TerminalError(f"the model found no end in {llm.MAX_TURNS} turns")


hf = Holdfast("d2_tool_routing.db", services=[desk], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="question-1", text=QUESTION)
    with hf as client:
        run = client.start(answer, given.text, id=given.id)
        print(run.result())
        account(client, run)


if __name__ == "__main__":
    main()
