"""Values through steps: what the handler sees live is what it sees after a replay, and what cannot be kept pauses with
its step, field and type named, without running the body in a loop."""

import asyncio
import datetime as dt
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from openai.types.chat import ChatCompletion

from holdfast import Context, Retry, WrongStatus
from tests.engine.world import open_promise, paused


@dataclass
class Leg:
    start: str
    cost: Decimal
    on: dt.date
    tags: frozenset[str] = frozenset()


@dataclass
class Trip:
    legs: list[Leg]
    notes: dict[str, Leg | None] = field(default_factory=dict)


class Point(NamedTuple):
    x: int
    y: float


class Struct(msgspec.Struct):
    name: str
    raw: bytes


class Colour(enum.Enum):
    RED = "red"


class Options(TypedDict, total=False):
    depth: int
    when: dt.datetime


class Model(pydantic.BaseModel):
    amount: Decimal
    at: dt.datetime
    tags: set[str]
    inner: "Model | None" = None


COMPLETION = ChatCompletion.model_validate({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-test",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": None, "message": {
        "role": "assistant", "content": None, "refusal": None, "tool_calls": [{
            "id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q": "Rome"}'}}]}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    "a_field_of_tomorrow": {"nested": [1, 2]},
})  # fmt: skip

NOW = dt.datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (str, "naïve ☂ \x00 \u2028"),
    (int, 2**63),
    (float, 0.1 + 0.2),
    (bytes, bytes(range(256))),
    (set[int], {3, 1, 2}),
    (frozenset[str], frozenset("abc")),
    (tuple[int, str], (1, "a")),
    (list[tuple[int, ...]], [(1, 2), ()]),
    (dict[int, str], {1: "a", -2: "b"}),
    (dt.datetime, NOW),
    (dt.timedelta, dt.timedelta(days=1, microseconds=1)),
    (dt.time, dt.time(1, 2, 3)),
    (Decimal, Decimal("1.10")),
    (uuid.UUID, uuid.UUID(int=7)),
    (Colour, Colour.RED),
    (Point, Point(1, 2.5)),
    (Struct, Struct("a", b"\xff")),
    (Options, Options(depth=1, when=NOW)),
    (Trip, Trip([Leg("Rome", Decimal("9.90"), dt.date(2030, 1, 2), frozenset("ab"))], {"x": None})),
    (Model, Model(amount=Decimal("1.10"), at=NOW, tags={"b", "a"}, inner=Model(amount=Decimal(2), at=NOW, tags=set()))),
    (list[Model], [Model(amount=Decimal(1), at=NOW, tags=set())]),
    (ChatCompletion, COMPLETION),
    (int | None, None),
    (Leg | Trip, Trip([])),
]


@pytest.mark.parametrize("hint, value", VALUES, ids=[str(getattr(hint, "__name__", hint)) for hint, _ in VALUES])
def test_a_steps_result_is_the_same_live_and_after_a_replay(memory_world, hint, value):
    seen = []

    async def body():
        return value

    body.__annotations__["return"] = hint

    async def h(ctx: Context) -> None:
        seen.append(await ctx.run(body))
        await ctx.promise("hold")

    with memory_world.holdfast(h) as client:
        client.start(h, id="x")
        open_promise(client)
    with memory_world.holdfast(h) as client:
        client.attach("x").cancel()
    live, replayed = seen
    assert live == replayed == value
    assert type(live) is type(replayed) is type(value)
    assert repr(live) == repr(replayed)


@pytest.mark.parametrize("hint, value", [(dict, {"a": (1, 2)}), (list[float], [1, 2]), (Any, {"a": (1, [2])})])
def test_where_json_loses_something_harmless_the_live_value_has_lost_it_too(memory_world, hint, value):
    seen = []

    async def h(ctx: Context) -> None:
        seen.append(await ctx.run(lambda: value, returns=hint))
        await ctx.promise("hold")

    with memory_world.holdfast(h) as client:
        client.start(h, id="x")
        open_promise(client)
    with memory_world.holdfast(h) as client:
        client.attach("x").cancel()
    assert repr(seen[0]) == repr(seen[1])


def test_a_handler_cannot_change_what_was_recorded(world):
    seen = []

    async def body() -> list[int]:
        return [1]

    async def h(ctx: Context) -> list[int]:
        got = await ctx.run(body)
        seen.append(list(got))
        got.append(2)
        await ctx.promise("hold")
        return got

    with world.holdfast(h) as client:
        client.start(h, id="x")
        open_promise(client)
    with world.holdfast(h) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(20) == [1, 2]
    assert seen == [[1], [1]]


def test_an_openai_answer_keeps_what_was_unset_apart_from_what_was_null(world):
    async def ask_model() -> ChatCompletion:
        return COMPLETION

    async def h(ctx: Context) -> dict[str, Any]:
        answer = await ctx.run(ask_model)
        await ctx.promise("hold")
        return answer.model_dump(exclude_unset=True)

    with world.holdfast(h) as client:
        client.start(h, id="x")
        open_promise(client)
    with world.holdfast(h) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(20) == COMPLETION.model_dump(exclude_unset=True)


def test_results_of_handlers_come_back_in_their_type(world):
    async def h(ctx: Context, at: dt.date) -> Trip:
        return Trip([Leg("Rome", Decimal("1.5"), at)])

    with world.holdfast(h) as client:
        assert client.start(h, dt.date(2030, 1, 2), id="x").result(20) == Trip(
            [Leg("Rome", Decimal("1.5"), dt.date(2030, 1, 2))]
        )
        assert isinstance(client.attach("x").result(), Trip)


def recursive() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> Any:
    value: Any = 1
    for _ in range(100_000):  # some Pythons read five thousand
        value = [value]
    return value


UNKEEPABLE: dict[str, tuple[Any, Callable[[], Any], list[str]]] = {
    "an object without a hint": (None, lambda: {"a": [object()]}, ["$.a[0] is an object", "there is no annotation"]),
    "a model without a hint": (None, lambda: Leg("a", Decimal(1), dt.date.min), ["Leg", "pass returns=YourType"]),
    "another type than declared": (Trip, lambda: {"legs": [{"start": 5}]}, ["Trip"]),
    "a wrong field": (Trip, lambda: Trip([Leg(5, Decimal(1), dt.date.min)]), ["Trip", "$.legs[0].start"]),
    "not a number": (float, lambda: float("nan"), ["the float nan, which JSON cannot hold"]),
    "infinity inside": (list[float], lambda: [1.0, float("inf")], ["$[1]", "inf"]),
    "a lone surrogate": (str, lambda: "a\ud800", ["lone surrogate", "not valid UTF-8"]),
    "a value that contains itself": (list[Any], recursive, ["contains itself", "break the circle"]),
    "a value too deep": (list[Any], deep, ["levels deep"]),
    "50 MB": (str, lambda: "x" * 50_000_000, ["50,000,002 bytes of JSON", "and the limit is 33,554,432"]),
    "a generator": (None, lambda: (x for x in ()), ["generator"]),
    "a lock": (Any, asyncio.Event, ["Event"]),
}


@pytest.mark.parametrize("case", UNKEEPABLE)
def test_a_result_that_cannot_be_kept_pauses_with_step_field_and_type(memory_world, case):
    hint, make, says = UNKEEPABLE[case]
    calls = []

    async def fetch():
        calls.append(1)
        return make()

    if hint is not None:
        fetch.__annotations__["return"] = hint

    async def h(ctx: Context) -> None:
        await ctx.run(fetch, retry=Retry(max_attempts=5, initial=0))

    with memory_world.holdfast(h) as client:
        reason = paused(client.start(h))
    for part in ["'fetch#1'", *says]:
        assert part in reason
    assert calls == [1]


def test_bytes_that_are_no_text_are_kept_when_they_are_declared_as_bytes_and_named_when_not(world):
    async def h(ctx: Context, typed: bool) -> None:
        returns = {"returns": bytes} if typed else {}
        await ctx.run(lambda: b"\xff\xfe", name="fetch", **returns)

    with world.holdfast(h) as client:
        assert client.start(h, True).result(20) is None
        reason = paused(client.start(h, False))
    assert "bytes" in reason
    assert "'fetch#1'" in reason


def test_a_handlers_result_that_cannot_be_kept_pauses_and_a_mended_handler_goes_on(world):
    calls = []

    def pay() -> None:
        calls.append(1)

    def code(result):
        async def h(ctx: Context) -> float:
            await ctx.run(pay)
            return result

        return h

    with world.holdfast(code(float("nan"))) as client:
        reason = paused(client.start("h", id="x"))
        assert "the float nan, which JSON cannot hold" in reason
    with world.holdfast(code(1.5)) as client:
        client.resume("x")
        assert client.attach("x").result(20) == 1.5
    assert calls == [1]


def test_a_result_type_that_changed_its_mind_pauses_with_the_reason_and_can_be_put_back(world):
    async def as_int() -> int:
        return 5

    async def as_trip() -> Trip:
        return Trip([])

    def code(body):
        async def h(ctx: Context) -> str:
            got = await ctx.run(body, name="fetch")
            await ctx.promise("hold")
            return repr(got)

        return h

    with world.holdfast(code(as_int)) as client:
        client.start("h", id="x")
        open_promise(client)
    before = world.journal("x")
    with world.holdfast(code(as_trip)) as client:
        promise = open_promise(client)
        with pytest.raises(WrongStatus, match=r"cannot be rebuilt to take a value: .*does not read as Trip"):
            client.resolve(promise)
        reason = paused(client.attach("x"))
        assert "does not read as Trip" in reason
    assert world.journal("x") == before
    with world.holdfast(code(as_int)) as client:
        client.resume("x")
        client.resolve(open_promise(client))
        assert client.attach("x").result(20) == "5"


def test_arguments_of_a_step_may_be_anything_for_they_are_only_shown(world):
    class Odd:
        __slots__ = ()

    async def body(*things: Any, **more: Any) -> int:
        return len(things) + len(more)

    async def h(ctx: Context) -> int:
        return await ctx.run(body, Odd(), float("nan"), "\ud800", recursive(), {1: Odd()}, lock=asyncio.Lock())

    with world.holdfast(h) as client:
        handle = client.start(h)
        assert handle.result(20) == 6
        (view,) = handle.journal()
        assert isinstance(view.inputs, list)
