"""How a command ends, as a number. Scripts branch on these, so a number never changes its meaning."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    FAILED = 1  # what was asked about went wrong: the invocation failed, a check found breaks
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNREACHABLE = 5
    TIMEOUT = 6
    INTERRUPTED = 130  # Ctrl-C, as shells count it


UNLOADED = 64  # between `dev` and the server it started, and nobody else: the code could not be loaded

MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "it went wrong: the invocation failed, the check found breaks",
    Exit.USAGE: "the command or its values do not fit",
    Exit.NOT_FOUND: "nothing has that name or id",
    Exit.CONFLICT: "its status does not allow it, or the id is taken",
    Exit.UNREACHABLE: "no server or store to talk to, or it refuses for now",
    Exit.TIMEOUT: "not over in time; it goes on",
}

_ENDINGS = {
    "HF501",
    "HF502",
    "HF503",
    "HF504",
    "HF505",
}  # how an invocation ended, whatever HTTP status that travels as
_BY_STATUS = {404: Exit.NOT_FOUND, 408: Exit.TIMEOUT, 409: Exit.CONFLICT, 504: Exit.TIMEOUT}
_FOR_NOW = {401, 403, 429}  # not wrong in itself: a token, or patience, is missing


def exit_of(status: int, code: str) -> Exit:
    """The exit code for a problem that an HTTP answer reports."""
    if code in _ENDINGS:
        return Exit.FAILED
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500 or status in _FOR_NOW:
        return Exit.UNREACHABLE
    return Exit.USAGE
