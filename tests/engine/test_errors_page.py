"""docs/errors.md shows errors as they are printed: each text there is made here again and compared."""

import asyncio
import datetime as dt
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from holdfast import (
    Context,
    Holdfast,
    HoldfastError,
    InvocationPaused,
    Object,
    ObjectContext,
    OutcomeUnknown,
    Retry,
    Service,
    WouldDeadlock,
)
from holdfast.engine.control import MAIL_MAX
from tests.engine.world import World, open_promise, paused, wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
SHOWN = [block.strip() for block in re.findall(r"```\n(\[HF.*?)```", PAGE, re.DOTALL)]

CHANGING = (
    (r"at \S+\.py:\d+ in \S+", "at FILE:LINE in NAME"),
    (r"raised at \S+\.py:\d+\n", "raised at FILE:LINE\n"),
    (r"http://127\.0\.0\.1:\d+", "SERVER"),
    (r"prm_[0-9a-f]{32}", "PROMISE"),
    (r"hf_[0-9a-f]{32}", "KEY"),
    (r"<.*> tried to wake", "CALLBACK tried to wake"),
    (r"\S*/?(agent|notes|data/agent)\.db", "FILE.db"),
    (r"process \d+ on \S+ since \S+", "PROCESS"),
    (r"Traceback \(most recent call last\):\n.*?(?=\n  next step)", "TRACEBACK"),
)


def steady(text: str) -> str:
    """Without what differs from run to run."""
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text, flags=re.DOTALL)
    return text


claims = Service("Claims")


@claims.handler
async def pay(ctx: Context) -> None:
    await ctx.promise("hold")


@claims.handler
async def review(ctx: Context, claim: int) -> None:
    await ctx.promise("hold")


account = Object("Account")


@account.handler
async def deposit(ctx: ObjectContext, amount: int) -> None:
    ctx.append("entries", amount)


@account.handler(shared=True)
async def balance(ctx: ObjectContext) -> None:
    ctx.get("entries")


@account.handler(shared=True)
async def correct(ctx: ObjectContext) -> None:
    ctx.clear("entries")


@account.handler
async def audit(ctx: ObjectContext) -> str:
    try:
        await ctx.call(deposit, 0, key=ctx.key)
    except WouldDeadlock as error:
        return str(error)


@account.handler
async def close(ctx: ObjectContext) -> None:
    await ctx.promise("hold")


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(HoldfastError) as caught:
        call()
    return str(caught.value)


def unknown_handler(world: World) -> str:
    with world.holdfast(claims) as client:
        return refusal(lambda: client.start("Claims/refund"))


def bad_arguments(world: World) -> str:
    with world.holdfast(claims) as client:
        return refusal(lambda: client.start(review, "x"))


def id_conflict(world: World) -> str:
    with world.holdfast(claims) as client:
        client.start(review, 1, id="claim-17")
        return refusal(lambda: client.start(review, 2, id="claim-17"))


def bad_key(world: World) -> str:
    with world.holdfast(account) as client:
        return refusal(lambda: client.start(deposit, 1))


def list_as_value(world: World) -> str:
    with world.holdfast(account) as client:
        client.call(deposit, 1, key="anna")
        return refusal(lambda: client.call(balance, key="anna")).partition("BadArguments: ")[2]


def id_conflict_by_key(world: World) -> str:
    with world.holdfast(account) as client:
        client.start(deposit, 1, key="anna", id="deposit-3")
        return refusal(lambda: client.start(deposit, 1, key="otto", id="deposit-3"))


def unknown_invocation(world: World) -> str:
    with world.holdfast(claims) as client:
        return refusal(lambda: client.attach("claim-99"))


def reason_of(world: World, handler: Callable[..., Any], id: str = "claim-17") -> str:
    with world.holdfast(handler) as client:
        return paused(client.start(handler, id=id))


def failure_of(world: World, handler: Callable[..., Any], id: str) -> str:
    with world.holdfast(handler) as client:
        return refusal(client.start(handler, id=id).result)


def bad_timer(world: World) -> str:
    async def review(ctx: Context) -> None:
        await ctx.sleep(-1)

    return failure_of(world, review, "x").partition("BadTimer: ")[2]


def bad_handler(world: World) -> str:
    def review(ctx: Context) -> None: ...

    return refusal(lambda: world.holdfast(review))


def wrong_place(world: World) -> str:
    async def review(ctx: Context) -> None:
        await ctx.run(lambda: ctx.run(len, "a"))

    return reason_of(world, review).partition("WrongPlace: ")[2].partition("\nTraceback")[0]


def shared_write(world: World) -> str:
    with world.holdfast(account) as client:
        return refusal(lambda: client.call(correct, key="anna")).partition("WrongPlace: ")[2]


def already_settled(world: World) -> str:
    with world.holdfast(claims) as client:
        client.start(pay)
        id = open_promise(client)
        client.resolve(id)
        return refusal(lambda: client.resolve(id))


def wrong_status(world: World) -> str:
    with world.holdfast(claims) as client:
        return refusal(client.start(pay, id="claim-17").resume)


def ended_already(world: World) -> str:
    with world.holdfast(account) as client:
        run = client.start(deposit, 1, key="anna", id="claim-17")
        run.result(5)
        return refusal(run.cancel)


def state_in_use(world: World) -> str:
    with world.holdfast(account) as client:
        client.start(close, key="anna", id="audit-1")
        return refusal(lambda: client.set_state("Account", "anna", "entries", None))


def would_deadlock(world: World) -> str:
    with world.holdfast(account) as client:
        return client.call(audit, key="anna", id="audit-1")


def too_many(world: World) -> str:
    with world.holdfast(claims) as client:
        run = client.start(pay, id="claim-17")

        async def nudge() -> None:  # at once, for one sync
            await asyncio.gather(*(client._client.signal("claim-17", "nudge") for _ in range(MAIL_MAX)))

        client._thread.call(nudge())
        return refusal(lambda: run.signal("nudge"))


def unknown_schedule(world: World) -> str:
    with world.holdfast(claims) as client:
        return refusal(lambda: client.pause_schedule("evening"))


def value_problem(world: World, make: Callable[[], Any], **returns: Any) -> str:
    async def review(ctx: Context) -> None:
        await ctx.run(make, name="fetch", **returns)

    with world.holdfast(review) as client:
        reason = paused(client.start(review))
    return re.search(r"\[HF20\d].*?(?=\nTraceback|\Z)", reason, re.DOTALL)[0]


def unserialisable(world: World) -> str:
    return value_problem(world, lambda: {"when": dt.datetime.now(dt.UTC)})


def too_large(world: World) -> str:
    return value_problem(world, lambda: "x" * 50_000_000, returns=str)


def handler_io(world: World) -> str:
    async def review(ctx: Context) -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    return reason_of(world, review)


def handler_stuck(world: World) -> str:
    async def review(ctx: Context) -> None:
        while True:
            await asyncio.sleep(0)

    return reason_of(world, review)


def mismatch(world: World) -> str:
    def code(*names: str):
        async def review(ctx: Context) -> None:
            for name in names:
                await ctx.run(len, "a", name=name)
            await ctx.promise("hold")

        return review

    with world.holdfast(code("check", "charge", "mail")) as client:
        client.start("review", id="x")
        open_promise(client)
    with world.holdfast(code("check", "refund")) as client:
        refusal(lambda: client.resolve(open_promise(client)))
        return paused(client.attach("x"))


def foreign_wake(world: World) -> str:
    box: list[asyncio.Future[None]] = []

    async def review(ctx: Context) -> None:
        box.append(asyncio.get_running_loop().create_future())
        await asyncio.wait([*box, ctx.promise("hold")])

    async def other(ctx: Context) -> None:
        box[0].set_result(None)

    with world.holdfast(review, other) as client:
        client.start(review)
        wait_for(lambda: box)
        return paused(client.start(other))


def handler_missing(world: World) -> str:
    async def clear(ctx: Context) -> None:
        await ctx.call("Claims/refund")

    with world.holdfast(claims, clear) as client:
        return paused(client.start(clear))


def store_locked(world: World) -> str:
    with world.holdfast(claims):
        return refusal(lambda: world.holdfast(claims).__enter__())


def store_read_only(world: World) -> str:
    return refusal(lambda: Holdfast(world.path.parent / "data" / "agent.db").__enter__())


def store_foreign(world: World) -> str:
    path = world.path.parent / "notes.db"
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE notes (text)")
    other.close()
    return refusal(lambda: Holdfast(path).__enter__())


def invocation_failed(world: World) -> str:
    async def search() -> None:
        raise type("ConnectError", (Exception,), {})("refused")

    async def trip(ctx: Context) -> None:
        await ctx.run(search, retry=Retry(max_attempts=3, initial=0))

    return failure_of(world, trip, "trip-1")


def outcome_unknown(world: World) -> str:
    async def transfer() -> None:
        raise ConnectionError("cut")

    async def pay_out(ctx: Context) -> str:
        try:
            await ctx.run(transfer, once="raise")
        except OutcomeUnknown as unknown:
            return str(unknown)
        return ""

    with world.holdfast(pay_out) as client:
        return client.call(pay_out)


def invocation_paused(world: World) -> str:
    def parse() -> None:
        pasre()  # noqa: F821

    async def trip(ctx: Context) -> None:
        await ctx.run(parse)

    with world.holdfast(trip) as client, pytest.raises(InvocationPaused) as caught:
        client.start(trip, id="trip-1").result(3)
    return str(caught.value)


APP = """
from holdfast import Context, Holdfast, Service

desk = Service("Desk")

@desk.handler
async def greet(ctx: Context, name: str, times: int) -> str: ...

hf = Holdfast("agent.db", services=[desk])
"""


def said(world: World, app: str, *arguments: str) -> str:
    """What a command prints that fails, in a folder with that app."""
    folder = world.path.parent
    (folder / "app.py").write_text(app, encoding="utf-8")
    command = [sys.executable, "-m", "holdfast.cli", *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode != 0
    return run.stderr


def bad_command(world: World) -> str:
    return said(world, APP, "send", "--app", "app:hf", "Desk/greet", "name=World", "times=often")


def app_not_loaded(world: World) -> str:
    return said(world, "import tools\n" + APP, "list", "--app", "app:hf")


def unreachable(world: World) -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return said(world, APP, "list", "--url", f"http://127.0.0.1:{port}")


# In the order of the page.
MADE = (
    unknown_handler,
    bad_arguments,
    bad_key,
    list_as_value,
    id_conflict,
    id_conflict_by_key,
    unknown_invocation,
    bad_timer,
    bad_handler,
    wrong_place,
    shared_write,
    already_settled,
    wrong_status,
    ended_already,
    state_in_use,
    would_deadlock,
    too_many,
    unknown_schedule,
    unserialisable,
    too_large,
    handler_io,
    handler_stuck,
    mismatch,
    foreign_wake,
    handler_missing,
    store_locked,
    store_read_only,
    store_foreign,
    invocation_failed,
    invocation_paused,
    outcome_unknown,
    bad_command,
    app_not_loaded,
    unreachable,
)


CASES = [pytest.param(make, shown, id=make.__name__) for make, shown in zip(MADE, SHOWN, strict=False)]


@pytest.mark.parametrize("make, shown", CASES)
def test_the_page_shows_what_is_printed(make: Callable[[World], str], shown: str, tmp_path: Path) -> None:
    assert steady(make(World("sqlite", tmp_path)).strip()) == steady(shown)


def test_every_text_of_the_page_is_made_here() -> None:
    assert len(MADE) == len(SHOWN)
