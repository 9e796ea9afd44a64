"""Generator handlers on the same loop: `reply = yield ctx.run(ask, question)` means what `await` means."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from holdfast.errors import BadHandler

R = TypeVar("R")


async def drive(generator: Generator[Any, Any, R]) -> R:
    """Awaits everything the generator yields and sends back the result or throws the error; returns what it returns.

    Raises BadHandler into the generator when it yields something that cannot be awaited.
    """
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                wanted = generator.send(value) if error is None else generator.throw(error)
            except StopIteration as stop:
                result: R = stop.value
                return result
            value = error = None
            try:
                value = await _awaitable(wanted, generator)
            except BaseException as raised:  # noqa: BLE001  # cancellation too belongs to the generator's try blocks
                error = raised
    finally:
        error = None  # its traceback holds this frame, and this frame it


def _awaitable(wanted: Any, generator: Generator[Any, Any, Any]) -> Awaitable[Any]:
    if isinstance(wanted, Awaitable):
        return wanted
    raise BadHandler(
        f"{_name(generator)} yielded {type(wanted).__name__}, which cannot be awaited",
        cause="a generator handler yields what ctx.run, ctx.ask or asyncio.sleep give",
        fix="write `value = yield ctx.run(function, ...)`",
    )


def _name(generator: Generator[Any, Any, Any]) -> str:
    return getattr(generator, "__qualname__", "the generator handler")
