"""What the offline model says in the patterns, D1 to D10. By the rules of scripts.py: from the conversation alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from examples.offline.conversation import Conversation, Reply, ToolCall, form
from examples.offline.world import CITIES


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


def help_customer(talk: Conversation) -> Reply:
    question = talk.asked[-1]
    order = (re.findall(r"\d{3,}", question) or ["0000"])[0]
    tool = "ReturnGoods" if "return" in question else "TrackOrder" if "order" in question else "OpeningHours"
    told = talk.results(tool)
    if not told:
        return Reply.call(tool, **({} if tool == "OpeningHours" else {"order": order}))
    return Reply(f"I looked it up: {told[-1]}.")


def compare_places(talk: Conversation) -> Reply:
    places = [city for city in CITIES if city in talk.asked[-1]]
    found = talk.results("SearchGuide")
    if places and not found:
        return Reply(calls=tuple(ToolCall("SearchGuide", {"query": f"Sights of {place}"}) for place in places))
    told = [f"{place}: {_without_label(text)}" for place, text in zip(places, found, strict=True)]
    return Reply(f"{places[-1] if places else 'Home'} fits. " + " ".join(told))


def _without_label(text: str) -> str:
    return "nobody answered." if text.startswith("error") else text.partition(": ")[2]


def route(**words: tuple[str, ...]) -> Callable[[Conversation], Reply]:
    """A script that chooses a name by the words of the question; the last one for all that has none of them."""
    field, *names = words

    def choose(talk: Conversation) -> Reply:
        question = talk.asked[-1].lower()
        fitting = (name for name in names if any(word in question for word in words[name]))
        return form(**{field: next(fitting, names[-1])})

    return choose


def answer_from_instructions(talk: Conversation) -> Reply:
    """What the instructions know, after their first sentence."""
    return Reply(talk.system.partition(". ")[2])


def think_aloud(talk: Conversation) -> Reply:
    who = re.search(r"You are the (\w+) agent", talk.system)
    return Reply(f"I am {who[1] if who else 'nobody'} and take care of it: {talk.asked[-1]}")


def review(talk: Conversation) -> Reply:
    view = re.search(r"Look at (\w+)", talk.system)
    thing = talk.asked[-1].partition(" that ")[0].lower()
    return Reply(f"As to {view[1] if view else 'all'}, {thing} needs a second look.")


def chair(talk: Conversation) -> Reply:
    views = [line.partition(":")[0] for line in talk.asked[-1].splitlines()]
    return Reply(f"Heard: {', '.join(views)}. Build one and see.")


def plan_leaflet(talk: Conversation) -> Reply:
    parts = re.split(r", and |, | and ", talk.asked[-1].rpartition(": ")[2].rstrip("."))
    return form(parts=parts)


def write_part(talk: Conversation) -> Reply:
    return Reply(f"{talk.asked[-1].capitalize()} takes patience.")


def join_parts(talk: Conversation) -> Reply:
    return Reply(" ".join(talk.asked[-1].splitlines()))


def explain(talk: Conversation) -> Reply:
    task = talk.asked[-1]
    text = "Ice is lighter than the same amount of water"
    if "like" in task:
        text += ", like a cork"
    if "everyday" in task:
        text += " in your bath"
    return Reply(f"{text}. So it floats.")


def criticise(talk: Conversation) -> Reply:
    text = talk.asked[-1]
    if "like" not in text:
        return form(good=False, advice="say what it is like")
    if "bath" not in text:
        return form(good=False, advice="put it into everyday life")
    return form(good=True, advice="")


def listen(talk: Conversation) -> Reply:
    """Remembers a name from any earlier message."""
    names = re.findall(r"[Mm]y name is (\w+)", " ".join(talk.asked))
    if "name?" in talk.asked[-1]:
        return Reply(f"Your name is {names[-1]}." if names else "You did not tell me.")
    return Reply(f"I hear you{f', {names[-1]}' if names else ''}. That was message {len(talk.asked)}.")


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
    "desk of a shop": help_customer,
    "travel compass": compare_places,
    "museum's front desk": route(
        specialist=(), tickets=("cost", "price", "free", "ticket"), access=("lift", "wheelchair"), collection=()
    ),
    "the museum's": answer_from_instructions,
    "the switchboard": route(agent=(), billing=("invoice", "pay", "price"), repairs=()),
    "the billing agent": think_aloud,
    "the repairs agent": think_aloud,
    "reviewer of ideas": review,
    "chair of the review": chair,
    "editor of leaflets": plan_leaflet,
    "writer of leaflets": write_part,
    "layouter of leaflets": join_parts,
    "explainer for children": explain,
    "critic of explanations": criticise,
    "moderator of a forum": moderate,
    "a good listener": listen,
}
