"""holdfast examples: what comes with Holdfast is listed, run and copied, from a clone and from a wheel."""

import json
import re
import shutil
import subprocess
import time

import pytest
from typer.testing import CliRunner

from holdfast.cli.commands import examples
from holdfast.cli.root import app
from tests.cli.project import HOLDFAST, PATIENCE_SECONDS, Project
from tests.tidy.tree import ROOT


def holdfast(*words: str):
    return CliRunner().invoke(app, ["examples", *words])


@pytest.mark.parametrize("words", [["--json"], ["list", "--json"]])
def test_every_file_that_can_be_served_is_listed_in_order_and_no_other(words):
    listed = json.loads(holdfast(*words).stdout)
    files = [path for path in (ROOT / "examples").glob("*.py") if "\nhf = " in path.read_text()]
    assert {row["module"] for row in listed} == {f"examples.{path.stem}" for path in files}
    numbered = [(found[1], int(found[2])) for row in listed if (found := re.fullmatch(r"([A-D])(\d+)", row["id"]))]
    assert numbered == sorted(numbered)
    assert {"A1", "D10"} <= {row["id"] for row in listed}
    assert all(len(row["title"]) > 20 for row in listed)


def test_an_example_is_run_here_with_the_words_it_is_given(tmp_path):
    with Project(tmp_path) as project:
        done = project.run("examples", "run", "D4", "--", "Are children free?", "--id", "free")
        assert done.code == 0, done.err
        assert done.out.startswith("tickets: Prices")
        assert (tmp_path / "d4_specialist_routing.db").exists()
        assert project.run("examples", "run", "d4", "--", "--no-such-option").code == 2


def test_one_that_is_not_there_is_refused():
    done = holdfast("run", "z9")
    assert done.exit_code == 2
    assert "no example is called 'z9'" in done.stderr


def test_without_their_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(examples, "find_spec", lambda name: None if name == "pydantic_ai" else name)
    said = holdfast("run", "f1").stderr
    assert "F1 needs packages that are not here: pydantic_ai" in said
    assert "holdfast[examples]" in said


def test_who_kills_the_command_kills_the_example(tmp_path):
    with Project(tmp_path) as project:
        words = ["examples", "run", "a2", "--", "--wish", "Remind me in 1 hour to look"]
        child = subprocess.Popen([*HOLDFAST, *words], cwd=tmp_path, env=project.environ(), stderr=subprocess.DEVNULL)
        project.started.append(child)
        lock = tmp_path / "reminders.db.lock"
        until = time.monotonic() + PATIENCE_SECONDS
        while not (lock.exists() and lock.read_text()):
            assert time.monotonic() < until, "it does not begin"
            time.sleep(0.05)
        assert lock.read_text().split()[0] == str(child.pid)


def test_a_copy_is_complete_and_never_written_over(tmp_path):
    assert holdfast("copy", str(tmp_path)).exit_code == 0
    copied = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.py")}
    assert copied == {path.relative_to(ROOT) for path in (ROOT / "examples").rglob("*.py")}
    assert "is there already" in holdfast("copy", str(tmp_path)).stderr


def test_what_a_wheel_holds_goes_before_what_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "d1_chaining.py", tmp_path / "examples")
    monkeypatch.setattr(examples, "PACKAGED", tmp_path)
    assert [row["id"] for row in json.loads(holdfast("--json").stdout)] == ["D1"]
