"""Headers: what a start carries beside its arguments, for the handler and for all it calls and sends."""

import pytest

from holdfast import BadArguments, Context, Limits, Object, Service
from tests.engine.lives import Flags, life
from tests.engine.world import wait_for

TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Ünïcode": 'värde "quoted" \\ \n'}


class Seen:
    """Handlers that give back the headers they see."""

    def __init__(self):
        flags = self.flags = Flags()
        self.sent = []
        service = self.service = Service("S")
        desk = self.desk = Object("Desk")

        @service.handler
        async def h(ctx: Context, x: int = 0, text: str = "") -> dict[str, str]:
            await ctx.run(flags.note, "h")
            return dict(ctx.headers)

        @service.handler
        async def nothing(ctx: Context) -> dict[str, str]:
            await ctx.receive("go")
            return dict(ctx.headers)

        @desk.handler
        async def leaf(ctx: Context) -> dict[str, str]:
            await ctx.run(self.sent.append, dict(ctx.headers))
            return dict(ctx.headers)

        @service.handler
        async def caller(ctx: Context) -> list[dict[str, str]]:
            ctx.send(leaf, key="a")
            return [await ctx.call(leaf, key="b"), await ctx.call(nothing_to_say), dict(ctx.headers)]

        @service.handler
        async def nothing_to_say(ctx: Context) -> dict[str, str]:
            return dict(ctx.headers)

        self.h, self.nothing, self.caller = h, nothing, caller

    def life(self, world, **options):
        return life(world, self.service, self.desk, **options)


@pytest.mark.parametrize("headers", [None, {}, {"a": ""}, TRACE, {"": "x"}, {"#headers": "{}"}])
@pytest.mark.parametrize("arguments", [{}, {"x": 1}, {"x": 1, "text": "x" * 10_000}], ids=["none", "one", "large"])
def test_a_handler_sees_them_and_the_arguments_are_as_they_were(world, headers, arguments):
    seen = Seen()
    with seen.life(world) as one:
        handle = one.client.start(seen.h, **arguments, headers=headers, id="x")
        assert handle.result(5) == (headers or {})
        assert handle.status().input == arguments
    with seen.life(world) as one:
        assert one.client.attach("x").restart(new_id="y").result(5) == (headers or {})
        assert one.client.attach("y").status().input == arguments


@pytest.mark.parametrize("waiting", [0, 9])
def test_they_outlive_the_process(world, waiting):
    seen = Seen()
    with seen.life(world, limits=Limits(waiting=waiting)) as one:
        one.client.start(seen.nothing, headers=TRACE, id="x")
        one.client.start(seen.nothing, headers=TRACE, id="later", delay=0.1)
    with seen.life(world, limits=Limits(waiting=waiting)) as one:
        for id in ("x", "later"):
            one.client.signal(id, "go")
            assert one.client.attach(id).result(5) == TRACE


def test_they_go_with_calls_and_sends(world):
    seen = Seen()
    with seen.life(world) as one:
        assert one.client.start(seen.caller, headers=TRACE).result(5) == [TRACE] * 3
        wait_for(lambda: len(seen.sent) == 2)
    assert seen.sent == [TRACE] * 2


def test_other_headers_are_no_other_input(world):
    seen = Seen()
    with seen.life(world) as one:
        assert one.client.start(seen.h, 1, id="x", headers={"a": "1"}).result(5) == {"a": "1"}
        assert one.client.start(seen.h, 1, id="x", headers={"a": "2"}).result(5) == {"a": "1"}
    with seen.life(world) as one:
        assert one.client.start(seen.h, 1, id="x").result(5) == {"a": "1"}
    assert seen.flags.ran == ["h"]


def test_they_are_no_argument(world):
    seen = Seen()
    with seen.life(world) as one, pytest.raises(BadArguments):
        one.client.start("S/h", **{"#headers": {"a": "1"}})


@pytest.mark.parametrize(
    "headers", [{"a": 1}, {1: "a"}, {"a": None}, {"a": ["b"]}, {"a": b"x"}, {"a": "\ud800"}, {"\ud800": "a"}]
)
def test_what_is_no_text_is_refused_at_the_start(world, headers):
    seen = Seen()
    with seen.life(world) as one:
        for options in ({}, {"delay": 60}):
            with pytest.raises(BadArguments, match="header"):
                one.client.start(seen.h, headers=headers, **options)
        assert one.client.list() == []


def test_too_many_are_refused_at_the_start(world):
    seen = Seen()
    with seen.life(world) as one:
        with pytest.raises(BadArguments, match=r"the headers are 8,[0-9]+ bytes, the limit is 8,192"):
            one.client.start(seen.h, headers={"a": "x" * 8_192})
        assert one.client.start(seen.h, headers={"a": "x" * 8_000}).result(5) == {"a": "x" * 8_000}


@pytest.mark.parametrize("damage", [b'{"a":1}}', b"", b'[],"x":1}', b"{}"])
def test_damaged_ones_pause_their_invocation_and_no_other(memory_world, damage):
    seen = Seen()
    with seen.life(memory_world) as one:
        one.client.start(seen.nothing, headers={"a": "1"}, id="x")
        one.client.start(seen.nothing, headers={"a": "1"}, id="y")
    rows = memory_world._memory._invocations
    (n,) = [n for n, row in rows.items() if row.id == "x"]
    rows[n] = rows[n]._replace(input=b'\0{"#headers":' + damage)
    with seen.life(memory_world) as one:
        one.client.signal("y", "go")
        assert one.client.attach("y").result(5) == {"a": "1"}
        handle = one.client.attach("x")
        one.client.signal("x", "go")
        wait_for(lambda: handle.status().status == "paused")
        assert "headers do not decode" in handle.status().reason
        assert one.engine.failure is None
