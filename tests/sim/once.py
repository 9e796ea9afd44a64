"""What must not be done twice: a bank that knows no idempotency keys, and shapes that pay by steps declared once.

The bank outlives every process and is the truth: whoever asks it, a checker or a person, is told what was paid. A body
that pays may fail, hang and die on either side of its payment.
"""

import asyncio
from typing import Any

import holdfast
from holdfast import Context, OutcomeUnknown, StepFailed, TerminalError
from tests.sim.workloads import FEW, QUICK, expect, own, shape, work

POLICIES = ("ask", "check", "raise")
UNKNOWN = "nobody knows"


class Bank:
    """What was paid, by idempotency key: one receipt for each time."""

    def __init__(self) -> None:
        self.receipts: dict[str, list[str]] = {}

    def pay(self, key: str, receipt: str) -> str:
        self.receipts.setdefault(key, []).append(receipt)
        return receipt

    def find(self, key: str) -> str | None:
        """The receipt of a payment, if there was one."""
        return self.receipts.get(key, [None])[0]


async def pay(*key: int) -> str:
    return await holdfast.step().dep("life").pay(key)


async def look(*key: int) -> str:
    """The checker."""
    return await holdfast.step().dep("life").look(key)


def policy_of(name: str) -> Any:
    return {"ask": True, "check": look, "raise": "raise"}[name]


async def paid(ctx: Context, number: int, policy: str) -> str:
    """One payment, and what the handler knows of it."""
    try:
        receipt = await ctx.run(pay, number, once=policy_of(policy), retry=FEW, timeout=30.0)
    except OutcomeUnknown:
        return UNKNOWN
    except (StepFailed, TerminalError) as error:
        return type(error).__name__
    expect(ctx, own(receipt, number), "G3", f"payment {number} was given {receipt!r}")
    return receipt


@shape(lambda r: (r.randint(1, 3), r.choice(POLICIES)))
async def purchase(ctx: Context, count: int, policy: str) -> list[str]:
    found = [await paid(ctx, number, policy) for number in range(min(count, 5))]
    await ctx.run(work, 0, retry=QUICK)
    return found


@shape(lambda r: (r.randint(2, 4), r.choice(POLICIES), r.choice([0.5, 60.0, 4_000.0])))
async def bazaar(ctx: Context, width: int, policy: str, seconds: float) -> list[str]:
    """Payments side by side, and only so much patience for all of them."""
    paying = [asyncio.ensure_future(paid(ctx, number, policy)) for number in range(min(width, 6))]
    await asyncio.wait(paying, timeout=seconds)
    for late in paying:
        late.cancel()
    told = await asyncio.gather(*paying, return_exceptions=True)
    return [one if isinstance(one, str) else type(one).__name__ for one in told]


@shape(lambda r: (r.choice(POLICIES),))
async def deposit(ctx: Context, policy: str) -> str:
    """A payment that fails its handler when nobody knows of it, or when what follows fails: a retry opens it again."""
    receipt = await ctx.run(pay, 0, once=policy_of(policy), retry=FEW)
    return receipt + await ctx.run(work, 1, retry=FEW)
