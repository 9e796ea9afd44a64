"""Drives a Machine without an engine: made-up bodies, a made-up clock, crashes wherever wanted. One seed, one run.

A `Life` is one process's time with an invocation. A shape is a handler that takes a `Ctx`. What a body gives depends
on its arguments only, so that every life must come to the same end as long as it is fed the same completions.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from random import Random
from typing import Any

from holdfast.core import patches
from holdfast.core.commands import (
    CancelStep,
    Command,
    EndCancelled,
    OpenPromise,
    Raise,
    Return,
    RunStep,
    StepSpec,
    WithdrawPromise,
)  # fmt: skip
from holdfast.core.entries import (
    CancelRequested,
    Entry,
    Failure,
    PromiseInfo,
    PromiseSettled,
    StepCompleted,
    StepErrored,
)  # fmt: skip
from holdfast.core.machine import Machine
from holdfast.core.tasks import Step
from holdfast.errors import TerminalError

patches.install()

START = 1_700_000_000_123  # milliseconds; not a whole second, as no real start is
ENTRIES_MAX = 400

Shape = Callable[["Ctx"], Any]
SHAPES: dict[str, Shape] = {}
CANCELLABLE: set[str] = set()  # shapes some of whose runs are cancelled from outside


def shape(function: Shape) -> Shape:
    """Adds a handler to the corpus."""
    SHAPES[function.__name__] = function
    return function


def cancellable(function: Shape) -> Shape:
    """Adds a handler to the corpus that is cancelled from outside in most runs."""
    CANCELLABLE.add(function.__name__)
    return shape(function)


class Json:
    """The codec of every made-up step."""

    def encode_checked(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def decode(self, text: bytes) -> Any:
        return json.loads(text)


JSON = Json()


def digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    return hashlib.sha256(repr((args, sorted(kwargs.items()))).encode()).digest()[:8]


def plan(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None = None) -> StepSpec:
    return StepSpec(
        name or getattr(fn, "__name__", "partial"),
        fn,
        args,
        kwargs,
        digest=digest(args, kwargs),
        codec=JSON,
        context=copy_context(),
    )


class Ctx:
    """What a shape gets in place of the real context."""

    def __init__(self, machine: Watched) -> None:
        self.machine = machine
        self.random = machine.random

    def run(self, fn: Callable[..., Any], *args: Any, name: str | None = None, **kwargs: Any) -> Step[Any]:
        return self.machine.ask_step(plan(fn, args, kwargs, name))

    def promise(self, name: str) -> Step[Any]:
        return self.machine.ask_promise(name, JSON, lambda local: PromiseInfo(local, question=name))

    def note(self, text: object) -> None:
        """Says that the handler came by here: an order that no command shows must be the same on replay too."""
        self.machine.trace.append(f"note {text}")

    def uuid(self) -> str:
        return str(uuid.uuid4())


class Watched(Machine):
    """A machine that remembers what it was asked, in order."""

    def __init__(self, id: str = "inv_case") -> None:
        self.trace: list[str] = []
        super().__init__(id, created=START, seed=17, read=lambda body: body, plan_thread=plan)

    def ask_step(self, spec: StepSpec) -> Step[Any]:
        step = super().ask_step(spec)
        self.trace.append(f"run {step.local} {spec.digest.hex()}")
        return step

    def ask_promise(self, name: str, codec: Any, info: Callable[[str], PromiseInfo]) -> Step[Any]:
        promise = super().ask_promise(name, codec, info)
        self.trace.append(f"open {promise.local}")
        return promise

    def abandon(self, step: Step[Any]) -> None:
        if step.local in self.waiting:
            self.trace.append(f"drop {step.local}")
        super().abandon(step)


class Life:
    """One process's time with an invocation: replays a journal, then goes on as the engine would."""

    def __init__(self, shape: Shape, journal: list[Entry] | None = None, machine: Watched | None = None) -> None:
        self.machine = machine or Watched()
        self._scrambled = scramble()
        self.journal: list[Entry] = list(journal or [])
        self.flight: dict[str, StepSpec] = {}  # bodies that run
        self.promises: dict[str, PromiseInfo] = {}
        self.outcome: tuple[str, ...] | None = None
        self.machine.begin(shape, Ctx(self.machine))
        self.machine.replay(self.journal)
        self._obey()

    def receive(self, entry: Entry) -> None:
        self.journal.append(entry)
        self.flight.pop(getattr(entry, "step", ""), None)
        self.promises.pop(getattr(entry, "promise", ""), None)
        self.machine.receive(entry)
        self._obey()

    def choices(self) -> list[str]:
        """What could come next, in an order that does not depend on the process."""
        timer = [] if self.machine.next_deadline() is None else ["timer"]
        return [*self.flight, *self.promises, *timer]

    def entry(self, choice: str, delay: int = 0) -> Entry:
        """The completion a choice stands for, `delay` milliseconds after the last one."""
        at = self.machine.at + delay
        if choice == "timer":
            deadline = self.machine.next_deadline()
            assert deadline is not None
            assert self.machine.due(deadline - 1) is None, "a timer that fires early"
            fired = self.machine.due(max(deadline, at))
            assert fired is not None
            return fired
        if choice in self.promises:
            return PromiseSettled(at, choice, json.dumps(f"settled {choice}").encode(), ok=True)
        return completion(choice, self.flight[choice], at)

    def snapshot(self) -> dict[str, Any]:
        """All that must be the same in every life that was fed the same entries."""
        timers = [(timer.id, timer.when()) for timer in self.machine.loop.timers.values()]
        return {
            "asked": len(self.machine.trace),
            "flight": list(self.flight),
            "promises": list(self.promises),
            "timers": [list(pair) for pair in timers],
            "tasks": [task.get_name() for task in self.machine.loop.live_tasks()],
            "now": self.machine.loop.time(),
            "outcome": self.outcome and list(self.outcome),
        }

    def _obey(self) -> None:
        recorded = {getattr(entry, "step", None) for entry in self.journal}
        for command in self.machine.take_commands():
            assert self.outcome is None, f"{command} after the end"
            match command:
                case RunStep(id, spec):
                    assert id not in recorded, f"the body of {id} would run again although it is recorded"
                    assert id not in self.flight
                    self.flight[id] = spec
                case CancelStep(id):
                    self.flight.pop(id, None)  # absent when it was cancelled before it could start, or in another life
                case OpenPromise(id, info):
                    self.promises[id] = info
                case WithdrawPromise(id):
                    self.promises.pop(id, None)
                case _:
                    self.outcome = _outcome(command)
        assert not (self.outcome and (self.flight or self.promises)), "something still runs after the end"


def scramble() -> list[bytearray]:
    """Leaves holes in memory, so that what is made next has its addresses in no order."""
    blocks = [bytearray(size) for size in range(16, 528, 16) for _ in range(24)]
    Random(len(_scrambles)).shuffle(blocks)
    _scrambles.append(1)
    return blocks[::2]


_scrambles: list[int] = []


def completion(step: str, spec: StepSpec, at: int) -> Entry:
    """Runs a body and says what came of it."""
    try:
        result = spec.context.run(spec.fn, *spec.args, **spec.kwargs)
    except TerminalError as error:
        failure = Failure(type(error).__name__, str(error), status=error.status)
        return StepErrored(at, step, spec.digest, failure, b"", at)
    except Exception as error:  # noqa: BLE001  # as the engine would
        return StepErrored(at, step, spec.digest, Failure(type(error).__name__, str(error)), b"", at)
    return StepCompleted(at, step, spec.digest, JSON.encode_checked(result), b"", 1, at)


def _outcome(command: Command) -> tuple[str, ...]:
    match command:
        case Return(value):
            return ("returned", json.dumps(value))
        case Raise(error):
            return ("raised", _error_text(error))
        case EndCancelled(reason):
            return ("cancelled", reason)
    raise AssertionError(command)


def _error_text(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__}[{', '.join(_error_text(one) for one in error.exceptions)}]"
    return f"{type(error).__name__}: {error}"


@dataclass
class Run:
    """A run that came to its end: what was recorded, and what was seen after each entry."""

    journal: list[Entry]
    snapshots: list[dict[str, Any]]  # one more than entries: the first is after `begin`
    trace: list[str]


def live(shape: Shape, seed: int, *, cancel: bool = False) -> Run:
    """Runs a shape to its end without a crash; the seed chooses what completes next."""
    rng = Random(seed)
    life = Life(shape)
    cancel_at = rng.randrange(16) if cancel else None
    snapshots = [life.snapshot()]
    while life.outcome is None:
        assert len(life.journal) < ENTRIES_MAX, "the shape does not end"
        life.receive(_next(life, rng, cancel_at))
        snapshots.append(life.snapshot())
    return _over(life, snapshots)


def _over(life: Life, snapshots: list[dict[str, Any]]) -> Run:
    run = Run(life.journal, snapshots, list(life.machine.trace))  # a copy: `finally` blocks write notes in eviction
    life.machine.evict()
    return run


def _next(life: Life, rng: Random, cancel_at: int | None) -> Entry:
    if len(life.journal) == cancel_at:
        return CancelRequested(life.machine.at, "the test says so")
    choices = life.choices()
    assert choices, f"the handler waits for nothing that could come, {life.machine.loop.where()}"
    return life.entry(rng.choice(choices), delay=rng.choice((0, 1, 7, 40, 3000)))


def crash_everywhere(shape: Shape, run: Run) -> list[str]:
    """Replays a run from a crash after each of its entries (and so before the next), then on to its end.

    Returns what differed from the run without a crash: empty is good.
    """
    problems = []
    for count in range(len(run.journal) + 1):
        life = Life(shape, run.journal[:count])
        problems += _differences(f"replayed {count}", run, count, life)
        for entry in run.journal[count:]:
            life.receive(entry)
        problems += _differences(f"replayed {count}, then went on", run, len(run.journal), life)
        life.machine.evict()
    return problems


def replay_everywhere(shape: Shape, run: Run) -> list[str]:
    """As `crash_everywhere`, without going on: for runs that come from another process."""
    problems = []
    for count in range(len(run.journal) + 1):
        life = Life(shape, run.journal[:count])
        problems += _differences(f"replayed {count}", run, count, life)
        life.machine.evict()
    return problems


def die_often(shape: Shape, seed: int, *, cancel: bool = False) -> list[Entry]:
    """Runs a shape to its end with a crash after every entry; the seed chooses what completes next."""
    rng = Random(seed)
    cancel_at = rng.randrange(16) if cancel else None
    journal: list[Entry] = []
    seen: list[str] = []
    while True:
        assert len(journal) < ENTRIES_MAX, "the shape does not end"
        life = Life(shape, journal)
        assert life.machine.trace[: len(seen)] == seen
        if life.outcome is None:
            life.receive(_next(life, rng, cancel_at))
        seen, journal = _over(life, []).trace, life.journal
        if life.outcome is not None:
            return journal


def every_order(shape: Shape) -> Iterator[Run]:
    """Every run of a shape there is, by every order in which its waits can complete."""
    ways: list[list[str]] = [[]]
    while ways:
        way = ways.pop()
        life = Life(shape)
        snapshots = [life.snapshot()]
        for choice in way:
            life.receive(life.entry(choice))
            snapshots.append(life.snapshot())
        ways += [[*way, choice] for choice in life.choices()]
        run = _over(life, snapshots)
        if life.outcome is not None:
            yield run


def _differences(when: str, run: Run, count: int, life: Life) -> list[str]:
    wanted = run.snapshots[count]
    found = life.snapshot()
    problems = [f"{when}: {key} is {found[key]}, was {wanted[key]}" for key in wanted if found[key] != wanted[key]]
    if life.machine.trace != run.trace[: wanted["asked"]]:
        problems.append(f"{when}: asked {life.machine.trace}, had asked {run.trace[: wanted['asked']]}")
    return problems
