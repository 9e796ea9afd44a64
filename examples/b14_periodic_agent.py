"""Agents by the clock: one that a cron expression starts, and one that says itself when it wants to look again.

    python -m examples.b14_periodic_agent
    holdfast serve examples.b14_periodic_agent:hf

`brief` runs at seven on working days in Berlin. Each of its times has an invocation id of its own, so a restart at
seven sends nothing twice; of the times that passed while nobody ran, the last is made up for (`missed="once"`).

`look` watches a city. It asks the model when to look again, sends itself a message for then, and ends: between two
looks there is a row with a date, and no process need run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel

import holdfast
from examples import llm
from examples.services import clients, dependencies
from examples.terminal import options
from holdfast import Context, Holdfast, Object, ObjectContext, Service

WISH = "Watch Denver. Look every 2 seconds, 3 times."
READER = "reader@example.com"
CITIES = ["Denver", "Rome"]


class Next(BaseModel):
    """What the watcher wants to do next."""

    note: str
    again_in_seconds: float | None  # None: it has seen enough


@dataclass
class Seen:
    """What a watch has noted, and whether it is over."""

    notes: list[str]
    over: bool


def fetch_weather(city: str) -> str:
    use = clients()
    key = {"key": use.where.weather.key, "q": city}
    now = use.web.get(f"{use.where.weather.url}/v1/current.json", params=key).raise_for_status().json()["current"]
    return f"{now['condition']['text']}, {now['temp_c']} C"


def decide(wish: str, seen: list[str], weather: str) -> Next:
    told = "\n".join([wish, *(f"Seen: {note}" for note in seen), f"Now: {weather}"])
    return llm.fill(Next, "You are the weather watcher. Note what you see, and say when to look again.", told)


def write_brief(weather: dict[str, str]) -> str:
    told = "\n".join(f"{city}: {sky}" for city, sky in weather.items())
    return llm.say("You are the morning briefer. Put the weather into one sentence.", told)


def send_mail(to: str, text: str) -> None:
    """The key is the same in every attempt: a mail that was sent and not recorded is sent again and kept once."""
    use = clients()
    mail, key = {"to": to, "text": text}, {"Idempotency-Key": holdfast.step().idempotency_key}
    use.web.post(f"{use.where.office.url}/mails", json=mail, headers=key).raise_for_status()


briefings, watches = Service("Briefings"), Object("Watches")


@briefings.handler
async def brief(ctx: Context, cities: list[str], to: str) -> str:
    """The weather of some cities, by mail."""
    weather = {city: await ctx.run(fetch_weather, city) for city in cities}
    text = await ctx.run(write_brief, weather)
    await ctx.run(send_mail, to, text)
    return text


@watches.handler
async def look(ctx: ObjectContext, wish: str, city: str) -> None:
    """One look, and the next one's beginning. The key is the watch's name."""
    if ctx.get("over", bool, False):
        return
    weather = await ctx.run(fetch_weather, city)
    plan = await ctx.run(decide, wish, ctx.items("notes", str), weather, retry=llm.THRICE)
    ctx.append("notes", plan.note)
    if plan.again_in_seconds is None:
        ctx.set("over", True)
    else:
        ctx.send(look, wish, city, key=ctx.key, delay=timedelta(seconds=plan.again_in_seconds))


@watches.handler
async def stop(ctx: ObjectContext) -> None:
    """Makes the next look the end of it."""
    ctx.set("over", True)


@watches.handler(shared=True)
async def seen(ctx: ObjectContext) -> Seen:
    """What was seen so far."""
    return Seen(ctx.items("notes", str), ctx.get("over", bool, False))


hf = Holdfast("b14_periodic_agent.db", services=[briefings, watches], deps=dependencies())
hf.schedule(brief, CITIES, READER, id="morning", cron="0 7 * * 1-5", zone="Europe/Berlin", missed="once")


def main() -> None:
    given = options(__doc__, id="denver", text=WISH)
    with hf as client:
        for schedule in client.schedules():
            print(f"{schedule.id}: {schedule.rule} in {schedule.zone}, next at {schedule.next_at}")
        print("now:", client.start(brief, CITIES, READER, id=f"{given.id}-brief").result())
        client.start(look, given.text, "Denver", key=given.id, id=given.id)
        told = 0
        while not (watch := client.call(seen, key=given.id)).over or told < len(watch.notes):
            for note in watch.notes[told:]:
                print(note, flush=True)
            told = len(watch.notes)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
