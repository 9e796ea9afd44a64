"""Chat sessions: a conversation for each key, kept as long as the store, one message at a time.

    python -m examples.b5_chat "Make a poem about durable execution." --id ada
    python -m examples.b5_chat "Shorten it." --id ada
    holdfast serve examples.b5_chat:hf

Messages of one session queue in the order they came, sessions run side by side. `history` is shared: it answers while
a message is being worked on. A turn stores what is new in it, however long the conversation is. The same line again is
the same message, answered once; `--message 2` says the same words again.
"""

from __future__ import annotations

from typing import Any

from agents import Agent

from examples.sdk import CONFIG
from examples.services import dependencies
from examples.terminal import MESSAGE, options
from holdfast import Holdfast, Object, ObjectContext
from holdfast.integrations.openai_agents import DurableSession, run

agent = Agent(name="Assistant", instructions="You are a helpful assistant.")
chat = Object("Chat")


@chat.handler
async def message(ctx: ObjectContext, text: str) -> str:
    """The assistant's answer to one more message."""
    return str((await run(agent, text, session=DurableSession(), run_config=CONFIG)).final_output)


@chat.handler(shared=True)
async def history(ctx: ObjectContext) -> list[Any]:
    """What was said so far."""
    return await DurableSession().get_items()


hf = Holdfast("b5_chat.db", services=[chat], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="ada", text="Make a poem about durable execution.", message=MESSAGE)
    with hf as client:
        print(client.call(message, given.text, key=given.id, idempotency_key=given.message or given.text))
        print(f"{len(client.call(history, key=given.id))} things were said in this session.")


if __name__ == "__main__":
    main()
