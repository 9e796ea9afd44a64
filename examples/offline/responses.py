"""The wire form of /v1/responses: requests in, one JSON object or server-sent events out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from examples.offline.chat import ROLES, split
from examples.offline.conversation import (
    BadRequest,
    Conversation,
    Reply,
    ToolCall,
    Turn,
    arguments_of,
    reply_tokens,
    text_of,
)


def read(body: Mapping[str, Any]) -> Conversation:
    """The conversation of a request."""
    for name in ("previous_response_id", "conversation"):
        if body.get(name):
            raise BadRequest(f"the offline model keeps no conversations: send all items as 'input', without {name!r}")
    items = body.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list) or not items:
        raise BadRequest("'input' must be a text or a list with at least one item")
    instructions = [Turn("system", str(body["instructions"]))] if body.get("instructions") else []
    return Conversation(
        model=str(body.get("model", "")),
        turns=tuple(instructions + [turn for item in items if (turn := _turn(item)) is not None]),
        tools=tuple(tool["name"] for tool in body.get("tools") or () if tool.get("type") == "function"),
        parallel_calls=bool(body.get("parallel_tool_calls", True)),
    )


def _turn(item: Mapping[str, Any]) -> Turn | None:
    match item.get("type", "message"):
        case "message" if (role := ROLES.get(item.get("role", ""))) is not None:
            return Turn(role, text_of(item.get("content")))
        case "function_call":
            return Turn("assistant", calls=(ToolCall(item["name"], arguments_of(item["arguments"]), item["call_id"]),))
        case "function_call_output":
            return Turn("tool", text_of(item.get("output")), answers=item["call_id"])
        case "reasoning":
            return None  # the real model's private notes, sent back by clients; they say nothing to a script
        case _:
            raise BadRequest(f"the offline model cannot read the input item {item!r}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model, ready to be written in either form."""

    number: int  # of the request in the log, so that an id tells which request it answers
    created: int
    talk: Conversation
    reply: Reply | None  # None: an answer without output
    request: Mapping[str, Any]

    def whole(self) -> bytes:
        """The answer in one piece."""
        return json.dumps(self._response("completed"), ensure_ascii=False).encode()

    def pieces(self, *, usage: bool) -> Iterator[bytes]:
        """The answer as server-sent events; this API always tells the usage."""
        del usage
        for number, event in enumerate(self._events()):
            data = json.dumps({**event, "sequence_number": number}, ensure_ascii=False)
            yield f"event: {event['type']}\ndata: {data}\n\n".encode()

    def _response(self, status: str) -> dict[str, Any]:
        done = status == "completed"
        return {
            "id": f"resp_{self.number}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self.request.get("instructions"),
            "metadata": self.request.get("metadata") or {},
            "model": self.talk.model,
            "output": self._items() if done else [],
            "parallel_tool_calls": self.talk.parallel_calls,
            "temperature": self.request.get("temperature", 1.0),
            "tool_choice": self.request.get("tool_choice") or "auto",
            "tools": self.request.get("tools") or [],
            "top_p": self.request.get("top_p", 1.0),
            "usage": self._usage() if done else None,
        }

    def _usage(self) -> dict[str, Any]:
        spoken = reply_tokens(self.reply) if self.reply else 0
        return {
            "input_tokens": self.talk.tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": spoken,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.talk.tokens + spoken,
        }

    def _items(self) -> list[dict[str, Any]]:
        if self.reply is None:
            return []
        items = [self._message(self.reply.text, "completed")] if self.reply.text else []
        return items + [_call(call, call.json, "completed") for call in self.reply.calls]

    def _message(self, text: str, status: str) -> dict[str, Any]:
        content = [_part(text)] if status == "completed" else []
        return {
            "id": f"msg_{self.talk.digest}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _events(self) -> Iterator[dict[str, Any]]:
        yield {"type": "response.created", "response": self._response("in_progress")}
        yield {"type": "response.in_progress", "response": self._response("in_progress")}
        if self.reply is not None:
            if self.reply.text:
                yield from self._text_events(self.reply.text)
            first = 1 if self.reply.text else 0
            for index, call in enumerate(self.reply.calls, first):
                yield from _call_events(index, call)
        yield {"type": "response.completed", "response": self._response("completed")}

    def _text_events(self, text: str) -> Iterator[dict[str, Any]]:
        where: dict[str, Any] = {"output_index": 0}
        yield {"type": "response.output_item.added", **where, "item": self._message("", "in_progress")}
        at = {**where, "item_id": f"msg_{self.talk.digest}", "content_index": 0}
        yield {"type": "response.content_part.added", **at, "part": _part("")}
        for part in split(text):
            yield {"type": "response.output_text.delta", **at, "delta": part, "logprobs": []}
        yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": _part(text)}
        yield {"type": "response.output_item.done", **where, "item": self._message(text, "completed")}


def _call_events(index: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    where: dict[str, Any] = {"output_index": index}
    yield {"type": "response.output_item.added", **where, "item": _call(call, "", "in_progress")}
    at = {**where, "item_id": f"fc_{call.id}"}
    for part in split(call.json):
        yield {"type": "response.function_call_arguments.delta", **at, "delta": part}
    done = {"type": "response.function_call_arguments.done", **at, "name": call.name, "arguments": call.json}
    yield done
    yield {"type": "response.output_item.done", **where, "item": _call(call, call.json, "completed")}


def _call(call: ToolCall, arguments: str, status: str) -> dict[str, Any]:
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
        "status": status,
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
