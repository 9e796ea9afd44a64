"""Where the examples find the services they use, and with which keys.

Promises: the real service for every key that is set, the offline one for the rest; with OFFLINE_URL a server that
runs already (`python -m examples.offline`), else one of this process. Refuses to show a key when it is printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from examples.offline.server import OfflineServer

OFFLINE_KEY = "offline-key-no-secret"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service."""

    url: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """All services of the examples."""

    openai: Endpoint
    model: str
    search: Endpoint  # Serper
    browser: Endpoint  # Browserless
    reminders: Endpoint  # takes POST {"message"} with an Idempotency-Key
    weather: Endpoint  # WeatherAPI
    office: Endpoint  # bookings, mails and payments; only the offline one, there is no API that all of them speak


@contextmanager
def endpoints() -> Iterator[Endpoints]:
    """The services to use until the block ends."""
    if url := os.environ.get("OFFLINE_URL"):
        yield _choose(url)
        return
    with OfflineServer() as server:
        yield _choose(server.url)


def model_name() -> str:
    """The model that the examples ask."""
    return os.environ.get("OPENAI_MODEL", "gpt-4.1-mini")


def _choose(offline: str) -> Endpoints:
    return Endpoints(
        openai=_endpoint("OPENAI", "https://api.openai.com/v1", f"{offline}/v1"),
        model=model_name(),
        search=_endpoint("SERPER", "https://google.serper.dev", offline),
        browser=_endpoint("BROWSERLESS", "https://production-sfo.browserless.io", offline),
        reminders=Endpoint(os.environ.get("REMINDER_URL", offline), os.environ.get("REMINDER_KEY", OFFLINE_KEY)),
        weather=_endpoint("WEATHERAPI", "https://api.weatherapi.com", offline),
        office=Endpoint(offline, OFFLINE_KEY),
    )


def _endpoint(name: str, real: str, offline: str) -> Endpoint:
    """The real service when `<name>_API_KEY` is set; `<name>_BASE_URL` moves it."""
    if key := os.environ.get(f"{name}_API_KEY"):
        return Endpoint((os.environ.get(f"{name}_BASE_URL") or real).rstrip("/"), key)
    return Endpoint(offline, OFFLINE_KEY)
