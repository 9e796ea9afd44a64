"""Errors as answers: application/problem+json (RFC 9457), always with a code.

Promises: every error, the framework's own too, is such an answer. Refuses: tracebacks and places in the source; they
are in the log and in the journal.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from holdfast import errors
from holdfast.http.limits import RETRY_SECONDS
from holdfast.http.refusals import RequestError

TYPE = "application/problem+json"

# The first class that fits counts.
STATUS: tuple[tuple[type[errors.HoldfastError], int], ...] = (
    (errors.UnknownHandler, 404),
    (errors.UnknownInvocation, 404),
    (errors.UnknownPromise, 404),
    (errors.UnknownSchedule, 404),
    (errors.IdConflict, 409),
    (errors.AlreadySettled, 409),
    (errors.WrongStatus, 409),
    (errors.WouldDeadlock, 409),
    (errors.TooMany, 429),
    (errors.UsageError, 400),
    (errors.TooLarge, 413),
    (errors.Unserialisable, 400),
    (errors.InvocationCancelled, 409),
    (errors.InvocationPaused, 409),
    (errors.EngineStopped, 503),
    (errors.StoreFull, 507),
    (errors.StoreError, 503),
)


class Problem(msgspec.Struct):
    """The body of every error. `invocation` is the one that was asked about or started."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    cause: str
    fix: str
    invocation: str | msgspec.UnsetType = msgspec.UNSET


def status_of(error: errors.HoldfastError) -> int:
    """The HTTP status of an error; 500 for one that no request can cause."""
    if isinstance(error, (errors.TerminalError, RequestError)):
        return error.status
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def problem(error: errors.HoldfastError, invocation: str | None = None) -> Response:
    """The answer that tells an error."""
    status = status_of(error)
    cause, fix = error.cause, error.fix
    if isinstance(error, errors.InvocationFailed):
        invocation = error.invocation
        told = "next step:" in error.message  # an error of ours that the handler did not catch
        cause, fix = ("", "") if told else ("its handler raised", f"see GET {address(invocation)}/journal")
    what = sound(error.what)
    body = Problem(f"urn:holdfast:{error.code}", title(type(error)), status, what, error.code, sound(cause), sound(fix))
    headers: dict[str, str] = dict(error.headers) if isinstance(error, RequestError) else {}
    if invocation is not None:
        body.invocation = invocation
        headers |= named(invocation)
    if status in {429, 503}:
        headers.setdefault("Retry-After", RETRY_SECONDS)
    return Response(msgspec.json.encode(body), status, headers, TYPE)


def title(kind: type[errors.HoldfastError]) -> str:
    """What all errors of a kind have in common: the class's name as words."""
    return re.sub(r"(?<!^)([A-Z])", lambda match: f" {match[1].lower()}", kind.__name__)


def named(invocation: str) -> dict[str, str]:
    """The header that names an invocation. An id may hold any printable text: it is written as in a path."""
    return {"Holdfast-Invocation": quote(invocation, safe="")}


def address(invocation: str) -> str:
    """The path of an invocation."""
    return f"/invocations/{quote(invocation, safe='')}"


def sound(text: Any) -> str:
    """A text that has a JSON form: error texts of users may hold lone surrogates."""
    return str(text).encode("utf-8", "backslashreplace").decode()
