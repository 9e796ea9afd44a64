"""The examples on Pydantic AI and LangGraph."""

from __future__ import annotations

from examples import f1_pydantic_ai as f1
from examples import f2_langgraph as f2
from holdfast.integrations.pydantic_ai import Approval
from tests.examples.plays_plain import one
from tests.examples.survival import Play

PLAYS = {
    "f1": Play(f1.hf, one(f1.plan, f1.WISH), answers=Approval("approve")),
    "f2": Play(f2.hf, one(f2.letter_about, f2.CITY), answers=True),
}
