"""The OpenAI Agents SDK in the examples: which model answers the agents, and the claim that many of them look at.

Promises: the model of services.py, real or offline, asked by a client of the event loop that the engine runs on.
"""

from __future__ import annotations

import asyncio
import os
from weakref import WeakKeyDictionary

import httpx2
from agents import Model, ModelProvider, OpenAIResponsesModel, RunConfig
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel

from examples.offline.endpoints import model_name
from examples.services import clients


class Models(ModelProvider):
    """Models by name. Asked for one in the body of a step, where the dependencies are."""

    def __init__(self) -> None:
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = WeakKeyDictionary()

    def get_model(self, model_name: str | None) -> Model:
        where = clients().where
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            # No connection outlives its answer: nobody could close it when the engine stops.
            http = DefaultAsyncHttpxClient(limits=httpx2.Limits(max_keepalive_connections=0))
            self._clients[loop] = AsyncOpenAI(base_url=where.openai.url, api_key=where.openai.key, http_client=http)
        return OpenAIResponsesModel(model_name or where.model, self._clients[loop])


TRACED = "OPENAI_API_KEY" in os.environ  # traces go to OpenAI
CONFIG = RunConfig(model=model_name(), model_provider=Models(), tracing_disabled=not TRACED)


class Claim(BaseModel):
    """An insurance claim."""

    amount: int  # US dollars
    category: str
    reason: str
    place: str = "General Hospital"


BROKEN_LEG = Claim(amount=3000, category="orthopedic", reason="a broken leg")


def told(claim: Claim) -> str:
    """A claim in words, for a model."""
    return f"{claim.category}: {claim.reason}, {claim.amount} USD, {claim.place}"
