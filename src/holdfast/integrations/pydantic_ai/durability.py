"""The capability that makes an agent durable, on Pydantic AI's own base for such engines.

Promises: in a handler every request of a model, call of a tool and look at an MCP server is a step; what the agent's
own code does between them is handler code, its clock and ids the handler's. Refuses: toolsets that a run brings along,
for their tools would run past the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from pydantic_ai import RunContext
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.capabilities import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationBackend,
    DurableOperationId,
    RoleBasedOperationConfig,
    conversation_id_from_run_id,
    external_event_scope,
    replay_scope,
)
from pydantic_ai.models import Model
from pydantic_ai.run import AgentRunResult
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import AgentDepsT, DeferredToolRequests, DeferredToolResults

from holdfast import Retry, Unserialisable
from holdfast.integrations._handlers import running
from holdfast.integrations.pydantic_ai.approvals import decide
from holdfast.integrations.pydantic_ai.operations import StepOptions, Steps, sync_callbacks
from holdfast.integrations.pydantic_ai.waiting import Promises
from holdfast.integrations.pydantic_ai.watching import tell_watchers

CONFIG = "holdfast"  # the key of a tool's metadata


class HoldfastDurability(BaseDurabilityCapability[AgentDepsT]):
    """`Agent(..., name="...", capabilities=[HoldfastDurability()])`: its runs in handlers are durable."""

    engine_spec = DurabilityEngineSpec(
        engine_name="Holdfast",
        durable_unit_noun="step",
        durable_container_noun="handler",
        codec=JSON_CODEC,
        serialization_failure=lambda error: Unserialisable(
            f"what a step of the agent gave has no JSON form: {error}", fix="let the tool return plain data or a model"
        ),
        # A server is entered by each step that needs it, and left again: its connection belongs to the step's event
        # loop. One that is entered outside of handlers stays entered, and is used as it is.
        toolset_lifecycles={"function": "enter-always", "mcp": "enter-never", "dynamic": "enter-never"},
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key=CONFIG,
    )

    def __init__(
        self,
        *,
        retry: Retry | None = None,
        tool_retry: Retry | None = None,
        approvals: bool = True,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
    ) -> None:
        """For one agent.

        retry: for requests of the model; patient for a day and then a pause, if left out.
        tool_retry: the same for tools. A tool has its own by metadata={"holdfast": Retry(...)}; with
            metadata={"holdfast": False} it is handler code, and may have steps, sleep, ask and call handlers.
        approvals: whether tools that need approval are asked for in the inbox; if not, the run ends with
            DeferredToolRequests, as the library does.
        models, event_stream_handler, name: as of any durability capability. `tell_watchers` is a handler of events.
        """
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._retry = StepOptions(retry)
        self._tool_retry = StepOptions(tool_retry)
        self._approvals = approvals
        self._quiet = event_stream_handler is tell_watchers

    @property
    def in_durable_context(self) -> bool:
        """Whether a handler calls; not in a step's body."""
        return running() is not None

    def get_durable_operation_backend(self) -> DurableOperationBackend[StepOptions]:
        """How the library's operations become steps."""
        config = RoleBasedOperationConfig(
            model=self._retry,
            event=StepOptions(),
            capability=self._retry,
            tool=self._tool_retry,
            resolve_tool=self._of_tool,
        )
        return Steps(self.name, config, quiet=self._quiet)

    def _of_tool(self, _operation: DurableOperationId, tool: Any, _name: str) -> StepOptions | Literal[False]:
        wished = ((tool.tool_def.metadata if tool is not None else None) or {}).get(CONFIG)
        if wished is None:
            return self._tool_retry
        # A dynamic toolset's definitions come out of the journal, where a policy is an object of its fields.
        return False if wished is False else StepOptions(msgspec.convert(wished, Retry, from_attributes=True))

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Around the run: sync functions of the agent run where they are called, waits are promises, replays are told
        to nobody."""
        if running() is None:
            return await handler()
        with sync_callbacks(inline=True), external_event_scope(Promises()), replay_scope(is_replaying=_replaying):
            return await super().wrap_run(ctx, handler=handler)

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Asks about each call that needs approval."""
        del ctx
        handler = running()
        if handler is None or not self._approvals or not requests.approvals:
            return None
        return await decide(handler, self.name, requests)

    def get_model_settings(self) -> Callable[[RunContext[AgentDepsT]], ModelSettings]:
        """In handlers the provider's client makes one attempt: the retries are ours."""
        return _one_attempt

    def get_default_run_id(self) -> str | None:
        """The same on replay."""
        ctx = running()
        return None if ctx is None else str(ctx.uuid())

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """The same on replay."""
        return None if running() is None else conversation_id_from_run_id(run_id)

    def get_run_clock(self) -> Callable[[], datetime] | None:
        """The handler's time."""
        ctx = running()
        return None if ctx is None else ctx.now


def _replaying() -> bool:
    ctx = running()
    return ctx is not None and ctx.replaying


def _one_attempt(ctx: RunContext[Any]) -> ModelSettings:
    if running() is None or "max_retries" in getattr(ctx.model, "unsupported_settings", ()):
        return ModelSettings()
    return ModelSettings(max_retries=0)
