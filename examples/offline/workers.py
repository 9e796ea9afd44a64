"""What the offline model says in the examples that book, watch and lend. By the rules of scripts.py: from the
conversation alone."""

from __future__ import annotations

import re

from examples.offline.conversation import Conversation, Reply


def book_travel(talk: Conversation) -> Reply:
    """Books a hotel, then a flight, then a car, and says so."""
    wish = talk.asked[-1]
    city = (re.findall(r"\bto ([A-Z]\w+(?: [A-Z]\w+)*)", wish) or ["Rome"])[0]
    car = "convertible" if "convertible" in wish else "small car"
    for tool, arguments in (("BookHotel", {"city": city}), ("BookFlight", {"to": city}), ("BookCar", {"kind": car})):
        if not talk.results(tool):
            return Reply.call(tool, **arguments)
    return Reply(f"Your trip to {city} is booked: hotel, flight and {car}.")


SCRIPTS = {"travel agency": book_travel}
