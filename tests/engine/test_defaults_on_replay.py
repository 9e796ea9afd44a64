"""A stored result is read as it was live: outside the handler. What a type's own code draws meanwhile, such as the
default of a field that is new, must not shift what the handler draws (G3)."""

import uuid
from dataclasses import dataclass, field

import pytest

from holdfast import Context
from tests.engine.world import open_promise


@dataclass
class Old:
    n: int


@dataclass
class New:
    n: int
    tag: str = field(default_factory=lambda: str(uuid.uuid4()))


def handler_of(kind):
    async def make() -> kind:
        return kind(1)

    async def same(drawn: str) -> str:
        return drawn

    async def h(ctx: Context) -> list[str]:
        await ctx.run(make)
        first = await ctx.run(same, str(uuid.uuid4()))  # its arguments are part of the step's identity
        await ctx.promise("go", type=str)
        return [first, await ctx.run(same, str(ctx.random.random()))]

    return h


@pytest.mark.parametrize("second", [Old, New])
def test_what_a_new_default_draws_is_not_the_handlers(world, second):
    with world.life(handler_of(Old)) as client:
        client.start("h", id="x")
        promise = open_promise(client)
    with world.life(handler_of(second)) as client:
        client.resolve(promise, "on")
        assert len(client.attach("x").result(5)) == 2
