"""Models whose every call is a step.

Promises: a finished call is never paid for again, and one that failed is tried again by one policy only: the client's
and the runner's own retries are off. Refuses: to hand a handler anything that was not recorded first; tokens reach the
watchers while they come, the handler when the answer is whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import openai
from agents import Model, ModelProvider, ModelResponse, ModelSettings, UserError
from agents.items import TResponseStreamEvent
from agents.models._retry_runtime import provider_managed_retries_disabled
from agents.models.multi_provider import MultiProvider
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest, ModelRetrySettings
from openai.types.responses import ResponseOutputItem, ResponseStreamEvent
from pydantic import BaseModel

from holdfast import Retry, TerminalError, step
from holdfast.integrations.openai_agents.options import options, running

STEP = "model"
FINAL_STATUS = frozenset({400, 401, 403, 404, 413, 422})  # asked again, the answer would be the same
FAILED_EVENTS = frozenset({"error", "response.error", "response.failed"})
ITEM_EVENT = "response.output_item.done"
SHOWN_SETTINGS = ("temperature", "top_p", "max_tokens", "tool_choice")
Asked = dict[str, Any]


class EmptyAnswer(Exception):
    """The model gave neither words nor calls: a failed attempt."""

    def __init__(self) -> None:
        super().__init__("the model gave an empty answer")


class _Wire(openai.BaseModel):
    """Takes what a provider said as the openai client does: nothing is checked, and what is unknown is kept. A field
    that is missing is no reason to lose an answer that was paid for."""

    output: list[ResponseOutputItem]
    events: list[ResponseStreamEvent]


def _data(said: Any) -> Any:
    """The JSON of what a provider said."""
    return said.model_dump(mode="json", exclude_unset=True, warnings=False) if isinstance(said, BaseModel) else said


@dataclass
class Reply(ModelResponse):
    """An answer as it is recorded: what the runner gets, and by whom and for how much."""

    output: list[Any]
    model: str | None = None
    price: float | None = None


@dataclass
class Stream:
    """A streamed answer as it is recorded."""

    events: list[Any]
    model: str | None = None
    usage: Any = None
    price: float | None = None


class DurableModel(Model):
    """A model whose calls are steps of the handler that makes them. Elsewhere it is the model it was made of."""

    def __init__(self, find: Callable[[], Model], name: str | None) -> None:
        """`find` is called in the step's body, so that clients belong to the engine's event loop."""
        self._find = find
        self._name = name

    async def get_response(
        self, system_instructions: str | None, input: Any, model_settings: ModelSettings, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        ctx = running()
        given = (system_instructions, input, model_settings, *args)
        if ctx is None:
            return await self._find().get_response(*given, **kwargs)

        async def ask(_: Asked, __: Any) -> Reply:
            with _one_attempt():
                answer = await self._find().get_response(*given, **kwargs)
            if not answer.output:
                raise EmptyAnswer
            shared = {field.name: getattr(answer, field.name) for field in fields(ModelResponse)}
            shared["output"] = [_data(item) for item in answer.output]
            return Reply(**shared, model=self._name, price=options().price(self._name, answer.usage))

        asked, key, retry = self._asked(*given), _key(input), _retry(model_settings)
        reply: Reply = await ctx.run(ask, asked, input, name=STEP, key=key, retry=retry, returns=Reply)
        reply.output = _Wire.construct(output=reply.output).output
        return reply

    async def stream_response(
        self, system_instructions: str | None, input: Any, model_settings: ModelSettings, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        ctx = running()
        given = (system_instructions, input, model_settings, *args)
        if ctx is None:
            async for event in self._find().stream_response(*given, **kwargs):
                yield event
            return

        async def listen(_: Asked, __: Any) -> Stream:
            with _one_attempt():
                events = [_told(event) async for event in self._find().stream_response(*given, **kwargs)]
            response = getattr(events[-1], "response", None) if events else None
            if not getattr(response, "output", None) and not any(event.type == ITEM_EVENT for event in events):
                raise EmptyAnswer
            usage = getattr(response, "usage", None)
            price = options().price(self._name, usage)
            return Stream([_data(event) for event in events], self._name, _data(usage), price)

        asked, key, retry = self._asked(*given), _key(input), _retry(model_settings)
        recorded = await ctx.run(listen, asked, input, name=STEP, key=key, retry=retry, returns=Stream)
        for event in _Wire.construct(events=recorded.events).events:
            yield event

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        """The runner must not retry what the step has retried."""
        del request
        return ModelRetryAdvice(suggested=False, replay_safety="unsafe", reason="its step was retried already")

    def _asked(self, instructions: str | None, _: Any, settings: ModelSettings, *more: Any) -> Asked:
        """What is shown of a call beside the conversation: tools and handoffs by name, the settings that were set."""
        tools, _, handoffs = (*more, [], None, [])[:3]
        asked: Asked = {"model": self._name, "instructions": instructions}
        if names := [tool.name for tool in tools or []] + [handoff.tool_name for handoff in handoffs or []]:
            asked["tools"] = names
        if wished := {name: value for name in SHOWN_SETTINGS if (value := getattr(settings, name, None)) is not None}:
            asked["settings"] = wished
        return asked


class DurableProvider(ModelProvider):
    """A provider of durable models. Without one to ask it asks the SDK's own."""

    def __init__(self, provider: ModelProvider | None = None) -> None:
        self._provider = provider or MultiProvider()

    def get_model(self, model_name: str | None) -> Model:
        return DurableModel(lambda: self._provider.get_model(model_name), model_name)


def durable_model(model: Model) -> DurableModel:
    """The model itself, made durable."""
    if isinstance(model, DurableModel):
        return model
    name = getattr(model, "model", None)
    return DurableModel(lambda: model, name if isinstance(name, str) else type(model).__name__)


@contextmanager
def _one_attempt() -> Iterator[None]:
    """One request, whose failure is the step's to judge. Raises TerminalError for what would fail again."""
    try:
        with provider_managed_retries_disabled(disabled=True):
            yield
    except openai.APIStatusError as error:
        if error.status_code not in FINAL_STATUS:
            raise
        raise TerminalError(f"the model refused the request: {error}", status=error.status_code) from error
    except openai.APIError:
        raise
    except (UserError, openai.OpenAIError) as error:  # a key or an option is missing
        raise TerminalError(f"the model cannot be asked: {error}") from error


def _retry(settings: ModelSettings) -> Retry | None:
    """The policy of a call: that of the run, else the one the agent's settings ask for, else Holdfast's own."""
    wished: ModelRetrySettings | None = settings.retry
    if options().retry is not None or wished is None or wished.max_retries is None:
        return options().retry
    backoff: Any = wished.backoff
    given = {
        "initial": getattr(backoff, "initial_delay", None),
        "factor": getattr(backoff, "multiplier", None),
        "max_delay": getattr(backoff, "max_delay", None),
    }
    return Retry(
        max_attempts=wished.max_retries + 1, **{name: value for name, value in given.items() if value is not None}
    )


def _key(input: Any) -> str:
    """What tells one call from another on replay: the last thing that was said. The instructions may be reworded while
    a run is under way, and the whole conversation would cost more with each turn."""
    last = input if isinstance(input, str) else input[-1:]
    return msgspec.json.encode(last, enc_hook=str).decode("utf-8", "replace")


def _told(event: Any) -> Any:
    """The event, of whose words the watchers were told. Raises ConnectionError for one that says the stream failed."""
    if event.type in FAILED_EVENTS:
        response = getattr(event, "response", None)
        reason = getattr(event, "message", None) or getattr(response, "error", None) or "no reason given"
        raise ConnectionError(f"the model's stream ended with {event.type}: {reason}")
    if event.type.endswith(".delta"):
        step().emit({"type": event.type, "delta": event.delta})
    return event
