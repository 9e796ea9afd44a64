"""A step that is declared once: what follows when it was begun and nobody knows what came of it.

Promises: what a person says came of it is read by the type of the step's result. Refuses: an answer that says two
things, such as a result of what was not done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from holdfast.core.commands import Once
from holdfast.errors import BadArguments, Unreadable
from holdfast.values import Definitions, ValueCodec, schema_for

Outcome = Literal["done", "not done", "failed"]
Policy = bool | Literal["raise"] | Callable[..., Any]

OUTCOMES = "done: it happened, with this result. not done: nothing happened, and its body may run. failed: give it up"


class Verdict(NamedTuple):
    """What a person says came of a step. `text` is the JSON of its result and `value` the result."""

    outcome: Outcome
    text: bytes
    value: Any
    reason: str


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    outcome: Outcome
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    reason: str = ""


class Verdicts:
    """Reads what a person says came of a step, and describes the form for it."""

    __slots__ = ("_codec", "_hint")

    def __init__(self, codec: ValueCodec, hint: Callable[[], Any]) -> None:
        self._codec = codec
        self._hint = hint  # of the result; made when somebody is asked

    def decode(self, text: bytes) -> Verdict:
        """The verdict. Raises Unreadable."""
        try:
            answer = msgspec.json.decode(text, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
            raise _misfit(f"does not say what came of the step: {failure}") from None
        given = answer.result is not msgspec.UNSET
        if answer.outcome != "done" and given:
            raise _misfit(f"has a result, and says {answer.outcome!r}")
        if answer.outcome != "done":
            return Verdict(answer.outcome, b"", None, answer.reason)
        result = bytes(answer.result) if isinstance(answer.result, msgspec.Raw) else b"null"
        try:
            return Verdict("done", result, self._codec.decode(result), answer.reason)
        except Unreadable as failure:
            was = "its result does not fit" if given else "there is no result"
            raise _misfit(f"says 'done', and {was}: {failure.what.partition(': ')[2]}") from None

    def schema(self) -> str:
        """The JSON schema of an answer, as JSON text."""
        definitions = Definitions()
        result = definitions.take(schema_for(self._hint()))
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {
                "outcome": {"enum": ["done", "not done", "failed"], "description": OUTCOMES},
                "result": result,
                "reason": {"type": "string", "default": ""},
            },
            "required": ["outcome"],
            "additionalProperties": False,
        }
        schema |= {"$defs": definitions.table} if definitions.table else {}
        return msgspec.json.encode(schema).decode()


def plan_once(policy: Policy, codec: ValueCodec, hint: Callable[[], Any]) -> Once:
    """What is declared by ctx.run(once=...). Raises BadArguments."""
    if policy is True:
        return Once(answers=Verdicts(codec, hint))
    if policy == "raise":
        return Once()
    if callable(policy):
        return Once(check=policy)
    raise BadArguments(
        f"once is {policy!r:.60}",
        fix="give True to ask a person, a function that looks what came of the step, or 'raise'",
    )


def _misfit(what: str) -> Unreadable:
    return Unreadable(
        f"the stored JSON {what}",
        cause="it was stored by other code, or the file is damaged",
        fix="put that code back, or restore a backup",
    )
