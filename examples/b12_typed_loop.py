"""A hand-written loop with typed answers: the openai client's own objects in the journal, pydantic models at both ends.

    python -m examples.b12_typed_loop
    holdfast serve examples.b12_typed_loop:hf

The step returns the client's `ChatCompletion`, with its usage, and the loop gets one back, live and on replay. What the
model may call are pydantic classes, and a call is read as an object of its class. It ends by calling `Report`: the
handler's result is that object, with the tokens it took.
"""

from __future__ import annotations

from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from examples import llm
from examples.services import clients, dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service, TerminalError

QUESTION = "Is it warmer in Denver or in San Francisco?"


class GetWeather(BaseModel):
    """Looks up the present weather of a city."""

    city: str


class Weather(BaseModel):
    """What it found."""

    city: str
    celsius: float
    sky: str


class Report(BaseModel):
    """Ends the work. Call it when you know the weather of every city."""

    warmest: str
    degrees: dict[str, float]


class Forecast(BaseModel):
    """A report, and what it cost."""

    report: Report
    tokens: int


TOOLS: list[type[BaseModel]] = [GetWeather, Report]


def ask_model(messages: llm.Messages) -> ChatCompletion:
    return llm.complete(messages, TOOLS)


def fetch_weather(city: str) -> Weather:
    use = clients()
    key = {"key": use.where.weather.key, "q": city}
    answer = use.web.get(f"{use.where.weather.url}/v1/current.json", params=key)
    if answer.status_code == 400:  # no such city
        raise TerminalError(answer.json()["error"]["message"], status=404)
    now = answer.raise_for_status().json()["current"]
    return Weather(city=city, celsius=now["temp_c"], sky=now["condition"]["text"])


desk = Service("WeatherDesk")


@desk.handler
async def compare(ctx: Context, question: str) -> Forecast:
    """Where it is warmest."""
    messages = llm.opening("You are the weather desk. Look up every city, then call Report.", question)
    tokens = 0
    for _ in range(llm.MAX_TURNS):
        answer = await ctx.run(ask_model, messages)
        tokens += answer.usage.total_tokens if answer.usage else 0
        message = answer.choices[0].message
        messages.append(llm.spoken(message))
        if not message.tool_calls:
            messages.append({"role": "user", "content": "Call a tool."})
        for call in message.tool_calls or []:
            match llm.wanted(call, TOOLS):
                case Report() as report:
                    return Forecast(report=report, tokens=tokens)
                case GetWeather(city=city):
                    text = await look_up(ctx, city)
                case wrong:
                    text = str(wrong)
            messages.append(llm.told(call, text))
    raise TerminalError(f"the model found no end in {llm.MAX_TURNS} turns")


async def look_up(ctx: Context, city: str) -> str:
    """For the model: the weather, or why there is none."""
    try:
        return (await ctx.run(fetch_weather, city)).model_dump_json()
    except TerminalError as unknown:
        return f"error: {unknown}"


hf = Holdfast("b12_typed_loop.db", services=[desk], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="forecast-1", text=QUESTION)
    with hf as client:
        run = client.start(compare, given.text, id=given.id)
        forecast = run.result()
        print(f"It is warmest in {forecast.report.warmest}: {forecast.report.degrees} ({forecast.tokens} tokens)")
        account(client, run)


if __name__ == "__main__":
    main()
