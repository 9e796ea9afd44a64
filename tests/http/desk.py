"""The program behind docs/http.md."""

from dataclasses import dataclass

from holdfast import Context, Holdfast, Object, ObjectContext, Service, TerminalError, Workflow, WorkflowContext


@dataclass
class Claim:
    """What a customer asks for."""

    customer: str
    amount: float


claims = Service("Claims")
chat = Object("Chat")
trip = Workflow("Trip")


def score(claim: Claim) -> float:
    return min(1.0, claim.amount / 10_000)


def pay(claim: Claim) -> str:
    return f"{claim.amount:g} paid to {claim.customer}"


@claims.handler
async def review(ctx: Context, claim: Claim) -> str:
    """Pays a claim, if a person agrees when it is large."""
    risk = await ctx.run(score, claim)
    if risk > 0.1 and not await ctx.ask("Pay this claim?", bool, about=claim):
        return "refused"
    return await ctx.run(pay, claim)


@claims.handler
async def estimate(ctx: Context, days: int, rate: float = 40.0) -> float:
    """What a stay costs."""
    if days > 365:
        raise TerminalError("no stay is longer than a year", status=422)
    return days * rate


@claims.handler
async def escort(ctx: Context) -> str:
    """Waits for a message."""
    return "met at " + await ctx.receive("place", str)


@claims.handler
async def audit(ctx: Context) -> str:
    """Looks over the day's claims."""
    return "all well"


def reply(text: str, turn: int) -> str:
    return f"{turn}: you said {text}"


@chat.handler
async def message(ctx: ObjectContext, text: str) -> str:
    """Answers one message; those of one key come one by one."""
    turn = len(ctx.items("lines")) + 1
    answer = await ctx.run(reply, text, turn)
    ctx.append("lines", text)
    ctx.set("turns", turn)
    return answer


@chat.handler(shared=True)
async def history(ctx: ObjectContext) -> list[str]:
    """What was said."""
    return ctx.items("lines", str)


@trip.main
async def plan(ctx: WorkflowContext, city: str) -> str:
    """Plans a trip; runs once for each key."""
    return f"a trip to {city}"


hf = Holdfast("agent.db", services=[claims, chat, trip])
hf.schedule(audit, id="nightly", cron="0 3 * * *")

if __name__ == "__main__":
    hf.serve()
