"""State of an object's key: what a dict and lists would be, the same on replay, one commit with the journal."""

import asyncio
import random
import threading

import pytest

from holdfast import BadArguments, InvocationFailed, Limits, Object, ObjectContext, Unreadable, WrongPlace
from tests.engine.family import status
from tests.engine.world import engine_of, open_promise, wait_for


def test_a_shared_handler_cannot_write(world):
    group = Object("Box")

    @group.handler(shared=True)
    async def tries(ctx: ObjectContext) -> int:
        refused = 0
        for write in (
            lambda: ctx.set("a", 1),
            lambda: ctx.append("a", 1),
            lambda: ctx.clear("a"),
        ):
            try:
                write()
            except WrongPlace:
                refused += 1
        return refused

    with world.holdfast(group) as client:
        assert client.call(tries, key="k", timeout=5) == 3
        assert client.state("Box", "k") == {}


def test_state_is_of_one_key_of_one_object(world):
    first, second = Object("One"), Object("Two")
    for group in (first, second):

        async def put(ctx: ObjectContext, value: str) -> None:
            ctx.set("value", value)

        group.put = group.handler(put)

    with world.holdfast(first, second) as client:
        client.call(first.put, "a", key="x", timeout=5)
        client.call(first.put, "b", key="y", timeout=5)
        client.call(second.put, "c", key="x", timeout=5)
        assert client.state("One", "x") == {"value": "a"}
        assert client.state("One", "y") == {"value": "b"}
        assert client.state("Two", "x") == {"value": "c"}
        assert client.objects("One") == ["x", "y"]


def test_state_and_the_step_that_led_to_it_are_one_commit(world, weather):
    """A death before the record loses both, after it neither: whatever is done again is done to the same state."""
    group, ran = Object("Counter"), []

    @group.handler
    async def slowly(ctx: ObjectContext) -> int:
        for n in range(5):
            ctx.set("total", ctx.get("total", int, 0) + await ctx.run(one, n))
            ctx.append("log", n)
        return ctx.get("total", int)

    async def one(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0.01)
        return 1

    for _ in range(4):
        with world.life(group, **weather) as client:
            client.start(slowly, key="k", id="x")
            threading.Event().wait(0.015)
    with world.holdfast(group, **weather) as client:
        assert client.attach("x").result(5) == 5
        assert client.state("Counter", "k") == {"total": 5, "log": [0, 1, 2, 3, 4]}
    assert set(ran) == set(range(5))


def test_a_failed_handler_has_written_what_it_wrote(world):
    group = Object("Box")

    @group.handler
    async def fails(ctx: ObjectContext) -> None:
        ctx.set("a", 1)
        ctx.append("b", 2)
        raise ValueError("after all")

    with world.holdfast(group) as client:
        with pytest.raises(InvocationFailed):
            client.call(fails, key="k", timeout=5)
        assert client.state("Box", "k") == {"a": 1, "b": [2]}


def test_values_are_typed_and_a_value_that_does_not_fit_says_so(world, weather):
    group = Object("Box")

    @group.handler
    async def put(ctx: ObjectContext) -> None:
        ctx.set("set", {3, 1}, set[int])
        ctx.set("text", "seven")
        ctx.append("list", b"bytes", bytes)

    @group.handler
    async def look(ctx: ObjectContext) -> list[str]:
        assert ctx.get("set", set[int]) == {1, 3}
        assert ctx.items("list", bytes) == [b"bytes"]
        told = []
        for read in (lambda: ctx.get("text", int), lambda: ctx.items("list", int)):
            try:
                read()
            except Unreadable as error:
                told.append(error.what)
        await ctx.promise("go")
        return told

    with world.holdfast(group, **weather) as client:
        client.call(put, key="k", timeout=5)
        handle = client.start(look, key="k")
        client.resolve(open_promise(client))
        assert len(handle.result(5)) == 2


@pytest.mark.parametrize("name", ["", "\n", "x" * 201])
def test_names_that_cannot_be(world, name):
    group = Object("Box")

    @group.handler
    async def tries(ctx: ObjectContext) -> int:
        refused = 0
        for use in (ctx.get, lambda name: ctx.set(name, 1), ctx.items, lambda name: ctx.append(name, 1), ctx.clear):
            try:
                use(name)
            except BadArguments:
                refused += 1
        return refused

    with world.holdfast(group) as client:
        assert client.call(tries, key="k", timeout=5) == 5


def test_a_value_and_a_list_do_not_pass_for_each_other(world, weather):
    group = Object("Box")

    @group.handler
    async def put(ctx: ObjectContext) -> None:
        ctx.set("value", 1)
        ctx.append("list", 1)

    @group.handler
    async def confuse(ctx: ObjectContext) -> list[str]:
        told = []
        for use in (
            lambda: ctx.get("list"),
            lambda: ctx.items("value"),
            lambda: ctx.append("value", 2),
        ):
            try:
                use()
            except BadArguments as error:
                told.append(error.what)
        for name in ("list", "value"):
            ctx.clear(name)
        await ctx.promise("go")
        return told

    with world.life(group, **weather) as client:
        client.call(put, key="k", timeout=5)
        client.start(confuse, key="k", id="x")
        open_promise(client)
    with world.holdfast(group, **weather) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(5) == [
            "state 'list' is a list", "state 'value' is a value, not a list", "state 'value' is a value, not a list",
        ]  # fmt: skip
        assert client.state("Box", "k") == {}


def test_a_list_is_cleared_and_begun_again(world, weather):
    group = Object("Box")

    @group.handler
    async def work(ctx: ObjectContext) -> list[list[int]]:
        seen = []
        for start in (0, 10, 20):
            for n in range(start, start + 3):
                ctx.append("list", n)
            await ctx.promise("go")
            seen.append(ctx.items("list", int))
            ctx.clear("list")
            seen.append(ctx.items("list", int))
        ctx.append("list", 99)
        return seen

    with world.life(group, **weather) as client:
        client.start(work, key="k", id="x")
        client.resolve(open_promise(client))
        open_promise(client)
    for _ in range(2):
        with world.life(group, **weather) as client:
            client.resolve(open_promise(client))
            wait_for(lambda: status(client, "x") == "done" or engine_of(client).store.open_promises(9))
    with world.holdfast(group, **weather) as client:
        assert client.attach("x").result(5) == [[0, 1, 2], [], [10, 11, 12], [], [20, 21, 22], []]
        assert client.state("Box", "k") == {"list": [99]}
        n = engine_of(client).store.items_end("Box", "k", "list")
        assert len(engine_of(client).store.items("Box", "k", "list", 0, n)) == 1, "what was cleared is deleted"


PATHS = {
    "get, clear, append": [("set", 1), "go", ("get",), ("clear",), ("append", 2), ("keys",)],
    "clear a value, append": [("set", 1), "go", ("clear",), ("append", 2), ("keys",), "go", ("append", 3)],
    "set over a list, clear, append": [("append", 1), ("append", 1), "go", ("set", 2), ("clear",), ("append", 3)],
    "set over a list, later clear, append": [("append", 1), "go", ("set", 2), "go", ("clear",), "go", ("append", 3)],
    "clear a list, set, clear, items": [("append", 1), "go", ("clear",), ("set", 2), ("clear",), "go", ("items",)],
    "set, clear, items, append": [("set", 1), ("clear",), ("items",), ("append", 2), "go", ("append", 3), ("items",)],
    "clear twice": [("append", 1), "go", ("clear",), ("clear",), "go", ("append", 2), "go", ("clear",), ("append", 3)],
    "clear twice in a turn": [
        ("append", 1),
        ("clear",),
        ("clear",),
        ("append", 2),
        ("set", 3),
        ("clear",),
        ("append", 4),
    ],
    "clear nothing": [("clear",), ("get",), ("clear",), ("append", 1), "go", ("clear",), ("get",), ("set", 1)],
}


class Model:
    """What a name in the state is, by the words of the reference alone."""

    def __init__(self):
        self.value = None
        self.list = []

    def do(self, what, *args):
        if what == "set":
            self.value, self.list = args[0], []
        elif what == "clear":
            self.value, self.list = None, []
        elif what == "append" and self.value is None:
            self.list.append(args[0])
        elif what == "keys":
            return sorted(self.shown())
        elif what == "get":
            return "a list" if self.list else self.value
        elif what == "items":
            return "a value" if self.value is not None else list(self.list)
        elif what == "append":
            return "a value"
        return None

    def shown(self):
        return {"x": self.value} if self.value is not None else {"x": self.list} if self.list else {}


def apply(ctx, what, *args):
    try:
        if what in {"set", "append"}:
            return getattr(ctx, what)("x", args[0])
        return ctx.keys() if what == "keys" else getattr(ctx, what)("x")
    except BadArguments as error:
        return "a list" if "is a list" in error.what else "a value"


@pytest.mark.parametrize("split", ["one invocation", "an invocation each", "a death at every wait"])
@pytest.mark.parametrize("path", PATHS)
def test_values_and_lists_under_one_name(world, path, split):
    """Every way from one to the other, with what went before durable, in the same turn, or of another invocation."""
    steps = PATHS[path]
    group = Object("Box")

    @group.handler
    async def work(ctx: ObjectContext, part: list) -> list:
        seen = []
        for step in part:
            if step == "go":
                await ctx.promise("go")
            else:
                seen.append(apply(ctx, *step))
        return seen

    model = Model()
    expected = [model.do(*step) for step in steps if step != "go"]
    if split == "an invocation each":
        with world.holdfast(group) as client:
            seen = [client.call(work, [step], key="k", timeout=5)[0] for step in steps if step != "go"]
            shown = client.state("Box", "k")
    else:
        seen, shown = _in_lives(world, group, work, steps, dies=split == "a death at every wait")
    assert seen == expected
    assert shown == model.shown()


def _in_lives(world, group, work, steps, *, dies):
    with world.life(group) as client:
        client.start(work, steps, key="k", id="x")
        if not dies:
            while status(client, "x") != "done":
                if engine_of(client).store.open_promises(1):
                    client.resolve(open_promise(client))
            return client.attach("x").result(5), client.state("Box", "k")
        wait_for(lambda: status(client, "x") != "ready")
    for _ in range(steps.count("go")):
        with world.life(group) as client:
            before = open_promise(client)
            client.resolve(before)
            wait_for(lambda before=before: all(row.id != before for row in engine_of(client).store.open_promises(1)))
            wait_for(lambda: status(client, "x") in {"done", "suspended"})
    with world.holdfast(group) as client:
        return client.attach("x").result(5), client.state("Box", "k")


@pytest.mark.parametrize("seed", range(8))
def test_random_use_of_state_is_as_if_it_were_a_dict(world, seed):
    """Over many invocations, waits and deaths: what is seen is what a plain dict would show."""
    chance = random.Random(seed)
    group = Object("Box")
    kinds = ["set", "get", "append", "append", "items", "clear", "keys", "go"]
    jobs = [
        [kind if kind == "go" else (kind, chance.randrange(9)) for kind in chance.choices(kinds, k=chance.randrange(9))]
        for _ in range(6)
    ]

    @group.handler
    async def work(ctx: ObjectContext, part: list) -> list:
        seen = []
        for step in part:
            if step == "go":
                await asyncio.sleep(0.001)
            else:
                seen.append(apply(ctx, *step))
        return seen

    model = Model()
    expected = [[model.do(*step) for step in job if step != "go"] for job in jobs]
    for life in range(4):
        with world.life(group, limits=Limits(waiting=life % 2)) as client:
            for n, job in enumerate(jobs):
                client.start(work, job, key="k", id=f"job {n}")
                if chance.random() < 0.3:
                    break
            threading.Event().wait(chance.random() * 0.02)
    with world.holdfast(group) as client:
        seen = [client.start(work, job, key="k", id=f"job {n}").result(5) for n, job in enumerate(jobs)]
        assert seen == expected
        assert client.state("Box", "k") == model.shown()


def test_keys_lists_what_is_there(world, weather):
    group = Object("Box")

    @group.handler
    async def work(ctx: ObjectContext) -> list[list[str]]:
        seen = [ctx.keys()]
        ctx.set("b", 1)
        ctx.append("a", 1)
        seen.append(ctx.keys())
        await ctx.promise("go")
        ctx.clear("b")
        seen.append(ctx.keys())
        ctx.clear()
        seen.append(ctx.keys())
        return seen

    with world.life(group, **weather) as client:
        client.start(work, key="k", id="x")
        open_promise(client)
    with world.holdfast(group, **weather) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(5) == [[], ["a", "b"], ["a"], []]
        assert client.state("Box", "k") == {}
        assert client.objects("Box") == []


def test_a_mistake_that_is_caught_is_the_same_mistake_on_replay(world):
    """Although the name is something else by then, by this very handler."""
    group = Object("Box")

    @group.handler
    async def put(ctx: ObjectContext) -> None:
        ctx.append("x", 1)
        ctx.set("y", 1)

    @group.handler
    async def work(ctx: ObjectContext) -> list[str]:
        paths = []
        try:
            ctx.get("x")
        except BadArguments:
            paths.append(await ctx.run(str, "x is a list", returns=str))
        try:
            ctx.items("y")
        except BadArguments:
            paths.append(await ctx.run(str, "y is a value", returns=str))
        ctx.clear("x")
        ctx.clear("y")
        ctx.set("x", 1)
        ctx.append("y", 2)
        await ctx.promise("go")
        ctx.append("y", 3)
        return [*paths, str(ctx.get("x")), str(ctx.items("y"))]

    with world.life(group) as client:
        client.call(put, key="k", timeout=5)
        client.start(work, key="k", id="x")
        open_promise(client)
    with world.holdfast(group) as client:
        client.resolve(open_promise(client))
        assert client.attach("x").result(5) == ["x is a list", "y is a value", "1", "[2, 3]"]
        assert client.state("Box", "k") == {"x": 1, "y": [2, 3]}


def test_a_conversation_costs_the_same_at_every_turn(world):
    """The journal of a turn notes where the list ended, and does not copy it."""
    group = Object("Chat")

    @group.handler
    async def say(ctx: ObjectContext, text: str) -> int:
        ctx.append("messages", text)
        await ctx.run(abs, 1)
        return len(ctx.items("messages", str))

    with world.holdfast(group) as client:
        for n in range(30):
            assert client.call(say, "x" * 2000, key="k", id=f"turn {n}", timeout=5) == n + 1
        engine = engine_of(client)
        sizes = [sum(map(len, engine.store.entries(engine.store.find(f"turn {n}").n))) for n in (1, 29)]
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("how", ["set", "clear", "clear, append"])
def test_what_a_list_leaves_behind_is_deleted(world, how):
    group = Object("Box")

    @group.handler
    async def fill(ctx: ObjectContext) -> None:
        for n in range(5):
            ctx.append("x", n)

    @group.handler
    async def over(ctx: ObjectContext) -> None:
        for what in how.split(", "):
            apply(ctx, what, 9)

    with world.holdfast(group) as client:
        client.call(fill, key="k", timeout=5)
        client.call(over, key="k", timeout=5)
        rows = engine_of(client).store.items("Box", "k", "x", 0, 99)
        kept = [body for _, body in rows if body]  # an empty one says how far the places are taken
        assert len(rows) == 1
        assert len(kept) == (1 if "append" in how else 0)
        client.call(over, key="k", timeout=5)
        shown = {"set": {"x": 9}, "clear": {}, "clear, append": {"x": [9]}}
        assert client.state("Box", "k") == shown[how]
