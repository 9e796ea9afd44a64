"""The library's durable operations as steps.

Promises: a step is called as its tool, or `model`; it is known again by the tool call's id, or by what was said last.
What no retry can mend ends at once: a request the provider refuses for good is a TerminalError, a mistake in the
program pauses. Refuses: to serialise anything but results; models, tools and dependencies pass by reference.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from pydantic_ai import ModelHTTPError, UserError
from pydantic_ai._utils import _disable_threads
from pydantic_ai.durable_exec import (
    BoundDurableOperation,
    CacheIdentity,
    CapabilityOperationId,
    CapabilityOperationParams,
    DurableOperation,
    DurableOperationConfig,
    DurableOperationId,
    DynamicToolsetCallToolParams,
    EventStreamHandlerId,
    JournalCallableOperationBackend,
    ModelCancelSuspendedResponseId,
    ModelCompactMessagesId,
    ModelRequestId,
    ModelRequestParams,
    ToolsetCallToolParams,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)
from pydantic_ai.messages import ModelMessage, SystemPromptPart

from holdfast import BadArguments, Retry, TerminalError, current
from holdfast.integrations._handlers import readable

ParamsT = TypeVar("ParamsT")
WireT = TypeVar("WireT")
ResultT = TypeVar("ResultT")

FINAL_STATUS = frozenset({400, 401, 403, 404, 413, 422})  # asked again, the answer would be the same


@dataclass(frozen=True)
class StepOptions:
    """How an operation's step is run."""

    retry: Retry | None = None


class Asked(NamedTuple):
    """One operation as it is shown and known again."""

    name: str
    key: str | None
    shown: dict[str, Any]


class Steps(JournalCallableOperationBackend[StepOptions]):
    """Runs each operation as a step of the handler that is running."""

    def __init__(self, agent: str, config: DurableOperationConfig[StepOptions], *, quiet: bool) -> None:
        """`quiet`: nobody is told of events beside those of the model's streams."""
        super().__init__(agent_name=agent, config=config)
        self._agent = agent
        self._quiet = quiet

    def bind(
        self, operation: DurableOperation[ParamsT, WireT, ResultT]
    ) -> BoundDurableOperation[ParamsT, WireT, ResultT]:
        """The caller of one operation."""
        identity: CacheIdentity[Any] = _Asking(self._agent, operation.operation_id)
        return super().bind(replace(operation, cache_identity=identity))

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: StepOptions,
    ) -> object:
        """One operation. Of what is given, `cache_key` is what our own identity has made."""
        del name
        if isinstance(operation_id, EventStreamHandlerId) and self._quiet:
            return None
        (asked,) = cache_key
        assert isinstance(asked, Asked)

        async def perform(_: Any) -> Any:
            with _judged(), sync_callbacks(inline=False):
                return await body()

        return await current().run(
            perform, asked.shown, name=readable(asked.name), key=asked.key, retry=config.retry, returns=Any
        )


class _Asking(CacheIdentity[Any]):
    """Makes the step's name, key and arguments out of an operation's parameters."""

    def __init__(self, agent: str, operation_id: DurableOperationId) -> None:
        self._agent = agent
        self._id = operation_id

    def project(self, params: Any) -> tuple[object, ...]:
        match params:
            case ToolsetCallToolParams() | DynamicToolsetCallToolParams():
                check = ": check" if isinstance(self._id, ToolsetValidateToolArgumentsId) else ""
                return (Asked(params.name + check, params.ctx.tool_call_id, params.tool_args),)
            case ModelRequestParams() if isinstance(self._id, ModelRequestId):
                shown = {"agent": self._agent, "model": self._id.model_name, "messages": params.messages}
                return (Asked("model", _key(params.messages), shown),)
            case CapabilityOperationParams():
                return (Asked(self._name(), None, {"arguments": params.arguments}),)
            case _:
                return (Asked(self._name(), None, {}),)

    def _name(self) -> str:
        match self._id:
            case CapabilityOperationId(capability_id=capability, operation=operation):
                return f"{capability}.{operation}"
            case ToolsetGetToolsId(toolset_id=toolset):
                return f"{toolset}: tools"
            case ToolsetGetInstructionsId(toolset_id=toolset):
                return f"{toolset}: instructions"
            case ModelCompactMessagesId():
                return "model: compact"
            case ModelCancelSuspendedResponseId():
                return "model: cancel"
            case EventStreamHandlerId():
                return "event"
            case _:  # the library may add kinds in any minor version
                return type(self._id).__name__


def _key(messages: list[ModelMessage]) -> str:
    """What tells one request from another: how many messages there are, and what the last one says. Not all of them:
    they carry clock readings, and instructions may be reworded while runs are under way."""
    said = [
        [part.part_kind, getattr(part, "tool_call_id", None), content if isinstance(content, str) else None]
        for part in (messages[-1].parts if messages else ())
        if not isinstance(part, SystemPromptPart)
        for content in [getattr(part, "content", None)]
    ]
    return json.dumps([len(messages), *said])


@contextmanager
def _judged() -> Iterator[None]:
    """What becomes of errors in a step's body."""
    try:
        yield
    except ModelHTTPError as error:
        if error.status_code in FINAL_STATUS:
            raise TerminalError(str(error), status=error.status_code) from error
        raise  # with its `retry_after`, where the engine looks for it
    except UserError as error:
        raise BadArguments(str(error), cause="the agent is not set up for what it is to do") from error


@contextmanager
def sync_callbacks(*, inline: bool) -> Iterator[None]:
    """Where sync functions of the agent run, for the block. In a handler inline, as async ones do: in a thread each
    would be a step, and most of what instructions, validators and outputs give has no JSON form. In a body in threads.
    """
    token = _disable_threads.set(inline)
    try:
        yield
    finally:
        _disable_threads.reset(token)
