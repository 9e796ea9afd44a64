"""A caller and what it calls, and how to look at both from outside."""

from holdfast import Context, Service
from tests.engine.world import wait_for


class Counting:
    """Bodies that say how often they ran; only a body may."""

    def __init__(self):
        self.ran = []

    async def note(self, word: str) -> str:
        self.ran.append(word)
        return word


def service(counting=None):
    """A caller and what it calls: `leaf` waits for a promise, so that the test says when it ends."""
    group = Service("Group")

    @group.handler
    async def leaf(ctx: Context, word: str) -> str:
        if counting is not None:
            await ctx.run(counting.note, word)
        return word + await ctx.promise("go", type=str)

    @group.handler
    async def quick(ctx: Context, word: str) -> str:
        if counting is not None:
            await ctx.run(counting.note, word)
        return word.upper()

    @group.handler
    async def caller(ctx: Context, word: str) -> str:
        got = await ctx.call(leaf, word)
        if counting is not None:
            await ctx.run(counting.note, got)
        return f"<{got}>"

    group.leaf, group.quick, group.caller = leaf, quick, caller
    return group


def child_of(client, id):
    """The id of the only invocation that `id` has called or sent."""
    (child,) = wait_for(lambda: client.list(parent=id), f"a child of {id}")
    return child.id


def status(client, id):
    return client.attach(id).status().status


def until(client, id, wanted):
    wait_for(lambda: status(client, id) == wanted, f"{id} {wanted}")
