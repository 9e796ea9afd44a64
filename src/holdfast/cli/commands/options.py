"""Arguments and options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)?")
_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def seconds(text: str) -> float:
    """A length of time as people write it: 90, 90s, 15min, 2h, 30d."""
    found = _SPAN.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter("write a number and a unit: 30s, 15min, 2h, 7d")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def iso(length: float) -> str:
    """Seconds as an ISO 8601 duration, the form HTTP takes."""
    whole = timedelta(seconds=length)
    return f"P{whole.days}DT{whole.seconds + whole.microseconds / 1e6:g}S"


Span = Annotated[float | None, typer.Option(parser=seconds, metavar="TIME")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The invocation.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="The invocations.")]
Target = Annotated[str, typer.Argument(metavar="SERVICE/HANDLER", help="What to run.")]
Pairs = Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="Its arguments, read by their types.")]
Body = Annotated[str | None, typer.Option("--body", metavar="JSON", help="All of its input as JSON; - reads stdin.")]
Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Of an object or workflow.")]
NewId = Annotated[str | None, typer.Option("--id", metavar="ID", help="The id of the new invocation.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with it.")]
Full = Annotated[bool, typer.Option("--full", help="Cut nothing short.")]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="JSON, or a text.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
