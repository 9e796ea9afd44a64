"""A handler's arguments as one JSON object, by name.

Promises: what does not fit is found at the caller, before anything is stored, and named. Defaults are not stored:
a default changed in the code applies to invocations that did not give the argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.errors import BadArguments, BadHandler, TooLarge, Unreadable, Unserialisable, ValueProblem
from holdfast.values.codec import VALUE_BYTES_MAX, ValueCodec, codec_for
from holdfast.values.hints import MISSING, resolve, title

_PREFIX: Final[dict[Any, str]] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_write = msgspec.json.encode


class _Written(str):
    """An annotation that is a string already, shown in a signature without the quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class ArgumentsCodec:
    """Arguments of one handler; `skip` leading parameters (its context) are not part of them.

    *args and **kwargs are kept under the names "*args" and "**kwargs". Raises BadHandler for a signature it cannot use.
    """

    __slots__ = ("_codecs", "_signature", "_title")

    def __init__(self, fn: Callable[..., Any], skip: int = 1) -> None:
        self._title = title(fn)
        try:
            parameters = list(inspect.signature(fn).parameters.values())
        except (TypeError, ValueError) as failure:
            raise BadHandler(
                f"{self._title} has no signature that can be read", fix="write it as a plain function"
            ) from failure
        leading = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if len(parameters) < skip or any(parameter.kind not in leading for parameter in parameters[:skip]):
            raise BadHandler(
                f"{self._title} takes no context",
                cause="a handler's first parameter is its context",
                fix="add it: def handler(ctx, ...)",
            )
        self._signature = inspect.Signature(
            [
                parameter.replace(annotation=_Written(parameter.annotation))
                if isinstance(parameter.annotation, str)
                else parameter
                for parameter in parameters[skip:]
            ]
        )
        self._codecs = {
            _PREFIX.get(parameter.kind, "") + parameter.name: self._codec(fn, parameter)
            for parameter in parameters[skip:]
        }

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """A JSON object of the arguments given. Raises BadArguments naming what is missing, unexpected or wrong."""
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as failure:
            raise BadArguments(
                f"{self._title}: {failure}",
                cause=f"it takes {self._signature}",
                fix="pass the arguments its signature names",
            ) from None
        parts = [
            b"%b:%b" % (_write(name), self._encode_one(name, codec, bound[name.lstrip("*")]))
            for name, codec in self._codecs.items()
            if name.lstrip("*") in bound
        ]
        data = b"{" + b",".join(parts) + b"}"
        if len(data) > VALUE_BYTES_MAX:
            raise TooLarge(
                f"the arguments of {self._title} are {len(data):,} bytes of JSON, the limit is {VALUE_BYTES_MAX:,}",
                cause="a whole file, page or table was passed as an argument",
                fix="keep it in a file or bucket and pass its name",
            )
        return data

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments to call the handler with. Raises Unreadable."""
        try:
            given = _read_object(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as failure:
            raise self._unreadable(f"they are not a JSON object ({failure})") from failure
        for name in given:
            if name not in self._codecs:
                raise self._unreadable(f"{name!r} is not a parameter")
        bound = inspect.BoundArguments(self._signature, {})
        for name, parameter in zip(self._codecs, self._signature.parameters.values(), strict=True):
            if name in given:
                try:
                    bound.arguments[parameter.name] = self._codecs[name].decode(bytes(given[name]))
                except Unreadable as failure:
                    raise self._unreadable(f"{name!r}: {failure.what}") from failure
            elif parameter.default is inspect.Parameter.empty and parameter.kind not in _PREFIX:
                raise self._unreadable(f"there is no {name!r}")
        return bound.args, bound.kwargs

    def _codec(self, fn: Callable[..., Any], parameter: inspect.Parameter) -> ValueCodec:
        hint: Any = MISSING
        if parameter.annotation is not inspect.Parameter.empty:
            hint = resolve(inspect.unwrap(getattr(fn, "__func__", fn)), parameter.name)
        if hint is not MISSING and parameter.kind in _PREFIX:
            hint = list[hint] if parameter.kind is inspect.Parameter.VAR_POSITIONAL else dict[str, hint]
        try:
            return codec_for(hint)
        except Unserialisable as failure:
            raise BadHandler(
                f"{self._title}: parameter {parameter.name!r}: {failure.what}",
                cause="arguments are stored as JSON by their type hints",
                fix="annotate it with a type that has a JSON form; clients and connections go into deps={...}",
            ) from failure

    def _encode_one(self, name: str, codec: ValueCodec, value: Any) -> bytes:
        try:
            return codec.encode(value)
        except TooLarge:
            raise
        except ValueProblem as failure:
            raise BadArguments(
                f"{self._title}: argument {name!r}: {failure.what}", cause=failure.cause, fix=failure.fix
            ) from failure

    def _unreadable(self, why: str) -> Unreadable:
        return Unreadable(
            f"the stored arguments do not fit {self._title}: {why}",
            cause="the handler's signature has changed since the invocation was started",
            fix=f"let it accept what was stored; it now takes {self._signature}",
        )
