"""The programs in docs/concepts.md are run as a reader would, and print what the page says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("program, printed", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_of_the_page_prints_what_stands_below_it(program: str, printed: str, tmp_path: Path) -> None:
    file = tmp_path / "agent.py"
    file.write_text(program, encoding="utf-8")
    run = subprocess.run(  # our own page
        [sys.executable, file.name], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, printed, "")


def test_every_program_of_the_page_is_run_here() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") == 3
