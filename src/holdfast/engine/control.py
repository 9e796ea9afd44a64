"""What a person does to an invocation: cancel, kill, pause, resume, purge, signal; and to an object's state.

Promises: each returns once it is durable. Refuses: moves that the state table does not have. Second runs (retry,
restart, fork) are in reruns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import entries as records
from holdfast.core.commands import SetState
from holdfast.core.entries import Paused
from holdfast.core.ids import check_signal_name
from holdfast.core.invocation import Move, Status, move
from holdfast.core.state import check_name
from holdfast.engine.reasons import unread, was_queued
from holdfast.errors import BadArguments, Unreadable, WrongStatus
from holdfast.service import is_key
from holdfast.stores.base import InvocationRow, KeyRow

if TYPE_CHECKING:
    from holdfast.engine.engine import Engine

CHILDREN_MAX = 100_000  # that are looked at
PURGE_SLICE = 100  # invocations purged in one commit
MAIL_MAX = 1_000  # signals an invocation has not received yet, from those who can be refused


class Control:
    """Task control over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def cancel(self, id: str, reason: str) -> None:
        """Asks an invocation to end; its clean-up runs. Raises UnknownInvocation, WrongStatus, BadArguments."""
        engine = self._open("cancel", reason)
        row = await self._going(id)
        resident = engine.resident(row.n)
        told = False
        if resident is not None and resident.pausing:
            # Its bodies run still: they are stopped, and then it is as any other paused one.
            told = True
            if not resident.machine.cancelling:
                engine.driver.cancel(resident, reason)
            row = await self._going(id)
            resident = engine.resident(row.n)
        if resident is None and (engine.resting or row.status == Status.QUEUED or was_queued(row)):
            engine.links.ask_to_end(row, reason)
            await engine.durable()
            return
        # A paused one goes on, to clean up.
        resident = resident or engine.load_row(row)
        if resident is None or resident.pausing:
            raise WrongStatus(
                f"invocation {id!r} is paused and cannot run its clean-up",
                cause="its code and its journal do not fit, or a step's fault is not mended",
                fix="mend the cause and resume it first, or kill it",
            )
        ended = resident.status.ended and not told  # of itself, as it was brought back
        # A second one would break off the clean-up of the first.
        if not (told or ended or resident.machine.cancelling):
            engine.driver.cancel(resident, reason)
        await engine.durable()
        if ended:
            raise _over(id)

    async def kill(self, id: str, reason: str) -> None:
        """Ends an invocation at once, and those it called; no clean-up runs. Raises UnknownInvocation, WrongStatus,
        BadArguments."""
        engine = self._open("kill", reason)
        row = await self._going(id)
        killed = [row]
        self._kill(row, reason)
        while killed:  # those they called, once all of them are known
            await engine.durable()
            called = [(above, child) for above in killed for child in engine.rows.children(above.n, CHILDREN_MAX)]
            killed = []
            for above, child in called:
                if child.call is not None and not Status(child.status).ended:
                    self._kill(child, f"its caller {above.id!r} was killed: {reason}")
                    killed.append(child)
        await engine.durable()  # those that had just ended of themselves too

    async def pause(self, id: str, reason: str) -> None:
        """Stops an invocation until it is resumed; bodies that run may finish and are recorded. Raises
        UnknownInvocation, WrongStatus, BadArguments."""
        engine = self._open("pause", reason)
        row = await self._going(id)
        if row.status == Status.PAUSED:
            raise WrongStatus(f"invocation {id!r} is paused already", fix="resume it to let it go on")
        why = Paused("HF505", reason, engine.clock.now())
        resident = engine.resident(row.n)
        if resident is None:
            engine.rows.pause(row, why)
        else:
            engine.driver.pause(resident, why)
        await engine.durable()

    async def resume(self, id: str) -> None:
        """Lets a paused invocation go on. Raises UnknownInvocation, WrongStatus, Unreadable."""
        engine = self._open()
        row = await engine.known(id)
        resident = engine.resident(row.n)
        move(Status(row.status) if resident is None else resident.status, Move.RESUME, id)
        if resident is not None:
            raise WrongStatus(
                f"invocation {id!r} still waits for a body that runs", fix="resume it again when that has ended"
            )
        if engine.resting or was_queued(row):
            engine.rows.resume(row)
        else:
            engine.load_row(row)
        await engine.durable()

    async def purge(self, id: str) -> None:
        """Deletes an ended invocation with its journal. Its id is free again. Raises UnknownInvocation, WrongStatus."""
        engine = self._open()
        row = await engine.known(id)
        workflow = engine.rows.workflow_of(row)
        while workflow is not None and engine.links.is_shared(workflow):
            row = await engine.known(id)
        if not Status(row.status).ended or engine.resident(row.n) is not None:
            raise WrongStatus(f"invocation {id!r} has not ended", fix="cancel or kill it first")
        parent = None if row.parent is None else engine.rows.get(row.parent)
        if parent is not None and not Status(parent.status).ended:
            raise WrongStatus(
                f"invocation {id!r} was called by {parent.id!r}, which has not ended and may need its result",
                fix="purge it when the caller has ended",
            )
        waiting = [other.id for n in engine.store.waiters(id) if (other := self._who_needs(id, n)) is not None]
        if waiting:
            raise WrongStatus(
                f"invocation {id!r} is attached to by {waiting[0]!r}, which has not ended and may need its result",
                fix="purge it when that one has ended",
            )
        beside = None if workflow is None else self._going_on(workflow)
        if beside is not None:
            raise WrongStatus(
                f"invocation {id!r} is a workflow's, and {beside!r} of the same key has not ended",
                fix="purge it when that one has ended",
            )
        engine.rows.purge(row)
        await engine.durable()
        await self._give_back()

    async def purge_ended(self, until: int) -> int:
        """Deletes what ended at a moment (milliseconds) or before, slice by slice; how many there were."""
        engine = self._open()
        count = 0
        while True:
            due = [row for n in engine.store.ended_before(until + 1, PURGE_SLICE) if (row := self._to_purge(n))]
            if not due:
                await self._give_back()
                return count
            for row in due:
                engine.rows.purge(row)
            await engine.durable()
            count += len(due)

    async def signal(self, id: str, name: str, text: bytes) -> None:
        """Sends a named message. Raises UnknownInvocation, WrongStatus, TooMany, BadArguments when it does not fit who
        waits for it."""
        engine = self._open()
        check_signal_name(name)
        row = await self._going(id)
        resident = engine.bring_back(row.n)
        if resident is not None and resident.status.ended:  # as it was brought back
            await engine.durable()
            raise _over(id)
        receiver = None if resident is None else resident.machine.mailbox.receiver(name)
        letters = engine.rows.unheard(row) if resident is None else resident.machine.mailbox.count
        if receiver is not None:
            try:
                receiver.codec.decode(text)
            except Unreadable as error:
                raise BadArguments(
                    f"the value does not fit signal {name!r} of {id!r}", cause=error.what, fix="send another value"
                ) from None
        elif letters >= MAIL_MAX:
            raise unread(id, letters, "send them later, or receive them in the handler")
        engine.links.post(row, name, text)
        await engine.durable()

    async def set_state(self, service: str, key: str, name: str, text: bytes | None) -> None:
        """Writes or removes a value of an object from outside. Raises WrongStatus while a handler of the key that may
        write has not ended, or when the name is a list's; BadArguments."""
        engine = self._open()
        check_name(name)
        if not service or not is_key(key):
            raise BadArguments(f"{key!r:.60} of {service!r:.60} is no key", fix="give 1 to 200 printable characters")
        await engine.durable()
        lock = f"{service}/{key}"
        holder = engine.gates.holder(lock)
        if holder is not None:
            row = engine.rows.get(holder)
            raise WrongStatus(
                f"{lock} is being written by {'?' if row is None else row.id!r}",
                fix="wait for it to end, or change the state in a handler",
            )
        state = engine.driver.state_of(service, key)
        if state.is_list(name) and text is not None:
            raise WrongStatus(f"state {name!r} of {lock} is a list", fix="clear it first")
        batch = engine.committer.batch
        state.write(batch, SetState(name, text))
        state.trim(batch, name)
        engine.gates.borrow(lock)
        await engine.durable()

    def _who_needs(self, id: str, n: int) -> InvocationRow | None:
        """One that was attached to an invocation that has ended, if it may not have been told yet."""
        row, resident = self._engine.rows.get(n), self._engine.resident(n)
        if row is None or Status(row.status).ended:
            return None
        if resident is None or resident.pausing:
            return None if row.status == Status.SUSPENDED else row  # the end has woken it, and it was told
        return row if any(step.id == id for step in resident.machine.waiting.values()) else None

    async def _give_back(self) -> None:
        """Makes the file smaller now: who purges at rest leaves at once, and nobody is idle after it."""
        if self._engine.resting:
            await self._engine.committer.tidy()

    def _to_purge(self, n: int) -> InvocationRow | None:
        """One that has ended, unless something is done to it just now."""
        engine = self._engine
        row = None if engine.resident(n) is not None or engine.rows.is_open(n) else engine.rows.read(n)
        workflow = None if row is None else engine.rows.workflow_of(row)
        return None if workflow is not None and engine.links.is_shared(workflow) else row

    def _going_on(self, workflow: KeyRow) -> str | None:
        """The id of one of a workflow's key that has not ended."""
        store, (service, key) = self._engine.store, workflow
        for status in Status:
            rows = [] if status.ended else store.list(status=status, target=f"{service}/", key=key, limit=1)
            if rows:
                return rows[0].id
        return None

    async def _going(self, id: str) -> InvocationRow:
        """The invocation as it stands, which has not ended. Raises UnknownInvocation, WrongStatus."""
        engine = self._engine
        while True:
            row = await engine.known(id)
            resident = engine.resident(row.n)
            if resident is None or not resident.status.ended:
                break  # else its end is not durable yet
        row = engine.rows.get(row.n) or row
        if Status(row.status).ended:
            raise _over(id)
        return row

    def _kill(self, row: InvocationRow, reason: str) -> None:
        engine = self._engine
        outcome = records.Cancelled(f"killed: {reason}")
        resident = engine.resident(row.n)
        if resident is None:
            engine.rows.end(row, Move.KILL, outcome)
        elif not resident.status.ended:
            engine.driver.end(resident, Move.KILL, outcome)
            resident.machine.evict()

    def _open(self, what: str = "", reason: str = "") -> Engine:
        self._engine.check_open()
        given: object = reason
        if not isinstance(given, str):
            raise BadArguments(f"the reason of a {what} is {type(reason).__name__}", fix="give a text, or leave it out")
        return self._engine


def _over(id: str) -> WrongStatus:
    return WrongStatus(f"invocation {id!r} has ended already", fix="there is nothing to do; restart it for a new run")
