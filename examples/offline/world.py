"""The small world behind the offline services: pages to find and read, weather, bookings, payments, and an outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the offline web."""

    title: str
    snippet: str
    paragraphs: tuple[str, ...]

    @property
    def html(self) -> str:
        """The page as a browser would give it, with the parts a reader does not want."""
        body = "".join(f"<p>{paragraph}</p>\n" for paragraph in self.paragraphs)
        return (
            f"<!doctype html><html><head><title>{self.title}</title>"
            "<style>p { color: #333; }</style><script>track('visit');</script></head>\n"
            f"<body><nav><a href='/'>Start</a> <a href='/all'>All cities</a></nav><h1>{self.title}</h1>\n{body}"
            "<footer>A page of the offline web.</footer></body></html>\n"
        )


def _city(name: str, sights: tuple[str, ...], beds: tuple[str, ...], food: tuple[str, ...]) -> dict[str, Page]:
    base = f"https://guide.example/{name.lower()}"
    return {
        f"{base}/sights": Page(f"Sights of {name}", f"What to see in {name}: {sights[0]}", sights),
        f"{base}/hotels": Page(f"Hotels in {name}", f"Where to sleep in {name}: {beds[0]}", beds),
        f"{base}/food": Page(f"Food in {name}", f"What to eat in {name}: {food[0]}", food),
    }


PAGES: dict[str, Page] = {
    **_city(
        "Rome",
        (
            "The Colosseum opens at half past eight; the queue is shortest in the last hour.",
            "The Pantheon is ten minutes on foot from Piazza Navona &amp; costs little.",
            "Keep an evening for a walk over the Tiber to Trastevere.",
        ),
        ("Small houses near Termini from 90 euros a night.", "Quiet rooms in Prati from 130 euros a night."),
        ("Cacio e pepe in Testaccio, artichokes in the old ghetto.", "Lunch is cheaper than dinner nearly everywhere."),
    ),
    **_city(
        "Lisbon",
        ("Take tram 28 early, before the crowds.", "The monastery in Belem is closed on Mondays."),
        ("Guest houses in Graca from 70 euros a night.", "River views in Alfama from 110 euros a night."),
        ("Grilled sardines in summer, custard tarts all year.", "Markets close in the early afternoon."),
    ),
    **_city(
        "Kyoto",
        ("Walk to Fushimi Inari before seven in the morning.", "Buses fill up; the underground is quicker."),
        ("Old town houses from 12,000 yen a night.", "Business hotels by the station from 8,000 yen a night."),
        ("Tofu dishes near Nanzenji, noodles at the Nishiki market.", "Many kitchens close at eight."),
    ),
    "https://guide.example/blank": Page("", "A page without a word.", ()),
}
CITIES = ("Rome", "Lisbon", "Kyoto")

WEATHER: dict[str, tuple[str, float, str, float]] = {
    "Denver": ("United States of America", 21.0, "Sunny", 14.0),
    "San Francisco": ("United States of America", 17.0, "Fog", 22.0),
    "Rome": ("Italy", 24.5, "Partly cloudy", 9.0),
    "Lisbon": ("Portugal", 22.0, "Clear", 19.0),
    "Kyoto": ("Japan", 18.5, "Light rain", 7.0),
}


def search(query: str, limit: int) -> dict[str, Any]:
    """A search result in Serper's shape; nothing found means no key "organic"."""
    words = {word.strip(".,?!").lower() for word in query.split()}

    def score(url: str) -> int:
        page = PAGES[url]
        named = {word.strip(".,?!:").lower() for word in f"{page.title} {page.snippet}".split()}
        return len(words & named)

    ranked = sorted((url for url in PAGES if score(url)), key=score, reverse=True)[:limit]
    found: dict[str, Any] = {"searchParameters": {"q": query, "num": limit, "type": "search"}, "credits": 1}
    if ranked:
        found["organic"] = [
            {"title": PAGES[url].title, "link": url, "snippet": PAGES[url].snippet, "position": position}
            for position, url in enumerate(ranked, 1)
        ]
    return found


def weather(city: str) -> dict[str, Any] | None:
    """The weather in WeatherAPI's shape, None for a city it does not know."""
    if city not in WEATHER:
        return None
    country, celsius, text, wind = WEATHER[city]
    return {
        "location": {"name": city, "country": country},
        "current": {
            "temp_c": celsius,
            "temp_f": round(celsius * 9 / 5 + 32, 1),
            "condition": {"text": text},
            "wind_kph": wind,
        },
    }


class Outbox:
    """What was sent to people: once per idempotency key, whatever the number of tries."""

    def __init__(self) -> None:
        self._sent: dict[str, str] = {}

    def send(self, key: str, message: str) -> bool:
        """Keeps the message; False when the key was there already."""
        if key in self._sent:
            return False
        self._sent[key] = message
        return True

    def messages(self) -> list[str]:
        return list(self._sent.values())

    def clear(self) -> None:
        self._sent.clear()


class Bookings:
    """Hotels, flights and cars, under references that the traveller gives: an order that comes twice is one booking.

    A reference that was cancelled stays cancelled, also when its order comes late.
    """

    SOLD_OUT = "convertible"

    def __init__(self) -> None:
        self.status: dict[str, str] = {}
        self.cancelled: list[str] = []  # references, in order

    def book(self, reference: str, what: str) -> str:
        """Why it cannot be booked; empty when it is."""
        if self.status.get(reference) == "cancelled":
            return f"{reference} was cancelled"
        if self.SOLD_OUT in what:
            return f"there is no {self.SOLD_OUT} left"
        self.status[reference] = "booked"
        return ""

    def cancel(self, reference: str) -> None:
        """Also of what was never booked."""
        if self.status.get(reference) != "cancelled":
            self.cancelled.append(reference)
        self.status[reference] = "cancelled"

    def clear(self) -> None:
        self.status.clear()
        self.cancelled.clear()


class Payments:
    """A bank's: one for each Idempotency-Key, however often it comes. Without a key, what is asked twice is paid twice.

    The reference is the payer's own, to find a payment again by.
    """

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self._of_key: dict[str, dict[str, Any]] = {}

    def pay(self, key: str, reference: str, amount: int) -> dict[str, Any] | None:
        """The payment; None if the key was used for another one."""
        asked = {"reference": reference, "amount": amount}
        payment = self._of_key.get(key)
        if payment is not None:
            return payment if asked.items() <= payment.items() else None
        payment = {"id": f"pay_{len(self.all) + 1}", **asked}
        self.all.append(payment)
        if key:
            self._of_key[key] = payment
        return payment

    def find(self, reference: str) -> list[dict[str, Any]]:
        return [payment for payment in self.all if payment["reference"] == reference]

    def clear(self) -> None:
        self.all.clear()
        self._of_key.clear()
