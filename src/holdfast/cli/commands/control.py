"""cancel, kill, pause, resume, retry, restart, fork, purge: steering what runs.

Promises: with several ids each is tried, whatever became of the others, and the exit code is that of the first failure.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from holdfast.cli.arguments import json_bytes
from holdfast.cli.codes import Exit
from holdfast.cli.command import command
from holdfast.cli.commands import options
from holdfast.cli.link import Answer, Link, at
from holdfast.cli.problems import CommandFailed
from holdfast.cli.render.words import span
from holdfast.cli.schemas import YES
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Purged, Started
from holdfast.errors import BadCommand

PANEL = "Control"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for name, work in (
        ("cancel", cancel), ("kill", kill), ("pause", pause), ("resume", resume),
        ("retry", retry), ("restart", restart), ("fork", fork), ("purge", purge),
    ):  # fmt: skip
        command(app, name, PANEL)(work)


async def cancel(
    link: Link, screen: Screen, ids: options.Ids, reason: options.Reason = "cancelled at the command line"
) -> Exit:
    """Asks invocations and what they called to end; their clean-up still runs."""
    return await _each(link, screen, ids, "cancel", "is asked to end", reason=reason)


async def kill(
    link: Link, screen: Screen, ids: options.Ids, reason: options.Reason = "killed at the command line"
) -> Exit:
    """Ends invocations at once, without clean-up."""
    return await _each(link, screen, ids, "kill", "killed", reason=reason)


async def pause(
    link: Link, screen: Screen, ids: options.Ids, reason: options.Reason = "paused at the command line"
) -> Exit:
    """Stops invocations where they are; nothing is lost."""
    return await _each(link, screen, ids, "pause", "paused", reason=reason)


async def resume(link: Link, screen: Screen, ids: options.Ids) -> Exit:
    """Lets paused invocations go on."""
    return await _each(link, screen, ids, "resume", "goes on")


async def retry(link: Link, screen: Screen, ids: options.Ids) -> Exit:
    """Reopens failed invocations at the point where they failed."""
    return await _each(link, screen, ids, "retry", "goes on where it failed")


async def restart(
    link: Link,
    screen: Screen,
    id: options.Id,
    step: Annotated[str | None, typer.Option("--from", metavar="STEP", help="Keep what came before it.")] = None,
    new: options.NewId = None,
) -> None:
    """Runs one again as a new invocation, from the start or from a step."""
    started = await link.post(at("invocations", id, "restart"), Started, params={"from": step, "id": new})
    _new(screen, started)


async def fork(
    link: Link,
    screen: Screen,
    id: options.Id,
    step: Annotated[str, typer.Argument(metavar="STEP", help="Whose result is replaced.")],
    result: Annotated[str, typer.Argument(metavar="JSON", help="The other result.")],
    new: options.NewId = None,
) -> None:
    """Goes on from a step as a new invocation, with another result for it."""
    started = await link.post(
        at("invocations", id, "fork"), Started, json_bytes(result, "the result"), {"step": step, "id": new}
    )
    _new(screen, started)


def _new(screen: Screen, started: Answer[Started]) -> None:
    screen.done(started, started.value.id)


async def purge(
    link: Link,
    screen: Screen,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Ended invocations.")] = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", parser=options.seconds, metavar="TIME", help="All that ended so long ago: 30d."),
    ] = None,
    yes: options.Yes = False,
) -> Exit:
    """Deletes ended invocations with their journals."""
    if bool(ids) == (older_than is not None):
        raise BadCommand("purge needs ids or --older-than, and not both", fix="holdfast purge --older-than 30d")
    if older_than is None:
        return await _each(link, screen, ids or [], "purge", "purged")
    length = options.iso(older_than)
    if not yes:
        _confirm(screen, f"Delete all that ended more than {span(older_than)} ago from {link.place}? (y/N) ")
    gone = await link.post("/invocations/purge", Purged, params={"older_than": length})
    screen.done(gone, f"{gone.value.purged} purged")
    return Exit.OK


def _confirm(screen: Screen, question: str) -> None:
    if not sys.stdin.isatty():
        raise BadCommand("nobody is there to say yes", fix="give --yes")
    if screen.ask(question).strip().lower() not in YES:
        raise BadCommand("nothing was deleted", fix="say yes, or give --yes")


async def _each(link: Link, screen: Screen, ids: list[str], verb: str, done: str, **params: str) -> Exit:
    code = Exit.OK
    for id in ids:
        try:
            answer = await link.post(at("invocations", id, verb), type(None), params=params)
        except CommandFailed as failure:
            screen.fail(failure.problem)
            code = code or failure.exit
            continue
        screen.done(answer, f"{id} {done}")
    if not link.server and verb in {"cancel", "resume", "retry"}:
        screen.note("it happens when a server starts")
    return code
