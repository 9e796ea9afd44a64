"""Chat session: a conversation that lives in an object, one message at a time, for days and across restarts.

    python -m examples.d10_chat_session "My name is Ada."
    python -m examples.d10_chat_session "What is my name?" --id message-2
    holdfast serve examples.d10_chat_session:hf

The session is the object's key. Messages of one session queue, sessions run side by side, and `history` answers while a
message is being worked on. Both sides of a turn are written together, with its last step: never one without the other.
"""

from __future__ import annotations

from typing import Any

from openai.types.chat import ChatCompletionMessage

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Holdfast, Object, ObjectContext

SYSTEM = {"role": "system", "content": "You are a good listener. Answer briefly; use what you were told before."}
SESSION = "ada"


def ask_model(messages: llm.Messages) -> ChatCompletionMessage:
    return llm.chat(messages)


chat = Object("Chat")


@chat.handler
async def message(ctx: ObjectContext, text: str) -> str:
    """The answer to a message."""
    said = {"role": "user", "content": text}
    answer = await ctx.run(ask_model, [SYSTEM, *ctx.items("messages"), said])
    ctx.append("messages", said)
    ctx.append("messages", llm.spoken(answer))
    return answer.content or ""


@chat.handler(shared=True)
async def history(ctx: ObjectContext) -> list[dict[str, Any]]:
    """The conversation so far."""
    return ctx.items("messages", dict[str, Any])


hf = Holdfast("d10_chat_session.db", services=[chat], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="message-1", text="My name is Ada.")
    with hf as client:
        run = client.start(message, given.text, key=SESSION, id=given.id)
        print(run.result())
        account(client, run)
        print(f"{len(client.call(history, key=SESSION))} messages in the session {SESSION!r}")


if __name__ == "__main__":
    main()
