"""list, show, watch, handlers: looking, without touching."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from holdfast.cli.codes import Exit
from holdfast.cli.command import command, going_on
from holdfast.cli.commands import options
from holdfast.cli.events import events
from holdfast.cli.link import Link, at
from holdfast.cli.names import require_target
from holdfast.cli.problems import CommandFailed
from holdfast.cli.render import lists, timeline, watching
from holdfast.cli.render.layout import Line
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Ask, Event, Handler, Invocation, JournalPage, Page, Step
from holdfast.errors import UnknownInvocation, Unreachable

PANEL = "Look"
_as_step = msgspec.json.Decoder(Step).decode
CHILD_DEPTH_MAX = 3
CHILDREN_MAX = 50  # invocations read for one timeline


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "list", PANEL)(list_)
    command(app, "show", PANEL)(show)
    command(app, "watch", PANEL)(watch)
    command(app, "handlers", PANEL)(handlers)


async def list_(
    link: Link,
    screen: Screen,
    status: Annotated[str | None, typer.Option(metavar="WORD", help="paused, failed, suspended, ...")] = None,
    target: Annotated[str | None, typer.Option(metavar="SERVICE/HANDLER", help="Of one handler.")] = None,
    key: options.Key = None,
    parent: Annotated[str | None, typer.Option(metavar="ID", help="Called by this one.")] = None,
    before: Annotated[str | None, typer.Option(metavar="ID", help="Go on below this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
) -> None:
    """Lists invocations, newest first."""
    found = await link.get(
        "/invocations",
        Page,
        {"status": status, "target": target, "key": key, "parent": parent, "before": before, "limit": limit},
    )
    if target is not None and not found.value.invocations:  # runs of a handler that is gone are still shown
        await require_target(link, target)
    screen.show(found, lambda page: lists.invocations(page.invocations))
    if found.value.next is not None:
        screen.note(f"there are more: --limit {limit * 10}, or --before {found.value.next}")


async def show(
    link: Link,
    screen: Screen,
    id: options.Id,
    step: Annotated[str | None, typer.Option("--step", metavar="STEP", help="Only this one, whole.")] = None,
    full: options.Full = False,
) -> None:
    """Shows one invocation and its journal as a timeline."""
    head = await link.get(at("invocations", id), Invocation)
    journal = await _journal(link, id)
    if screen.json and step is None:
        screen.raw(b'{"invocation":' + head.raw.strip() + b',"journal":[' + b",".join(journal) + b"]}")
        return
    steps = [_as_step(line) for line in journal]
    if step is not None:
        await _show_step(link, screen, id, step, steps)
    else:
        run = await _with_children(link, head.value, steps, depth=0, left=[CHILDREN_MAX])
        screen.say(timeline.show(run, full=full))
        if (hint := timeline.hint(run)) is not None:
            screen.note(hint)


async def _journal(link: Link, id: str) -> list[bytes]:
    """All lines of a journal, page by page, as they are sent."""
    lines: list[bytes] = []
    after: int | None = 0
    while after is not None:
        page = (await link.get(at("invocations", id, "journal"), JournalPage, {"after": after})).value
        lines += map(bytes, page.steps)
        after = page.next
    return lines


async def _show_step(link: Link, screen: Screen, id: str, wanted: str, journal: list[Step]) -> None:
    step = next((step for step in journal if step.id == wanted), None)
    if step is None:
        known = ", ".join(step.id for step in journal) or "none"
        fix = f"it has: {known}"
        raise UnknownInvocation(f"invocation {id!r} has no step {wanted!r}", fix=fix)
    if step.large:
        step.inputs = (await link.get(at("invocations", id, "inputs"), Any, {"step": wanted})).value
    if screen.json:
        screen.raw(msgspec.json.encode(step))
    else:
        screen.say(timeline.whole(step))


async def _with_children(
    link: Link, head: Invocation, steps: list[Step], *, depth: int, left: list[int]
) -> timeline.Run:
    children: dict[str, timeline.Run] = {}
    for step in steps:
        if step.child is None or depth >= CHILD_DEPTH_MAX or left[0] <= 0:
            continue
        left[0] -= 1
        try:
            below = (await link.get(at("invocations", step.child), Invocation)).value
            journal = [_as_step(line) for line in await _journal(link, step.child)]
        except CommandFailed as failure:
            if failure.exit is not Exit.NOT_FOUND:  # a child may have been purged before its parent
                raise
            continue
        children[step.child] = await _with_children(link, below, journal, depth=depth + 1, left=left)
    return timeline.Run(head, steps, children)


async def watch(link: Link, screen: Screen, id: options.Id) -> Exit:
    """Follows one invocation live until it ends."""
    if not link.server:
        raise Unreachable("no server runs, so nothing can be followed", fix=f"holdfast show {id} tells what is stored")
    head = (await link.get(at("invocations", id), Invocation)).value
    with going_on(screen, id):
        return await _follow(link, screen, head)


async def _follow(link: Link, screen: Screen, head: Invocation) -> Exit:
    id = head.id
    picture = watching.Picture(head)
    open_line = False  # pieces of a model's answer stand in it, and the next one may go on
    async for event in events(link, id, on_away=lambda: screen.note("the server is away; waiting for it")):
        if screen.json:
            screen.raw(msgspec.json.encode({"id": event.id, "event": event.kind, "data": event.data}))
        elif event.kind == "chunk":
            screen.stream(watching.told(event.data.get("event")))
            open_line = True
        else:
            if open_line:
                screen.say("")
            screen.say(Line(picture.line(event, await _questions(link, id, event))))
            open_line = False
        if event.ends:
            return Exit.OK if _ended_well(event.data) else Exit.FAILED
    return Exit.OK


async def _questions(link: Link, id: str, event: Event) -> list[str]:
    """What a suspended one asks a person."""
    if event.kind != "status" or event.data.get("status") != "suspended":
        return []
    try:
        return [ask.question for ask in (await link.get("/asks", list[Ask])).value if ask.invocation == id]
    except CommandFailed as failure:
        if failure.exit is not Exit.UNREACHABLE:  # the server is away: the stream finds that out too, and waits
            raise
        return []


def _ended_well(data: Any) -> bool:
    return isinstance(data, dict) and data.get("status") == "done"


async def handlers(link: Link, screen: Screen) -> None:
    """Lists what can be called, with arguments and results."""
    screen.show(await link.get("/handlers", list[Handler]), lists.handlers)
