"""Calls that import-linter cannot see: by whole name, per room, through any import alias.

The simulation and replay are only as true as these lists: one clock read outside the ports and a seed no longer
gives the same run.
"""

import ast
from pathlib import Path

import pytest

from tests.tidy.tree import ROOT, dotted, origins, python_files, short, syntax

# Time and chance come in through these ports, so that a simulated world can give its own.
PORTS = "src/holdfast/engine/ports.py"

CLOCKS_AND_CHANCE = (
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.sleep",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "os.urandom",
    "uuid.uuid1",
    "uuid.uuid4",
    "random.random",
    "random.randint",
    "random.randrange",
    "random.uniform",
    "random.choice",
    "random.choices",
    "random.shuffle",
    "random.sample",
    "random.getrandbits",
    "random.SystemRandom",
    "secrets.token_bytes",
    "secrets.token_hex",
    "secrets.token_urlsafe",
)

# G12: stored bytes can never run code.
RUNS_STORED_CODE = (
    "eval",
    "exec",
    "compile",
    "__import__",
    "importlib.import_module",
    "marshal.loads",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "shelve.open",
)

# hash() of a string differs from process to process, so nothing in core may depend on it.
UNSTABLE = ("hash",)

# (file, call): why it may stand there.
ALLOWED: dict[tuple[str, str], str] = {
    ("src/holdfast/cli/loading.py", "importlib.import_module"): "a person names the app; no store does",
    ("src/holdfast/cli/machine.py", "time.perf_counter"): "measures the real disk",
    ("src/holdfast/engine/guard.py", "time.monotonic"): "the watchdog looks at the real thread, not at durable time",
}


def calls(path: Path) -> list[tuple[str, int]]:
    known = origins(path)
    return [
        (name, node.lineno)
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call) and (name := dotted(node.func, known))
    ]


def offences(paths: list[Path], banned: tuple[str, ...]) -> list[str]:
    return [
        f"{short(path)}:{line} calls {name}"
        for path in paths
        for name, line in calls(path)
        if name in banned and (short(path), name) not in ALLOWED
    ]


def test_time_and_chance_come_through_the_ports_only() -> None:
    paths = [path for path in python_files("src") if short(path) != PORTS]
    assert offences(paths, CLOCKS_AND_CHANCE) == []


def test_nothing_can_run_stored_bytes_as_code() -> None:
    assert offences(list(python_files("src")), RUNS_STORED_CODE) == []


def test_core_does_not_depend_on_the_hash_seed() -> None:
    paths = [path for path in python_files("src") if short(path).startswith("src/holdfast/core/")]
    assert offences(paths, UNSTABLE) == []


def test_every_exception_is_still_needed() -> None:
    stale = [(file, call) for file, call in ALLOWED if call not in [name for name, _ in calls(ROOT / file)]]
    assert stale == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\nt.time()",
        "from time import time as now\nnow()",
    ],
)
def test_an_alias_does_not_hide_a_call(source: str, tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(source)
    assert calls(path) == [("time.time", 2)]
