"""What can go wrong with a command: one exception, whichever side found it.

Promises: every failure has the fact, the likely cause and the next step, and an exit code; as JSON it has the same form
whether the server or this process wrote it. Refuses: to show a traceback, unless --debug asks for it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.cli.codes import Exit, exit_of
from holdfast.errors import HoldfastError, StoreError, explain


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document (RFC 9457) with the fields Holdfast adds. What a server left out is empty."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    code: str = ""
    cause: str = ""
    fix: str = ""
    invocation: str | None = None

    def text(self) -> str:
        """For a person."""
        return explain(self.code or f"HTTP {self.status}", self.detail or self.title, self.cause, self.fix)


class CommandFailed(Exception):
    """Ends a command with a problem and an exit code."""

    def __init__(self, problem: Problem, exit: Exit) -> None:
        super().__init__(problem.text())
        self.problem = problem
        self.exit = exit


def from_error(error: HoldfastError, exit: Exit | None = None) -> CommandFailed:
    """The failure for an error that was raised in this process."""
    kind = type(error).__name__
    problem = Problem(
        type=f"urn:holdfast:{error.code}",
        title=kind,
        detail=error.what,
        code=error.code,
        cause=error.cause,
        fix=error.fix,
    )
    found = Exit.UNREACHABLE if isinstance(error, StoreError) else Exit.USAGE
    return CommandFailed(problem, exit or found)


def from_answer(status: int, body: bytes, where: str) -> CommandFailed:
    """The failure for an HTTP answer that is no success."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        problem = Problem()
    if not problem.code and not problem.title:
        problem = Problem(
            status=status,
            title="Foreign answer",
            detail=f"{where} answered {status}, which is nothing Holdfast says",
            cause="another program listens there, or a proxy stands between",
            fix="name the server with --url or HOLDFAST_URL",
        )
        return CommandFailed(problem, Exit.UNREACHABLE)
    problem.status = problem.status or status
    return CommandFailed(problem, exit_of(status, problem.code))


def as_json(problem: Problem) -> bytes:
    """For a machine."""
    fields: dict[str, Any] = msgspec.to_builtins(problem)
    return msgspec.json.encode(fields)
