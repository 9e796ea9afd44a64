"""What the durable transport writes down: what was asked, without its secrets, and what was answered.

Promises: what is shown of a request is also what tells it apart on replay, so a rotated key or a new multipart boundary
is the same request. Refuses to keep headers of requests at all, and of answers those that no client looks at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, unquote_plus

import msgspec

NAME_CHARS_MAX = 100  # as of any step's name
HIDDEN = "(hidden)"

# Compared in small letters without hyphens and underscores.
SECRET = frozenset({
    "accesstoken", "apikey", "apitoken", "assertion", "auth", "authorization", "authtoken", "clientassertion",
    "clientsecret", "credential", "credentials", "idtoken", "passphrase", "passwd", "password", "privatekey", "pwd",
    "refreshtoken", "secret", "secretkey", "sessiontoken", "sig", "signature", "subscriptionkey", "token",
    "xamzcredential", "xamzsecuritytoken", "xamzsignature", "xgoogcredential", "xgoogsignature",
})  # fmt: skip
SECRET_IN_URL = SECRET | {"code", "key"}  # in a body these are words like any other

KEPT = frozenset({
    "content-disposition", "content-language", "content-location", "content-range", "content-type", "etag",
    "last-modified", "link", "location", "openai-processing-ms", "openai-version", "request-id", "retry-after",
    "retry-after-ms", "x-request-id",
})  # fmt: skip
KEPT_PREFIX = "x-ratelimit-"

_write = msgspec.json.encode
_read = msgspec.json.decode


class Question(NamedTuple):
    """A request as it is shown and told apart."""

    name: str
    method: str
    url: str
    body: Any

    @classmethod
    def of(cls, request: Any, content: bytes, hide: Collection[str]) -> Self:
        """`content` is the request's body, read."""
        kind = request.headers.get("content-type", "")
        hidden = frozenset(map(_plain, hide))
        path = request.url.raw_path.partition(b"?")[0].decode("ascii").strip("/").replace("/", ".")
        name = f"{request.method} {path or request.url.host}"[:NAME_CHARS_MAX]
        return cls(name, request.method, _shown_url(str(request.url), hidden), _shown_body(content, kind, hidden))

    @property
    def shown(self) -> dict[str, Any]:
        """The step's arguments, for people."""
        return {"method": self.method, "url": self.url, "body": self.body}

    @property
    def digest(self) -> str:
        """What tells it from another request at the same place."""
        return blake2b(_write(self.shown), digest_size=16).hexdigest()


class Answer(msgspec.Struct, omit_defaults=True, frozen=True):
    """A recorded answer: its body as one of JSON, text or bytes, whichever gives it back without a loss."""

    status: int
    headers: list[tuple[str, str]] = []
    json: Any = None
    text: str | None = None
    data: bytes | None = None

    @classmethod
    def of(cls, response: Any, body: bytes, keep: Collection[str]) -> Self:
        """`body` is the response's body, read and decoded."""
        headers = [
            (name.lower(), value) for name, value in response.headers.multi_items() if _is_kept(name.lower(), keep)
        ]
        json = _exact_json(body) if _is_json(response.headers.get("content-type", "")) else None
        if json is not None:
            return cls(response.status_code, headers, json=json)
        try:
            return cls(response.status_code, headers, text=body.decode())
        except UnicodeDecodeError:
            return cls(response.status_code, headers, data=body)

    def content(self) -> bytes:
        """The body; JSON without its blanks."""
        if self.json is not None:
            return _write(self.json)
        return self.data if self.data is not None else (self.text or "").encode()

    def final_headers(self) -> list[tuple[str, str]]:
        """The headers for the client. By the last one the openai client, and those generated as it is, know that the
        answer is final; they would ask up to three times for each of our attempts."""
        return [*self.headers, ("x-should-retry", "false")] if self.status >= 400 else self.headers


class Events:
    """Server-sent events out of the pieces of a body."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The events that this piece completes: {"event": name, "data": JSON or text}."""
        *blocks, self._rest = re.split(rb"\r?\n\r?\n", self._rest + piece)
        for block in blocks:
            fields = [line.partition(":") for line in block.decode("utf-8", "replace").splitlines()]
            data = "\n".join(value.removeprefix(" ") for name, _, value in fields if name == "data")
            if data:
                names = [value.strip() for name, _, value in fields if name == "event"]
                yield {"event": names[-1] if names else "message", "data": _json_or_text(data)}


def _shown_url(url: str, hidden: frozenset[str]) -> str:
    scheme, _, rest = url.partition("://")
    place, mark, query = rest.partition("#")[0].partition("?")
    host, slash, path = place.partition("/")
    pieces = [_shown_parameter(piece, SECRET_IN_URL | hidden) for piece in query.split("&")]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{mark}{'&'.join(pieces)}"


def _shown_parameter(piece: str, secret: frozenset[str]) -> str:
    name, mark, _ = piece.partition("=")
    return f"{name}={HIDDEN}" if mark and _plain(unquote_plus(name)) in secret else piece


def _shown_body(content: bytes, kind: str, hidden: frozenset[str]) -> Any:
    if not content:
        return None
    if kind.startswith("multipart/"):
        boundary = kind.partition("boundary=")[2].partition(";")[0].strip().strip('"').encode()
        return _summary(content.replace(boundary, b"boundary") if boundary else content, kind.partition(";")[0])
    if kind.startswith("application/x-www-form-urlencoded"):
        fields = parse_qsl(content.decode("utf-8", "replace"), keep_blank_values=True)
        return [[name, HIDDEN if _plain(name) in SECRET | hidden else value] for name, value in fields]
    if _is_json(kind):
        try:
            return _without_secrets(_read(content), SECRET | hidden)
        except msgspec.DecodeError:
            return _summary(content, kind)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return _summary(content, kind)


def _summary(content: bytes, kind: str) -> dict[str, Any]:
    return {"type": kind, "bytes": len(content), "digest": blake2b(content, digest_size=16).hexdigest()}


def _without_secrets(value: Any, secret: frozenset[str]) -> Any:
    """Only in the outermost object: further in there are texts of people and schemas of tools."""
    if not isinstance(value, dict):
        return value
    return {
        name: HIDDEN if isinstance(inner, str) and _plain(name) in secret else inner for name, inner in value.items()
    }


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _is_kept(name: str, keep: Collection[str]) -> bool:
    return name in KEPT or name in keep or name.startswith(KEPT_PREFIX)


def _is_json(kind: str) -> bool:
    return kind.partition(";")[0].strip().endswith("json")


def _exact_json(body: bytes) -> Any:
    """An object or list that gives back the same JSON but for blanks; else None. 1.10 is not 1.1 to who reads decimals,
    and who writes a key twice may mean it."""
    try:
        value = _read(body)
        exact = isinstance(value, dict | list) and _write(value) == msgspec.json.format(body, indent=-1)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return value if exact else None


def _json_or_text(data: str) -> Any:
    try:
        return _read(data)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return data
