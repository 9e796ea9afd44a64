"""A LangGraph graph: three nodes ask the model at the same time, one writes, a person allows, and it survives kill -9.

    python -m examples.f2_langgraph
    holdfast serve examples.f2_langgraph:hf

The graph is the library's own and nothing of it is wrapped: its nodes run on Holdfast's event loop, in the handler. The
model's client is a plain AsyncOpenAI over a durable transport, so each request of a node is a step. `interrupt` becomes
a question in the inbox; the checkpointer may live in memory, for a replay fills it again.
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

import holdfast
from examples.offline.endpoints import model_name
from examples.services import ToTheModel, async_openai, clients, dependencies
from examples.terminal import account, options, result
from holdfast import Context, Holdfast, Service
from holdfast.integrations.httpx2 import DurableTransport

CITY = "Rome"
model = async_openai(DurableTransport(ToTheModel()))


class Letter(TypedDict, total=False):
    """What the nodes know."""

    city: str
    notes: Annotated[list[str], operator.add]
    draft: str
    allowed: bool
    outcome: str


async def say(instructions: str, text: str) -> str:
    messages: Any = [{"role": "system", "content": instructions}, {"role": "user", "content": text}]
    answer = await model.chat.completions.create(model=model_name(), messages=messages)
    return answer.choices[0].message.content or ""


async def sights(state: Letter) -> Letter:
    return {"notes": [await say("You are a city guide for sights. One sentence.", state["city"])]}


async def hotels(state: Letter) -> Letter:
    return {"notes": [await say("You are a city guide for hotels. One sentence.", state["city"])]}


async def food(state: Letter) -> Letter:
    return {"notes": [await say("You are a city guide for food. One sentence.", state["city"])]}


async def write(state: Letter) -> Letter:
    return {"draft": await say("You are the editor of a travel letter. Join the notes.", "\n".join(state["notes"]))}


async def approve(state: Letter) -> Letter:
    """A node of its own: after an interrupt LangGraph runs a node again from its top."""
    return {"allowed": interrupt({"question": "Send this letter?", "draft": state["draft"]})}


async def send(state: Letter) -> Letter:
    if not state["allowed"]:
        return {"outcome": "not sent"}
    await holdfast.current().run(mail, state["draft"])
    return {"outcome": "sent"}


def mail(text: str) -> None:
    """A step as any. The receiver keeps one letter for each key."""
    use = clients()
    headers = {"Idempotency-Key": holdfast.step().idempotency_key}
    answer = use.web.post(f"{use.where.reminders.url}/reminders", json={"message": text}, headers=headers)
    answer.raise_for_status()


def graph_of_letters() -> StateGraph[Letter, None, Letter, Letter]:
    builder = StateGraph(Letter)
    builder.add_node("sights", sights)
    builder.add_node("hotels", hotels)
    builder.add_node("food", food)
    builder.add_node("write", write)
    builder.add_node("approve", approve)
    builder.add_node("send", send)
    for note in ("sights", "hotels", "food"):
        builder.add_edge(START, note)
        builder.add_edge(note, "write")
    builder.add_edge("write", "approve")
    builder.add_edge("approve", "send")
    return builder


letters = Service("Letters")


@letters.handler
async def letter_about(ctx: Context, city: str) -> str:
    """Writes a letter about a city, and sends it if a person says so."""
    graph = graph_of_letters().compile(checkpointer=InMemorySaver())
    config = RunnableConfig(configurable={"thread_id": ctx.id})
    state = await graph.ainvoke({"city": city}, config)
    while waiting := state.get("__interrupt__"):
        asked = {one.id: ctx.ask(one.value["question"], bool, about=one.value["draft"]) for one in waiting}
        answers = {id: await answer for id, answer in asked.items()}
        state = await graph.ainvoke(Command(resume=answers), config)
    return f"{state['outcome']}: {state['draft']}"


hf = Holdfast("f2_langgraph.db", services=[letters], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="letter-1", text=CITY)
    with hf as client:
        letter = client.start(letter_about, given.text, id=given.id)
        print(result(client, letter))
        account(client, letter)


if __name__ == "__main__":
    main()
