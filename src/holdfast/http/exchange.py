"""One request, read within the limits.

Promises: what a client sends is read once, counted while it arrives, and named when it cannot be read. Refuses: forms
and texts, which web pages may send anywhere without asking; parameters that nobody knows.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.types import Receive

from holdfast.http.limits import Traffic, stopping
from holdfast.http.refusals import BadRequest, BodyTooLarge, HeadersTooLarge, WrongContentType

T = TypeVar("T")

CLOSE = {"Connection": "close"}  # after a body that was not read to its end
QUERY_FIELDS_MAX = 20
PLACE_DIGITS_MAX = 12
WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_JSON = re.compile(r'application/json\s*(;\s*charset="?utf-8"?\s*)?', re.IGNORECASE)
_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?', re.IGNORECASE)


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
DURATION = {
    "type": "string",
    "pattern": r"^(\d{1,9}(\.\d{1,3})?|P\d{1,5}D(T\d{1,5}S)?|PT(\d{1,5}H)?(\d{1,5}M)?\d{1,5}(\.\d{1,3})?S)$",
    "examples": ["PT10S"],
}
SECONDS = {"type": "number", "minimum": 0}
COUNT = {"type": "integer", "minimum": 1, "maximum": 1000}
PLACE = {"type": "integer", "minimum": 0, "maximum": 10**PLACE_DIGITS_MAX - 1, "default": 0}


class Gone(Exception):  # as the other events of a connection; nobody is left to see an error
    """The client has closed its connection."""


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter after the "?". `read` turns its text into a value and raises ValueError with what it must be."""

    name: str
    about: str
    read: Callable[[str], Any]
    schema: dict[str, Any]
    required: bool = False
    default: Any = None


class Exchange:
    """One request and what is known about it so far."""

    __slots__ = ("_buffered", "headers", "invocation", "method", "params", "path", "query_text", "receive", "traffic")

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, traffic: Traffic) -> None:
        """Raises HeadersTooLarge."""
        self.receive = receive
        self.traffic = traffic
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_text: bytes = scope["query_string"]
        self.params: dict[str, str] = {}  # of the path, still as they were sent
        self.invocation: str | None = None  # the one that it is about, for errors
        self.headers: dict[bytes, bytes] = {}
        self._buffered = 0
        size = len(self.path) + len(self.query_text)
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            # Twice the same is one with a comma: no name, token or length can be smuggled in beside the one looked at.
            self.headers[name] = value if name not in self.headers else self.headers[name] + b", " + value
        if size > traffic.limits.head_bytes:
            raise HeadersTooLarge(
                f"request line and headers are {size:,} bytes, the limit is {traffic.limits.head_bytes:,}",
                fix="send fewer or shorter headers; what is large belongs into the body",
                headers=CLOSE,
            )

    def header(self, name: bytes) -> str | None:
        """A header as text. Raises BadRequest if it is no UTF-8."""
        value = self.headers.get(name)
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"the header {name.decode()} is not UTF-8", fix="send plain text") from None

    def param(self, name: str) -> str:
        """A part of the path, decoded. Raises BadRequest."""
        try:
            return unquote(self.params[name], errors="strict")
        except UnicodeDecodeError:
            raise BadRequest(
                f"{self.params[name]!r} in the path is not UTF-8", fix="write other characters as %XX of their UTF-8"
            ) from None

    def query(self, known: Sequence[Query]) -> dict[str, Any]:
        """The parameters after the "?" by name, with defaults. Raises BadRequest for what is unknown or wrong."""
        values = {one.name: one.default for one in known}
        given: dict[str, str] = {}
        if self.query_text:
            try:
                pairs = parse_qsl(
                    self.query_text.decode(), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX
                )
            except ValueError as failure:
                raise BadRequest(f"the query cannot be read: {failure}", fix="write name=value&name=value") from None
            given = dict(pairs)
            if len(given) < len(pairs):
                raise BadRequest("a parameter is given twice", fix="give each once")
        table = {one.name: one for one in known}
        for name, text in given.items():
            if name not in table:
                known_names = ", ".join(sorted(table)) or "none"
                raise BadRequest(f"there is no parameter {name!r} here", fix=f"known are: {known_names}")
            try:
                values[name] = table[name].read(text)
            except ValueError as failure:
                raise BadRequest(f"{name}={text[:80]!r} is not {failure}", fix=table[name].about) from None
        for one in known:
            if one.required and one.name not in given:
                raise BadRequest(f"the parameter {one.name!r} is missing", fix=one.about)
        return values

    def wait_seconds(self) -> float:
        """How long the client would wait for a result: `Prefer: wait=SECONDS` (RFC 7240). Raises BadRequest."""
        limits = self.traffic.limits
        for part in re.split("[,;]", self.header(b"prefer") or ""):
            if part.strip().lower().startswith("wait"):
                found = _WAIT.fullmatch(part.strip())
                if found is None:
                    raise BadRequest(f"Prefer: {part.strip()[:80]!r} cannot be read", fix="write Prefer: wait=SECONDS")
                return min(float(found[1]), limits.wait_seconds_max)
        return limits.wait_seconds

    def check_type(self) -> None:
        """Raises WrongContentType for a body that is not declared as JSON, or is compressed."""
        kind = self.headers.get(b"content-type")
        if kind is not None and _JSON.fullmatch(kind.decode("latin-1").strip()) is None:
            raise WrongContentType(
                f"the body is declared as {kind.decode('latin-1')[:80]!r}",
                cause="curl -d and HTML forms send forms; only JSON is taken, in UTF-8",
                fix="send Content-Type: application/json; with curl: --json instead of -d",
                headers=CLOSE,
            )
        coding = self.headers.get(b"content-encoding", b"identity")
        if coding.strip().lower() != b"identity":
            raise WrongContentType(
                f"the body is compressed ({coding.decode('latin-1')[:80]})", fix="send it plain", headers=CLOSE
            )

    def has_body(self) -> bool:
        """True if a body was announced."""
        return self.headers.get(b"content-length", b"0").strip() != b"0" or b"transfer-encoding" in self.headers

    async def body(self) -> bytes:
        """All of it; then `free`. The connection knows how long it may take. Raises BodyTooLarge, Busy, Gone."""
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self.traffic.limits.body_bytes:
            raise self._too_large()
        parts = []
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part: bytes = message.get("body", b"")
            self.traffic.take(len(part))
            self._buffered += len(part)
            if self._buffered > self.traffic.limits.body_bytes:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def free(self) -> None:
        """The body is no longer in memory."""
        self.traffic.buffered -= self._buffered
        self._buffered = 0

    async def while_connected(self, work: Awaitable[Any]) -> Any:
        """What `work` gives, unless the client goes away (Gone) or the server stops (Busy); then it is cancelled."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self.disconnected())
        stop = asyncio.ensure_future(self.traffic.stopping.wait())
        try:
            await asyncio.wait((task, gone, stop), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Gone if gone.done() else stopping()
        finally:
            for one in (task, gone, stop):
                one.cancel()

    async def disconnected(self) -> None:
        """Returns when the client has closed its connection. Only after the body was read, if there is one."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body is over the limit of {self.traffic.limits.body_bytes:,} bytes",
            fix="keep it in a file or bucket and send its name",
            headers=CLOSE,
        )


def read_json(body: bytes, kind: type[T]) -> T:
    """A body of a declared type. Raises BadRequest."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as failure:
        raise BadRequest(
            f"the body cannot be read: {failure}", cause="it is not the JSON that is asked for", fix="see /openapi.json"
        ) from None


def text(given: str) -> str:
    """Any text but none."""
    if not given:
        raise ValueError("a text")
    return given


def count(given: str) -> int:
    """A whole number from 1 to 1,000: rows of one answer."""
    if given.isascii() and given.isdigit() and 0 < int(given[:9]) <= 1_000:
        return int(given)
    raise ValueError("a whole number from 1 to 1000")


def place(given: str) -> int:
    """A place in a journal."""
    if given.isascii() and given.isdigit() and len(given) <= PLACE_DIGITS_MAX:
        return int(given)
    raise ValueError("a place in the journal: 0 or more")


def seconds(given: str) -> float:
    """A number of seconds."""
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError("a number of seconds, 0 or more")
    return value


def duration(given: str) -> timedelta:
    """Seconds, or a duration of ISO 8601 in days, hours, minutes and seconds."""
    try:
        if given[:1] in {"P", "p"}:
            return msgspec.convert(given, timedelta)
        return timedelta(seconds=seconds(given))
    except (msgspec.ValidationError, OverflowError, ValueError):
        raise ValueError("a duration such as PT10S, P7D or 90 (seconds)") from None
