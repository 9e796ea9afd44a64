"""What a step was asked: shown to people without secrets, and digested for the replay check."""

import datetime as dt
import os
import subprocess
import sys
from collections import UserDict
from decimal import Decimal
from itertools import combinations

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.values import VALUE_BYTES_MAX, digest, show_inputs
from tests.values.kinds import Colour, Hotel, Level, Locked, Loose, Page, Stop

NOON = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


class Client:
    def __repr__(self):
        raise RuntimeError("no")


CLIENT = Client()
API_KEY = "sk-" + "".join(map(str, range(9)))  # a str of its own
DEPS = {id(CLIENT): "openai", id(API_KEY): "api_key"}


def shown(*args, **kwargs):
    return msgspec.json.decode(show_inputs(args, kwargs, DEPS))


def test_arguments_are_shown_by_place_and_name():
    assert show_inputs((), {}, {}) == b"[]"
    assert shown("Rome", 5) == ["Rome", 5]
    assert shown(city="Rome") == {"city": "Rome"}
    assert shown("Rome", n=1) == ["Rome", {"$named": {"n": 1}}]


def test_models_and_dataclasses_are_shown_with_their_fields():
    assert shown(Hotel(name="Ritz"), [Stop("Rome", NOON)]) == [
        {"name": "Ritz"},
        [{"city": "Rome", "when": "2026-03-01T00:00:00Z", "colour": "red", "notes": {}}],
    ]


@pytest.mark.parametrize(
    "args, kwargs, expected",
    [
        ((CLIENT, "hi"), {}, [{"$dep": "openai"}, "hi"]),
        ((), {"key": API_KEY}, {"key": {"$dep": "api_key"}}),
        (("hi",), {"key": API_KEY}, ["hi", {"$named": {"key": {"$dep": "api_key"}}}]),
        (({"headers": [("Authorization", API_KEY)]},), {}, [{"headers": [["Authorization", {"$dep": "api_key"}]]}]),
        ((Loose({"key": API_KEY}),), {}, [{"payload": {"key": {"$dep": "api_key"}}}]),
        ((Page(items=[API_KEY, CLIENT]),), {}, [{"items": [{"$dep": "api_key"}, {"$dep": "openai"}]}]),
        ((UserDict(a=1), [CLIENT]), {}, [{"$object": "UserDict"}, [{"$dep": "openai"}]]),
    ],
)
def test_dependencies_are_named_and_never_shown(args, kwargs, expected):
    data = show_inputs(args, kwargs, DEPS)
    assert API_KEY.encode() not in data
    assert msgspec.json.decode(data) == expected


def test_secrets_of_pydantic_stay_stars():
    assert shown(Locked(token="key")) == [{"token": "**********"}]
    assert shown(Locked(token="key"), CLIENT) == [{"token": "**********"}, {"$dep": "openai"}]


class Rude(pydantic.BaseModel):
    x: int

    @pydantic.field_serializer("x")
    def explode(self, _):
        raise RuntimeError("no")


class Constants(pydantic.BaseModel, ser_json_inf_nan="constants"):
    x: float


def circle():
    ring = []
    ring.append(ring)
    return ring


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value, expected",
    [
        (object(), {"$object": "object"}),
        (len, {"$object": "builtin_function_or_method"}),
        (float("nan"), None),
        ([float("inf")], [None]),
        (Hotel(name="a", rating=float("nan")), {"name": "a", "rating": None}),
        (Constants(x=float("nan")), {"$object": "Constants"}),
        ("\ud800", "\\ud800"),
        ({"\ud800": 1}, {"\\ud800": 1}),
        ({(1, 2): "a", None: 1, True: 2}, {"$tuple": "a", "None": 1, "True": 2}),
        ({1: "a"}, {"1": "a"}),
        (Rude(x=1), {"x": 1}),
        (1j, {"$object": "complex"}),
        (b"\xff", "/w=="),
        ({1, 2}, [1, 2]),
        (Client(), {"$object": "Client"}),
        (Hotel, {"$object": "ModelMetaclass"}),
        (10**30, 10**30),
    ],
    ids=lambda given: type(given).__name__,
)
def test_whatever_is_given_is_shown_somehow(value, expected):
    assert msgspec.json.decode(show_inputs((value,), {}, {})) == [expected]
    beside = msgspec.json.decode(show_inputs((value, CLIENT), {}, DEPS))
    assert beside == [expected, {"$dep": "openai"}]


def test_circles_and_depth_do_not_raise():
    for value in (circle(), deep(100_000), [circle(), CLIENT]):
        assert b"$object" in show_inputs((value,), {}, DEPS)
        assert show_inputs((value,), {}, {}).startswith(b"[")


def test_what_is_too_large_is_shown_by_its_size():
    assert shown("x" * VALUE_BYTES_MAX) == [{"$large": VALUE_BYTES_MAX + 4}]


SCALARS = [
    1, True, "1", 1.0, b"1", None, 0, False, "", b"", "None", -1, 10**30, "a", "b", 0.1, float("inf"),
    Colour.RED, Colour.BLUE, Level.LOW, NOON, NOON.replace(tzinfo=None), NOON.date(), dt.timedelta(1), dt.time(1),
    [1], {}, (), {1}, Hotel(name="a"), CLIENT, Decimal(1), "x" * 1024, "x" * 1025, b"x" * 1024, b"x" * 1025,
]  # fmt: skip


def test_digests_of_different_arguments_differ():
    calls = [((value,), {}) for value in SCALARS]
    calls += [
        ((), {}), ((1, 2), {}), ((2, 1), {}), (("ab", "c"), {}), (("a", "bc"), {}), (("abc",), {}),
        ((), {"a": 1}), ((), {"b": 1}), ((1,), {"b": 1}), (("a", 1), {}), ((), {"a": 1, "b": 2}),
        ((), {"a": 2, "b": 1}), (("s1:a", ), {}), ((None, None), {}),
    ]  # fmt: skip
    for one, other in combinations(calls, 2):
        assert digest(*one) != digest(*other), (one, other)


def test_digests_are_eight_bytes_and_stable():
    assert digest((), {}).hex() == "e4a6a0577479b2b4"
    assert {len(digest((value,), {})) for value in SCALARS} == {8}
    assert digest((), {"a": 1, "b": 2}) == digest((), {"b": 2, "a": 1})


def test_containers_count_by_type_only():
    assert digest(([1, 2],), {}) == digest(([3],), {})
    assert digest((Hotel(name="a"),), {}) == digest((Hotel(name="b"),), {})
    assert digest((CLIENT,), {}) == digest((Client(),), {})
    assert digest(([],), {}) != digest(({},), {})


def test_a_long_text_counts_by_its_head_and_length():
    assert digest(("x" * 2000 + "a",), {}) == digest(("x" * 2000 + "b",), {})
    assert digest(("x" * 2000,), {}) != digest(("x" * 2001,), {})


def test_a_key_stands_for_all_arguments():
    assert digest((1,), {"a": 2}, "key") == digest((), {}, "key") != digest((), {}, "other")
    assert digest(("key",), {}) != digest((), {}, "key") != digest((), {})
    assert digest((), {}, "") != digest((), {})


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())))
def test_any_scalars_can_be_digested_and_shown(values):
    assert digest(values, {}) == digest(list(values), {})
    msgspec.json.decode(show_inputs(values, {}, DEPS))


def test_digests_are_the_same_under_another_hash_seed():
    code = "from holdfast.values import digest; print(digest(('a', 1, None), {'x': 2.5, 'b': b'c'}).hex())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {digest(("a", 1, None), {"x": 2.5, "b": b"c"}).hex() + "\n"}
