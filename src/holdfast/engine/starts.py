"""What is known of an invocation before it is one: the order to start it, and how ids and headers are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from holdfast.engine.gates import Gate
from holdfast.errors import BadArguments, IdConflict, Unreadable
from holdfast.service import Handler

HEADERS_BYTES_MAX = 8_192  # of all headers of one invocation, as JSON
IDEMPOTENCY_CHARS_MAX = 500

_HEAD = b'{"#headers":'
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(slots=True)
class Order:
    """An invocation to be started."""

    id: str
    handler: Handler
    text: bytes  # its arguments, JSON
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    not_before: int | None = None  # ms; it is queued until then
    parent: int | None = None
    call: str | None = None  # the caller's step that waits for it
    fresh: bool = False  # its id was made for it: nobody else can have it

    def __post_init__(self) -> None:
        check_headers(self.headers)  # refused here: nothing may fail once a key or a place is taken

    @property
    def gate(self) -> Gate:
        """What it must pass before it begins."""
        return gate_of(self.handler, self.key, self.text)


def conflict(order: Order, target: str, key: str | None, text: bytes | None) -> IdConflict | None:
    """Why an order cannot be for the invocation that has its id already, if it cannot. `text` is that one's input; None
    if it cannot be read yet."""
    if target != order.handler.target:
        differs = f"another handler, {target!r}"
    elif key != order.key:
        differs = f"another key, {key!r}"
    elif text is not None and text != order.text:
        differs = "another input"
    else:
        return None
    return IdConflict(
        f"the id {order.id!r} belongs to an invocation of {differs}",
        cause="an id names one piece of work for ever",
        fix="use another id, or attach to the one that is there",
    )


def gate_of(handler: Handler, key: str | None, text: bytes) -> Gate:
    """What an invocation of a handler must pass before it begins."""
    return Gate(handler.lock(key), handler.lane(key, text), handler.limit)


def idempotent_id(handler: Handler, key: str | None, given: str) -> str:
    """The invocation id that stands for an idempotency key: of one handler and object key, one start (G6). Raises
    BadArguments for a key that is empty or too long."""
    if not 0 < len(given) <= IDEMPOTENCY_CHARS_MAX:
        raise BadArguments(
            f"the idempotency key has {len(given)} characters", fix=f"give 1 to {IDEMPOTENCY_CHARS_MAX} of them"
        )
    text = "\0".join((handler.target, key or "", given))
    return "idm_" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of a start's headers. Raises BadArguments for what is no text, and when they are too large."""
    given: Mapping[Any, Any] = headers or {}
    for name, value in given.items():
        if not (isinstance(name, str) and isinstance(value, str) and _is_unicode(name + value)):
            raise BadArguments(f"the header {name!r:.60} is {value!r:.60}", fix="give texts as names and values")
    size = len(msgspec.json.encode(dict(given)))
    if size > HEADERS_BYTES_MAX:
        raise BadArguments(
            f"the headers are {size:,} bytes, the limit is {HEADERS_BYTES_MAX:,}", fix="pass data as arguments"
        )
    return dict(given)


def join_headers(text: bytes, headers: Mapping[str, str]) -> bytes:
    """A stored input: the arguments, and the headers under a name that no parameter can have."""
    if not headers:
        return text
    return _HEAD + msgspec.json.encode(dict(headers)) + (b"}" if text == b"{}" else b"," + text[1:])


def split_headers(stored: bytes) -> tuple[bytes, dict[str, str]]:
    """The arguments and the headers of a stored input. Raises Unreadable."""
    if not stored.startswith(_HEAD):
        return stored, {}
    try:
        members = _members(stored)
        headers = msgspec.json.decode(members.pop("#headers"), type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(
            f"a stored input's headers do not decode: {error}", cause="the file is damaged", fix="restore a backup"
        ) from None
    parts = [msgspec.json.encode(name) + b":" + bytes(value) for name, value in members.items()]
    return b"{" + b",".join(parts) + b"}", headers


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
