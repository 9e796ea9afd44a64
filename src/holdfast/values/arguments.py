"""A handler's arguments as one JSON object, by name.

Promises: what does not fit is found at the caller, before anything is stored, and named; what came as JSON is stored
as if it had come as Python values, whatever its spacing. Defaults are not stored: a default changed in the code applies
to invocations that did not give the argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.errors import BadArguments, BadHandler, TooLarge, Unreadable, Unserialisable, ValueProblem
from holdfast.values.codec import VALUE_BYTES_MAX, ValueCodec, codec_for
from holdfast.values.hints import MISSING, resolve, title
from holdfast.values.models import detail
from holdfast.values.schema import Definitions, is_object, schema_for

_PREFIX: Final[dict[Any, str]] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
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

    __slots__ = ("_codecs", "_hints", "_signature", "_title", "_whole")

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
        self._hints = {
            _PREFIX.get(parameter.kind, "") + parameter.name: _hint(fn, parameter) for parameter in parameters[skip:]
        }
        self._codecs = {name: self._codec(name, hint) for name, hint in self._hints.items()}
        self._whole: bool | None = None  # not asked yet: a schema takes long to make, and most programs need none

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
        return self._join({name: bound[name.lstrip("*")] for name in self._codecs if name.lstrip("*") in bound})

    def encode_json(self, body: bytes) -> bytes:
        """The same object from JSON that a client sent; an empty body is no arguments.

        A handler with one argument that is a JSON object takes the body as that argument (`takes_body`), every other
        an object of its arguments by name. Raises BadArguments and TooLarge as `encode`.
        """
        body = body.strip(b" \t\r\n")
        given: Mapping[str, Any] = {}
        if body and self.takes_body():
            given = dict.fromkeys(self._codecs, body)
        elif body:
            try:
                given = _read_object(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as failure:
                raise self._misfit(f"the body is not a JSON object ({failure})") from failure
        for name in given:
            if name not in self._codecs:
                raise self._misfit(f"it has no argument {name!r}")
        gap = ""
        for name, parameter in zip(self._codecs, self._signature.parameters.values(), strict=True):
            if name in given and gap and parameter.kind in _BY_PLACE:
                raise self._misfit(f"argument {name!r} needs {gap!r}, which stands before it")
            if name not in given and parameter.default is parameter.empty and parameter.kind not in _PREFIX:
                raise self._misfit("there is no body" if self.takes_body() else f"argument {name!r} is missing")
            gap = gap or ("" if name in given else name)
        return self._join({name: self._read_one(name, bytes(given[name])) for name in self._codecs if name in given})

    def takes_body(self) -> bool:
        """True if the whole body is the one argument. Decided by the signature, never by what is sent."""
        if self._whole is None:
            hints = list(self._hints.items())
            self._whole = len(hints) == 1 and not hints[0][0].startswith("*") and is_object(schema_for(hints[0][1]))
        return self._whole

    def required(self) -> list[str]:
        """Names of the arguments without a default."""
        parameters = self._signature.parameters.values()
        return [one.name for one in parameters if one.default is one.empty and one.kind not in _PREFIX]

    def default(self, name: str) -> bytes:
        """The JSON of an argument's default; empty if it has none."""
        default = self._signature.parameters[name].default
        if default is inspect.Parameter.empty:
            return b""
        try:
            return self._codecs[name].encode(default)
        except ValueProblem:  # it need not fit its hint: a sentinel, or None without `| None`
            return b""

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the body that `encode_json` takes."""
        definitions = Definitions()
        properties = {name: definitions.take(schema_for(hint)) for name, hint in self._hints.items()}
        for parameter in self._signature.parameters.values():
            if default := self.default(parameter.name):
                properties[parameter.name]["default"] = msgspec.json.decode(default)
        if self.takes_body():
            (schema,) = properties.values()
        else:
            schema = {"type": "object", "properties": properties, "additionalProperties": False}
            schema |= {"required": required} if (required := self.required()) else {}
        return schema | ({"$defs": definitions.table} if definitions.table else {})

    def _join(self, values: Mapping[str, Any]) -> bytes:
        parts = [b"%b:%b" % (_write(name), self._encode_one(name, value)) for name, value in values.items()]
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

    def _codec(self, name: str, hint: Any) -> ValueCodec:
        try:
            return codec_for(hint)
        except Unserialisable as failure:
            raise BadHandler(
                f"{self._title}: parameter {name.lstrip('*')!r}: {failure.what}",
                cause="arguments are stored as JSON by their type hints",
                fix="annotate it with a type that has a JSON form; clients and connections go into deps={...}",
            ) from failure

    def _encode_one(self, name: str, value: Any) -> bytes:
        try:
            return self._codecs[name].encode(value)
        except TooLarge:
            raise
        except ValueProblem as failure:
            raise BadArguments(
                f"{self._title}: argument {name!r}: {failure.what}", cause=failure.cause, fix=failure.fix
            ) from failure

    def _read_one(self, name: str, text: bytes) -> Any:
        codec = self._codecs[name]
        try:
            return codec.decode(text)
        except Unreadable as failure:
            cause = failure.__cause__
            why = detail(cause if isinstance(cause, Exception) else None)
            raise self._misfit(f"argument {name!r} does not read as {codec.name}: {why}") from failure

    def _misfit(self, why: str) -> BadArguments:
        return BadArguments(
            f"{self._title}: {why}",
            cause=f"it takes {self._signature}",
            fix="send that argument's value as JSON" if self.takes_body() else "send a JSON object of these, by name",
        )

    def _unreadable(self, why: str) -> Unreadable:
        return Unreadable(
            f"the stored arguments do not fit {self._title}: {why}",
            cause="the handler's signature has changed since the invocation was started",
            fix=f"let it accept what was stored; it now takes {self._signature}",
        )


def _hint(fn: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if parameter.annotation is inspect.Parameter.empty:
        return MISSING
    hint: Any = resolve(inspect.unwrap(getattr(fn, "__func__", fn)), parameter.name)
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return list[hint]
    return dict[str, hint] if parameter.kind is inspect.Parameter.VAR_KEYWORD else hint
