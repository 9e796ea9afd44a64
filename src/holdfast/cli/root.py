"""The `holdfast` command: its groups, and what it says of itself."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from holdfast.cli.codes import MEANINGS
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

EPILOG = "Exit codes: " + ", ".join(f"{int(code)} {meaning}" for code, meaning in MEANINGS.items()) + "."

app = typer.Typer(
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
