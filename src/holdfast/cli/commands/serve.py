"""serve and dev: running handlers behind HTTP; dev starts anew whenever a file changes.

Promises: `dev` loses no run by a reload. The old process is told to stop as any server is, and the new one goes on from
the journals. Code that cannot be imported leaves it waiting for the next change; what no change of code would mend,
such as a port that is taken, ends it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from holdfast.app import Holdfast
from holdfast.cli.codes import UNLOADED, Exit
from holdfast.cli.command import command
from holdfast.cli.loading import load_app
from holdfast.cli.problems import from_error
from holdfast.cli.screen import Screen
from holdfast.cli.where import require_app
from holdfast.errors import AppNotLoaded, BadHandler
from holdfast.http.options import HttpOptions

if TYPE_CHECKING:
    from holdfast.http.server import Servers

PANEL = "Project"
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
LEASH_BYTES = 1024

App = Annotated[str | None, typer.Argument(metavar="[MODULE:NAME]", help="The app; else the one in pyproject.toml.")]
Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Beyond loopback only with a token.")]
AdminHost = Annotated[str, typer.Option("--admin-host", metavar="ADDRESS", help="Beyond loopback only with a token.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="For calls.")]
AdminPort = Annotated[int, typer.Option("--admin-port", min=0, max=65535, help="For this command line.")]
Tokens = Annotated[Path | None, typer.Option("--tokens", metavar="FILE", help="SHA-256 hashes of tokens, one a line.")]
AllowHost = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", help="Another name the server is asked by, as through a proxy."),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option("--allow-origin", metavar="ORIGIN", help="A web page that may ask: https://desk.example.com"),
]
Leash = Annotated[bool, typer.Option("--leash", hidden=True, help="End with whoever holds standard input.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="A line for each request.")]
Watched = Annotated[list[Path] | None, typer.Option("--watch", metavar="FOLDER", help="Besides this one.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "serve", PANEL)(serve)
    command(app, "dev", PANEL)(dev)


async def serve(
    screen: Screen, app: App = None, host: Host = "127.0.0.1", port: Port = 8080, admin_host: AdminHost = "127.0.0.1",
    admin_port: AdminPort = 9070, tokens: Tokens = None, allow_host: AllowHost = None, allow_origin: AllowOrigin = None,
    verbose: Verbose = False, leash: Leash = False,
) -> None:  # fmt: skip
    """Runs handlers behind HTTP until Ctrl-C."""
    from holdfast.http.server import serve as run

    logging.basicConfig(format=LOG_FORMAT, datefmt="%H:%M:%S", level=logging.WARNING)
    logging.getLogger("holdfast").setLevel(logging.DEBUG if verbose else logging.WARNING)
    name = require_app(app)
    options = HttpOptions(
        host=host, port=port, admin_host=admin_host, admin_port=admin_port, tokens_file=tokens,
        hosts=allow_host or (), origins=allow_origin or (),
    )  # fmt: skip
    checks: list[asyncio.Task[None]] = []

    def ready(servers: Servers) -> None:
        _ready(screen, name, hf, servers)
        if leash:
            checks.append(asyncio.create_task(_check(screen, servers)))

    try:
        hf = load_app(name)
        # What was imported stays: looked through by each full collection, an agent SDK made one call in a hundred take
        # 145 ms instead of 50.
        gc.freeze()
        if leash:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _leash)
        await run(hf, options, ready)
        await asyncio.gather(*checks)
    except (AppNotLoaded, BadHandler) as error:
        if not leash:
            raise
        screen.fail(from_error(error).problem)
        raise typer.Exit(UNLOADED) from error


async def dev(
    screen: Screen, app: App = None, port: Port = 8080, admin_port: AdminPort = 9070, watch: Watched = None
) -> Exit:
    """Serves, and starts anew when a Python file changes; runs go on."""
    from holdfast.cli.reloading import Keeper

    ports = ["--port", str(port), "--admin-port", str(admin_port)]
    serving = [sys.executable, "-m", "holdfast.cli", "serve", require_app(app), *ports, "--leash"]
    serving += ["--json"] if screen.json else []
    return await Keeper(serving, [Path.cwd(), *(watch or [])], screen.note).run()


def _ready(screen: Screen, name: str, hf: Holdfast, servers: Servers) -> None:
    if screen.json:
        found = {"ingress": servers.ingress_url, "admin": servers.admin_url, "process": os.getpid()}
        screen.raw(msgspec.json.encode(found))
        return
    handlers = ", ".join(handler.target for handler in hf.handlers) or "none"
    screen.say(f"holdfast {version('holdfast')} serves {name}, process {os.getpid()}")
    screen.say(f"  calls     {servers.ingress_url}")
    screen.say(f"  admin     {servers.admin_url}")
    screen.say(f"  store     {hf.store_path or 'not a file'}")
    screen.say(f"  handlers  {handlers}")


async def _check(screen: Screen, servers: Servers) -> None:
    """Under `dev` the code may be another one than a moment ago; a deploy is checked before it, by `holdfast check`."""
    misfits = sum(not row.ok for row in await servers.client.check())
    if misfits:
        runs = "1 unfinished run does" if misfits == 1 else f"{misfits} unfinished runs do"
        screen.note(f"{runs} not fit the new code: holdfast check")


def _leash() -> None:
    """Whoever started us is gone when its end of the pipe is: then this is as good as SIGTERM."""
    if not os.read(sys.stdin.fileno(), LEASH_BYTES):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        os.kill(os.getpid(), signal.SIGTERM)
