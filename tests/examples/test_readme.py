"""The README's program is run as a reader would: copied into a file, started, started again."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_program_in_the_readme_runs_and_gives_its_recorded_result_the_second_time(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    program = tmp_path / "agent.py"
    program.write_text(found[1], encoding="utf-8")
    runs = [
        subprocess.run(  # our own README
            [sys.executable, program.name], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        for _ in range(2)
    ]
    assert [(run.returncode, run.stdout, run.stderr) for run in runs] == [
        (0, "durable execution: published\n", ""),
        (0, "durable execution: published\n", ""),
    ]
