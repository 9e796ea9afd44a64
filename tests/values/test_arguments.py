"""A handler's arguments are checked at the caller and come back as they were given."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import BadArguments, BadHandler, TooLarge, Unreadable
from holdfast.values import ArgumentsCodec
from tests.values.kinds import Colour, Hotel, Stop, shown

NOON = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


async def plan(ctx, goal: str, stop: Stop | None = None, *, hotels: list[Hotel] = (), loose=None): ...
async def spread(ctx, first: int, /, second: int = 2, *rest: Colour, **named: Stop): ...
async def alone(ctx): ...


PLAN = ArgumentsCodec(plan)
SPREAD = ArgumentsCodec(spread)


@pytest.mark.parametrize(
    "codec, args, kwargs",
    [
        (PLAN, ("Rome",), {}),
        (PLAN, ("Rome", Stop("Rome", NOON)), {"hotels": [Hotel(name="Ritz")]}),
        (PLAN, ("Rome", None), {"loose": {"a": [1]}}),
        (SPREAD, (1,), {}),
        (SPREAD, (1, 2, Colour.RED, Colour.BLUE), {"a": Stop("Rome", NOON), "second_": Stop("Oslo", NOON)}),
        (ArgumentsCodec(alone), (), {}),
    ],
)
def test_arguments_come_back_as_given(codec, args, kwargs):
    assert codec.decode(codec.encode(args, kwargs)) == (args, kwargs)


def test_arguments_are_stored_by_name_and_defaults_are_not_stored():
    assert PLAN.encode(("Rome",), {}) == b'{"goal":"Rome"}'
    assert PLAN.encode((), {"loose": 1, "goal": "Rome"}) == b'{"goal":"Rome","loose":1}'
    assert SPREAD.encode((1, 2, Colour.RED), {"a": Stop("Rome", NOON)}) == (
        b'{"first":1,"second":2,"*rest":["red"],'
        b'"**named":{"a":{"city":"Rome","when":"2026-03-01T00:00:00Z","colour":"red","notes":{}}}}'
    )
    assert ArgumentsCodec(alone).encode((), {}) == b"{}"


@pytest.mark.parametrize(
    "codec, args, kwargs, said",
    [
        (PLAN, (), {}, "plan(): missing a required argument: 'goal'"),
        (PLAN, ("Rome",), {"gaol": 1}, "plan(): got an unexpected keyword argument 'gaol'"),
        (PLAN, ("Rome", None, 3), {}, "plan(): too many positional arguments"),
        (PLAN, (5,), {}, "plan(): argument 'goal': declared str, but got int: Expected `str`, got `int`"),
        (PLAN, ("Rome", "x"), {}, "plan(): argument 'stop': declared tests.values.kinds.Stop | None, but got str"),
        (PLAN, ("Rome", Stop(5, NOON)), {}, "Expected `str`, got `int` - at `$.city`"),
        (PLAN, ("Rome",), {"hotels": [{"name": 1}]}, "argument 'hotels': declared list[tests.values.kinds.Hotel]"),
        (PLAN, ("Rome",), {"loose": NOON}, "argument 'loose': $ is a datetime.datetime, and its type is not declared"),
        (PLAN, ("\ud800",), {}, "argument 'goal': a value declared as str cannot be stored: $ is a str with a lone"),
        (SPREAD, (1, 2, "green"), {}, "argument '*rest': declared list[tests.values.kinds.Colour], but got tuple"),
        (SPREAD, (1,), {"a": 5}, "argument '**named': declared dict[str, tests.values.kinds.Stop], but got dict"),
    ],
)
def test_arguments_that_do_not_fit_are_named_at_the_caller(codec, args, kwargs, said):
    with pytest.raises(BadArguments) as caught:
        codec.encode(args, kwargs)
    assert said in caught.value.what
    assert "next step:" in str(caught.value)


def test_a_wrong_call_shows_the_signature_without_the_context():
    with pytest.raises(BadArguments, match=r"it takes \(goal: str, stop:") as caught:
        PLAN.encode((), {})
    assert "ctx" not in str(caught.value)


def test_arguments_over_the_limit_are_refused_together_too():
    half = "x" * 20_000_000
    with pytest.raises(TooLarge):
        PLAN.encode((half + half,), {})
    with pytest.raises(TooLarge, match=r"arguments of plan\(\) are 40,000,\d+ bytes"):
        PLAN.encode((half,), {"loose": half})


@pytest.mark.parametrize(
    "stored, said",
    [
        (b"", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b'{"goal":"\xff"}', "'goal'"),
        (b'{"goal":' + b"[" * 100_000, "not a JSON object"),
        (b"{}", "there is no 'goal'"),
        (b'{"aim":"Rome"}', "'aim' is not a parameter"),
        (b'{"goal":5}', "'goal': the stored JSON does not read as str"),
    ],
    ids=shown,
)
def test_stored_arguments_that_do_not_fit_any_more_are_unreadable(stored, said):
    with pytest.raises(Unreadable) as caught:
        PLAN.decode(stored)
    assert said in caught.value.what
    assert "plan()" in caught.value.what


def test_a_parameter_added_with_a_default_reads_what_was_stored_before():
    async def older(ctx, goal: str): ...

    assert PLAN.decode(ArgumentsCodec(older).encode(("Rome",), {})) == (("Rome",), {})


async def takes_file(ctx, file: io.BytesIO): ...
async def takes_union(ctx, file: Hotel | io.BytesIO): ...
async def takes_ghost(ctx, ghost: Ghost): ...  # noqa: F821
async def only_named(*, goal): ...
async def no_context(): ...


@pytest.mark.parametrize(
    "fn, said",
    [
        (takes_union, r"takes_union\(\): parameter 'file': values declared as"),
        (takes_ghost, r"annotation of 'ghost' 'Ghost' of takes_ghost\(\) cannot be resolved"),
        (only_named, r"only_named\(\) takes no context"),
        (no_context, r"no_context\(\) takes no context"),
        (5, r"int\(\) has no signature"),
    ],
    ids=shown,
)
def test_a_signature_that_cannot_be_stored_is_refused_when_it_is_registered(fn, said):
    with pytest.raises(BadHandler, match=said):
        ArgumentsCodec(fn)


def test_an_argument_without_a_json_form_is_named():
    with pytest.raises(BadArguments, match=r"argument 'file': .*\$ is a _io.BytesIO, which has no JSON form"):
        ArgumentsCodec(takes_file).encode((io.BytesIO(),), {})


def test_methods_and_other_skips():
    class Agent:
        async def run(self, ctx, goal: str): ...

    assert ArgumentsCodec(Agent().run).encode(("Rome",), {}) == b'{"goal":"Rome"}'
    assert ArgumentsCodec(plan, skip=2).encode((), {"loose": 1}) == b'{"loose":1}'


@given(st.text(), st.integers(), st.lists(st.sampled_from(Colour)), st.dictionaries(st.text(), st.none()))
def test_any_arguments_come_back(text, number, colours, named):
    async def handler(ctx, a: str, b: int, *c: Colour, **d: Any): ...

    named = {name: None for name in named if name not in {"a", "b", "ctx", "self"}}
    codec = ArgumentsCodec(handler)
    data = codec.encode((text, number, *colours), named)
    assert codec.decode(data) == ((text, number, *colours), named)
    assert msgspec.json.decode(data)["a"] == text
