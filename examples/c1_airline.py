"""Airline customer service: questions, seats and invoices, in a conversation over many requests.

    python -m examples.c1_airline "Can you change my seat to 10b?" --id ada
    python -m examples.c1_airline "AB4568" --id ada
    python -m examples.c1_airline "Send me the invoice." --id ada
    holdfast serve examples.c1_airline:hf

The session is an object: its key is the customer, its state the conversation, the last agent and the seat. Each line
above may be another process, on another day. The same line again is the same message, unless `--message` names another.
"""

from __future__ import annotations

from agents import Agent, RunContextWrapper, function_tool

import holdfast
from examples.sdk import CONFIG
from examples.services import clients, dependencies
from examples.terminal import MESSAGE, options
from holdfast import Holdfast, Object, ObjectContext
from holdfast.integrations.openai_agents import DurableSession, run

FAQ = {
    "bag": "One bag of up to 23 kg is free.",
    "wifi": "There is free wifi on board; join Airline-Wifi.",
    "seat": "There are 120 seats, 22 of them in business class.",
}


@function_tool
async def faq_lookup(question: str) -> str:
    """Answers to frequent questions."""
    return next((answer for word, answer in FAQ.items() if word in question.lower()), "That is not among them.")


@function_tool
async def update_seat(wrapper: RunContextWrapper[ObjectContext], confirmation: str, seat: str) -> str:
    """Changes the seat of a booking."""
    wrapper.context.set("seat", {"confirmation": confirmation, "seat": seat})
    return f"seat {seat} is reserved for {confirmation}"


@function_tool
def send_invoice(confirmation: str) -> str:
    """Sends the invoice of a booking by mail."""
    use = clients()
    mail = {"message": f"Invoice for {confirmation}"}
    key = holdfast.step().idempotency_key  # a second try of this step is the same mail
    sent = use.web.post(f"{use.where.reminders.url}/reminders", json=mail, headers={"Idempotency-Key": key})
    sent.raise_for_status()
    return f"the invoice for {confirmation} is in the mail"


faq = Agent(
    name="Faq", handoff_description="Answers frequent questions.",
    instructions="You are the airline's FAQ agent. Answer with faq_lookup only.", tools=[faq_lookup],
)  # fmt: skip
booking = Agent(
    name="Booking", handoff_description="Seats and invoices of a booking.",
    instructions="You are the airline's booking agent. Ask for the confirmation number if you do not know it.",
    tools=[update_seat, send_invoice],
)  # fmt: skip
triage = Agent(
    name="Triage", instructions="You are the airline's triage agent. Pass the customer on.", handoffs=[faq, booking]
)
faq.handoffs, booking.handoffs = [triage], [triage]
AGENTS = {agent.name: agent for agent in (triage, faq, booking)}
service = Object("Airline")


@service.handler
async def message(ctx: ObjectContext, text: str) -> str:
    """Answers a customer, who is the key."""
    agent = AGENTS[ctx.get("last_agent", str, triage.name)]
    result = await run(agent, text, session=DurableSession(), run_config=CONFIG)
    ctx.set("last_agent", result.last_agent.name)
    return str(result.final_output)


hf = Holdfast("c1_airline.db", services=[service], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="ada", text="Can you change my seat to 10b?", message=MESSAGE)
    with hf as client:
        print(client.call(message, given.text, key=given.id, idempotency_key=given.message or given.text))


if __name__ == "__main__":
    main()
