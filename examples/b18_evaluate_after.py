"""Evaluation after the run: the answer goes out at once, and a judge looks at it later, in a run of its own.

    python -m examples.b18_evaluate_after
    holdfast serve examples.b18_evaluate_after:hf

`ctx.send` starts the judge and waits for nothing: whoever asked has the answer while the judge still thinks, and a
judge that is down holds nobody. It is sent in one commit with the answer, so every answer is judged, once. The grades
are the state of an object, to be read from outside.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Object, ObjectContext, Service

QUESTION = "Why is the sky blue?"
AGENT = "tutor"


class Grade(BaseModel):
    """What the judge thinks of an answer."""

    points: int = Field(description="1 to 5")
    reason: str


def think(question: str) -> str:
    return llm.say("You are the tutor. Answer in one sentence.", question)


def judge(question: str, answer: str) -> Grade:
    told = f"Question: {question}\nAnswer: {answer}"
    return llm.fill(Grade, "You are the judge of answers. Give 1 to 5 points and a reason.", told)


tutor, grades = Service("Tutor"), Object("Grades")


@tutor.handler
async def answer(ctx: Context, question: str) -> str:
    """The answer to a question."""
    text = await ctx.run(think, question)
    ctx.send(evaluate, question, text, key=AGENT, id=f"{ctx.id}-grade")
    return text


@grades.handler
async def evaluate(ctx: ObjectContext, question: str, text: str) -> Grade:
    """Judges an answer and keeps the grade. The key is the agent that gave the answer."""
    grade = await ctx.run(judge, question, text, retry=llm.THRICE)
    ctx.append("grades", grade)
    return grade


@grades.handler(shared=True)
async def average(ctx: ObjectContext) -> float | None:
    """The points of all answers so far, on average."""
    points = [grade.points for grade in ctx.items("grades", Grade)]
    return sum(points) / len(points) if points else None


hf = Holdfast("b18_evaluate_after.db", services=[tutor, grades], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="question-1", text=QUESTION)
    with hf as client:
        run = client.start(answer, given.text, id=given.id)
        print(run.result())
        account(client, run)
        grade = client.attach(f"{given.id}-grade").result()
        print(f"\njudged afterwards: {grade.points} points, {grade.reason}")
        print(f"on average: {client.call(average, key=AGENT)}")


if __name__ == "__main__":
    main()
