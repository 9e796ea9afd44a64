"""A handler's arguments from the body of a request: which form it takes, what is stored, what is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import BadArguments, TooLarge
from holdfast.service import Service
from holdfast.values import ArgumentsCodec
from tests.values.kinds import Card, Cash, Colour, Hotel, Page, Pet, Point, Stop, Ticket, Tree, shown

NOON = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
ROME = Stop("Rome", NOON)


async def plan(ctx, goal: str, stop: Stop | None = None, *, hotels: list[Hotel] = (), loose=None): ...
async def spread(ctx, first: int, /, second: int = 2, *rest: Colour, **named: Stop): ...
async def alone(ctx): ...
async def book(ctx, hotel: Hotel): ...
async def visit(ctx, stop: Stop = ROME): ...
async def anything(ctx, value: Any): ...
async def table(ctx, table: dict[str, int]): ...


PLAN, SPREAD, BOOK, VISIT = (ArgumentsCodec(fn) for fn in (plan, spread, book, visit))


def codec_of(hint: Any) -> ArgumentsCodec:
    async def handler(ctx, value): ...

    handler.__annotations__["value"] = hint
    return ArgumentsCodec(handler)


@pytest.mark.parametrize(
    "codec, body, args, kwargs",
    [
        (PLAN, b'{"goal": "Rome"}', ("Rome",), {}),
        (PLAN, b' {"loose":{"a":[1.5]},\n"goal":"Rome"} ', ("Rome",), {"loose": {"a": [1.5]}}),
        (PLAN, b'{"goal":"Rome","hotels":[{"name":"Ritz"}]}', ("Rome",), {"hotels": [Hotel(name="Ritz")]}),
        (SPREAD, b'{"*rest":["red"],"first":1,"second":5}', (1, 5, Colour.RED), {}),
        (SPREAD, b'{"first":1,"**named":{"a":{"city":"Rome","when":"2026-03-01T00:00:00Z"}}}', (1,), {"a": ROME}),
        (ArgumentsCodec(alone), b"", (), {}),
        (ArgumentsCodec(alone), b" \r\n", (), {}),
        (ArgumentsCodec(alone), b"{}", (), {}),
        (BOOK, b'{"name": "Ritz"}', (Hotel(name="Ritz"),), {}),
        (VISIT, b"", (), {}),
        (VISIT, b'{"city":"Oslo","when":"2026-03-01T00:00:00Z"}', (Stop("Oslo", NOON),), {}),
        (ArgumentsCodec(anything), b'{"value":[1]}', ([1],), {}),
        (ArgumentsCodec(table), b'{"value":1}', ({"value": 1},), {}),
    ],
    ids=shown,
)
def test_a_body_gives_the_arguments(codec, body, args, kwargs):
    assert codec.decode(codec.encode_json(body)) == (args, kwargs)


@pytest.mark.parametrize("body", [b'{"goal":"Rome","loose":1}', b'{ "loose" : 1 ,\t"goal" : "Rome" }\n'])
def test_what_is_stored_is_what_a_call_from_python_stores(body):
    assert PLAN.encode_json(body) == PLAN.encode(("Rome",), {"loose": 1})


@pytest.mark.parametrize(
    "hint, whole",
    [
        (Hotel, True),
        (Stop, True),
        (Tree, True),
        (Ticket, True),
        (Card, True),
        (Page[int], True),
        (Pet, True),
        (Card | Cash, True),
        (Hotel | Stop, True),
        (dict, True),
        (dict[str, int], True),
        (Stop | None, False),
        (Hotel | None, False),
        (Hotel | list[int], False),
        (Point, False),
        (list[Stop], False),
        (str, False),
        (Any, False),
        (object, False),
    ],
    ids=shown,
)
def test_the_only_argument_is_the_whole_body_if_it_is_always_an_object(hint, whole):
    codec = codec_of(hint)
    assert codec.takes_body() is whole
    assert (codec.schema().get("properties", {}).keys() == {"value"}) is not whole


def test_of_several_arguments_none_is_the_body():
    async def two(ctx, hotel: Hotel, stop: Stop | None = None): ...
    async def rest(ctx, *hotels: Hotel): ...
    async def named(ctx, **hotels: Hotel): ...

    assert [ArgumentsCodec(fn).takes_body() for fn in (two, rest, named)] == [False] * 3


@pytest.mark.parametrize(
    "codec, body, said",
    [
        (PLAN, b"", "plan(): argument 'goal' is missing"),
        (PLAN, b"[1]", "plan(): the body is not a JSON object"),
        (PLAN, b'{"goal":', "plan(): the body is not a JSON object"),
        (PLAN, b"\xef\xbb\xbf{}", "plan(): the body is not a JSON object"),
        (PLAN, b'{"goal":"Rome"} {}', "plan(): the body is not a JSON object"),
        (PLAN, b'{"goal":"Rome","gaol":1}', "plan(): it has no argument 'gaol'"),
        (PLAN, b'{"goal":5}', "plan(): argument 'goal' does not read as str: Expected `str`, got `int`"),
        (PLAN, b'{"goal":"\xff"}', "plan(): argument 'goal' does not read as str"),
        (PLAN, b'{"goal":"Rome","stop":{"city":5}}', "argument 'stop' does not read as tests.values.kinds.Stop | None"),
        (PLAN, b'{"goal":' + b"[" * 100_000, "plan(): the body is not a JSON object"),
        (PLAN, b'{"goal":"Rome","*rest":[]}', "it has no argument '*rest'"),
        (SPREAD, b'{"first":1,"second":2,"*rest":["green"]}', "argument '*rest' does not read as list"),
        (SPREAD, b'{"first":1,"*rest":["red"]}', "argument '*rest' needs 'second', which stands before it"),
        (BOOK, b"", "book(): there is no body"),
        (BOOK, b'"Ritz"', "argument 'hotel' does not read as Hotel: "),
        (BOOK, b'{"hotel":{"name":"Ritz"}}', "argument 'hotel' does not read as Hotel: Field required"),
        (BOOK, b'{"name":5}', "Input should be a valid string, got int - at `$.name`"),
        (VISIT, b'{"city":"Oslo"}', "argument 'stop' does not read as Stop: Object missing required field `when`"),
    ],
    ids=shown,
)
def test_a_body_that_does_not_fit_is_refused_with_the_place_and_the_signature(codec, body, said):
    with pytest.raises(BadArguments) as caught:
        codec.encode_json(body)
    assert said in caught.value.what
    assert caught.value.cause.startswith("it takes (")
    assert "ctx" not in caught.value.cause
    assert caught.value.fix


def test_a_body_that_nests_too_deep_is_refused():
    with pytest.raises(BadArguments, match="more than 200 levels deep"):
        PLAN.encode_json(b'{"goal":"Rome","loose":' + b"[" * 300 + b"]" * 300 + b"}")


def test_a_body_over_the_limit_is_refused():
    with pytest.raises(TooLarge):
        PLAN.encode_json(b'{"goal":"' + b"x" * 34_000_000 + b'"}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["goal", "stop", "loose", "x"]), inner),
)


@given(st.one_of(st.binary(), JSON.map(msgspec.json.encode)))
def test_whatever_is_sent_is_stored_readable_or_refused(body):
    for codec in (PLAN, SPREAD, BOOK, ArgumentsCodec(anything), ArgumentsCodec(table)):
        try:
            stored = codec.encode_json(body)
        except BadArguments:
            continue
        args, kwargs = codec.decode(stored)
        codec._signature.bind(*args, **kwargs)  # raises if the handler could not be called


def test_the_schema_names_arguments_defaults_and_what_is_required():
    assert PLAN.schema() == {
        "type": "object",
        "properties": {
            "goal": {"type": "string"},
            "stop": {"anyOf": [{"$ref": "#/$defs/Stop"}, {"type": "null"}], "default": None},
            "hotels": {"type": "array", "items": {"$ref": "#/$defs/Hotel"}, "default": []},
            "loose": {"default": None},
        },
        "additionalProperties": False,
        "$defs": {"Stop": PLAN.schema()["$defs"]["Stop"], "Colour": {"title": "Colour", "enum": ["blue", "red"]}}
        | {"Hotel": PLAN.schema()["$defs"]["Hotel"]},
        "required": ["goal"],
    }
    assert PLAN.required() == ["goal"]
    assert SPREAD.schema()["properties"]["*rest"]["type"] == "array"
    assert ArgumentsCodec(alone).schema() == {"type": "object", "properties": {}, "additionalProperties": False}


def test_the_schema_of_a_whole_body_is_that_of_its_type():
    assert BOOK.schema()["required"] == ["name"]
    assert VISIT.schema()["$ref"] == "#/$defs/Stop"
    assert VISIT.schema()["default"] == {
        "city": "Rome", "when": "2026-03-01T00:00:00Z", "colour": "red", "notes": {},
    }  # fmt: skip
    assert (BOOK.required(), VISIT.required()) == (["hotel"], [])


def test_a_handler_says_what_it_returns():
    shop = Service("Shop")

    @shop.handler
    async def price(ctx) -> int | None: ...
    @shop.handler
    async def untold(ctx): ...
    @shop.handler
    def steps(ctx) -> Generator[Any, Any, str]:
        yield

    assert shop.handlers["price"].returns_schema() == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert shop.handlers["untold"].returns_schema() == {}
    assert shop.handlers["steps"].returns_schema() == {"type": "string"}
