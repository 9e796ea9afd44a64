"""The other process: records runs of shapes, or replays what another one recorded.

    python -m tests.core.process record FILE SEEDS [SHAPE ...]
    python -m tests.core.process replay FILE
    python -m tests.core.process both FILE SEEDS [SHAPE ...]
    python -m tests.core.process script FILE          Python source, with the corpus at hand as `shapes` and `case`

WITHOUT in the environment names a fix to turn off. `replay` and `both` print what differs, as JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.core.without import turn_off

turn_off(os.environ.get("WITHOUT", ""))

from holdfast.core.entries import decode_entry, encode  # noqa: E402  # not before the fix is off
from tests.core import case, shapes, shapes_anyio  # noqa: E402


def record(file: Path, seeds: int, names: list[str]) -> None:
    runs = []
    for name in names or sorted(case.SHAPES):
        for seed in range(seeds):
            run = case.live(case.SHAPES[name], seed, cancel=name in case.CANCELLABLE)
            journal = [encode(entry).hex() for entry in run.journal]
            runs.append({"shape": name, "journal": journal, "snapshots": run.snapshots, "trace": run.trace})
            shapes.kept.clear()
    file.write_text(json.dumps(runs), encoding="utf-8")


def replay(file: Path) -> list[str]:
    problems: list[str] = []
    for saved in json.loads(file.read_text(encoding="utf-8")):
        journal = [decode_entry(bytes.fromhex(body)) for body in saved["journal"]]
        run = case.Run(journal, saved["snapshots"], saved["trace"])
        try:
            found = case.replay_everywhere(case.SHAPES[saved["shape"]], run)
        except BaseException as error:  # noqa: BLE001  # a fault is a finding too
            found = [f"{type(error).__name__}: {error}"]
        problems += [f"{saved['shape']}: {problem}" for problem in found]
        shapes.kept.clear()
    return problems


def main(what: str, path: str, *rest: str) -> None:
    file = Path(path)
    if what == "script":
        names: dict[str, Any] = {"case": case, "shapes": shapes, "shapes_anyio": shapes_anyio}
        exec(compile(file.read_text(encoding="utf-8"), path, "exec"), names)
        return
    if what in ("record", "both"):
        record(file, int(rest[0]), list(rest[1:]))
    if what in ("replay", "both"):
        print(json.dumps(replay(file)))  # noqa: T201  # how it answers


if __name__ == "__main__":
    main(*sys.argv[1:])
