"""What a handler may not do is refused at once, by name, and noticed even when the handler swallows the error."""

import asyncio
import inspect
import math
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from holdfast.core.commands import Raise
from holdfast.core.entries import StepCompleted
from holdfast.core.loop import HandlerLoop
from holdfast.core.refusals import REFUSED
from holdfast.errors import BadHandler, BadTimer, ForeignWake, HandlerFault, HandlerIO, HandlerStuck, WrongPlace
from tests.core.case import Ctx, Life, Watched
from tests.core.shapes import echo

HERE = __file__

IO: dict[str, Callable[[], Any]] = {
    "create_connection": lambda: asyncio.open_connection("localhost", 1),
    "create_server": lambda: asyncio.start_server(print, "localhost", 1),
    "create_unix_connection": lambda: asyncio.open_unix_connection("nowhere"),
    "subprocess_exec": lambda: asyncio.create_subprocess_exec("true"),
    "subprocess_shell": lambda: asyncio.create_subprocess_shell("true"),
    "getaddrinfo": lambda: asyncio.get_running_loop().getaddrinfo("localhost", 80),
    "sock_connect": lambda: asyncio.get_running_loop().sock_connect(None, ("localhost", 1)),
    "add_reader": lambda: asyncio.get_running_loop().add_reader(0, print),
    "add_signal_handler": lambda: asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print),
    "run_until_complete": lambda: asyncio.get_running_loop().run_until_complete(None),
    "stop": lambda: asyncio.get_running_loop().stop(),
    "set_task_factory": lambda: asyncio.get_running_loop().set_task_factory(None),
}


def faults(shape: Callable[[Ctx], Any]) -> HandlerFault:
    """The fault a shape ends in, at once or when its first step completes."""
    machine = Watched()
    try:
        with pytest.raises(HandlerFault) as caught:
            life = Life(shape, machine=machine)
            life.receive(life.entry(life.choices()[0]))
        assert machine.take_commands() == []
        return caught.value
    finally:
        machine.evict()


async def do(call: Callable[[], Any]) -> None:
    made = call()
    if inspect.isawaitable(made):
        await made


@pytest.mark.parametrize("name", IO)
def test_io_in_a_handler_is_refused_by_name_and_line(name: str) -> None:
    async def handler(ctx: Ctx) -> None:
        await do(IO[name])

    fault = faults(handler)
    assert isinstance(fault, HandlerIO)
    assert f"loop.{name}()" in str(fault)
    assert f"{HERE}:{handler.__code__.co_firstlineno + 1} in " in str(fault)
    assert "ctx.run" in str(fault)


@pytest.mark.parametrize("name", IO)
def test_refused_io_is_noticed_when_everything_is_swallowed(name: str) -> None:
    async def handler(ctx: Ctx) -> str:
        with suppress(BaseException):
            await do(IO[name])
        return "fine"

    assert f"loop.{name}()" in str(faults(handler))


def test_everything_an_event_loop_offers_is_there_or_refused() -> None:
    inherited = [
        name
        for name in vars(asyncio.AbstractEventLoop)
        if not name.startswith("_") and getattr(HandlerLoop, name) is getattr(asyncio.AbstractEventLoop, name)
    ]
    assert inherited == []
    assert set(REFUSED) <= set(vars(asyncio.AbstractEventLoop))


def test_a_fault_in_a_task_group_beside_others_is_noticed() -> None:
    async def handler(ctx: Ctx) -> str:
        async def other() -> None:
            await ctx.run(echo, 1)

        with suppress(BaseExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(other())
                group.create_task(do(IO["create_connection"]))
        return "fine"

    assert isinstance(faults(handler), HandlerIO)


def test_a_fault_in_a_task_nobody_awaits_is_noticed() -> None:
    async def handler(ctx: Ctx) -> None:
        asyncio.create_task(do(IO["create_connection"]))
        await ctx.run(echo, 1)

    assert isinstance(faults(handler), HandlerIO)


def test_after_a_fault_the_handler_does_nothing_more() -> None:
    went_on = []

    async def handler(ctx: Ctx) -> None:
        first = ctx.run(echo, 1)
        with suppress(BaseException):
            await do(IO["stop"])
        await first
        went_on.append(ctx.run(echo, 2))

    machine = Watched()
    with pytest.raises(HandlerIO):
        Life(handler, machine=machine)
    for _ in range(2):
        with pytest.raises(HandlerIO):
            machine.receive(StepCompleted(machine.at, "echo#1", b"", b"1", b"", 1, machine.at))
    assert machine.take_commands() == []
    machine.evict()
    assert went_on == []


def test_an_event_shared_between_invocations_is_refused_on_both_sides() -> None:
    shared = asyncio.Event()

    async def waits(ctx: Ctx) -> None:
        clock = ctx.run(echo, 1)
        await shared.wait()
        await clock

    async def sets(ctx: Ctx) -> None:
        with suppress(BaseException):
            shared.set()

    waiter = Life(waits)
    fault = faults(sets)
    assert isinstance(fault, ForeignWake)
    assert "shared between invocations" in str(fault)
    with pytest.raises(ForeignWake):  # it has lost its wake-up, so it must not just go on waiting
        waiter.receive(waiter.entry("echo#1"))
    waiter.machine.evict()


def test_a_lock_shared_between_invocations_is_refused_when_several_want_it() -> None:
    shared = asyncio.Lock()

    async def handler(ctx: Ctx) -> None:
        async with shared:
            await ctx.run(echo, 1)

    holder, waiter, third = Life(handler), Life(handler), Life(handler)
    assert "different event loop" in str(third.outcome)  # asyncio's own words
    with pytest.raises(ForeignWake):
        holder.receive(holder.entry("echo#1"))  # hands the lock over to the other loop
    assert isinstance(waiter.machine.loop.fault, ForeignWake)
    for life in (holder, waiter, third):
        life.machine.evict()


def test_a_wake_up_from_the_body_of_a_step_is_refused() -> None:
    async def handler(ctx: Ctx) -> None:
        opened = asyncio.Event()
        ctx.run(opened.set)
        await opened.wait()

    life = Life(handler)
    with pytest.raises(ForeignWake, match="outside its journal"):
        life.entry("set#1")  # runs the body
    life.machine.evict()


@pytest.mark.parametrize("threadsafe", [True, False])
def test_a_wake_up_from_a_thread_is_refused_and_noticed(threadsafe: bool) -> None:
    raised: list[BaseException] = []

    async def handler(ctx: Ctx) -> None:
        loop = asyncio.get_running_loop()
        waited = loop.create_future()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(waited.set_result, 1) if threadsafe else waited.set_result(1)
            except BaseException as error:  # noqa: BLE001  # a fault is no Exception
                raised.append(error)

        started.append(threading.Thread(target=wake))
        ctx.run(echo, 1)
        await waited

    started: list[threading.Thread] = []
    life = Life(handler)
    started[0].start()
    started[0].join()
    assert isinstance(raised[0], ForeignWake)
    with pytest.raises(ForeignWake):
        life.receive(life.entry("echo#1"))
    life.machine.evict()


def test_a_loop_around_sleep_0_is_reported_by_line() -> None:
    async def handler(ctx: Ctx) -> None:
        while True:
            await asyncio.sleep(0)

    fault = faults(handler)
    assert isinstance(fault, HandlerStuck)
    assert f"{HERE}:{handler.__code__.co_firstlineno + 2} in " in str(fault)


def test_a_task_that_spins_is_reported_and_not_the_one_that_waits_for_it() -> None:
    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    async def handler(ctx: Ctx) -> None:
        await ctx.run(echo, 1)
        await asyncio.gather(spins(), asyncio.Event().wait())

    assert f"{HERE}:{spins.__code__.co_firstlineno + 2} in " in str(faults(handler))


def test_a_generator_handler_that_spins_is_reported_by_its_own_line() -> None:
    def handler(ctx: Ctx) -> Any:
        while True:
            yield asyncio.sleep(0)

    assert f"{HERE}:{handler.__code__.co_firstlineno + 2} in " in str(faults(handler))


def test_spinning_in_the_clean_up_after_the_end_is_reported_too() -> None:
    async def spins() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            while True:
                await asyncio.sleep(0)

    async def handler(ctx: Ctx) -> str:
        asyncio.create_task(spins())
        await asyncio.sleep(0)
        return "fine"

    assert isinstance(faults(handler), HandlerStuck)


def test_where_a_handler_waits_is_told_by_its_own_line() -> None:
    async def deeper() -> None:
        with anyio.move_on_after(60):
            await asyncio.Event().wait()

    async def handler(ctx: Ctx) -> None:
        await deeper()

    life = Life(handler)
    assert f"{HERE}:{deeper.__code__.co_firstlineno + 2} in " in life.machine.loop.where()
    life.machine.evict()
    assert life.machine.loop.where() == "in no live task"


@pytest.mark.parametrize("delay", [math.nan, math.inf, 1e12, 300 * 365 * 86400 * 100])
def test_a_timer_without_a_date_is_refused(delay: float) -> None:
    async def handler(ctx: Ctx) -> str:
        try:
            asyncio.get_running_loop().call_later(delay, print)
        except BadTimer as error:
            return str(error)

    life = Life(handler)
    assert "year 9999" in str(life.outcome)
    assert "ctx.promise" in str(life.outcome)
    assert life.machine.next_deadline() is None
    life.machine.evict()


def test_a_timer_before_all_time_is_refused_and_one_in_the_past_is_due() -> None:
    async def handler(ctx: Ctx) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(BadTimer):
            loop.call_at(-math.inf, print)
        loop.call_later(-5, loop.create_future().set_result, None)
        await ctx.run(echo, 1)

    life = Life(handler)
    assert life.machine.next_deadline() == life.machine.at - 5000
    assert life.machine.due(life.machine.at) is not None
    life.machine.evict()


def test_a_context_is_refused_in_the_body_of_a_step() -> None:
    async def handler(ctx: Ctx) -> None:
        def body() -> None:
            ctx.run(echo, 1)

        await ctx.run(body)

    life = Life(handler)
    with pytest.raises(WrongPlace, match="a step's body or other code"):
        life.flight["body#1"].fn()
    life.machine.evict()


def test_a_context_is_refused_in_another_invocation_after_its_end_and_after_eviction() -> None:
    taken: list[Ctx] = []

    async def gives(ctx: Ctx) -> None:
        taken.append(ctx)
        await ctx.promise("go")

    async def takes(ctx: Ctx) -> str:
        try:
            taken[0].run(echo, 1)
        except WrongPlace as error:
            return str(error)
        return "accepted"

    first = Life(gives)
    second = Life(takes)
    assert "another invocation is running" in str(second.outcome)
    first.receive(first.entry("go#1"))
    third = Life(takes)
    assert "its handler has ended" in str(third.outcome)
    with pytest.raises(WrongPlace, match="ended"):
        taken[0].run(echo, 1)
    for life in (first, second, third):
        life.machine.evict()
    with pytest.raises(WrongPlace, match="ended"):
        taken[0].promise("late")


def test_a_loop_kept_beyond_its_handler_says_that_it_is_closed() -> None:
    async def handler(ctx: Ctx) -> None:
        kept.append(asyncio.get_running_loop())

    kept: list[Any] = []
    life = Life(handler)
    life.machine.evict()
    loop, coroutine = kept[0], asyncio.sleep(0)
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.create_task(coroutine),
        loop.create_future,
        loop.getaddrinfo,
        loop.run,
        lambda: loop.run_in_executor(None, print),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    assert loop.is_closed()


def test_sys_exit_in_a_handler_ends_that_invocation_and_not_the_engine(logs: pytest.LogCaptureFixture) -> None:
    async def handler(ctx: Ctx) -> None:
        await ctx.run(echo, 1)
        raise SystemExit(3)

    machine = Watched()
    life = Life(handler, machine=machine)
    entry = life.entry("echo#1")
    machine.receive(entry)
    (command,) = machine.take_commands()
    assert isinstance(command, Raise)
    assert isinstance(command.error, SystemExit)
    machine.evict()


def test_ctrl_c_in_a_handler_stops_the_engine_and_not_that_invocation() -> None:
    async def handler(ctx: Ctx) -> None:
        raise KeyboardInterrupt

    machine = Watched()
    with pytest.raises(KeyboardInterrupt):
        Life(handler, machine=machine)
    assert machine.take_commands() == []
    machine.evict()


def test_a_generator_handler_that_yields_nonsense_hears_of_it() -> None:
    def handler(ctx: Ctx) -> Any:
        try:
            yield 42
        except BadHandler as error:
            return str(error)

    life = Life(handler)
    assert "yielded int, which cannot be awaited" in str(life.outcome)
    life.machine.evict()
