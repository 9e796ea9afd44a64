"""init: a project that runs, to change into one's own.

Promises: what it writes runs without a key, a network or an edit. Refuses: a folder that has anything in it.
"""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from holdfast.cli.command import command
from holdfast.cli.screen import Screen
from holdfast.errors import BadCommand

PANEL = "Project"
# Name in the package, name in the project. A file that is called .gitignore would hide its neighbours from git.
FILES = (
    ("app.py", "app.py"),
    ("pyproject.toml", "pyproject.toml"),
    ("README.md", "README.md"),
    ("gitignore", ".gitignore"),
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "init", PANEL)(init)


async def init(screen: Screen, folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty.")]) -> None:
    """Writes a starter project that runs."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadCommand(f"{folder} is there and not empty", fix="name a new folder: holdfast init my-agent")
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "agent"
    for source, target in FILES:
        text = (files("holdfast.cli") / "starter" / source).read_text(encoding="utf-8")
        (folder / target).write_text(text.replace("{{name}}", name), encoding="utf-8")
    written = [str(folder / target) for _, target in FILES]
    if screen.json:
        screen.raw(msgspec.json.encode({"files": written}))
        return
    for path in written:
        screen.say(f"  {path}")
    screen.say(f"\nnext step: cd {shlex.quote(str(folder))} && holdfast dev")
