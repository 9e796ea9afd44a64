"""The examples on the OpenAI Agents SDK."""

from __future__ import annotations

import asyncio
from typing import Any

from examples import b1_weather_agent as b1
from examples import b2_claim_approval as b2
from examples import b3_claim_deadline as b3
from examples import b4_approval_workflow as b4
from examples import b5_chat as b5
from examples import b6_handoffs as b6
from examples import b7_remote_agents as b7
from examples import b8_parallel_steps as b8
from examples import b9_parallel_tools as b9
from examples import b10_parallel_agents as b10
from examples import b11_error_handling as b11
from examples import b15_progress as b15
from examples import b16_interruptible as b16
from examples import c1_airline as c1
from examples.sdk import BROKEN_LEG
from holdfast import AsyncClient, Retry
from tests.examples.plays_plain import KEY, one, state_of, talk
from tests.examples.survival import Play

b9.SECONDS = b16.SECONDS = 0.02
b11.TOOL_RETRY = Retry(max_attempts=1)  # a body that is lost is one request


async def chats(client: AsyncClient) -> Any:
    """Two sessions, side by side."""
    ada = talk(b5.message, "Make a poem.", "Shorten it.")
    bob = client.call(b5.message, "And who am I?", key="bob", id="bob")
    said = await asyncio.gather(ada(client), bob)
    return said, len(await client.call(b5.history, key=KEY))


CUSTOMER = ("Can you change my seat to 10b?", "AB4568", "Send me the invoice.", "Is there wifi?")

PLAYS = {
    "b1": Play(b1.hf, one(b1.ask, "What is the weather like in Rome and in Lisbon?")),
    "b2": Play(b2.hf, one(b2.review, b2.BILL), answers=True),
    "b3": Play(b3.hf, one(b3.review, b3.BILL), answers=False),
    "b3_late": Play(b3.hf, one(b3.review, b3.BILL, 0.02)),
    "b4": Play(b4.hf, one(b4.review, b4.BILL), answers=True),
    "b5": Play(b5.hf, chats, seen=state_of("Chat")),
    "b6": Play(b6.hf, talk(b6.message, "A hospital bill.", "Did you see the X-ray?"), seen=state_of("ClaimDesk")),
    "b7": Play(b7.hf, one(b7.review, BROKEN_LEG)),
    "b8": Play(b8.hf, one(b8.review, BROKEN_LEG)),
    "b9": Play(b9.hf, one(b9.review, BROKEN_LEG)),
    "b10": Play(b10.hf, one(b10.review, BROKEN_LEG)),
    "b11": Play(b11.hf, one(b11.ask, "What is the weather like in Atlantis?")),
    "b11_terminal": Play(b11.hf, one(b11.ask, "What is the weather like on Mars?")),
    "b15": Play(b15.hf, one(b15.write, "Durable execution")),
    "b16": Play(b16.hf, one(b16.work, "Write a program that sorts.")),
    "c1": Play(c1.hf, talk(c1.message, *CUSTOMER), seen=state_of("Airline")),
}
