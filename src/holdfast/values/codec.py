"""One codec for each type hint: value to JSON text and back.

Promises: `encode_checked` returns what a replay would read, and it equals what was given in all that matters.
Refuses: values that do not fit their hint, lose a part on the way, or exceed the limit. See docs/values.md.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, Union, get_args, get_origin

import msgspec

from holdfast.errors import TooLarge, Unreadable, Unserialisable, ValueProblem
from holdfast.values import models
from holdfast.values.hints import MISSING, hint_of, mentions, show
from holdfast.values.walk import Problem, difference, equal, first_problem, plain_problem, type_name

VALUE_BYTES_MAX: Final = 32 * 1024 * 1024  # of JSON text; while a row is written it is in memory several times
CODECS_MAX = 2_048  # hints kept; beyond that the program makes them anew in a loop

_SCALARS: Final[frozenset[type]] = frozenset({str, int, float, bool, type(None)})
_encode = msgspec.json.Encoder().encode
_Write = Callable[[Any], bytes]


class ValueCodec:
    """JSON both ways for one type hint. Get it from `codec_for`."""

    __slots__ = ("_exact", "_leaf", "_read", "_writers", "name")

    def __init__(
        self, name: str, writers: Sequence[_Write], read: Callable[[bytes], Any], exact: frozenset[type], leaf: _Write
    ) -> None:
        self.name = name
        self._writers = writers  # tried in order; the first whose text reads back without a loss is kept
        self._read = read
        self._exact = exact  # scalar types that the hint takes and that read back as themselves
        self._leaf = leaf  # writes one part of a value by its own type; to find the part that cannot be written

    def encode(self, value: Any) -> bytes:
        """The JSON text. Raises Unserialisable or TooLarge."""
        return self.encode_checked(value)[0]

    def encode_checked(self, value: Any) -> tuple[bytes, Any]:
        """The JSON text and what it reads back as, which is what must be delivered live."""
        if type(value) in self._exact:
            try:
                data = _encode(value)
            except ValueError as failure:  # a lone surrogate
                raise self._refusal(value, None, failure) from None
            if len(data) > VALUE_BYTES_MAX:
                raise _too_large(self.name, len(data))
            if data != b"null" or value is None:  # NaN and the infinities are written as null
                return data, value
        return self._encode_slowly(value)

    def decode(self, data: bytes) -> Any:
        """The value. Raises Unreadable."""
        try:
            return self._read(data)
        except Exception as failure:
            raise Unreadable(
                f"the stored JSON does not read as {self.name}: {models.detail(failure)}",
                cause="the declared type has changed since it was stored, or the stored bytes are damaged",
                fix="let the type accept what was stored (a default, an optional field, the old name as an alias)",
            ) from failure

    def _encode_slowly(self, value: Any) -> tuple[bytes, Any]:
        lost: Problem | None = None
        failure: Exception | None = None
        for write in self._writers:
            try:
                data = write(value)
                if len(data) > VALUE_BYTES_MAX:
                    raise _too_large(self.name, len(data))
                decoded = self._read(data)
            except ValueProblem:
                raise
            except Exception as problem:  # noqa: BLE001 (serializers and validators of the user's)
                failure = failure or problem
                continue
            lost = None if equal(value, decoded) else first_problem(value) or difference(value, decoded)
            if lost is None:
                return data, decoded
        raise self._refusal(value, lost, failure) from failure

    def _refusal(self, value: Any, lost: Problem | None, failure: Exception | None) -> Unserialisable:
        problem = lost or first_problem(value, self._leaf)
        if problem is not None:
            return Unserialisable(
                f"a value declared as {self.name} cannot be stored: {problem.path} is {problem.found}",
                cause="" if problem.fix else "the hint does not say which type this part of the value has",
                fix=problem.fix or "declare that type, or return plain data",
            )
        return Unserialisable(
            f"declared {self.name}, but got {type_name(type(value))}: {models.detail(failure)}",
            cause="the value does not fit the type hint",
            fix="mend the hint or the value; for a step, returns=... says what it returns",
        )


class _PlainCodec(ValueCodec):
    """Without a type hint: plain JSON only, since a model silently turned into a dict would surprise."""

    __slots__ = ("_fix", "_why")

    def __init__(self, name: str, why: str, fix: str) -> None:
        super().__init__(name, (_encode,), msgspec.json.decode, _SCALARS, _encode)
        self._why = why  # nobody knows the type
        self._fix = fix  # where it is declared

    def _encode_slowly(self, value: Any) -> tuple[bytes, Any]:
        problem = plain_problem(value)
        if problem is None:
            try:
                data = _encode(value)
                if len(data) > VALUE_BYTES_MAX:
                    raise _too_large(self.name, len(data))
                return data, self._read(data)
            except (UnicodeEncodeError, RecursionError, msgspec.DecodeError) as failure:
                raise self._refusal(value, None, failure) from failure
        if problem.fix:  # wrong under any hint
            raise self._refusal(value, first_problem(value) or problem, None)
        raise Unserialisable(
            f"{problem.path} is {problem.found}, and its type is not declared{self._why}",
            cause="without a type hint only None, bool, int, float, str, list and dict with str keys can be kept",
            fix=self._fix,
        )


def encode_value(value: Any, type: Any = MISSING) -> bytes:
    """The JSON text of a value that has no annotation anywhere (state, signals, events, settlements): written as
    `type`, or as what it is. Raises Unserialisable or TooLarge."""
    hint = hint_of(value) if type is MISSING else type
    return (_UNDECLARED if hint is Any else codec_for(hint)).encode(value)


def codec_for(hint: Any) -> ValueCodec:
    """The codec of a type hint, MISSING included. Raises Unserialisable for a hint that has no JSON form."""
    try:
        found = _by_hint.get(hint)
        key: Any = hint
    except TypeError:  # unhashable, as Annotated[int, []] is
        key = id(hint)
        found = _by_id.get(key, (None, None))[1]
    if found is None:
        found = _build(hint)
        if len(_by_hint) + len(_by_id) >= CODECS_MAX:
            _by_hint.clear()
            _by_id.clear()
        if key is hint:
            _by_hint[hint] = found
        else:
            _by_id[key] = (hint, found)  # holds the hint, so that no other object gets its id
    return found


_UNDECLARED: Final = _PlainCodec("plain JSON", "", "give its type: type=YourType, such as type=list[YourType]")
_by_hint: dict[Any, ValueCodec] = {}
_by_id: dict[int, tuple[Any, ValueCodec | None]] = {}


def _build(hint: Any) -> ValueCodec:
    if hint is MISSING or hint is Any or hint is object or isinstance(hint, TypeVar):
        fix = "annotate the function (-> YourType) or pass returns=YourType"
        if hint is MISSING:
            return _PlainCodec("plain JSON", ": there is no annotation", fix)
        return _PlainCodec("Any", " (the hint is Any)", fix)
    found = mentions(hint)
    failure: Exception | None = None
    if not found.pydantic:
        # Sets have another order in each process: sorted, so that equal arguments are equal bytes.
        order: Any = "deterministic" if found.sets else None
        try:
            decoder = msgspec.json.Decoder(models.without_dict_unions(hint))
            write = msgspec.json.Encoder(order=order).encode
            return ValueCodec(show(hint), (write,), decoder.decode, _exact_scalars(hint), _encode)
        except Exception as problem:  # noqa: BLE001 (resolving names runs the user's modules)
            failure = problem
    try:
        # What msgspec cannot tell apart, such as unions of dataclasses, pydantic can, if it is there.
        writers, read, leaf = models.pydantic_codec(hint, found)
    except Exception as problem:  # noqa: BLE001 (the same)
        failure = failure or problem
        raise Unserialisable(
            f"values declared as {show(hint)} cannot be stored: {models.detail(failure)}",
            cause="the hint is or contains a type that has no JSON form, or a name that cannot be resolved",
            fix="declare a narrower type; for a step pass returns=YourType",
        ) from failure
    return ValueCodec(show(hint), writers, read, _exact_scalars(hint) & {type(None)}, leaf)


def _exact_scalars(hint: Any) -> frozenset[type]:
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    kinds = frozenset(type(None) if member is None else member for member in members if isinstance(member, type | None))
    return kinds & _SCALARS


def _too_large(name: str, size: int) -> TooLarge:
    return TooLarge(
        f"a value declared as {name} is {size:,} bytes of JSON, and the limit is {VALUE_BYTES_MAX:,}",
        cause="a whole file, page or table was returned as a value",
        fix="keep it in a file or bucket and return its name",
    )
