"""schedules: what the clock starts."""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.cli.command import command
from holdfast.cli.link import Link, at
from holdfast.cli.render import lists
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Schedule, Started

PANEL = "Control"
ScheduleId = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its id.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="What the clock starts: list, pause, resume, trigger.", no_args_is_help=True)
    command(group, "list")(list_)
    command(group, "pause")(pause)
    command(group, "resume")(resume)
    command(group, "trigger")(trigger)
    app.add_typer(group, name="schedules", rich_help_panel=PANEL)


async def list_(link: Link, screen: Screen) -> None:
    """Lists schedules and when they are due."""
    screen.show(await link.get("/schedules", list[Schedule]), lists.schedules)


async def pause(link: Link, screen: Screen, id: ScheduleId) -> None:
    """Starts nothing more until it is resumed."""
    await _post(link, screen, id, "pause", "paused")


async def resume(link: Link, screen: Screen, id: ScheduleId) -> None:
    """Lets a paused one go on."""
    await _post(link, screen, id, "resume", "goes on")


async def trigger(link: Link, screen: Screen, id: ScheduleId) -> None:
    """Starts its handler now, besides the times of its rule."""
    started = await link.post(at("schedules", id, "trigger"), Started)
    screen.done(started, started.value.id)


async def _post(link: Link, screen: Screen, id: str, verb: str, done: str) -> None:
    answer = await link.post(at("schedules", id, verb), type(None))
    screen.done(answer, f"{id} {done}")
