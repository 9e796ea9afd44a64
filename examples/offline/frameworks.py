"""What the offline model says to agents of Pydantic AI and LangGraph. By the rules of scripts.py: from the conversation
alone."""

from __future__ import annotations

import re
from collections.abc import Callable

from examples.offline.conversation import Conversation, Reply, ToolCall
from examples.offline.world import CITIES, PAGES


def weekend(talk: Conversation) -> Reply:
    """Asks for the weather of each city it is told, all at once; books in the warmest; tells what became of that by the
    tool for its answer, or in words if it has none."""
    cities = [city for city in CITIES if city in talk.asked[0]] or list(CITIES)
    reports = talk.results("get_weather")
    if len(reports) < len(cities):
        return Reply(calls=tuple(ToolCall("get_weather", {"city": city}) for city in cities[len(reports) :]))
    degrees = {
        city: float(re.findall(r"-?\d+(?:\.\d+)?", report)[-1]) for city, report in zip(cities, reports, strict=True)
    }
    best = max(cities, key=degrees.__getitem__)
    booked = talk.results("book_hotel")
    if not booked:
        return Reply.call("book_hotel", city=best, nights=2)
    told = {"city": best, "why": f"{degrees[best]:g} degrees", "booking": booked[-1]}
    if "final_result" in talk.tools:
        return Reply.call("final_result", **told)
    return Reply(f"{told['city']}, for its {told['why']}: {told['booking']}.")


def guide(page: str) -> Callable[[Conversation], Reply]:
    return lambda talk: Reply(PAGES[f"https://guide.example/{talk.asked[-1].lower()}/{page}"].paragraphs[0])


def edit(talk: Conversation) -> Reply:
    """Joins the notes in an order of its own, whichever came first."""
    return Reply(" ".join(sorted(talk.asked[-1].splitlines())))


SCRIPTS = {
    "weekend planner": weekend,
    "city guide for sights": guide("sights"),
    "city guide for hotels": guide("hotels"),
    "city guide for food": guide("food"),
    "editor of a travel letter": edit,
}
