"""The `holdfast` command: its groups, and what it says of itself."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from holdfast.cli.codes import MEANINGS, Exit
from holdfast.cli.commands import (
    check,
    control,
    data,
    doctor,
    examples,
    inbox,
    init,
    look,
    objects,
    schedules,
    serve,
    start,
)
from holdfast.cli.problems import from_error
from holdfast.cli.screen import Screen
from holdfast.errors import BadCommand

# What typer raises for words that fit no command; it has no public name for it.
MISUSE: type[Exception] = typer.BadParameter.__bases__[0]
NAME = "holdfast"
EPILOG = "Exit codes: " + ", ".join(f"{int(code)} {meaning}" for code, meaning in MEANINGS.items()) + "."


class Commands(typer.core.TyperGroup):
    """All commands. What typer refuses is told as every other error is, in JSON too."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """As typer calls it. Ends the process."""
        words = options.get("args") or (args[0] if args else None) or sys.argv[1:]
        try:
            # By its own name also as `python -m holdfast.cli`, which `dev` starts.
            sys.exit(super().main(*args, **options | {"standalone_mode": False, "prog_name": NAME}))
        except MISUSE as error:
            if not (what := _what(error)):  # a group without a command has shown its help
                sys.exit(Exit.USAGE)
            place = getattr(getattr(error, "ctx", None), "command_path", NAME)
            Screen(json="--json" in words).fail(from_error(BadCommand(what, fix=f"{place} --help")).problem)
            sys.exit(Exit.USAGE)


def _what(error: Any) -> str:
    text: str = error.format_message().strip().rstrip(".")
    return text[:1].lower() + text[1:]


app = typer.Typer(
    cls=Commands,
    help="Durable execution for AI agents: run, look, answer, steer.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for part in (init, examples, serve, start, look, objects, inbox, control, schedules, check, data, doctor):
    part.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"holdfast {version('holdfast')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Durable execution for AI agents: run, look, answer, steer."""
