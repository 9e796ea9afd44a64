"""Promises and asks settled from outside.

Promises: what is settled never changes (G6), and of many answers at once one counts; a value that does not fit is
refused while somebody who knows its type is there to say so. Refuses: to tell what a promise is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import entries as records
from holdfast.core.invocation import Status
from holdfast.core.payload import INLINE
from holdfast.engine import rehearsal
from holdfast.errors import AlreadySettled, BadArguments, UnknownPromise, Unreadable
from holdfast.stores.base import PromiseRow, SettleRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

SHOWN_BYTES = 100  # of a refused value
WITHDRAWN = 3  # PromiseRow.status


class Settling:
    """The one way a promise gets its value."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._under_way: set[str] = set()

    def is_under_way(self, id: str) -> bool:
        """Whether a settlement is not durable yet."""
        return id in self._under_way

    async def settle(self, id: str, text: bytes, *, ok: bool) -> None:
        """Resolves (`text` is the value's JSON) or rejects (the reason's) a promise; returns once it is durable.

        Raises UnknownPromise, AlreadySettled, BadArguments, StoreError, EngineStopped; UnknownHandler or WrongStatus
        when the code that waits for it is not there, so that nobody can tell whether the value fits.
        """
        row = self._open(id)
        try:
            wanted = await self._deliver(row, text, ok=ok)
        except Unreadable as error:
            info = records.decode_info(row.about)
            raise BadArguments(
                f"the value {text[:SHOWN_BYTES].decode(errors='replace')} does not fit promise {id!r}",
                cause=error.what.replace("the stored JSON", "it"),
                fix=f"send JSON of this schema: {info.schema}",
            ) from None
        if not wanted:
            raise _settled_already(id, "nobody waits for it any more")
        await self._engine.durable()

    async def _deliver(self, row: PromiseRow, text: bytes, *, ok: bool) -> bool:
        engine = self._engine
        if not row.n:
            for waiter in engine.links.shared_waiters(row.id):
                for step in waiter.machine.waiting.values():
                    if step.id == row.id:
                        step.read(text, ok=ok)
            return engine.links.settle_shared(row.id, text, ok)
        local = records.decode_info(row.about).step
        resident = engine.resident(row.n)
        if resident is None:
            await engine.quiet(row.n)
            self._open(row.id)
            resident = engine.bring_back(row.n)
        if resident is not None and resident.pausing and not resident.busy:
            await engine.durable()  # its pause is being written; then it is as any other paused one
            return await self._deliver(self._open(row.id), text, ok=ok)
        if resident is not None:
            # A paused one too, while its bodies run: they and this are one line of history.
            waits = resident.machine.waiting.get(local)
            wanted = waits is not None and waits.id == row.id
            if wanted:
                engine.driver.settle(resident, local, text, ok=ok)
        else:
            wanted = self._wanted_by_row(row, text, ok=ok)
        if wanted:
            engine.committer.batch.settles.append(SettleRow(row.id, 1 if ok else 2, engine.clock.now(), INLINE + text))
            self._under_way.add(row.id)
            engine.committer.after(self._under_way.discard, row.id)
        return wanted

    def _wanted_by_row(self, row: PromiseRow, text: bytes, *, ok: bool) -> bool:
        engine = self._engine
        invocation = engine.rows.get(row.n)
        if invocation is None or Status(invocation.status).ended:
            return False
        if engine.resting and engine.handler_of(invocation.target) is None:
            fits = True  # its type is not known here: what does not fit pauses it when it is loaded
        else:
            # Asked of a copy: a value that does not fit would be found at the resume only, when it is too late.
            fits = rehearsal.waits_for(engine.driver, invocation, engine.handler(invocation.target), row, text, ok=ok)
        if fits:
            engine.rows.touch(invocation)
            engine.rows.wake(row.n)
        return fits

    def _open(self, id: str) -> PromiseRow:
        row = self._engine.links.shared(id)
        if row is None:
            raise UnknownPromise(f"no promise has the id {id!r}", fix="check the id, or list the open questions")
        if row.status == WITHDRAWN:
            raise _settled_already(id, "it was withdrawn: its deadline passed, or the invocation has ended")
        if row.status or id in self._under_way:
            raise _settled_already(id, "someone settled it before")
        return row


def _settled_already(id: str, why: str) -> AlreadySettled:
    return AlreadySettled(f"promise {id!r} cannot be settled", cause=why, fix="nothing: its value never changes")
