"""What the offline model says: a function from the conversation so far to the next reply.

Promises: the reply depends on the conversation alone, never on the number of calls, the time or chance. So a call
that is made twice is answered alike, and a replayed agent comes to the same end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from examples.offline import agents, frameworks, patterns, workers
from examples.offline.conversation import Conversation, Reply, ToolCall
from examples.offline.world import CITIES

Script = Callable[[Conversation], Reply]


@dataclass(frozen=True, slots=True)
class Scripts:
    """Picks the script: by the model's name, else by a phrase in the system prompt, else the echo."""

    models: Mapping[str, Script] = field(default_factory=dict)
    phrases: Mapping[str, Script] = field(default_factory=dict)

    def pick(self, talk: Conversation) -> Script:
        if talk.model in self.models:
            return self.models[talk.model]
        prompt = talk.system.lower()
        return next((script for phrase, script in self.phrases.items() if phrase.lower() in prompt), echo)

    def reply(self, talk: Conversation) -> Reply:
        """The script's reply, its calls given ids that hang on the conversation alone."""
        said = self.pick(talk)(talk)
        calls = said.calls if talk.parallel_calls else said.calls[:1]
        named = (ToolCall(c.name, c.arguments, f"call_{talk.digest}_{i}") for i, c in enumerate(calls))
        return Reply(said.text, tuple(named))


def echo(talk: Conversation) -> Reply:
    """Says what it was told last."""
    return Reply(f"You said: {talk.turns[-1].text}")


def travel(talk: Conversation) -> Reply:
    """Searches twice at once, reads a page, asks the traveller, searches again, and ends with the words the system
    prompt demands in quotes. A goal with "flight" makes it call a tool that nobody offered."""
    goal = talk.asked[0] if talk.asked else ""
    city = next((city for city in CITIES if city in goal), "Rome")
    if "flight" in goal and not talk.results("book_flight"):
        return Reply.call("book_flight", city=city)
    searches, pages = talk.results("internet_search"), talk.results("scrape_website")
    if len(searches) < 2:
        queries = [f"Sights of {city}", f"Hotels in {city}"][len(searches) :]
        return Reply(calls=tuple(ToolCall("internet_search", {"search_query": q, "num_results": 3}) for q in queries))
    links = list(dict.fromkeys(re.findall(r"https://\S+", "\n".join(searches))))
    unread = links[len(pages) :]
    if unread and (not pages or (pages[-1].startswith("error") and len(pages) < 3)):
        return Reply.call("scrape_website", url=unread[0])
    if len(talk.asked) == 1:
        return Reply(f"I have read about {city}. What may a night cost, and what do you like to eat?")
    wish = talk.asked[-1]
    if len(searches) < 3:
        return Reply.call("internet_search", search_query=f"Food in {city}: {wish}", num_results=2)
    tip = next((line for line in (pages[-1] if pages else "").splitlines() if line.endswith(".")), "No page was open.")
    return Reply(f"Your plan for {city} ({wish}): {tip} {_last_words(talk.system)}".rstrip())


def _last_words(system: str) -> str:
    found = re.search(r'"([A-Z][A-Z ]+)"', system)
    return found[1] if found else ""


UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}


def remind(talk: Conversation) -> Reply:
    """Asks for the time when the wish is relative, schedules, reminds, and says so."""
    wish = talk.asked[-1] if talk.asked else ""
    fixed = re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)", wish)
    clocks = talk.results("current_time")
    if not fixed and not clocks:
        return Reply.call("current_time")
    when = fixed[0] if fixed else _due(wish, clocks[0])
    if when is None:
        return Reply("I could not find a time in that.")
    if not talk.results("schedule"):
        return Reply.call("schedule", timestamp=when)
    if talk.results("schedule")[-1].startswith("error"):
        return Reply(f"That time cannot be scheduled: {talk.results('schedule')[-1]}")
    what = wish.split(" to ", 1)[-1].strip(" .")
    if not talk.results("reminder"):
        return Reply.call("reminder", message=what[:1].upper() + what[1:])
    return Reply(f"Done, you were reminded: {what}.")


def _due(wish: str, clock: str) -> str | None:
    """The time a relative wish means, counted from the clock it was told."""
    stamp = re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?", clock)
    if stamp is None:
        return None
    now = datetime.fromisoformat(stamp[0]).replace(tzinfo=UTC)
    if found := re.search(r"in (\d+(?:\.\d+)?) (second|minute|hour|day|week|month)", wish):
        return (now + timedelta(seconds=float(found[1]) * UNITS[found[2]])).isoformat()
    if "tomorrow" in wish:
        return (now + timedelta(days=1)).replace(hour=8, minute=0, second=0, microsecond=0).isoformat()
    return None


def weather(talk: Conversation) -> Reply:
    """Asks for the weather of each city it is asked about, all at once, and says what it was told."""
    wish = talk.asked[-1] if talk.asked else ""
    cities = [city for city in ("Denver", "San Francisco", "Atlantis", "Mars", *CITIES) if city in wish]
    reports = talk.results("get_weather")
    if cities and len(reports) < len(cities):
        return Reply(calls=tuple(ToolCall("get_weather", {"city": city}) for city in cities[len(reports) :]))
    if not cities:
        return Reply("Which city do you mean?")
    return Reply(". ".join(f"{city}: {report}" for city, report in zip(cities, reports, strict=False)) + ".")


LIMIT_USD = 1000  # of a claim that needs no person


def claim(talk: Conversation) -> Reply:
    """Lets a person decide on a claim that is large, and says what was decided."""
    amount = int((re.findall(r"(\d+) ?USD", talk.asked[-1] if talk.asked else "") or ["0"])[0])
    if amount <= LIMIT_USD:
        return Reply(f"The claim of {amount} USD is approved.")
    decisions = talk.results("human_approval")
    if not decisions:
        return Reply.call("human_approval", amount=amount)
    return Reply(f"The claim of {amount} USD: {decisions[-1]}.")


BUILT_IN = {
    "travel assistant": travel,
    "reminder assistant": remind,
    "weather agent": weather,
    "insurance claim agent": claim,
    **patterns.SCRIPTS,
    **workers.SCRIPTS,
    **agents.SCRIPTS,
    **frameworks.SCRIPTS,
}
