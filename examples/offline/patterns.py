"""What the offline model says in the patterns, D1 to D10. By the rules of scripts.py: from the conversation alone."""

from __future__ import annotations

import json
import re

from examples.offline.conversation import Conversation, Reply


def form(**fields: object) -> Reply:
    """An answer as an object."""
    return Reply(json.dumps(fields))


def sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]


def read_complaint(talk: Conversation) -> Reply:
    letter = talk.asked[-1]
    order = re.search(r"\d{3,}", letter)
    told = sentences(letter)
    return form(order=order[0] if order else "unknown", problem=told[0], wish=told[-1])


def decide_complaint(talk: Conversation) -> Reply:
    facts = json.loads(talk.asked[-1])
    return Reply(f"Order {facts['order']} is replaced at once and at no charge.")


def reply_to_complaint(talk: Conversation) -> Reply:
    return Reply(f"Dear customer, we are sorry for the trouble. {talk.asked[-1]} Kind regards")


INSULTS, THREATS = ("idiot", "stupid"), ("kill",)


def moderate(talk: Conversation) -> Reply:
    post = talk.asked[-1].lower()
    if any(word in post for word in INSULTS):
        return form(verdict="bad", reason="it insults somebody")
    if any(word in post for word in THREATS):
        return form(verdict="unclear", reason="it may be a threat or a manner of speaking")
    return form(verdict="fine", reason="it is about cooking")


SCRIPTS = {
    "reader of complaints": read_complaint,
    "head of complaints": decide_complaint,
    "writer of replies": reply_to_complaint,
    "moderator of a forum": moderate,
}
