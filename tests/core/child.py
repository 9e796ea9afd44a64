"""Runs tests.core.process as another process: its own hash seed, its own addresses, its own patches."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def child(*args: object, hash_seed: int = 1, without: str = "") -> str:
    """What the process printed. It must not fail."""
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.process", *map(str, args)],
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": os.pathsep.join(paths), "WITHOUT": without},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def script(folder: Path, source: str, *, without: str = "") -> str:
    """What a piece of Python printed that has the corpus at hand as `shapes`, `shapes_anyio` and `case`."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return child("script", path, without=without)
