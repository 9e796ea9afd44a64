"""Tools whose calls are steps.

Promises: a tool that has answered never runs again; a failing one is tried again, and when that is used up the model is
told, as the SDK does. TerminalError ends the run, whatever the tool's failure policy. A tool that takes a Holdfast
context (`RunContextWrapper[Context]`) and an agent used as a tool are handler code and have steps of their own.
Refuses: to keep what a tool's body changes in the SDK's context object: it is gone after a restart.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Awaitable, Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from agents import FunctionTool, Tool, ToolOutputFileContent, ToolOutputImage, ToolOutputText
from agents.exceptions import AgentsException
from agents.tool import _FailureHandlingFunctionToolInvoker as Invoker
from agents.tool_context import ToolContext

from holdfast import BadHandler, Context, TerminalError
from holdfast.integrations.openai_agents.options import giving_up_on, options, readable, running

Invoke = Callable[[ToolContext[Any], str], Awaitable[Any]]
DURABLE = "_holdfast_durable"
JSON: tuple[Any, ...] = (Any, object, str, int, float, bool, type(None), dict, list)
STRUCTURED = (ToolOutputText, ToolOutputImage, ToolOutputFileContent)


class Ended(BaseException):
    """A TerminalError on its way through code that tells the model of every Exception."""

    def __init__(self, error: TerminalError) -> None:
        super().__init__(str(error))
        self.error = error


def durable_tool(tool: Tool, *, has_steps: bool = False) -> Tool:
    """A copy of a function tool whose calls are durable: as one step, unless it `has_steps` of its own. Any other tool
    as it is: the provider runs it, or it is refused where it does I/O."""
    if not isinstance(tool, FunctionTool) or hasattr(tool, DURABLE):
        return tool
    made = copy.copy(tool)
    invoke = tool.on_invoke_tool
    hints = _hints_of(tool)
    has_steps = has_steps or _is_agent(tool) or _takes_context(hints)
    returns = hints.get("return", Any)
    if isinstance(invoke, Invoker):
        inner = _durable(tool, invoke._invoke_tool_impl, has_steps=has_steps, returns=returns)
        failing = Invoker(inner, invoke._on_handled_error, function_tool=made)
        vars(failing).update({name: value for name, value in vars(invoke).items() if name not in vars(failing)})
        made.on_invoke_tool = _letting_out(failing)
    else:
        made.on_invoke_tool = _letting_out(_durable(tool, invoke, has_steps=has_steps, returns=returns))
    setattr(made, DURABLE, True)
    return made


def _letting_out(invoke: Invoke) -> Invoke:
    @functools.wraps(invoke)
    async def call(context: ToolContext[Any], arguments: str) -> Any:
        try:
            return await invoke(context, arguments)
        except Ended as ended:
            raise ended.error from None

    return call


def _durable(tool: FunctionTool, invoke: Invoke, *, has_steps: bool, returns: Any) -> Invoke:
    @functools.wraps(invoke)
    async def call(context: ToolContext[Any], arguments: str) -> Any:
        arguments = options().edits.pop((tool.name, context.tool_call_id), arguments)
        try:
            ctx = running()
            if has_steps or ctx is None:
                return await invoke(context, arguments)
            return await _as_step(ctx, tool, invoke, returns, context, arguments)
        except TerminalError as error:
            raise Ended(error) from None

    return call


async def _as_step(
    ctx: Context, tool: FunctionTool, invoke: Invoke, returns: Any, context: ToolContext[Any], arguments: str
) -> Any:
    async def body(_: Any) -> Any:
        return await invoke(context, arguments)

    async def plain_body(_: Any) -> Any:
        return _plain(await invoke(context, arguments))

    # What the SDK says of a call that does not fit its tool, it would say again: that is for the model, at once.
    retry = giving_up_on(AgentsException, options().tool_retry)
    shown, name, key = _shown(arguments), readable(tool.name), context.tool_call_id
    if not _is_json(returns):
        with contextlib.suppress(BadHandler):  # what it returns has no JSON form: the model is given its text anyway
            return await ctx.run(body, shown, name=name, key=key, retry=retry, returns=returns)
    return await ctx.run(plain_body, shown, name=name, key=key, retry=retry, returns=Any)


def _shown(arguments: str) -> Any:
    """The arguments as data, for the timeline; what is no JSON as it came."""
    try:
        return json.loads(arguments) if arguments else {}
    except ValueError:
        return arguments


def _hints_of(tool: FunctionTool) -> dict[str, Any]:
    """Type hints of the Python function a tool was made of. Not cached: the function may hold a whole handler."""
    try:
        return get_type_hints(tool.__wrapped__)
    except Exception:  # noqa: BLE001  # a tool of no function, or names that only a type checker sees
        return {}


def _takes_context(hints: dict[str, Any]) -> bool:
    """Whether its first parameter is the SDK's context wrapper around a Holdfast context."""
    given = [hint for name, hint in hints.items() if name != "return"]
    inside = get_args(given[0]) if given else ()
    return bool(inside) and isinstance(inside[0], type) and issubclass(inside[0], Context)


def _is_json(hint: Any) -> bool:
    """Whether the hint promises no more than JSON has. Python tools do not always keep such a promise, nor need they
    for the SDK: the value is what counts."""
    return hint in JSON or (get_origin(hint) in (dict, list, Union, UnionType) and all(map(_is_json, get_args(hint))))


def _is_agent(tool: FunctionTool) -> bool:
    return bool(getattr(tool, "_is_agent_tool", False))


def _plain(value: Any) -> Any:
    """What JSON keeps as it is; the SDK's structured outputs in their dictionary form; of the rest the text, which is
    what the SDK would send."""
    if isinstance(value, STRUCTURED):
        return value.model_dump(exclude_none=True)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return value
    try:
        kept = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        kept = False
    return value if kept else str(value)
