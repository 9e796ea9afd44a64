"""A conversation in the state of an object's key.

Promises: what is said is committed with the steps that led to it, and a turn costs the same however long the
conversation is. Refuses: to be kept by a handler without a key; the SDK's SQLiteSession.
"""

from __future__ import annotations

from typing import Any

from agents.memory import SessionABC, SessionSettings, SQLiteSession

from holdfast import BadArguments, ObjectContext, current


class DurableSession(SessionABC):
    """The SDK's session, kept as a list of the object's state."""

    session_settings: SessionSettings | None = None

    def __init__(self, name: str = "conversation") -> None:
        """`name` is that of the list in the state. Raises BadArguments in a handler that has no key, WrongPlace outside
        a handler."""
        ctx = current()
        if not isinstance(ctx, ObjectContext):
            raise BadArguments(
                "a session needs the state of a key, and this handler has none",
                cause="it is a service's",
                fix="make it a handler of an Object, whose key is the session's id",
            )
        self._ctx = ctx
        self._name = name
        self.session_id = ctx.key

    async def get_items(self, limit: int | None = None) -> list[Any]:
        items = self._ctx.items(self._name)
        return items if limit is None else items[max(0, len(items) - limit) :]

    async def add_items(self, items: list[Any]) -> None:
        for item in items:
            self._ctx.append(self._name, item, Any)

    async def pop_item(self) -> Any:
        """Rewrites the list, whose elements are only ever added: the SDK does it after a failure, not in each turn."""
        items = self._ctx.items(self._name)
        if not items:
            return None
        self._ctx.clear(self._name)
        await self.add_items(items[:-1])
        return items[-1]

    async def clear_session(self) -> None:
        self._ctx.clear(self._name)


def check(session: Any) -> None:
    """Raises BadArguments for a session that would not survive what its handler survives."""
    if isinstance(session, SQLiteSession):
        raise BadArguments(
            "an SQLiteSession was given to a run in a handler",
            cause="it writes past the journal: what is said may be in it twice after a crash, or gone when in memory",
            fix="give session=DurableSession(), in a handler of an Object",
        )
