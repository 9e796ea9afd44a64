"""The examples that use no agent library."""

from __future__ import annotations

from typing import Any

from examples import b13_travel_rollback as b13
from examples import d1_chaining as d1
from examples import d9_moderation as d9
from examples.offline import OfflineAdmin
from holdfast import AsyncClient
from tests.examples.survival import Play


async def chain(client: AsyncClient) -> Any:
    return await client.call(d1.reply, d1.LETTER, id="letter")


async def moderate(client: AsyncClient) -> Any:
    return await client.call(d9.moderate, d9.POST, id="post")


async def travel(client: AsyncClient) -> Any:
    return await client.call(b13.arrange, b13.WISH, id="trip")


def nothing_is_booked(server: OfflineAdmin) -> None:
    assert "booked" not in server.bookings().values()
    assert server.cancelled() == sorted(server.cancelled(), key=lambda reference: reference[-1], reverse=True)


PLAYS = {
    "b13": Play(b13.hf, travel, undone=nothing_is_booked),
    "d1": Play(d1.hf, chain),
    "d9": Play(d9.hf, moderate, answers=True),
}
