"""How a command fails: one form, whichever side found out.

Promises: every failure has the fact, the likely cause and the next step, and an exit code; as JSON it has the same form
whether the server or this process wrote it. Refuses: to show a traceback, unless --debug asks for it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.cli.codes import Exit, exit_of
from holdfast.errors import (
    HoldfastError,
    StoreError,
    TimedOut,
    UnknownHandler,
    UnknownInvocation,
    UnknownPromise,
    Unreachable,
    explain,
)

_EXITS: tuple[tuple[tuple[type[HoldfastError], ...], Exit], ...] = (
    ((UnknownHandler, UnknownInvocation, UnknownPromise), Exit.NOT_FOUND),
    ((Unreachable, StoreError), Exit.UNREACHABLE),
    ((TimedOut,), Exit.TIMEOUT),
)


_AT_A_TERMINAL = {  # the next step of who writes requests is another one at the command line
    "HF105": "`holdfast asks` lists the open questions",
    "HF503": "holdfast show {invocation}",
    "HF505": "mend the cause, then: holdfast resume {invocation}",
    "HF601": "name the admin port with --url or HOLDFAST_URL; `holdfast serve` prints both ports at its start",
    "HF604": "set HOLDFAST_TOKEN to a token of that server",
}


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

    @property
    def next_step(self) -> str:
        """`fix` for a person at a terminal."""
        if self.fix and (here := _AT_A_TERMINAL.get(self.code)):
            return here.format(invocation=self.invocation)
        return self.fix

    def text(self) -> str:
        """For a person."""
        return explain(self.code or f"HTTP {self.status}", self.detail or self.title, self.cause, self.next_step)


class CommandFailed(Exception):
    """An answer of the admin face that is no success, or none at all."""

    def __init__(self, problem: Problem, exit: Exit) -> None:
        super().__init__(problem.text())
        self.problem = problem
        self.exit = exit


def from_error(error: HoldfastError) -> CommandFailed:
    """The failure for an error that was raised in this process."""
    problem = Problem(
        type=f"urn:holdfast:{error.code}", title=type(error).__name__, detail=error.what, code=error.code,
        cause=error.cause, fix=error.fix,
    )  # fmt: skip
    return CommandFailed(problem, next((exit for kinds, exit in _EXITS if isinstance(error, kinds)), Exit.USAGE))


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
