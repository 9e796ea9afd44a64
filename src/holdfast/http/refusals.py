"""Requests that are refused before anything was done.

RequestError (HoldfastError)
├── UnknownRoute         HF601
├── WrongMethod          HF602
├── BadRequest           HF603
├── Unauthorised         HF604
├── Forbidden            HF605
├── BodyTooLarge         HF606
├── WrongContentType     HF607
├── HeadersTooLarge      HF608
├── TooSlow              HF609
├── Busy                 HF610
└── InternalError        HF611   a mistake in Holdfast; the log has it
"""

from __future__ import annotations

from typing import ClassVar

from holdfast.errors import HoldfastError


class RequestError(HoldfastError):
    """A request over HTTP that was refused. `status` is the answer's, `headers` are sent with it."""

    code = "HF600"
    status: ClassVar[int] = 400

    def __init__(self, what: str, *, cause: str = "", fix: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(what, cause=cause, fix=fix)
        self.headers = headers or {}


class UnknownRoute(RequestError):
    """Nothing is served under that path."""

    code = "HF601"
    status = 404


class WrongMethod(RequestError):
    """The path does not know that method."""

    code = "HF602"
    status = 405


class BadRequest(RequestError):
    """A parameter, a header or a body that cannot be read."""

    code = "HF603"


class Unauthorised(RequestError):
    """There is no token, or none that is known."""

    code = "HF604"
    status = 401


class Forbidden(RequestError):
    """A host name or an origin that is not allowed: a foreign web page may have sent it."""

    code = "HF605"
    status = 403


class BodyTooLarge(RequestError):
    """The body is over the limit."""

    code = "HF606"
    status = 413


class WrongContentType(RequestError):
    """The body is not declared as JSON."""

    code = "HF607"
    status = 415


class HeadersTooLarge(RequestError):
    """The request line and headers are over the limit."""

    code = "HF608"
    status = 431


class TooSlow(RequestError):
    """The request did not arrive in time."""

    code = "HF609"
    status = 408


class Busy(RequestError):
    """No place is free, or the server is stopping. The same request may be sent again."""

    code = "HF610"
    status = 503


class InternalError(RequestError):
    """A mistake in Holdfast."""

    code = "HF611"
    status = 500
