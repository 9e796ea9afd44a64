"""Worlds from many seeds keep every promise; seeds that once broke one keep it now; a seed is the same run anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.runs import run_seed

HERE = Path(__file__).parent
SEEDS = int(os.environ.get("SIM_SEEDS", "1000"))
SLICES = 8  # so that a failure says early where
REGRESSIONS = [
    int(line.split()[0])
    for line in (HERE / "regressions.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("part", range(SLICES))
def test_every_world_keeps_every_promise(part: int) -> None:
    for seed in range(part, SEEDS, SLICES):
        run = run_seed(seed)
        assert not run.breaches, run.report()


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_once_broke_a_promise_keeps_it(seed: int) -> None:
    run = run_seed(seed)
    assert not run.breaches, run.report()


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    traces = {
        subprocess.run(
            [sys.executable, "-m", "tests.sim", "--seed", "0", "--count", "40", "--hashes"],
            cwd=HERE.parents[1], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "4711", "31337")
    }  # fmt: skip
    assert len(traces) == 1
    (trace,) = traces
    assert len(set(trace.split()[1::2])) == 40, "forty worlds and not one in forty copies"
