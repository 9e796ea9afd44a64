"""Promises and asks: settled once, from outside, with a value of the right type, whenever that is (G6)."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import msgspec
import pytest

from holdfast import (
    AlreadySettled,
    BadArguments,
    Context,
    InvocationFailed,
    Limits,
    Retry,
    TerminalError,
    UnknownHandler,
    UnknownPromise,
    Unserialisable,
    Workflow,
    WorkflowContext,
    WrongStatus,
)  # fmt: skip
from tests.engine.world import FakeClock, one_ask, open_promise, paused, tick, wait_for


@dataclass
class Claim:
    who: str
    amount: float


async def wait(ctx: Context) -> int:
    return await ctx.promise("answer", type=int)


async def approve(ctx: Context, claim: Claim) -> str:
    ok = await ctx.ask("Approve this claim?", bool, about=claim)
    return "paid" if ok else "refused"


async def two_asks(ctx: Context) -> str:
    first = await ctx.ask("First?")
    return first + await ctx.ask("Second?")


def test_a_promise_is_settled_by_its_id_from_outside(world):
    with world.holdfast(wait) as client:
        handle = client.start(wait)
        client.resolve(open_promise(client), 42)
        assert handle.result(20) == 42
        (view,) = handle.journal()
        assert (view.kind, view.id, view.state, view.output) == ("promise", "answer#1", "done", 42)


def test_a_promise_knows_the_id_by_which_others_settle_it(world):
    ids = []

    async def h(ctx: Context) -> str:
        promise = ctx.promise("hook", type=str)
        await ctx.run(ids.append, promise.id)
        return await promise

    with world.holdfast(h) as client:
        handle = client.start(h)
        (id,) = wait_for(lambda: ids)
        client.resolve(id, "called back")
        assert handle.result(20) == "called back"
        assert id.startswith("prm_")


def test_a_promise_keeps_its_id_over_restarts(world):
    ids = set()
    for _ in range(3):
        with world.holdfast(wait) as client:
            client.start(wait, id="x")
            ids.add(open_promise(client))
    assert len(ids) == 1


def test_promises_of_one_name_are_told_apart(world):
    async def h(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*[ctx.promise("n", type=int) for _ in range(3)]))

    with world.holdfast(h) as client:
        handle = client.start(h)
        rows = wait_for(lambda: client._client._engine.store.open_promises(9))
        for value, row in reversed(list(enumerate(rows))):
            client.resolve(row.id, value)
        assert handle.result(20) == [0, 1, 2]


def test_a_rejected_promise_raises_the_reason_at_the_await(world):
    async def h(ctx: Context) -> str:
        try:
            await ctx.promise("p")
        except TerminalError as error:
            return f"{error} ({error.status})"
        return "?"

    with world.holdfast(h) as client:
        handle = client.start(h)
        client.reject(open_promise(client), "the other side has closed")
        assert handle.result(20) == "the other side has closed (409)"
        (view,) = handle.journal()
        assert (view.state, view.error) == ("failed", "the other side has closed")


def test_a_settled_promise_never_changes(world):
    with world.holdfast(wait) as client:
        handle = client.start(wait)
        id = open_promise(client)
        client.resolve(id, 1)
        for again in (lambda: client.resolve(id, 2), lambda: client.reject(id, "no"), lambda: client.answer(id, 3)):
            with pytest.raises(AlreadySettled, match="someone settled it before"):
                again()
        assert handle.result(20) == 1


def test_of_many_answers_at_once_exactly_one_counts(world):
    async def main():
        async with world.holdfast(wait) as client:
            handle = await client.start(wait)
            (row,) = client._engine.store.open_promises(9)
            results = await asyncio.gather(*[client.resolve(row.id, x) for x in range(8)], return_exceptions=True)
            return results, await handle.result(20)

    results, value = asyncio.run(main())
    assert results[value] is None
    assert sum(isinstance(result, AlreadySettled) for result in results) == 7


def test_an_unknown_promise_is_named(world):
    with world.holdfast(wait) as client, pytest.raises(UnknownPromise, match="'prm_nobody'"):
        client.resolve("prm_nobody", 1)


@pytest.mark.parametrize("value", ["1", 1.5, None, [1], {"a": 1}])
def test_a_value_of_the_wrong_type_is_refused_and_the_promise_stays_open(world, value):
    with world.holdfast(wait) as client:
        handle = client.start(wait)
        id = open_promise(client)
        with pytest.raises(BadArguments, match=rf"does not fit promise '{id}'") as caught:
            client.resolve(id, value)
        assert '{"type":"integer"}' in str(caught.value)
        client.resolve(id, 7)
        assert handle.result(20) == 7


@pytest.mark.parametrize(
    "hint, value",
    [(date, date(2030, 1, 2)), (set[str], {"a", "b"}), (Claim, Claim("Ann", 2.5)), (bytes, b"\xff"), (type(None), None),
     (list[Claim], [{"who": "Ann", "amount": 1.0}]), (dict[str, datetime], {"at": "2030-01-02T00:00:00Z"}),
     (Literal["yes", "no"], "yes"), (timedelta, timedelta(seconds=1.5))],
)  # fmt: skip
def test_a_promise_carries_any_type_that_has_a_json_form(memory_world, hint, value):
    seen = []
    expected = msgspec.convert(value, hint)

    async def h(ctx: Context) -> None:
        seen.append(await ctx.promise("p", type=hint))
        await ctx.promise("hold")

    with memory_world.holdfast(h) as client:
        client.start(h, id="x")
        client.resolve(open_promise(client), value)
    with memory_world.holdfast(h) as client:
        client.attach("x").cancel()  # wakes it, by replay
    assert seen == [expected] * 2
    assert type(seen[0]) is type(seen[1]) is type(expected)


def test_a_value_that_has_no_json_form_is_refused(world):
    with world.holdfast(wait) as client:
        handle = client.start(wait)
        id = open_promise(client)
        for value in (object(), float("nan"), "\ud800"):
            with pytest.raises(Unserialisable):
                client.resolve(id, value)
        client.resolve(id, 1)
        assert handle.result(20) == 1


def test_an_ask_stands_in_the_inbox_with_all_a_person_needs(world):
    clock = FakeClock()
    with world.holdfast(approve, clock=clock) as client:
        client.start(approve, Claim("Ann", 1200.0), id="claim-17")
        ask = one_ask(client)
    assert ask.question == "Approve this claim?"
    assert ask.invocation == "claim-17"
    assert ask.schema == {"type": "boolean"}
    assert ask.about == {"who": "Ann", "amount": 1200.0}
    assert ask.created == datetime.fromtimestamp(clock.ms // 1000 + 0.123, UTC)
    assert ask.deadline is None


@pytest.mark.parametrize("about, shown", [
    ([Claim("Ann", 1.0)], [{"who": "Ann", "amount": 1.0}]), (None, None), ({"when": date(2030, 1, 2)},
    {"when": "2030-01-02"}), (object(), {"$object": "object"}), ("a \ud800", "a \\ud800"),
])  # fmt: skip
def test_what_a_question_is_about_may_be_anything_for_it_is_only_shown(memory_world, about, shown):
    async def h(ctx: Context) -> None:
        await ctx.ask("?", about=about)

    with memory_world.holdfast(h) as client:
        client.start(h)
        assert one_ask(client).about == shown


def test_a_dependency_is_not_shown_in_a_question(world):
    async def h(ctx: Context) -> None:
        await ctx.ask("?", about={"key": ctx.dep("key"), "n": 1})

    with world.holdfast(h, deps={"key": "sk-NEVER-STORED"}) as client:
        client.start(h)
        assert one_ask(client).about == {"key": {"$dep": "key"}, "n": 1}
    assert b"NEVER-STORED" not in world.all_bytes()


def test_an_answer_is_delivered_and_the_inbox_is_empty_again(world):
    with world.holdfast(approve) as client:
        handle = client.start(approve, Claim("Ann", 1.0))
        client.answer(one_ask(client).id, True)
        assert handle.result(20) == "paid"
        assert client.asks() == []


@pytest.mark.parametrize("question", ["", "  ", None, 5, ["Well?"]])
def test_a_question_nobody_could_read_is_refused(memory_world, question):
    async def h(ctx: Context) -> None:
        await ctx.ask(question)

    with memory_world.holdfast(h) as client:
        with pytest.raises(InvocationFailed, match="is no question"):
            client.start(h).result(20)
        assert client.asks() == []


def test_a_plain_promise_is_not_in_the_inbox(world):
    with world.holdfast(wait) as client:
        client.start(wait)
        open_promise(client)
        assert client.asks() == []


def test_the_inbox_shows_the_oldest_question_first(world):
    clock = FakeClock()
    with world.holdfast(approve, clock=clock) as client:
        for n in range(3):
            client.start(approve, Claim("Ann", n), id=f"c{n}")
            wait_for(lambda n=n: len(client.asks()) == n + 1)
            clock.wind(1)
        assert [ask.invocation for ask in client.asks()] == ["c0", "c1", "c2"]


def test_a_question_asked_before_a_restart_can_be_answered_after_it(world):
    with world.holdfast(approve) as client:
        client.start(approve, Claim("Ann", 1.0), id="x")
        ask = one_ask(client)
    with world.holdfast(approve) as client:
        assert one_ask(client) == ask
        client.answer(ask.id, False)
        assert client.attach("x").result(20) == "refused"


def test_questions_one_after_another_may_each_meet_another_process(world):
    with world.holdfast(two_asks) as client:
        client.start(two_asks, id="x")
        client.answer(one_ask(client).id, "A")
        wait_for(lambda: [ask.question for ask in client.asks()] == ["Second?"])
    with world.holdfast(two_asks) as client:
        client.answer(one_ask(client).id, "B")
        assert client.attach("x").result(20) == "AB"
    with world.holdfast(two_asks) as client:
        assert client.attach("x").result(20) == "AB"


def test_an_ask_that_is_not_answered_in_time_is_withdrawn(world):
    clock = FakeClock()

    async def h(ctx: Context) -> str:
        try:
            return await ctx.ask("Quick?", timeout=timedelta(hours=1))
        except TimeoutError:
            await ctx.promise("hold")
            return "nobody came"

    with world.holdfast(h, clock=clock) as client:
        client.start(h)
        ask = one_ask(client)
        assert ask.deadline == ask.created + timedelta(hours=1)
        clock.wind(3600)
        tick(client)
        wait_for(lambda: client.asks() == [])
        with pytest.raises(AlreadySettled, match="withdrawn: its deadline passed"):
            client.answer(ask.id, "late")


def test_an_answer_in_time_cancels_the_deadline(world):
    async def h(ctx: Context) -> str:
        answer = await ctx.ask("Quick?", timeout=3600)
        await ctx.promise("hold")
        return answer

    with world.holdfast(h) as client:
        handle = client.start(h)
        client.answer(one_ask(client).id, "yes")
        view = wait_for(lambda: (view := handle.status()).status == "suspended" and not client.asks() and view)
        assert view.wake_at is None


def test_open_questions_are_withdrawn_when_the_invocation_ends(world):
    async def h(ctx: Context) -> str:
        never = asyncio.create_task(ctx.ask("Anyone?"))
        first = ctx.promise("first", type=str)
        await asyncio.wait([never, asyncio.ensure_future(first)], return_when=asyncio.FIRST_COMPLETED)
        return first.result()

    with world.holdfast(h) as client:
        handle = client.start(h)
        ask = one_ask(client)
        first = next(row for row in client._client._engine.store.open_promises(9) if row.id != ask.id)
        client.resolve(first.id, "came")
        assert handle.result(20) == "came"
        assert client.asks() == []
        with pytest.raises(AlreadySettled, match="withdrawn"):
            client.answer(ask.id, "late")


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), 1e13])
def test_an_ask_with_a_deadline_that_cannot_be_is_refused(memory_world, timeout):
    async def h(ctx: Context) -> None:
        await ctx.ask("?", timeout=timeout)

    with memory_world.holdfast(h) as client:
        with pytest.raises(InvocationFailed, match="BadTimer"):
            client.start(h).result(20)
        assert client.asks() == []


def slip(mended):
    async def pay() -> str:
        if not mended:
            raise TypeError("a slip")
        return "paid"

    return pay


def ask_beside_a_slip(pay):
    async def h(ctx: Context) -> str:
        answer, receipt = await asyncio.gather(ctx.ask("How many?", int), ctx.run(pay))
        return f"{answer} {receipt}"

    return h


def test_a_question_of_a_paused_invocation_can_be_answered_and_counts_after_the_resume(world):
    mended = []
    h = ask_beside_a_slip(slip(mended))
    with world.holdfast(h) as client:
        handle = client.start(h, id="x")
        paused(handle)
        client.answer(one_ask(client).id, 5)
        assert client.asks() == []
    mended.append(1)
    with world.holdfast(h) as client:
        client.resume("x")
        assert client.attach("x").result(20) == "5 paid"


def test_a_wrong_answer_to_a_paused_invocation_is_refused_and_the_question_stays(world):
    mended = []
    h = ask_beside_a_slip(slip(mended))
    with world.holdfast(h) as client:
        handle = client.start(h, id="x")
        paused(handle)
        ask = one_ask(client)
        with pytest.raises(BadArguments, match="does not fit promise"):
            client.answer(ask.id, "many")
        assert client.asks() == [ask]
        mended.append(1)
        handle.resume()
        client.answer(ask.id, 5)
        assert handle.result(20) == "5 paid"


def test_a_wrong_answer_while_a_paused_invocation_still_has_a_body_running_is_refused_too(world):
    release = threading.Event()

    async def bad() -> None:
        raise TypeError("a slip")

    async def h(ctx: Context) -> None:
        await asyncio.gather(ctx.ask("How many?", int), ctx.run(release.wait, 5), ctx.run(bad))

    with world.holdfast(h) as client:
        handle = client.start(h)
        paused(handle)
        with pytest.raises(BadArguments, match="does not fit promise"):
            client.answer(one_ask(client).id, "many")
        release.set()


def test_an_answer_that_cannot_be_checked_is_refused_and_the_question_stays(world):
    async def h(ctx: Context) -> int:
        return await ctx.ask("How many?", int)

    def changed():
        async def h(ctx: Context) -> int:
            await ctx.run(len, "something new")
            return await ctx.ask("How many?", int)

        return h

    async def paid(ctx: Context) -> None:
        await ctx.run(len, "first")
        await ctx.ask("How many?", int)

    def repaid():
        async def paid(ctx: Context) -> None:
            await ctx.ask("How many?", int)

        return paid

    with world.holdfast(h, paid) as client:
        client.start(paid, id="x")
        ask = one_ask(client)
    with world.holdfast() as client, pytest.raises(UnknownHandler, match="no handler 'paid' is registered"):
        client.answer(ask.id, 5)
    with world.holdfast(repaid()) as client:
        wait_for(lambda: client.attach("x").status().status == "paused")
        with pytest.raises(WrongStatus, match="is paused and cannot be rebuilt to take a value"):
            client.answer(ask.id, 5)
        assert client.asks() == [ask]
    with world.holdfast(paid) as client:
        client.resume("x")
        client.answer(ask.id, 5)
        assert client.attach("x").result(20) is None


def test_an_answer_wakes_a_parked_invocation(world):
    with world.holdfast(approve, limits=Limits(waiting=0)) as client:
        handle = client.start(approve, Claim("Ann", 1.0))
        ask = one_ask(client)
        wait_for(lambda: client._client._engine._residents == {})
        client.answer(ask.id, True)
        assert handle.result(20) == "paid"


def test_a_promise_resolved_by_a_step_of_another_invocation_is_delivered(world):
    async def resolver(ctx: Context, id: str) -> None:
        await ctx.run(lambda: client.resolve(id, 99), retry=Retry(max_attempts=1))

    with world.holdfast(wait, resolver) as client:
        handle = client.start(wait)
        client.start(resolver, open_promise(client)).result(20)
        assert handle.result(20) == 99


def test_a_large_answer_is_kept(world):
    async def h(ctx: Context) -> int:
        text = await ctx.ask("The whole text, please", str)
        await ctx.promise("hold")
        return len(text)

    with world.holdfast(h) as client:
        client.start(h, id="x")
        client.answer(one_ask(client).id, "long " * 100_000)
    with world.holdfast(h) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(20) == 500_000


def test_the_journal_and_the_watchers_show_a_settled_promise_of_a_workflow(world):
    order = Workflow("Order")

    @order.main
    async def fulfil(ctx: WorkflowContext) -> str:
        return await ctx.promise("delivered", type=str)

    with world.holdfast(order) as client:
        handle = client.start(fulfil, key="17")
        client.resolve("Order:17:delivered", "Anna")
        assert handle.result(5) == "Anna"
        promise = next(view for view in handle.journal() if view.kind == "promise")
        assert (promise.id, promise.state, promise.output) == ("delivered#1", "done", "Anna")
        assert [event.kind for event in handle.watch()] == ["promise", "status"]
