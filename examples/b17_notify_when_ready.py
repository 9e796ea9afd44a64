"""Notify when ready: a report takes its time, and whoever wants to know gets one mail when it is there.

    python -m examples.b17_notify_when_ready
    holdfast serve examples.b17_notify_when_ready:hf

The report is a workflow: once per key. Another handler of it waits for its promise "ready" and then sends a mail. It
may be asked for before the report is begun, while it is written, or long after; the waiting is a row, and survives
what the report survives. Each reader is told once: the mail carries the step's idempotency key.
"""

from __future__ import annotations

import holdfast
from examples import llm
from examples.services import clients, dependencies
from examples.terminal import account, options
from holdfast import Holdfast, Workflow, WorkflowContext

TOPIC = "tides"
READERS = ("ada@example.com", "otto@example.com")


def gather_facts(topic: str) -> str:
    return llm.say("You are the researcher of reports. Give three facts.", topic)


def write_report(topic: str, facts: str) -> str:
    return llm.say(f"You are the author of reports. Write about {topic} with these facts.", facts)


def send_mail(to: str, text: str) -> None:
    use = clients()
    mail, key = {"to": to, "text": text}, {"Idempotency-Key": holdfast.step().idempotency_key}
    use.web.post(f"{use.where.office.url}/mails", json=mail, headers=key).raise_for_status()


reports = Workflow("Report")


@reports.main
async def write(ctx: WorkflowContext, topic: str) -> str:
    """The report; it is written once."""
    facts = await ctx.run(gather_facts, topic)
    text = await ctx.run(write_report, topic, facts)
    ctx.resolve("ready", text)
    return text


@reports.handler
async def mail_when_ready(ctx: WorkflowContext, to: str) -> str:
    """Waits for the report of this key, and mails it."""
    text = await ctx.promise("ready", type=str)
    await ctx.run(send_mail, to, text)
    return f"{to} has it"


hf = Holdfast("b17_notify_when_ready.db", services=[reports], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="report-1", text=TOPIC)
    with hf as client:
        waiting = [client.start(mail_when_ready, to, key=given.id, id=f"{given.id}-{to}") for to in READERS]
        run = client.start(write, given.text, key=given.id)
        print(run.result())
        for told in waiting:
            print(told.result())
        account(client, run)


if __name__ == "__main__":
    main()
