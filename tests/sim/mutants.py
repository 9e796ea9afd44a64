"""What the tests of the checks share: how a mutant is named, and the search for a world that notices it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.sim.faults import draw
from tests.sim.runs import Run, run

SEEDS_MAX = 400
MISFITS = ("AttributeError", "positional argument", "keyword argument")
TIGHT = {"running": 2, "waiting": 1, "bodies": 2, "backlog": 2, "threads": 1}  # limits

Patch = pytest.MonkeyPatch
Mutate = Callable[[Patch], None]


def mutant(to: list[Any], by: tuple[str, ...], weather: dict[str, Any]) -> Callable[[Mutate], Mutate]:
    """Adds a mutant, the promises or checks by one of whose names it must be caught, and options of the worlds that
    do so."""

    def add(mutate: Mutate) -> Mutate:
        to.append(pytest.param(mutate, set(by), weather, id=mutate.__name__))
        return mutate

    return add


def first_breach(by: set[str], weather: dict[str, Any]) -> Run | None:
    """The first world that breaks one of the promises, or fails one of the checks."""
    for seed in range(SEEDS_MAX):
        done = run(replace(draw(seed), **weather))
        for breach in done.breaches:  # else a mutant could pass for caught that only stumbles over its own patch
            assert not any(sign in breach.what for sign in MISFITS), f"the patch does not fit the code: {breach}"
        if any({breach.promise, breach.check} & by for breach in done.breaches):
            return done
    return None
