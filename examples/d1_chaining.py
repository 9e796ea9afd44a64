"""Chaining: a letter becomes facts, the facts a decision, the decision a reply; three model calls in a row.

    python -m examples.d1_chaining
    holdfast serve examples.d1_chaining:hf

Each call is a step with a plain function as its body. Kill the program between any two of them and start it again: the
calls that were done are read from the journal, and the chain goes on with the next.
"""

from __future__ import annotations

from pydantic import BaseModel

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service

LETTER = "My kettle of order 4711 came with a broken lid. I paid 38 euros and would like a new one before Friday."


class Facts(BaseModel):
    """What a letter is about."""

    order: str
    problem: str
    wish: str


def find_facts(letter: str) -> Facts:
    return llm.fill(Facts, "You are the reader of complaints. Give the order, the problem and the wish.", letter)


def decide(facts: Facts) -> str:
    return llm.say("You are the head of complaints. Decide in one sentence what is done.", facts.model_dump_json())


def write_reply(decision: str) -> str:
    return llm.say("You are the writer of replies. Tell the customer in a friendly letter.", decision)


complaints = Service("Complaints")


@complaints.handler
async def reply(ctx: Context, letter: str) -> str:
    """The reply to a letter of complaint."""
    facts = await ctx.run(find_facts, letter, retry=llm.THRICE)
    decision = await ctx.run(decide, facts)
    return await ctx.run(write_reply, decision)


hf = Holdfast("d1_chaining.db", services=[complaints], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="letter-1", text=LETTER)
    with hf as client:
        run = client.start(reply, given.text, id=given.id)
        print(run.result())
        account(client, run)


if __name__ == "__main__":
    main()
