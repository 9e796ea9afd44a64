"""A rate: at most so many beginnings in any stretch as long as its period, and what is kept of it stays small."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.engine import rates
from holdfast.engine.rates import MOMENTS_MAX, Spent
from holdfast.errors import Unreadable

PERIOD = 1_000


def begin_all(rate, steps):
    """When those begin that ask again and again; each time a clock goes on by a step. It is stored between them."""
    now, begun, spent = 0, [], Spent(0, [])
    for step in steps:
        now += step
        spent = rates.read(rates.write(spent))
        if not spent.wait(now, rate, PERIOD):
            spent.spend(now, PERIOD)
            begun.append(now)
    return begun, spent


def exactly(rate, steps):
    """As a window that keeps the time of each would let them begin."""
    now, begun = 0, []
    for step in steps:
        now += step
        if sum(at > now - PERIOD for at in begun) < rate:
            begun.append(now)
    return begun


@given(st.integers(1, 80), st.lists(st.one_of(st.integers(0, 60), st.integers(0, 1_500)), max_size=300))
def test_never_more_in_any_period_and_little_is_kept(rate, steps):
    begun, spent = begin_all(rate, steps)
    assert all(beyond - first >= PERIOD for first, beyond in zip(begun, begun[rate:], strict=False))
    assert len(spent.moments) <= MOMENTS_MAX


@pytest.mark.parametrize("seed", range(20))
def test_never_more_in_any_period_also_where_moments_are_taken_together(seed):
    random = Random(seed)
    rate, busy = random.randint(MOMENTS_MAX + 1, 100), random.choice([3, 10, 25])
    begun, spent = begin_all(rate, [max(0, random.randint(-busy // 2, busy)) for _ in range(2_000)])
    assert all(beyond - first >= PERIOD for first, beyond in zip(begun, begun[rate:], strict=False))
    assert len(spent.moments) <= MOMENTS_MAX
    assert len(begun) > rate, "it goes on"


@given(st.integers(1, MOMENTS_MAX), st.lists(st.integers(0, 400), max_size=150))
def test_of_a_few_each_begins_as_soon_as_it_may(rate, steps):
    assert begin_all(rate, steps)[0] == exactly(rate, steps)


def test_of_many_at_an_even_pace_nearly_all_begin_in_time():
    steps = [1] * 20_000  # ten times as many ask as may begin
    assert len(begin_all(100, steps)[0]) > 0.9 * len(exactly(100, steps))


@given(st.integers(1, 80), st.lists(st.integers(0, 60), min_size=1, max_size=200))
def test_who_waits_as_long_as_it_is_told_may_begin_and_not_before(rate, steps):
    _, spent = begin_all(rate, steps)
    now = sum(steps)
    wait = spent.wait(now, rate, PERIOD)
    assert 0 <= wait <= PERIOD
    if wait:
        assert spent.wait(now + wait - 1, rate, PERIOD) == 1
    assert spent.wait(now + wait, rate, PERIOD) == 0


def test_a_clock_that_is_set_back_costs_no_more_than_a_period():
    spent = Spent(0, [])
    spent.spend(1_000_000, PERIOD)
    assert spent.wait(5, 1, PERIOD) == PERIOD
    assert spent.wait(5 + PERIOD, 1, PERIOD) == 0


@pytest.mark.parametrize("text", [b"1732", b"{", b"[1,[[1]]]", b"\xff"])
def test_what_does_not_decode_is_said(text):
    with pytest.raises(Unreadable, match="a rate"):
        rates.read(text)
