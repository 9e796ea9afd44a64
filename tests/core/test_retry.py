"""Failed attempts: again, after how long, and what follows the last one. Nothing goes on without end (G8)."""

import itertools
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.retry import PATIENT, RETRY_AFTER_MAX, Retry, Verdict, judge, retry_after
from holdfast.errors import BadArguments, ForeignWake, HandlerIO, TerminalError, Unserialisable, WrongPlace

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAIN = Retry(max_attempts=5, initial=1, factor=2, max_delay=10, jitter=0)


def verdict(policy: Retry, error: BaseException | None = None, **given: Any) -> Verdict:
    how = {"attempt": 1, "elapsed": 0.0, "chance": 0.5, "now": NOW} | given
    return judge(policy, error or ConnectionError("down"), **how)


def asks(value: Any, name: str = "retry-after") -> Exception:
    error = ConnectionError("429")
    error.response = SimpleNamespace(headers={name: value})
    return error


def test_delays_grow_to_their_limit_and_the_last_attempt_raises() -> None:
    seen = [verdict(PLAIN, attempt=attempt) for attempt in range(1, 7)]
    assert [one.action for one in seen] == ["again", "again", "again", "again", "raise", "raise"]
    assert [one.delay for one in seen[:4]] == [1, 2, 4, 8]
    assert verdict(Retry(max_attempts=9, initial=1, max_delay=10, jitter=0), attempt=8).delay == 10


@pytest.mark.parametrize(
    "policy,after",
    [
        (Retry(), "pause"),
        (Retry(max_attempts=3), "raise"),
        (Retry(max_attempts=3, then="pause"), "pause"),
        (Retry(max_elapsed=timedelta(hours=1)), "raise"),
        (Retry(max_elapsed=timedelta(hours=1), then="pause"), "pause"),
        (Retry(max_attempts=3, max_elapsed=timedelta(hours=1)), "raise"),
        (Retry(then="raise"), "raise"),
    ],
)
def test_what_follows_the_last_attempt(policy: Retry, after: str) -> None:
    assert verdict(policy).action == "again"
    assert verdict(policy, attempt=3, elapsed=90_000.0).action == after


def test_one_attempt_is_one_attempt() -> None:
    assert verdict(Retry(max_attempts=1)).action == "raise"


def test_a_patient_policy_tries_for_a_day_and_then_pauses() -> None:
    day = timedelta(days=1).total_seconds()
    assert PATIENT.max_attempts is None
    assert verdict(PATIENT, attempt=10_000, elapsed=day - 100).action == "again"
    assert verdict(PATIENT, attempt=10_000, elapsed=day).action == "pause"


def test_an_attempt_that_would_begin_after_the_limit_is_not_made() -> None:
    policy = Retry(max_elapsed=timedelta(seconds=10), initial=4, jitter=0)
    assert verdict(policy, elapsed=6.0).action == "again"
    assert verdict(policy, elapsed=6.001).action == "raise"
    assert verdict(policy, asks("30"), elapsed=0.0).action == "raise"


@given(chance=st.floats(0, 1, exclude_max=True), jitter=st.floats(0, 1), attempt=st.integers(1, 400))
def test_jitter_stays_in_its_share(chance: float, jitter: float, attempt: int) -> None:
    policy = Retry(max_attempts=1000, initial=1, max_delay=60, jitter=jitter)
    plain = min(2.0 ** (attempt - 1), 60)
    delay = verdict(policy, attempt=attempt, chance=chance).delay
    assert plain * (1 - jitter) * 0.999 <= delay <= plain * (1 + jitter) * 1.001


@given(
    policy=st.builds(
        Retry,
        max_attempts=st.none() | st.integers(1, 10**9),
        max_elapsed=st.none() | st.timedeltas(min_value=timedelta(microseconds=1)),
        initial=st.floats(0, 1e300) | st.integers(0, 10**300),
        factor=st.floats(1, 1e300) | st.integers(1, 10**300),
        max_delay=st.floats(0, 1e300),
        jitter=st.floats(0, 1),
    ),
    attempt=st.integers(1, 10**9),
    elapsed=st.floats(0, 1e300),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_any_policy_gives_a_delay_that_can_be_waited_for(
    policy: Retry, attempt: int, elapsed: float, chance: float
) -> None:
    found = verdict(policy, attempt=attempt, elapsed=elapsed, chance=chance)
    assert 0 <= found.delay <= policy.max_delay * 2
    assert found.action in ("again", "raise", "pause")


def test_a_huge_factor_waits_the_longest_delay() -> None:
    policy = Retry(max_attempts=10_000, factor=1e9, jitter=0)
    assert [verdict(policy, attempt=attempt).delay for attempt in (2, 65, 9999)] == [60, 60, 60]
    assert verdict(Retry(max_attempts=10_000, initial=0, factor=1e9), attempt=9999).delay == 0


MENDLESS = [
    TypeError("f() takes 1 argument"), NameError("x"), AttributeError("y"), ImportError("z"), ModuleNotFoundError("z"),
    NotImplementedError(), RecursionError(), SyntaxError(), UnboundLocalError("x"), Unserialisable("no JSON"),
    WrongPlace("in a body"), ForeignWake("from a body"), HandlerIO("in a body"),
]  # fmt: skip


@pytest.mark.parametrize("error", MENDLESS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("policy", [PATIENT, PLAIN, Retry(max_attempts=1)])
def test_what_no_retry_mends_pauses_at_once(error: BaseException, policy: Retry) -> None:
    assert verdict(policy, error) == Verdict("pause")


@pytest.mark.parametrize("policy", [PATIENT, PLAIN, Retry(max_attempts=3, then="pause")])
def test_a_terminal_error_is_raised_at_once(policy: Retry) -> None:
    assert verdict(policy, TerminalError("no such city", status=404)) == Verdict("raise")


@pytest.mark.parametrize("error", [TimeoutError(), OSError(), ValueError("no JSON"), KeyError("a"), RuntimeError()])
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert verdict(PATIENT, error).action == "again"


@pytest.mark.parametrize(
    "value,seconds",
    [
        ("30", 30),
        (" 30 ", 30),
        ("0", 0),
        (7, 7),
        (2.5, 2.5),
        (-3, 0),
        (timedelta(minutes=2), 120),
        (timedelta(minutes=-2), 0),
        ("Sun, 01 Mar 2026 12:00:45 GMT", 45),
        ("Sun, 01 Mar 2026 13:00:45 +0100", 45),
        ("Sun, 01 Mar 2026 12:00:45", 45),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("99999999999999999999", 1e20),
    ],
)
def test_a_server_that_asks_to_wait_is_heard(value: Any, seconds: float) -> None:
    assert retry_after(asks(value), NOW) == seconds
    delay = verdict(Retry(max_attempts=3, jitter=0), asks(value)).delay
    assert delay == max(0.2, min(seconds, RETRY_AFTER_MAX))


GARBAGE = [
    "soon", "", " ", "-5", "1.5.2", "²", "1e", "nan", "one minute", "Sun, 99 Mar 2026 12:00:45 GMT", "0x10", "\x00",
    "Mon, 1 Jan 99999999999999999999 00:00:00 GMT", "Sun, 01 Mar 2026 12:00:45 +9999999999", b"30", [], None, object(),
    10**400, float("nan"),
]  # fmt: skip


@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: "object" if type(value) is object else repr(value))
def test_a_wish_that_makes_no_sense_is_no_wish(value: Any) -> None:
    for error in (asks(value), _attribute(value)):
        assert not retry_after(error, NOW)
        assert verdict(Retry(max_attempts=3, jitter=0), error) == Verdict("again", 0.2)


def _attribute(value: Any) -> Exception:
    error = ConnectionError("429")
    error.retry_after = value
    return error


@given(value=st.text() | st.floats() | st.integers() | st.binary() | st.timedeltas())
def test_no_wish_whatever_breaks_a_retry(value: Any) -> None:
    for error in (asks(value), _attribute(value)):
        found = verdict(Retry(max_attempts=3), error)
        assert found.action == "again"
        assert 0 <= found.delay <= RETRY_AFTER_MAX


@pytest.mark.parametrize("name", ["retry-after", "Retry-After"])
def test_the_header_is_found_in_a_plain_dict_however_it_is_written(name: str) -> None:
    assert retry_after(asks("9", name), NOW) == 9


def test_the_errors_own_wish_comes_before_the_header() -> None:
    error = asks("9")
    error.retry_after = 4
    assert retry_after(error, NOW) == 4


@pytest.mark.parametrize(
    "response", [None, SimpleNamespace(), SimpleNamespace(headers=None), SimpleNamespace(headers=["retry-after"])]
)
def test_a_response_without_headers_wishes_nothing(response: Any) -> None:
    error = ConnectionError()
    error.response = response
    assert retry_after(error, NOW) is None


def test_an_error_whose_property_raises_wishes_nothing() -> None:
    class Sly(Exception):
        @property
        def retry_after(self) -> float:
            raise RuntimeError("not now")

    assert retry_after(Sly(), NOW) is None


def test_a_wish_never_shortens_the_delay() -> None:
    assert verdict(PLAIN, asks("1"), attempt=4).delay == 8


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_attempts": 0}, "max_attempts is 0"),
    ({"max_attempts": -1}, "max_attempts is -1"),
    ({"max_attempts": "3"}, "max_attempts is .3."),
    ({"max_attempts": 2.5}, "a whole number"),
    ({"max_elapsed": timedelta(0)}, "must be positive"),
    ({"max_elapsed": timedelta(seconds=-1)}, "must be positive"),
    ({"max_elapsed": 60}, "timedelta"),
    ({"initial": -1}, "initial"),
    ({"initial": float("nan")}, "initial"),
    ({"initial": float("inf")}, "infinite"),
    ({"max_delay": -1}, "max_delay"),
    ({"max_delay": float("inf")}, "infinite"),
    ({"factor": 0.5}, "factor"),
    ({"factor": float("inf")}, "infinite"),
    ({"factor": float("nan")}, "factor"),
    ({"jitter": -0.1}, "jitter is -0.1"),
    ({"jitter": 1.1}, "jitter is 1.1"),
    ({"jitter": float("nan")}, "jitter"),
    ({"then": "stop"}, "then is 'stop'"),
]


@pytest.mark.parametrize("options,says", BAD)
def test_a_policy_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadArguments, match=says):
        Retry(**options)


def test_every_policy_ends() -> None:
    for attempts, elapsed, then in itertools.product((None, 4), (None, timedelta(hours=2)), (None, "raise", "pause")):
        policy = Retry(max_attempts=attempts, max_elapsed=elapsed, then=then)
        waited, attempt = 0.0, 0
        while (found := verdict(policy, attempt=(attempt := attempt + 1), elapsed=waited)).action == "again":
            waited += found.delay
            assert attempt < 10_000


def test_some_errors_are_not_worth_a_second_try() -> None:
    policy = Retry(max_attempts=5, then="pause", give_up_on=(LookupError, TypeError))
    assert verdict(policy, KeyError("x")).action == "raise"
    assert verdict(policy, TypeError("x")).action == "raise", "also what would pause"
    assert verdict(policy, OSError("x")).action == "again"


@pytest.mark.parametrize("kinds", [ValueError, [ValueError], ("ValueError",)])
def test_what_cannot_be_given_up_on(kinds: Any) -> None:
    with pytest.raises(BadArguments, match="give_up_on"):
        Retry(give_up_on=kinds)


def test_parts_of_a_second_are_understood_too() -> None:
    assert retry_after(asks("0.4"), NOW) == 0.4
