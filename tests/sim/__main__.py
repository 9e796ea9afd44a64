"""Runs one seed and shows what happened: python -m tests.sim --seed N [--events 40]."""

import argparse
import sys

from tests.sim.runs import run_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Runs simulated worlds.")
    parser.add_argument("--seed", type=int, required=True, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--events", type=int, nargs="?", const=60, default=0, help="how many of the last events to show")
    options = parser.parse_args()
    broken = 0
    for seed in range(options.seed, options.seed + options.count):
        done = run_seed(seed)
        events = done.history.events
        for event in events[len(events) - options.events :] if options.events else ():
            sys.stdout.write(f"{event!r:.300}\n")
        if done.breaches:
            broken += 1
            sys.stdout.write(done.report() + "\n")
        elif options.count == 1:
            sys.stdout.write(f"seed {seed} kept every promise, trace {done.trace}: {done.options.text()}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
