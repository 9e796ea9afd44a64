"""Lives of an example: begun over one store again and again, each ended by a death, a cancel or the end of the play.

A play is what a user does with an example: start it, answer it, ask it. It is acted anew in every life, so whatever it
starts has an id. What the services are asked is counted by the services; what bodies run, where a body is begun.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from examples.offline import OfflineAdmin
from holdfast import (
    AlreadySettled,
    AsyncClient,
    EngineStopped,
    Holdfast,
    InvocationCancelled,
    InvocationFailed,
    MemoryStore,
    StoreError,
    TerminalError,
    WrongStatus,
)
from holdfast.core import entries
from holdfast.engine.effects import Body
from holdfast.stores.base import Store
from tests.engine.lives import DEAD, Held

POLL_SECONDS = 0.01
ENDED = {"done", "failed", "cancelled"}
Act = Callable[[AsyncClient], Awaitable[Any]]
Seen = Callable[[AsyncClient], Awaitable[Any]]
Beside = Callable[[AsyncClient], Coroutine[Any, Any, None]]
Bodies = Counter[tuple[str, str]]  # (invocation, step): how many times its body was begun


async def nothing_more(_: AsyncClient) -> Any:
    return None


def never_mind(_: OfflineAdmin) -> None:
    """For examples that leave nothing behind outside."""


@dataclass(frozen=True)
class Play:
    """An example and its user.

    act: what the user does, and what comes of it. Acted in every life: what it starts is started by id. It may raise
    what a run may end in.
    answers: what a person says to each question; None, if nobody says anything.
    seen: what there is to see when all has ended, beside what `act` gave; the same in every history.
    undone: looks at the services after a cancel, and asserts that what was done there was undone.
    """

    hf: Holdfast
    act: Act
    answers: Any = None
    seen: Seen = nothing_more
    undone: Callable[[OfflineAdmin], None] = never_mind


@dataclass
class History:
    """One example over one store, from its first life to its end, and what the services saw of it."""

    play: Play
    server: OfflineAdmin
    store: Store = field(default_factory=MemoryStore)
    life: Held = field(init=False)  # the store as the present life has it, or the last one had
    bodies: Bodies = field(init=False)  # begun in that life

    @contextlib.asynccontextmanager
    async def opened(self, *, resting: bool = False, dies_at: int = 0, keeps_last: bool = False) -> Any:
        """A life of the program, or a look at its store while it is down."""
        hf, own = self.play.hf, self.play.hf._store
        self.life = hf._store = Held(self.store)
        self.life.dies_at, self.life.keeps_last = dies_at, keeps_last
        try:
            async with hf.resting() if resting else hf as client:
                yield client
        finally:
            hf._store = own

    async def live(self, *, beside: Beside | None = None, answers: bool = True, **death: Any) -> Any:
        """One life, to the end of the play unless it dies before; what was seen. `beside` is done meanwhile, and by
        `answers` the person at the inbox. Raises StoreError, EngineStopped when it dies."""
        recorded = self.recorded()
        with begun_bodies() as self.bodies:
            async with self.opened(**death) as client:
                others = [asyncio.create_task(beside(client))] if beside else []
                if answers and self.play.answers is not None:
                    others.append(asyncio.create_task(answer_all(client, self.play.answers)))
                try:
                    ended = await outcome(self.play.act(client))
                    await rest(client)
                    return ended, await self.play.seen(client), sorted(self.server.outbox()), self.server.bookings()
                finally:
                    await put_away(others)
                    again = recorded & self.bodies.keys()
                    assert not again, f"what was recorded ran again: {again}"

    async def die(self, at: int, *, keeps_last: bool = False) -> bool:
        """A life that ends at that commit. False if the play was over before."""
        try:
            await self.live(dies_at=at, keeps_last=keeps_last)
        except (StoreError, EngineStopped):
            return True
        return False

    async def die_at_a_question(self) -> bool:
        """A life in which nobody answers, and that ends when somebody should. False if nobody has to."""

        async def beside(client: AsyncClient) -> None:
            while not await client.asks():
                await asyncio.sleep(POLL_SECONDS)
            self.life.dead = True
            client._engine.fail(DEAD)

        try:
            await self.live(beside=beside, answers=False)
        except (StoreError, EngineStopped):
            return True
        return False

    def recorded(self) -> set[tuple[str, str]]:
        """The steps whose end is in a journal: their bodies must never be begun again."""
        self.store.open()
        try:
            return {
                (row.id, entry.step)
                for row in self.store.list(limit=1000)
                for entry in map(entries.decode_entry, self.store.entries(row.n))
                if isinstance(entry, entries.StepCompleted | entries.StepErrored)
            }
        finally:
            self.store.close()

    def requests(self) -> Counter[str]:
        """What the services were asked, by path."""
        return Counter(request.path for request in self.server.requests())


async def outcome(acting: Awaitable[Any]) -> Any:
    """What came of it, a failure as text."""
    try:
        return await acting
    except (TerminalError, InvocationFailed, InvocationCancelled) as ended:
        return f"{type(ended).__name__}: {ended}"


async def answer_all(client: AsyncClient, value: Any) -> None:
    """The person at the inbox."""
    while True:
        for ask in await client.asks():
            with contextlib.suppress(AlreadySettled):  # withdrawn by a cancel meanwhile
                await client.answer(ask.id, value)
        await asyncio.sleep(POLL_SECONDS)


async def put_away(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels them. Raises what one of them failed with, but that the engine is gone."""
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, StoreError, EngineStopped):
            await task


async def unfinished(client: AsyncClient) -> list[Any]:
    return [row for row in await client.list(limit=1000) if row.status not in ENDED]


async def rest(client: AsyncClient) -> None:
    """Waits until nothing is left to do, detached work too. Raises StoreError when the engine dies meanwhile."""
    while await unfinished(client):
        if client._engine.failure is not None:
            raise client._engine.failure
        await asyncio.sleep(POLL_SECONDS)


async def cancel_all(client: AsyncClient) -> None:
    """Cancels whatever nobody else has called."""
    for row in await unfinished(client):
        if row.parent is None:
            with contextlib.suppress(WrongStatus):
                await client.cancel(row.id)


@contextlib.contextmanager
def begun_bodies() -> Iterator[Bodies]:
    """Counts the attempts of all bodies."""
    begun: Bodies = Counter()
    attempt = Body._try

    def counted(body: Body) -> None:
        begun[body.resident.id, body.step] += 1
        attempt(body)

    Body._try = counted
    try:
        yield begun
    finally:
        Body._try = attempt
