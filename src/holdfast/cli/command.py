"""Turns an async function into a command: flags that all commands share, the link, and how it ends.

Promises: one place decides what a failure prints and which number it exits with. A command names what it needs by
type: a parameter that is a Link, a Screen or a Where is given to it and is no option.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.codes import Exit
from holdfast.cli.link import Link, connect
from holdfast.cli.problems import CommandFailed, from_error
from holdfast.cli.screen import Screen
from holdfast.cli.where import Where, settle
from holdfast.errors import BadCommand, HoldfastError

CLOSED = BadCommand("the terminal was closed", fix="nothing was changed; start again")

Work = Callable[..., Coroutine[Any, Any, Exit | None]]

GIVEN = (Link, Screen, Where)

_PLACE = "Where"
_SHARED: dict[str, Any] = {
    "url": Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A server's admin face.", rich_help_panel=_PLACE),
    ],
    "app": Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:NAME", help="The app, when no server runs.", rich_help_panel=_PLACE),
    ],
    "store": Annotated[
        Path | None,
        typer.Option("--store", metavar="FILE", help="Its file, when no server runs.", rich_help_panel=_PLACE),
    ],
    "json": Annotated[bool, typer.Option("--json", help="Answer in JSON, errors too.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show tracebacks.", hidden=True)],
}


def command(app: typer.Typer, name: str, panel: str | None = None) -> Callable[[Work], Work]:
    """Registers an async function under a name. Its docstring is the help."""

    def register(work: Work) -> Work:
        own = list(inspect.signature(work, eval_str=True).parameters.values())
        wanted = {parameter.annotation: parameter.name for parameter in own if parameter.annotation in GIVEN}
        places = ("url", "app", "store") if Link in wanted or Where in wanted else ()
        names: dict[str, Any] = {**dict.fromkeys(places), "json": False, "debug": False}

        @functools.wraps(work)
        def run(**values: Any) -> None:
            shared = {name: values.pop(name) for name in names}
            raise typer.Exit(perform(work, wanted, shared, values))

        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_SHARED[name])
            for name, default in names.items()
        ]
        kept = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in own if parameter.annotation not in GIVEN
        ]  # fmt: skip
        run.__signature__ = inspect.Signature([*kept, *options])  # type: ignore[attr-defined]  # read by typer
        run.__annotations__ = {}
        app.command(name, rich_help_panel=panel)(run)
        return work

    return register


def perform(work: Work, wanted: dict[Any, str], shared: dict[str, Any], values: dict[str, Any]) -> int:
    """Runs a command's work and turns whatever ends it into an exit code."""
    screen = Screen(json=shared["json"])
    try:
        return int(asyncio.run(_run(work, wanted, shared, values, screen)) or Exit.OK)
    except (CommandFailed, HoldfastError) as error:
        if shared["debug"]:
            raise
        failure = error if isinstance(error, CommandFailed) else from_error(error)
        screen.fail(failure.problem)
        return int(failure.exit)
    except EOFError:
        screen.fail(from_error(CLOSED).problem)
        return int(Exit.USAGE)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read has seen enough, as `head` does. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)


@contextmanager
def going_on(screen: Screen, id: str) -> Iterator[None]:
    """Around waiting for an invocation: Ctrl-C ends the waiting, and that is said."""
    try:
        yield
    except asyncio.CancelledError:
        screen.note(f"{id} goes on; holdfast watch {id}")
        raise


async def _run(
    work: Work, wanted: dict[Any, str], shared: dict[str, Any], values: dict[str, Any], screen: Screen
) -> Exit | None:
    if Screen in wanted:
        values[wanted[Screen]] = screen
    if not {Link, Where} & wanted.keys():
        return await work(**values)
    where = settle(shared["url"], shared["app"], shared["store"], os.environ, Path.cwd())
    if Where in wanted:
        values[wanted[Where]] = where
    if Link not in wanted:
        return await work(**values)
    async with connect(where) as link:
        if where.fallback and not link.server:
            screen.note(f"no server runs; this is {link.place} at rest")
        return await work(**values, **{wanted[Link]: link})
