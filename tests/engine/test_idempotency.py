"""One start per id and per idempotency key (G6): whoever asks again, in whatever process, gets the one that is there;
what would be another piece of work is refused."""

import contextlib

import pytest

from holdfast import (
    BadArguments,
    BadTimer,
    Context,
    IdConflict,
    Object,
    Service,
    StoreFailed,
    UnknownHandler,
    Workflow,
)
from tests.engine.lives import Flags, all_in_lane, life
from tests.engine.world import wait_for


class Works:
    """Handlers of every kind."""

    def __init__(self):
        self.flags = flags = Flags()
        service, desk, flow = Service("S"), Object("Desk"), Workflow("Flow")
        self.services = service, desk, flow

        @service.handler
        async def pay(ctx: Context, amount: int) -> int:
            await ctx.run(flags.note, f"pay {amount}")
            return amount

        @service.handler
        async def other(ctx: Context, amount: int) -> int:
            return amount

        @desk.handler
        async def write(ctx: Context, amount: int) -> str:
            await ctx.run(flags.note, f"write {amount}")
            return f"{ctx.key} {amount}"

        @flow.main
        async def run(ctx: Context, amount: int) -> int:
            await ctx.run(flags.note, f"run {amount}")
            return amount

        self.pay, self.other, self.write, self.run = pay, other, write, run

    def life(self, world):
        return life(world, *self.services)


def test_the_same_key_is_one_start_over_all_lives(world):
    works = Works()
    found = set()
    for _ in range(3):
        with works.life(world) as one:
            for _ in range(2):
                handle = one.client.start(works.pay, 5, idempotency_key="order 17")
                assert handle.result(5) == 5
                found.add(handle.id)
    assert len(found) == 1
    assert works.flags.ran == ["pay 5"]


def test_many_at_once_are_one_start(world, monkeypatch):
    all_in_lane(monkeypatch)
    works = Works()
    with works.life(world) as one:
        starts = [one.client._client.start(works.pay, 5, idempotency_key="k") for _ in range(20)]
        assert len({handle.id for handle in one.together(*starts)}) == 1
        assert len(one.client.list()) == 1


def test_of_many_different_inputs_at_once_one_counts_and_the_others_are_told(world, monkeypatch):
    all_in_lane(monkeypatch)
    works = Works()
    with works.life(world) as one:
        starts = [one.client._client.start(works.pay, n, idempotency_key="k") for n in range(10)]
        outcomes = one.together(*starts)
        assert [isinstance(outcome, IdConflict) for outcome in outcomes] == [False, *[True] * 9]
        (view,) = one.client.list()
        assert one.client.attach(view.id).result(5) == 0


def test_a_key_belongs_to_a_handler_and_an_objects_key(world):
    works = Works()
    with works.life(world) as one:
        started = [
            one.client.start(works.pay, 1, idempotency_key="k"),
            one.client.start(works.other, 1, idempotency_key="k"),
            one.client.start(works.write, 1, key="a", idempotency_key="k"),
            one.client.start(works.write, 1, key="b", idempotency_key="k"),
        ]
        assert [handle.result(5) for handle in started] == [1, 1, "a 1", "b 1"]
        assert len({handle.id for handle in started}) == 4


def test_parts_of_keys_are_not_confused(world):
    works = Works()
    with works.life(world) as one:
        ids = {
            one.client.start(works.write, 1, key=key, idempotency_key=given).id
            for key, given in [("a", "b\0c"), ("ab", "c"), ("a", "bc"), ("b", "\ud800"), ("b", "\\ud800")]
        }
        assert len(ids) == 5


def test_another_input_under_the_same_key_is_refused(world):
    works = Works()
    with works.life(world) as one:
        one.client.start(works.pay, 1, idempotency_key="k").result(5)
        for _ in range(2):
            with pytest.raises(IdConflict, match="another input"):
                one.client.start(works.pay, 2, idempotency_key="k")
    with works.life(world) as one, pytest.raises(IdConflict, match="another input"):
        one.client.start(works.pay, 2, idempotency_key="k")
    assert works.flags.ran == ["pay 1"]


def test_the_id_of_another_handler_or_key_is_refused(world):
    works = Works()
    with works.life(world) as one:
        one.client.start(works.write, 1, key="a", id="x").result(5)
    with works.life(world) as one:
        with pytest.raises(IdConflict, match="another handler, 'Desk/write'"):
            one.client.start(works.pay, 1, id="x")
        with pytest.raises(IdConflict, match="another key, 'a'"):
            one.client.start(works.write, 1, key="b", id="x")
        with pytest.raises(IdConflict, match="another input"):
            one.client.start(works.write, 2, key="a", id="x")
        assert one.client.start(works.write, 1, key="a", id="x").result(5) == "a 1"


def test_a_queued_one_is_found_by_its_id_too(world, monkeypatch):
    all_in_lane(monkeypatch)
    works = Works()
    with works.life(world) as one:
        handle = one.client.start(works.pay, 1, id="x", delay=3600)
        assert one.client.start(works.pay, 1, id="x").id == "x"
        assert handle.status().status == "queued", "it keeps its time"
        with pytest.raises(IdConflict, match="another input"):
            one.client.start(works.pay, 2, id="x")
        client = one.client._client
        first, second, third = one.together(
            *[client.start("S/pay", n, id="y", delay=60, headers={"x": str(n)}) for n in (1, 1, 2)]
        )
        assert first.id == second.id == "y"
        assert isinstance(third, IdConflict)


def test_a_workflow_is_named_by_its_key_whatever_else_is_given(world):
    works = Works()
    with works.life(world) as one:
        first = one.client.start(works.run, 1, key="k")
        again = one.client.start(works.run, 1, key="k", idempotency_key="anything")
        assert first.id == again.id == "Flow:k"
        assert first.result(5) == 1
        with pytest.raises(IdConflict, match="another input"):
            one.client.start(works.run, 2, key="k", idempotency_key="other")
    assert works.flags.ran == ["run 1"]


def test_an_id_beside_what_names_the_invocation_is_refused(world):
    works = Works()
    with works.life(world) as one:
        with pytest.raises(BadArguments, match="an id and an idempotency key"):
            one.client.start(works.pay, 1, id="x", idempotency_key="k")
        with pytest.raises(BadArguments, match="is named by its key"):
            one.client.start(works.run, 1, key="k", id="x")
        assert one.client.list() == []


@pytest.mark.parametrize("given", ["", "x" * 501])
def test_a_key_that_is_no_key_is_refused(world, given):
    works = Works()
    with works.life(world) as one, pytest.raises(BadArguments, match="the idempotency key has"):
        one.client.start(works.pay, 1, idempotency_key=given)


def test_nothing_is_kept_of_a_start_that_was_refused(world):
    works = Works()
    with works.life(world) as one:
        for error, attempt in [
            (BadArguments, lambda: one.client.start(works.pay, "x", idempotency_key="k")),
            (BadArguments, lambda: one.client.start(works.pay, 1, key="needless", idempotency_key="k")),
            (BadArguments, lambda: one.client.start(works.write, 1, idempotency_key="k")),
            (UnknownHandler, lambda: one.client.start("S/nothing", 1, idempotency_key="k")),
            (BadTimer, lambda: one.client.start(works.pay, 1, idempotency_key="k", delay=-1)),
        ]:
            with pytest.raises(error):
                attempt()
        assert one.client.start(works.pay, 2, idempotency_key="k").result(5) == 2


def test_a_start_that_was_not_acknowledged_is_made_or_found_when_it_is_sent_again(world):
    for keeps_last in (False, True):
        for commit in (1, 2, 3):
            works = Works()
            given = f"{keeps_last} {commit}"
            with works.life(world) as one:
                one.store.dies_at, one.store.keeps_last = commit, keeps_last
                with contextlib.suppress(StoreFailed):
                    one.client.start(works.pay, commit, idempotency_key=given).result(5)
            with works.life(world) as one:
                assert one.client.start(works.pay, commit, idempotency_key=given).result(5) == commit
                wait_for(lambda: works.flags.ran)  # noqa: B023
            assert len(works.flags.runs) == 1


def test_a_call_takes_a_key_too(world):
    works = Works()
    with works.life(world) as one:
        assert one.client.call(works.pay, 3, idempotency_key="k") == 3
        assert one.client.call(works.pay, 3, idempotency_key="k") == 3
    assert works.flags.ran == ["pay 3"]
