"""The clients that the steps of the examples use, in one dependency: the model, the web, and where things are.

Promises: the real service for every key that is set, the offline one for the rest (offline/endpoints.py). Refuses to
open anything before a step asks for it, so that an import, `holdfast check` or a look into a store costs nothing.
"""

from __future__ import annotations

import atexit
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import openai

import holdfast
from examples.offline.endpoints import Endpoints, endpoints


@dataclass(frozen=True, slots=True)
class Clients:
    """What a step's body may use. The model's client makes no retries of its own: Holdfast's are enough, and seen."""

    where: Endpoints
    web: httpx.Client
    openai: openai.OpenAI


class Services:
    """Opens the clients when they are first asked for, and closes them with the program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # steps run side by side
        self._clients: Clients | None = None

    def clients(self) -> Clients:
        with self._lock:
            if self._clients is None:
                self._clients = _open()
            return self._clients


def dependencies() -> dict[str, Any]:
    """For Holdfast(deps=...). Held in memory, never stored."""
    return {"services": Services()}


def clients() -> Clients:
    """Those of the step whose body calls this."""
    services: Services = holdfast.step().dep("services")
    return services.clients()


def _open() -> Clients:
    with ExitStack() as opened:
        where = opened.enter_context(endpoints())
        web = opened.enter_context(httpx.Client(timeout=30))
        model = openai.OpenAI(base_url=where.openai.url, api_key=where.openai.key, max_retries=0)
        opened.callback(model.close)
        atexit.register(opened.pop_all().close)
    return Clients(where, web, model)
