"""Steps that are declared once: after a death in their middle nobody begins them again who does not know (G2)."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from holdfast import (
    AlreadySettled,
    BadArguments,
    Context,
    InvocationFailed,
    Limits,
    NotDone,
    OutcomeUnknown,
    Retry,
    Service,
    StoreFailed,
    TerminalError,
    step,
)
from holdfast.core import entries
from tests.engine.bank import Bank, Receipt
from tests.engine.lives import life
from tests.engine.world import World, engine_of, one_ask, paused, wait_for

ONE = Retry(max_attempts=1)


@pytest.fixture(params=[1000, 0], ids=["kept", "parked"])
def weather(request):
    return {"limits": Limits(waiting=request.param)}


@pytest.fixture
def bank():
    made = Bank()
    made.let_go("before", "after")
    return made


def orders(bank, once, **options):
    """A handler that pays once."""

    async def order(ctx: Context, amount: int) -> Receipt:
        return await ctx.run(bank.pay, amount, once=once, **options)

    return order


def die_paying(world, bank, handler, place, **options):
    """A life that ends while the body waits at that place."""
    bank.hold(place)
    began = len(bank.keys)
    with life(world, handler, **options) as one:
        one.client.start(handler, 12, id="order-1")
        wait_for(lambda: len(bank.keys) > began and (place == "before" or bank.paid), "the body")
    bank.let_go(place)


def lines(handle):
    return [(line.kind, line.id, line.state) for line in handle.journal()]


def states_of(handle):
    return [line.state for line in handle.journal()]


def notes(world, id="order-1"):
    return [
        entry
        for entry in map(entries.decode_entry, world.journal(id))
        if isinstance(entry, (entries.StepBegun, entries.StepNotDone))
    ]


# The start


def test_a_body_begins_when_its_start_is_durable_and_is_over_with_its_result(world, bank):
    order = orders(bank, True)
    bank.hold("before")
    with life(world, order) as one:
        handle = one.client.start(order, 12, id="order-1")
        wait_for(lambda: bank.keys)
        assert lines(handle) == [("once", "pay#1", "begun"), ("step", "pay#1", "running")]
        bank.let_go("before")
        assert handle.result(5) == Receipt(1, 12)
        assert lines(handle) == [("once", "pay#1", "begun"), ("step", "pay#1", "done")]
    (begun,) = notes(world)
    assert (begun.note, begun.attempt) == ("pay#1", 1)


def test_a_start_that_is_not_durable_begins_no_body(world, bank):
    order = orders(bank, True)

    async def first(ctx: Context) -> Receipt:
        await ctx.run(len, "a")
        return await order(ctx, 12)

    with life(world, first, dies_at=3) as one, pytest.raises(StoreFailed):  # the invocation, len#1, the start of pay#1
        one.client.start(first, id="order-1").result(5)
    assert bank.keys == []
    with life(world, first) as one:  # the start was lost: it is as if it had not been
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
    assert bank.attempts == [1]


@pytest.mark.parametrize("keeps_last", [False, True])
def test_a_start_that_is_durable_is_one_even_if_its_body_never_came_to_begin(world, bank, keeps_last):
    order = orders(bank, True)
    with life(world, order, dies_at=2, keeps_last=keeps_last) as one:
        one.client.start(order, 12, id="order-1")
        wait_for(lambda: one.store.dead)
    assert bank.keys == []
    with life(world, order) as one:
        if keeps_last:
            one.client.answer(one_ask(one.client).id, {"outcome": "not done"})
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
    assert not bank.twice


def test_one_that_waits_for_its_turn_has_no_start(world, bank):
    order = orders(bank, True)
    bank.hold("before")
    with life(world, order, limits=Limits(bodies=1)) as one:
        one.client.start(order, 12, id="order-1")
        one.client.start(order, 13, id="order-2")
        wait_for(lambda: bank.keys)
    assert notes(world, "order-2") == []
    bank.let_go("before")
    with life(world, order) as one:
        assert one.client.attach("order-2").result(5).amount == 13
        assert one_ask(one.client).invocation == "order-1"


# A person is asked


def test_after_a_death_in_its_middle_a_person_is_asked_and_it_does_not_begin_again(world, bank, weather):
    order = orders(bank, True)
    die_paying(world, bank, order, "after")
    for _ in range(2):  # and however often they all die meanwhile, it is one question
        with life(world, order, **weather) as one:
            ask = one_ask(one.client)
            assert ask.invocation == "order-1"
            assert "What came of step 'pay#1' of 'order-1'? It was begun at " in ask.question
            assert "UTC, and its process ended before a result was recorded" in ask.question
            assert ask.about["arguments"] == [12]
            assert ask.about["idempotency_key"] == bank.keys[0]
            assert ask.schema["properties"]["outcome"]["enum"] == ["done", "not done", "failed"]
            assert one.client.attach("order-1").status().status == "suspended"
    with life(world, order, **weather) as one:
        handle = one.client.attach("order-1")
        one.client.answer(one_ask(one.client).id, {"outcome": "done", "result": {"number": 1, "amount": 12}})
        assert handle.result(5) == Receipt(1, 12)
        assert lines(handle) == [("once", "pay#1", "begun"), ("step", "pay#1", "done")]
        assert one.client.asks() == []
    assert (len(bank.keys), len(bank.paid)) == (1, 1)


def test_a_person_says_that_it_was_not_done_and_it_begins_again_by_the_same_key(world, bank, weather):
    order = orders(bank, True)
    die_paying(world, bank, order, "before")
    with life(world, order, **weather) as one:
        handle = one.client.attach("order-1")
        one.client.answer(one_ask(one.client).id, {"outcome": "not done", "reason": "I rang the bank"})
        assert handle.result(5) == Receipt(1, 12)
        assert states_of(handle) == ["begun", "not done", "begun", "done"]
        assert handle.journal()[1].error == "the person says so: I rang the bank"
        assert handle.journal()[3].tries == 1
    assert len(bank.keys) == 2
    assert len(set(bank.keys)) == 1
    assert len(bank.paid) == 1


def test_what_is_begun_again_may_be_asked_about_again(world, bank):
    order = orders(bank, True)
    die_paying(world, bank, order, "before")
    bank.hold("after")
    with life(world, order) as one:
        first = one_ask(one.client).id
        one.client.answer(first, {"outcome": "not done"})
        wait_for(lambda: bank.paid)
    bank.let_go("after")
    with life(world, order) as one:
        second = one_ask(one.client).id
        assert second != first
        with pytest.raises(AlreadySettled):
            one.client.answer(first, {"outcome": "not done"})
        one.client.answer(second, {"outcome": "done", "result": {"number": 1, "amount": 12}})
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
    assert [type(note).__name__ for note in notes(world)] == ["StepBegun", "StepNotDone", "StepBegun"]
    assert not bank.twice


@pytest.mark.parametrize("by", ["answer", "reject"])
def test_a_person_gives_it_up(world, bank, by):
    order = orders(bank, True)
    die_paying(world, bank, order, "after")
    with life(world, order) as one:
        ask, handle = one_ask(one.client), one.client.attach("order-1")
        if by == "answer":
            one.client.answer(ask.id, {"outcome": "failed", "reason": "the card is blocked"})
        else:
            one.client.reject(ask.id, "the card is blocked")
        with pytest.raises(TerminalError, match="the card is blocked") as caught:
            handle.result(5)
        assert caught.value.status == 409
        assert states_of(handle) == ["begun", "not done", "failed"]
    assert len(bank.keys) == 1


def test_what_a_person_gave_up_is_begun_again_when_a_person_opens_it_again(world, bank):
    order = orders(bank, True)
    die_paying(world, bank, order, "before")
    with life(world, order) as one:
        one.client.answer(one_ask(one.client).id, {"outcome": "failed"})
        handle = one.client.attach("order-1")
        with pytest.raises(TerminalError, match="somebody said that it has failed"):
            handle.result(5)
        handle.retry()
        assert handle.result(5) == Receipt(1, 12)
    assert not bank.twice


MISFITS = {
    "nothing": ({}, "does not say what came of the step: .*missing required field `outcome`"),
    "no object": (True, "does not say what came of the step"),
    "another word": ({"outcome": "maybe"}, "does not say what came of the step: Invalid enum value 'maybe'"),
    "another field": ({"outcome": "done", "result": {"number": 1, "amount": 1}, "by": "me"}, "unknown field `by`"),
    "no result": ({"outcome": "done"}, "says 'done', and there is no result"),
    "another result": ({"outcome": "done", "result": {"number": "one"}}, "says 'done', and its result does not fit"),
    "both": ({"outcome": "not done", "result": {"number": 1, "amount": 1}}, "has a result, and says 'not done'"),
}


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("how", ["in memory", "parked", "paused", "at rest"])
def test_an_answer_that_does_not_fit_is_refused_and_the_question_stays(world, bank, misfit, how):
    order = orders(bank, True)
    die_paying(world, bank, order, "after")
    answer, says = MISFITS[misfit]
    with life(world, order, limits=Limits(waiting=0 if how == "parked" else 9)) as one:
        ask = one_ask(one.client)
        if how == "paused":
            one.client.attach("order-1").pause("lunch")
        if how != "at rest":
            with pytest.raises(BadArguments, match=says):
                one.client.answer(ask.id, answer)
    if how == "at rest":

        async def at_rest():
            async with world.holdfast(order).resting() as client:
                with pytest.raises(BadArguments, match=says):
                    await client.answer(ask.id, answer)

        asyncio.run(at_rest())
    with life(world, order) as one:
        if how == "paused":
            one.client.attach("order-1").resume()
        one.client.answer(one_ask(one.client).id, {"outcome": "done", "result": {"number": 7, "amount": 12}})
        assert one.client.attach("order-1").result(5) == Receipt(7, 12)


ANSWERS = {
    "done": ({"outcome": "done", "result": {"number": 7, "amount": 12}}, Receipt(7, 12)),
    "not done": ({"outcome": "not done"}, Receipt(1, 12)),
    "failed": ({"outcome": "failed", "reason": "no"}, None),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("how", ["paused", "at rest", "at rest, by who does not know the handler"])
def test_an_answer_given_while_nothing_runs_counts_when_it_goes_on(world, bank, answer, how):
    order = orders(bank, True)
    die_paying(world, bank, order, "before")
    given, expected = ANSWERS[answer]
    with life(world, order) as one:
        ask = one_ask(one.client).id
        if how == "paused":
            one.client.attach("order-1").pause("lunch")
            one.client.answer(ask, given)
            assert len(bank.keys) == 1
    if how != "paused":

        async def at_rest():
            handlers = [order] if how == "at rest" else []
            async with world.holdfast(*handlers).resting() as client:
                await client.answer(ask, given)

        asyncio.run(at_rest())
    with life(world, order) as one:
        handle = one.client.attach("order-1")
        if how == "paused":
            handle.resume()
        if expected is None:
            with pytest.raises(TerminalError, match="no"):
                handle.result(5)
        else:
            assert handle.result(5) == expected
    assert len(bank.keys) == (2 if answer == "not done" else 1)


def test_a_step_that_gives_nothing_needs_no_result_in_the_answer(world):
    ran = []

    async def mail(to: str) -> None:
        ran.append(to)
        await asyncio.sleep(30)

    async def tell(ctx: Context) -> str:
        await ctx.run(mail, "anna", once=True)
        return "told"

    with life(world, tell) as one:
        one.client.start(tell, id="order-1")
        wait_for(lambda: ran)
    with life(world, tell) as one:
        one.client.answer(one_ask(one.client).id, {"outcome": "done"})
        assert one.client.attach("order-1").result(5) == "told"
    assert ran == ["anna"]


def test_arguments_of_any_size_are_asked_about(world):
    began = []

    async def send(text: str) -> None:
        began.append(len(text))
        await asyncio.sleep(30)

    async def h(ctx: Context) -> None:
        await ctx.run(send, "x" * 1_000_000, once=True)

    with life(world, h) as one:
        one.client.start(h, id="order-1")
        wait_for(lambda: began)
    with life(world, h) as one:
        ask = one_ask(one.client)
        assert ask.about["arguments"] is None
        assert len(msgspec.json.encode(ask.about)) < 1_000


def test_dependencies_are_asked_about_by_name(world):
    secret, began = {"key": "sk-secret"}, []

    async def send(client: dict[str, str]) -> None:
        began.append(client["key"])
        await asyncio.sleep(30)

    async def h(ctx: Context) -> None:
        await ctx.run(send, ctx.dep("api"), once=True)

    with life(world, h, deps={"api": secret}) as one:
        one.client.start(h, id="order-1")
        wait_for(lambda: began)
    with life(world, h, deps={"api": secret}) as one:
        assert one_ask(one.client).about["arguments"] == [{"$dep": "api"}]
    assert b"sk-secret" not in world.all_bytes()


# A checker is called


@pytest.mark.parametrize("checker", ["find", "find_now"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_checker_finds_out_and_is_given_the_arguments_and_the_key(world, bank, weather, checker, place):
    order = orders(bank, getattr(bank, checker))
    die_paying(world, bank, order, place)
    with life(world, order, **weather) as one:
        handle = one.client.attach("order-1")
        assert handle.result(5) == Receipt(1, 12)
        states = states_of(handle)
        assert states == (["begun", "done"] if place == "after" else ["begun", "not done", "begun", "done"])
        if place == "before":
            assert handle.journal()[1].error == "the checker says so: NotDone: no payment has this key"
    assert bank.asked == [bank.keys[0]]
    assert set(bank.keys) == {bank.keys[0]}
    assert len(bank.keys) == (1 if place == "after" else 2)
    assert len(bank.paid) == 1


def test_a_checker_is_tried_again_by_the_policy_of_its_step(world, bank):
    looked = []

    async def look(amount: int) -> Receipt:
        looked.append(step().attempt)
        if len(looked) < 3:
            raise ConnectionError("away")
        return await bank.find(amount)

    order = orders(bank, look, retry=Retry(initial=0))
    die_paying(world, bank, order, "after")
    with life(world, order) as one:
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
    assert looked == [1, 2, 3]
    assert len(bank.keys) == 1


def test_a_checker_that_fails_for_good_leaves_it_unknown(world, bank):
    async def look(_: int) -> Receipt:
        raise ConnectionError("away")

    order = orders(bank, look, retry=Retry(max_attempts=2, initial=0))
    die_paying(world, bank, order, "after")
    with life(world, order) as one:
        with pytest.raises(InvocationFailed, match="its checker ended with ConnectionError: away") as caught:
            one.client.attach("order-1").result(5)
        assert caught.value.error_type == "OutcomeUnknown"
    assert len(bank.keys) == 1


def test_a_checker_may_know_that_it_has_failed(world, bank):
    async def look(_: int) -> Receipt:
        raise TerminalError("the bank refused it", status=402)

    order = orders(bank, look)
    die_paying(world, bank, order, "before")
    with life(world, order) as one:
        handle = one.client.attach("order-1")
        with pytest.raises(TerminalError, match="the bank refused it") as caught:
            handle.result(5)
        assert caught.value.status == 402
        assert states_of(handle) == ["begun", "not done", "failed"]
    assert len(bank.keys) == 1


def test_a_checker_with_a_bug_pauses_and_is_called_again_when_that_is_mended(world, bank):
    async def broken(_: int) -> Receipt:
        raise TypeError("a bug")

    die_paying(world, bank, orders(bank, True), "after")
    with life(world, orders(bank, broken)) as one:
        reason = paused(one.client.attach("order-1"))
        assert "the checker of step 'pay#1' failed in a way no retry can mend: TypeError: a bug" in reason
    mended = orders(bank, bank.find)
    with life(world, mended) as one:
        handle = one.client.attach("order-1")
        handle.resume()
        assert handle.result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


def test_a_death_while_the_checker_looks_asks_it_again(world, bank):
    looked = []

    async def look(amount: int) -> Receipt:
        looked.append(amount)
        if len(looked) < 3:
            await asyncio.sleep(30)
        return await bank.find(amount)

    order = orders(bank, look)
    die_paying(world, bank, order, "after")
    for count in (1, 2):
        with life(world, order) as one:
            wait_for(lambda count=count: len(looked) == count)
            assert ("step", "pay#1", "checking") in lines(one.client.attach("order-1"))
    with life(world, order) as one:
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


# The handler is told


def test_the_handler_is_told_and_what_it_does_then_is_replayed(world, bank, weather):
    async def order(ctx: Context, amount: int) -> str:
        try:
            await ctx.run(bank.pay, amount, once="raise")
        except OutcomeUnknown as unknown:
            found = await ctx.run(find_by, unknown.idempotency_key)
            await ctx.promise("hold")
            return f"{unknown.what}; {found} found"
        return "paid"

    def find_by(key: str) -> int:
        return dict(bank.paid)[key]

    die_paying(world, bank, order, "after")
    for _ in range(2):
        with life(world, order, **weather) as one:
            handle = one.client.attach("order-1")
            wait_for(lambda handle=handle: handle.status().status == "suspended")
            assert states_of(handle) == ["begun", "unknown", "done", "waiting"]
    with life(world, order, **weather) as one:
        (row,) = engine_of(one.client).store.open_promises(9)
        one.client.resolve(row.id)
        assert one.client.attach("order-1").result(5) == (
            "nobody knows what came of step 'pay#1': its process ended before a result was recorded; 12 found"
        )
    assert len(bank.keys) == 1


def test_an_unknown_outcome_that_nobody_catches_fails_and_a_retry_does_not_begin_it_again(world, bank):
    order = orders(bank, "raise")
    die_paying(world, bank, order, "after")
    with life(world, order) as one:
        handle = one.client.attach("order-1")
        for _ in range(2):
            with pytest.raises(InvocationFailed, match="nobody knows what came of step 'pay#1'"):
                handle.result(5)
            handle.retry()
        with pytest.raises(InvocationFailed):
            handle.result(5)
        fork = handle.fork("pay#1", Receipt(1, 12), new_id="order-2")
        assert fork.result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


# Beside others


def test_side_by_side_each_is_asked_about_by_itself(world, bank):
    async def order(ctx: Context) -> list[Receipt]:
        return await asyncio.gather(*(ctx.run(bank.pay, amount, once=True) for amount in (1, 2, 3)))

    bank.hold("before")
    with life(world, order) as one:
        one.client.start(order, id="order-1")
        wait_for(lambda: len(bank.keys) == 3)
    bank.let_go("before")
    with life(world, order) as one:
        asks = {ask.about["step"]: ask for ask in wait_for(lambda: len(one.client.asks()) == 3 and one.client.asks())}
        assert {step: ask.about["arguments"] for step, ask in asks.items()} == {
            "pay#1": [1], "pay#2": [2], "pay#3": [3]
        }  # fmt: skip
        one.client.answer(asks["pay#2"].id, {"outcome": "done", "result": {"number": 9, "amount": 2}})
        one.client.answer(asks["pay#1"].id, {"outcome": "not done"})
        wait_for(lambda: [state for _, _, state in lines(one.client.attach("order-1"))].count("done") == 2)
    with life(world, order) as one:
        one.client.answer(one_ask(one.client).id, {"outcome": "not done"})
        result = one.client.attach("order-1").result(5)
    assert [receipt.amount for receipt in result] == [1, 2, 3]
    assert result[1].number == 9
    assert sorted(amount for _, amount in bank.paid) == [1, 3]


def test_a_question_is_withdrawn_when_nobody_waits_for_its_step(world, bank):
    async def order(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.3):
                await ctx.run(bank.pay, 1, once=True)
        except TimeoutError:
            await ctx.promise("hold")
        return "over"

    bank.hold("before")
    with life(world, order) as one:
        one.client.start(order, id="order-1")
        wait_for(lambda: bank.keys)
    with life(world, order) as one:
        ask = one_ask(one.client).id
        wait_for(lambda: not one.client.asks())
        with pytest.raises(AlreadySettled):
            one.client.answer(ask, {"outcome": "not done"})
    with life(world, order) as one:
        assert one.client.asks() == []
        (row,) = engine_of(one.client).store.open_promises(9)
        one.client.resolve(row.id)
        assert one.client.attach("order-1").result(5) == "over"
    assert len(bank.keys) == 1


@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_cancel_or_kill_withdraws_the_question(world, bank, weather, end):
    order = orders(bank, True)
    die_paying(world, bank, order, "before")
    with life(world, order, **weather) as one:
        one_ask(one.client)
        handle = one.client.attach("order-1")
        getattr(handle, end)("not wanted")
        with pytest.raises(Exception, match="not wanted"):
            handle.result(5)
        assert one.client.asks() == []
    assert len(bank.keys) == 1


def test_beside_others_in_an_object_it_keeps_its_key_while_it_is_asked_about(world, bank):
    service = Service("Shop")
    order = service.handler(orders(bank, True))
    bank.hold("after")
    with life(world, service) as one:
        one.client.start(order, 12, id="order-1")
        wait_for(lambda: bank.paid)
    bank.let_go("after")
    with life(world, service) as one:
        assert one.client.call(order, 13) == Receipt(2, 13)
        assert one_ask(one.client).invocation == "order-1"


# Copies, code and checks


def test_a_copy_begins_its_step_by_itself_and_by_another_key(world, bank):
    order = orders(bank, True)

    async def shop(ctx: Context, amount: int) -> list[Receipt]:
        await ctx.run(len, "a")
        receipt = await order(ctx, amount)
        return [receipt, await ctx.run(bank.pay, 99, once=True)]

    bank.hold("after")
    with life(world, shop) as one:
        one.client.start(shop, 12, id="order-1")
        wait_for(lambda: bank.paid)
        bank.let_go("after")
        one.client.attach("order-1").result(5)
        copy = one.client.attach("order-1").restart(from_step="pay#1", new_id="copy")
        assert [receipt.amount for receipt in copy.result(5)] == [12, 99]
        assert lines(copy)[:3] == [("step", "len#1", "done"), ("once", "pay#1", "begun"), ("step", "pay#1", "done")]
        fork = one.client.attach("order-1").fork("pay#1", Receipt(5, 5), new_id="fork")
        assert fork.result(5)[0] == Receipt(5, 5)
    assert len(set(bank.keys)) == len(bank.keys) == 5


def test_a_copy_of_one_that_is_asked_about_is_not_asked_about(world, bank):
    order = orders(bank, True)

    async def shop(ctx: Context, amount: int) -> Receipt:
        await ctx.run(len, "a")
        return await order(ctx, amount)

    die_paying(world, bank, shop, "after")
    with life(world, shop) as one:
        one_ask(one.client)
        copy = one.client.attach("order-1").restart(new_id="copy")
        assert copy.result(5) == Receipt(2, 12)
        assert one_ask(one.client).invocation == "order-1"


def test_other_arguments_than_it_was_begun_with_are_a_mismatch(world, bank):
    die_paying(world, bank, orders(bank, True), "after")

    async def order(ctx: Context, amount: int) -> Receipt:
        return await ctx.run(bank.pay, amount + 1, once=True)

    with life(world, order) as one:
        (check,) = one.client.check()
        assert "step 'pay#1' was begun with other arguments than the code gives it now" in check.problem
        assert "was begun with other arguments" in paused(one.client.attach("order-1"))
    assert len(bank.keys) == 1
    with life(world, orders(bank, bank.find)) as one:
        handle = one.client.attach("order-1")
        handle.resume()
        assert handle.result(5) == Receipt(1, 12)


def test_a_check_of_one_that_is_asked_about_finds_nothing_and_leaves_no_trace(world, bank):
    order = orders(bank, True)
    die_paying(world, bank, order, "after")
    with life(world, order) as one:
        one_ask(one.client)
        assert [check.ok for check in one.client.check()] == [True]
    assert len(world.journal("order-1")) == 1
    assert len(bank.keys) == 1


def test_the_policy_is_that_of_the_code_at_hand(world, bank):
    die_paying(world, bank, orders(bank, True), "after")
    with life(world, orders(bank, True)) as one:
        ask = one_ask(one.client).id
    with life(world, orders(bank, bank.find)) as one:
        with pytest.raises(AlreadySettled, match="nobody waits for it any more"):  # the checker is asked, not they
            one.client.answer(ask, {"outcome": "not done"})
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
        assert one.client.promise(ask).status == "withdrawn"
    assert len(bank.keys) == 1


def test_a_step_that_is_not_declared_once_any_more_runs_again_as_any(world, bank):
    die_paying(world, bank, orders(bank, True), "after")
    with life(world, orders(bank, True)) as one:
        ask = one_ask(one.client).id
    bank.hold("before")
    plain = orders(bank, False)
    with life(world, plain) as one:
        with pytest.raises(AlreadySettled, match="nobody waits for it any more"):
            one.client.answer(ask, {"outcome": "done", "result": {"number": 7, "amount": 7}})
        wait_for(lambda: len(bank.keys) == 2)
        bank.let_go("before")
        assert one.client.attach("order-1").result(5) == Receipt(2, 12)
        assert one.client.asks() == []


def test_a_thread_is_begun_once_as_well(world, bank):
    held = bank.flags.gate("thread")

    def pay(amount: int) -> Receipt:
        receipt = bank.pay_now(amount)
        held.wait(10)
        return receipt

    async def order(ctx: Context, amount: int) -> Receipt:
        return await ctx.run(pay, amount, once=bank.find_now)

    with life(world, order) as one:
        one.client.start(order, 12, id="order-1")
        wait_for(lambda: bank.paid)
    with life(world, order) as one:
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
    held.set()
    assert len(bank.keys) == 1


@pytest.mark.parametrize("at", [-(1 << 60), 1 << 60])
def test_a_start_with_a_damaged_time_is_asked_about_as_any(bank, at):
    """Once its own: the question said when, and what it could not say ended the engine."""
    world, order = World("memory", Path()), orders(bank, True)
    die_paying(world, bank, order, "after")
    (journal,) = world.store()._entries.values()
    journal[0] = entries.encode(msgspec.structs.replace(entries.decode_entry(journal[0]), at=at))
    with life(world, order) as one:
        one.client.answer(one_ask(one.client).id, {"outcome": "done", "result": {"number": 1, "amount": 12}})
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
        assert states_of(one.client.attach("order-1")) == ["begun", "done"]


@pytest.mark.parametrize("once", ["ask", "", 1, None, Retry()])
def test_what_is_no_policy_is_refused(memory_world, bank, once):
    with memory_world.holdfast(orders(bank, once)) as client, pytest.raises(InvocationFailed, match="once is"):
        client.start("order", 12).result(5)


def test_a_timeout_of_a_thread_is_refused(memory_world, bank):
    async def order(ctx: Context) -> Receipt:
        return await ctx.run(bank.pay_now, 1, once=True, timeout=5)

    says = "declared once and has a timeout, but it runs in a thread"
    with memory_world.holdfast(order) as client, pytest.raises(InvocationFailed, match=says):
        client.start(order).result(5)


def test_plain_steps_are_as_they_were(memory_world, bank):
    """No note, and no commit more."""

    async def order(ctx: Context) -> int:
        await ctx.run(bank.pay, 1)
        return 1

    with memory_world.holdfast(order) as client:
        assert client.start(order, id="order-1").result(5) == 1
    assert [type(entries.decode_entry(body)).__name__ for body in memory_world.journal("order-1")] == ["StepCompleted"]


def test_not_done_in_a_plain_step_is_a_failure_as_any(memory_world):
    runs = []

    async def h(ctx: Context) -> int:
        return await ctx.run(flaky, retry=Retry(initial=0))

    async def flaky() -> int:
        runs.append(1)
        if len(runs) < 3:
            raise NotDone
        return 7

    with memory_world.holdfast(h) as client:
        assert client.start(h).result(5) == 7
