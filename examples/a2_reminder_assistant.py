"""A reminder assistant: say it in your own words, it sleeps for seconds or months, then reminds you, once.

    python -m examples.a2_reminder_assistant --id plants --wish "Remind me in 10 seconds to water the plants"
    holdfast serve examples.a2_reminder_assistant:hf

Kill it while it sleeps and run the same line again: only the remaining time is waited, in whatever process; if the
time has passed meanwhile, the reminder comes at once. The model keeps no time and no state: `schedule` is a durable
sleep, and to the model it looks like a tool that answers when the time has come.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageToolCallUnion

import holdfast
from examples.services import clients, dependencies
from holdfast import Context, Holdfast, Service, TerminalError, UsageError

PROMPT = (
    "You are a reminder assistant. Work out which UTC time the user means; call current_time when the wish counts "
    "from now. Call schedule with that time: its answer comes when the time has come. Then call reminder with the "
    "message, and finish with one sentence. Never ask back; a vague time is yours to decide."
)
Messages = list[Any]
ToolCall = ChatCompletionMessageToolCallUnion


def tool(name: str, description: str, **parameters: str) -> Any:
    """A tool as the chat API wants it described."""
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    tool("current_time", "The current time in UTC."),
    tool("schedule", "Waits until a time; hours or months make no difference.", timestamp="ISO 8601, in UTC"),
    tool("reminder", "Sends the reminder to the user.", message="what to remind of"),
]


def ask_model(messages: Messages) -> ChatCompletionMessage:
    """One call of the model."""
    use = clients()
    try:
        answer = use.openai.chat.completions.create(model=use.where.model, messages=messages, tools=TOOLS)
    except (openai.BadRequestError, openai.AuthenticationError, openai.NotFoundError) as error:
        raise TerminalError(str(error), status=error.status_code) from error  # asking again would not help
    if not answer.choices:
        raise ConnectionError("the model gave an empty answer")
    return answer.choices[0].message


def send_reminder(message: str) -> str:
    """Sends it. The key is the same in every attempt and every process: a crash after the sending and before the
    record sends again, and the receiver knows the key and keeps one."""
    use = clients()
    key = holdfast.step().idempotency_key
    headers = {"Idempotency-Key": key, "Authorization": f"Bearer {use.where.reminders.key}"}
    use.web.post(f"{use.where.reminders.url}/reminders", json={"message": message}, headers=headers).raise_for_status()
    return "the reminder was sent"


def read_arguments(call: ToolCall) -> tuple[str, dict[str, Any]]:
    """The tool's name and arguments; no name for what cannot be called."""
    if call.type != "function":
        return "", {}
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except ValueError:
        arguments = {}
    return call.function.name, arguments if isinstance(arguments, dict) else {}


def read_time(arguments: dict[str, Any]) -> datetime:
    """The time to wait for. Raises ValueError with a text the model can use."""
    when = datetime.fromisoformat(str(arguments.get("timestamp", "")))
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def clock(ctx: Context) -> str:
    """The handler's own time: the same again on every replay."""
    return ctx.now().astimezone(UTC).isoformat(timespec="seconds")


def opening(wish: str) -> Messages:
    return [{"role": "system", "content": PROMPT}, {"role": "user", "content": wish}]


def tool_message(call: ToolCall, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": text}


reminders = Service("Reminders")


@reminders.handler
async def remind(ctx: Context, wish: str, max_steps: int = 6) -> str:
    """Understands the wish, waits, reminds; the answer is the model's last sentence."""
    messages = opening(wish)
    for _ in range(max_steps):
        message = await ctx.run(ask_model, messages)
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            messages.append(tool_message(call, await use_tool(ctx, call)))
    raise TerminalError(f"the model found no end in {max_steps} steps")


async def use_tool(ctx: Context, call: ToolCall) -> str:
    """What the tool says; mistakes of the model come back to it as text."""
    name, arguments = read_arguments(call)
    try:
        match name:
            case "current_time":
                return clock(ctx)
            case "schedule":
                await ctx.sleep_until(read_time(arguments))
                return f"the time has come, it is {clock(ctx)}"
            case "reminder":
                return await ctx.run(send_reminder, str(arguments["message"]))
            case _:
                return f"error: there is no tool called {name!r}"
    except (ValueError, OverflowError, KeyError, UsageError) as wrong:
        return f"error: {wrong}"


@reminders.handler
def remind_as_generator(ctx: Context, wish: str, max_steps: int = 6) -> Generator[Any, Any, str]:
    """The same, with `yield` in place of `await`."""
    messages = opening(wish)
    for _ in range(max_steps):
        message: ChatCompletionMessage = yield ctx.run(ask_model, messages)
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            text = yield from use_tool_as_generator(ctx, call)
            messages.append(tool_message(call, text))
    raise TerminalError(f"the model found no end in {max_steps} steps")


def use_tool_as_generator(ctx: Context, call: ToolCall) -> Generator[Any, Any, str]:
    """The same, with `yield` in place of `await`."""
    name, arguments = read_arguments(call)
    try:
        match name:
            case "current_time":
                return clock(ctx)
            case "schedule":
                yield ctx.sleep_until(read_time(arguments))
                return f"the time has come, it is {clock(ctx)}"
            case "reminder":
                text: str = yield ctx.run(send_reminder, str(arguments["message"]))
                return text
            case _:
                return f"error: there is no tool called {name!r}"
    except (ValueError, OverflowError, KeyError, UsageError) as wrong:
        return f"error: {wrong}"


hf = Holdfast("reminders.db", services=[reminders], deps=dependencies())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.a2_reminder_assistant", description="Reminds you.")
    parser.add_argument("--id", default="plants", help="the same id goes on with the same reminder")
    parser.add_argument("--wish", default="Remind me in 10 seconds to water the plants")
    parser.add_argument("--style", choices=["async", "generator"], default="async")
    parser.add_argument("--db", default="reminders.db", help="the file that remembers")
    options = parser.parse_args()
    handler = remind if options.style == "async" else remind_as_generator
    with Holdfast(options.db, services=[reminders], deps=dependencies()) as client:
        try:
            print(client.start(handler, options.wish, id=options.id).result())
        except KeyboardInterrupt:
            print("\nThe reminder is kept. The same command waits for the rest of the time.")


if __name__ == "__main__":
    main()
