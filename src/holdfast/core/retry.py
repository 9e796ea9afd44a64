"""When a failed step is tried again. Pure: time and chance come in as arguments.

Nothing is retried without end (G8): a policy has a last attempt or a last moment, and then raises or pauses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any, Literal

from holdfast.errors import BadArguments, HandlerFault, NotDone, TerminalError, UsageError, ValueProblem

RETRY_AFTER_MAX = 3600.0  # seconds; a server that asks for more is asked again after an hour

# No retry mends code: these pause the invocation at once, with the traceback (fix the code, restart, resume).
MENDLESS = (
    TypeError, NameError, AttributeError, ImportError, SyntaxError, NotImplementedError, RecursionError,
    ValueProblem, UsageError, HandlerFault,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retry:
    """How a step's failures are retried: exponential, with jitter, `Retry-After` honoured.

    `max_attempts` counts the first try too. `max_elapsed` is measured from the first attempt. A process that dies while
    an attempt runs forgets those before it; while only the next one is waited for, nothing is forgotten.
    `initial` and `max_delay` are seconds, `factor` multiplies the delay each time, `jitter` is the share of a delay
    drawn at random (0 to 1). An error of a class in `give_up_on` is not retried: StepFailed at the await, at once.
    `then` says what follows the last attempt: "raise" StepFailed at the await, or "pause" the invocation for a
    person. With no limit given the policy is patient: a day, then pause. With `max_attempts`
    and nothing else said, it raises. Raises BadArguments for values that cannot be.
    """

    max_attempts: int | None = None
    max_elapsed: timedelta | None = None
    initial: float = 0.2
    factor: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.2
    then: Literal["raise", "pause"] | None = None
    give_up_on: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise BadArguments(f"Retry: {problem}", fix="see help(holdfast.Retry)")
        if self.max_attempts is None and self.max_elapsed is None:
            object.__setattr__(self, "max_elapsed", timedelta(days=1))
            object.__setattr__(self, "then", self.then or "pause")
        object.__setattr__(self, "then", self.then or "raise")

    def _problem(self) -> str | None:
        attempts: object = self.max_attempts
        if attempts is not None and (not isinstance(attempts, int) or attempts < 1):
            return f"max_attempts is {attempts!r}, it must be a whole number from 1: the first try is an attempt too"
        elapsed: object = self.max_elapsed
        if elapsed is not None and not isinstance(elapsed, timedelta):
            return f"max_elapsed is {elapsed!r}, it must be a timedelta such as timedelta(minutes=5)"
        if self.max_elapsed is not None and self.max_elapsed <= timedelta(0):
            return f"max_elapsed is {self.max_elapsed}, it must be positive"
        if not (0 <= self.initial < inf and 0 <= self.max_delay < inf and 1 <= self.factor < inf):
            return "initial and max_delay must be 0 or more seconds, factor 1 or more, and none of them infinite"
        if not 0 <= self.jitter <= 1:
            return f"jitter is {self.jitter}, it must be between 0 and 1"
        if self.then not in (None, "raise", "pause"):
            return f"then is {self.then!r}, it must be 'raise' or 'pause'"
        kinds: object = self.give_up_on
        if not isinstance(kinds, tuple) or not all(isinstance(kind, type) for kind in kinds):
            return f"give_up_on is {kinds!r}, it must be a tuple of exception classes"
        return None


PATIENT = Retry()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a failed attempt. `delay` is in seconds, for "again" only."""

    action: Literal["again", "raise", "pause"]
    delay: float = 0.0


def judge(
    policy: Retry, error: BaseException, *, attempt: int, elapsed: float, chance: float, now: datetime
) -> Verdict:
    """What to do about the failure of the attempt-th attempt (from 1).

    `elapsed` is seconds since the first attempt began, `chance` a random number in [0, 1), `now` the time against
    which a Retry-After date is read.
    """
    if isinstance(error, (TerminalError, *policy.give_up_on)):
        return Verdict("raise")
    if isinstance(error, MENDLESS):
        return Verdict("pause")
    delay = _delay(policy, attempt, chance)
    asked = retry_after(error, now)
    if asked is not None:
        delay = max(delay, min(asked, RETRY_AFTER_MAX))
    spent = policy.max_attempts is not None and attempt >= policy.max_attempts
    late = policy.max_elapsed is not None and elapsed + delay > policy.max_elapsed.total_seconds()
    if spent or late:
        return Verdict("pause" if policy.then == "pause" else "raise")
    return Verdict("again", delay)


def _delay(policy: Retry, attempt: int, chance: float) -> float:
    try:
        delay = min(policy.initial * float(policy.factor) ** (attempt - 1), policy.max_delay)
    except OverflowError:  # a power that large is beyond every max_delay
        delay = policy.max_delay if policy.initial else 0.0
    return delay * (1 - policy.jitter + 2 * policy.jitter * chance)


def retry_after(error: BaseException, now: datetime) -> float | None:
    """Seconds the other side asked us to wait: from `error.retry_after` or the Retry-After header of
    `error.response` (RFC 9110 10.2.3: seconds or a date), or None. A NotDone speaks for what it was raised
    from."""
    if isinstance(error, NotDone) and error.__cause__ is not None:
        error = error.__cause__
    try:
        value: Any = getattr(error, "retry_after", None)
        if value is None:
            headers = getattr(getattr(error, "response", None), "headers", None)
            if isinstance(headers, Mapping):
                value = headers.get("retry-after", headers.get("Retry-After"))  # a plain dict minds the case
        if isinstance(value, timedelta):
            return max(0.0, value.total_seconds())
        # Whole seconds, says the RFC; some services send parts of them.
        if isinstance(value, str) and not value.strip().replace(".", "", 1).isdecimal():
            return _until(value, now)
        if isinstance(value, (int, float, str)):
            return max(0.0, float(value))
    except Exception:  # noqa: BLE001  # somebody's property, or a number beyond all floats: no wish of anybody's
        return None
    return None


def _until(text: str, now: datetime) -> float | None:
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
