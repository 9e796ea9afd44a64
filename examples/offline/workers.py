"""What the offline model says in the examples that book, watch and lend. By the rules of scripts.py: from the
conversation alone."""

from __future__ import annotations

import json
import re

from examples.offline.conversation import Conversation, Reply, ToolCall, form
from examples.offline.world import WEATHER


def book_travel(talk: Conversation) -> Reply:
    """Books a hotel, then a flight, then a car, and says so."""
    wish = talk.asked[-1]
    city = (re.findall(r"\bto ([A-Z]\w+(?: [A-Z]\w+)*)", wish) or ["Rome"])[0]
    car = "convertible" if "convertible" in wish else "small car"
    for tool, arguments in (("BookHotel", {"city": city}), ("BookFlight", {"to": city}), ("BookCar", {"kind": car})):
        if not talk.results(tool):
            return Reply.call(tool, **arguments)
    return Reply(f"Your trip to {city} is booked: hotel, flight and {car}.")


def compare_weather(talk: Conversation) -> Reply:
    """Looks up every city in one turn, and ends with a report."""
    cities = [city for city in WEATHER if city in talk.asked[0]]
    told = [json.loads(text) for text in talk.results("GetWeather") if not text.startswith("error")]
    if cities and not talk.results("GetWeather"):
        return Reply(calls=tuple(ToolCall("GetWeather", {"city": city}) for city in cities))
    degrees = {weather["city"]: weather["celsius"] for weather in told}
    return Reply.call(
        "Report", warmest=max(degrees, key=lambda city: degrees[city], default="nowhere"), degrees=degrees
    )


def watch_weather(talk: Conversation) -> Reply:
    wish, *lines = talk.asked[-1].splitlines()
    looks = 1 + sum(line.startswith("Seen: ") for line in lines)
    rhythm = re.search(r"every ([\d.]+) second", wish)
    wanted = re.search(r"(\d+) times", wish)
    again = float(rhythm[1]) if rhythm and wanted and looks < int(wanted[1]) else None
    return form(note=f"look {looks}: {lines[-1].removeprefix('Now: ')}", again_in_seconds=again)


def brief_morning(talk: Conversation) -> Reply:
    return Reply(f"Good morning! {'; '.join(talk.asked[-1].splitlines())}.")


def research(talk: Conversation) -> Reply:
    topic = talk.asked[-1]
    return Reply(f"Of {topic} we know when they come, how high they are and why they come twice a day.")


def write_report(talk: Conversation) -> Reply:
    return Reply(f"A report. {talk.asked[-1]}")


def tutor(talk: Conversation) -> Reply:
    return Reply(f"{talk.asked[-1].rstrip('?')}? Because blue light is scattered most.")


def grade(talk: Conversation) -> Reply:
    reasoned = "because" in talk.asked[-1].lower()
    return form(points=4 if reasoned else 1, reason="it gives a cause" if reasoned else "it gives no cause")


def serve_customer(talk: Conversation) -> Reply:
    """Balance, payments and loans as the message names them, all at once; or an application for a loan."""
    text = talk.asked[-1]
    since = next(place for place in range(len(talk.turns), 0, -1) if talk.turns[place - 1].role == "user")
    told = [turn.text for turn in talk.turns[since:] if turn.role == "tool"]
    if told:
        return Reply(f"Here is what I know: {'; '.join(told)}.")
    if found := re.search(r"[Ll]end me (\d+) euros for (\d+) months for an? (\w+)", text):
        loan = {"amount": int(found[1]), "months": int(found[2]), "purpose": found[3]}
        return Reply.call("ApplyForLoan", **loan)
    tools = {"balance": "GetBalance", "spen": "GetPayments", "paid": "GetPayments", "loans": "GetLoans"}
    wanted = dict.fromkeys(tool for word, tool in tools.items() if word in text)
    return Reply(calls=tuple(ToolCall(tool, {}) for tool in wanted)) if wanted else Reply("How can I help?")


SCRIPTS = {
    "travel agency": book_travel,
    "the weather desk": compare_weather,
    "the weather watcher": watch_weather,
    "morning briefer": brief_morning,
    "researcher of reports": research,
    "author of reports": write_report,
    "the tutor": tutor,
    "judge of answers": grade,
    "the bank agent": serve_customer,
}
