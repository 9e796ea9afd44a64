"""Models of the Agents SDK that answer from memory, so that their CPU is nobody's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from agents import Model, ModelResponse, Usage, function_tool
from agents.items import TResponseStreamEvent
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from benchmarks.texts import text

MESSAGE_BYTES = 2_000  # of a call's arguments and of a tool's answer: 4 KB of new text a turn
said = cache(text)  # made before the clock runs: words cost more than turns


@function_tool
async def look(turn: int, words: str) -> str:
    """Two kilobytes of an answer."""
    return said(2 * turn + 1, MESSAGE_BYTES)


@function_tool
async def second(turn: int, words: str) -> str:
    """Takes a second."""
    await asyncio.sleep(1)
    return words


class Talker(Model):
    """Asks `calls` times for a tool in each turn, and has done after so many turns."""

    def __init__(self, tool: str, turns: int, calls: int = 1) -> None:
        self.tool, self.turns, self.calls = tool, turns, calls
        self.first_words: list[float] = []  # when the first word of each streamed answer left

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        told = sum(item.get("type") == "function_call_output" for item in input) if isinstance(input, list) else 0
        turn = 1 + told // self.calls
        output: list[Any] = [_done()] if turn > self.turns else [self._call(turn, n) for n in range(self.calls)]
        return ModelResponse(output, Usage(requests=1, input_tokens=100, output_tokens=10, total_tokens=110), None)

    async def stream_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        self.first_words.append(time.perf_counter())
        yield ResponseTextDeltaEvent(
            content_index=0, delta="word", item_id="m", logprobs=[], output_index=0, sequence_number=0,
            type="response.output_text.delta",
        )  # fmt: skip
        await asyncio.sleep(0.1)  # the rest of the answer takes its time
        response = Response(
            id="r", created_at=0, model="m", object="response", output=[_done()], parallel_tool_calls=True,
            tool_choice="auto", tools=[],
        )  # fmt: skip
        yield ResponseCompletedEvent(response=response, sequence_number=1, type="response.completed")

    def _call(self, turn: int, number: int) -> ResponseFunctionToolCall:
        arguments = json.dumps({"turn": turn, "words": said(2 * turn, MESSAGE_BYTES)})
        return ResponseFunctionToolCall(
            arguments=arguments, call_id=f"call_{turn}_{number}", name=self.tool, type="function_call"
        )


def _done() -> ResponseOutputMessage:
    words = ResponseOutputText(text="done", type="output_text", annotations=[])
    return ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[words])
