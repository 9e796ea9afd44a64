"""The corpus, second part: handlers that use anyio, as the agent SDKs and their HTTP clients do."""

import asyncio
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import sniffio

from holdfast.core import patches
from holdfast.errors import StepFailed
from tests.core.case import Ctx, cancellable, shape
from tests.core.shapes import double, echo, fail

patches.install()  # again: anyio is here only now


@shape
async def anyio_task_group(ctx: Ctx) -> Any:
    log: list[Any] = []

    async def child(n: int) -> None:
        await anyio.sleep(n)
        log.append(await ctx.run(echo, n))

    async with anyio.create_task_group() as group:
        for n in range(4):
            group.start_soon(child, n)
        group.start_soon(ctx.run, echo, "bare")
    return log


@shape
async def anyio_group_with_a_failing_child(ctx: Ctx) -> Any:
    async def child(n: int) -> None:
        try:
            await ctx.run(echo, n)
            await anyio.Event().wait()
        finally:
            ctx.note(f"clean {n}")
            with anyio.CancelScope(shield=True):
                await ctx.run(echo, f"cleaned {n}")

    async def doomed() -> None:
        await ctx.run(fail, "down")

    try:
        async with anyio.create_task_group() as group:
            for n in range(6):
                group.start_soon(child, n)
            group.start_soon(doomed)
    except* StepFailed as errors:
        failed = [str(one) for one in errors.exceptions]
    return failed


@shape
async def anyio_scopes_under_a_cancelled_scope(ctx: Ctx) -> Any:
    """A scope cancels its child scopes by walking a set of them."""

    async def child(n: int) -> None:
        try:
            with anyio.CancelScope():
                await ctx.run(echo, n)
                await ctx.promise("go")
        finally:
            ctx.note(f"out {n}")
            with anyio.CancelScope(shield=True):
                await ctx.run(echo, f"out {n}")

    async with anyio.create_task_group() as group:
        for n in range(8):
            group.start_soon(child, n)
        await ctx.run(echo, "enough")
        group.cancel_scope.cancel()
    return "done"


@shape
async def anyio_move_on_after(ctx: Ctx) -> Any:
    seen = []
    for n in range(3):
        with anyio.move_on_after(2) as scope:
            seen.append(await ctx.run(echo, n))
            await anyio.sleep(1)
        seen.append(scope.cancelled_caught)
    return seen


@shape
async def anyio_fail_after(ctx: Ctx) -> Any:
    try:
        with anyio.fail_after(3):
            with anyio.fail_after(60):
                await ctx.run(echo, 1)
            await ctx.promise("answer")
    except TimeoutError:
        return await ctx.run(echo, "late")
    return "in time"


@shape
async def anyio_shield(ctx: Ctx) -> Any:
    log = []
    with anyio.move_on_after(1):
        try:
            await ctx.run(echo, "open")
            await ctx.promise("go")
        finally:
            with anyio.CancelScope(shield=True):
                log.append(await ctx.run(echo, "close"))
                await anyio.sleep(5)
                log.append(await ctx.run(double, 4))
    return log


@shape
async def anyio_streams(ctx: Ctx) -> Any:
    send, receive = anyio.create_memory_object_stream[Any](1)
    saved = []

    async def producer(n: int, out: Any) -> None:
        async with out:
            for k in range(2):
                await out.send(await ctx.run(echo, 10 * n + k))

    async with anyio.create_task_group() as group, receive:
        for n in range(3):
            group.start_soon(producer, n, send.clone())
        send.close()
        saved += [await ctx.run(echo, thing, name="save") async for thing in receive]
    return saved


@shape
async def anyio_threads(ctx: Ctx) -> Any:
    async def one(n: int) -> None:
        log.append(await anyio.to_thread.run_sync(double, n))

    log: list[Any] = []
    async with anyio.create_task_group() as group:
        for n in range(3):
            group.start_soon(one, n)
    return [log, await anyio.to_thread.run_sync(echo, "last", abandon_on_cancel=True)]


@shape
async def anyio_which_library(ctx: Ctx) -> Any:
    name = sniffio.current_async_library()
    return [name, await ctx.run(echo, name), anyio.get_current_task().name]


@shape
async def anyio_locks(ctx: Ctx) -> Any:
    lock, few, log = anyio.Lock(), anyio.CapacityLimiter(2), []
    opened, full = anyio.Event(), anyio.Condition()

    async def worker(n: int) -> None:
        async with few:
            await ctx.run(echo, n)
        await opened.wait()
        async with lock:
            log.append(await ctx.run(echo, 10 * n))
        async with full:
            full.notify_all()

    async with anyio.create_task_group() as group:
        for n in range(4):
            group.start_soon(worker, n)
        await ctx.run(echo, "key")
        opened.set()
        async with full:
            while len(log) < 4:
                await full.wait()
    return log


@shape
async def anyio_start(ctx: Ctx) -> Any:
    async def server(n: int, *, task_status: anyio.abc.TaskStatus[Any]) -> None:
        task_status.started(await ctx.run(echo, n))
        try:
            await anyio.sleep_until(anyio.current_time() + 1000)
        finally:
            ctx.note(f"stops {n}")

    async with anyio.create_task_group() as group:
        ports = [await group.start(server, n) for n in range(3)]
        await ctx.run(echo, ports)
        group.cancel_scope.cancel()
    return ports


@shape
async def anyio_cancel_swallowed(ctx: Ctx) -> Any:
    """anyio cancels a scope again on every turn until its tasks have ended; this one will not end before its steps."""

    async def stubborn() -> None:
        left = 3
        while left:
            try:
                await ctx.run(echo, left)
                left -= 1
            except asyncio.CancelledError:
                swallowed.append(1)

    swallowed: list[int] = []
    async with anyio.create_task_group() as group:
        group.start_soon(stubborn)
        await ctx.run(echo, "enough")
        group.cancel_scope.cancel()
    return len(swallowed)


@shape
async def anyio_many_scopes_cancelled(ctx: Ctx) -> Any:
    """More cancelled scopes in one turn than one scope may have retries: each is fine by itself, and none waits."""
    begun = anyio.current_time()
    await ctx.run(echo, 1)
    then = anyio.current_time()
    for rounds in (1, 3):
        for _ in range(60):
            with anyio.CancelScope() as scope:
                scope.cancel()
                for _ in range(rounds):
                    try:
                        await anyio.sleep(1)
                    except asyncio.CancelledError:
                        if rounds == 1:
                            raise
                        await asyncio.sleep(0)
    return [anyio.current_time() - then, begun <= then]


@cancellable
async def anyio_cancelled_from_outside(ctx: Ctx) -> Any:
    async def child(n: int) -> None:
        try:
            await ctx.run(echo, n)
            await ctx.promise("go")
        finally:
            with anyio.CancelScope(shield=True):
                await ctx.run(echo, f"undo {n}")

    async with anyio.create_task_group() as group:
        for n in range(3):
            group.start_soon(child, n)
    return "done"
