"""A world from one seed: a store that lasts, engines that live on it one after another, clients, clocks and faults.

`World(options).run()` gives the history and the breaches found. Each life is one process: its own event loop, engine,
clients and bodies, all dropped at its end. The last life is calm: no fault begins any more, and all that was started
must come to rest within a bound.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import holdfast
from holdfast import NotDone, TerminalError
from holdfast.client import AsyncClient
from holdfast.core.invocation import Status
from holdfast.engine import admission as admission_module
from holdfast.engine import committer as committer_module
from holdfast.engine import driver as driver_module
from holdfast.engine import effects as effects_module
from holdfast.engine import engine as engine_module
from holdfast.engine import rehearsal as rehearsal_module
from holdfast.engine import timers as timers_module
from holdfast.engine.engine import Engine
from holdfast.engine.schedules import Plan as Schedule
from holdfast.engine.schedules import make_rule
from holdfast.errors import HoldfastError, StoreFailed
from holdfast.service import Registry
from holdfast.stores.base import Batch
from holdfast.stores.memory import MemoryStore
from tests.sim.between import tick, tick_key
from tests.sim.clients import Clients
from tests.sim.faults import FaultyStore, Options, rot
from tests.sim.history import (
    BodyBegan,
    BodyEnded,
    Committed,
    History,
    LifeBegan,
    LifeEnded,
    LifeStops,
    Refused,
    Rotted,
    Sights,
)  # fmt: skip
from tests.sim.loop import Dice, SimLane, SimThreads, Time, VirtualLoop
from tests.sim.once import Bank
from tests.sim.watched import Watched
from tests.sim.workloads import GROUPS, SHAPES

CALM_SECONDS = 30_000.0  # all sleeps and timeouts of all shapes, one after another, and room to spare
REST_SECONDS_MAX = 5.0
NEVER_SECONDS = 1e9
HASTE_TURNS = 12  # of the loop, after a commit
SPARE_MODULES = (admission_module, timers_module, engine_module, committer_module)  # whose constants may be made small


@dataclass
class Plan:
    """An invocation somebody wants."""

    id: str | None
    target: str
    handler: Any
    args: tuple[Any, ...]
    cancel: bool
    key: str | None
    delay: float = 0.0
    token: str | None = None  # that names it instead of an id
    known: str | None = None  # its id, once a start was acknowledged
    seen: Sights = field(default_factory=Sights)


@dataclass
class Lived:
    """One machine of one life."""

    life: int
    machine: Watched
    edit: str

    @property
    def fault(self) -> BaseException | None:
        """What it could not go on for."""
        return self.machine.died_of


class World:
    """Everything that outlives a process, and the lives one after another."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.history = History()
        self.time = Time()
        self.memory = MemoryStore()
        self.inbox: dict[str, None] = {}  # promises somebody outside knows of
        self.rotten: dict[str, str] = {}  # ids whose bytes were damaged, and what was
        self.machines: list[Lived] = []
        self.rewritten: set[str] = (
            set()
        )  # keys on which a run was opened again or copied: it goes on from what it had read
        self.told: dict[tuple[str, int], dict[str, Any]] = {}  # what handlers noted, by their id and seed
        self.registry = registry()
        self.bank = Bank()
        self._random = Random(f"world {options.seed}")
        self.nonces = 0
        self.copies = 0
        self.plans: list[Plan] = []
        for number in range(options.plans):
            self.plans.append(self._plan(number, self.plans))

    def run(self) -> History:
        """All lives, and the checks that look on while they last."""
        with self._prepared():
            for number in range(self.options.lives):
                self._live(number, calm=False)
                self._between(number)
            self._live(self.options.lives, calm=True)
        return self.history

    def broken(self, promise: str, what: str) -> None:
        self.history.broken(promise, what)

    def told_by(self, id: str, promise: str, what: str, key: str | None = None) -> None:
        """By a handler, which may have met another's damage."""
        if not self.rotten and key not in self.rewritten:
            self.broken(promise, f"{id}: {what}")

    def _plan(self, number: int, plans: list[Plan]) -> Plan:
        random = self._random
        name = random.choice(self.options.shapes or list(SHAPES))
        target, handler, draw, keys, main = SHAPES[name]
        args = draw(random)
        key = random.choice(keys) if keys else None
        id = f"{name}-{number}" if random.random() < 0.85 else None
        if main:  # once per key, and with one input
            id = f"{target.partition('/')[0]}:{key}"
            args = next((earlier.args for earlier in plans if earlier.id == id), args)
        delay = random.choice([0.2, 30.0, 900.0]) if random.random() < self.options.delays else 0.0
        token = f"token-{number}" if id is None and random.random() < 0.5 else None
        return Plan(id, target, handler, args, random.random() < self.options.cancels, key, delay, token)

    def _live(self, number: int, *, calm: bool) -> None:
        edit = ""
        if not calm and self._random.random() < self.options.edits:
            edit = self._random.choice(["argument", "name", "fewer"])
        missing = ""
        if not calm and self._random.random() < self.options.missing:
            missing = self._random.choice(self.plans).target
        rests = not calm and self._random.random() < self.options.rests
        Life(self, number, calm=calm, edit=edit, missing=missing, rests=rests).run()

    def _between(self, number: int) -> None:
        random, options = self._random, self.options
        self.time.seconds += random.choice([0.0, 0.1, 3.0])
        if random.random() < options.clock_ahead:
            self.time.offset_ms += random.choice([1, 5_000, 70_000, 7_200_000])
        if random.random() < options.clock_back:
            self.time.offset_ms -= random.choice([1, 900, 40_000])
        numbers = sorted(self.memory._invocations)
        if numbers and random.random() < options.rots:
            n = random.choice(numbers)
            id = self.memory._invocations[n].id
            kind = rot(self.memory, n, random)
            self.rotten[id] = kind
            self.history.add(Rotted(self.time.seconds, number, self.history.commits, id, kind))

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        """Puts the watched machine and small constants in place. The collector waits: it may run code at any moment."""
        swaps: list[tuple[Any, str, Any]] = [
            (module, name, value)
            for module in SPARE_MODULES
            for name, value in self.options.small.items()
            if hasattr(module, name)
        ]
        swaps += [
            (driver_module, "Machine", Watched), (effects_module, "Threads", SimThreads),
            (rehearsal_module, "_begun", _unwatched(rehearsal_module._begun)),
        ]  # fmt: skip
        kept = [(module, name, getattr(module, name)) for module, name, _ in swaps]
        log = logging.getLogger("holdfast")
        level, collecting = log.level, gc.isenabled()
        gc.disable()
        log.setLevel(logging.CRITICAL + 1)
        for module, name, value in swaps:
            setattr(module, name, value)
        try:
            yield
        finally:
            Watched.born = None
            for module, name, value in kept:
                setattr(module, name, value)
            log.setLevel(level)
            if collecting:
                gc.enable()


def _unwatched(begun: Any) -> Any:
    """Rehearsals of what may be are no part of what was."""

    @contextmanager
    def wrapped(*args: Any, **options: Any) -> Iterator[Any]:
        born, Watched.born = Watched.born, None
        with ExitStack() as stack:
            try:
                machine = stack.enter_context(begun(*args, **options))
            finally:
                Watched.born = born
            yield machine

    return wrapped


def registry(but: str = "") -> Registry:
    """All handlers of the corpus, or all but one."""
    found = Registry()
    for group in GROUPS:
        for handler in group.handlers.values():
            if handler.target != but:
                found.add(handler)
    return found


class Life:
    """One process: engine, clients and bodies on a loop of their own. Handlers and bodies know it as `life`."""

    def __init__(self, world: World, number: int, *, calm: bool, edit: str, missing: str, rests: bool) -> None:
        self.world = world
        self.number = number
        self.calm = calm
        self.edit = edit
        self.missing = missing
        self.rests = rests
        self.renewed = number >= world.options.renewed_from
        self.mended = number >= world.options.mended_from
        self.over = False
        self.options = world.options
        self.bodies: dict[tuple[str, str, int], None] = {}  # attempts that run
        self.at_loss = False  # the store has not taken the last batch
        self.failed = False  # it has refused one
        self.errands: set[str] = set()  # what clients' calls may have brought to memory past admission
        self._stirs: list[asyncio.Future[None]] = []  # of clients that wait for a commit
        self._random = Random(f"life {world.options.seed} {number}")
        self.loop = VirtualLoop(world.time, self._random, self._complain)
        self.loop.work_seconds = self._duration
        self._stores: list[FaultyStore] = []
        self._engines: list[Engine] = []
        self.engine = self._engine("store", calm=calm)
        self._over: asyncio.Future[None] | None = None  # it is time to stop

    def run(self) -> None:
        """From start to death."""
        world, random = self.world, self._random
        Watched.born = self._born
        seconds = CALM_SECONDS if self.calm else random.random() * self.options.life_seconds
        stops = self.calm or random.random() < self.options.stops
        if self.options.crash_turns and not self.calm:
            turns = random.randint(1, self.options.crash_turns)
            if stops:
                self.loop.bell = (turns, self._enough)
            else:
                self.loop.turns_max = turns
        self.log(LifeBegan, world.time.now(), self.edit, self.missing, self.rests)
        begun = world.time.seconds
        main = self._rest() if self.calm else self._main(begun + seconds, stops=stops)
        how = self.loop.run(main, begun + (2 * seconds + 200 if stops else seconds))
        if how == "ended":
            how = "stopped" if self.engine.failure is None else "failed"
            if self.engine.failure is not None and not self.failed:
                self.broken("G10", f"the engine failed, and no commit had: {self.engine.failure!r}")
        elif how == "late" and not stops:
            how = "crashed"
        self.log(LifeEnded, world.time.now(), how)
        self.over = True
        for lived in world.machines:
            if not lived.machine.fate:
                lived.machine.fate = "died"
            if lived.life == self.number:
                world.told.setdefault((lived.machine.id, lived.machine.seed), {}).update(lived.machine.told)
        self.loop.abandon()
        for engine in self._engines:
            for resident in list(engine._residents.values()):
                resident.machine.evict()
        for store in self._stores:
            try:
                store.bury()
            except StoreFailed as error:
                world.broken("G4", f"life {self.number}: what a failed sync had left is refused: {error.what}")
        world.memory.close()

    def _engine(self, name: str, *, calm: bool, twin: bool = False) -> Engine:
        world, options = self.world, self.options
        store = FaultyStore(
            world.memory, world.time, Random(f"{name} {options.seed} {self.number}"), options, calm=calm,
            written=self._written, refused=self._refused, twin=twin,
        )  # fmt: skip

        def lane() -> SimLane:
            store.lane = SimLane(self.loop, store.latency)
            return store.lane

        engine = Engine(
            store,  # type: ignore[arg-type]
            registry(but=self.missing), deps={"life": self}, limits=options.bounds(), clock=world.time,
            entropy=Dice(self._random), lane=lane, plans=self._schedules(), resting=self.rests,
        )  # fmt: skip
        bring_back = engine.bring_back

        def brought_back(n: int) -> Any:
            resident = bring_back(n)
            if resident is not None:
                self.errands.add(resident.id)
            return resident

        engine.bring_back = brought_back  # type: ignore[method-assign]
        self._stores.append(store)
        self._engines.append(engine)
        return engine

    def _schedules(self) -> list[Schedule]:
        options = self.options
        handler = self.world.registry.find(tick_key if options.keyed else tick)
        if not options.every or handler.target == self.missing:
            return []
        every = options.every
        if 0 < options.rescheduled_from <= self.number:
            every *= 2
        if options.cron and every == options.every:
            rule = make_rule(options.cron, None, "Europe/Berlin")
        else:
            rule = make_rule(None, every, "UTC")
        text = handler.arguments.encode(() if options.keyed else ("by the clock",), {})
        return [Schedule("often", handler, rule, options.missed, text, "a" if options.keyed else None)]  # type: ignore[arg-type]

    def log(self, kind: Any, *data: Any) -> None:
        """An event of this life."""
        if not self.over:
            self.world.history.add(kind(self.world.time.seconds, self.number, self.world.history.commits, *data))

    def broken(self, promise: str, what: str) -> None:
        if not self.over:
            self.world.broken(promise, what)

    def told(self, id: str, promise: str, what: str, key: str | None = None) -> None:
        """By a handler: what came back is not what it asked for."""
        if not self.over:
            self.world.told_by(id, promise, what, key)

    def is_losing(self) -> bool:
        """Whether what was done last may come to nothing: refused by the store, or too late for it."""
        engine = self.engine
        return self.at_loss or (engine.stopping and bool(engine.committer.batch.rows()))

    def some(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    async def moment(self, random: Random, seconds: float) -> None:
        """Waits so long; or, as the seed wants, until just after a commit, when what follows from it is under way."""
        if random.random() >= self.options.keen:
            await asyncio.sleep(seconds)
            return
        stirred = self.loop.create_future()
        self._stirs.append(stirred)
        await asyncio.wait([stirred], timeout=seconds)
        for _ in range(random.randint(0, HASTE_TURNS)):
            await asyncio.sleep(0)

    async def act(self, key: tuple[int, ...], seconds: float | None = None) -> str:
        """What an async body does: takes its time, fails as the seed wants, gives back what no other run would."""
        with self._attempt(late=self.engine.failure is not None):
            try:
                await asyncio.sleep(self._duration() if seconds is None else seconds)
            except asyncio.CancelledError:
                if self._random.random() < self.options.stubborn and not self.over:
                    await asyncio.sleep(self._random.random())
                raise
            return self._outcome(key)

    def act_now(self, key: tuple[int, ...]) -> str:
        """What a body in a thread does."""
        with self._attempt():
            return self._outcome(key)

    async def pay(self, key: tuple[int, ...]) -> Any:
        """What a body does that must not do it twice: it may come to an end before it has paid, and after."""
        random, options, world = self._random, self.options, self.world
        with self._attempt(late=self.engine.failure is not None):
            await asyncio.sleep(self._duration())
            if not self.calm and random.random() < options.transient:
                raise random.choice([NotDone("the bank is closed"), ConnectionError("cut on the way there")])
            if random.random() < options.terminal:
                raise TerminalError("the card is blocked", status=422)
            world.nonces += 1
            receipt = world.bank.pay(holdfast.step().idempotency_key, f"{key!r}{world.nonces}")
            await asyncio.sleep(self._duration())
            if not self.calm and random.random() < options.transient:
                raise ConnectionError("cut on the way back")
            if not self.calm and random.random() < options.mendless:
                raise TypeError("the body has a bug")
            return object() if not self.calm and random.random() < options.misshapen else receipt

    async def look(self, key: tuple[int, ...]) -> str:
        """What a checker does."""
        random, options = self._random, self.options
        await asyncio.sleep(self._duration())
        if not self.calm and random.random() < options.transient:
            raise ConnectionError("the bank is away")
        if not self.calm and random.random() < options.mendless:
            raise TypeError("the checker has a bug")
        receipt = self.world.bank.find(holdfast.step().idempotency_key)
        if receipt is None:
            raise NotDone(f"nothing was paid for {key}")
        return receipt

    @contextmanager
    def _attempt(self, *, late: bool = False) -> Iterator[None]:
        info = holdfast.step()
        key = (info.invocation, info.id, info.attempt)
        self.bodies[key] = None
        self.log(
            BodyBegan, info.invocation, info.id, info.idempotency_key, info.attempt, len(self.bodies), late,
            self.world.time.latest(),
        )  # fmt: skip
        how = "returned"
        try:
            yield
        except BaseException as error:
            how = type(error).__name__
            raise
        finally:
            self.bodies.pop(key, None)
            self.log(BodyEnded, *key, how)

    def _duration(self) -> float:
        random, options = self._random, self.options
        if not self.calm:
            if random.random() < options.hangs:
                return NEVER_SECONDS
            if random.random() < options.slow:
                return random.uniform(1, 120)
        return random.choice([0.0, random.random() * 0.01, random.random(), random.random() * 5])

    def _outcome(self, key: tuple[int, ...]) -> Any:
        random, options = self._random, self.options
        self.world.nonces += 1
        if not self.calm:
            if random.random() < options.transient:
                raise ConnectionError("the other side is away")
            if random.random() < options.mendless:
                raise TypeError("the body has a bug")
            if random.random() < options.misshapen:
                return object()
        if random.random() < options.terminal:
            raise TerminalError("it cannot be", status=422)
        return f"{key!r}{self.world.nonces}"

    def _born(self, machine: Watched) -> None:
        machine.life = self
        machine.born_at = self.world.history.commits
        self.world.machines.append(Lived(self.number, machine, self.edit))

    def _written(self, batch: Batch) -> None:
        world = self.world
        world.history.add(Committed(world.time.seconds, self.number, world.time.latest(), batch))
        self.at_loss = False
        for stirred in self._stirs:
            if not stirred.done():
                stirred.set_result(None)
        self._stirs.clear()
        if not self.over and not self.options.twins:
            self._look_at_memory()

    def _look_at_memory(self) -> None:
        engine, limits = self.engine, self.engine._limits
        durable = [resident for resident in engine._residents.values() if not resident.unsettled]
        waiting = [resident.id for resident in durable if resident.status is Status.SUSPENDED]
        if len(waiting) > limits.waiting:
            self.broken("G9", f"{waiting} wait in memory at once, with {limits}")
        # Room is for what runs and what waits; what a client's call brought in, or is not durable yet, comes on top.
        free = [resident.id for resident in durable if resident.id not in self.errands]
        # One that is woken while its last wait is being written goes on at once: those admitted meanwhile are too many.
        most = limits.waiting + limits.running + max(limits.running + 1, admission_module.ADMIT_SLICE)
        if len(free) > most:
            self.broken("G9", f"{free} are in memory at once, with {limits}")

    def _refused(self, error: Exception) -> None:
        code = getattr(error, "code", type(error).__name__)
        self.log(Refused, code, str(error).partition("\n")[0])
        self.at_loss = self.failed = True
        if code != "HF401":
            self._enough()

    def _enough(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _complain(self, what: str, error: BaseException | None) -> None:
        self.broken("G8", f"{what}: {error!r}")

    async def _main(self, until: float, *, stops: bool) -> None:
        self._over = self.loop.create_future()
        await self.engine.start()
        clients = Clients(self, AsyncClient(self.engine), Random(f"clients {self.options.seed} {self.number}"))
        clients.begin()
        if self.options.twins:
            await self._begin_twin()
        if self._random.random() < self.options.clock_steps:
            step = self._random.choice([-20_000, -300, 200, 6_000, 90_000])
            self.loop.call_later(self._random.random() * 10, self.world.time.step, step)
        await asyncio.wait([self._over], timeout=until - self.loop.time())
        if self.engine.failure is not None:
            await asyncio.sleep(self._random.random() * 3)
        elif not stops:
            await self.loop.create_future()  # it crashes
        await self._stop()

    async def _begin_twin(self) -> None:
        """Another engine takes over, and this one has not noticed."""
        await asyncio.sleep(self._random.random() * 3)
        twin = self._engine("twin", calm=True, twin=True)
        await twin.start()
        Clients(self, AsyncClient(twin), Random(f"others {self.options.seed} {self.number}")).begin()

    async def _rest(self) -> None:
        await self.engine.start()
        clients = Clients(self, AsyncClient(self.engine), Random(f"clients {self.options.seed} {self.number}"))
        await clients.finish(CALM_SECONDS)
        await asyncio.sleep(REST_SECONDS_MAX)
        if self.bodies:
            self.broken("G7", f"bodies still run when all has ended: {list(self.bodies)}")
        await self._stop()

    async def _stop(self) -> None:
        self.log(LifeStops)
        try:
            await self.engine.stop()
        except HoldfastError as error:
            self.broken("G11", f"stop raised {error!r}")
