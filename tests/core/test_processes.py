"""Replay in other processes, with other hash seeds and other addresses, takes the recorded path too (G3).

A batch of shapes per process: starting Python is most of what a test here costs.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.core import shapes_anyio  # noqa: F401  # the rest of the corpus
from tests.core.case import SHAPES
from tests.core.child import child

SEEDS = 3


def problems(journals: Path, hash_seed: int, without: str = "") -> Any:
    return json.loads(child("replay", journals, hash_seed=hash_seed, without=without).splitlines()[0])


@pytest.fixture(scope="session")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journals") / "all.json"
    child("record", path, SEEDS)
    return path


def test_every_crash_point_of_every_shape_replays_in_other_processes(journals: Path) -> None:
    assert len(json.loads(journals.read_text(encoding="utf-8"))) == SEEDS * len(SHAPES)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda hash_seed: problems(journals, hash_seed), (2, 3, 4711)))
    assert found == [[], [], []]


def differs_elsewhere(tmp_path: Path, without: str, *names: str) -> str:
    """What other processes see of shapes recorded and replayed without a fix."""
    path = tmp_path / "without.json"
    child("record", path, 4, *names, without=without)
    return "\n".join(problems(path, 2, without) + problems(path, 3, without))


@pytest.mark.parametrize(
    "shape", ["task_group_with_a_failing_child", "wait_for_the_first", "wait_with_a_timeout", "cancelled_in_a_group"]
)
def test_without_task_hashes_sets_of_tasks_differ_elsewhere(tmp_path: Path, shape: str) -> None:
    assert shape in differs_elsewhere(tmp_path, "task hashes", shape)


def test_without_ordered_sets_as_completed_gives_a_step_the_result_of_another(tmp_path: Path) -> None:
    seen = differs_elsewhere(tmp_path, "ordered sets", "as_completed")
    assert "as_completed" in seen
    assert "other arguments" in seen  # loud only because of the digest of arguments


def test_without_hashes_of_gathers_a_set_of_them_differs_elsewhere(tmp_path: Path) -> None:
    assert "gathers_in_a_set" in differs_elsewhere(tmp_path, "gather hashes", "gathers_in_a_set")


@pytest.mark.parametrize("shape", ["anyio_scopes_under_a_cancelled_scope", "anyio_group_with_a_failing_child"])
def test_without_ordered_scopes_anyio_cancels_in_another_order_elsewhere(tmp_path: Path, shape: str) -> None:
    assert shape in differs_elsewhere(tmp_path, "anyio scopes", shape)


def test_without_its_patch_uuid4_differs_elsewhere(tmp_path: Path) -> None:
    assert "chance" in differs_elsewhere(tmp_path, "uuid", "chance")


def test_a_loop_over_a_set_of_strings_is_caught_elsewhere(tmp_path: Path) -> None:
    recorded = tmp_path / "journal.json"
    script = tmp_path / "script.py"
    script.write_text(f"""
import json
from holdfast.core.entries import decode_entry, encode
from holdfast.errors import Mismatch
from pathlib import Path

async def cities(ctx):
    return [await ctx.run(shapes.echo, city) for city in {{"rome", "oslo", "bonn", "kyiv", "bern", "lima"}}]

file = Path({str(recorded)!r})
if not file.exists():
    file.write_text(json.dumps([encode(entry).hex() for entry in case.live(cities, 0).journal]))
else:
    journal = [decode_entry(bytes.fromhex(body)) for body in json.loads(file.read_text())]
    try:
        case.Life(cities, journal)
    except Mismatch as report:
        print("caught:", report)
""")
    child("script", script)
    seen = [child("script", script, hash_seed=hash_seed) for hash_seed in (2, 3)]
    assert all("caught" in one and "the order of a set" in one for one in seen)
