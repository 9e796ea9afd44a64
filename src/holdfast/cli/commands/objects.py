"""state: the data an object keeps for each key."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from holdfast.cli.arguments import json_or_text
from holdfast.cli.command import command
from holdfast.cli.commands import options
from holdfast.cli.link import Link, at
from holdfast.cli.names import no_value, require_object
from holdfast.cli.render import lists
from holdfast.cli.screen import Screen
from holdfast.cli.wire import Keys

PANEL = "Look"
Service = Annotated[str, typer.Argument(metavar="OBJECT", help="The object's name.")]
ObjectKey = Annotated[str, typer.Argument(metavar="KEY", help="Which one.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Which value.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Reads and changes what objects keep.", no_args_is_help=True)
    command(group, "keys")(keys)
    command(group, "show")(show)
    command(group, "set")(set_)
    command(group, "clear")(clear)
    app.add_typer(group, name="state", rich_help_panel=PANEL)


async def keys(
    link: Link,
    screen: Screen,
    service: Service,
    after: Annotated[str, typer.Option(metavar="KEY", help="Go on behind this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
) -> None:
    """Lists the keys an object has state for."""
    found = await link.get(at("objects", service), Keys, {"after": after or None, "limit": limit})
    if not found.value.keys:
        await require_object(link, service)
    screen.show(found, lambda page: lists.keys(page.keys))
    if found.value.next is not None:
        screen.note(f"there are more: --after {found.value.next}")


async def show(link: Link, screen: Screen, service: Service, key: ObjectKey) -> None:
    """Shows what one key keeps."""
    found = await link.get(at("objects", service, key), dict[str, Any])
    if not found.value:
        await require_object(link, service)
    screen.show(found, lists.state)


async def set_(link: Link, screen: Screen, service: Service, key: ObjectKey, name: Name, value: options.Value) -> None:
    """Changes a value; refused while a handler of the key is at work."""
    await require_object(link, service)
    body = msgspec.json.encode(json_or_text(value))
    answer = await link.ask("PUT", at("objects", service, key, name), type(None), body=body)
    screen.done(answer, f"{service} {key} {name} set")


async def clear(link: Link, screen: Screen, service: Service, key: ObjectKey, name: Name) -> None:
    """Removes a value; refused while a handler of the key is at work."""
    values = (await link.get(at("objects", service, key), dict[str, Any])).value
    if name not in values:
        await require_object(link, service)
        raise no_value(service, key, name, values)
    answer = await link.ask("DELETE", at("objects", service, key, name), type(None))
    screen.done(answer, f"{service} {key} {name} cleared")
