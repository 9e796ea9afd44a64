"""Evaluator and optimizer: one model writes, another judges, and the first writes again until the judge is content.

    python -m examples.d8_evaluator_optimizer
    holdfast serve examples.d8_evaluator_optimizer:hf

Every draft and every verdict is a step. A crash in the third round costs nothing of the first two; and a judge who is
never content ends the loop after MAX_ROUNDS, with the last draft and what is wrong with it.
"""

from __future__ import annotations

from pydantic import BaseModel

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service

TASK = "Why does ice float?"
MAX_ROUNDS = 5


class Verdict(BaseModel):
    """What the judge says of a draft."""

    good: bool
    advice: str


class Explanation(BaseModel):
    """A text, how many drafts it took, and what the judge still wants."""

    text: str
    drafts: int
    advice: str = ""


def write(task: str, advice: list[str]) -> str:
    wishes = "".join(f"\nAdvice: {one}" for one in advice)
    return llm.say("You are the explainer for children. Explain in two sentences; heed all advice.", task + wishes)


def judge(text: str) -> Verdict:
    return llm.fill(Verdict, "You are the critic of explanations. Would a child of seven understand it?", text)


explanations = Service("Explanations")


@explanations.handler
async def explain(ctx: Context, task: str) -> Explanation:
    """An explanation that the judge lets pass."""
    advice: list[str] = []
    for drafts in range(1, MAX_ROUNDS + 1):
        text = await ctx.run(write, task, advice)
        verdict = await ctx.run(judge, text, retry=llm.THRICE)
        if verdict.good:
            return Explanation(text=text, drafts=drafts)
        advice.append(verdict.advice)
    return Explanation(text=text, drafts=MAX_ROUNDS, advice=advice[-1])


hf = Holdfast("d8_evaluator_optimizer.db", services=[explanations], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="explanation-1", text=TASK)
    with hf as client:
        run = client.start(explain, given.text, id=given.id)
        explanation = run.result()
        print(f"{explanation.text} ({explanation.drafts} drafts)")
        account(client, run)


if __name__ == "__main__":
    main()
