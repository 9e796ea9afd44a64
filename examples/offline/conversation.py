"""What a model was asked, in one form for both APIs.

Promises: the same conversation has the same digest, whichever process, client or API sent it, so two equal calls can
be told. Refuses what the real API refuses: a tool call without its answer, an answer without its call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
CHARACTERS_A_TOKEN = 4  # the usual rule of thumb for English; only equal texts must cost the same


class BadRequest(Exception):
    """The request cannot be served; `status` and the text are the answer."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. Scripts leave `id` empty, the server gives it."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""

    @property
    def json(self) -> str:
        """The arguments as the wire carries them."""
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: a text, tool calls, or (role tool) the answer to the call `answers`."""

    role: Role
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    answers: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script says: a text, tool calls, or both."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()

    @staticmethod
    def call(tool: str, /, **arguments: object) -> Reply:
        """One tool call."""
        return Reply(calls=(ToolCall(tool, arguments),))


def form(**fields: object) -> Reply:
    """An answer that is an object, for who asked for one."""
    return Reply(json.dumps(fields, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Conversation:
    """All turns so far, oldest first; `tools` are the names the model may call."""

    model: str
    turns: tuple[Turn, ...]
    tools: tuple[str, ...] = ()
    parallel_calls: bool = True
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self._check_answers()
        told = [[t.role, t.text, [[c.id, c.name, c.json] for c in t.calls], t.answers] for t in self.turns]
        canonical = json.dumps([self.model, told, sorted(self.tools)], ensure_ascii=False)
        object.__setattr__(self, "digest", hashlib.sha256(canonical.encode()).hexdigest()[:16])

    def _check_answers(self) -> None:
        # A history that a replay has put together wrongly fails here, as it does at the real API.
        waiting: set[str] = set()
        for turn in self.turns:
            if turn.role == "tool":
                if turn.answers not in waiting:
                    raise BadRequest(f"no tool call waits for an answer with the id {turn.answers!r}")
                waiting.remove(turn.answers)
                continue
            if waiting and not (turn.role == "assistant" and turn.calls and not turn.text):
                raise BadRequest(f"tool calls without an answer: {', '.join(sorted(waiting))}")
            waiting.update(call.id for call in turn.calls)
        if waiting:
            raise BadRequest(f"tool calls without an answer: {', '.join(sorted(waiting))}")

    @property
    def system(self) -> str:
        """The instructions."""
        return "\n".join(turn.text for turn in self.turns if turn.role == "system")

    @property
    def asked(self) -> list[str]:
        """Everything the user said."""
        return [turn.text for turn in self.turns if turn.role == "user"]

    @property
    def answered(self) -> int:
        """How many times the model has spoken: 0 in its first call."""
        spoken = [turn.role == "assistant" for turn in self.turns]
        return sum(now and not before for before, now in zip([False, *spoken], spoken, strict=False))

    def results(self, tool: str) -> list[str]:
        """What that tool has answered so far."""
        ids = {call.id for turn in self.turns for call in turn.calls if call.name == tool}
        return [turn.text for turn in self.turns if turn.role == "tool" and turn.answers in ids]

    @property
    def tokens(self) -> int:
        """The size of the prompt."""
        return sum(tokens_of(t.text) + sum(tokens_of(c.name + c.json) for c in t.calls) for t in self.turns)


def tokens_of(text: str) -> int:
    """An honest guess at the tokens of a text: never random, never zero for a text."""
    return -(-len(text) // CHARACTERS_A_TOKEN)


def reply_tokens(reply: Reply) -> int:
    """The size of an answer."""
    return tokens_of(reply.text) + sum(tokens_of(call.name + call.json) for call in reply.calls)


def text_of(content: object) -> str:
    """The text of a message: a string, a list of parts with texts, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
        return "".join(str(part["text"]) for part in content)
    raise BadRequest("the offline model reads text only: give a string or text parts as content")


def arguments_of(raw: object) -> dict[str, Any]:
    """The arguments of a tool call in the history."""
    try:
        value = json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BadRequest(f"the arguments of a tool call must be a JSON object in a string, not {raw!r}")
    return value
