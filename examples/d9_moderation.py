"""Human in the loop: the model moderates posts, and leaves to a person what it is not sure of.

    python -m examples.d9_moderation
    holdfast serve examples.d9_moderation:hf

The question is a row in the store: it holds no thread, survives restarts, and may be answered after days, by anybody
who can reach the inbox: over HTTP, with `holdfast answer`, or here at the keyboard.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options, result
from holdfast import Context, Holdfast, Service

POST = "I will kill for a slice of that cake."
RULES = "You are the moderator of a forum on cooking. Is the post fine, bad (threats, insults, advertising) or unclear?"


class Opinion(BaseModel):
    """What the model thinks of a post."""

    verdict: Literal["fine", "bad", "unclear"]
    reason: str


def judge(post: str) -> Opinion:
    return llm.fill(Opinion, RULES, post)


moderation = Service("Moderation")


@moderation.handler
async def moderate(ctx: Context, post: str) -> str:
    """Whether a post is published, and who says so."""
    opinion = await ctx.run(judge, post, retry=llm.THRICE)
    if opinion.verdict != "unclear":
        return f"{'published' if opinion.verdict == 'fine' else 'removed'} by the model: {opinion.reason}"
    publish = await ctx.ask("Publish this post?", bool, about={"post": post, "doubt": opinion.reason})
    return f"{'published' if publish else 'removed'} by a person"


hf = Holdfast("d9_moderation.db", services=[moderation], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="post-1", text=POST)
    with hf as client:
        run = client.start(moderate, given.text, id=given.id)
        print(result(client, run))
        account(client, run)


if __name__ == "__main__":
    main()
