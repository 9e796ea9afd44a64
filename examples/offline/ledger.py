"""Every request the offline services have seen, so that a test can count what was paid for.

Promises: a request is in the log from its arrival, with the digest of what it asked, and is marked as answered before
the answer leaves. Refuses to keep secrets: no header and no key is in the log.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

# open: being worked on. gone: the client left before the answer. cut, failed: a fault on order. refused: the
# client's own mistake.
Outcome = Literal["open", "answered", "gone", "cut", "failed", "refused"]


@dataclass(slots=True)
class Request:
    """One request. Equal digests: the same thing was asked."""

    number: int
    path: str
    at_ms: int
    digest: str = ""
    model: str = ""
    turn: int | None = None  # times the model had spoken before
    outcome: Outcome = "open"
    status: int = 0
    fault: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Ledger:
    """The log, oldest first."""

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def open(self, path: str) -> Request:
        request = Request(len(self._requests) + 1, path, time.time_ns() // 1_000_000)
        self._requests.append(request)
        return request

    def clear(self) -> None:
        self._requests.clear()

    def report(self) -> dict[str, Any]:
        """The log as JSON, with the sums a reader wants first."""
        answered = [request for request in self._requests if request.outcome == "answered"]
        return {
            "counts": dict(Counter(request.path for request in self._requests)),
            "tokens": {
                "prompt": sum(request.prompt_tokens for request in answered),
                "completion": sum(request.completion_tokens for request in answered),
            },
            "requests": [asdict(request) for request in self._requests],
        }


def digest_of(value: object) -> str:
    """The digest of a request that is no conversation."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
