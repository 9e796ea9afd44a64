"""Restart and fork: a new invocation with the beginning of another's journal. Nothing of it is paid, sent or written
again; a fork has one result edited."""

import asyncio
import contextlib
from dataclasses import dataclass

import msgspec
import pytest

from holdfast import (
    BadArguments,
    Context,
    IdConflict,
    InvocationFailed,
    Limits,
    Object,
    ObjectContext,
    Retry,
    Service,
    StepFailed,
    StoreFailed,
    TerminalError,
    UnknownHandler,
    UnknownInvocation,
    Workflow,
    WrongStatus,
    step,
)
from tests.engine.lives import Flags, life
from tests.engine.world import FakeClock, open_promise, tick, wait_for

ONCE = Retry(max_attempts=1)


def ids(handle):
    return [view.id for view in handle.journal() if view.state != "waiting"]


async def three(flags, ctx):
    return [await ctx.run(flags.note, name) for name in ("a", "b", "c")]


@pytest.mark.parametrize("from_step", [None, "note#1", "note#2", "note#3"])
def test_a_restart_has_the_journal_before_the_step_and_runs_the_rest(world, from_step):
    flags = Flags()

    async def h(ctx: Context) -> list[str]:
        return await three(flags, ctx)

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        assert handle.result(5) == ["a", "b", "c"]
        copy = handle.restart(from_step=from_step, new_id="y")
        one.die()
    with life(world, h) as one:
        copy = one.client.attach("y")
        assert copy.result(5) == ["a", "b", "c"]
        assert ids(copy) == ids(one.client.attach("x")) == ["note#1", "note#2", "note#3"]
        view = copy.status()
        assert view.origin == f"x from {from_step or 'the start'}"
        assert (view.input, view.parent) == ({}, None)
        assert one.client.attach("x").status().origin is None
    kept = 0 if from_step is None else int(from_step[-1]) - 1
    ran = [id for invocation, id in flags.runs if invocation == "y"]
    assert ran == ["note#1", "note#2", "note#3"][kept:]


def test_the_result_of_a_step_is_edited_and_the_rest_follows_from_it(world):
    flags = Flags()

    async def h(ctx: Context) -> str:
        first = await ctx.run(flags.note, "a")
        return first + await ctx.run(flags.note, f"after {first}")

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        handle.result(5)
        fork = handle.fork("note#1", "edited", new_id="y")
        one.die()
    with life(world, h) as one:
        fork = one.client.attach("y")
        assert fork.result(5) == "editedafter edited"
        assert fork.status().origin == "x from note#1, edited"
        assert [view.output for view in fork.journal()] == ["edited", "after edited"]
        assert one.client.attach("x").result(5) == "aafter a"
    assert flags.ran[:3] == ["a", "after a", "after edited"]
    assert flags.runs["y", "note#1"] == 0


@dataclass
class Quote:
    price: int
    tags: list[str]


def quote() -> Quote:
    return Quote(1, ["dear"])


def fails() -> Quote:
    raise ConnectionError("down")


class Kinds:
    """A handler that waits for every kind of thing, and gives back what came."""

    def __init__(self):
        service = self.service = Service("S")

        @service.handler
        async def child(ctx: Context, x: int) -> Quote:
            if x < 0:
                raise TerminalError("negative")
            return Quote(x, [])

        @service.handler
        async def h(ctx: Context) -> list:
            came = [
                await ctx.run(quote),
                await self.safe(ctx.run(fails, retry=ONCE)),
                await ctx.call(child, 2),
                await self.safe(ctx.call(child, -1)),
                await ctx.promise("hook", type=Quote),
                await self.safe(ctx.promise("other", type=Quote)),
                await ctx.ask("Well?", bool),
                await ctx.receive("go", Quote),
            ]
            return msgspec.to_builtins(came)

        self.h = h

    @staticmethod
    async def safe(wait):
        try:
            return await wait
        except (StepFailed, TerminalError) as error:
            return type(error).__name__

    def run(self, client):
        handle = client.start(self.h, id="x")
        client.resolve(open_promise(client), Quote(5, []))
        wait_for(lambda: "hook#1" in ids(handle))
        client.reject(open_promise(client), "no")
        (ask,) = wait_for(client.asks)
        client.answer(ask.id, True)
        handle.signal("go", Quote(8, []))
        return handle


WAS = [
    {"price": 1, "tags": ["dear"]}, "StepFailed", {"price": 2, "tags": []}, "TerminalError", {"price": 5, "tags": []},
    "TerminalError", True, {"price": 8, "tags": []},
]  # fmt: skip
EDITED = {"price": 99, "tags": ["edited"]}
STEPS = ["quote#1", "fails#1", "child#1", "child#2", "hook#1", "other#1", "ask#1"]


@pytest.mark.parametrize("place", range(len(STEPS)), ids=STEPS)
def test_results_of_every_kind_are_edited(world, place):
    kinds = Kinds()
    with life(world, kinds.service) as one:
        handle = kinds.run(one.client)
        assert handle.result(5) == WAS
        edited = False if STEPS[place] == "ask#1" else EDITED
        fork = handle.fork(STEPS[place], edited, new_id="y")
        assert ids(fork)[: place + 1] == STEPS[: place + 1]
        wanted = [*WAS[:place], edited]
        for view in fork.journal()[:place]:
            assert view.state in {"done", "failed"}
        one.die()
    with life(world, kinds.service) as one:
        fork = one.client.attach("y")
        wait_for(lambda: one.client.attach("y").status().status in {"suspended", "done"})
        assert fork.status().reason is None
        finish(one, fork)
        assert fork.result(5)[: place + 1] == wanted
        assert one.client.attach("x").result(5) is not None


def finish(one, handle):
    """Gives it all it may still wait for."""
    handle.signal("go", Quote(8, []))
    while handle.status().status not in {"done", "failed"}:
        for row in one.engine.store.open_promises(9):
            local = [view.id for view in handle.journal() if view.state == "waiting"]
            if local:
                one.client.resolve(row.id, True if local == ["ask#1"] else Quote(5, []))


@pytest.mark.parametrize(
    "step_id, wrong",
    [("quote#1", {"price": "dear"}), ("child#1", [1]), ("hook#1", "x"), ("ask#1", "yes"), ("fails#1", None)],
)
def test_a_result_that_does_not_fit_is_refused_and_nothing_is_started(world, step_id, wrong):
    kinds = Kinds()
    with life(world, kinds.service) as one:
        handle = kinds.run(one.client)
        handle.result(5)
        with pytest.raises(BadArguments, match=f"the result does not fit '{step_id}'"):
            handle.fork(step_id, wrong, new_id="y")
        with pytest.raises(UnknownInvocation):
            one.client.attach("y")


@pytest.mark.parametrize("label", ["signal go", "cancel", "get n#1", "timer#1"])
def test_what_has_no_result_cannot_be_edited(world, label):
    desk = Object("Desk")

    @desk.handler
    async def h(ctx: Context) -> None:
        ctx.get("n", int)
        await asyncio.sleep(0.01)
        await ctx.receive("go")
        await ctx.promise("never")

    with life(world, desk) as one:
        handle = one.client.start(h, key="k")
        handle.signal("go", 1)
        open_promise(one.client)
        handle.cancel()
        wait_for(lambda: handle.status().status == "cancelled")
        with pytest.raises(BadArguments, match="has no result to edit"):
            handle.fork(label, 1)


def test_an_unknown_step_names_those_there_are(world):
    flags = Flags()

    async def h(ctx: Context) -> list[str]:
        return await three(flags, ctx)

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        handle.result(5)
        for attempt in (lambda: handle.restart(from_step="note#4"), lambda: handle.fork("note#4", "x")):
            with pytest.raises(UnknownInvocation, match=r"no recorded step 'note#4'; it has note#1, note#2, note#3"):
                attempt()
        for attempt in (lambda: one.client.restart("nobody"), lambda: one.client.fork("nobody", "note#1", 1)):
            with pytest.raises(UnknownInvocation, match="no invocation has the id 'nobody'"):
                attempt()
        with pytest.raises(IdConflict):
            handle.restart(new_id="x")
        with pytest.raises(BadArguments):
            handle.restart(new_id="")


def test_one_that_runs_or_has_failed_is_restarted_too(world):
    flags = Flags()

    async def h(ctx: Context) -> str:
        first = await ctx.run(flags.note, "a")
        second = await ctx.run(flags.body, "long")
        return first + second

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        wait_for(lambda: "long" in flags.ran)
        copy = handle.fork("note#1", "other", new_id="y")
        wait_for(lambda: flags.runs["y", "body#1"])
        handle.kill()
        again = handle.restart(new_id="z")
        flags.gate("long").set()
        assert copy.result(5) == "otherlong"
        assert again.result(5) == "along"


def test_one_that_has_not_begun_is_restarted_without_its_delay(world):
    flags = Flags()

    async def h(ctx: Context) -> str:
        return await ctx.run(flags.note, "a")

    with life(world, h) as one:
        handle = one.client.start(h, id="x", delay=3600)
        assert handle.restart(new_id="y").result(5) == "a"
        assert handle.status().status == "queued"


class Sends:
    """Sends, signals and writes before and after its steps."""

    def __init__(self):
        self.flags = flags = Flags()
        desk = self.service = Object("Desk")

        @desk.handler
        async def tell(ctx: Context, text: str) -> None:
            await ctx.run(flags.note, f"told {text}")

        @desk.handler
        async def h(ctx: Context) -> list[str]:
            ctx.send(tell, "at the beginning", key="t0")
            ctx.append("log", "began")
            first = await ctx.run(flags.note, "a")
            ctx.send(tell, "after a", key="t1")
            ctx.append("log", "a")
            second = await ctx.run(flags.note, "b")
            ctx.send(tell, "after b", key="t2")
            ctx.append("log", "b")
            return [first, second, await ctx.run(flags.note, "c")]

        self.h = h


@pytest.mark.parametrize(
    "from_step, again",
    [
        (None, ["at the beginning", "after a", "after b"]),
        ("note#1", ["after a", "after b"]),
        ("note#2", ["after b"]),
        ("note#3", []),
    ],
)
def test_what_was_sent_and_written_before_the_step_is_not_sent_and_written_again(world, from_step, again):
    sends = Sends()
    with life(world, sends.service) as one:
        handle = one.client.start(sends.h, key="k", id="x")
        handle.result(5)
        wait_for(lambda: sum(name.startswith("told") for name in sends.flags.ran) == 3)
        copy = handle.restart(from_step=from_step, new_id="y")
        assert copy.result(5) == ["a", "b", "c"]
        wait_for(lambda: sum(name.startswith("told") for name in sends.flags.ran) == 3 + len(again))
        log = one.client.state("Desk", "k")["log"]
        assert log == ["began", "a", "b", *["began", "a", "b"][3 - len(again) :]]
    with life(world, sends.service) as one:
        assert one.client.attach("y").status().status == "done"
    assert [name.removeprefix("told ") for name in sends.flags.ran if name.startswith("told")][3:] == again


def test_a_death_right_after_the_restart_sends_nothing_twice(world):
    for keeps_last in (False, True):
        for commit in range(1, 6):
            sends = Sends()
            id = f"{keeps_last} {commit}"
            with life(world, sends.service) as one:
                handle = one.client.start(sends.h, key=id, id=f"x {id}")
                handle.result(5)
                wait_for(lambda: sum(name.startswith("told") for name in sends.flags.ran) == 3)  # noqa: B023
                one.store.dies_at, one.store.keeps_last = one.store.commits + commit, keeps_last
                with contextlib.suppress(StoreFailed):
                    handle.restart(from_step="note#2", new_id=f"y {id}").result(5)
            with life(world, sends.service) as one:
                if commit == 1 and not keeps_last:
                    with pytest.raises(UnknownInvocation):
                        one.client.attach(f"y {id}")
                    continue
                assert one.client.attach(f"y {id}").result(5) == ["a", "b", "c"]
                wait_for(lambda: sum(name.startswith("told") for name in sends.flags.ran) >= 4)  # noqa: B023
                assert one.client.state("Desk", id)["log"] == ["began", "a", "b", "b"]
            told = [name for name in sends.flags.ran if name.startswith("told")]
            assert set(told[3:]) == {"told after b"}


def test_large_values_are_copied_and_outlive_the_original(world):
    flags = Flags()
    text = "a long story " * 5_000

    async def tell() -> list[dict[str, str]]:
        return [{"role": "user", "content": text + str(n)} for n in range(3)]

    async def h(ctx: Context, story: str) -> int:
        messages = await ctx.run(tell)
        more = await ctx.run(flags.note, "b")
        await ctx.receive("go")
        return len(messages[2]["content"]) + len(story) + len(more)

    with life(world, h) as one:
        handle = one.client.start(h, text, id="x")
        wait_for(lambda: len(ids(handle)) == 2)
        fork = handle.fork("note#1", "edited", new_id="y")
        handle.restart(new_id="z")
        wait_for(lambda: fork.status().status == "suspended")
        handle.kill()
        handle.purge()
    with life(world, h, limits=Limits(waiting=0)) as one:
        for id, more in (("y", 6), ("z", 1)):
            handle = one.client.attach(id)
            wait_for(lambda: handle.status().status == "suspended")  # noqa: B023
            assert handle.status().input == {"story": text}
            assert handle.inputs("note#1") == ["b"]
            handle.signal("go")
            assert handle.result(5) == 2 * len(text) + 1 + more


def test_ids_among_the_arguments_do_not_keep_a_copy_from_running(world):
    """A promise's id is mailed, and a log is kept under the invocation's own id: both are others in the copy."""
    mailed = []

    async def mail(to: str, invocation: str) -> str:
        mailed.append(to)
        return to

    async def h(ctx: Context) -> list[str]:
        promise = ctx.promise("answer", type=str)
        sent = await ctx.run(mail, promise.id, ctx.id)
        answer = await promise
        return [answer, await ctx.run(mail, answer, ctx.id), str(sent == promise.id)]

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        one.client.resolve(open_promise(one.client), "yes")
        assert handle.result(5) == ["yes", "yes", "True"]
        fork = handle.fork("answer#1", "no", new_id="y")
        copy = handle.restart(from_step="answer#1", new_id="z")
        assert fork.result(5) == ["no", "no", "False"]
        (row,) = wait_for(lambda: one.engine.store.open_promises(9))
        assert row.id not in mailed
    with life(world, h, limits=Limits(waiting=0)) as one:
        copy = one.client.attach("z")
        one.client.resolve(row.id, "late")
        assert copy.result(5) == ["late", "late", "False"]


def test_a_journal_with_promises_of_the_original_is_shown(world):
    kinds = Kinds()
    with life(world, kinds.service) as one:
        handle = kinds.run(one.client)
        handle.result(5)
        copy = handle.restart(from_step="signal go", new_id="y")
        shown = {view.id: (view.kind, view.state) for view in copy.journal()}
        assert shown["ask#1"] == ("promise", "done")
        assert shown["other#1"] == ("promise", "failed")
        assert shown["child#1"] == ("call", "done")
        events = list(one.client.attach("x").watch())
        assert [event.data["id"] for event in events if event.kind != "status"][: len(STEPS)] == STEPS


def test_a_timer_of_the_prefix_goes_on(world):
    clock, flags = FakeClock(), Flags()

    async def h(ctx: Context) -> str:
        async def late() -> str:
            await asyncio.sleep(60)
            return await ctx.run(flags.note, "late")

        task = asyncio.ensure_future(late())
        first = await ctx.run(flags.note, "a")
        second = await ctx.run(flags.note, "b")
        return first + second + await task

    with life(world, h, clock=clock) as one:
        handle = one.client.start(h, id="x")
        wait_for(lambda: len(flags.ran) == 2)
        clock.wind(30)
        copy = handle.restart(from_step="note#2", new_id="y")
        wait_for(lambda: copy.status().status == "suspended")
        assert copy.status().wake_at == handle.status().wake_at
        clock.wind(31)
        tick(one.client)
        assert copy.result(5) == handle.result(5) == "ablate"


def test_calls_in_flight_are_made_anew_by_the_copy(world):
    flags = Flags()
    service = Service("S")

    @service.handler
    async def child(ctx: Context) -> str:
        return await ctx.run(flags.body, "slow")

    @service.handler
    async def h(ctx: Context) -> list[str]:
        call = ctx.call(child)
        return [await ctx.run(flags.note, "a"), await ctx.run(flags.note, "b"), await call]

    with life(world, service) as one:
        handle = one.client.start(h, id="x")
        wait_for(lambda: len(flags.ran) == 3)
        copy = handle.restart(from_step="note#2", new_id="y")
        wait_for(lambda: len(one.client.list(target="S/child")) == 2)
        assert {view.parent for view in one.client.list(target="S/child")} == {"x", "y"}
        flags.gate("slow").set()
        assert copy.result(5) == handle.result(5) == ["a", "b", "slow"]
    assert flags.ran.count("a") == 1


def test_chance_and_time_are_those_of_the_original_up_to_the_step(world):
    clock = FakeClock()
    seen = []

    async def look(number: float, at: str) -> str:
        seen.append((number, at))
        return "x"

    async def h(ctx: Context) -> None:
        await ctx.run(look, ctx.random.random(), ctx.now().isoformat())
        await ctx.run(look, ctx.random.random(), ctx.now().isoformat())

    with life(world, h, clock=clock) as one:
        handle = one.client.start(h, id="x")
        handle.result(5)
        clock.wind(60)
        handle.restart(from_step="look#2", new_id="y").result(5)
        handle.restart(new_id="z").result(5)
    assert seen[2] == seen[1]
    assert seen[3][0] == seen[0][0]
    assert seen[3][1] > seen[0][1], "a restart from the start is a new run at a new time"


def test_code_that_does_not_fit_is_refused_at_once(world):
    flags = Flags()

    async def h(ctx: Context) -> list[str]:
        return await three(flags, ctx)

    async def renamed(ctx: Context) -> list[str]:
        return [await ctx.run(flags.note, name, name="other") for name in ("a", "b", "c")]

    renamed.__name__ = "h"
    with life(world, h) as one:
        one.client.start(h, id="x").result(5)
    with life(world, renamed) as one:
        handle = one.client.attach("x")
        for attempt in (lambda: handle.restart(from_step="note#2"), lambda: handle.fork("note#2", "z")):
            with pytest.raises(WrongStatus, match=r"cannot be run again from there: the journal's entry 0 completes"):
                attempt()
        assert handle.restart(new_id="y").result(5) == ["a", "b", "c"]
        assert len(one.client.list()) == 2
    with life(world) as one, pytest.raises(UnknownHandler):
        one.client.restart("x")


def test_code_that_is_mended_after_the_step_takes_over_there(world):
    flags = Flags()

    def version(wrong):
        async def h(ctx: Context) -> str:
            first = await ctx.run(flags.note, "a")
            if wrong:
                await ctx.run(flags.note, "a wrong turn")
            raise_or_not = await ctx.run(flags.note, "b")
            return first + raise_or_not

        return h

    old, new = version(wrong=True), version(wrong=False)
    with life(world, old) as one:
        one.client.start(old, id="x").result(5)
    with life(world, new) as one:
        assert one.client.restart("x", from_step="note#2", new_id="y").result(5) == "ab"
    assert flags.ran == ["a", "a wrong turn", "b", "b"]


def test_a_main_handler_of_a_workflow_is_not_run_twice(world):
    flow = Workflow("Flow")

    @flow.main
    async def run(ctx: Context) -> str:
        await ctx.run(abs, 1)
        return "done"

    with life(world, flow) as one:
        handle = one.client.start(run, key="k")
        handle.result(5)
        for attempt in (handle.restart, lambda: handle.fork("abs#1", 2)):
            with pytest.raises(BadArguments, match="runs once per key"):
                attempt()


def test_a_copy_of_a_copy(world):
    flags = Flags()

    async def h(ctx: Context) -> list[str]:
        return await three(flags, ctx)

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        handle.result(5)
        second = handle.fork("note#1", "A", new_id="y")
        second.result(5)
        third = second.fork("note#2", "B", new_id="z")
        assert third.result(5) == ["A", "B", "c"]
        assert third.status().origin == "y from note#2, edited"


def test_a_copy_is_a_step_of_its_own_to_whoever_is_paid(world):
    keys = []

    async def pay() -> str:
        keys.append(step().idempotency_key)
        return "paid"

    async def h(ctx: Context) -> str:
        await ctx.run(abs, 1)
        return await ctx.run(pay)

    with life(world, h) as one:
        handle = one.client.start(h)
        handle.result(5)
        handle.restart(from_step="pay#1").result(5)
    assert len(set(keys)) == 2


def test_a_step_that_had_failed_is_the_failing_point_of_the_copy_too(world):
    flags = Flags()
    broken = [True]

    async def pay() -> str:
        if broken:
            raise ConnectionError("down")
        return "paid"

    async def h(ctx: Context) -> str:
        return await ctx.run(flags.note, "a") + await ctx.run(pay, retry=ONCE)

    with life(world, h) as one:
        handle = one.client.start(h, id="x")
        with pytest.raises(InvocationFailed):
            handle.result(5)
        copy = handle.restart(from_step="pay#1", new_id="y")
        with pytest.raises(InvocationFailed):
            copy.result(5)
        broken.clear()
        copy.retry()
        assert copy.result(5) == "apaid"
        assert handle.fork("pay#1", "by hand").result(5) == "aby hand"
    assert flags.ran == ["a"]


def sender(id):
    """A service whose handler sends, signals and attaches; with an id of the program's, or one that Holdfast makes."""
    service = Service("S")

    @service.handler
    async def child(ctx: Context) -> str:
        return await ctx.receive("go", str)

    @service.handler
    async def h(ctx: Context) -> str:
        sent = ctx.send(child, id=id)
        await ctx.run(abs, 1)
        ctx.signal(sent, "go", "on")
        return await ctx.attach(sent, str)

    return service, h


def test_a_copy_reaches_what_the_original_has_sent_by_an_id_of_the_programs(world):
    service, h = sender("child")
    with life(world, service) as one:
        handle = one.client.start(h)
        assert handle.result(5) == "on"
        assert handle.restart(from_step="abs#1").result(5) == "on"


def test_a_copy_does_not_steer_what_the_original_has_sent_and_is_told_why(world):
    """An id that Holdfast makes is the invocation's own (docs/concepts.md). Were it the original's, every copy and fork
    would steer what the original has sent, also while that still runs."""
    service, h = sender(None)

    def others(client):
        return {view.id: (view.status, view.updated) for view in client.list() if view.id != "second"}

    with life(world, service) as one:
        handle = one.client.start(h, id="first")
        assert handle.result(5) == "on"
        before = others(one.client)
        handle.restart(from_step="abs#1", new_id="second")
        with pytest.raises(InvocationFailed):
            one.client.attach("second").result(5)
        one.die()
    with life(world, service) as one:
        with pytest.raises(InvocationFailed) as told:
            one.client.attach("second").result(5)
        said = str(told.value)
        assert "no invocation has the id 'inv_" in said
        assert "'second' is a copy ('first from abs#1')" in said
        assert "ctx.send(..., id=...)" in said
        assert others(one.client) == before, "what the original has sent is as it was, and nothing was sent anew"


@pytest.mark.parametrize("by", ["a handler", "a person"])
def test_a_list_that_was_emptied_and_filled_anew_is_not_taken_for_the_one_that_was_read(world, by):
    book = Object("Book")

    @book.handler
    async def fill(ctx: ObjectContext, *words: str) -> None:
        for word in words:
            ctx.append("lines", word)

    @book.handler
    async def empty(ctx: ObjectContext) -> None:
        ctx.clear("lines")

    @book.handler
    async def look(ctx: ObjectContext) -> list[str]:
        lines = ctx.items("lines", str)
        await ctx.run(abs, 1)
        return lines

    with world.holdfast(book) as client:
        client.call(fill, "a", "b", key="k", timeout=5)
        handle = client.start(look, key="k")
        assert handle.result(5) == ["a", "b"]
        if by == "a handler":
            client.call(empty, key="k", timeout=5)
        else:
            client.set_state("Book", "k", "lines", None)
        assert client.state("Book", "k") == {}
        assert client.objects("Book") == []
        client.call(fill, "c", "d", key="k", timeout=5)
        with pytest.raises(InvocationFailed, match="are not all there"):
            client.restart(handle.id, from_step="abs#1").result(5)
        assert client.call(look, key="k", timeout=5) == ["c", "d"]
