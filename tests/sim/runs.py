"""One seed, one run: world, inspection, and what to print when a promise was broken."""

from dataclasses import dataclass

from tests.sim.faults import Options, draw
from tests.sim.history import Breach, History
from tests.sim.invariants import inspect
from tests.sim.world import World


@dataclass(frozen=True)
class Run:
    """What came of a seed."""

    options: Options
    history: History

    @property
    def breaches(self) -> list[Breach]:
        return self.history.breaches

    @property
    def trace(self) -> str:
        return self.history.trace()

    def report(self) -> str:
        """All that is needed to see it again."""
        return "\n".join(
            [
                f"seed {self.options.seed} broke {len(self.breaches)} promises:",
                *(f"  {breach}" for breach in self.breaches[:8]),
                f"  options: {self.options.text()}",
                f"  trace {self.trace}; to see it again: python -m tests.sim --seed {self.options.seed} --events",
            ]
        )


def run_seed(seed: int) -> Run:
    """Runs the world of a seed and inspects it."""
    return run(draw(seed))


def run(options: Options) -> Run:
    world = World(options)
    world.run()
    inspect(world)
    return Run(options, world.history)
