"""Weather agent: a tool whose service is down is tried again, to be seen, until it answers.

    python -m examples.b1_weather_agent "What is the weather like in Denver?" --down Denver
    holdfast serve examples.b1_weather_agent:hf

The agent is the Agents SDK's, unchanged. Its tool is a step: with `--down` it fails again and again, with its error and
its attempts in the timeline. Stop the program, start it again without `--down`, as one would after mending the code:
the answer comes without a second call of the model for the turn that is done.
"""

from __future__ import annotations

from agents import Agent, function_tool

from examples.sdk import CONFIG
from examples.services import clients, dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

QUESTION = "What is the weather like in San Francisco?"
down: set[str] = set()  # cities of which the service knows nothing today


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    if city in down:
        raise ConnectionError(f"the weather service does not answer for {city}")
    use = clients()
    answer = use.web.get(f"{use.where.weather.url}/v1/current.json", params={"key": use.where.weather.key, "q": city})
    answer.raise_for_status()
    now = answer.json()["current"]
    return f"{now['condition']['text']}, {now['temp_c']} degrees"


agent = Agent(name="Weather", instructions="You are a weather agent. Tell the weather.", tools=[get_weather])
weather = Service("Weather")


@weather.handler
async def ask(ctx: Context, question: str) -> str:
    """Answers a question about the weather."""
    return str((await run(agent, question, run_config=CONFIG)).final_output)


hf = Holdfast("b1_weather_agent.db", services=[weather], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="weather-1", text=QUESTION, down="a city for which the service is down")
    down.update([given.down] if given.down else [])
    with hf as client:
        asked = client.start(ask, given.text, id=given.id)
        print(asked.result())
        account(client, asked)


if __name__ == "__main__":
    main()
