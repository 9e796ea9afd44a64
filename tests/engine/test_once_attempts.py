"""Steps that are declared once: what an attempt leaves open that ended in this process, and what people do to it."""

import asyncio
import re
import time
from datetime import timedelta

import pytest

from holdfast import (
    Context,
    InvocationCancelled,
    InvocationFailed,
    Limits,
    NotDone,
    OutcomeUnknown,
    Retry,
    StepFailed,
    TerminalError,
    step,
)
from tests.engine.bank import Bank, Receipt
from tests.engine.lives import all_in_lane, life
from tests.engine.world import FakeClock, one_ask, paused, tick, wait_for

QUICK = Retry(max_attempts=3, initial=0)


@pytest.fixture
def bank():
    made = Bank()
    made.let_go("before", "after")
    return made


def states(handle):
    return [line.state for line in handle.journal()]


def orders(body, once, **options):
    async def order(ctx: Context, amount: int) -> Receipt:
        return await ctx.run(body, amount, once=once, returns=Receipt, **options)

    return order


async def cut(bank, amount):
    await bank.pay(amount)
    raise ConnectionError("cut after the order went out")


async def buggy(bank, amount):
    await bank.pay(amount)
    return amount.no_such_thing


async def misshapen(bank, amount):
    await bank.pay(amount)
    return object()


async def gives_itself_up(bank, amount):
    await bank.pay(amount)
    raise asyncio.CancelledError


async def leaves(bank, amount):
    await bank.pay(amount)
    raise SystemExit(3)


async def late(bank, amount):
    await bank.pay(amount)
    await asyncio.sleep(30)


ENDS = {
    "a cut connection": (cut, {}, "its body ended with ConnectionError: cut after the order went out"),
    "a bug": (buggy, {}, "its body ended with AttributeError: 'int' object has no attribute 'no_such_thing'"),
    "a result that cannot be kept": (misshapen, {}, r"its body ended with Unserialisable: \[HF201\]"),
    "a cancel of its own": (gives_itself_up, {}, r"its body ended with RuntimeError: the body cancelled itself"),
    "an exit": (leaves, {}, r"its body ended with WrongPlace: .*sys.exit\(3\)"),
    "a timeout": (late, {"timeout": 0.05}, "its body ended with TimeoutError: attempt 1 took longer than 0.05 s"),
}


def body_of(end, bank):
    fn, options, says = ENDS[end]

    async def pay(amount: int):
        return await fn(bank, amount)

    return pay, {"retry": QUICK, **options}, says


@pytest.mark.parametrize("end", ENDS)
def test_what_an_attempt_leaves_open_is_told_to_the_handler_and_not_tried_again(world, bank, end):
    pay, options, says = body_of(end, bank)

    async def order(ctx: Context, amount: int) -> str:
        with pytest.raises(OutcomeUnknown, match=says):
            await ctx.run(pay, amount, once="raise", **options)
        await ctx.promise("hold")
        return "told"

    with life(world, order) as one:
        handle = one.client.start(order, 12, id="order-1")
        wait_for(lambda: handle.status().status == "suspended")
        assert states(handle) == ["begun", "unknown", "waiting"]
    with life(world, order) as one:
        handle = one.client.attach("order-1")
        handle.pause("lunch")
        handle.resume()  # a replay
        assert states(handle) == ["begun", "unknown", "waiting"]
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
    assert len(bank.keys) == 1


@pytest.mark.parametrize("end", ENDS)
def test_a_checker_is_called_at_once_and_what_was_done_counts(world, bank, end):
    pay, options, _ = body_of(end, bank)
    order = orders(pay, bank.find, **options)
    with world.holdfast(order) as client:
        handle = client.start(order, 12, id="order-1")
        assert handle.result(5) == Receipt(1, 12)
        assert states(handle) == ["begun", "done"]
    assert len(bank.keys) == 1


@pytest.mark.parametrize("end", ENDS)
def test_a_person_is_asked_at_once_and_told_how_it_ended(world, bank, end):
    pay, options, says = body_of(end, bank)
    order = orders(pay, True, **options)
    with life(world, order) as one:
        one.client.start(order, 12, id="order-1")
        ask = one_ask(one.client)
        assert re.search(says, ask.question)
        assert re.search(says, ask.about["unknown"])
    with life(world, order) as one:
        assert one_ask(one.client).id == ask.id
        one.client.answer(ask.id, {"outcome": "done", "result": {"number": 1, "amount": 12}})
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


# What an attempt does not leave open


def test_not_done_is_tried_again_by_the_policy(world, bank):
    attempts = []

    async def pay(amount: int) -> Receipt:
        attempts.append((step().attempt, step().idempotency_key))
        if len(attempts) < 3:
            raise NotDone("the bank is closed")
        return await bank.pay(amount)

    order = orders(pay, True, retry=QUICK)
    with world.holdfast(order) as client:
        handle = client.start(order, 12, id="order-1")
        assert handle.result(5) == Receipt(1, 12)
        assert states(handle) == ["begun", "not done", "begun", "not done", "begun", "done"]
        assert handle.journal()[1].error == "the body says so: NotDone: the bank is closed"
    assert [number for number, _ in attempts] == [1, 2, 3]
    assert len({key for _, key in attempts}) == 1


def test_not_done_fails_when_its_retries_are_used_up_and_a_retry_begins_it_again(world, bank):
    closed = [True]

    async def pay(amount: int) -> Receipt:
        if closed:
            raise NotDone("the bank is closed")
        return await bank.pay(amount)

    order = orders(pay, True, retry=Retry(max_attempts=2, initial=0))
    with world.holdfast(order) as client:
        handle = client.start(order, 12, id="order-1")
        with pytest.raises(InvocationFailed, match="failed after 2 attempts: NotDone: the bank is closed"):
            handle.result(5)
        closed.clear()
        handle.retry()
        assert handle.result(5) == Receipt(1, 12)
        assert client.asks() == []


def test_not_done_pauses_by_the_policy_and_goes_on_when_it_is_resumed(world, bank):
    closed = [True]

    async def pay(amount: int) -> Receipt:
        if closed:
            raise NotDone("the bank is closed")
        return await bank.pay(amount)

    order = orders(pay, True, retry=Retry(max_attempts=2, initial=0, then="pause"))
    with life(world, order) as one:
        assert "NotDone: the bank is closed" in paused(one.client.start(order, 12, id="order-1"))
    closed.clear()
    with life(world, order) as one:
        handle = one.client.attach("order-1")
        handle.resume()
        assert handle.result(5) == Receipt(1, 12)
        assert one.client.asks() == []


@pytest.mark.parametrize("dies", [True, False])
def test_the_end_of_a_process_between_two_attempts_leaves_nothing_open(world, bank, dies):
    clock, tried = FakeClock(), []

    async def pay(amount: int) -> Receipt:
        tried.append(amount)
        if len(tried) == 1:
            raise NotDone("the bank is closed")
        return await bank.pay(amount)

    order = orders(pay, True, retry=Retry(initial=60, max_elapsed=timedelta(hours=1)))
    with life(world, order, clock=clock) as one:
        handle = one.client.start(order, 12, id="order-1")
        wait_for(lambda: states(handle) == ["begun", "not done", "retrying"])
        if not dies:
            one.client._thread.call(one.engine.stop())
    with life(world, order, clock=clock) as one:
        handle = one.client.attach("order-1")
        assert states(handle) == ["begun", "not done", "retrying"]  # it is not too late
        clock.wind(100)
        tick(one.client)
        assert handle.result(5) == Receipt(1, 12)
        assert one.client.asks() == []
    assert len(tried) == 2


def test_a_checker_waits_for_its_next_attempt_over_a_restart(world, bank):
    clock, looked = FakeClock(), []

    async def look(amount: int) -> Receipt:
        looked.append(step().attempt)
        if len(looked) < 2:
            raise ConnectionError("the bank is away")
        return await bank.find(amount)

    async def pay(amount: int) -> Receipt:
        await cut(bank, amount)

    order = orders(pay, look, retry=Retry(initial=60, max_elapsed=timedelta(hours=1)))
    with life(world, order, clock=clock) as one:
        handle = one.client.start(order, 12, id="order-1")
        wait_for(lambda: states(handle) == ["begun", "retrying"])
        wait_for(lambda: handle.status().status == "suspended")
    with life(world, order, clock=clock) as one:
        handle = one.client.attach("order-1")
        assert states(handle) == ["begun", "retrying"]
        clock.wind(100)
        tick(one.client)
        assert handle.result(5) == Receipt(1, 12)
    assert looked == [1, 2]
    assert len(bank.keys) == 1


def test_not_done_is_as_patient_as_the_error_it_was_raised_from(world, bank):
    tried = []

    class Throttled(Exception):
        retry_after = 0.3

    async def pay(amount: int) -> Receipt:
        tried.append(time.monotonic())
        if len(tried) == 1:
            raise NotDone("too many at once") from Throttled()
        return await bank.pay(amount)

    order = orders(pay, True, retry=QUICK)
    with world.holdfast(order) as client:
        assert client.start(order, 12).result(5) == Receipt(1, 12)
    assert tried[1] - tried[0] >= 0.3


def test_a_terminal_error_is_final_and_a_persons_retry_begins_it_again(world, bank):
    blocked = [True]

    async def pay(amount: int) -> Receipt:
        if blocked:
            raise TerminalError("the card is blocked", status=402)
        return await bank.pay(amount)

    order = orders(pay, True, retry=QUICK)
    with world.holdfast(order) as client:
        handle = client.start(order, 12, id="order-1")
        with pytest.raises(TerminalError, match="the card is blocked"):
            handle.result(5)
        assert states(handle) == ["begun", "not done", "failed"]
        blocked.clear()
        handle.retry()
        assert handle.result(5) == Receipt(1, 12)
        assert client.asks() == []
    assert len(bank.keys) == 1


def test_a_late_result_of_a_body_that_does_not_heed_its_timeout_counts(world, bank):
    async def pay(amount: int) -> Receipt:
        paying = asyncio.ensure_future(bank.pay(amount))
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return await paying
        raise AssertionError

    order = orders(pay, "raise", timeout=0.05)
    with world.holdfast(order) as client:
        assert client.start(order, 12).result(5) == Receipt(1, 12)


def test_a_body_may_say_in_its_last_moment_that_nothing_was_done(world, bank):
    tried = []

    async def pay(amount: int) -> Receipt:
        tried.append(amount)
        if len(tried) > 1:
            return await bank.pay(amount)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise NotDone("it was still in the queue") from None
        raise AssertionError

    order = orders(pay, "raise", timeout=0.05, retry=QUICK)
    with world.holdfast(order) as client:
        assert client.start(order, 12).result(5) == Receipt(1, 12)


# Cancelled, paused, stopped


def test_a_handler_that_gives_it_up_is_not_asked_about_it(world, bank):
    async def order(ctx: Context) -> str:
        paying = ctx.run(bank.pay, 12, once=True)
        try:
            await asyncio.wait_for(paying, 0.2)
        except TimeoutError:
            await ctx.promise("hold")
        return "over"

    bank.hold("after")
    with life(world, order) as one:
        handle = one.client.start(order, id="order-1")
        wait_for(lambda: handle.status().status == "suspended")
        assert one.client.asks() == []
    with life(world, order) as one:
        assert one.client.asks() == []
        handle = one.client.attach("order-1")
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
    assert len(bank.keys) == 1


def test_a_cancel_stops_the_body_and_the_undo_knows_its_own_key(world, bank):
    undone = []

    async def order(ctx: Context) -> None:
        try:
            await ctx.run(bank.pay, 12, once=True)
        except asyncio.CancelledError:
            await ctx.run(undone.append, 12)
            raise

    bank.hold("after")
    with world.holdfast(order) as client:
        handle = client.start(order, id="order-1")
        wait_for(lambda: bank.paid)
        handle.cancel()
        with pytest.raises(InvocationCancelled):
            handle.result(5)
        assert client.asks() == []
    assert undone == [12]


def test_an_invocation_that_failed_beside_it_is_opened_again_and_it_does_not_begin_again(world, bank):
    broken = [True]

    async def fail() -> None:
        if broken:
            raise TerminalError("down")

    async def order(ctx: Context) -> Receipt:
        paying = ctx.run(bank.pay, 12, once=bank.find)
        await ctx.run(bank.flags.body, "paid")
        await ctx.run(fail)
        return await paying

    bank.hold("after")
    with world.holdfast(order) as client:
        handle = client.start(order, id="order-1")
        wait_for(lambda: bank.paid)
        bank.let_go("paid")
        with pytest.raises(TerminalError, match="down"):
            handle.result(5)
        broken.clear()
        handle.retry()
        assert handle.result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


def test_a_retry_knows_of_what_began_after_the_failure(world, bank):
    """Its start stands behind the failure in the journal, and is kept."""
    flags, broken = bank.flags, [True]

    async def fail() -> None:
        if broken:
            raise TerminalError("down")

    async def order(ctx: Context) -> Receipt:
        failing, *_ = ctx.run(fail), ctx.run(flags.body, "blocker"), ctx.run(flags.body, "filler")
        paying = ctx.run(bank.pay, 12, once=bank.find)
        try:
            await failing
        except TerminalError:
            await ctx.run(flags.body, "a while")
            raise
        return await paying

    bank.hold("after")
    with world.holdfast(order, limits=Limits(bodies=2)) as client:
        handle = client.start(order, id="order-1")
        wait_for(lambda: "failed" in states(handle))
        assert bank.keys == []
        bank.let_go("blocker")
        wait_for(lambda: bank.paid)
        bank.let_go("filler", "a while")
        with pytest.raises(TerminalError, match="down"):
            handle.result(5)
        found = [(line.id, line.state) for line in handle.journal()]
        assert found.index(("fail#1", "failed")) < found.index(("pay#1", "begun"))
        broken.clear()
        handle.retry()
        assert handle.result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


def test_a_body_that_runs_on_while_it_is_paused_is_recorded(world, bank):
    order = orders(bank.pay, True)
    bank.hold("after")
    with life(world, order) as one:
        handle = one.client.start(order, 12, id="order-1")
        wait_for(lambda: bank.paid)
        handle.pause("lunch")
        bank.let_go("after")
        wait_for(lambda: states(handle) == ["begun", "done"])
    with life(world, order) as one:
        handle = one.client.attach("order-1")
        handle.resume()
        assert handle.result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


@pytest.mark.parametrize("policy", ["ask", "check", "raise"])
def test_what_it_leaves_open_while_it_is_paused_is_found_out_when_it_goes_on(world, bank, policy):
    async def pay(amount: int) -> Receipt:
        await cut(bank, amount)

    order = orders(pay, {"ask": True, "check": bank.find, "raise": "raise"}[policy])
    bank.hold("after")
    with life(world, order) as one:
        handle = one.client.start(order, 12, id="order-1")
        wait_for(lambda: bank.paid)
        handle.pause("lunch")
        bank.let_go("after")
        wait_for(lambda: "running" not in states(handle))
        assert one.client.asks() == []
        assert bank.asked == []
        wait_for(lambda: one.engine.residents_count == 0)
    with life(world, order) as one:
        handle = one.client.attach("order-1")
        handle.resume()
        if policy == "raise":
            with pytest.raises(InvocationFailed, match="its body ended with ConnectionError"):
                handle.result(5)
        else:
            if policy == "ask":
                one.client.answer(one_ask(one.client).id, {"outcome": "done", "result": {"number": 1, "amount": 12}})
            assert handle.result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


@pytest.mark.parametrize("finds", [True, False])
def test_a_checker_that_runs_while_it_is_paused(world, bank, finds):
    held = bank.flags.gate("checker")

    async def look(amount: int) -> Receipt:
        while not held.is_set():
            await asyncio.sleep(0.002)
        return await bank.find(amount)

    order = orders(bank.pay, look)
    bank.hold("after" if finds else "before")
    with life(world, order) as one:
        one.client.start(order, 12, id="order-1")
        wait_for(lambda: bank.paid if finds else bank.keys)
    bank.let_go("before", "after")
    with life(world, order) as one:
        handle = one.client.attach("order-1")
        wait_for(lambda: "checking" in states(handle))
        handle.pause("lunch")
        held.set()
        expected = ["begun", "done"] if finds else ["begun", "not done", "waiting"]
        wait_for(lambda: states(handle) == expected)
        wait_for(lambda: one.engine.residents_count == 0)
        assert len(bank.keys) == 1
        handle.resume()
        assert handle.result(5) == Receipt(1, 12)
    assert not bank.twice


def test_a_stop_waits_for_a_body_whose_start_is_on_its_way(world, bank, monkeypatch):
    all_in_lane(monkeypatch)
    order = orders(bank.pay, True)
    with life(world, order) as one:
        one.store.seconds = 0.2
        one.client.start(order, 12, id="order-1")
        wait_for(lambda: [body for r in one.engine._residents.values() for body in r.bodies.values() if body.beginning])
        assert bank.keys == []
        one.client._thread.call(one.engine.stop())
    with life(world, order) as one:
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
        assert one.client.asks() == []
    assert len(bank.keys) == 1


@pytest.mark.parametrize("dies", [True, False])
def test_the_end_of_a_process_leaves_nothing_open_of_what_waited_for_a_thread(world, bank, dies):
    held = bank.flags.gate("thread")

    def wait() -> None:
        held.wait(10)

    async def order(ctx: Context) -> Receipt:
        waiting = ctx.run(wait)
        receipt = await ctx.run(bank.pay_now, 12, once=True)
        await waiting
        return receipt

    with life(world, order, limits=Limits(threads=1, drain_seconds=0.1)) as one:
        handle = one.client.start(order, id="order-1")
        wait_for(lambda: states(handle) == ["running", "waiting"])
        if not dies:
            one.client._thread.call(one.engine.stop())
    assert bank.keys == []
    held.set()
    with life(world, order) as one:
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
        assert one.client.asks() == []


def test_a_stop_that_breaks_a_body_off_leaves_it_open(world, bank):
    order = orders(bank.pay, True)
    bank.hold("after")
    with life(world, order, limits=Limits(drain_seconds=0.1)) as one:
        one.client.start(order, 12, id="order-1")
        wait_for(lambda: bank.paid)
        one.client._thread.call(one.engine.stop())
    with life(world, order) as one:
        one.client.answer(one_ask(one.client).id, {"outcome": "done", "result": {"number": 1, "amount": 12}})
        assert one.client.attach("order-1").result(5) == Receipt(1, 12)
    assert len(bank.keys) == 1


def test_step_failed_does_not_catch_what_is_unknown():
    assert not issubclass(OutcomeUnknown, StepFailed)
    assert not issubclass(NotDone, TerminalError)
