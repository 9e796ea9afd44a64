"""call and send: starting invocations, and waiting for what they return.

Promises: `call` outlives its server. It sends under an id of its own, and when the connection breaks it asks for that
id again until somebody answers.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import typer

from holdfast.cli.arguments import body_of
from holdfast.cli.codes import Exit
from holdfast.cli.command import command, going_on
from holdfast.cli.commands import options
from holdfast.cli.link import ACCEPTED, Answer, Link, at
from holdfast.cli.problems import CommandFailed
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Handler, Started
from holdfast.core.ids import make_id
from holdfast.engine.ports import SystemClock, SystemEntropy
from holdfast.errors import BadCommand, TimedOut, UnknownHandler, Unreachable

PANEL = "Run"
POLL_SECONDS = 20.0
AWAY_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "call", PANEL)(call)
    command(app, "send", PANEL)(send)
    command(app, "result", PANEL)(result)


async def call(
    link: Link,
    screen: Screen,
    target: options.Target,
    arguments: options.Pairs = None,
    body: options.Body = None,
    key: options.Key = None,
    id: options.NewId = None,
    wait: Annotated[
        float | None,
        typer.Option("--wait", parser=options.seconds, metavar="TIME", help="How long; for ever if left out."),
    ] = None,
) -> None:
    """Runs a handler and prints what it returns."""
    if not link.server:
        raise Unreachable(
            "no server runs, so nobody would run the handler",
            cause="call waits for a result",
            fix="start one: holdfast serve. Or leave it for the next one: holdfast send",
        )
    started = await _send(link, target, arguments or [], body, key, id, delay=None)
    screen.note(started.value.id)
    with going_on(screen, started.value.id):
        answer = await _result(link, screen, started.value.id, wait)
    screen.data(answer.value)


async def send(
    link: Link,
    screen: Screen,
    target: options.Target,
    arguments: options.Pairs = None,
    body: options.Body = None,
    key: options.Key = None,
    id: options.NewId = None,
    delay: Annotated[
        float | None, typer.Option("--delay", parser=options.seconds, metavar="TIME", help="Begin that much later.")
    ] = None,
) -> None:
    """Starts a handler and prints its id, as soon as that is durable."""
    started = await _send(link, target, arguments or [], body, key, id, delay)
    screen.done(started, started.value.id)
    if not link.server:
        screen.note("it begins when a server starts")


async def result(
    link: Link,
    screen: Screen,
    id: options.Id,
    wait: Annotated[
        float | None,
        typer.Option("--wait", parser=options.seconds, metavar="TIME", help="How long; for ever if left out."),
    ] = None,
) -> None:
    """Waits for an invocation that was started before and prints what it returns."""
    if link.server:
        with going_on(screen, id):
            answer = await _result(link, screen, id, wait)
        screen.data(answer.value)
        return
    found = await link.get(at("invocations", id, "result"), msgspec.Raw, {"wait": 0})
    if found.status == ACCEPTED:
        raise Unreachable(f"{id} has not ended, and no server runs it", fix="start one: holdfast serve")
    screen.data(msgspec.json.decode(found.raw))


async def _send(
    link: Link, target: str, pairs: list[str], body: str | None, key: str | None, id: str | None, delay: float | None
) -> Answer[Started]:
    handler = _find(target, (await link.get("/handlers", list[Handler])).value, key)
    data = body_of(target, pairs, body, handler.arguments)
    # With an id, a request whose answer was lost can be made again: the second one attaches. A workflow has its key.
    known = id if id is not None or handler.main else make_id(SystemClock().now(), SystemEntropy().bits(72))
    params = {"target": target, "key": key, "id": known, "delay": None if delay is None else options.iso(delay)}
    return await link.post("/invocations", Started, data or None, params)


def _find(target: str, handlers: list[Handler], key: str | None) -> Handler:
    found = next((handler for handler in handlers if handler.target == target), None)
    known = ", ".join(sorted(handler.target for handler in handlers)) or "none"
    if found is None:
        parts = target.split("/")
        keyed = len(parts) == 3 and f"{parts[0]}/{parts[2]}" in known
        raise UnknownHandler(
            f"there is no handler {target!r}; known: {known}",
            cause="its service was not given to Holdfast(services=[...]), or the name is mistyped",
            fix=f"write {parts[0]}/{parts[2]} --key {parts[1]}" if keyed else "holdfast handlers shows what each takes",
        )
    if (key is None) != (found.kind == "service"):
        raise BadCommand(
            f"{target} belongs to {'an object' if found.kind == 'object' else f'a {found.kind}'}"
            + (" and takes no key" if key is not None else " and needs a key"),
            fix="leave --key out" if key is not None else f"holdfast call {target} --key KEY ...",
        )
    return found


async def _result(link: Link, screen: Screen, id: str, wait: float | None) -> Answer[Any]:
    async def ask() -> Answer[Any]:
        away = False
        while True:
            try:
                answer = await link.get(at("invocations", id, "result"), msgspec.Raw, {"wait": POLL_SECONDS})
            except CommandFailed as failure:
                if failure.exit is not Exit.UNREACHABLE:
                    if "next step:" not in failure.problem.detail:
                        failure.problem.fix = failure.problem.fix or f"holdfast show {id}"
                    raise
                if not away:
                    screen.note("the server is away; it goes on when one is back")
                away = True
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if answer.status != ACCEPTED:
                return answer._replace(value=msgspec.json.decode(answer.raw))
            away = False

    try:
        async with asyncio.timeout(wait):
            return await ask()
    except TimeoutError:
        late = TimedOut(f"{id} is not over", fix=f"it goes on; holdfast watch {id}, or call again with --id {id}")
        raise late from None
