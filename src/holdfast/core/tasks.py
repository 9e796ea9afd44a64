"""Futures and tasks whose hash is the order of their making.

asyncio and anyio keep tasks in sets and cancel them by walking those sets. A plain task hashes by address, which
differs in every process, so the walk would take another order on replay. Here the hash counts up from a base that
belongs to the invocation: every process walks the same way.

`Step` is a future that also passes for a coroutine, so `gather`, `wait_for`, `create_task` and `TaskGroup` all take
it as it is. The road not taken is a coroutine: it would start only when awaited, and cost a task in each `gather`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from holdfast.errors import Unreadable

if TYPE_CHECKING:
    from holdfast.core.commands import CallSpec, StepSpec
    from holdfast.core.loop import HandlerLoop

T = TypeVar("T")


class Future(asyncio.Future[T]):
    """A future of a handler's loop."""

    _order: int | None = None
    _loop: HandlerLoop

    def __hash__(self) -> int:
        # Given at the first hash: most futures never meet a set, and the first meeting comes in the same order in
        # every process, as everything else does.
        if self._order is None:
            self._order = self._loop.next_hash()
        return self._order

    def __eq__(self, other: object) -> bool:
        return self is other


class Branch:
    """A place in the tree of tasks: the prefix of the ids of all that is asked for there."""

    __slots__ = ("children", "counts", "path")

    def __init__(self, path: str) -> None:
        self.path = path  # "" for the handler itself, "2/" for its second task, "2.1/" for that one's first
        self.children = 0
        self.counts: dict[str, int] = {}

    def name(self, name: str) -> str:
        """The id of the next thing called `name` asked for in this branch."""
        count = self.counts.get(name, 0) + 1
        self.counts[name] = count
        return f"{self.path}{name}#{count}"

    def child(self) -> Branch:
        """The branch of the next task made here."""
        self.children += 1
        stem = self.path[:-1] + "." if self.path else ""
        return Branch(f"{stem}{self.children}/")


class Task(asyncio.Task[T]):
    """A task of a handler's loop."""

    _order: int | None = None
    _loop: HandlerLoop
    branch: Branch
    context: Context  # asyncio shows it from 3.12 on only

    def __hash__(self) -> int:
        if self._order is None:
            self._order = self._loop.next_hash()
        return self._order

    def __eq__(self, other: object) -> bool:
        return self is other


class Step(Future[T], Coroutine[Any, Any, T]):
    """The pending result of something durable: a step, a promise, an ask, a call, a signal. Await it, or give it to
    asyncio.

    It has begun already when you hold it. Cancelling it stops the step's body, or cancels the called invocation.
    """

    local: str  # its id within the invocation
    id: str  # the same, but a promise's is known everywhere, and another
    kind = "step"  # or "promise", "shared", "call", "attach", "signal"
    spec: StepSpec | CallSpec | None = None
    codec: Any
    answers: Any = None  # reads what somebody says came of a step, where that is not its result alone
    _iterator: Generator[Any, Any, T] | None = None

    __hash__ = Future.__hash__

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancels the wait and with it the body. False if it is done already."""
        if not super().cancel(msg):
            return False
        self._loop.host.abandon(self)
        return True

    def read(self, text: bytes, *, ok: bool) -> Any:
        """The value of a settlement, or the reason of a rejection, from its JSON text. Raises Unreadable."""
        if ok:
            return (self.answers or self.codec).decode(text)
        try:
            return msgspec.json.decode(text, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreadable(
                f"the reason {self.local!r} was rejected with does not decode: {error}",
                cause="the file is damaged",
                fix="check it with 'PRAGMA quick_check', or restore a backup",
            ) from None

    def expire(self) -> None:
        """Ends the wait with TimeoutError, if it is not done."""
        if not self.done():
            self._loop.host.abandon(self)
            self.set_exception(TimeoutError())

    def send(self, value: Any) -> Any:
        """As of a coroutine: lets a task drive this step."""
        return self._drive("send", value)

    def throw(self, *error: Any) -> Any:
        """As of a coroutine."""
        return self._drive("throw", *error)

    def close(self) -> None:
        """As of a coroutine."""
        self._iterator = None

    def _drive(self, by: str, *args: Any) -> Any:
        if self._iterator is None:
            self._iterator = self.__await__()
        try:
            return getattr(self._iterator, by)(*args)
        except BaseException:
            self._iterator = None  # it has ended; step and iterator would hold each other
            raise
