"""Runs of agents in handlers.

Promises: every run in a handler is durable, also those that tools and guardrails start with the stock `Runner`.
Refuses: `Runner.run_sync` in a handler, which would block every other invocation.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from agents import Agent, Runner, RunResult, RunResultStreaming
from agents.exceptions import AgentsException
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner
from agents.stream_events import StreamEvent

from holdfast import Retry, TerminalError, WrongPlace, current
from holdfast.integrations.openai_agents.agents import Preparation, restore
from holdfast.integrations.openai_agents.approvals import decide
from holdfast.integrations.openai_agents.options import Options, Price, chosen, running
from holdfast.integrations.openai_agents.sessions import check
from holdfast.integrations.openai_agents.tracing import mute_replays


class DurableRunner(AgentRunner):
    """The SDK's runner, which makes what it is given durable when a handler runs it."""

    def __init__(self, runner: AgentRunner) -> None:
        self._runner = runner

    async def run(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResult:
        if running() is None:
            return await self._runner.run(starting_agent, input, **kwargs)
        agent, input = self._prepare(starting_agent, input, kwargs)
        try:
            result = await self._runner.run(agent, input, **kwargs)
        except AgentsException as error:
            raise _terminal_in(error) or error from None
        restore(result)
        return result

    def run_streamed(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResultStreaming:
        if running() is None:
            return self._runner.run_streamed(starting_agent, input, **kwargs)
        agent, input = self._prepare(starting_agent, input, kwargs)
        result = self._runner.run_streamed(agent, input, **kwargs)
        events = functools.partial(_events, result, result.stream_events)
        result.stream_events = events  # type: ignore[method-assign]
        return result

    def run_sync(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResult:
        if running() is not None:
            raise WrongPlace(
                "Runner.run_sync was called in a handler", fix="await Runner.run(...), or holdfast's run(...)"
            )
        return self._runner.run_sync(starting_agent, input, **kwargs)

    def _prepare(self, agent: Agent[Any], input: Any, kwargs: dict[str, Any]) -> tuple[Agent[Any], Any]:
        mute_replays()
        check(kwargs.get("session"))
        preparation = Preparation()
        kwargs["run_config"] = preparation.config(kwargs.get("run_config"))
        return preparation.agent(agent), preparation.input(input)


async def run(
    agent: Agent[Any], input: Any, *, context: Any = None, retry: Retry | None = None, tool_retry: Retry | None = None,
    prices: Mapping[str, Price] | None = None, **kwargs: Any,
) -> RunResult:  # fmt: skip
    """Runs an agent durably, to its final output; calls that need approval are asked for in the inbox.

    context: what tools get as `wrapper.context`; the handler's own context if left out.
    retry: for calls of models; without it that of the agent's ModelSettings, else patient for a day, then a pause.
    tool_retry: for tools that raise; when it is used up, the model is told. Patient, if left out.
    prices: by the model's name, to record what each call cost.
    kwargs: those of the SDK's `Runner.run` (max_turns, hooks, run_config, session, ...).

    Raises as `Runner.run`; TerminalError when a tool raised it or a model refuses the request for good; StepFailed when
    the retries of a model call are used up; WrongPlace outside a handler.
    """
    ctx = current()
    made = Options(retry, tool_retry, dict(prices or {}))
    wished = {"context": ctx if context is None else context, **kwargs}
    with chosen(made):
        result = await Runner.run(agent, input, **wished)
        while result.interruptions:
            state = result.to_state()
            await decide(ctx, state, result.interruptions, made.edits)
            result = await Runner.run(agent, state, **wished)
    return result


class Streamed:
    """A run whose events are read as they are recorded. `result` is there when all are read."""

    def __init__(self, agent: Agent[Any], input: Any, options: Options, wished: dict[str, Any]) -> None:
        self._agent = agent
        self._input = input
        self._options = options
        self._wished = wished
        self.result: RunResultStreaming | None = None

    @property
    def final_output(self) -> Any:
        """The run's output. None until all events were read."""
        return None if self.result is None else self.result.final_output

    async def stream_events(self) -> AsyncIterator[StreamEvent]:
        """The events of the run, through all approvals. Raises as `run`."""
        input = self._input
        while True:
            with chosen(self._options):  # the SDK begins the run's task here
                result = Runner.run_streamed(self._agent, input, **self._wished)
            async for event in result.stream_events():
                yield event
            if not result.interruptions:
                self.result = result
                return
            input = result.to_state()
            await decide(current(), input, result.interruptions, self._options.edits)


def run_streamed(
    agent: Agent[Any], input: Any, *, context: Any = None, retry: Retry | None = None, tool_retry: Retry | None = None,
    prices: Mapping[str, Price] | None = None, **kwargs: Any,
) -> Streamed:  # fmt: skip
    """A run as `run` makes it, for handlers that look at its events.

    Watchers see the words while the model says them; the handler gets each answer's events once it is recorded, the
    same ones on every replay.
    """
    ctx = current()
    made = Options(retry, tool_retry, dict(prices or {}))
    return Streamed(agent, input, made, {"context": ctx if context is None else context, **kwargs})


def install() -> None:
    """Makes the SDK's `Runner` durable in handlers. Done once, by the import of this package."""
    runner = get_default_agent_runner()
    if not isinstance(runner, DurableRunner):
        set_default_agent_runner(DurableRunner(runner))


async def _events(
    result: RunResultStreaming, events: Callable[[], AsyncIterator[StreamEvent]]
) -> AsyncIterator[StreamEvent]:
    """The events of a streamed run, which ends as one that is not streamed."""
    try:
        async for event in events():
            yield event
    except AgentsException as error:
        raise _terminal_in(error) or error from None
    restore(result)


def _terminal_in(error: BaseException) -> TerminalError | None:
    """The TerminalError that the SDK has wrapped."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, TerminalError):
            return inner
        inner = inner.__cause__
    return None
