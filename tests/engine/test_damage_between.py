"""Damage that is met on the way from one invocation to another, or when one is brought back: it pauses who wanted
something or whose data it is, with the reason, and once it is mended everything is done that was wanted, once (G4, G8,
G10)."""

import asyncio
import functools

import pytest

from holdfast import (
    Context,
    InvocationFailed,
    Limits,
    Object,
    ObjectContext,
    Service,
    StoreCorrupt,
    UnknownInvocation,
    Unreadable,
    Workflow,
    WorkflowContext,
)
from holdfast.core.entries import SignalArrived, decode_entry
from holdfast.engine.admission import Admission
from tests.engine import lives
from tests.engine.family import status
from tests.engine.lives import Held
from tests.engine.world import paused, wait_for

DAMAGE = StoreCorrupt("page 7 is damaged")


class Damaged(Held):
    """Reads of what is in `broken`, a method and its first argument, fail."""

    def __init__(self, inner):
        super().__init__(inner)
        self.broken = {}

    def __getattr__(self, name):
        read = getattr(self.inner, name)
        if not any(name == method for method, _ in self.broken):
            return read

        def look(*args, **options):
            if (name, *args[:1]) in self.broken:
                raise self.broken[name, *args[:1]]
            return read(*args, **options)

        return look


life = functools.partial(lives.life, kind=Damaged)


@pytest.fixture
def desk():
    """An object whose handler does something to another one, between other things that may be done once only."""
    box, flow = Object("Box"), Workflow("Flow")

    @box.handler
    async def do(ctx: ObjectContext, what: str) -> list[str]:
        await ctx.receive("go")
        ctx.append("done", what)
        ctx.signal("counter", "word", what)
        match what:
            case "signal":
                ctx.signal("other", "word", what)
            case "cancel":
                ctx.cancel("other", what)
            case "send":
                ctx.send(ear, id="other")
            case "resolve":
                ctx.send(answer, what, key="k")
        ctx.append("done", what)
        return ctx.items("done", str)

    @flow.handler
    async def answer(ctx: WorkflowContext, what: str) -> None:
        ctx.signal("counter", "word", what)
        ctx.resolve("answer", what)

    @flow.main
    async def run(ctx: WorkflowContext) -> str:
        return await ctx.promise("answer", type=str)

    async def ear(ctx: Context) -> str:
        return await ctx.receive("word", str)

    async def counter(ctx: Context) -> list[str]:
        words = []
        while (word := await ctx.receive("word", str)) != "end":
            words.append(word)
        return words

    box.do, box.ear, box.counter, box.run = do, ear, counter, run
    box.all = [box, flow, ear, counter, shouts]
    return box


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("what", ["signal", "cancel", "send"])
def test_a_deed_for_one_whose_row_cannot_be_read_pauses_who_wants_it_and_is_done_once_when_it_can(
    world, desk, what, dies
):
    with life(world, *desk.all, limits=Limits(waiting=0)) as one:
        one.client.start(desk.counter, id="counter")
        if what != "send":
            one.client.start(desk.ear, id="other")
        handle = one.client.start(desk.do, what, key="k", id="do")
        one.store.broken["find", "other"] = DAMAGE
        handle.signal("go")
        assert "page 7 is damaged" in paused(handle)
        assert one.client.state("Box", "k") == {}, "nothing of that turn was done"
        if not dies:
            one.store.broken.clear()
            handle.resume()
            handle.result(5)
    with life(world, *desk.all) as one:
        if dies:
            one.client.resume("do")
        assert one.client.attach("do").result(5) == [what, what]
        wait_for(lambda: one.engine.store.find("other"))
        wanted = {"signal": "done", "cancel": "cancelled", "send": "suspended"}[what]
        wait_for(lambda: status(one.client, "other") == wanted)
        one.client.signal("counter", "word", "end")
        assert one.client.attach("counter").result(5) == [what]


def test_a_promise_that_cannot_be_read_pauses_who_resolves_it(world, desk):
    with life(world, *desk.all) as one:
        one.client.start(desk.counter, id="counter")
        run = one.client.start(desk.run, key="k")
        wait_for(lambda: one.engine.store.promise("Flow:k:answer"))
        handle = one.client.start(desk.do, "resolve", key="k", id="do")
        one.store.broken["promise", "Flow:k:answer"] = DAMAGE
        handle.signal("go")
        assert handle.result(5) == ["resolve"] * 2
        wait_for(lambda: one.client.list(target="Flow/answer", status="paused"))
        (answer,) = one.client.list(target="Flow/answer")
        assert "page 7 is damaged" in answer.reason
        one.store.broken.clear()
        one.client.resume(answer.id)
        assert run.result(5) == "resolve"
        one.client.signal("counter", "word", "end")
        assert one.client.attach("counter").result(5) == ["resolve", "resolve"]


def letters(one, id):
    entries = [decode_entry(body) for body in one.engine.store.inner.entries(one.engine.store.find(id).n)]
    return [entry for entry in entries if isinstance(entry, SignalArrived)]


@pytest.mark.parametrize("error", [DAMAGE, Unreadable("the key is out of reach")], ids=lambda e: type(e).__name__)
def test_one_whose_journal_cannot_be_read_just_now_does_nothing_twice_when_it_can(world, desk, error):
    with life(world, *desk.all, limits=Limits(waiting=0)) as one:
        one.client.start(desk.counter, id="counter")
        handle = one.client.start(desk.do, "none", key="k", id="do")
        loud = one.client.start(shouts, "counter", id="loud")
        loud.signal("hello")
        wait_for(lambda: len(letters(one, "counter")) == 1)
        for id in ("do", "loud"):
            n = one.engine.store.find(id).n
            wait_for(lambda: one.engine.resident(n) is None)  # noqa: B023
            one.store.broken["entries", n] = error
            one.client.signal(id, "go")
            assert error.what in paused(one.client.attach(id))
            one.client.signal(id, "more")
            one.store.broken.clear()
        assert (len(letters(one, "do")), len(letters(one, "loud"))) == (2, 3), "they are kept"
        one.client.resume("do")
        assert handle.result(5) == ["none", "none"]
        one.client.resume("loud")
        assert loud.result(5) == "over"
        one.client.signal("counter", "word", "end")
        assert one.client.attach("counter").result(5) == ["before", "none", "after"]


async def shouts(ctx: Context, to: str) -> str:
    await ctx.receive("hello")
    ctx.signal(to, "word", "before")
    await ctx.receive("go")
    ctx.signal(to, "word", "after")
    return "over"


def test_a_paused_one_whose_journal_cannot_be_read_stays_paused_when_it_is_resumed(world, desk):
    with life(world, *desk.all) as one:
        handle = one.client.start(desk.ear, id="ear")
        handle.pause("lunch")
        n = one.engine.store.find("ear").n
        one.store.broken["entries", n] = DAMAGE
        one.client.resume("ear")
        assert "page 7 is damaged" in paused(handle)
        one.store.broken.clear()
        one.client.resume("ear")
        handle.signal("word", "on")
        assert handle.result(5) == "on"


def test_a_cancel_of_a_called_one_whose_journal_cannot_be_read_is_kept_for_it(world):
    service = Service("S")

    @service.handler
    async def child(ctx: Context) -> None:
        await ctx.promise("never")

    @service.handler
    async def caller(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.05):
                await ctx.call(child, id="child")
        except TimeoutError:
            return "late"

    with life(world, service) as one:
        handle = one.client.start(caller)
        wait_for(lambda: one.engine.store.open_promises(9))
        one.client.pause("child")
        one.store.broken["entries", one.engine.store.find("child").n] = DAMAGE
        assert handle.result(5) == "late"
        wait_for(lambda: "page 7" in (one.client.attach("child").status().reason or ""))
        one.store.broken.clear()
        one.client.resume("child")
        wait_for(lambda: status(one.client, "child") == "cancelled")


def test_one_of_which_nobody_can_tell_what_was_done_is_left_as_it_is(memory_world, desk):
    """Its row says how far it was obeyed, and cannot be read."""
    with life(memory_world, *desk.all, limits=Limits(waiting=0)) as one:
        one.client.start(desk.counter, id="counter")
        one.client.start(desk.do, "none", key="k", id="do")
        wait_for(lambda: status(one.client, "do") == "suspended")
        one.client.pause("counter")
    store = memory_world.store()
    rows = {row.id: row for row in store._invocations.values()}
    good = rows["counter"].outcome
    store._invocations[rows["counter"].n] = rows["counter"]._replace(outcome=b"")
    with life(memory_world, *desk.all) as one:
        with pytest.raises(Unreadable):
            one.client.resume("counter")
        one.client.signal("do", "go")
        assert one.client.attach("do").result(5) == ["none", "none"]
        assert len(letters(one, "counter")) == 1, "it is kept for it"
    store._invocations[rows["counter"].n] = rows["counter"]._replace(outcome=good)
    with life(memory_world, *desk.all) as one:
        one.client.resume("counter")
        one.client.signal("counter", "word", "end")
        assert one.client.attach("counter").result(5) == ["none"]


def test_one_that_cannot_be_read_is_not_read_again_and_again(memory_world, desk, monkeypatch):
    """Once its own: more were ready than a line of numbers holds, and it was among them for ever."""
    with life(memory_world, *desk.all, limits=Limits(waiting=0)) as one:
        for number in range(3):
            one.client.start(desk.counter, id=f"counter-{number}")
        wait_for(lambda: all(status(one.client, f"counter-{number}") == "suspended" for number in range(3)))
    rows = memory_world.store()._invocations
    for n, row in rows.items():
        rows[n] = row._replace(status=0, outcome=b"" if row.id == "counter-0" else row.outcome)
    looks = []
    fill = Admission.fill
    monkeypatch.setattr(Admission, "fill", lambda self: (looks.append(1), fill(self)))
    with life(memory_world, *desk.all, limits=Limits(backlog=1)) as one:
        for number in (1, 2):
            one.client.signal(f"counter-{number}", "word", "end")
            assert one.client.attach(f"counter-{number}").result(5) == []
    assert len(looks) < 20


def test_a_start_whose_key_cannot_be_looked_up_is_refused_and_its_id_is_free(world, desk):
    with life(world, *desk.all) as one:
        one.store.broken["holder", "Box/k"] = DAMAGE
        with pytest.raises(StoreCorrupt, match="page 7"):
            one.client.start(desk.do, "none", key="k", id="do")
        with pytest.raises(UnknownInvocation):
            one.client.attach("do").result(1)
        with pytest.raises(UnknownInvocation):
            one.client.attach("do").status()
        one.store.broken.clear()
        handle = one.client.start(desk.do, "none", key="k", id="do")
        handle.signal("go")
        assert handle.result(5) == ["none", "none"]


def test_who_waits_for_one_whose_end_cannot_be_read_is_told_so(world, desk):
    async def waits(ctx: Context) -> str:
        await ctx.receive("go")
        try:
            return await ctx.attach("ear", str)
        except InvocationFailed as error:
            return error.error_type

    with life(world, waits, *desk.all) as one:
        handle = one.client.start(desk.ear, id="ear")
        handle.signal("word", "on")
        handle.result(5)
        waiting = one.client.start(waits)
        one.store.broken["find", "ear"] = DAMAGE
        waiting.signal("go")
        assert "page 7 is damaged" in paused(waiting)
        one.store.broken.clear()
        waiting.resume()
        assert waiting.result(5) == "on"
