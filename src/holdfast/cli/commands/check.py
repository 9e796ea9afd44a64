"""check: which unfinished invocations would go on under the code at hand."""

from __future__ import annotations

import typer

from holdfast.cli.codes import Exit
from holdfast.cli.command import command
from holdfast.cli.link import Link
from holdfast.cli.render import lists
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Check

PANEL = "Operate"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "check", PANEL)(check)


async def check(link: Link, screen: Screen) -> Exit:
    """Replays every unfinished journal against the code, without running a step. Fails if one would break."""
    found = await link.get("/check", list[Check])
    screen.show(found, lists.checks)
    return Exit.OK if all(row.ok for row in found.value) else Exit.FAILED
