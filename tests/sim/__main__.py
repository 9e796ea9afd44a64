"""Runs worlds again and says what they break: python -m tests.sim --seed N [--count K] [--events [LAST]] [--hashes]."""

import argparse
import sys
import time

from tests.sim.runs import run_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Runs simulated worlds.")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--events", type=int, nargs="?", const=1 << 30, default=0, help="show the history, or its end")
    parser.add_argument("--hashes", action="store_true", help="show the trace of each seed")
    options = parser.parse_args()
    began = time.perf_counter()
    broken = 0
    for seed in range(options.seed, options.seed + options.count):
        done = run_seed(seed)
        events = done.history.events
        for event in events[max(0, len(events) - options.events) :]:
            sys.stdout.write(f"{event!r:.1000}\n")
        if options.hashes:
            sys.stdout.write(f"{seed} {done.trace}\n")
        if done.breaches:
            broken += 1
            sys.stdout.write(done.report() + "\n")
        elif options.count == 1:
            sys.stdout.write(f"seed {seed} kept every promise, trace {done.trace}: {done.options.text()}\n")
    rate = options.count / (time.perf_counter() - began)
    sys.stderr.write(f"{options.count} worlds, {broken} broke a promise, {rate:.0f} a second\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
