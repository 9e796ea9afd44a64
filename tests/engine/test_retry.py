"""A failed invocation is opened again at its failing point: what was paid is kept, what failed is tried again, and what
followed from the failure is gone from the journal."""

import asyncio
import contextlib

import pytest

from holdfast import (
    Context,
    InvocationFailed,
    Limits,
    Object,
    Retry,
    Service,
    StepFailed,
    StoreFailed,
    TerminalError,
    UnknownHandler,
    WrongStatus,
    step,
)
from tests.engine.lives import Flags, life
from tests.engine.world import open_promise, paused, wait_for

ONCE = Retry(max_attempts=1)


class Shop(Flags):
    """Bodies that fail while `broken`."""

    def __init__(self):
        super().__init__()
        self.broken = True
        self.keys = []

    async def pay(self, text="down") -> str:
        await self.note("pay")
        self.keys.append((step().idempotency_key, step().attempt))
        if self.broken:
            raise ConnectionError(text)
        return "paid"

    async def refuse(self) -> str:
        await self.note("refuse")
        if self.broken:
            raise TerminalError("no credit", status=402)
        return "accepted"


def fails(handle, match="down"):
    with pytest.raises((InvocationFailed, TerminalError), match=match):
        handle.result(5)
    assert handle.status().status == "failed"


def ids(handle):
    return [view.id for view in handle.journal() if view.state != "waiting"]


def test_the_failing_step_is_run_again_and_nothing_that_was_paid(world):
    shop = Shop()

    async def h(ctx: Context) -> str:
        first = await ctx.run(shop.note, "first")
        return first + await ctx.run(shop.pay, retry=ONCE) + await ctx.run(shop.note, "last")

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        fails(handle)
        shop.broken = False
        handle.retry()
        one.die()
    with life(world, h) as one:
        handle = one.client.attach("x")
        assert handle.result(5) == "firstpaidlast"
        assert ids(handle) == ["note#1", "retry", "pay#1", "note#2"]
        assert handle.status().reason is None
    assert shop.ran.count("first") == 1
    assert len({key for key, _ in shop.keys}) == 1, "it is the same step to whoever is paid"
    assert {attempt for _, attempt in shop.keys} == {1}


def test_it_may_fail_again_and_be_opened_again(world):
    shop = Shop()

    async def h(ctx: Context) -> str:
        return await ctx.run(shop.note, "first") + await ctx.run(shop.pay, retry=ONCE)

    with life(world, h) as one:
        handle = one.client.start(h)
        for _ in range(3):
            fails(handle)
            handle.retry()
        fails(handle)
        shop.broken = False
        handle.retry()
        assert handle.result(5) == "firstpaid"
    assert shop.ran == ["first", "pay", "pay", "pay", "pay", "pay"]


def test_a_terminal_error_is_a_failing_point_too(world):
    shop = Shop()

    async def h(ctx: Context) -> str:
        return await ctx.run(shop.note, "first") + await ctx.run(shop.refuse)

    with life(world, h) as one:
        handle = one.client.start(h)
        fails(handle, "no credit")
        shop.broken = False
        handle.retry()
        assert handle.result(5) == "firstaccepted"
    assert shop.ran == ["first", "refuse", "refuse"]


async def raises_another(shop, ctx):
    try:
        await ctx.run(shop.pay, retry=ONCE)
    except StepFailed as error:
        raise RuntimeError("could not pay") from error


async def raises_in_its_place(shop, ctx):
    try:
        await ctx.run(shop.pay, retry=ONCE)
    except StepFailed:
        raise RuntimeError("could not pay")  # noqa: B904  # as users write it


async def raises_a_terminal_one(shop, ctx):
    try:
        await ctx.run(shop.pay, retry=ONCE)
    except StepFailed as error:
        raise TerminalError("could not pay", status=402) from error


async def quotes_it(shop, ctx):
    try:
        await ctx.run(shop.pay, retry=ONCE)
    except StepFailed as error:
        raise ValueError(f"could not pay: {error.message}") from None


async def in_a_group(shop, ctx):
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.run(shop.pay, retry=ONCE))


async def says_nothing(shop, ctx):
    await ctx.run(shop.pay, "", retry=ONCE)


async def says_much(shop, ctx):
    await ctx.run(shop.pay, "down " * 10_000, retry=ONCE)


@pytest.mark.parametrize(
    "how",
    [raises_another, raises_in_its_place, raises_a_terminal_one, quotes_it, in_a_group, says_nothing, says_much],
    ids=lambda how: how.__name__,
)
def test_the_failing_step_is_found_however_the_handler_tells_of_it(memory_world, how):
    shop = Shop()

    async def h(ctx: Context) -> str:
        await ctx.run(shop.note, "first")
        await how(shop, ctx)
        return "done"

    with life(memory_world, h) as one:
        handle = one.client.start(h)
        fails(handle, ".*")
        shop.broken = False
        handle.retry()
        assert handle.result(5) == "done"
    assert shop.ran == ["first", "pay", "pay"]


def test_a_failure_that_the_handler_lived_with_is_kept(world):
    shop = Shop()
    bug = [True]

    async def h(ctx: Context) -> str:
        try:
            word = await ctx.run(shop.pay, "", retry=ONCE)
        except StepFailed:
            word = "credit"
        await ctx.run(shop.note, "after")
        if bug:
            raise ZeroDivisionError("a bug")
        return word

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        fails(handle, "a bug")
    shop.broken = False
    bug.clear()
    with life(world, h) as one:
        handle = one.client.attach("x")
        handle.retry()
        assert handle.result(5) == "credit"
    assert shop.ran == ["pay", "after"], "nothing is paid again"


def test_a_bug_of_the_handler_is_mended_by_new_code_and_nothing_is_paid_again(world):
    shop = Shop()

    def version(mended):
        async def h(ctx: Context) -> str:
            first = await ctx.run(shop.note, "first")
            second = await ctx.run(shop.note, "second")
            if not mended:
                return first + second.nonsense
            return first + second + await ctx.run(shop.note, "third")

        return h

    old, new = version(mended=False), version(mended=True)
    with life(world, old) as one:
        handle = one.client.start(old, id="x")
        fails(handle, "nonsense")
    with life(world, new) as one:
        handle = one.client.attach("x")
        handle.retry()
        assert handle.result(5) == "firstsecondthird"
    assert shop.ran == ["first", "second", "third"]


def test_code_that_does_not_fit_the_journal_is_refused_and_nothing_is_changed(world):
    shop = Shop()

    async def h(ctx: Context) -> str:
        return await ctx.run(shop.note, "first") + await ctx.run(shop.pay, retry=ONCE)

    async def other(ctx: Context) -> str:
        return await ctx.run(shop.pay, retry=ONCE)

    other.__name__ = "h"
    with life(world, h) as one:
        fails(one.client.start(h, id="x"))
    before = world.journal("x")
    with life(world, other) as one:
        handle = one.client.attach("x")
        with pytest.raises(WrongStatus, match="cannot be opened at its failing point") as caught:
            handle.retry()
        assert "restart it from a step" in caught.value.fix
        assert handle.status().status == "failed"
    with life(world) as one, pytest.raises(UnknownHandler):
        one.client.retry("x")
    assert world.journal("x") == before
    shop.broken = False
    with life(world, h) as one:
        one.client.retry("x")
        assert one.client.attach("x").result(5) == "firstpaid"


def test_what_parallel_siblings_had_finished_is_kept_whenever_they_did(world):
    shop = Shop()

    async def h(ctx: Context) -> list:
        results = await asyncio.gather(
            ctx.run(shop.note, "early"),
            ctx.run(shop.pay, retry=ONCE),
            ctx.run(shop.body, "late"),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        wait_for(lambda: len([view for view in handle.journal() if view.state in {"done", "failed"}]) == 2)
        shop.gate("late").set()
        fails(handle)
        assert ids(handle)[-1] == "body#1", "it ended after the failure"
        shop.broken = False
        handle.retry()
        one.die()
    with life(world, h) as one:
        handle = one.client.attach("x")
        assert handle.result(5) == ["early", "paid", "late"]
        assert ids(handle)[-1] == "pay#1"
    assert (shop.ran.count("early"), shop.ran.count("late")) == (1, 1)


def test_a_sibling_that_was_stopped_by_the_failure_runs_again(world):
    shop = Shop()

    async def h(ctx: Context) -> list:
        return list(await asyncio.gather(ctx.run(shop.pay, retry=ONCE), ctx.run(shop.body, "slow")))

    with life(world, h) as one:
        handle = one.client.start(h)
        fails(handle)
        shop.broken = False
        shop.gate("slow").set()
        handle.retry()
        assert handle.result(5) == ["paid", "slow"]


def test_the_clean_up_that_followed_is_dropped(world):
    shop = Shop()

    async def h(ctx: Context) -> str:
        room = await ctx.run(shop.note, "room")
        try:
            return room + await ctx.run(shop.pay, retry=ONCE)
        except StepFailed:
            await ctx.run(shop.note, "cancel the room")
            await asyncio.sleep(0.01)
            raise

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        fails(handle)
        assert ids(handle) == ["note#1", "pay#1", "note#2", "timer#1"]
        shop.broken = False
        handle.retry()
        assert handle.result(5) == "roompaid"
        assert ids(handle) == ["note#1", "retry", "pay#1"]
    assert shop.ran == ["room", "pay", "cancel the room", "pay"]


def test_what_a_sibling_has_sent_and_written_is_not_done_again(world):
    shop = Shop()
    desk = Object("Desk")

    @desk.handler
    async def collect(ctx: Context) -> list[str]:
        return [await ctx.receive("word", str), await ctx.receive("word", str, timeout=0.2)]

    @desk.handler
    async def write(ctx: Context) -> list:
        async def sibling() -> str:
            word = await ctx.run(shop.body, "late")
            ctx.append("log", word)
            ctx.set("last", word)
            ctx.signal("collector", "word", word)
            seen = ctx.items("log", str)
            return await ctx.run(shop.note, f"after {len(seen)}")

        results = await asyncio.gather(ctx.run(shop.pay, retry=ONCE), sibling(), return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]
        return results

    with life(world, desk) as one:
        collector = one.client.start(collect, key="other", id="collector")
        handle = one.client.start(write, key="k", id="x")
        wait_for(lambda: [view for view in handle.journal() if view.state == "failed"])
        shop.gate("late").set()
        fails(handle)
        one.client.set_state("Desk", "k", "last", "by another")
        shop.broken = False
        handle.retry()
        assert handle.result(5) == ["paid", "after 1"]
        with pytest.raises((InvocationFailed, TerminalError)):  # one word came, and no second one
            collector.result(5)
        assert one.client.state("Desk", "k") == {"log": ["late"], "last": "by another"}
        assert one.engine.failure is None
    assert shop.ran.count("after 1") == 1


def test_a_value_read_before_the_failure_is_as_it_was_and_one_read_after_it_is_new(world):
    shop = Shop()
    desk = Object("Desk")

    @desk.handler
    async def write(ctx: Context) -> list[int]:
        before = ctx.get("n", int, 0)
        try:
            await ctx.run(shop.pay, retry=ONCE)
        except StepFailed:
            ctx.get("m", int, 0)
            await ctx.run(shop.note, "clean-up")
            raise
        return [before, ctx.get("m", int, 0)]

    with life(world, desk) as one:
        handle = one.client.start(write, key="k")
        fails(handle)
        one.client.set_state("Desk", "k", "n", 7)
        one.client.set_state("Desk", "k", "m", 8)
        shop.broken = False
        handle.retry()
        assert handle.result(5) == [0, 8]


def test_a_question_that_the_failure_took_back_is_asked_again_under_its_id(world):
    shop = Shop()

    async def h(ctx: Context) -> list:
        async def fail():
            await asyncio.sleep(0.05)
            return await ctx.run(shop.pay, retry=ONCE)

        return list(await asyncio.gather(ctx.ask("Well?", str), fail(), ctx.promise("hook", type=str)))

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        (ask,) = wait_for(one.client.asks)
        fails(handle)
        assert one.client.asks() == []
        shop.broken = False
        handle.retry()
        (again,) = wait_for(one.client.asks)
        assert again.id == ask.id
    with life(world, h) as one:
        handle = one.client.attach("x")
        one.client.answer(ask.id, "fine")
        one.client.resolve(open_promise(one.client), "hooked")
        assert handle.result(5) == ["fine", "paid", "hooked"]


def test_a_question_of_the_clean_up_may_be_asked_again_with_another_text(world):
    shop = Shop()

    async def h(ctx: Context) -> str:
        try:
            await ctx.run(shop.pay, retry=ONCE)
        except StepFailed:
            await asyncio.wait({asyncio.ensure_future(ctx.ask("Why not?", str))}, timeout=0.02)
            raise
        return await ctx.ask("Where to?", str)

    with life(world, h) as one:
        handle = one.client.start(h)
        fails(handle)
        shop.broken = False
        handle.retry()
        (ask,) = wait_for(one.client.asks)
        assert ask.question == "Where to?"
        one.client.answer(ask.id, "home")
        assert handle.result(5) == "home"


def test_a_question_of_the_clean_up_that_was_answered_is_no_answer_to_the_next(world):
    shop = Shop()

    async def h(ctx: Context) -> str:
        try:
            await ctx.run(shop.pay, retry=ONCE)
        except StepFailed:
            await ctx.run(shop.note, await ctx.ask("Tell whom?", str))
            raise
        return await ctx.ask("Where to?", str)

    with life(world, h, limits=Limits(waiting=0)) as one:
        handle = one.client.start(h, id="x")
        (ask,) = wait_for(one.client.asks)
        one.client.answer(ask.id, "the boss")
        fails(handle)
        shop.broken = False
        handle.retry()
        (again,) = wait_for(one.client.asks)
        assert (again.question, again.id != ask.id) == ("Where to?", True)
    with life(world, h) as one:
        handle = one.client.attach("x")
        (again,) = one.client.asks()
        one.client.answer(again.id, "home")
        assert handle.result(5) == "home"
        assert ids(handle) == ["retry", "pay#1", "ask#1"]


class Family:
    """A caller of a caller of one that fails."""

    def __init__(self):
        self.shop = shop = Shop()
        self.service = service = Service("S")

        @service.handler
        async def leaf(ctx: Context) -> str:
            return await ctx.run(shop.note, "leaf") + await ctx.run(shop.pay, retry=ONCE)

        @service.handler
        async def middle(ctx: Context) -> str:
            return await ctx.run(shop.note, "middle") + await ctx.call(leaf, id="leaf")

        @service.handler
        async def root(ctx: Context) -> str:
            return await ctx.run(shop.note, "root") + await ctx.call(middle, id="middle")

        @service.handler
        async def lives(ctx: Context) -> str:
            try:
                return await ctx.call(leaf, id="leaf")
            except InvocationFailed:
                return "without it"

        self.leaf, self.root, self.lives = leaf, root, lives


@pytest.mark.parametrize("waiting", [0, 9])
def test_a_called_one_whose_failure_it_was_is_opened_with_its_caller(world, waiting):
    family = Family()
    with life(world, family.service, limits=Limits(waiting=waiting)) as one:
        handle = one.client.start(family.root, id="root")
        fails(handle)
        assert [view.status for view in one.client.list()] == ["failed"] * 3
        family.shop.broken = False
        one.store.dies_at, one.store.keeps_last = one.store.commits + 1, True
        with pytest.raises(StoreFailed, match="died"):
            handle.retry()
    with life(world, family.service, limits=Limits(waiting=waiting)) as one:
        assert one.client.attach("root").result(5) == "rootmiddleleafpaid"
        assert {view.id: view.status for view in one.client.list()} == dict.fromkeys(["root", "middle", "leaf"], "done")
    assert [family.shop.ran.count(name) for name in ("root", "middle", "leaf", "pay")] == [1, 1, 1, 2]


def test_a_called_one_that_is_opened_alone_changes_nothing_for_its_caller(world):
    family = Family()
    with life(world, family.service) as one:
        handle = one.client.start(family.lives)
        assert handle.result(5) == "without it"
        family.shop.broken = False
        one.client.retry("leaf")
        assert one.client.attach("leaf").result(5) == "leafpaid"
        assert handle.result(5) == "without it"


def test_a_called_one_that_was_opened_alone_first_gives_its_caller_the_result(world):
    family = Family()
    with life(world, family.service) as one:
        handle = one.client.start(family.root)
        fails(handle)
        family.shop.broken = False
        one.client.retry("leaf")
        one.client.attach("leaf").result(5)
        handle.retry()
        assert handle.result(5) == "rootmiddleleafpaid"
    assert family.shop.ran.count("leaf") == 1


def test_many_retries_at_once_open_it_once(world):
    family = Family()
    with life(world, family.service) as one:
        handle = one.client.start(family.root, id="root")
        fails(handle)
        family.shop.broken = False
        outcomes = one.together(*[one.client._client.retry(id) for id in ("root", "leaf", "root", "middle", "leaf")])
        assert all(outcome is None or isinstance(outcome, WrongStatus) for outcome in outcomes), outcomes
        assert any(outcome is None for outcome in outcomes)
        assert handle.result(5) == "rootmiddleleafpaid"
    assert family.shop.ran.count("leaf") == 1


def test_a_call_that_the_failure_cancelled_goes_on(world):
    shop = Shop()
    service = Service("S")

    @service.handler
    async def child(ctx: Context) -> str:
        return await ctx.run(shop.note, "child") + await ctx.run(shop.body, "slow")

    @service.handler
    async def root(ctx: Context) -> list:
        return list(await asyncio.gather(ctx.call(child, id="child"), ctx.run(shop.pay, retry=ONCE)))

    with life(world, service) as one:
        handle = one.client.start(root)
        fails(handle)
        shop.broken = False
        shop.gate("slow").set()
        handle.retry()
        assert handle.result(5) == ["childslow", "paid"]


def test_what_the_clean_up_sent_and_called_is_no_answer_to_what_is_sent_and_called_now(world):
    shop = Shop()
    service = Service("S")

    @service.handler
    async def tell(ctx: Context, text: str) -> str:
        return await ctx.run(shop.note, text)

    @service.handler
    async def root(ctx: Context) -> str:
        try:
            await ctx.run(shop.pay, retry=ONCE)
        except StepFailed:
            ctx.send(tell, "sent: failed")
            await ctx.call(tell, "called: failed")
            raise
        ctx.send(tell, "sent: paid")
        return await ctx.call(tell, "called: paid")

    with life(world, service) as one:
        handle = one.client.start(root)
        fails(handle)
        shop.broken = False
        handle.retry()
        assert handle.result(5) == "called: paid"
        wait_for(lambda: "sent: paid" in shop.ran)


def test_a_step_of_the_clean_up_is_another_step_to_whoever_is_paid(memory_world):
    shop = Shop()
    keys = {}

    async def charge(amount: int) -> None:
        keys[amount] = step().idempotency_key

    async def h(ctx: Context) -> None:
        try:
            await ctx.run(shop.pay, retry=ONCE)
        except StepFailed:
            await ctx.run(charge, -5)
            raise
        await ctx.run(charge, 5)

    with life(memory_world, h) as one:
        handle = one.client.start(h)
        fails(handle)
        shop.broken = False
        handle.retry()
        handle.result(5)
    assert keys[5] != keys[-5]


def test_each_retry_has_names_of_its_own_and_keeps_them_over_restarts(world):
    shop = Shop()
    service = Service("S")

    @service.handler
    async def tell(ctx: Context, text: str) -> str:
        return await ctx.run(shop.note, text)

    @service.handler
    async def root(ctx: Context, fail: int) -> str:
        first = await ctx.run(shop.note, "first")
        try:
            await ctx.run(shop.pay, retry=ONCE)
        except StepFailed:
            ctx.send(tell, "failed")
            raise
        ctx.send(tell, "paid")
        go = await ctx.receive("go", str)
        return first + go + await ctx.call(tell, "called")

    with life(world, service) as one:
        handle = one.client.start(root, 1, id="x")
        for count in (1, 2, 3):
            fails(handle)
            wait_for(lambda: shop.ran.count("failed") == count)  # noqa: B023
            shop.broken = count < 3
            handle.retry()
        wait_for(lambda: len(one.client.list(target="S/tell", status="done")) == 4)
    for _ in range(2):
        with life(world, service, limits=Limits(waiting=0)) as one:
            wait_for(lambda: one.client.attach("x").status().status == "suspended")
    with life(world, service) as one:
        one.client.signal("x", "go", "!")
        assert one.client.attach("x").result(5) == "first!called"
        assert ids(one.client.attach("x")) == ["note#1", *["retry"] * 3, "pay#1", "go", "tell#2"]
        assert len(one.client.list(target="S/tell")) == 5
    assert (shop.ran.count("first"), shop.ran.count("paid"), shop.ran.count("called")) == (1, 1, 1)


@pytest.mark.parametrize("commit", range(1, 7))
@pytest.mark.parametrize("keeps_last", [False, True])
def test_a_death_at_any_commit_after_a_retry_changes_nothing(world, commit, keeps_last):
    shop = Shop()
    service = Service("S")

    @service.handler
    async def tell(ctx: Context, text: str) -> str:
        return await ctx.run(shop.note, text)

    @service.handler
    async def root(ctx: Context) -> str:
        first = await ctx.run(shop.note, "first")
        paid, called = await asyncio.gather(ctx.run(shop.pay, retry=ONCE), ctx.call(tell, "sibling"))
        ctx.send(tell, "paid")
        return first + paid + called + await ctx.call(tell, "called")

    with life(world, service) as one:
        handle = one.client.start(root, id="x")
        fails(handle)
        shop.broken = False
        one.store.dies_at, one.store.keeps_last = one.store.commits + commit, keeps_last
        with contextlib.suppress(StoreFailed):
            handle.retry()
            handle.result(5)
    with life(world, service) as one:
        handle = one.client.attach("x")
        if handle.status().status == "failed":
            assert commit == 1
            handle.retry()
        assert handle.result(5) == "firstpaidsiblingcalled"
        assert len(one.client.list(target="S/tell")) == 3
    with life(world, service) as one:
        wait_for(lambda: not one.client.list(status="ready") and not one.client.list(status="queued"))
    assert shop.ran.count("first") == 1
    assert {"sibling", "paid", "called"} <= set(shop.ran)


class Cancelled:
    """A caller whose failure cancels what it has called."""

    def __init__(self):
        self.shop = shop = Shop()
        self.service = service = Service("S")

        @service.handler
        async def leaf(ctx: Context) -> str:
            return await ctx.run(shop.note, "leaf") + await ctx.run(shop.body, "slow")

        @service.handler
        async def child(ctx: Context) -> str:
            try:
                return await ctx.run(shop.note, "child") + await ctx.call(leaf, id="leaf")
            finally:
                await ctx.run(shop.note, "cleaned up")

        @service.handler
        async def root(ctx: Context) -> list:
            async def pay():
                await ctx.receive("fail")
                return await ctx.run(shop.pay, retry=ONCE)

            return list(await asyncio.gather(ctx.call(child, id="child"), pay()))

        self.root = root

    def fail(self, one):
        handle = one.client.start(self.root, id="x")
        wait_for(lambda: "slow" in self.shop.ran)
        handle.signal("fail")
        fails(handle)
        wait_for(lambda: not one.client.list(status="ready"))
        self.shop.broken = False
        self.shop.gate("slow").set()
        return handle


def test_all_that_the_failure_cancelled_goes_on_where_it_was(world):
    family = Cancelled()
    with life(world, family.service) as one:
        handle = family.fail(one)
        assert {view.id: view.status for view in one.client.list()} == {
            "x": "failed", "child": "cancelled", "leaf": "cancelled",
        }  # fmt: skip
        with pytest.raises(WrongStatus, match="is cancelled and cannot be retried"):
            one.client.retry("child")
        handle.retry()
        one.die()
    with life(world, family.service) as one:
        assert one.client.attach("x").result(5) == ["childleafslow", "paid"]
        assert {view.status for view in one.client.list()} == {"done"}
    assert (family.shop.ran.count("child"), family.shop.ran.count("leaf")) == (1, 1), "it is not paid again"


def test_a_called_one_that_was_killed_stays_so(world):
    family = Cancelled()
    with life(world, family.service) as one:
        handle = one.client.start(family.root, id="x")
        wait_for(lambda: "slow" in family.shop.ran)
        one.client.kill("child", "no use")
        fails(handle, "killed: no use")
        handle.retry()
        fails(handle, "killed: no use")
        assert one.client.attach("child").status().status == "killed"


def test_a_called_one_that_a_person_cancelled_goes_on_when_its_caller_is_opened(world):
    family = Cancelled()
    family.shop.broken = False
    with life(world, family.service) as one:
        handle = one.client.start(family.root, id="x")
        wait_for(lambda: "slow" in family.shop.ran)
        one.client.cancel("child", "by mistake")
        fails(handle, "by mistake")
        family.shop.gate("slow").set()
        handle.retry()
        handle.signal("fail")
        assert handle.result(5) == ["childleafslow", "paid"]


def test_a_called_one_that_was_cancelled_before_it_began_begins(world):
    shop = Shop()
    service, desk = Service("S"), Object("Desk")

    @desk.handler
    async def hold(ctx: Context) -> None:
        await ctx.run(shop.body, "hold")

    @desk.handler
    async def write(ctx: Context) -> str:
        return await ctx.run(shop.note, "wrote")

    @service.handler
    async def root(ctx: Context) -> list:
        return list(await asyncio.gather(ctx.call(write, key="k", id="child"), ctx.run(shop.pay, retry=ONCE)))

    with life(world, service, desk) as one:
        one.client.start(hold, key="k")
        wait_for(lambda: "hold" in shop.ran)
        handle = one.client.start(root)
        fails(handle)
        wait_for(lambda: one.client.attach("child").status().status == "cancelled")
        shop.broken = False
        handle.retry()
        shop.gate("hold").set()
        assert handle.result(5) == ["wrote", "paid"]


def test_random_numbers_of_the_clean_up_do_not_come_again(memory_world):
    shop = Shop()
    seen = []

    async def h(ctx: Context) -> str:
        first = str(ctx.uuid())
        await ctx.run(shop.note, first)
        try:
            await ctx.run(shop.pay, retry=ONCE)
        except StepFailed:
            seen.append(str(ctx.uuid()))
            raise
        seen.append(str(ctx.uuid()))
        return await ctx.run(shop.note, seen[-1])

    with life(memory_world, h) as one:
        handle = one.client.start(h, id="x")
        fails(handle)
        shop.broken = False
        handle.retry()
        assert handle.result(5) == seen[-1]
    assert seen[0] != seen[-1]
    assert len(shop.ran) == 4


def test_one_that_is_paused_is_resumed_and_not_retried(world):
    async def faulty() -> None:
        raise TypeError("a bug")

    async def h(ctx: Context) -> None:
        await ctx.run(faulty)

    with life(world, h) as one:
        handle = one.client.start(h)
        paused(handle)
        with pytest.raises(WrongStatus, match="is paused and cannot be retried"):
            handle.retry()
