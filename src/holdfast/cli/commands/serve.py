"""serve and dev: running handlers behind HTTP; dev starts anew whenever a file changes.

Promises: `dev` loses no run by a reload. The old process is told to stop as any server is, and the new one goes on from
the journals. Code that cannot be imported leaves it waiting for the next change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.codes import Exit
from holdfast.cli.command import command
from holdfast.cli.loading import load_app
from holdfast.cli.reloading import Keeper
from holdfast.cli.screen import Screen
from holdfast.cli.where import require_app

PANEL = "Project"

App = Annotated[str | None, typer.Argument(metavar="[MODULE:NAME]", help="The app; from pyproject.toml if left out.")]
Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Beyond loopback only with HOLDFAST_TOKEN set.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="For calls.")]
AdminPort = Annotated[int, typer.Option("--admin-port", min=0, max=65535, help="For the command line and people.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "serve", PANEL)(serve)
    command(app, "dev", PANEL)(dev)


async def serve(
    screen: Screen, app: App = None, host: Host = "127.0.0.1", port: Port = 8080, admin_port: AdminPort = 9070
) -> None:
    """Runs the handlers behind HTTP until Ctrl-C."""


async def dev(screen: Screen, app: App = None, port: Port = 8080, admin_port: AdminPort = 9070) -> Exit:
    """Serves, and starts anew whenever a Python file changes; runs go on under the new code."""
    name = require_app(app)
    command = [
        sys.executable,
        "-m",
        "holdfast.cli",
        "serve",
        name,
        "--port",
        str(port),
        "--admin-port",
        str(admin_port),
        "--leash",
    ]
    return await Keeper(command, [Path.cwd()], screen.note).run()
