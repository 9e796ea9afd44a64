"""What integrations ask about the handler that calls them."""

from __future__ import annotations

from holdfast import Context, WrongPlace, current

NAME_CHARS_MAX = 100  # of a step


def running() -> Context | None:
    """The context of the handler that runs; None in a step's body and outside of Holdfast."""
    try:
        return current()
    except WrongPlace:
        return None


def readable(name: str) -> str:
    """A library's name as the name of a step."""
    return "".join("_" if char in "/#" or not char.isprintable() else char for char in name)[:NAME_CHARS_MAX]
