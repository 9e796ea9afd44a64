"""Values that nobody annotates (signals, settlements, events, state, the result of a fork) are written as what they
are, or as the type that is given beside them; what would lose its type is refused with that way out."""

import threading
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import pytest

from holdfast import (
    Context,
    InvocationFailed,
    Object,
    ObjectContext,
    Unserialisable,
    Workflow,
    WorkflowContext,
    step,
)
from tests.engine.lives import life
from tests.engine.world import one_ask, open_promise, paused


@dataclass
class Line:
    what: str
    due: date


class Place(NamedTuple):
    street: str
    since: date


BREAD = Line("bread", date(2026, 1, 31))
LINES = [BREAD, Line("salt", date(2026, 2, 28))]
PLAIN = [{"what": "bread", "due": "2026-01-31"}, {"what": "salt", "due": "2026-02-28"}]

shop = Object("Shop")
flow = Workflow("Flow")


@shop.handler
async def keep(ctx: ObjectContext, how: str, typed: bool) -> list[Line]:
    given = {"type": list[Line]} if typed else {}
    if how == "append":
        ctx.append("lines", LINES, **given)
        return ctx.items("lines", list[Line])[0]
    ctx.set("lines", LINES, **given)
    return ctx.get("lines", list[Line])


@flow.main
async def run(ctx: WorkflowContext) -> list[Line]:
    return await ctx.promise("lines", type=list[Line])


@flow.handler
async def settle(ctx: WorkflowContext, typed: bool) -> None:
    ctx.resolve("lines", LINES, **({"type": list[Line]} if typed else {}))


async def hear(ctx: Context) -> list[Line]:
    return await ctx.receive("lines", list[Line])


async def tell(ctx: Context, typed: bool) -> None:
    ctx.signal("hear", "lines", LINES, **({"type": list[Line]} if typed else {}))


async def wait(ctx: Context) -> list[Line]:
    return await ctx.promise("lines", type=list[Line])


async def ask(ctx: Context) -> list[Line]:
    return await ctx.ask("Which lines?", list[Line])


async def read() -> list[Line]:
    return []


async def steps(ctx: Context) -> list[Line]:
    return await ctx.run(read)


async def emits(ctx: Context, typed: bool) -> None:
    ctx.emit(LINES, **({"type": list[Line]} if typed else {}))


HANDLERS = (shop, flow, hear, tell, wait, ask, steps, emits)


def by_signal(client: Any, type: dict[str, Any]) -> Any:
    run = client.start(hear)
    client.signal(run.id, "lines", LINES, **type)
    return run.result(5)


def by_handle(client: Any, type: dict[str, Any]) -> Any:
    run = client.start(hear)
    run.signal("lines", LINES, **type)
    return run.result(5)


def by_other(client: Any, type: dict[str, Any]) -> Any:
    run = client.start(hear, id="hear")
    client.call(tell, bool(type), timeout=5)
    return run.result(5)


def by_resolve(client: Any, type: dict[str, Any]) -> Any:
    run = client.start(wait)
    client.resolve(open_promise(client), LINES, **type)
    return run.result(5)


def by_answer(client: Any, type: dict[str, Any]) -> Any:
    run = client.start(ask)
    client.answer(one_ask(client).id, LINES, **type)
    return run.result(5)


def by_workflow(client: Any, type: dict[str, Any]) -> Any:
    started = client.start(run, key="1")
    client.call(settle, bool(type), key="1", timeout=5)
    return started.result(5)


def by_fork(client: Any, type: dict[str, Any]) -> Any:
    first = client.start(steps)
    assert first.result(5) == []
    return first.fork("read#1", LINES, **type).result(5)


def by_client_fork(client: Any, type: dict[str, Any]) -> Any:
    first = client.start(steps)
    assert first.result(5) == []
    return client.fork(first.id, "read#1", LINES, **type).result(5)


def by_set(client: Any, type: dict[str, Any]) -> Any:
    return client.call(keep, "set", bool(type), key="a", timeout=5)


def by_append(client: Any, type: dict[str, Any]) -> Any:
    return client.call(keep, "append", bool(type), key="a", timeout=5)


WAYS = [
    by_signal, by_handle, by_other, by_resolve, by_answer, by_workflow, by_fork, by_client_fork, by_set, by_append
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_list_of_something_comes_as_the_type_that_was_given_with_it(memory_world, way):
    with life(memory_world, *HANDLERS) as one:
        assert way(one.client, {"type": list[Line]}) == LINES


@pytest.mark.parametrize("way", WAYS)
def test_without_it_it_is_refused_and_the_next_step_is_to_give_it(memory_world, way):
    with life(memory_world, *HANDLERS) as one:
        with pytest.raises((Unserialisable, InvocationFailed)) as caught:
            way(one.client, {})
        text = str(caught.value)
        assert "$[0] is a tests.engine.test_typed_values.Line, and its type is not declared" in text
        assert "next step: give its type: type=YourType" in text
        assert "returns=" not in text


@pytest.mark.parametrize("value", [BREAD, Place("Mill Lane", date(2020, 1, 1)), date(2026, 1, 1), "a word", None, [1]])
def test_a_value_that_says_itself_what_it_is_needs_no_type(memory_world, value):
    async def listen(ctx: Context) -> bool:
        return await ctx.receive("it", type(value) if value is not None else Any) == value

    with life(memory_world, listen) as one:
        run = one.client.start(listen)
        run.signal("it", value)
        assert run.result(5)


def test_state_written_from_outside_has_a_type_too(memory_world):
    with life(memory_world, *HANDLERS) as one:
        with pytest.raises(Unserialisable, match="type=YourType"):
            one.client.set_state("Shop", "a", "lines", LINES)
        one.client.set_state("Shop", "a", "lines", LINES, list[Line])
        assert one.client.state("Shop", "a") == {"lines": PLAIN}


def test_an_event_is_written_as_its_type(memory_world):
    with life(memory_world, *HANDLERS) as one:
        run = one.client.start(emits, True)
        run.result(5)
        assert [event.data["output"] for event in run.watch() if event.kind == "emit"] == [PLAIN]
        with pytest.raises(InvocationFailed, match="type=YourType"):
            one.client.call(emits, False, timeout=5)


def test_what_a_body_tells_while_it_runs_is_written_as_its_type(memory_world):
    seen = threading.Event()

    def body(typed: bool) -> None:
        step().emit(LINES, **({"type": list[Line]} if typed else {}))
        step().emit(BREAD)
        seen.wait(5)

    async def says(ctx: Context, typed: bool) -> None:
        await ctx.run(body, typed)

    with life(memory_world, says) as one:
        chunks = []
        for event in one.client.start(says, True).watch():
            if event.kind == "chunk":
                chunks.append(event.data["event"])
                if len(chunks) == 2:
                    seen.set()
        assert chunks == [PLAIN, PLAIN[0]]
        assert "type=YourType" in paused(one.client.start(says, False))
