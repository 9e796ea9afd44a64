"""Names a person gave that nothing has: told with those there are, where an empty answer would pass for a finding.

Refuses: to judge a name without code at hand. A bare file knows no handlers.
"""

from __future__ import annotations

from holdfast.cli.codes import Exit
from holdfast.cli.link import Link
from holdfast.cli.problems import CommandFailed, from_error
from holdfast.cli.wire import Handler
from holdfast.errors import BadCommand, UnknownHandler

MISTYPED = "the name is mistyped, or it was never given to Holdfast(services=[...])"


async def require_target(link: Link, target: str) -> None:
    """Raises UnknownHandler for a target, or a "Service/", that no handler has."""
    known = sorted(handler.target for handler in await _handlers(link))
    if known and not any(name == target or (target.endswith("/") and name.startswith(target)) for name in known):
        raise UnknownHandler(
            f"there is no handler {target!r}; known: {', '.join(known)}", cause=MISTYPED, fix="name one of these"
        )


async def require_object(link: Link, service: str) -> None:
    """Raises UnknownHandler for a service that keeps no state, or is none."""
    handlers = await _handlers(link)
    known = sorted({handler.target.partition("/")[0] for handler in handlers if handler.kind != "service"})
    if handlers and service not in known:
        names = ", ".join(known) or "none"
        raise UnknownHandler(f"there is no object {service!r}; known: {names}", cause=MISTYPED, fix="name one of these")


def no_value(service: str, key: str, name: str, values: dict[str, object]) -> CommandFailed:
    """The failure for a value that a key does not keep."""
    failure = from_error(
        BadCommand(f"{service} {key} keeps no {name!r}", fix=f"it keeps: {', '.join(values) or 'nothing'}")
    )
    return CommandFailed(failure.problem, Exit.NOT_FOUND)


async def _handlers(link: Link) -> list[Handler]:
    return (await link.get("/handlers", list[Handler])).value
