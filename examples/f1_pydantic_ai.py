"""A Pydantic AI agent: it looks at three cities at once, books a hotel when a person allows it, and survives kill -9.

    python -m examples.f1_pydantic_ai
    holdfast serve examples.f1_pydantic_ai:hf

The agent is the library's own, and so are its tools: `HoldfastDurability` is one capability among its arguments. Kill
the program while the weather comes in, while the question waits or while the booking is on its way: the next one goes
on, and what was answered is not asked again.
"""

from __future__ import annotations

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import holdfast
from examples.offline.endpoints import model_name
from examples.services import async_openai, clients, dependencies
from examples.terminal import account, options, result
from holdfast import Context, Holdfast, Service
from holdfast.integrations.pydantic_ai import HoldfastDurability, tell_watchers

WISH = "I want sun this weekend: Rome, Lisbon or Kyoto?"


class Plan(BaseModel):
    """What is planned."""

    city: str
    why: str
    booking: str


agent = Agent(
    OpenAIChatModel(model_name(), provider=OpenAIProvider(openai_client=async_openai())),
    name="planner",
    instructions="You are a weekend planner. Look at the weather of all cities at once, and book in the best one.",
    output_type=Plan,
    capabilities=[HoldfastDurability(event_stream_handler=tell_watchers)],
)


@agent.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city."""
    use = clients()
    asked = {"q": city, "key": use.where.weather.key}
    answer = use.web.get(f"{use.where.weather.url}/v1/current.json", params=asked)
    answer.raise_for_status()
    now = answer.json()["current"]
    return f"{now['condition']['text']}, {now['temp_c']:g} degrees"


@agent.tool_plain(requires_approval=True)
def book_hotel(city: str, nights: int) -> str:
    """Books a hotel. It costs money, so a person is asked."""
    use = clients()
    reference = f"{holdfast.step().invocation}-hotel"  # the same in every attempt: what is ordered twice is one booking
    order = {"what": f"{nights} nights in {city}"}
    use.web.put(f"{use.where.office.url}/bookings/{reference}", json=order).raise_for_status()
    return f"booked, {nights} nights in {city}"


weekends = Service("Weekends")


@weekends.handler
async def plan(ctx: Context, wish: str) -> Plan:
    """Plans a weekend."""
    return (await agent.run(wish)).output


hf = Holdfast("f1_pydantic_ai.db", services=[weekends], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="weekend-1", text=WISH)
    with hf as client:
        planned = client.start(plan, given.text, id=given.id)
        print(result(client, planned))
        account(client, planned)


if __name__ == "__main__":
    main()
