"""The examples that use no agent library."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from examples import a1_travel_assistant as a1
from examples import a2_reminder_assistant as a2
from examples import b12_typed_loop as b12
from examples import b13_travel_rollback as b13
from examples import b14_periodic_agent as b14
from examples import b17_notify_when_ready as b17
from examples import b18_evaluate_after as b18
from examples import c2_bank_agent as c2
from examples import d1_chaining as d1
from examples import d2_tool_routing as d2
from examples import d3_parallel_tools as d3
from examples import d4_specialist_routing as d4
from examples import d5_remote_routing as d5
from examples import d6_parallel_agents as d6
from examples import d7_orchestrator_workers as d7
from examples import d8_evaluator_optimizer as d8
from examples import d9_moderation as d9
from examples import d10_chat_session as d10
from examples import p1_payments as p1
from examples.offline import OfflineAdmin
from holdfast import AsyncClient
from tests.examples.survival import Act, Play, Seen

KEY = "ada"


def one(handler: Callable[..., Awaitable[Any]], *given: Any) -> Act:
    """One call of a handler."""

    async def act(client: AsyncClient) -> Any:
        return await client.call(handler, *given, id="it")

    return act


def talk(handler: Callable[..., Awaitable[Any]], *texts: str) -> Act:
    """Messages to an object, each after the answer to the one before."""

    async def act(client: AsyncClient) -> Any:
        return [await client.call(handler, text, key=KEY, id=text) for text in texts]

    return act


def state_of(name: str, key: str = KEY) -> Seen:
    async def seen(client: AsyncClient) -> Any:
        return await client.state(name, key)

    return seen


async def watch_denver(client: AsyncClient) -> None:
    await client.start(b14.look, "Look every 0.05 seconds, 3 times.", "Denver", key=KEY, id="it")


async def read_report(client: AsyncClient) -> Any:
    early = await client.start(b17.mail_when_ready, "early@example.com", key=KEY, id="early")
    report = await client.call(b17.write, "tides", key=KEY)
    late = await client.start(b17.mail_when_ready, "late@example.com", key=KEY, id="late")
    return report, await asyncio.gather(early.result(), late.result())


def nothing_is_booked(server: OfflineAdmin) -> None:
    assert "booked" not in server.bookings().values()
    assert server.cancelled() == sorted(server.cancelled(), key=lambda reference: reference[-1], reverse=True)


GOAL = "Plan three days in Rome for me."
SOON = "Remind me in 0.2 seconds to water the plants"
BANKING = ("How are my balance and my loans, and what did I spend?", c2.WISH, "And my balance and my loans now?")

PLAYS = {
    "a1": Play(a1.hf, one(a1.plan, GOAL), answers="120 euros, pasta"),
    "a1_generator": Play(a1.hf, one(a1.plan_as_generator, GOAL), answers="120 euros, pasta"),
    "a2": Play(a2.hf, one(a2.remind, SOON)),
    "a2_generator": Play(a2.hf, one(a2.remind_as_generator, SOON)),
    "b12": Play(b12.hf, one(b12.compare, b12.QUESTION)),
    "b13": Play(b13.hf, one(b13.arrange, b13.WISH), undone=nothing_is_booked),
    "b13_success": Play(b13.hf, one(b13.arrange, "I want to go to Rome, with a small car.")),
    "b14": Play(b14.hf, watch_denver, seen=state_of("Watches")),
    "b14_brief": Play(b14.hf, one(b14.brief, ["Denver", "Rome"], b14.READER)),
    "b17": Play(b17.hf, read_report),
    "b18": Play(b18.hf, one(b18.answer, b18.QUESTION), seen=state_of("Grades", b18.AGENT)),
    "c2": Play(c2.hf, talk(c2.message, *BANKING), answers=True, seen=state_of("Bank")),
    "d1": Play(d1.hf, one(d1.reply, d1.LETTER)),
    "d2": Play(d2.hf, one(d2.answer, d2.QUESTION)),
    "d3": Play(d3.hf, one(d3.advise, d3.QUESTION)),
    "d4": Play(d4.hf, one(d4.ask, d4.QUESTION)),
    "d5": Play(d5.hf, one(d5.ask, d5.QUESTION)),
    "d6": Play(d6.hf, one(d6.review, d6.IDEA)),
    "d7": Play(d7.hf, one(d7.compose, d7.TASK)),
    "d8": Play(d8.hf, one(d8.explain, d8.TASK)),
    "d9": Play(d9.hf, one(d9.moderate, d9.POST), answers=True),
    "p1": Play(p1.hf, one(p1.sell, 30)),
    "d10": Play(d10.hf, talk(d10.message, "My name is Ada.", "What is my name?"), seen=state_of("Chat")),
}
