"""What the offline model says to agents of the Agents SDK. By the rules of scripts.py: from the conversation alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from examples.offline.conversation import Conversation, Reply, ToolCall


def assistant(talk: Conversation) -> Reply:
    """Remembers how much was said: who loses the conversation is found out."""
    return Reply(f"Answer {len(talk.asked)}, to: {talk.asked[-1]}")


def intake(talk: Conversation) -> Reply:
    wish = talk.asked[-1].lower()
    return Reply.call("transfer_to_auto" if "car" in wish.split() else "transfer_to_medical")


def specialist(talk: Conversation) -> Reply:
    return Reply(f"After {len(talk.asked)} messages: {talk.asked[-1]} It is approved.")


def coordinate(talk: Conversation) -> Reply:
    """Asks for all tools it has at once, with the claim for those that take one, and decides on what they say."""
    if not talk.results(talk.tools[0]):
        claim = json.loads(talk.asked[0])
        return Reply(calls=tuple(ToolCall(tool, {"claim": claim}) for tool in talk.tools))
    return Reply(f"Approved. {' '.join(result for tool in talk.tools for result in talk.results(tool))}")


PARTS = {
    "check_eligibility": ("category",), "compare_cost": ("category", "amount"), "check_fraud": ("reason",),
}  # fmt: skip


def analyse(talk: Conversation) -> Reply:
    """The same with tools that take parts of the claim."""
    if not talk.results(talk.tools[0]):
        claim = json.loads(talk.asked[0])
        parts = {tool: {name: claim[name] for name in PARTS[tool]} for tool in talk.tools}
        return Reply(calls=tuple(ToolCall(tool, arguments) for tool, arguments in parts.items()))
    return Reply(f"Approved. {' '.join(result for tool in talk.tools for result in talk.results(tool))}")


def opinion(verdict: str) -> Callable[[Conversation], Reply]:
    return lambda talk: Reply(f"{verdict} ({talk.asked[-1]}).")


def decide(talk: Conversation) -> Reply:
    return Reply(f"Approved, for {talk.asked[-1].partition('. ')[2]}")


def report(talk: Conversation) -> Reply:
    return Reply(f"{talk.asked[-1]} is about going on where one was. It is worth a report.")


def criticise(talk: Conversation) -> Reply:
    return Reply(f"Of {len(talk.asked[-1].split())} words none is about the cost.")


def code(talk: Conversation) -> Reply:
    wishes = talk.asked[-1].splitlines()
    language = "Rust" if any("Rust" in wish for wish in wishes) else "Python"
    if not talk.results("run_tests"):
        return Reply.call("run_tests", program=f"a {language} program")
    return Reply(f"A {language} program for: {wishes[0]} {talk.results('run_tests')[-1]}.")


def triage(talk: Conversation) -> Reply:
    wish = talk.asked[-1].lower()
    return Reply.call("transfer_to_booking" if re.search("seat to|invoice", wish) else "transfer_to_faq")


def faq(talk: Conversation) -> Reply:
    wish = talk.asked[-1].lower()
    if re.search("seat to|invoice", wish):
        return Reply.call("transfer_to_triage")
    known = talk.results("faq_lookup")
    asked = [call for turn in talk.turns[_last_question(talk) :] for call in turn.calls if call.name == "faq_lookup"]
    return Reply(known[-1]) if asked else Reply.call("faq_lookup", question=talk.asked[-1])


def booking(talk: Conversation) -> Reply:
    """Changes the seat or sends the invoice, when it knows for which booking."""
    said = " ".join(talk.asked)
    confirmations = re.findall(r"\b[A-Z]{2}\d{4}\b", said)
    wished = [text for text in talk.asked if re.search("seat to|invoice", text.lower())]
    if not wished or not re.search(r"seat to|invoice|\b[a-z]{2}\d{4}\b", talk.asked[-1].lower()):
        return Reply.call("transfer_to_triage")
    if not confirmations:
        return Reply("What is your confirmation number?")
    tool = "send_invoice" if "invoice" in wished[-1].lower() else "update_seat"
    asked = [call for turn in talk.turns[_last_question(talk) :] for call in turn.calls if call.name == tool]
    if asked:
        return Reply(f"Done: {talk.results(tool)[-1]}.")
    if tool == "send_invoice":
        return Reply.call(tool, confirmation=confirmations[-1])
    seat = re.findall(r"seat to (\w+)", wished[-1].lower())[-1].upper()
    return Reply.call(tool, confirmation=confirmations[-1], seat=seat)


def _last_question(talk: Conversation) -> int:
    return max(index for index, turn in enumerate(talk.turns) if turn.role == "user")


SCRIPTS = {
    "helpful assistant": assistant,
    "intake of claims": intake,
    "specialist for": specialist,
    "claim coordinator": coordinate,
    "thorough claim analyst": analyse,
    "claim analyst": coordinate,
    "policy clerk": opinion("It is covered"),
    "cost expert": opinion("The costs are usual"),
    "fraud analyst": opinion("There is no sign of fraud"),
    "claim decider": decide,
    "writer of reports": report,
    "critic of reports": criticise,
    "coding agent": code,
    "airline's triage agent": triage,
    "airline's faq agent": faq,
    "airline's booking agent": booking,
}
