"""What a run was told, for the parts that only the SDK calls; and which handler they are called in."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from holdfast import BadArguments, Context, Retry, WrongPlace, current

NAME_CHARS_MAX = 100
PATIENT = Retry()
Edits = dict[tuple[str, str], str]  # by the tool's name and the call's id: some providers count calls from 0 each time


@dataclass(frozen=True)
class Price:
    """What a model costs: `input`, `cached` input and `output`, each for a million tokens, in one currency."""

    input: float
    output: float
    cached: float | None = None

    def of(self, usage: Any) -> float:
        """The price of one call."""
        cached = getattr(getattr(usage, "input_tokens_details", None), "cached_tokens", 0) or 0
        fresh = usage.input_tokens - cached
        rate = self.input if self.cached is None else self.cached
        return float(round((fresh * self.input + cached * rate + usage.output_tokens * self.output) / 1_000_000, 9))


@dataclass(frozen=True)
class Options:
    """`retry` is the policy of model calls, `tool_retry` that of tools; Holdfast's default where there is none. `edits`
    are arguments that a person has changed and the tool was not called with yet."""

    retry: Retry | None = None
    tool_retry: Retry | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    edits: Edits = field(default_factory=dict)

    def __post_init__(self) -> None:
        for model, price in self.prices.items():
            given: object = price
            if not isinstance(given, Price):
                raise BadArguments(f"the price of {model!r} is {given!r:.60}", fix="give Price(input=..., output=...)")

    def price(self, model: str | None, usage: Any) -> float | None:
        """What a call has cost, where its model's price is known."""
        price = self.prices.get(model or "")
        return None if price is None or usage is None else price.of(usage)


_options: ContextVar[Options] = ContextVar("holdfast_agents_options", default=Options())  # noqa: B039  # it is frozen
options = _options.get


@contextmanager
def chosen(made: Options) -> Iterator[None]:
    """What runs within, and the tasks begun there, sees these options; what comes after does not."""
    token = _options.set(made)
    try:
        yield
    finally:
        _options.reset(token)


@functools.lru_cache(maxsize=64)
def giving_up_on(error: type[Exception], retry: Retry | None) -> Retry:
    """The policy, Holdfast's own if there is none, with no further attempt after such an error."""
    policy = retry or PATIENT
    return dataclasses.replace(policy, give_up_on=(*policy.give_up_on, error))


def running() -> Context | None:
    """The context of the handler that runs; None in a step's body and outside of Holdfast."""
    try:
        return current()
    except WrongPlace:
        return None


def readable(name: str) -> str:
    """A library's name as the name of a step."""
    return "".join("_" if char in "/#" or not char.isprintable() else char for char in name)[:NAME_CHARS_MAX]
