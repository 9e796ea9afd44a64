"""Bank agent: a hand-written loop in an object, one customer a key; a loan waits for the credit department.

    python -m examples.c2_bank_agent "Lend me 8000 euros for 24 months for a kitchen."
    python -m examples.c2_bank_agent "How are my balance and my loans?" --id message-2
    holdfast serve examples.c2_bank_agent:hf

Messages of one customer come one after another, customers side by side. The tools of one turn run at the same time.
A loan is a call to another service, which decides small ones itself and asks a clerk about large ones: for days, if it
must. Meanwhile `overview` and `holdfast state Bank ada` show what the agent is doing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from examples import llm
from examples.services import dependencies
from examples.terminal import account, options, result
from holdfast import Context, Holdfast, Object, ObjectContext, Service, TerminalError

WISH = "Lend me 8000 euros for 24 months for a kitchen."
CUSTOMER = "ada"
SYSTEM = {"role": "system", "content": "You are the bank agent. Use the tools; never make up a number."}
FIRST_BALANCE = 1200
PAYMENTS = {"rent": 700, "food": 310, "train": 49}  # stands for the bank's books
DECIDED_BY_RULE = 5000  # a loan up to this needs no clerk


class GetBalance(BaseModel):
    """Tells the balance of the account, in euros."""


class GetPayments(BaseModel):
    """Lists what was paid last month, by purpose."""


class GetLoans(BaseModel):
    """Lists the customer's loans."""


class ApplyForLoan(BaseModel):
    """Applies for a loan. The answer may take days."""

    amount: int
    months: int
    purpose: str


TOOLS: list[type[BaseModel]] = [GetBalance, GetPayments, GetLoans, ApplyForLoan]


@dataclass
class Loan:
    amount: int
    months: int
    purpose: str


@dataclass
class Decision:
    granted: bool
    reason: str


@dataclass
class Answer:
    """What the customer gets: words, and the balance they rest on."""

    text: str
    balance: int
    tools: list[str]


@dataclass
class Account:
    """What can be seen from outside at any time."""

    balance: int
    loans: list[Loan]
    doing: str


def ask_model(messages: llm.Messages) -> ChatCompletionMessage:
    return llm.chat(messages, TOOLS)


def fetch_payments(customer: str) -> dict[str, int]:
    del customer
    return PAYMENTS


def rate(customer: str, payments: dict[str, int], amount: int) -> str:
    del customer
    return "good" if amount < 12 * sum(payments.values()) else "poor"


bank, credit = Object("Bank"), Service("CreditDepartment")


@bank.handler
async def message(ctx: ObjectContext, text: str) -> Answer:
    """The answer to a customer's message. The key is the customer."""
    turn: llm.Messages = [{"role": "user", "content": text}]
    used: list[str] = []
    try:
        for _ in range(llm.MAX_TURNS):
            ctx.set("doing", "thinking")
            said = await ctx.run(ask_model, [SYSTEM, *ctx.items("messages"), *turn])
            turn.append(llm.spoken(said))
            if not said.tool_calls:
                for one in turn:  # the whole turn or none of it: a tool call without its answer would spoil the rest
                    ctx.append("messages", one)
                return Answer(said.content or "", ctx.get("balance", int, FIRST_BALANCE), used)
            used += [call.function.name for call in said.tool_calls if call.type == "function"]
            ctx.set("doing", ", ".join(used))
            results = await asyncio.gather(*(use_tool(ctx, call) for call in said.tool_calls))
            turn += [llm.told(call, told) for call, told in zip(said.tool_calls, results, strict=True)]
        raise TerminalError(f"the model found no end in {llm.MAX_TURNS} turns")
    finally:
        ctx.set("doing", "nothing")


async def use_tool(ctx: ObjectContext, call: llm.ToolCall) -> str:
    """What a tool says, as text for the model."""
    match llm.wanted(call, TOOLS):
        case GetBalance():
            return f"{ctx.get('balance', int, FIRST_BALANCE)} euros"
        case GetPayments():
            payments = await ctx.run(fetch_payments, ctx.key)
            return ", ".join(f"{purpose} {euros}" for purpose, euros in payments.items())
        case GetLoans():
            loans = ctx.items("loans", Loan)
            return ", ".join(f"{loan.amount} euros for a {loan.purpose}" for loan in loans) or "none"
        case ApplyForLoan(amount=amount, months=months, purpose=purpose):
            loan = Loan(amount, months, purpose)
            decision = await ctx.call(decide, ctx.key, loan)
            if decision.granted:
                ctx.append("loans", loan)
                ctx.set("balance", ctx.get("balance", int, FIRST_BALANCE) + amount)
            return f"{'granted' if decision.granted else 'refused'}: {decision.reason}"
        case wrong:
            return str(wrong)


@bank.handler(shared=True)
async def overview(ctx: ObjectContext) -> Account:
    """What there is, and what the agent is doing."""
    balance = ctx.get("balance", int, FIRST_BALANCE)
    return Account(balance, ctx.items("loans", Loan), ctx.get("doing", str, "nothing"))


@credit.handler
async def decide(ctx: Context, customer: str, loan: Loan) -> Decision:
    """Grants a loan or refuses it: by rule, or by a clerk within two weeks."""
    payments = await ctx.run(fetch_payments, customer)
    rating = await ctx.run(rate, customer, payments, loan.amount)
    if loan.amount <= DECIDED_BY_RULE:
        return Decision(rating == "good", f"the rating is {rating}")
    about = {"customer": customer, "loan": loan, "rating": rating}
    try:
        granted = await ctx.ask("Grant this loan?", bool, about=about, timeout=timedelta(days=14))
    except TimeoutError:
        return Decision(granted=False, reason="nobody decided in two weeks")
    return Decision(granted, "a clerk has decided")


hf = Holdfast("c2_bank_agent.db", services=[bank, credit], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="message-1", text=WISH)
    with hf as client:
        run = client.start(message, given.text, key=CUSTOMER, id=given.id)
        answer = result(client, run)
        print(f"{answer.text}\nbalance: {answer.balance} euros, tools: {', '.join(answer.tools) or 'none'}")
        account(client, run)


if __name__ == "__main__":
    main()
