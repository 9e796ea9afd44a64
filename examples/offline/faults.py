"""Failures on order: what shall go wrong, for which requests, how many times.

Promises: whether a request is hit depends on what it says, not on when it comes; `times` counts down per fault, so
"twice 500, then fine" is exact. A fault sent in the header counts per conversation, as clients repeat their headers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from examples.offline.conversation import BadRequest

Kind = Literal["slow", "late", "error", "cut", "malformed", "empty"]
HEADER = "x-offline-fault"


@dataclass(slots=True)
class Fault:
    """One order.

    slow: waits `seconds`, then answers. late: does what it was asked to, waits `seconds`, then answers. error: answers
    with `status` (and Retry-After). cut: breaks the connection in the middle of the answer. malformed: answers with
    broken JSON. empty: answers without choices, output or results. Any kind but late waits `seconds` first. A request
    is hit when its path begins with `path`, its text contains `contains`, and the model has spoken `turn` times so far;
    what is None or empty does not matter.
    """

    kind: Kind
    path: str = "/"
    contains: str = ""
    turn: int | None = None
    times: int | None = 1  # None: until it is cleared
    seconds: float = 0.0
    status: int = 500
    retry_after: float | None = None

    @classmethod
    def read(cls, order: object) -> Fault:
        """A fault from JSON. Raises BadRequest for what it does not know."""
        known = {field.name for field in fields(cls)}
        if not isinstance(order, dict) or order.get("kind") not in get_args(Kind) or not set(order) <= known:
            raise BadRequest(f"a fault is an object with 'kind' {get_args(Kind)} and perhaps {sorted(known)}")
        return cls(**order)

    def hits(self, path: str, text: str, turn: int | None) -> bool:
        """Whether it is meant for such a request and not used up."""
        return (
            self.times != 0
            and path.startswith(self.path)
            and self.contains in text
            and (self.turn is None or self.turn == turn)
        )


class Faults:
    """All orders that stand."""

    def __init__(self) -> None:
        self._ordered: list[Fault] = []
        self._from_headers: dict[tuple[str, str], Fault] = {}

    def add(self, fault: Fault) -> None:
        self._ordered.append(fault)

    def clear(self) -> None:
        self._ordered.clear()
        self._from_headers.clear()

    def take(self, path: str, text: str, turn: int | None, *, digest: str, headers: Mapping[str, str]) -> Fault | None:
        """The first fault for this request, counted down."""
        found = next((fault for fault in self._ordered if fault.hits(path, text, turn)), None)
        if found is None and (header := headers.get(HEADER)):
            found = self._from_headers.setdefault((digest, header), Fault.read(_json(header)))
            found = found if found.hits(path, text, turn) else None
        if found is not None and found.times is not None:
            found.times -= 1
        return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise BadRequest(f"the header {HEADER} must be a JSON object, not {text!r}") from None
