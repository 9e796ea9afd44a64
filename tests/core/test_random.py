"""Handlers made up at random from everything at once: what no shape of the corpus thought of."""

import asyncio
from contextlib import aclosing, suppress
from random import Random
from typing import Any

import anyio
import pytest

from holdfast.core import patches
from holdfast.errors import StepFailed
from tests.core.case import Ctx, Shape, crash_everywhere, die_often, live
from tests.core.shapes import echo, fail

patches.install()

PROGRAMS = 120
CAUGHT = (StepFailed, TimeoutError, asyncio.CancelledError, ExceptionGroup)


def program(seed: int) -> Shape:
    """A handler that is the same in every life of the seed: its choices come from its own generator, by place."""

    async def handler(ctx: Ctx) -> Any:
        world = World(ctx)
        await world.body(Random(seed), depth=3)
        return world.log

    return handler


class World:
    """What the parts of one program share."""

    def __init__(self, ctx: Ctx) -> None:
        self.ctx = ctx
        self.log: list[Any] = []
        self.event = asyncio.Event()
        self.queue: asyncio.Queue[int] = asyncio.Queue()
        self.lock = asyncio.Lock()

    async def body(self, rng: Random, depth: int) -> None:
        moves = [self.step, self.step, self.failing, self.nap, self.flag, self.locked, self.threaded]
        if depth:
            moves += [
                self.gathered, self.grouped, self.timed, self.waited, self.raced, self.completed, self.streamed,
                self.cleaned, self.left, self.shielded, self.anyio_group, self.anyio_timed, self.cancelled,
            ]  # fmt: skip
        for _ in range(rng.randrange(1, 4)):
            part = Random(rng.random())  # its own: what it draws must not depend on what runs beside it
            await rng.choice(moves)(part, depth - 1)

    def bodies(self, rng: Random, depth: int) -> list[Any]:
        return [self.body(Random(rng.random()), depth) for _ in range(rng.randrange(2, 4))]

    async def step(self, rng: Random, depth: int) -> None:
        self.log.append(await self.ctx.run(echo, rng.randrange(100), name=rng.choice("ab")))

    async def failing(self, rng: Random, depth: int) -> None:
        if rng.random() < 0.3:
            await self.ctx.run(fail, "down")

    async def nap(self, rng: Random, depth: int) -> None:
        await asyncio.sleep(rng.choice((0, 0.001, 1, 1, 5)))

    async def flag(self, rng: Random, depth: int) -> None:
        self.event.set() if rng.random() < 0.5 else self.queue.put_nowait(len(self.log))
        with suppress(asyncio.QueueEmpty):
            self.log.append(self.queue.get_nowait())

    async def locked(self, rng: Random, depth: int) -> None:
        async with self.lock:
            self.log.append(await self.ctx.run(echo, rng.randrange(100), name="locked"))

    async def threaded(self, rng: Random, depth: int) -> None:
        self.log.append(await asyncio.to_thread(echo, rng.randrange(100)))

    async def gathered(self, rng: Random, depth: int) -> None:
        await asyncio.gather(*self.bodies(rng, depth), return_exceptions=rng.random() < 0.5)

    async def grouped(self, rng: Random, depth: int) -> None:
        async with asyncio.TaskGroup() as group:
            for body in self.bodies(rng, depth):
                group.create_task(body)

    async def timed(self, rng: Random, depth: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.choice((0, 1, 2))):
                await self.body(rng, depth)

    async def waited(self, rng: Random, depth: int) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.body(rng, depth), rng.choice((1, 3)))

    async def raced(self, rng: Random, depth: int) -> None:
        tasks = [asyncio.create_task(body) for body in self.bodies(rng, depth)]
        done, pending = await asyncio.wait(tasks, timeout=9, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        self.log.append(len(done))
        await asyncio.gather(*tasks, return_exceptions=True)

    async def completed(self, rng: Random, depth: int) -> None:
        for ready in asyncio.as_completed(self.bodies(rng, depth)):
            with suppress(*CAUGHT):
                await ready
            self.log.append(await self.ctx.run(echo, len(self.log), name="save"))

    async def streamed(self, rng: Random, depth: int) -> None:
        async def pages() -> Any:
            try:
                for n in range(4):
                    yield await self.ctx.run(echo, n, name="page")
            finally:
                await self.ctx.run(echo, "closed")

        stop = rng.randrange(5)
        if rng.random() < 0.5:
            async with aclosing(pages()) as source:
                async for page in source:
                    self.log.append(page)
                    if page == stop:
                        break
        else:
            async for page in pages():
                if page == stop:
                    break
        await self.body(rng, depth)

    async def cleaned(self, rng: Random, depth: int) -> None:
        try:
            await self.body(rng, depth)
        except CAUGHT as error:
            self.log.append(type(error).__name__)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            await self.ctx.run(echo, "undo")

    async def left(self, rng: Random, depth: int) -> None:
        task = asyncio.create_task(self.body(rng, depth))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.ctx.run(echo, "left")

    async def shielded(self, rng: Random, depth: int) -> None:
        inner = asyncio.ensure_future(self.body(rng, depth))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(inner), 1)
        await inner

    async def anyio_group(self, rng: Random, depth: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(self.body, Random(rng.random()), depth)
            if rng.random() < 0.3:
                await self.step(rng, depth)
                group.cancel_scope.cancel()

    async def anyio_timed(self, rng: Random, depth: int) -> None:
        with anyio.move_on_after(rng.choice((0, 1, 2.049))) as scope:
            await self.body(rng, depth)
            with anyio.CancelScope(shield=True):
                await self.step(rng, depth)
        self.log.append(scope.cancelled_caught)

    async def cancelled(self, rng: Random, depth: int) -> None:
        task = asyncio.create_task(self.body(rng, depth))
        await self.step(rng, depth)
        task.cancel()
        with suppress(*CAUGHT):
            await task


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_a_random_handler_replays_from_every_crash(seed: int, logs: pytest.LogCaptureFixture) -> None:
    shape = program(seed)
    for order in (1, 2):
        assert crash_everywhere(shape, live(shape, order, cancel=order == 2)) == []
    die_often(shape, seed)
    # Some leave a failed task behind that nobody awaits: asyncio's to complain about, once.
    assert {record.getMessage() for record in logs.records} <= {"Task exception was never retrieved"}
