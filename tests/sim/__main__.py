"""`python -m tests.sim --seed N` runs one world again and says what it finds; `--count K` runs the K worlds from N on."""

import argparse
import sys
import time

from tests.sim.faults import draw
from tests.sim.runs import run_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--events", action="store_true", help="print the history too")
    parser.add_argument("--hashes", action="store_true", help="print the trace hash of each seed")
    options = parser.parse_args()
    began = time.perf_counter()
    bad = 0
    for seed in range(options.seed, options.seed + options.count):
        run = run_seed(seed)
        if options.hashes:
            print(seed, run.trace)
        if options.count == 1:
            print(draw(seed).text())
        if options.events:
            print("\n".join(map(str, run.history.events)))
        if run.breaches:
            bad += 1
            print(run.report())
    seconds = time.perf_counter() - began
    print(f"{options.count} worlds, {bad} with breaches, {options.count / seconds:.1f} a second", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
