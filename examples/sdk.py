"""The OpenAI Agents SDK in the examples: which model answers the agents, and the claim that many of them look at.

Promises: the model of services.py, real or offline.
"""

from __future__ import annotations

import os

from agents import Model, ModelProvider, OpenAIResponsesModel, RunConfig
from pydantic import BaseModel

from examples.offline.endpoints import model_name
from examples.services import async_openai


class Models(ModelProvider):
    """Models by name."""

    def __init__(self) -> None:
        self._client = async_openai()

    def get_model(self, model_name: str | None) -> Model:
        return OpenAIResponsesModel(model_name or CONFIGURED, self._client)


CONFIGURED = model_name()
# The SDK sends traces to OpenAI with the key there is: not that of another server with the same API.
TRACED = bool(os.environ.get("OPENAI_API_KEY")) and not os.environ.get("OPENAI_BASE_URL")
CONFIG = RunConfig(model=CONFIGURED, model_provider=Models(), tracing_disabled=not TRACED)


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
