"""Every bound of the engine in one place, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine may hold at once. Give one to Holdfast(limits=Limits(...)) to change a bound."""

    running: int = 512  # invocations with work in hand; beyond it each only waits longer for its turn of the loop
    waiting: int = 1_000  # suspended invocations kept in memory, 5 KB each; beyond, the longest unused is parked
    bodies: int = 512  # step bodies at once: each may hold a socket, and 1,024 files are a common bound
    threads: int = 32  # of them sync ones, each in a thread; besides, as many that nobody waits for any more
    backlog: int = 10_000  # numbers of invocations that wait for room; beyond, they are read from the store again
    drain_seconds: float = 10.0  # how long a stop waits for bodies that run
    stuck_seconds: float = 2.0  # how long a handler may hold the loop before it is reported; 0: no watch
    full_seconds: float = 30.0  # how long a full disk is waited for before the engine stops
