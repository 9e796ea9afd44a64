"""The wire form of /v1/chat/completions: requests in, one JSON object or server-sent chunks out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from examples.offline.conversation import (
    BadRequest,
    Conversation,
    Reply,
    Role,
    ToolCall,
    Turn,
    arguments_of,
    reply_tokens,
    text_of,
)

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def read(body: Mapping[str, Any]) -> Conversation:
    """The conversation of a request."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message")
    if body.get("n", 1) != 1:
        raise BadRequest("the offline model gives one choice: leave out 'n'")
    return Conversation(
        model=str(body.get("model", "")),
        turns=tuple(_turn(message) for message in messages),
        tools=tuple(tool["function"]["name"] for tool in body.get("tools") or () if tool.get("type") == "function"),
        parallel_calls=bool(body.get("parallel_tool_calls", True)),
    )


def _turn(message: Mapping[str, Any]) -> Turn:
    role = ROLES.get(message.get("role", ""))
    if role is None:
        raise BadRequest(f"unknown role {message.get('role')!r}")
    calls = tuple(
        ToolCall(call["function"]["name"], arguments_of(call["function"]["arguments"]), call["id"])
        for call in message.get("tool_calls") or ()
    )
    return Turn(role, text_of(message.get("content")), calls, str(message.get("tool_call_id", "")))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model, ready to be written in either form."""

    number: int  # of the request in the log, so that an id tells which request it answers
    created: int
    talk: Conversation
    reply: Reply | None  # None: an answer without choices

    @property
    def _head(self) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.number}", "created": self.created, "model": self.talk.model}

    @property
    def _usage(self) -> dict[str, Any]:
        spoken = reply_tokens(self.reply) if self.reply else 0
        return {
            "prompt_tokens": self.talk.tokens,
            "completion_tokens": spoken,
            "total_tokens": self.talk.tokens + spoken,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def whole(self) -> bytes:
        """The answer in one piece."""
        choices = []
        if self.reply is not None:
            message: dict[str, Any] = {"role": "assistant", "content": self.reply.text or None, "refusal": None}
            if self.reply.calls:
                message["tool_calls"] = [_call(call) for call in self.reply.calls]
            choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(self.reply)}]
        answer = {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage}
        return json.dumps(answer, ensure_ascii=False).encode()

    def pieces(self, *, usage: bool) -> Iterator[bytes]:
        """The answer as server-sent events."""
        if self.reply is not None:
            yield self._chunk({"role": "assistant", "content": None if self.reply.calls else ""})
            for part in split(self.reply.text):
                yield self._chunk({"content": part})
            for index, call in enumerate(self.reply.calls):
                opening = {**_call(call), "function": {"name": call.name, "arguments": ""}}
                yield self._chunk({"tool_calls": [{"index": index, **opening}]})
                for part in split(call.json):
                    yield self._chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
            yield self._chunk({}, _reason(self.reply))
        if usage:
            yield self._event({"choices": [], "usage": self._usage})
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return self._event({"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]})

    def _event(self, fields: dict[str, Any]) -> bytes:
        data = {**self._head, "object": "chat.completion.chunk", **fields}
        return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def split(text: str) -> Iterator[str]:
    """A text in pieces about the size of a word, which together are the text."""
    words = text.split(" ")
    for word in words[:-1]:
        yield word + " "
    if words[-1]:
        yield words[-1]


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.json}}


def _reason(reply: Reply) -> str:
    return "tool_calls" if reply.calls else "stop"
