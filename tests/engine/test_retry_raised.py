"""Retry of a handler that itself raised: what it had done since its last wait is not done again, what follows the point
where it raised is (G4)."""

import pytest

from holdfast import Context, InvocationFailed, Object, ObjectContext, TerminalError, WrongStatus
from tests.engine.world import wait_for


def raising(before, *, meanwhile=None):
    """An object's handler that raises by itself until it is mended; `meanwhile` is written on its way out."""
    group, broken = Object("Book"), [True]

    @group.handler
    async def sent(ctx: ObjectContext, word: str) -> None:
        ctx.append("sent", word)

    @group.handler
    async def work(ctx: ObjectContext) -> str:
        if before:
            await ctx.run(abs, 1)
        ctx.send(sent, "before", key="other")
        ctx.append("lines", "before")
        ctx.signal("ear", "word", "before")
        try:
            if broken:
                raise ValueError("a bug")
        finally:
            if broken and meanwhile:
                ctx.append("lines", meanwhile)
        ctx.send(sent, "after", key="other")
        ctx.append("lines", "after")
        ctx.signal("ear", "word", "after")
        return "done"

    async def ear(ctx: Context) -> list[str]:
        return [await ctx.receive("word", str) for _ in range(2)]

    return group, work, ear, broken.clear


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("before", [True, False])
def test_what_follows_the_point_where_the_handler_itself_raised_is_done_and_what_came_before_is_not_done_again(
    world, before, dies
):
    group, work, ear, mend = raising(before)
    with world.life(group, ear) as client:
        client.start(ear, id="ear")
        with pytest.raises(InvocationFailed, match="a bug"):
            client.start(work, key="k", id="x").result(5)
        wait_for(lambda: client.list(target="Book/sent", status="done"))
    mend()
    with world.life(group, ear) as client:
        client.retry("x")
        if not dies:
            assert client.attach("x").result(5) == "done"
    with world.holdfast(group, ear) as client:
        assert client.attach("x").result(5) == "done"
        assert client.attach("ear").result(5) == ["before", "after"]
        wait_for(lambda: len(client.list(target="Book/sent", status="done")) == 2)
        assert client.state("Book", "k") == {"lines": ["before", "after"]}
        assert client.state("Book", "other") == {"sent": ["before", "after"]}


def test_code_that_does_other_things_before_that_point_is_refused_and_nothing_is_changed(world):
    group, work, ear, mend = raising(before=True, meanwhile="undo")
    with world.holdfast(group, ear) as client:
        client.start(ear, id="ear")
        handle = client.start(work, key="k")
        with pytest.raises(InvocationFailed, match="a bug"):
            handle.result(5)
        mend()
        with pytest.raises(WrongStatus, match="had sent or written other things"):
            handle.retry()
        assert handle.status().status == "failed"
        assert client.state("Book", "k") == {"lines": ["before", "undo"]}


def test_it_may_raise_by_itself_again_and_again(world):
    group, work, ear, mend = raising(before=True)
    with world.holdfast(group, ear) as client:
        client.start(ear, id="ear")
        handle = client.start(work, key="k")
        for _ in range(3):
            with pytest.raises(InvocationFailed, match="a bug"):
                handle.result(5)
            handle.retry()
        with pytest.raises(InvocationFailed, match="a bug"):
            handle.result(5)
        mend()
        handle.retry()
        assert handle.result(5) == "done"
        assert client.attach("ear").result(5) == ["before", "after"]
        assert client.state("Book", "k") == {"lines": ["before", "after"]}


def test_what_it_read_before_it_raised_is_as_it_was(world):
    group, broken = Object("Book"), [True]

    @group.handler
    async def count(ctx: ObjectContext) -> int:
        seen = ctx.get("count", int, 0)
        ctx.set("count", seen + 1)
        if broken:
            raise ValueError("a bug")
        return seen

    with world.holdfast(group) as client:
        handle = client.start(count, key="k")
        with pytest.raises(InvocationFailed, match="a bug"):
            handle.result(5)
    broken.clear()
    with world.holdfast(group) as client:
        client.call(count, key="k", timeout=5)  # it has moved on
        client.retry(handle.id)
        assert client.attach(handle.id).result(5) == 0
        assert client.state("Book", "k") == {"count": 2}


def test_a_list_that_it_emptied_before_it_failed_is_there_for_its_retry(world):
    group, broken = Object("Book"), [True]

    @group.handler
    async def fill(ctx: ObjectContext) -> None:
        for number in range(3):
            ctx.append("lines", number)

    @group.handler
    async def empty(ctx: ObjectContext) -> list[int]:
        lines = ctx.items("lines", int)
        ctx.clear("lines")
        await ctx.run(abs, 1)
        if broken:
            raise ValueError("a bug")
        return lines

    with world.holdfast(group) as client:
        client.call(fill, key="k", timeout=5)
        handle = client.start(empty, key="k")
        with pytest.raises(InvocationFailed, match="a bug"):
            handle.result(5)
        broken.clear()
        handle.retry()
        assert handle.result(5) == [0, 1, 2]
        assert client.state("Book", "k") == {}


@pytest.mark.parametrize("dies", [False, True])
def test_the_handler_knows_which_attempt_it_is_behind_the_point_where_it_was_opened_again(world, dies):
    broken, told = [True], []

    def pay() -> str:
        if broken:
            raise TerminalError("no credit")
        return "paid"

    async def work(ctx: Context) -> list[int]:
        before = ctx.attempt
        await ctx.run(abs, 1)
        middle = ctx.attempt
        await ctx.run(pay)
        told.append([before, middle, ctx.attempt])
        await ctx.receive("go")  # replayed behind it once more
        return [before, middle, ctx.attempt]

    with world.life(work) as client:
        handle = client.start(work, id="x")
        for _ in range(2):
            with pytest.raises(TerminalError, match="no credit"):
                handle.result(5)
            handle.retry()
        with pytest.raises(TerminalError, match="no credit"):
            handle.result(5)
        broken.clear()
        handle.retry()
        wait_for(lambda: told)
        if not dies:
            handle.signal("go")
            assert handle.result(5) == [1, 1, 4]
    with world.holdfast(work) as client:
        if dies:
            client.signal("x", "go")
        assert client.attach("x").result(5) == [1, 1, 4]
    assert all(seen == [1, 1, 4] for seen in told)
