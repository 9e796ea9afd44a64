"""What those do who look after a running engine: signal, kill, pause, retry, restart, fork, purge, stop a schedule.

They pick from what the engine lists, by chance. As with all clients, an error is fine when what others did explains it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from holdfast.client import AsyncClient
from holdfast.errors import (
    AlreadySettled,
    BadArguments,
    HoldfastError,
    StoreError,
    TooMany,
    UnknownHandler,
    UnknownInvocation,
    UnknownPromise,
    UnknownSchedule,
    Unreadable,
    WrongStatus,
)  # fmt: skip
from holdfast.views import InvocationView
from tests.sim.between import KEYS
from tests.sim.history import Answered

if TYPE_CHECKING:
    from tests.sim.world import Life

COPIES_MAX = 6  # restarts and forks of one world
OVER = ("done", "failed", "cancelled", "killed")
# Shapes of which a copy can go on from any step: what came before was neither written to a key nor told to others by
# an id of its own.
UNCOPIED = {"Sim/approvals", "Sim/guarded", "Sim/first", "Sim/sender", "Sim/talker", "Sim/ping"}
LISTENERS = ("Sim/listener", "Sim/patient", "Sim/interrupted")


class Operators:
    """All operators of one life."""

    def __init__(self, life: Life, client: AsyncClient, random: Random) -> None:
        self._life = life
        self._world = life.world
        self._options = life.options
        self._client = client
        self._random = random

    async def work(self) -> None:
        """Does as it pleases until the process dies."""
        options = self._options
        ways: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (options.signals, self.signal), (options.kills, self._kill), (options.pauses, self._pause),
            (options.retries, self._retry), (options.copies, self._copy), (options.purges, self._purge),
            (options.triggers, self._schedule), (options.writes, self._write),
        ]  # fmt: skip
        pause = self._random.choice([0.05, 1.0, 10.0])
        while True:
            await self._life.moment(self._random, self._random.random() * pause)
            pause *= 1.2
            for chance, way in ways:
                if self._random.random() < chance:
                    await way()

    async def signal(self) -> None:
        """Tells those something who may be listening."""
        for target in LISTENERS:
            for view in await self._client.list(target=target):
                if view.status not in OVER and self._random.random() < 0.7:
                    await self._signal(view.id, self._random.choice(["word", "last"]))

    async def _signal(self, id: str, name: str) -> None:
        self._world.nonces += 1
        word = f"client {self._world.nonces}"
        self._life.errands.add(id)
        if await self._try(self._client.signal(id, name, word), TooMany, BadArguments):
            self._life.log(Answered, "signal", id, (name, word))

    async def _kill(self) -> None:
        view = await self._some(lambda view: view.status not in OVER)
        if view is not None:
            await self.kill(view.id)

    async def kill(self, id: str) -> None:
        """Ends one at once."""
        began = self._world.history.commits
        if await self._try(self._client.kill(id)):
            self._life.log(Answered, "kill", id, began)

    async def _pause(self) -> None:
        view = await self._some(lambda view: view.status not in OVER)
        if view is not None and await self._try(self._client.pause(view.id)):
            self._life.log(Answered, "pause", view.id, None)
            if self._random.random() < 0.5:  # it was a mistake
                await self._life.moment(self._random, self._random.random())
                await self.resume(view.id)

    async def resume(self, id: str) -> None:
        """Lets a paused one go on."""
        self._life.errands.add(id)
        if await self._try(self._client.resume(id)):
            self._life.log(Answered, "resume", id, None)

    async def _retry(self) -> None:
        view = await self._some(lambda view: view.status == "failed")
        if view is not None:
            await self.retry(view)

    async def retry(self, view: InvocationView) -> None:
        """Opens a failed one again."""
        self._rewrite(view)
        if await self._try(self._client.retry(view.id), UnknownHandler):
            self._life.log(Answered, "retry", view.id, None)

    def _rewrite(self, view: InvocationView) -> None:
        # What it had read may have been written since, and it goes on from there.
        if view.key is not None:
            self._world.rewritten.add(view.key)

    async def _copy(self) -> None:
        view = await self._some(lambda view: not view.target.startswith("Flow/proceed"))
        if view is None or self._world.copies >= COPIES_MAX:
            return
        self._world.copies += 1
        self._rewrite(view)
        step, result = await self._place(view)
        new_id = None
        if view.id in self._world.rotten:
            new_id = f"copy-{self._world.copies}"
            self._world.rotten[new_id] = "copied"
        if step is None or result is None or self._random.random() < 0.5:
            call = self._client.restart(view.id, from_step=step, new_id=new_id)
        else:
            call = self._client.fork(view.id, step, result, new_id=new_id)
        try:
            handle = await call
        except (WrongStatus, UnknownInvocation, UnknownHandler, BadArguments):
            return
        except Unreadable:
            self._only_if_rotten(view.id, "copy")
            return
        except StoreError as error:
            self._only_if_full(error)
            return
        self._life.log(Answered, "copy", view.id, handle.id)

    async def _place(self, view: InvocationView) -> tuple[str | None, Any]:
        """Somewhere in its journal, and what else could have come of that."""
        if view.target in UNCOPIED or view.id in self._world.rotten or self._random.random() < 0.2:
            return None, None
        journal = await self._journal(view.id)
        lines = [line for line in journal if line.kind in {"step", "call", "timer"} and line.finished is not None]
        if not lines:
            return None, None
        line = self._random.choice(lines)
        if line.kind == "timer" or not isinstance(line.output, str):
            return line.id, None
        return line.id, line.output + " or so"

    async def _journal(self, id: str) -> Any:
        try:
            return await (await self._client.attach(id)).journal()
        except UnknownInvocation:
            return []

    async def _write(self) -> None:
        """A word to all who write or read a key."""
        self._world.nonces += 1
        key = self._random.choice(KEYS)
        word = f"word {self._world.nonces}" if self._random.random() < 0.8 else None
        if await self._try(self._client.set_state("Counter", key, "tone", word)):
            self._life.log(Answered, "write", key, word)

    async def _purge(self) -> None:
        if self._random.random() < 0.3:
            await self._try(self._client.purge_ended(timedelta(seconds=self._random.choice([0, 1, 100]))))
            return
        view = await self._some(lambda view: view.status in OVER)
        if view is not None and await self._try(self._client.purge(view.id)):
            self._life.log(Answered, "purge", view.id, None)

    async def _schedule(self) -> None:
        for view in await self._client.schedules():
            way = self._random.choice([self._client.pause_schedule, self._client.resume_schedule])
            try:
                if self._random.random() < 0.5:
                    handle = await self._client.trigger_schedule(view.id)
                    self._life.log(Answered, "start", handle.id, (view.target, None))
                else:
                    await way(view.id)
                    self._life.log(Answered, "schedule", view.id, way.__name__)
            except (UnknownSchedule, UnknownHandler):
                continue
            except StoreError as error:
                self._only_if_full(error)

    async def resume_schedules(self, *, paused: bool) -> None:
        """All of them, or none."""
        for view in await self._client.schedules():
            call = self._client.pause_schedule if paused else self._client.resume_schedule
            await call(view.id)
            self._life.log(Answered, "schedule", view.id, call.__name__)

    async def settle_shared(self) -> None:
        """Settles what workflows wait for."""
        for key in KEYS:
            for name in ("go", "done"):
                try:
                    await self._client.resolve(f"Flow:{key}:{name}", 7)
                except (UnknownPromise, AlreadySettled):
                    continue
                self._life.log(Answered, "settle", f"Flow:{key}:{name}", ("resolved", 7))

    async def _some(self, fits: Callable[[InvocationView], bool]) -> InvocationView | None:
        views = [view for view in await self._client.list(limit=200) if fits(view)]
        if not views:
            return None
        view = self._random.choice(views)
        self._life.errands.add(view.id)
        return view

    async def _try(self, call: Awaitable[Any], *excused: type[HoldfastError]) -> bool:
        try:
            await call
        except (WrongStatus, UnknownInvocation, *excused):
            return False
        except Unreadable:
            if not self._world.rotten:
                self._life.broken("G10", f"{call} met damage, and there is none")
            return False
        except StoreError as error:
            self._only_if_full(error)
            return False
        return True

    def _only_if_rotten(self, id: str, call: str) -> None:
        if id not in self._world.rotten:
            self._life.broken("G10", f"{call} of {id} could not be read, and nothing of it was damaged")

    def _only_if_full(self, error: StoreError) -> None:
        if error.code != "HF401":
            raise error
