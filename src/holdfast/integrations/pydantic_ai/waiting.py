"""The library's waits for outside events, as promises: the token is the promise's id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pydantic import JsonValue
from pydantic_ai.durable_exec import ExternalEventError, ExternalEventWaiter

from holdfast import TerminalError, current
from holdfast.integrations._handlers import readable


class Promises(ExternalEventWaiter):
    """Waits durably, as the library's RequestInput wants it."""

    async def wait(
        self, name: str, *, ask: Callable[[str], Awaitable[JsonValue]], timeout: timedelta | None
    ) -> JsonValue:
        """Tells `ask` the promise's id, in a step, and waits for the promise unless the answer came at once."""
        ctx = current()
        known = readable(name)
        promise = ctx.promise(known)

        async def tell(token: str) -> Any:
            return await ask(token)

        answer: JsonValue = await ctx.run(tell, promise.id, name=readable(f"{known}: ask"))
        if answer is not None:
            promise.cancel()
            return answer
        try:
            async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
                settled: JsonValue = await promise
        except TimeoutError:
            raise ExternalEventError(f"nobody settled it within {timeout}") from None
        except TerminalError as rejected:
            raise ExternalEventError(str(rejected)) from None
        return settled
