"""asks, answer, resolve, reject, signal: what people and programs tell a waiting invocation."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from holdfast.cli import forms
from holdfast.cli.arguments import json_bytes, json_or_text
from holdfast.cli.codes import Exit
from holdfast.cli.command import command
from holdfast.cli.commands import options
from holdfast.cli.link import Link, at
from holdfast.cli.problems import CommandFailed
from holdfast.cli.render import lists
from holdfast.cli.render.words import ago, json_picture, now
from holdfast.cli.schemas import read_text
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Ask, Promise
from holdfast.errors import BadCommand, UnknownPromise

PANEL = "People and messages"
PromiseId = Annotated[str, typer.Argument(metavar="PROMISE", help="Its id, prm_...")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "asks", PANEL)(asks)
    command(app, "answer", PANEL)(answer)
    command(app, "promises", PANEL)(promises)
    command(app, "resolve", PANEL)(resolve)
    command(app, "reject", PANEL)(reject)
    command(app, "signal", PANEL)(signal)


async def asks(link: Link, screen: Screen) -> None:
    """Lists the questions that wait for a person."""
    found = await link.get("/asks", list[Ask])
    screen.show(found, lists.asks)
    if found.value:
        screen.note("holdfast answer ID")


async def answer(
    link: Link,
    screen: Screen,
    id: Annotated[str | None, typer.Argument(metavar="[ASK]", help="Which; the only open one if left out.")] = None,
    value: Annotated[str | None, typer.Option("--value", metavar="VALUE", help="The answer, without a form.")] = None,
) -> None:
    """Answers a question, in a form made from its type."""
    ask = await _ask(link, screen, id)
    if value is not None:
        await _settle(link, screen, ask.id, _given(value, ask.schema))
        return
    if not sys.stdin.isatty():
        raise BadCommand("there is no terminal to show the form in", fix=f"holdfast answer {ask.id} --value VALUE")
    _present(screen, ask)
    while True:
        filled = forms.fill(screen, ask.schema)
        try:
            await _settle(link, screen, ask.id, msgspec.json.encode(filled))
        except CommandFailed as failure:
            if failure.exit is not Exit.USAGE:
                raise
            # The server knows the type better than its schema: ask again. The schema is what the form was made from.
            screen.fail(msgspec.structs.replace(failure.problem, fix=""))
        else:
            return


async def _ask(link: Link, screen: Screen, id: str | None) -> Ask:
    if id is not None:
        found = (await link.get(at("promises", id), Promise)).value
        return Ask(
            found.id, found.invocation or "", found.question, found.created, found.schema, found.about, found.deadline
        )
    open_asks = (await link.get("/asks", list[Ask])).value
    if len(open_asks) == 1:
        return open_asks[0]
    if not open_asks:
        raise UnknownPromise("nothing is asked", fix="holdfast list --status suspended")
    if not sys.stdin.isatty():
        raise BadCommand(f"{len(open_asks)} questions are open", fix="name one: holdfast asks shows them")
    lines = [f"{ask.question}  ({ask.invocation})" for ask in open_asks]
    return open_asks[forms.choose(screen, lines)]


def _given(text: str, schema: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(read_text(text, schema, schema))
    except ValueError as error:
        raise BadCommand(f"--value {text}: expected {error}", fix="mend the value") from None


def _present(screen: Screen, ask: Ask) -> None:
    screen.ask_line(ask.question or f"promise {ask.id}")
    if ask.about is not None:
        screen.ask_line(json_picture(ask.about))
    if ask.deadline is not None:
        screen.ask_line(f"until {ask.deadline.astimezone():%Y-%m-%d %H:%M}, {ago(ask.deadline, now())}")


async def _settle(link: Link, screen: Screen, id: str, value: bytes) -> None:
    done = await link.post(at("promises", id, "resolve"), type(None), value)
    screen.done(done, f"answered: {value.decode()}")


async def promises(link: Link, screen: Screen) -> None:
    """Lists all that waits to be settled, questions and other promises."""
    found = await link.get("/promises", list[Promise])
    screen.show(found, lists.promises)
    if found.value:
        screen.note("holdfast resolve ID JSON")


async def resolve(
    link: Link,
    screen: Screen,
    id: PromiseId,
    value: Annotated[str, typer.Argument(metavar="JSON", help="Its value.")] = "null",
) -> None:
    """Settles a promise with a value."""
    done = await link.post(at("promises", id, "resolve"), type(None), json_bytes(value, "the value"))
    screen.done(done, f"{id} resolved")


async def reject(
    link: Link,
    screen: Screen,
    id: PromiseId,
    reason: Annotated[str, typer.Argument(metavar="REASON", help="What its waiter gets as an error.")],
) -> None:
    """Settles a promise with an error."""
    done = await link.post(at("promises", id, "reject"), type(None), msgspec.json.encode(reason))
    screen.done(done, f"{id} rejected")


async def signal(
    link: Link,
    screen: Screen,
    id: options.Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the handler receives by.")],
    value: options.Value = "null",
) -> None:
    """Sends a named message to an invocation."""
    done = await link.post(at("invocations", id, "signals", name), type(None), msgspec.json.encode(json_or_text(value)))
    screen.done(done, f"{name} sent to {id}")
