"""What people and programs outside do: start, start again, wait, lose patience, settle twice, cancel, resume, look.

They know what a client can know: ids, promises they were mailed, and answers. Every answer goes into the history. An
error is fine when the faults of the seed explain it; any other is a breach.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from random import Random
from typing import TYPE_CHECKING, Any

from holdfast.client import AsyncClient, AsyncHandle
from holdfast.core.invocation import Status
from holdfast.engine.starts import idempotent_id
from holdfast.errors import (
    AlreadySettled,
    BadArguments,
    EngineStopped,
    HoldfastError,
    IdConflict,
    InvocationCancelled,
    InvocationFailed,
    InvocationPaused,
    StoreError,
    TerminalError,
    UnknownHandler,
    UnknownInvocation,
    UnknownPromise,
    Unreadable,
    WrongStatus,
)  # fmt: skip
from holdfast.views import AskView
from tests.sim.history import Answered, Seen
from tests.sim.operators import Operators
from tests.sim.revised import EDITED, FLAWED

if TYPE_CHECKING:
    from tests.sim.world import Life, Plan

RESUMES_MAX = 6  # of one invocation, in the calm life: nothing pauses it again and again
KILL_AFTER = 60  # looks at one that was damaged
RESUME_SECONDS = 20.0  # until somebody has mended it

ENDED = (InvocationCancelled, InvocationFailed, TerminalError)


class Clients:
    """All clients of one life."""

    def __init__(self, life: Life, client: AsyncClient, random: Random) -> None:
        self._life = life
        self._world = life.world
        self._options = life.options
        self._client = client
        self._random = random
        self._operators = Operators(life, client, random)
        self._tries: dict[str, int] = {}  # resumes, by id
        self._given_up: dict[str, bool] = {}  # ids of those that stay paused

    def begin(self) -> None:
        """They do as they please until the process dies."""
        for plan in self._world.plans:
            self._spawn(self._starter(plan))
            if plan.cancel:
                self._spawn(self._canceller(plan))
            if self._options.looks:
                self._spawn(self._watcher(plan))
        self._spawn(self._settler(calm=False))
        self._spawn(self._resumer())
        self._spawn(self._operators.work())
        if self._options.looks:
            self._spawn(self._looker())

    async def finish(self, seconds: float) -> None:
        """They see everything through to its end, in so many seconds."""
        until = self._life.loop.time() + seconds
        await self._operators.resume_schedules(paused=False)
        waiting = {self._life.loop.create_task(self._finisher(plan)): plan for plan in self._world.plans}
        helpers = [self._spawn(work) for work in (self._settler(calm=True), self._signaller(), self._mender())]
        if self._options.looks:
            helpers.append(self._spawn(self._looker()))
            helpers += [self._spawn(self._watcher(plan)) for plan in self._world.plans]
        _, late = await asyncio.wait(waiting, timeout=seconds)
        await self._operators.resume_schedules(paused=True)
        while self._unfinished() and self._life.loop.time() < until:  # those that others have called and sent
            await asyncio.sleep(5.0)
        for task in (*helpers, *late):
            task.cancel()
        for task, plan in waiting.items():
            if task in late and plan.known not in self._world.rotten:
                self._life.broken("G8", f"nobody can tell how {plan} ends, after {seconds} s of calm")

    def _unfinished(self) -> list[str]:
        rows = self._world.memory._invocations.values()
        return [row.id for row in rows if row.status < Status.DONE and not self._given_up.get(row.id)]

    async def _signaller(self) -> None:
        while True:
            await self._nap(self._random.choice([1.0, 30.0, 300.0]))
            await self._operators.signal()
            await self._operators.settle_shared()

    async def _mender(self) -> None:
        """Retries what is mended now; resumes what is paused, some times; kills what was damaged and has not ended by
        then."""
        retried: set[str] = set()
        while True:
            await self._nap(RESUME_SECONDS)
            for view in await self._client.list(status="failed") if self._options.retries else ():
                if view.target in FLAWED and view.id not in retried:
                    retried.add(view.id)
                    await self._operators.retry(view)
            for view in await self._client.list(status="paused"):
                tries = self._tries[view.id] = self._tries.get(view.id, 0) + 1
                if tries <= RESUMES_MAX:
                    await self._operators.resume(view.id)
                elif self._has_called_damaged(view.id):
                    self._world.rotten[view.id] = "called"
                elif view.id not in self._world.rotten:
                    self._given_up[view.id] = True
            for id in [id for id in self._unfinished() if id in self._world.rotten]:
                tries = self._tries[id] = self._tries.get(id, 0) + 1
                if tries > KILL_AFTER:
                    await self._operators.kill(id)

    def _has_called_damaged(self, id: str) -> bool:
        """Whether one that it has called was given other arguments than it says now, or so it reads."""
        rows = self._world.memory._invocations
        (n,) = (row.n for row in rows.values() if row.id == id)
        return any(row.parent == n and row.id in self._world.rotten for row in rows.values())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._life.loop.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (StoreError, EngineStopped):
            return  # of no use to this client any more
        except HoldfastError as error:
            if not self._world.rotten or not isinstance(error, Unreadable):
                self._life.broken("G8", f"a client got {error!r}")
        except Exception as error:  # noqa: BLE001  # no promise allows for it
            self._life.broken("G10", f"a client got {error!r}")

    async def _nap(self, seconds: float) -> None:
        await asyncio.sleep(self._random.random() * seconds)

    def _chance(self, chance: float) -> bool:
        return self._random.random() < chance

    async def _starter(self, plan: Plan) -> None:
        await self._nap(self._random.choice([0.0, 0.01, 2.0]))
        while (handle := await self._start(plan)) is None:
            await self._nap(2.0)
        if self._chance(self._options.doubles):
            await asyncio.gather(self._start(plan, again=True), self._start(plan, again=True))
        if self._chance(self._options.conflicts):
            await self._conflict(handle.id)
        while True:
            try:
                await self._see(handle, self._random.choice([None, 0.05, 20.0]))
                return
            except (TimeoutError, InvocationPaused):
                await self._nap(10.0)
            except UnknownInvocation:
                return  # purged

    async def _start(self, plan: Plan, *, again: bool = False) -> AsyncHandle[Any] | None:
        """None when the disk was full, or the program has no such handler."""
        id = plan.known if again else plan.id
        handler = self._world.registry.find(plan.target)
        main = handler.main
        if plan.token is not None:
            id = idempotent_id(handler, plan.key, plan.token)
        try:
            named = None if main or plan.token is not None else id  # a workflow's is named by its key
            id = f"{plan.target.partition('/')[0]}:{plan.key}" if main else id
            handle = await self._client.start(
                plan.handler, *plan.args, id=named, key=plan.key, delay=plan.delay, idempotency_key=plan.token
            )
        except UnknownHandler:
            return None  # not in this life
        except Unreadable:
            self._only_if_rotten(id or "", "start")
            return await self._client.attach(id or "")
        except IdConflict:
            if not self._options.purges:  # else another may have it
                self._only_if_rotten(id or "", "start")  # another input now, or so it reads
            return await self._client.attach(id or "")
        except StoreError as error:
            if error.code == "HF401":
                return None
            raise
        plan.known = plan.known or handle.id
        self._life.log(Answered, "start", handle.id, (plan.target, plan.args))
        return handle

    async def _conflict(self, id: str) -> None:
        """Uses the id for something else, which must be refused."""
        try:
            await self._client.start("Sim/chain", 77, id=id)
        except (IdConflict, UnknownHandler):
            return
        except Unreadable:
            self._only_if_rotten(id, "conflict")
            return
        if not self._options.purges:  # else it may have been free
            self._life.broken("G6", f"{id} was given to another input")

    async def _see(self, handle: AsyncHandle[Any], timeout: float | None) -> None:
        """How it ends. Raises TimeoutError, InvocationPaused."""
        try:
            value = await handle.result(timeout)
        except ENDED as error:
            kind = "cancelled" if isinstance(error, InvocationCancelled) else "failed"
            self._life.log(Seen, handle.id, kind, str(error))
        except InvocationPaused as paused:
            self._life.log(Seen, handle.id, "paused", paused.reason)
            raise
        except Unreadable:
            if not self._options.purges:  # else another may have the id
                self._only_if_rotten(handle.id, "result")
        else:
            self._life.log(Seen, handle.id, "returned", repr(value))

    def _only_if_rotten(self, id: str, call: str) -> None:
        if id not in self._world.rotten:
            self._life.broken("G10", f"{call} of {id} could not be read, and nothing of it was damaged")

    async def _canceller(self, plan: Plan) -> None:
        await self._life.moment(self._random, self._random.random() * self._random.choice([0.01, 0.3, 10.0]))
        for _ in range(self._random.choice([1, 1, 2])):
            if plan.known is not None:
                await self._cancel(plan.known)
                await self._nap(self._random.choice([0.01, 1.0]))

    async def _cancel(self, id: str) -> None:
        self._life.errands.add(id)
        try:
            await self._client.cancel(id, "not wanted")
        except (WrongStatus, UnknownInvocation):
            return
        except Unreadable:
            self._only_if_rotten(id, "cancel")
            return
        except StoreError as error:
            if error.code == "HF401":
                return
            raise
        self._life.log(Answered, "cancel", id, None)

    async def _settler(self, *, calm: bool) -> None:
        while True:
            await self._life.moment(self._random, self._random.random() * self._random.choice([0.1, 5.0, 5.0, 100.0]))
            for promise in list(self._world.inbox):
                if calm or self._chance(0.3):
                    await self._settle_one(promise, self._random.randint(0, 99))
            if calm or self._chance(0.5):
                for ask in await self._client.asks():
                    if not calm and self._chance(0.5):
                        continue
                    if "outcome" in ask.schema.get("properties", ()):
                        await self._decide(ask)
                    else:
                        await self._settle_one(ask.id, self._chance(0.5))

    async def _decide(self, ask: AskView) -> None:
        """Says what came of a step that pays, as the bank knows it."""
        if self._chance(self._options.conflicts):
            await self._settle(ask.id, {"outcome": "done"}, wrong=True)
        receipt = self._world.bank.find(ask.about["idempotency_key"])
        if receipt is not None:
            answer = {"outcome": "done", "result": receipt}
        else:
            answer = {"outcome": "failed" if self._chance(0.2) else "not done", "reason": "the bank says so"}
        self._life.errands.add(ask.invocation)
        try:
            await self._client.answer(ask.id, answer)
        except (AlreadySettled, UnknownHandler, UnknownPromise, WrongStatus):
            return
        except (BadArguments, Unreadable):
            self._only_if_rotten(ask.invocation, "decide")
            return
        except StoreError as error:
            if error.code == "HF401":
                return
            raise
        self._life.log(Answered, "decide", ask.id, (answer["outcome"], json.dumps(receipt).encode()))

    async def _settle_one(self, promise: str, value: Any) -> None:
        if self._chance(self._options.conflicts):
            await self._settle(promise, "no such value", wrong=True)
        if self._chance(self._options.doubles):
            await asyncio.gather(self._settle(promise, value), self._settle(promise, value))
        else:
            await self._settle(promise, value)

    async def _settle(self, promise: str, value: Any, *, wrong: bool = False) -> None:
        self._life.errands.add(self._owner(promise))
        rejects = not wrong and self._chance(0.15)
        try:
            if rejects:
                await self._client.reject(promise, f"no {value}")
            else:
                await self._client.resolve(promise, value)
        except (AlreadySettled, UnknownHandler, UnknownPromise, WrongStatus):
            return
        except BadArguments:
            if not wrong and self._owner(promise) not in self._world.rotten:
                self._life.broken("G6", f"promise {promise} did not take {value!r}")
            return
        except Unreadable:
            self._only_if_rotten(self._owner(promise), "settle")
            return
        except StoreError as error:
            if error.code == "HF401":
                return
            raise
        if wrong and self._owner(promise) not in self._world.rotten:
            self._life.broken("G6", f"promise {promise} took a value that does not fit")
        self._life.log(Answered, "settle", promise, ("rejected", f"no {value}") if rejects else ("resolved", value))

    def _owner(self, promise: str) -> str:
        row = self._world.memory._promises.get(promise)
        invocation = None if row is None else self._world.memory._invocations.get(row.n)
        return "" if invocation is None else invocation.id

    async def _resumer(self) -> None:
        while True:
            await self._nap(20.0)
            for view in await self._client.list(status="paused"):
                if self._chance(0.3):
                    await self._operators.resume(view.id)

    async def _watcher(self, plan: Plan) -> None:
        """Follows one from where the last life's watcher had come to."""
        while plan.known is None:
            await self._nap(5.0)
        seen = plan.seen
        try:
            async for event in self._client.watch(plan.known, after=seen.place):
                seen.place = event.id
                if event.kind not in {"status", "attempt", "chunk"}:
                    seen.events.append((event.kind, event.data["id"]))
        except (UnknownInvocation, Unreadable):
            return  # purged, or damaged
        seen.to_the_end = True

    async def _looker(self) -> None:
        pause = self._options.looks
        while True:
            await self._nap(pause)
            pause *= 1.3
            views = await self._client.list(limit=100)
            for view in views:
                if self._chance(0.3):
                    await self._look(view.id)
            await self._client.asks()
            await self._check()

    async def _check(self) -> None:
        """What is to fit the code must do so."""
        if self._life.missing:
            return
        for found in await self._client.check():
            if not found.ok and found.target not in EDITED and found.id not in self._world.rotten:
                self._life.broken("G3", f"{found.id} is said not to fit its code: {found.problem}")

    async def _look(self, id: str) -> None:
        try:
            handle = await self._client.attach(id)
        except UnknownInvocation:
            return  # purged
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [handle.status, handle.journal]
        for call in calls:
            try:
                await call()
            except Unreadable:
                self._only_if_rotten(id, call.__name__)
            except UnknownInvocation:
                return

    async def _finisher(self, plan: Plan) -> None:
        await self._nap(self._random.choice([0.0, 0.01, 5.0]))
        handle = await self._start(plan, again=plan.known is not None)
        assert handle is not None  # the disk is not full in the calm life
        await self._see_through(handle.id)

    async def _see_through(self, id: str) -> None:
        handle = await self._client.attach(id)
        while not self._given_up.get(id):
            try:
                await self._see(handle, None)
                return
            except InvocationPaused:
                await self._nap(RESUME_SECONDS)
            except UnknownInvocation:
                return
