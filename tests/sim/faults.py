"""What can go wrong in a simulated world, and how often: all of it drawn from the seed, part of it switched off by the
seed (swarm: a fault that is always on hides what only its absence shows).

The fault model: the process dies at any turn of its loop, also inside a commit, before or after the rows are written.
A commit may take long, find the disk full, or fail for good; then it is unknown whether its rows are there at the next
start. The wall clock moves between lives and within them, either way. Bytes of one invocation rot between lives. Rows
are never torn: that is the SQLite crash tests' part.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any

from holdfast.engine.limits import Limits
from holdfast.errors import StoreFailed, StoreFull
from holdfast.stores.base import Batch
from holdfast.stores.memory import MemoryStore
from tests.sim.loop import Crash, SimLane, Time
from tests.sim.revised import EDITED
from tests.sim.workloads import SHAPES

# Shapes that meet: on a key, on a name, under a limit.
FAMILIES: tuple[tuple[str, ...], ...] = (
    ("add", "pass_on", "wipe", "look", "glance"),
    ("add", "pass_on"),
    ("add", "shopper", "glance", "look"),
    ("add", "charge", "meter", "pass_on"),
    ("caller", "hasty", "tree", "trip"),
    ("named", "sender", "follower"),
    ("bulky", "large", "sender"),
    ("talker", "listener", "patient"),
    ("ping", "talker", "interrupted"),
    ("tries", "steps", "race"),
    ("flawed", "flawed_key", "add", "renewed"),
    ("proceed", "approve", "witness", "follower"),
    ("narrow", "turns", "paced", "spaced", "crowd"),
    ("purchase", "bazaar", "deposit"),
)


@dataclass(frozen=True)
class Options:
    """One world's weather. Chances are per occasion; times are virtual seconds."""

    seed: int
    lives: int  # under faults, before the calm one
    life_seconds: float  # of one, at most
    plans: int  # invocations that clients start
    shapes: tuple[str, ...]  # of which handlers; none: of all
    # ends of lives
    crash_turns: int  # a life that crashes does so within so many turns of its loop; 0: by time only
    stops: float  # lives that end by a clean stop
    crash_commits: float  # lives that end inside a commit
    # store
    latency: float  # of a commit, mean
    spikes: float  # commits that take 100 times as long
    fails: float  # lives whose n-th commit fails for good
    fulls: float  # lives whose disk is full for a while
    # bodies
    slow: float  # bodies that take a minute
    hangs: float  # bodies that never end
    transient: float
    terminal: float
    mendless: float
    misshapen: float  # results that cannot be stored
    stubborn: float  # bodies that go on for a while after they were cancelled
    # clients
    doubles: float  # calls made twice, at once or later
    conflicts: float  # ids used again for something else
    cancels: float  # invocations that are cancelled
    delays: float  # starts that are to begin later
    signals: float
    kills: float
    pauses: float
    retries: float
    copies: float  # restarts and forks
    purges: float
    triggers: float
    writes: float  # of state, from outside
    keen: float  # moves of clients and operators that come right after a commit
    looks: float  # pauses between looking at lists, journals and states; 0: never
    # between lives
    clock_ahead: float
    clock_back: float
    clock_steps: float  # lives in which it jumps too
    rots: float
    edits: float
    missing: float  # lives whose program lacks a handler
    rests: float  # lives that only change rows, as tools on a file do, and run nothing
    renewed_from: int  # the life from which on a program has its new version
    mended_from: int  # the life from which on its bugs are mended
    drain_seconds: float  # of a clean stop
    every: int = 0  # seconds between two ticks of the schedule; 0: there is none
    cron: str = ""  # its times, instead
    rescheduled_from: int = 0  # the life from which on the program wants other times; 0: it never does
    missed: str = "once"
    keyed: bool = False  # it ticks on an object
    twins: bool = False  # a second engine on the same store, as if the lock did not hold; never drawn
    limits: dict[str, Any] = field(default_factory=dict)
    small: dict[str, int] = field(default_factory=dict)  # constants of the engine, made small to be reached

    @property
    def pressed(self) -> bool:
        """Whether room is so scarce that timers may have to wait for it."""
        return bool(self.limits)

    def bounds(self) -> Limits:
        return Limits(stuck_seconds=0, drain_seconds=self.drain_seconds, **self.limits)

    def text(self) -> str:
        return ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name))


def draw(seed: int) -> Options:
    """The options of a seed."""
    random = Random(f"options {seed}")

    def some(chance: float, low: float, high: float) -> float:
        return round(random.uniform(low, high), 3) if random.random() < chance else 0.0

    edits, lives = some(0.4, 0.2, 0.8), random.choice([0, 1, 1, 2, 2, 3, 4, 6])
    controlled = random.random() < 0.6
    shapes = _shapes(random, edited=bool(edits))
    limits, small = _scarce(random)
    return Options(
        seed=seed,
        lives=lives,
        life_seconds=random.choice([0.5, 5.0, 60.0, 600.0]),
        plans=random.randint(2, 10),
        shapes=shapes,
        crash_turns=random.choice([0, 100, 500, 2000]),
        stops=some(0.6, 0.2, 0.9),
        crash_commits=some(0.5, 0.1, 0.6),
        latency=random.choice([0.0, 0.0001, 0.001, 0.02]),
        spikes=some(0.3, 0.01, 0.2),
        fails=some(0.3, 0.2, 0.8),
        fulls=some(0.3, 0.2, 0.8),
        slow=some(0.5, 0.02, 0.3),
        hangs=some(0.3, 0.02, 0.2),
        transient=some(0.5, 0.05, 0.4),
        terminal=some(0.4, 0.02, 0.3),
        mendless=some(0.4, 0.03, 0.3),
        misshapen=some(0.15, 0.02, 0.1),
        stubborn=some(0.4, 0.2, 1.0),
        doubles=some(0.5, 0.1, 0.5),
        conflicts=some(0.3, 0.1, 0.5),
        cancels=some(0.5, 0.1, 0.7),
        delays=some(0.3, 0.1, 0.5),
        **_operators(some, controlled=controlled),
        keen=some(0.5, 0.2, 0.9),
        looks=some(0.5, 0.01, 5.0),
        clock_ahead=some(0.5, 0.2, 0.9),
        clock_back=some(0.2, 0.2, 0.5),
        clock_steps=some(0.15, 0.2, 0.8),
        rots=some(0.2, 0.2, 0.8),
        edits=edits,
        missing=some(0.15, 0.2, 0.6),
        rests=some(0.3, 0.1, 0.5),
        renewed_from=random.randint(0, lives + 1),
        mended_from=random.randint(0, lives),
        drain_seconds=random.choice([0.0, 0.3, 10.0]),
        every=random.choice([40, 400, 4_000]) if random.random() < 0.25 else 0,
        cron=random.choice(["*/2 * * * *", "7 * * * *"]) if random.random() < 0.3 else "",
        rescheduled_from=random.randint(1, lives + 1) if random.random() < 0.3 else 0,
        missed=random.choice(["once", "skip", "all"]),
        keyed=random.random() < 0.3,
        limits=limits,
        small=small,
    )


def _scarce(random: Random) -> tuple[dict[str, Any], dict[str, int]]:
    """Limits of the engine, and bounds within it, so small that they matter."""
    limits: dict[str, Any] = {}
    if random.random() < 0.4:
        limits = {
            "running": random.randint(1, 4), "waiting": random.randint(0, 3), "bodies": random.randint(1, 5),
            "backlog": random.randint(1, 5), "threads": random.randint(1, 2),
        }  # fmt: skip
    small: dict[str, int] = {}
    if random.random() < 0.3:
        small = {"REFILL_MAX": random.randint(1, 4), "ADMIT_SLICE": random.randint(1, 3), "STARTS_MAX": 2}
    if random.random() < 0.5:
        small |= {"INLINE_ROWS_MAX": random.randint(0, 4), "MAINTAIN_COMMITS": random.randint(2, 9)}
    return limits, small


def _shapes(random: Random, *, edited: bool) -> tuple[str, ...]:
    shapes: tuple[str, ...] = ()
    swarm = random.random()
    if swarm < 0.35:
        shapes = random.choice(FAMILIES)
    elif swarm < 0.65:
        shapes = tuple(random.sample(list(SHAPES), random.randint(1, 4)))
    if shapes and edited:
        shapes += tuple(sorted(target.partition("/")[2] for target in EDITED))
    return shapes


def _operators(some: Callable[[float, float, float], float], *, controlled: bool) -> dict[str, float]:
    return {
        "signals": some(0.7, 0.2, 0.9),
        "kills": some(0.3, 0.05, 0.4) if controlled else 0.0,
        "pauses": some(0.4, 0.05, 0.5) if controlled else 0.0,
        "retries": some(0.6, 0.2, 0.9) if controlled else 0.0,
        "copies": some(0.4, 0.05, 0.4) if controlled else 0.0,
        "purges": some(0.3, 0.05, 0.4) if controlled else 0.0,
        "triggers": some(0.4, 0.05, 0.4) if controlled else 0.0,
        "writes": some(0.5, 0.1, 0.6) if controlled else 0.0,
    }


class FaultyStore:
    """One life's view of the store that outlives it."""

    def __init__(
        self, inner: MemoryStore, time: Time, random: Random, options: Options, *, calm: bool,
        written: Callable[[Batch], None], refused: Callable[[Exception], None], twin: bool = False,
    ) -> None:  # fmt: skip
        self.lane: SimLane | None = None
        self._inner = inner
        self._time = time
        self._random = random
        self._options = options
        self._twin = twin
        self._written = written
        self._refused = refused
        self._commits = 0
        self._failure: StoreFailed | None = None
        self._doubtful: Batch | None = None  # of a failed sync: there at the next start, or not
        self._crash_at = self._fail_at = 0
        self._full = (0.0, 0.0)
        if not calm:
            self._break()

    def _break(self) -> None:
        random, options = self._random, self._options
        near = random.choice([3, 10, 40])
        if random.random() < options.crash_commits:
            self._crash_at = random.randint(1, near)
        if random.random() < options.fails:
            self._fail_at = random.randint(1, near)
        if random.random() < options.fulls:
            begin = self._time.seconds + random.random() * random.choice([0.01, 1.0, 20.0])
            self._full = (begin, begin + random.choice([0.3, 3, 20, 50]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self) -> None:
        if not self._twin:
            self._inner.open()

    def close(self) -> None:
        if not self._twin and not self._options.twins:
            self._inner.close()

    def latency(self) -> float:
        if not self._options.latency:
            return 0.0
        seconds = self._random.expovariate(1 / self._options.latency)
        return min(seconds, 0.2) * (100 if self._random.random() < self._options.spikes else 1)

    def commit(self, batch: Batch) -> None:
        if self.lane is None or not self.lane.at_work:
            self._time.seconds += min(self.latency(), 0.5)  # on the loop's own thread: everything waits
        if self._failure is not None:
            raise self._failure
        self._commits += 1
        if self._commits == self._crash_at:
            if self._random.random() < 0.5:
                self._write(batch)
            raise Crash
        if self._commits == self._fail_at:
            self._doubtful = batch if self._random.random() < 0.5 else None
            self._failure = StoreFailed("the sync failed", cause="the simulation", fix="none")
            self._refused(self._failure)
            raise self._failure
        if self._full[0] <= self._time.seconds < self._full[1]:
            full = StoreFull("the disk is full", cause="the simulation", fix="wait")
            self._refused(full)
            raise full
        self._write(batch)

    def bury(self) -> None:
        """The process is gone; what the disk had not made up its mind about is settled now."""
        if self._doubtful is not None:
            self._inner.close()  # if the engine had not come to it
            self._inner.open()
            self._write(self._doubtful)

    def _write(self, batch: Batch) -> None:
        try:
            self._inner.commit(batch)
        except StoreFailed as error:
            self._failure = error
            if self._options.twins:
                self._inner._failure = ""  # of this connection only, not of the other engine's
            self._refused(error)
            raise
        self._written(batch)


def rot(store: MemoryStore, n: int, random: Random) -> str:
    """Damages some stored bytes of one invocation. Says what, or nothing if there was nothing to damage."""
    kinds = ["input", "outcome", "entry", "blob", "promise"]
    random.shuffle(kinds)
    for kind in kinds:
        if _rot(store, n, random, kind):
            return kind
    return ""


def _rot(store: MemoryStore, n: int, random: Random, kind: str) -> bool:
    row = store._invocations[n]
    if kind == "input":
        store._invocations[n] = row._replace(input=_damaged(row.input, random))
    elif kind == "outcome":
        if row.outcome is None:
            return False
        store._invocations[n] = row._replace(outcome=_damaged(row.outcome, random))
    elif kind == "entry":
        journal = store._entries.get(n)
        if not journal:
            return False
        seq = random.choice(list(journal))
        journal[seq] = _damaged(journal[seq], random)
    elif kind == "blob":
        keys = sorted(key for key in store._blobs if key[0] == n)
        if not keys:
            return False
        key = random.choice(keys)
        store._blobs[key] = store._blobs[key]._replace(body=_damaged(store._blobs[key].body, random))
    else:
        ids = [id for id, promise in store._promises.items() if promise.n == n]
        if not ids:
            return False
        id = random.choice(ids)
        store._promises[id] = store._promises[id]._replace(about=_damaged(store._promises[id].about, random))
    return True


def _damaged(data: bytes, random: Random) -> bytes:
    if not data or random.random() < 0.2:
        return b""
    if random.random() < 0.2:
        return data[: random.randrange(len(data))]
    spoilt = bytearray(data)
    for _ in range(random.choice([1, 1, 8])):
        spoilt[random.randrange(len(spoilt))] ^= random.randint(1, 255)
    return bytes(spoilt)
