"""The examples on Pydantic AI and LangGraph."""

from __future__ import annotations

from examples import langgraph_agent, pydantic_ai_agent
from holdfast.integrations.pydantic_ai import Approval
from tests.examples.plays_plain import one
from tests.examples.survival import Play

plan, letter = pydantic_ai_agent, langgraph_agent

PLAYS = {
    "langgraph": Play(letter.hf, one(letter.letter_about, letter.CITY), answers=True),
    "pydantic_ai": Play(plan.hf, one(plan.plan, plan.WISH), answers=Approval("approve")),
}
