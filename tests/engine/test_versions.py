"""Deliberate changes of code: ctx.version tells old runs from new ones; each start keeps the build it was made by."""

import asyncio

import pytest

from holdfast import Context, Holdfast, Limits, MemoryStore, Service
from tests.engine.family import child_of
from tests.engine.world import engine_of, open_promise, paused, wait_for


def code(before: bool, *, latest: int | None = None, name: str = "fee"):
    """A handler at three ages: without the change, with it, with a further one."""

    async def h(ctx: Context) -> list[str]:
        path = [await ctx.run(str, "first", returns=str)]
        if before:
            await ctx.promise("before")
        if latest is not None and (version := ctx.version(name, latest)):
            path.append(await ctx.run(str, f"change {version}", returns=str))
        path.append(await ctx.run(str, "second", name="second", returns=str))
        if not before:
            await ctx.promise("after")
        if latest is not None:
            path.append(f"again {ctx.version(name, latest)}")
        return path

    return h


def test_one_that_comes_to_the_change_for_the_first_time_is_on_the_new_side(world, weather):
    h = code(False, latest=1)
    with world.holdfast(h, **weather) as client:
        handle = client.start(h)
        client.resolve(open_promise(client))
        assert handle.result(5) == ["first", "change 1", "second", "again 1"]


def test_one_that_had_passed_the_change_is_on_the_old_side_for_ever(world, weather):
    with world.life(code(False)) as client:
        client.start("h", id="x")
        open_promise(client)
    for latest in (1, 2):
        with world.life(code(False, latest=latest), **weather) as client:
            client.signal("x", "wake up")
            wait_for(lambda: client.attach("x").status().status == "suspended")
    with world.holdfast(code(False, latest=2), **weather) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(5) == ["first", "second", "again 0"]


def test_one_that_waits_before_the_change_comes_to_it_as_a_new_one(world, weather):
    with world.life(code(True)) as client:
        client.start("h", id="x")
        open_promise(client)
    with world.holdfast(code(True, latest=1), **weather) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(5) == ["first", "change 1", "second", "again 1"]


def test_a_further_change_keeps_those_of_the_first_apart(world, weather):
    with world.life(code(False, latest=1)) as client:
        client.start("h", id="first")
        open_promise(client)
    with world.holdfast(code(False, latest=2), **weather) as client:
        client.start("h", id="second")
        for row in wait_for(lambda: rows if len(rows := engine_of(client).store.open_promises(9)) == 2 else None):
            client.resolve(row.id)
        assert client.attach("first").result(5) == ["first", "change 1", "second", "again 1"]
        assert client.attach("second").result(5) == ["first", "change 2", "second", "again 2"]


def test_without_a_version_the_same_change_is_a_mismatch(world):
    async def changed(ctx: Context) -> list[str]:
        await ctx.run(str, "first", returns=str)
        await ctx.run(str, "inserted", returns=str)
        await ctx.run(str, "second", name="second", returns=str)
        return []

    changed.__name__ = "h"
    with world.life(code(False)) as client:
        client.start("h", id="x")
        open_promise(client)
    with world.holdfast(changed) as client:
        client.signal("x", "wake up")
        reason = paused(client.attach("x"))
        assert "[HF303]" in reason
        assert "'second#1'" in reason


def test_a_version_that_was_marked_survives_a_death_before_the_next_wait_ends(world, weather):
    seen = []

    def at(latest):
        async def h(ctx: Context) -> int:
            await ctx.receive("go")
            seen.append(ctx.version("change", latest))
            await ctx.promise("hold")
            return ctx.version("change", latest)

        return h

    with world.life(at(1), **weather) as client:
        client.start("h", id="x")
        client.signal("x", "go")
        open_promise(client)
    with world.holdfast(at(7), **weather) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(5) == 1
    assert set(seen) == {1}


def test_changes_have_names_of_their_own_and_are_the_same_in_every_task(world):
    async def h(ctx: Context) -> list[int]:
        async def ask(name: str, latest: int) -> int:
            await asyncio.sleep(0)
            return ctx.version(name, latest)

        return await asyncio.gather(ask("a", 3), ask("b", 5), ask("a", 4))

    with world.holdfast(h) as client:
        assert client.call(h, timeout=5) == [3, 5, 3]


def test_one_that_was_queued_or_signalled_before_it_began_is_on_the_new_side(world):
    async def h(ctx: Context) -> list[object]:
        return [await ctx.receive("word", str), ctx.version("change")]

    with world.life(h) as client:
        client.start(h, id="x", delay=0.05)
        client.signal("x", "word", "hi")
    with world.holdfast(h) as client:
        assert client.attach("x").result(5) == ["hi", 1]


def test_a_paused_one_that_goes_on_under_new_code_is_on_the_new_side_of_what_it_has_not_passed(world):
    def at(changed):
        async def h(ctx: Context) -> str:
            await ctx.receive("go")
            if changed and ctx.version("change"):
                return "new"
            return await ctx.run(str, "old", returns=str)

        return h

    with world.life(at(False)) as client:
        client.start("h", id="x")
        client.pause("x")
        client.signal("x", "go")
    with world.holdfast(at(True)) as client:
        client.resume("x")
        assert client.attach("x").result(5) == "new"


def test_every_start_keeps_the_build_it_was_made_by(world):
    group = Service("Group")

    @group.handler
    async def child(ctx: Context) -> str:
        return await ctx.promise("go", type=str)

    @group.handler
    async def top(ctx: Context) -> str:
        return await ctx.call(child)

    with world.life(group, build="one") as client:
        client.start(top, id="x")
        open_promise(client)
        assert client.info().build == "one"
    with world.holdfast(group, build="two") as client:
        late = client.start(top, id="y")
        client.resolve(_of(client, "x"), "hi")
        assert client.attach("x").result(5) == "hi"
        client.resolve(_of(client, "y"), "hi")
        late.result(5)
        assert {view.id: view.build for view in client.list() if view.target == "Group/top"} == {"x": "one", "y": "two"}
        assert client.attach(child_of(client, "x")).status().build == "one"
        assert client.attach(child_of(client, "y")).status().build == "two"
        again = client.attach("y").restart()
        assert again.status().build == "two"


def _of(client, id):
    child = child_of(client, id)
    n = engine_of(client).store.find(child).n
    return wait_for(lambda: [row.id for row in engine_of(client).store.open_promises(9) if row.n == n])[0]


def test_the_build_is_a_digest_of_the_handlers_files_if_none_is_given(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    builds = []
    for text in ("1", "1", "2"):
        module = tmp_path / "agent_module.py"
        module.write_text(f"async def agent(ctx):\n    return {text}\n")
        scope: dict = {"__name__": "agent_module"}
        exec(compile(module.read_text(), str(module), "exec"), scope)  # code as a user would write it
        hf = Holdfast(MemoryStore(), limits=Limits())
        hf.handler(scope["agent"])
        with hf as client:
            builds.append(client.info().build)
    assert builds[0] == builds[1] != builds[2]
    assert all(len(build) == 12 for build in builds)


@pytest.mark.parametrize("waiting", [0, 99])
def test_a_change_within_a_loop_is_one_change(world, waiting):
    """Its side is chosen once, at the first pass."""

    def at(changed):
        async def h(ctx: Context) -> list[str]:
            path = []
            for _ in range(4):
                await ctx.receive("go")
                path.append("new" if changed and ctx.version("loop") else "old")
            return path

        return h

    limits = Limits(waiting=waiting)
    with world.life(at(False), limits=limits) as client:
        client.start("h", id="x")
        client.signal("x", "go")
        client.signal("x", "go")
        wait_for(lambda: [view.state for view in client.attach("x").journal()].count("done") == 2)
    with world.holdfast(at(True), limits=limits) as client:
        client.start("h", id="y")
        for id in ("x", "x", "y", "y", "y", "y"):
            client.signal(id, "go")
        assert client.attach("x").result(5) == ["old"] * 4
        assert client.attach("y").result(5) == ["new"] * 4
