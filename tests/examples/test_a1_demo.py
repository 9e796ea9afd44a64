"""`make demo` does what it says, and would notice if it did not."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from examples.demo import CHAT, Account
from examples.offline import Request

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 30


def asked(path: str, digest: str, outcome: str = "answered") -> Request:
    return Request(1, path, 0, digest, outcome=outcome, prompt_tokens=10, completion_tokens=5)


FIRST = [asked(CHAT, "a"), asked("/search", "b"), asked(CHAT, "c", "gone")]
SECOND = [asked(CHAT, "c"), asked(CHAT, "d")]
GOOD = Account(FIRST, SECOND, steps_before=2, steps_after=2)


@pytest.mark.slow
def test_the_demo_ends_well_and_soon():
    begun = time.monotonic()
    demo = subprocess.run([sys.executable, "-m", "examples.demo"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert time.monotonic() - begun < SECONDS_MAX
    assert "run again                    1  (ask_model: in flight at the kill)" in demo.stdout
    assert "Second life" in demo.stdout


def test_an_account_without_a_fault_has_no_problems(capsys):
    assert GOOD.problems() == []
    GOOD.show()
    told = capsys.readouterr().out
    assert "tokens not paid twice        30" in told
    assert "requests the model saw       4  (3 different ones)" in told


@pytest.mark.parametrize(
    "account, problem",
    [
        (replace(GOOD, second=[asked("/search", "b"), *SECOND], steps_after=3), "finished requests were made again"),
        (replace(GOOD, second=[asked(CHAT, "d")], steps_after=1), "in flight"),
        (replace(GOOD, steps_before=1), "2 requests were answered, 1 steps recorded"),
        (replace(GOOD, steps_after=1), "did not come to its end"),
        (replace(GOOD, first=FIRST[:2]), "the kill hit 0 requests"),
        (replace(GOOD, second=[*SECOND, asked(CHAT, "e", "gone")], steps_after=3), "did not come to its end"),
    ],
)
def test_every_wrong_account_is_noticed(account, problem):
    assert any(problem in found for found in account.problems())
