"""examples: the programs that come with Holdfast, listed, run and copied.

Promises: what is listed is what is there; an example is a file that makes an `hf`, its id the beginning of the file's
name, its title the first line it says of itself. Refuses: to import one. It runs as a program in place of the command,
in the folder where that is given, and leaves its store there.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import msgspec
import typer

import holdfast
from holdfast.cli.command import command, perform
from holdfast.cli.render import lists
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Example
from holdfast.errors import BadCommand

PANEL = "Project"
NUMBERED = re.compile(r"([a-z])(\d+)_")
PACKAGED = Path(holdfast.__file__).parent / "catalogue"  # the folder above `examples` in a wheel, and in a clone
CLONE = Path(holdfast.__file__).parents[2]

ExampleId = Annotated[str, typer.Argument(metavar="ID", help="Of the list: a1, d10.")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="[WORDS]...", help="For the example; --help shows its own.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where `examples` is to be.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="The programs that come with Holdfast: list, run, copy.", invoke_without_command=True)
    group.callback()(_bare)
    command(group, "list")(list_)
    command(group, "run")(run)
    command(group, "copy")(copy)
    app.add_typer(group, name="examples", rich_help_panel=PANEL)


def _bare(context: typer.Context, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        raise typer.Exit(perform(list_, {Screen: "screen"}, {"json": json, "debug": False}, {}))


async def list_(screen: Screen) -> None:
    """Lists the examples, with the command that runs each."""
    found = _found()
    if screen.json:
        screen.raw(msgspec.json.encode(found))
    else:
        screen.say(lists.examples(found))


async def run(screen: Screen, id: ExampleId, words: Words = None) -> None:
    """Runs an example here; the same line again goes on where it was."""
    example = next((one for one in _found() if one.id.lower() == id.lower()), None)
    if example is None:
        raise BadCommand(f"no example is called {id!r}", fix="holdfast examples lists them")
    if missing := [name for name in _packages(example) if find_spec(name) is None]:
        raise BadCommand(
            f"{example.id} needs packages that are not here: {', '.join(missing)}",
            fix="pip install 'holdfast[examples]'",
        )
    line = [sys.executable, "-m", example.module, *(words or [])]
    screen.note(shlex.join(["python", *line[1:]]))
    path = os.pathsep.join(filter(None, [str(_above()), os.environ.get("PYTHONPATH")]))
    # In place of this process: who kills it kills the example.
    os.execve(line[0], line, {**os.environ, "PYTHONPATH": path})  # noqa: S606  # no shell is wanted


async def copy(screen: Screen, folder: Folder) -> None:
    """Copies them, to read, change and serve."""
    target = folder / "examples"
    if target.exists():
        raise BadCommand(f"{target} is there already", fix="name another folder")
    shutil.copytree(_above() / "examples", target, ignore=shutil.ignore_patterns("__pycache__"))
    screen.say(f"  {target}\n\nnext step: cd {shlex.quote(str(folder))} && holdfast serve examples.d1_chaining:hf")


def _above() -> Path:
    """The folder that holds `examples`."""
    return PACKAGED if PACKAGED.is_dir() else CLONE


def _found() -> list[Example]:
    """The examples in the order of their ids, those without one last."""
    files = sorted((_above() / "examples").glob("*.py"), key=lambda path: _order(path.stem))
    read = [(path.stem, ast.parse(path.read_text(encoding="utf-8"))) for path in files]
    return [Example(_id(stem), f"examples.{stem}", _title(tree)) for stem, tree in read if _is_served(tree)]


def _id(stem: str) -> str:
    numbered = NUMBERED.match(stem)
    return (numbered[1] + numbered[2]).upper() if numbered else stem


def _order(stem: str) -> tuple[bool, str, int, str]:
    numbered = NUMBERED.match(stem)
    return (False, numbered[1], int(numbered[2]), "") if numbered else (True, "", 0, stem)


def _is_served(tree: ast.Module) -> bool:
    """Whether it makes a Holdfast object of that name; what it shares with others does not."""
    return any(isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "hf" for line in tree.body)


def _packages(example: Example) -> list[str]:
    """What it imports that may not be installed."""
    source = (_above() / example.module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    named = {"openai", "httpx", "httpx2"}  # of services.py, by which all of them reach the model
    for line in ast.parse(source).body:
        if isinstance(line, ast.ImportFrom):
            named.add((line.module or "").partition(".")[0])
        elif isinstance(line, ast.Import):
            named.update(one.name.partition(".")[0] for one in line.names)
    return sorted(named - {"examples"})


def _title(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").partition("\n")[0]
