"""python -m benchmarks [workload ...] [--quick] [--full] [--dir FOLDER]: one JSON line for each measurement."""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

from benchmarks.options import Options

WORKLOADS = ("seq", "fan", "sleepers", "agent", "recover", "replay", "http", "idle", "call", "chat", "sdk")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workload", nargs="*", choices=[[], *WORKLOADS], help="all, if none is named")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size: does it run at all?")
    parser.add_argument("--full", action="store_true", help="also 100,000 sleepers")
    parser.add_argument("--dir", type=Path, default=Path(), help="whose disk is measured; default: the current folder")
    chosen = parser.parse_args()
    for name in chosen.workload or WORKLOADS:
        # Not in the system's temporary folder, which is often in RAM and would flatter every figure but F.
        with tempfile.TemporaryDirectory(dir=chosen.dir.resolve(), prefix=".bench-") as folder:
            options = Options(Path(folder), quick=chosen.quick, full=chosen.full)
            # Only now: what one has imported would be looked through by the collector in all the others.
            for report in importlib.import_module(f"benchmarks.workloads.{name}").measure(options):
                print(report.line(), flush=True)


if __name__ == "__main__":
    main()
