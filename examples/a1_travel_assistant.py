"""A travel assistant that survives kill -9: a model, a web search, a page reader and a person, in one plain loop.

    python -m examples.a1_travel_assistant --trip rome-1
    holdfast serve examples.a1_travel_assistant:hf

Kill it at any moment and run the same line again: it goes on where it was. No model call, search or page that was
finished is paid for again; only what was under way at the kill is asked once more. Without OPENAI_API_KEY it talks to
the offline model of this folder.

From top to bottom: the steps, plain functions that know nothing of crashes and take their clients and keys from
`Holdfast(deps=...)`, so that none is ever stored; the code around them; the assistant as `async def` and, the same, as
a generator; the command line. Tools asked for in one turn run side by side: `ctx.run` starts a step, `await` waits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator
from html.parser import HTMLParser
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageToolCallUnion

from examples.services import clients, dependencies
from holdfast import Client, Context, Handle, Holdfast, Retry, Service, Step, StepFailed, TerminalError

FINISHED = "TRIP IS READY"
MAX_TURNS = 40  # a model that never comes to an end must not spend for ever
PROMPT = (
    "You are a travel assistant. Search the internet, read the pages that look useful, and ask the traveller what you "
    f'need to know. When the plan is complete, write it down and close with "{FINISHED}".'
)
TOOL_RETRY = Retry(max_attempts=3)  # then StepFailed is raised at the await, and the model is told
Messages = list[Any]
ToolCall = ChatCompletionMessageToolCallUnion


def tool(name: str, description: str, **parameters: str) -> Any:
    """A tool as the chat API wants it described."""
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)[:1]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    tool("internet_search", "Searches the internet.", search_query="string", num_results="integer"),
    tool("scrape_website", "Reads the text of a web page.", url="string"),
]


def ask_model(messages: Messages) -> ChatCompletionMessage:
    """One call of the model. An outage is waited out with the default policy: patient for a day."""
    use = clients()
    try:
        answer = use.openai.chat.completions.create(model=use.where.model, messages=messages, tools=TOOLS)
    except (openai.BadRequestError, openai.AuthenticationError, openai.NotFoundError) as error:
        raise TerminalError(str(error), status=error.status_code) from error  # asking again would not help
    if not answer.choices:
        raise ConnectionError("the model gave an empty answer")
    return answer.choices[0].message


def search_internet(search_query: str, num_results: int = 5) -> str:
    """Titles, links and snippets as text."""
    use = clients()
    body = {"q": search_query, "num": num_results}
    answer = use.web.post(f"{use.where.search.url}/search", json=body, headers={"X-API-KEY": use.where.search.key})
    answer.raise_for_status()
    found = answer.json().get("organic")
    if not found:
        return "error: nothing was found"
    return "\n".join(f"{hit['title']}\n{hit['link']}\n{hit['snippet']}\n" for hit in found)


def scrape_website(url: str) -> str:
    """The words of a page. What the model can work around comes back as text; the rest is raised and tried again."""
    use = clients()
    key = {"token": use.where.browser.key}
    answer = use.web.post(f"{use.where.browser.url}/content", params=key, json={"url": url})
    if answer.status_code in {400, 404}:
        return f"error: {url} could not be read (status {answer.status_code})"
    answer.raise_for_status()
    return text_of(answer.text) or f"error: there is no text on {url}"


def ask_at_terminal(question: str) -> str:
    """The simplest way to ask a person: it holds a thread, and the question comes again after a crash."""
    return input(f"\n{question}\n> ")


class _Words(HTMLParser):
    HIDDEN = frozenset({"head", "nav", "footer", "script", "style"})

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._hidden += tag in self.HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self.HIDDEN

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.words.append(" ".join(data.split()))


def text_of(html: str) -> str:
    """The readable text of a page, a line for each piece."""
    reader = _Words()
    reader.feed(html)
    return "\n".join(reader.words)


def begin_tool(ctx: Context, call: ToolCall) -> Step[str] | str:
    """Starts the tool the model wants. A text, for the model, when it wants what there is not."""
    if call.type != "function":
        return "error: only function tools can be called"
    try:
        wanted = json.loads(call.function.arguments)
        match call.function.name:
            case "internet_search":
                return ctx.run(search_internet, wanted["search_query"], wanted.get("num_results", 5), retry=TOOL_RETRY)
            case "scrape_website":
                return ctx.run(scrape_website, wanted["url"], retry=TOOL_RETRY)
            case name:
                return f"error: there is no tool called {name!r}"
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        return f"error: these arguments do not fit: {wrong}"


def opening(goal: str) -> Messages:
    return [{"role": "system", "content": PROMPT}, {"role": "user", "content": goal}]


def tool_message(call: ToolCall, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": text}


def failure_text(failed: StepFailed) -> str:
    return f"error: the tool failed after {failed.attempts} attempts: {failed.message}"


trips = Service("Trips")


@trips.handler
async def plan(ctx: Context, goal: str, terminal: bool = False) -> str:
    """Plans a trip; the answer is the plan."""
    messages = opening(goal)
    for _ in range(MAX_TURNS):
        message = await ctx.run(ask_model, messages)
        messages.append(message.model_dump(exclude_none=True))
        if FINISHED in (message.content or ""):
            return message.content or ""
        if message.tool_calls:
            begun = [(call, begin_tool(ctx, call)) for call in message.tool_calls]
            for call, result in begun:
                try:
                    text = result if isinstance(result, str) else await result
                except StepFailed as failed:
                    text = failure_text(failed)
                messages.append(tool_message(call, text))
        else:
            question = message.content or "The model said nothing. What should it do?"
            answer = await (ctx.run(ask_at_terminal, question) if terminal else ctx.ask(question, str))
            messages.append({"role": "user", "content": answer})
    raise TerminalError(f"the model found no end in {MAX_TURNS} turns")


@trips.handler
def plan_as_generator(ctx: Context, goal: str, terminal: bool = False) -> Generator[Any, Any, str]:
    """The same, with `yield` in place of `await`."""
    messages = opening(goal)
    for _ in range(MAX_TURNS):
        message: ChatCompletionMessage = yield ctx.run(ask_model, messages)
        messages.append(message.model_dump(exclude_none=True))
        if FINISHED in (message.content or ""):
            return message.content or ""
        if message.tool_calls:
            begun = [(call, begin_tool(ctx, call)) for call in message.tool_calls]
            for call, result in begun:
                try:
                    text = result if isinstance(result, str) else (yield result)
                except StepFailed as failed:
                    text = failure_text(failed)
                messages.append(tool_message(call, text))
        else:
            question = message.content or "The model said nothing. What should it do?"
            answer = yield (ctx.run(ask_at_terminal, question) if terminal else ctx.ask(question, str))
            messages.append({"role": "user", "content": answer})
    raise TerminalError(f"the model found no end in {MAX_TURNS} turns")


hf = Holdfast("trips.db", services=[trips], deps=dependencies())


def wait(client: Client, trip: Handle[str], answer: str | None) -> str:
    """The plan; on the way, what the assistant asks is put to the person at the keyboard."""
    while True:
        try:
            return trip.result(timeout=0.1)
        except TimeoutError:
            for ask in client.asks():
                if ask.invocation == trip.id:
                    print(f"\nThe assistant asks: {ask.question}", flush=True)
                    client.answer(ask.id, answer if answer is not None else input("> "))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.a1_travel_assistant", description="Plans a trip.")
    parser.add_argument("--trip", default="rome-1", help="the id of the trip; the same id goes on with the same trip")
    parser.add_argument("--goal", default="Plan three days in Rome for me.")
    parser.add_argument("--answer", help="what to answer when the assistant asks; without it you are asked")
    parser.add_argument("--style", choices=["async", "generator"], default="async")
    parser.add_argument("--terminal", action="store_true", help="ask in a step that reads the terminal")
    parser.add_argument("--db", default="trips.db", help="the file that remembers")
    options = parser.parse_args()
    handler = plan if options.style == "async" else plan_as_generator
    with Holdfast(options.db, services=[trips], deps=dependencies()) as client:
        trip = client.start(handler, options.goal, options.terminal, id=options.trip)
        try:
            print(wait(client, trip, options.answer))
        except (EOFError, KeyboardInterrupt):
            print("\nThe trip waits. The same command goes on with it.")


if __name__ == "__main__":
    main()
