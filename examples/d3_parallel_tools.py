"""Parallel tools: the model asks for several searches in one turn, and they run at the same time.

    python -m examples.d3_parallel_tools
    holdfast serve examples.d3_parallel_tools:hf

Plain asyncio: a task for each tool. Each search is a step of its own, so when one fails it alone is tried again, and
after a crash only those are asked again that had no answer. Which came first is in the journal, and a replay keeps it.
"""

from __future__ import annotations

import asyncio

from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from examples import llm
from examples.services import clients, dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service, StepFailed, TerminalError

QUESTION = "I like quiet mornings. Rome, Lisbon or Kyoto?"


class SearchGuide(BaseModel):
    """Searches the travel guides."""

    query: str


TOOLS: list[type[BaseModel]] = [SearchGuide]


def ask_model(messages: llm.Messages) -> ChatCompletionMessage:
    return llm.chat(messages, TOOLS)


def search(query: str) -> str:
    """What the first guide says."""
    use = clients()
    headers = {"X-API-KEY": use.where.search.key}
    answer = use.web.post(f"{use.where.search.url}/search", json={"q": query, "num": 1}, headers=headers)
    answer.raise_for_status()
    found = answer.json().get("organic") or [{"snippet": "error: nothing was found"}]
    return str(found[0]["snippet"])


compass = Service("TravelCompass")


@compass.handler
async def advise(ctx: Context, question: str) -> str:
    """Which place fits."""
    messages = llm.opening("You are a travel compass. Search for each place, all at once, then advise.", question)
    for _ in range(llm.MAX_TURNS):
        message = await ctx.run(ask_model, messages)
        messages.append(llm.spoken(message))
        if not message.tool_calls:
            return message.content or ""
        results = await asyncio.gather(*(use_tool(ctx, call) for call in message.tool_calls))
        messages += [llm.told(call, text) for call, text in zip(message.tool_calls, results, strict=True)]
    raise TerminalError(f"the model found no end in {llm.MAX_TURNS} turns")


async def use_tool(ctx: Context, call: llm.ToolCall) -> str:
    """What the tool says; that it failed is told to the model, which can do with the others."""
    match llm.wanted(call, TOOLS):
        case SearchGuide(query=query):
            try:
                return await ctx.run(search, query, retry=llm.THRICE)
            except StepFailed as failed:
                return f"error: {failed.message}"
        case wrong:
            return str(wrong)


hf = Holdfast("d3_parallel_tools.db", services=[compass], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="advice-1", text=QUESTION)
    with hf as client:
        run = client.start(advise, given.text, id=given.id)
        print(run.result())
        account(client, run)


if __name__ == "__main__":
    main()
