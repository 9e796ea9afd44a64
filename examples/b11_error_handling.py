"""Errors: what is tried again, what the model is told, and what ends the run.

    python -m examples.b11_error_handling "What is the weather like in Atlantis?"
    python -m examples.b11_error_handling "What is the weather like on Mars?" --id weather-2
    holdfast serve examples.b11_error_handling:hf

- A model call that fails is tried three more times, by one policy: the client's own retries are off. Then StepFailed.
- A tool that fails is tried again too, and when that is used up the model is told, and may find another way.
- TerminalError in a tool ends the run at once; here the handler catches it.
"""

from __future__ import annotations

from agents import Agent, function_tool

from examples.sdk import CONFIG
from examples.services import clients, dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Retry, Service, StepFailed, TerminalError
from holdfast.integrations.openai_agents import run

MODEL_RETRY = Retry(max_attempts=4, initial=0.5)  # the first try and three more
TOOL_RETRY = Retry(max_attempts=2, initial=0.1)


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    if city == "Mars":
        raise TerminalError("the weather on other planets is not our business", status=422)
    use = clients()
    answer = use.web.get(f"{use.where.weather.url}/v1/current.json", params={"key": use.where.weather.key, "q": city})
    answer.raise_for_status()
    now = answer.json()["current"]
    return f"{now['condition']['text']}, {now['temp_c']} degrees"


agent = Agent(name="Weather", instructions="You are a weather agent. Tell the weather.", tools=[get_weather])
weather = Service("CarefulWeather")


@weather.handler
async def ask(ctx: Context, question: str) -> str:
    """Answers a question about the weather, or says why not."""
    try:
        answer = await run(agent, question, run_config=CONFIG, retry=MODEL_RETRY, tool_retry=TOOL_RETRY)
    except TerminalError as refusal:
        return f"No answer: {refusal}"
    except StepFailed as failed:
        raise TerminalError(f"the model did not answer in {failed.attempts} attempts", status=503) from failed
    return str(answer.final_output)


hf = Holdfast("b11_error_handling.db", services=[weather], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="weather-1", text="What is the weather like in Atlantis?")
    with hf as client:
        asked = client.start(ask, given.text, id=given.id)
        print(asked.result())
        account(client, asked)


if __name__ == "__main__":
    main()
