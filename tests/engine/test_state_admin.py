"""Objects seen and changed from outside: client.objects, client.state, client.set_state."""

import asyncio
import threading

import pytest

from holdfast import BadArguments, Context, Limits, Object, TooLarge, Unserialisable, Workflow, WrongStatus
from holdfast.stores.base import Batch, StateRow
from tests.engine.lives import Flags, all_in_lane, life
from tests.engine.world import in_engine, open_promise, wait_for


class Desk:
    """An object that counts, keeps a list, and can be held up."""

    def __init__(self):
        flags = self.flags = Flags()
        desk = self.service = Object("Desk")

        @desk.handler
        async def add(ctx: Context, by: int = 1) -> int:
            total = ctx.get("n", int, 0) + by
            await ctx.run(flags.note, "add")
            ctx.set("n", total)
            ctx.append("log", by)
            return total

        @desk.handler
        async def hold(ctx: Context) -> None:
            ctx.set("held", True)
            await ctx.promise("p")

        @desk.handler(shared=True)
        async def look(ctx: Context) -> int:
            return ctx.get("n", int, 0)

        @desk.handler
        async def clear(ctx: Context) -> None:
            ctx.clear("log")

        @desk.handler
        async def items(ctx: Context) -> list[int]:
            return ctx.items("log", int)

        self.add, self.hold, self.look, self.clear, self.items = add, hold, look, clear, items

    def life(self, world, **options):
        return life(world, self.service, **options)


def test_state_is_shown_as_plain_data_values_and_lists(world):
    desk = Desk()
    with desk.life(world) as one:
        for by in (1, 2):
            one.client.start(desk.add, by, key="k").result(5)
        one.client.start(desk.add, key="other").result(5)
        assert one.client.state("Desk", "k") == {"n": 3, "log": [1, 2]}
        assert one.client.objects("Desk") == ["k", "other"]
        assert one.client.state("Desk", "nobody") == one.client.state("Nothing", "k") == {}
        assert one.client.objects("Nothing") == []
        one.die()
    with desk.life(world) as one:
        assert one.client.state("Desk", "k") == {"n": 3, "log": [1, 2]}


def test_keys_come_in_pages(world):
    desk = Desk()
    with desk.life(world) as one:
        for n in range(7):
            one.client.set_state("Desk", f"k{n}", "n", n)
        assert one.client.objects("Desk", limit=3) == ["k0", "k1", "k2"]
        assert one.client.objects("Desk", after="k2", limit=3) == ["k3", "k4", "k5"]
        assert one.client.objects("Desk", after="k5", limit=3) == ["k6"]
        for limit in (0, -1):
            with pytest.raises(BadArguments, match="limit"):
                one.client.objects("Desk", limit=limit)


def test_a_value_set_from_outside_is_what_handlers_read(world):
    desk = Desk()
    with desk.life(world) as one:
        one.client.set_state("Desk", "k", "n", 41)
        one.die()
    with desk.life(world) as one:
        assert one.client.start(desk.look, key="k").result(5) == 41
        assert one.client.start(desk.add, key="k").result(5) == 42
        one.client.set_state("Desk", "k", "n", None)
        assert one.client.start(desk.add, key="k").result(5) == 1
        assert one.client.state("Desk", "k") == {"n": 1, "log": [1, 1]}


def test_a_list_is_not_overwritten_but_can_be_removed_and_begun_anew(world):
    desk = Desk()
    with desk.life(world) as one:
        for by in (1, 2, 3):
            one.client.start(desk.add, by, key="k").result(5)
        with pytest.raises(WrongStatus, match="state 'log' of Desk/k is a list"):
            one.client.set_state("Desk", "k", "log", [4])
        one.client.set_state("Desk", "k", "log", None)
        assert one.client.state("Desk", "k") == {"n": 6}
        assert one.client.start(desk.items, key="k").result(5) == []
        with_nothing_left(one, "k")
        one.client.start(desk.add, 4, key="k").result(5)
        assert one.client.state("Desk", "k")["log"] == [4]
        one.client.set_state("Desk", "k", "log", None)
        one.client.set_state("Desk", "k", "log", "a value now")
        assert one.client.state("Desk", "k")["log"] == "a value now"


def with_nothing_left(one, key):
    store = one.engine.store
    assert [body for _, body in store.items("Desk", key, "log", 0, 100)] == [b""]  # how far the places are taken


@pytest.mark.parametrize("waiting", [0, 9])
def test_while_a_writer_of_the_key_has_not_ended_it_is_refused(world, waiting):
    desk = Desk()
    with desk.life(world, limits=Limits(waiting=waiting)) as one:
        handle = one.client.start(desk.hold, key="k", id="x")
        promise = open_promise(one.client)
        for value in (1, None):
            with pytest.raises(WrongStatus, match="Desk/k is being written by 'x'"):
                one.client.set_state("Desk", "k", "n", value)
        one.client.set_state("Desk", "other", "n", 1)
        handle.pause()
        with pytest.raises(WrongStatus, match="by 'x'"):
            one.client.set_state("Desk", "k", "n", 1)
        handle.resume()
        one.client.resolve(promise)
        handle.result(5)
        one.client.set_state("Desk", "k", "n", 1)
        assert one.client.state("Desk", "k") == {"held": True, "n": 1}


def test_readers_and_those_that_wait_for_the_key_do_not_hinder(world):
    desk = Desk()
    with desk.life(world) as one:
        one.client.start(desk.add, 5, key="k", delay=3600)
        one.client.set_state("Desk", "k", "n", 1)
        assert one.client.start(desk.look, key="k").result(5) == 1


def test_a_workflow_has_its_state_after_its_end(world):
    flow = Workflow("Flow")

    @flow.main
    async def run(ctx: Context) -> None:
        ctx.set("stage", "began")
        await ctx.promise("go")

    with life(world, flow) as one:
        handle = one.client.start(run, key="k")
        wait_for(lambda: handle.status().status == "suspended")
        assert one.client.state("Flow", "k") == {"stage": "began"}
        with pytest.raises(WrongStatus, match="Flow/k is being written by 'Flow:k'"):
            one.client.set_state("Flow", "k", "stage", "x")
        handle.kill()
        one.client.set_state("Flow", "k", "stage", "by hand")
        assert one.client.state("Flow", "k") == {"stage": "by hand"}


@pytest.mark.parametrize(
    "key, name, value, error",
    [
        ("", "n", 1, BadArguments),
        ("k\n", "n", 1, BadArguments),
        ("k" * 201, "n", 1, BadArguments),
        ("k", "", 1, BadArguments),
        ("k", "n\0", 1, BadArguments),
        ("k", "n" * 201, 1, BadArguments),
        ("k", "n", object(), Unserialisable),
        ("k", "n", "x" * 70_000_000, TooLarge),
    ],
    ids=range(8),
)
def test_what_no_handler_could_read_is_refused(memory_world, key, name, value, error):
    desk = Desk()
    with desk.life(memory_world) as one:
        with pytest.raises(error):
            one.client.set_state("Desk", key, name, value)
        assert one.client.objects("Desk") == []


def test_a_writer_that_begins_while_a_value_is_being_set_sees_it(world, monkeypatch):
    all_in_lane(monkeypatch)
    desk = Desk()
    with desk.life(world) as one:
        one.client.set_state("Desk", "k", "n", 1)
        with one.store.hold():
            done = []
            thread = threading.Thread(target=lambda: done.append(one.client.set_state("Desk", "k", "n", 10)))
            thread.start()
            wait_for(lambda: one.store.waiting)
            client = one.client._client
            started = asyncio.run_coroutine_threadsafe(client.start(desk.add, key="k"), one.client._thread._loop)
            in_engine(one.client, lambda: None)
        thread.join(5)
        assert one.client._thread.call(started.result(5).result(5)) == 11
        assert one.client.state("Desk", "k") == {"n": 11, "log": [1]}


async def after(work, turns):
    for _ in range(turns):
        await asyncio.sleep(0)
    return await work()


@pytest.mark.parametrize("turns", range(8))
def test_on_a_slow_disk_a_value_and_a_writer_that_begins_about_then_come_one_after_the_other(world, monkeypatch, turns):
    all_in_lane(monkeypatch)
    desk = Desk()
    with desk.life(world) as one:
        client = one.client._client
        one.store.seconds = 0.003
        for first in ("value", "writer"):
            before = one.client.call(desk.add, key="k", timeout=5)
            value = 100 * before

            def put(value=value):
                return client.set_state("Desk", "k", "n", value)

            def add():
                return client.call(desk.add, key="k")

            works = [after(put, 0), after(add, turns)] if first == "value" else [after(put, turns), after(add, 0)]
            refusal, total = one.together(*works)
            left = one.client.state("Desk", "k")["n"]
            if isinstance(refusal, WrongStatus):
                assert total == left == before + 1, "the writer had begun"
            elif total == value + 1:
                assert left == total, "what it wrote later is there"
            else:
                assert (total, left) == (before + 1, value), "the writer had ended"
            if first == "value" and turns > 4:
                assert total == value + 1, "it was being written when the writer came"


def test_on_a_slow_disk_those_that_wait_for_the_key_read_the_value_and_a_reader_hinders_nobody(world, monkeypatch):
    all_in_lane(monkeypatch)
    desk = Desk()
    with desk.life(world) as one:
        client = one.client._client
        one.store.seconds = 0.003
        for n in range(1, 6):
            value = 100 * n
            works = [client.set_state("Desk", "k", "n", value)]
            works += [after(lambda: client.call(desk.add, key="k"), 6) for _ in range(3)]
            works += [after(lambda: client.call(desk.look, key="k"), 6)]
            outcomes = one.together(*works)
            if isinstance(outcomes[0], WrongStatus):  # on a busy machine a call may come before it
                one.client.set_state("Desk", "k", "n", value + 3)
                continue
            assert outcomes[:4] == [None, value + 1, value + 2, value + 3]
            assert one.client.state("Desk", "k")["n"] == value + 3
    with desk.life(world) as one:
        assert one.client.call(desk.look, key="k", timeout=5) == 503


def test_values_set_at_once_are_all_kept(world, monkeypatch):
    all_in_lane(monkeypatch)
    desk = Desk()
    with desk.life(world) as one:
        client = one.client._client
        works = [client.set_state("Desk", "k", f"n{n}", n) for n in range(9)]
        assert one.together(*works) == [None] * 9
        assert one.client.state("Desk", "k") == {f"n{n}": n for n in range(9)}


def test_damaged_state_says_so_and_harms_nobody(memory_world):
    desk = Desk()
    with desk.life(memory_world) as one:
        one.client.start(desk.add, key="k").result(5)
        one.client.start(desk.add, key="fine").result(5)
    with memory_world.opened() as store:
        store.commit(Batch(states=[StateRow("Desk", "k", "n", b"\x01rubbish")]))
    with desk.life(memory_world) as one:
        with pytest.raises(Exception, match="HF203"):
            one.client.state("Desk", "k")
        assert one.client.state("Desk", "fine") == {"n": 1, "log": [1]}
        one.client.set_state("Desk", "k", "n", 5)
        assert one.client.start(desk.add, key="k").result(5) == 6
