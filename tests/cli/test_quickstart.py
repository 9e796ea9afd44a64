"""The starter project and the quickstart page: what they say is done, and comes out as they say."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.cli.commands.init import FILES
from tests.cli.project import HOLDFAST, Project, Terminal, until
from tests.tidy.tree import ROOT

PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)


def init(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HOLDFAST, "init", *words], cwd=folder, capture_output=True, text=True)


def test_init_writes_a_project_and_nothing_over_another(tmp_path: Path) -> None:
    done = init(tmp_path, "My Agent")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "next step: cd 'My Agent' && holdfast dev")
    folder = tmp_path / "My Agent"
    assert sorted(path.name for path in folder.iterdir()) == sorted(name for _, name in FILES)
    config = tomllib.loads((folder / "pyproject.toml").read_text())
    assert (config["project"]["name"], config["tool"]["holdfast"]["app"]) == ("my-agent", "app:hf")
    assert (folder / "README.md").read_text().startswith("# my-agent\n")
    assert not [path for path in folder.iterdir() if "{{" in path.read_text()]
    before = (folder / "app.py").read_bytes()
    again = init(tmp_path, "My Agent")
    assert (again.returncode, "is there and not empty" in again.stderr) == (2, True)
    assert (folder / "app.py").read_bytes() == before
    (tmp_path / "file").touch()
    assert init(tmp_path, "file").returncode == 2
    told = json.loads(init(tmp_path, "for-a-machine", "--json").stdout)
    assert told["files"] == [f"for-a-machine/{name}" for _, name in FILES]
    (tmp_path / "empty").mkdir()
    assert init(tmp_path, "empty").returncode == 0


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    assert init(tmp_path, "my-agent").returncode == 0
    with Project(tmp_path / "my-agent", source=(tmp_path / "my-agent" / "app.py").read_text()) as project:
        yield project


def shell(project: Project, command: str) -> str:
    """A command of the page, against this project's ports, with this interpreter's `holdfast`."""
    command = re.sub(r"^holdfast ", f"{sys.executable} -m holdfast.cli ", command)
    command = command.replace("localhost:8080", f"127.0.0.1:{project.ports[0]}").replace(
        "curl ", "curl --silent --fail "
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=project.folder, env=project.environ(HOLDFAST_URL=project.url),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def thoughts(shown: str) -> list[str]:
    return re.findall(r"^ *\+.*(think#\d) .*\"A thought", shown, re.MULTILINE)


@pytest.mark.slow
def test_the_page_comes_true(project: Project) -> None:
    assert COMMANDS[:4] == ["pip install 'holdfast[server]'", "holdfast init my-agent", "cd my-agent", "holdfast dev"]
    send, show, kill, show_again, answer, read, curl_send, curl_read = COMMANDS[4:]
    project.serve(command="dev")
    assert shell(project, send) == "bread-1\n"
    until(lambda: len(thoughts(shell(project, show))) >= 2)
    shell(project, kill)
    project.until_status("bread-1", "suspended")
    shown = shell(project, show_again)
    assert thoughts(shown) == [f"think#{number}" for number in range(1, 6)]
    assert "asks: Keep 5 thoughts about bread?" in shown
    assert answer == "holdfast answer"
    terminal = Terminal(project, "answer")
    terminal.until("yes or no: ")
    terminal.type("y")
    assert terminal.end() == 0
    assert project.until_status("bread-1", "done")["output"] == "kept; the shelf of bread holds 5"
    assert shell(project, read).count("A thought about bread") == 5
    assert '"id":"inv_' in shell(project, curl_send)
    assert shell(project, curl_read).count("A thought about bread") == 5


@pytest.mark.slow
def test_the_readme_of_the_starter_comes_true(project: Project) -> None:
    text = (project.folder / "README.md").read_text()
    commands = [
        line.partition("#")[0].strip()
        for line in text.splitlines()
        if re.match(r"holdfast (send|call|show)|curl", line)
    ]
    project.serve()
    for command in commands:
        if command.startswith("holdfast call"):  # it comes after the answer
            project.until_status("bread-1", "suspended")
            assert project.ask("answer", "--value", "y").code == 0
            project.until_status("bread-1", "done")
        shell(project, command)
    assert len(commands) == 5
