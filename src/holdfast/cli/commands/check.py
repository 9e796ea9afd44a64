"""check: which unfinished invocations would go on under the code at hand.

Promises: the code that is judged is that of the app which is named or configured here, also while a server runs the old
one: then the journals come from a copy that the server makes, and the copy is removed. A server that was named with
--url is asked about its own code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import typer

from holdfast.cli.codes import Exit
from holdfast.cli.command import command
from holdfast.cli.link import Link, connect
from holdfast.cli.render import lists
from holdfast.cli.screen import Screen
from holdfast.cli.where import Where
from holdfast.cli.wire import Check, Copied, Info
from holdfast.core.ids import make_id
from holdfast.engine.ports import SystemClock, SystemEntropy
from holdfast.errors import BadCommand, Unreachable

PANEL = "Operate"
BESIDE = ("", "-wal", "-shm", ".lock")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "check", PANEL)(check)


async def check(where: Where, screen: Screen) -> Exit:
    """Tells which unfinished journals the code at hand would break."""
    async with connect(where) as link, _judging(link, where) as judge:
        found = await judge.get("/check", list[Check])
    screen.show(found, lists.checks)
    return Exit.OK if all(row.ok for row in found.value) else Exit.FAILED


@asynccontextmanager
async def _judging(link: Link, where: Where) -> AsyncIterator[Link]:
    """The link to who has both the code at hand and the journals."""
    if not link.server and where.app is None:
        raise BadCommand(
            f"there is no code to check {where.store} against", fix=f"name its app: --app app:hf --store {where.store}"
        )
    if not link.server or where.app is None:
        yield link
        return
    copy = await _copy(link)
    try:
        async with connect(replace(where, url=None, store=copy)) as at_rest:
            yield at_rest
    finally:
        for suffix in BESIDE:
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)


async def _copy(link: Link) -> Path:
    store = Path((await link.get("/info", Info)).value.store)
    name = f"check-{make_id(SystemClock().now(), SystemEntropy().bits(72))}.db"
    await link.post("/backup", Copied, msgspec.json.encode({"path": name}))
    copy = store.with_name(name)
    if copy.exists():
        return copy
    raise Unreachable(
        f"the store of {link.place} is on another machine",
        fix="run it there, or on a backup: --app APP --store FILE",
    )
