"""Waits for what the client gives no future for."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast import AsyncHandle


async def suspended(handle: AsyncHandle[Any]) -> None:
    """Until the invocation waits and its row says so."""
    while (await handle.status()).status != "suspended":  # noqa: ASYNC110  status is a row, not an event
        await asyncio.sleep(0.005)
