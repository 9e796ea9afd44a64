"""A failure that comes at a bad moment stops the engine aloud, or one caller; it never leaves others waiting (G8), and
never half of what belongs together in the store (G4)."""

import pytest

from holdfast import (
    BadArguments,
    Context,
    Holdfast,
    Limit,
    MemoryStore,
    Object,
    ObjectContext,
    StoreCorrupt,
    StoreFailed,
)
from holdfast.errors import HoldfastError

WAIT = 5


class Failing(MemoryStore):
    """Fails where it is told to, once it is told to."""

    def __init__(self):
        super().__init__()
        self.broken = {}

    def _look(self, call, *args):
        error = self.broken.get((call, *args)) or self.broken.get((call,))
        if error is not None:
            raise error

    def find(self, id):
        self._look("find", id)
        return super().find(id)

    def queued_for_lock(self, lock, limit):
        self._look("queued_for_lock")
        return super().queued_for_lock(lock, limit)

    def maintain(self, idle):
        self._look("maintain")
        return super().maintain(idle)


def test_a_read_that_fails_between_two_sends_commits_neither():
    store = Failing()

    async def kid(ctx: Context) -> None: ...

    async def boss(ctx: Context) -> None:
        await ctx.receive("go")
        for number in range(3):
            ctx.send(kid, id=f"kid{number}")

    def program():
        hf = Holdfast(store)
        hf.handler(kid)
        hf.handler(boss)
        return hf

    with program() as client:
        client.start(boss, id="boss")
        store.broken["find", "kid1"] = StoreFailed("the disk is gone")
        with pytest.raises(StoreFailed):
            client.signal("boss", "go")
    store.broken.clear()
    with program() as client:
        client.signal("boss", "go")
        client.attach("boss").result(WAIT)
        for number in range(3):
            client.attach(f"kid{number}").result(WAIT)


@pytest.mark.parametrize(
    "error", [StoreCorrupt("page 7 is damaged"), RuntimeError("a mistake")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("call", ["queued_for_lock", "maintain"])
def test_whatever_fails_in_the_background_is_told_to_who_waits(call, error):
    store = Failing()
    box = Object("Box")

    @box.handler
    async def put(ctx: ObjectContext) -> None:
        ctx.set("x", 1)

    with Holdfast(store, services=[box]) as client:
        store.broken[call,] = error
        with pytest.raises((HoldfastError, RuntimeError)):
            for number in range(100):
                client.call(put, key=f"k{number}", timeout=WAIT)


def test_a_start_that_is_refused_takes_no_key_and_no_place():
    box = Object("Box")

    @box.handler(limit=Limit(concurrency=1))
    async def put(ctx: ObjectContext) -> int:
        return 1

    with Holdfast(MemoryStore(), services=[box]) as client:
        for headers in ({"a": "x" * 9_000}, {"a": object()}, {"a": "\ud800"}):
            with pytest.raises(BadArguments):
                client.start(put, key="k", id="refused", headers=headers)
        assert client.call(put, key="k", timeout=WAIT) == 1


def test_headers_are_read_only():
    hf = Holdfast(MemoryStore())

    @hf.handler
    async def h(ctx: Context) -> str:
        with pytest.raises(TypeError):
            ctx.headers["trace"] = "x"
        return ctx.headers["trace"]

    with hf as client:
        assert client.start(h, headers={"trace": "t1"}).result(WAIT) == "t1"


def test_a_reason_that_is_no_text_is_refused_where_it_is_given():
    hf = Holdfast(MemoryStore())

    @hf.handler
    async def victim(ctx: Context) -> None:
        await ctx.promise("never")

    @hf.handler
    async def h(ctx: Context, id: str) -> str:
        with pytest.raises(BadArguments):
            ctx.cancel(id, reason=404)
        return "refused"

    with hf as client:
        handle = client.start(victim)
        assert client.call(h, handle.id, timeout=WAIT) == "refused"
        assert handle.status().status == "suspended"
