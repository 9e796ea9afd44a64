"""The model, for the bodies of steps: `say` for words, `fill` for an object, `chat` for a conversation with tools.

Promises: each is one request, so that one recorded step is one request paid for. What no retry can mend (a wrong key,
a request the model refuses) is a TerminalError; all else is raised and tried again as the step's policy says. A form
or a tool is a pydantic model: its docstring tells the model what it is for, its fields what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessage, ChatCompletionMessageToolCallUnion
from pydantic import BaseModel, ValidationError

from examples.services import clients
from holdfast import Retry, TerminalError

THRICE = Retry(max_attempts=3)  # an answer that does not fit its form is asked for again, but not for ever
MAX_TURNS = 12  # a model that never comes to an end must not spend for ever
Form = TypeVar("Form", bound=BaseModel)
Messages = list[Any]
ToolCall = ChatCompletionMessageToolCallUnion


def say(instructions: str, text: str) -> str:
    """The model's answer in words."""
    return chat(opening(instructions, text)).content or ""


def fill(form: type[Form], instructions: str, text: str) -> Form:
    """The model's answer as an object of that type. Raises ValidationError when it does not fit."""
    use = clients()
    with _terminal_if_hopeless():
        answer = use.openai.chat.completions.parse(
            model=use.where.model, messages=opening(instructions, text), response_format=form
        )
    filled = answer.choices[0].message.parsed if answer.choices else None
    if filled is None:
        raise ConnectionError("the model gave an empty answer")
    return filled


def chat(messages: Messages, tools: Sequence[type[BaseModel]] = ()) -> ChatCompletionMessage:
    """The model's next message: words, or the tools it wants called."""
    return complete(messages, tools).choices[0].message


def complete(messages: Messages, tools: Sequence[type[BaseModel]] = ()) -> ChatCompletion:
    """The same with all that comes beside it, such as the tokens it took."""
    use = clients()
    offered = [openai.pydantic_function_tool(tool) for tool in tools]
    with _terminal_if_hopeless():
        answer = use.openai.chat.completions.create(
            model=use.where.model, messages=messages, tools=offered or openai.omit
        )
    if not answer.choices:
        raise ConnectionError("the model gave an empty answer")
    return answer


def opening(instructions: str, text: str) -> Messages:
    """A conversation that begins."""
    return [{"role": "system", "content": instructions}, {"role": "user", "content": text}]


def spoken(message: ChatCompletionMessage) -> dict[str, Any]:
    """What the model said, for the conversation."""
    return message.model_dump(exclude_none=True)


def told(call: ToolCall, result: str) -> dict[str, Any]:
    """What a tool answered, for the conversation."""
    return {"role": "tool", "tool_call_id": call.id, "content": result}


def wanted(call: ToolCall, tools: Sequence[type[BaseModel]]) -> BaseModel | str:
    """The tool the model wants, as its object, or a text that tells the model what is wrong."""
    if call.type != "function":
        return "error: only function tools can be called"
    for tool in tools:
        if tool.__name__ == call.function.name:
            try:
                return tool.model_validate_json(call.function.arguments)
            except ValidationError as wrong:
                return f"error: these arguments do not fit: {wrong}"
    return f"error: there is no tool called {call.function.name!r}"


@contextmanager
def _terminal_if_hopeless() -> Iterator[None]:
    try:
        yield
    except (openai.BadRequestError, openai.AuthenticationError, openai.NotFoundError) as error:
        raise TerminalError(str(error), status=error.status_code) from error
