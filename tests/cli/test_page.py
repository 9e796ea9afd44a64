"""docs/cli.md comes true: every command of the page is run, in order, and prints what stands there.

Compared without what differs from run to run: numbers, ids, bars, and how wide a column is.
`python -m tests.cli.test_page` prints the page with what the commands print now.
"""

import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main

from holdfast.cli.codes import MEANINGS, Exit
from holdfast.cli.root import app
from tests.cli.project import Project, Terminal, until
from tests.tidy.tree import ROOT

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^(.*(?:\)|yes or no): )(.+)$")
COLUMNS = "100"
CUT_CHARS = 20  # by which a column may be wider in one run than in another


class Play:
    """Runs commands as the page names them and tells what a terminal shows."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.server = project.start("serve", "--port", str(project.ports[0]), "--admin-port", str(project.ports[1]))
        project.until_up(self.server)
        self.special: dict[str, Callable[[str], str]] = {
            "serve": self._serve,
            "answer": self._answer,
            "check": self._check,
        }

    def command(self, line: str, expected: str) -> str:
        """What it prints. `expected` tells what a person types into a form."""
        words = shlex.split(line)[1:]
        if words[0] == "dev":  # tests/cli/test_serving.py
            return expected
        if words == ["examples"]:  # all of them; the page shows the first
            return "\n".join(self.project.screen(*words, COLUMNS=COLUMNS).splitlines()[: len(expected.splitlines())])
        if words[:2] == ["examples", "run"]:  # a process of its own, whose output is the terminal's
            return self.project.run(*words).out
        if words[0] in self.special:
            return self.special[words[0]](expected)
        if words[0] in {"resolve", "reject"}:
            words[1] = self._promise()
        self._prepare(words)
        found = self.project.screen(*words, COLUMNS=COLUMNS)
        self._settle()
        return self._named(found)

    def _prepare(self, words: list[str]) -> None:
        if words[0] == "retry":
            (self.project.folder / "number.txt").write_text("5")

    def _promise(self) -> str:
        self.project.ask("send", "Desk/approve", "amount=9", "--id", f"approve-{time.time_ns()}")
        self._settle()
        id: str = self.project.json("asks")[-1]["id"]
        return id

    def _settle(self) -> None:
        until(lambda: not self.project.json("list", "--status", "ready")["invocations"])

    def _serve(self, expected: str) -> str:
        assert self.server.stdout is not None
        return self._named("".join(self.server.stdout.readline() for _ in range(5)))

    def _answer(self, expected: str) -> str:
        terminal = Terminal(self.project, "answer", COLUMNS=COLUMNS)
        for line in expected.splitlines():
            if asked := PROMPT.match(line):
                terminal.until(asked[1])
                terminal.type(asked[2])
        assert terminal.end() == 0
        return terminal.seen.replace("\r", "")

    def _check(self, expected: str) -> str:
        self.project.ask("send", "Desk/approve", "amount=120", "--id", "approve-2")
        self.project.until_status("approve-2", "suspended")
        source = self.project.folder / "app.py"
        source.write_text(source.read_text().replace('ctx.run(note, "looked at")', 'ctx.run(slow, "looked at")'))
        self.project.ask("backup", "check.db")
        return self._named(self.project.run("check", "--app", "app:hf", "--store", "check.db", COLUMNS=COLUMNS).out)

    def _named(self, text: str) -> str:
        """Without the folder and ports of this run."""
        text = re.sub(r'File "[^"]*/holdfast/', 'File "holdfast/', text.replace(f"{self.project.folder}/", ""))
        for port, usual in zip(self.project.ports, ("8080", "9070"), strict=True):
            text = text.replace(str(port), usual)
        return text


def played(project: Project) -> str:
    """The page with what its commands print."""
    play = Play(project)

    def block(match: re.Match[str]) -> str:
        parts = re.split(r"^(\$ .*)$", match[1], flags=re.MULTILINE)[1:]
        lines = []
        for line, expected in zip(parts[::2], parts[1::2], strict=True):
            lines.append(line + "\n" + play.command(line[2:], expected.strip("\n")).strip("\n"))
        return "```\n" + "\n".join(line.rstrip("\n") for line in lines) + "\n```"

    return BLOCK.sub(block, PAGE)


def plain(text: str) -> list[str]:
    text = re.sub(r"(inv|prm)_\w+", "ID", text)
    text = re.sub(r"\b(\d+(\.\d+)?) (ms|s|min|h|d|B|kB|MB|GB)\b( \d+ (s|min|h)\b)?", "N", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "BUILD", text)
    text = re.sub(r"Z\+[0-9a-f]{8}\b", "Z+HEX", text)
    text = re.sub(r"process \d+ on \S+", "process N", text)
    text = re.sub(r"\d+", "N", text)
    text = re.sub(r"N(\.N|-N|:N|,N)+", "N", text)
    text = re.sub(r"N ago|\bnow\b", "T", text)
    return [re.sub(r"[ ━]+", " ", line).strip() for line in text.splitlines()]


def alike(one: str, other: str) -> bool:
    """The same line, or the same as far as it was not cut."""
    length = min(len(line.partition("…")[0]) for line in (one, other)) - CUT_CHARS
    return one == other or ("…" in one + other and one[:length] == other[:length])


@pytest.mark.slow
def test_every_command_of_the_page_prints_what_stands_there(tmp_path: Path) -> None:
    with Project(tmp_path) as project:
        found, wanted = plain(played(project)), plain(PAGE)
    assert [(one, other) for one, other in zip(found, wanted, strict=True) if not alike(one, other)] == []


def names() -> list[str]:
    found = typer.main.get_command(app)
    return [*found.commands]  # type: ignore[attr-defined]


def test_every_command_has_its_place_on_the_page() -> None:
    headings = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert sorted(headings) == sorted(names())
    linked = re.findall(r"\[\w+\]\(#(\w+)\)", PAGE.partition("## Where")[0])
    assert [name for name in linked if name in headings] == headings


def test_exit_codes_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE))
    assert rows.pop(str(int(Exit.INTERRUPTED))) == "Ctrl-C"
    assert rows == {str(int(code)): meaning for code, meaning in MEANINGS.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Project(Path(folder)) as page_project:
        sys.stdout.write(played(page_project))
    os._exit(0)
