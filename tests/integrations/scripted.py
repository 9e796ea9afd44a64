"""A model in memory that answers from a script: what it says depends on the conversation alone. It counts its calls."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from agents import Model, ModelProvider, ModelResponse, Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

Item = dict[str, Any]
Script = Callable[[list[Item]], "str | list[tuple[str, str]]"]  # a text, or tool calls as (name, arguments)


class Scripted(Model):
    """`calls` counts how often the model was asked, by the number of items in the conversation."""

    def __init__(self, script: Script, before: Callable[[], Any] = lambda: None) -> None:
        self.model = "scripted"
        self.script = script
        self.before = before
        self.calls: Counter[int] = Counter()

    def _say(self, input: str | list[Item]) -> list[Any]:
        items = [{"role": "user", "content": input}] if isinstance(input, str) else input
        self.calls[len(items)] += 1
        self.before()
        said = self.script(items)
        if isinstance(said, str):
            text = ResponseOutputText(text=said, type="output_text", annotations=[])
            return [
                ResponseOutputMessage(
                    id=f"msg_{len(items)}", type="message", role="assistant", status="completed", content=[text]
                )
            ]
        return [
            ResponseFunctionToolCall(arguments=a, call_id=f"call_{len(items)}_{n}", name=name, type="function_call")
            for n, (name, a) in enumerate(said)
        ]

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        usage = Usage(requests=1, input_tokens=1000, output_tokens=100, total_tokens=1100)
        return ModelResponse(output=self._say(input), usage=usage, response_id=None)

    async def stream_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:
        output = self._say(input)
        if isinstance(output[0], ResponseOutputMessage):
            for n, word in enumerate(output[0].content[0].text.split(" ")):
                yield ResponseTextDeltaEvent(
                    content_index=0, delta=word, item_id="m", logprobs=[], output_index=0, sequence_number=n,
                    type="response.output_text.delta",
                )  # fmt: skip
        response = Response(
            id="resp", created_at=0, model="scripted", object="response", output=output, parallel_tool_calls=True,
            tool_choice="auto", tools=[],
        )  # fmt: skip
        yield ResponseCompletedEvent(response=response, sequence_number=99, type="response.completed")


class Provider(ModelProvider):
    def __init__(self, model: Model) -> None:
        self.scripted = model

    def get_model(self, model_name: str | None) -> Model:
        return self.scripted


def outputs(items: list[Item]) -> list[str]:
    """What the tools have answered so far."""
    return [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
