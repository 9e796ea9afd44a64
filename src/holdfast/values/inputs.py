"""What a step was asked: a readable record for people, and a digest for the replay check.

Promises: never raises, never shows a dependency. Refuses to be exact: nothing is ever computed from the record.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from typing import Any, Final

import msgspec

from holdfast.values.codec import VALUE_BYTES_MAX
from holdfast.values.walk import DEPTH_MAX, fields_of, is_record

NODES_MAX = 200_000  # looked at in search of dependencies; beyond that the value is a circle or not for reading
TEXT_MAX = 1_024  # of each str or bytes argument in a digest

_PLAIN = frozenset({str, int, float, bool, type(None)})
_NOTHING: Final = blake2b(b"", digest_size=8).digest()
_TIMES = (dt.datetime, dt.date, dt.time, dt.timedelta)


def show_inputs(args: Sequence[Any], kwargs: Mapping[str, Any], secrets: Mapping[int, str]) -> bytes:
    """JSON of a step's arguments: an array, or an object if all are named; of both, named ones last under "$named".

    Values whose id is in `secrets` become {"$dep": name}, what has no JSON form {"$object": type}.
    """
    if not args and not kwargs:
        return b"[]"
    try:
        data = _written(args, kwargs, secrets)
    except Exception:  # noqa: BLE001 (a property or a serializer of the user's)
        return b'[{"$object":"unreadable"}]'
    return data if len(data) <= VALUE_BYTES_MAX else b'[{"$large":%d}]' % len(data)


def _written(args: Sequence[Any], kwargs: Mapping[str, Any], secrets: Mapping[int, str]) -> bytes:
    if not (secrets and _holds_any([args, kwargs], secrets)):
        with contextlib.suppress(Exception):
            return _encode(_layout(args, kwargs))
    shown = [_argument(item, secrets) for item in args]
    return _encode(_layout(shown, {name: _argument(item, secrets) for name, item in kwargs.items()}))


def _layout(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if not kwargs:
        return args
    return [*args, {"$named": kwargs}] if args else kwargs


def _argument(item: Any, secrets: Mapping[int, str]) -> Any:
    """One argument for the encoder. Beside a client there is often a long conversation, which is written whole."""
    if not _holds_any([item], secrets):
        with contextlib.suppress(Exception):
            return msgspec.Raw(_encode(item))
    return _shown(item, secrets, 0)


def _holds_any(queue: list[Any], secrets: Mapping[int, str]) -> bool:
    for item in queue:  # grows while it is walked
        if id(item) in secrets:
            return True
        kind = type(item)
        if kind in _PLAIN:
            continue
        if kind is dict:
            queue.extend(item.values())
        elif kind is list or kind is tuple or kind is set or kind is frozenset:
            queue.extend(item)
        elif is_record(item):
            queue.extend(field for _, field in fields_of(item))
        if len(queue) > NODES_MAX:
            return True
    return False


def _object(item: object) -> Any:
    """The encoder's way out for a type it does not know."""
    serializer = getattr(type(item), "__pydantic_serializer__", None)
    if serializer is not None:
        text: bytes = serializer.to_json(item, by_alias=True, exclude_unset=True, warnings=False, fallback=_object)
        if b"NaN" not in text and b"Infinity" not in text:
            return msgspec.Raw(text)
    return {"$object": type(item).__qualname__}


_encode = msgspec.json.Encoder(enc_hook=_object).encode


def _shown(item: Any, secrets: Mapping[int, str], depth: int) -> Any:
    """The same, piece by piece: for what holds a dependency or what the encoder cannot take in one go."""
    name = secrets.get(id(item))
    if name is not None:
        return {"$dep": name}
    kind = type(item)
    if kind is str:
        return item.encode("utf-8", "backslashreplace").decode()
    if kind in _PLAIN:
        return item
    if depth >= DEPTH_MAX:
        return {"$object": kind.__qualname__}
    if isinstance(item, Mapping):
        return {_key(key): _shown(inner, secrets, depth + 1) for key, inner in item.items()}
    if is_record(item):
        return {key: _shown(inner, secrets, depth + 1) for key, inner in fields_of(item)}
    if isinstance(item, (list, tuple, set, frozenset)):
        return [_shown(inner, secrets, depth + 1) for inner in item]
    try:
        return msgspec.Raw(_encode(item))
    except Exception:  # noqa: BLE001 (the same)
        return {"$object": kind.__qualname__}


def _key(key: object) -> str:
    if type(key) is str:
        return key.encode("utf-8", "backslashreplace").decode()
    return str(key) if type(key) in _PLAIN else f"${type(key).__qualname__}"


def digest(args: Sequence[Any], kwargs: Mapping[str, Any], key: Any = None) -> bytes:
    """Eight bytes that differ when a step's scalar arguments differ, the same in every process.

    Lists, dicts and other objects count by their type only: agent SDKs put clock readings and random ids into whole
    message lists, and hashing them would cost more than the step. A `key` that is not None stands for all of it.
    """
    if key is not None:
        return blake2b(b"k" + _scalar(key), digest_size=8).digest()
    if not args and not kwargs:
        return _NOTHING
    parts = [_scalar(item) for item in args]
    if kwargs:
        for name in sorted(kwargs):
            parts += (b"\x00" + name.encode(), _scalar(kwargs[name]))
    return blake2b(b"".join(parts), digest_size=8).digest()


def _scalar(item: object) -> bytes:
    """One argument, tagged with its type and length so that no two lists of arguments run together."""
    if type(item) is str:
        return b"s%d:" % len(item) + item[:TEXT_MAX].encode("utf-8", "surrogatepass")
    kind = type(item)
    if kind is int or kind is bool or item is None or kind is float:
        return b"v%b;" % repr(item).encode()
    if type(item) is bytes:
        return b"b%d:" % len(item) + item[:TEXT_MAX]
    if isinstance(item, Enum):
        return b"e%b.%b;" % (kind.__qualname__.encode(), item.name.encode())
    if isinstance(item, _TIMES):
        return b"t%b;" % repr(item).encode()
    return b"o%b;" % kind.__qualname__.encode()
