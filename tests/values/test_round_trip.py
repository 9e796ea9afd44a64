"""What goes in comes out, for every kind of hint."""

import datetime as dt
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.values import MISSING, codec_for
from holdfast.values.codec import CODECS_MAX, _by_hint
from tests.values.kinds import (
    Box,
    Card,
    Cash,
    Colour,
    Hotel,
    Leg,
    Level,
    LongStop,
    Loose,
    Page,
    Pet,
    Point,
    Quiet,
    Stop,
    Ticket,
    Tree,
    Trip,
    shown,
)  # fmt: skip

NOON = dt.datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=dt.UTC)
UserId = NewType("UserId", int)

CASES = [
    (None, None),
    (int, -5),
    (int, 2**63),
    (int, 10**40),
    (float, 1.5),
    (float, -0.0),
    (bool, True),
    (str, 'é\u2028\x00"\\/\U0001f600'),
    (bytes, b"\x00\xff"),
    (int | str, "5"),
    (int | float, 1.0),
    (int | float, 1),
    (float | int, 1e16),
    (Optional[float], None),  # noqa: UP045 (both spellings are met)
    (str | None, "x"),
    (dict, {"a": [1, None]}),
    (list, [1, "a"]),
    (list[int], [1, 2]),
    (tuple[int, ...], (1, 2)),
    (tuple[int, str], (1, "a")),
    (set[str], {"a", "b"}),
    (frozenset[int], frozenset({1, 2})),
    (dict[int, str], {1: "a", -2: "b"}),
    (dict[dt.date, int], {dt.date(2026, 1, 2): 3}),
    (dict[UUID, Colour], {UUID(int=7): Colour.RED}),
    (Mapping[str, Sequence[int]], {"a": [1]}),
    (Iterable[int], [1, 2]),
    (dt.datetime, NOON),
    (dt.datetime, NOON.replace(tzinfo=None)),
    (dt.datetime, NOON.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30)))),
    (dt.date, NOON.date()),
    (dt.time, dt.time(1, 2, 3, 4)),
    (dt.timedelta, dt.timedelta(days=-3, microseconds=1)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=1)),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (Literal["a", 3], 3),
    (Annotated[int, "metres"], 3),
    (UserId, UserId(4)),
    (Stop, Stop("Rome", NOON, Colour.BLUE, {1: b"\xff"})),
    (Leg, Leg([Stop("Rome", NOON)])),
    (Tree, Tree("a", [Tree("b", [Tree("c")])])),
    (Box[int], Box(3)),
    (Box[Stop], Box(Stop("Rome", NOON))),
    (Point, Point(1, 2.5)),
    (Ticket, {"seat": "1A", "price": Decimal(3)}),
    (list[Ticket], [{"seat": "1A"}]),
    (Card | Cash, Cash(Decimal(5))),
    (Stop | Tree, Tree("a")),
    (Loose, Loose({"a": [1, {"b": None}]})),
    (Hotel, Hotel(name="Ritz", rooms=[1])),
    (Hotel | None, None),
    (Hotel | None, Hotel(name="Ritz")),
    (list[Hotel], [Hotel(name="Ritz", rating=4.5)]),
    (dict[str, Hotel], {"a": Hotel(name="Ritz")}),
    (tuple[Hotel, bytes], (Hotel(name="Ritz"), b"\xff")),
    (Trip, Trip(Hotel(name="Ritz"), [])),
    (Page[int], Page[int](items=[1])),
    (Page[Hotel], Page[Hotel](items=[Hotel(name="Ritz")])),
    (list[Pet], []),
    (MISSING, {"a": [1, 2.5, None, True, {"b": ["c"]}]}),
    (Any, [1, {"a": None}]),
    (object, "text"),
]


@pytest.mark.parametrize("hint, value", CASES, ids=shown)
def test_every_kind_of_hint_comes_back_equal(hint, value):
    codec = codec_for(hint)
    data, live = codec.encode_checked(value)
    assert (live, type(live)) == (value, type(value))
    assert codec.encode(value) == data
    replayed = codec.decode(data)
    assert (replayed, type(replayed)) == (value, type(value))


def test_what_is_delivered_live_is_what_a_replay_reads():
    for hint, value, read in [
        (MISSING, (1, (2, 3)), [1, [2, 3]]),
        (float, 3, 3.0),
        (dict[str, Any], {"a": (1,)}, {"a": [1]}),
        (Iterable[int], (1, 2), [1, 2]),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
    ]:
        data, live = codec_for(hint).encode_checked(value)
        assert (live, type(live)) == (read, type(read))
        assert codec_for(hint).decode(data) == live


def test_a_class_without_equality_is_compared_by_its_fields():
    _, live = codec_for(Quiet).encode_checked(Quiet(3))
    assert live.level == 3


def test_scalars_are_not_copied():
    text = "a" * 5_000
    assert codec_for(str).encode_checked(text)[1] is text
    assert codec_for(MISSING).encode_checked(text)[1] is text


def test_sets_are_written_in_one_order_whatever_the_hash_seed():
    assert codec_for(set[str]).encode({"b", "a", "c"}) == b'["a","b","c"]'


def test_a_codec_is_made_once():
    unhashable = Annotated[int, []]
    assert codec_for(list[int]) is codec_for(list[int])
    assert codec_for(unhashable) is codec_for(unhashable)
    assert codec_for(Literal[1]).decode(b"1") == 1
    assert codec_for(Literal[True, 1]) is not codec_for(Literal[1])


def test_hints_made_in_a_loop_do_not_pile_up():
    for number in range(CODECS_MAX + 10):
        codec_for(Literal[number])
    assert len(_by_hint) <= CODECS_MAX


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_plain_json_comes_back_without_a_hint(value):
    data, live = codec_for(MISSING).encode_checked(value)
    assert live == value
    assert codec_for(MISSING).decode(data) == value
    assert codec_for(object).encode(value) == data


STOPS = st.builds(
    Stop,
    st.text(),
    st.datetimes(timezones=st.just(dt.UTC) | st.none()),
    st.sampled_from(Colour),
    st.dictionaries(st.integers(), st.binary(max_size=20), max_size=3),
)


@given(st.lists(STOPS, max_size=3))
def test_any_dataclass_comes_back(stops):
    data, live = codec_for(Leg).encode_checked(Leg(stops))
    assert live == Leg(stops) == codec_for(Leg).decode(data)


@given(
    st.builds(
        Hotel,
        name=st.text(),
        rooms=st.lists(st.integers(), max_size=3),
        rating=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_model_comes_back(hotel):
    data, live = codec_for(list[Hotel]).encode_checked([hotel])
    assert live == [hotel] == codec_for(list[Hotel]).decode(data)
    assert live[0].model_fields_set == hotel.model_fields_set


@given(
    st.dates() | st.times() | st.timedeltas() | st.uuids() | st.decimals(allow_nan=False, allow_infinity=False),
)
def test_any_moment_and_number_comes_back(value):
    data, live = codec_for(type(value)).encode_checked(value)
    assert live == value == codec_for(type(value)).decode(data)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_every_bit(value):
    read = codec_for(float).decode(codec_for(float).encode(value))
    assert read == value
    assert math.copysign(1, read) == math.copysign(1, value)


def test_a_subclass_is_not_cut_down_to_what_was_declared():
    long = LongStop("Rome", NOON, nights=3)
    assert codec_for(LongStop).encode_checked(long)[1] == long
    assert isinstance(Colour.RED, Enum)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with 3.12")
def test_a_type_alias_stands_for_what_it_names():
    names = {"Hotel": Hotel, "Stop": Stop}
    exec("type Hotels = list[Hotel]\ntype Stops = dict[str, Stop]", names)
    for alias, value in [(names["Hotels"], [Hotel(name="Ritz")]), (names["Stops"], {"a": Stop("Rome", NOON)})]:
        data, live = codec_for(alias).encode_checked(value)
        assert live == value == codec_for(alias).decode(data)


WITHOUT_PYDANTIC = """
import sys
sys.modules["pydantic"] = sys.modules["pydantic_core"] = None  # as if it were not installed
from dataclasses import dataclass
from holdfast.errors import Unserialisable
from holdfast.values import MISSING, codec_for, show_inputs

@dataclass
class Stop:
    city: str

@dataclass
class Leg:
    miles: int

stop = Stop("Rome")
assert codec_for(Stop).encode_checked(stop) == (b'{"city":"Rome"}', stop)
assert show_inputs((stop, object()), {}, {}) == b'[{"city":"Rome"},{"$object":"object"}]'
for hint, value in [(Stop | Leg, stop), (MISSING, stop), (Stop, Stop(object())), (list[Stop], [{1}])]:
    try:
        codec_for(hint).encode(value)
    except Unserialisable as refusal:
        print(refusal.what)
"""


def test_pydantic_is_not_needed():
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYDANTIC], capture_output=True, text=True)
    assert done.stderr == ""
    refused = done.stdout.splitlines()
    assert len(refused) == 4
    assert "Type unions may not contain more than one dataclass" in refused[0]
    assert "$.city is an object, which has no JSON form" in refused[2]
