"""sql and backup: the store itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from holdfast.cli.command import command
from holdfast.cli.link import Link
from holdfast.cli.render import lists
from holdfast.cli.render.words import size
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Copied, Rows
from holdfast.errors import BadCommand

PANEL = "Operate"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "sql", PANEL)(sql)
    command(app, "backup", PANEL)(backup)


async def sql(
    link: Link,
    screen: Screen,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One SELECT; - reads stdin.")],
) -> None:
    """Reads the store's tables. Nothing can be changed by it."""
    text = sys.stdin.read() if query == "-" else query
    found = await link.post("/sql", Rows, msgspec.json.encode({"query": text}))
    screen.show(found, lists.rows)
    if found.value.cut:
        screen.note(f"the first {len(found.value.rows)} rows; add LIMIT and OFFSET")


async def backup(
    link: Link,
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A new file's name, in the store's folder.")],
) -> None:
    """Copies the store to a new file while everything goes on."""
    if Path(name).name != name:
        raise BadCommand(f"{name!r} is a path; a backup goes into the store's folder", fix="give a name: copy.db")
    done = await link.post("/backup", Copied, msgspec.json.encode({"path": name}))
    screen.done(done, f"{done.value.path}, {size(done.value.bytes)}")
