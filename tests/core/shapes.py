"""The corpus: what handlers look like when they use asyncio, one shape each. The anyio ones are next door.

`echo` gives its argument back and `fail` raises, so a result says which step it came from.
"""

import asyncio
import contextlib
import sys
from contextvars import ContextVar
from functools import partial
from typing import Any

from holdfast.errors import BadHandler, StepFailed, TerminalError
from tests.core.case import Ctx, cancellable, shape

who: ContextVar[str] = ContextVar("who", default="nobody")


def echo(value: Any) -> Any:
    return value


def double(value: int) -> int:
    return 2 * value


def fail(text: str) -> None:
    raise ValueError(text)


def refuse(text: str) -> None:
    raise TerminalError(text, status=404)


def my_name(prefix: str) -> str:
    return prefix + who.get()


@shape
async def chain(ctx: Ctx) -> Any:
    value = 1
    for _ in range(5):
        value = await ctx.run(double, value)
    return value


@shape
async def several_names(ctx: Ctx) -> Any:
    first = await ctx.run(echo, "a", name="first")
    second = await ctx.run(echo, first + "b", name="second")
    return await ctx.run(echo, second + "c", name="first")


@shape
async def failures(ctx: Ctx) -> Any:
    seen = []
    try:
        await ctx.run(fail, "no")
    except StepFailed as error:
        seen.append([error.step, error.error_type, error.message])
    try:
        await ctx.run(refuse, "gone")
    except TerminalError as error:
        seen.append([str(error), error.status])
    seen.append(await ctx.run(echo, len(seen)))
    await ctx.run(fail, "for good")
    return seen


@shape
async def gathered(ctx: Ctx) -> Any:
    async def two(n: int) -> Any:
        return [await ctx.run(echo, n), await ctx.run(echo, n + 1)]

    mixed = await asyncio.gather(ctx.run(echo, "plain"), two(10), two(20), asyncio.create_task(two(30)))
    errors = await asyncio.gather(ctx.run(fail, "x"), ctx.run(echo, 1), return_exceptions=True)
    return [mixed, [str(type(one)) for one in errors]]


@shape
async def gather_that_fails(ctx: Ctx) -> Any:
    async def one(n: int) -> Any:
        try:
            return await ctx.run(echo if n else fail, f"n{n}")
        finally:
            ctx.note(f"out {n}")

    try:
        return await asyncio.gather(*(one(n) for n in range(4)))
    except StepFailed as error:
        return [error.step, await ctx.run(echo, "after")]


@shape
async def steps_started_before_they_are_awaited(ctx: Ctx) -> Any:
    early, late, twice = ctx.run(echo, 1), ctx.run(echo, 2), ctx.run(echo, 3)
    done = [await late, await early, await twice, await twice]
    task = asyncio.create_task(ctx.run(echo, 4))
    also = asyncio.ensure_future(ctx.run(echo, 5))
    ctx.run(echo, "never awaited")
    return [*done, await task, await also]


@shape
async def steps_nobody_awaits(ctx: Ctx) -> Any:
    ctx.run(echo, "left")
    ctx.promise("left")
    given = await ctx.run(echo, "taken")
    ctx.run(echo, "left again").cancel()
    return given


@shape
async def task_group(ctx: Ctx) -> Any:
    async def inner(n: int) -> int:
        await asyncio.sleep(n)
        async with asyncio.TaskGroup() as group:
            a = group.create_task(ctx.run(echo, n))
            b = group.create_task(outer_most(n))
        return a.result() + b.result()

    async def outer_most(n: int) -> Any:
        return await ctx.run(double, await ctx.run(double, n))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(inner(n)) for n in range(3)]
        group.create_task(ctx.run(echo, "straight"))
    return [task.result() for task in tasks]


@shape
async def task_group_with_a_failing_child(ctx: Ctx) -> Any:
    async def child(n: int) -> None:
        try:
            await ctx.run(echo, n)
            await asyncio.Event().wait()
        finally:
            ctx.note(f"clean {n}")
            await ctx.run(echo, f"cleaned {n}")

    async def doomed() -> None:
        await ctx.run(fail, "down")

    try:
        async with asyncio.TaskGroup() as group:
            for n in range(6):
                group.create_task(child(n))
            group.create_task(doomed())
    except* StepFailed as group_error:
        failed = [str(one) for one in group_error.exceptions]
    return failed


@shape
async def timeout(ctx: Ctx) -> Any:
    try:
        async with asyncio.timeout(5):
            return await ctx.run(echo, "in time")
    except TimeoutError:
        return await ctx.run(echo, "too late")


@shape
async def timeouts_in_timeouts(ctx: Ctx) -> Any:
    seen = []
    try:
        async with asyncio.timeout(10) as outer:
            for n in range(4):
                try:
                    async with asyncio.timeout(3):
                        seen.append(await ctx.run(echo, n))
                        await asyncio.sleep(1)
                except TimeoutError:
                    seen.append(await ctx.run(echo, f"late {n}"))
                outer.reschedule(asyncio.get_running_loop().time() + 4)
    except TimeoutError:
        seen.append("all late")
    return seen


@shape
async def wait_for(ctx: Ctx) -> Any:
    async def slow() -> Any:
        try:
            return [await ctx.run(echo, 1), await ctx.run(echo, 2)]
        except asyncio.CancelledError:
            await ctx.run(echo, "undo")
            raise

    seen = []
    for waited in (ctx.run(echo, "step"), slow(), asyncio.create_task(slow()), ctx.promise("answer")):
        try:
            seen.append(await asyncio.wait_for(waited, 2))
        except TimeoutError:
            seen.append("late")
    try:
        await asyncio.wait_for(ctx.run(echo, "never begun"), 0)
    except TimeoutError:
        seen.append("at once")
    return seen


@shape
async def wait_for_the_first(ctx: Ctx) -> Any:
    async def job(n: int) -> Any:
        try:
            await ctx.run(echo, n)
            return await ctx.run(echo, 10 * n)
        finally:
            ctx.note(f"out {n}")

    seen = []
    todo = {asyncio.create_task(job(n)) for n in range(8)}
    while len(todo) > 3:
        done, todo = await asyncio.wait(todo, return_when=asyncio.FIRST_COMPLETED)
        seen += [await ctx.run(echo, task.result()) for task in done]
    for task in todo:
        task.cancel()
    ends = await asyncio.wait(todo) if todo else [[]]
    return [seen, [task.cancelled() for task in ends[0]]]


@shape
async def wait_with_a_timeout(ctx: Ctx) -> Any:
    async def job(n: int) -> Any:
        return await ctx.run(fail if n == 3 else echo, f"j{n}")

    tasks = [asyncio.create_task(job(n)) for n in range(6)]
    done, pending = await asyncio.wait(tasks, timeout=3, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    ends = await asyncio.gather(*pending, return_exceptions=True)
    order = [await ctx.run(echo, tasks.index(task)) for task in done]
    return [order, [type(end).__name__ for end in ends], [str(task.exception()) for task in done]]


@shape
async def wait_on_bare_steps(ctx: Ctx) -> Any:
    steps = [ctx.run(echo, n) for n in range(5)]
    done, pending = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
    for step in pending:
        step.cancel()
    first = [step.result() for step in done]
    again = await asyncio.wait({ctx.run(echo, n) for n in (7, 8)})
    return [first, sorted(step.result() for step in again[0])]


@shape
async def as_completed(ctx: Ctx) -> Any:
    async def work(n: int) -> Any:
        await ctx.run(echo, n, name="load")
        return [n, await ctx.run(double, n)]

    saved = []
    for ready in asyncio.as_completed([work(n) for n in range(8)]):
        n, value = await ready
        saved.append([n, value, await ctx.run(echo, [n, value], name=f"save {n}")])
    return saved


@shape
async def as_completed_in_time(ctx: Ctx) -> Any:
    seen = []
    try:
        for ready in asyncio.as_completed([ctx.run(echo, n) for n in range(4)], timeout=4):
            seen.append(await ready)  # noqa: PERF401  # what came before the timeout counts
    except TimeoutError:
        seen.append("late")
    return seen


@shape
async def gathers_in_a_set(ctx: Ctx) -> Any:
    async def work(n: int) -> Any:
        try:
            return await ctx.run(echo, n)
        finally:
            ctx.note(f"out {n}")

    todo = [asyncio.gather(*(work(10 * n + k) for k in range(2))) for n in range(8)]
    done, pending = await asyncio.wait(todo, return_when=asyncio.FIRST_COMPLETED)
    for one in pending:
        one.cancel()
    ends = await asyncio.gather(*pending, return_exceptions=True)
    return [[one.result() for one in done], len(ends)]


@shape
async def sleep(ctx: Ctx) -> Any:
    async def nap(seconds: float) -> Any:
        await asyncio.sleep(seconds)
        return await ctx.run(echo, seconds)

    loop = asyncio.get_running_loop()
    before = loop.time()
    naps = await asyncio.gather(*(nap(seconds) for seconds in (0.0004, 3, 1, 2, 1, 86_400)))
    await asyncio.sleep(0)
    await asyncio.sleep(-1)
    return [naps, loop.time() - before >= 86_400, await asyncio.sleep(0.5, "value")]


@shape
async def shield(ctx: Ctx) -> Any:
    async def charge() -> Any:
        await ctx.run(echo, "charge")
        return await ctx.run(echo, "receipt")

    charging = asyncio.create_task(charge())
    try:
        async with asyncio.timeout(1):
            await asyncio.shield(charging)
    except TimeoutError:
        ctx.note("goes on")
    bare = ctx.run(echo, "bare")
    outer = asyncio.shield(bare)
    outer.cancel()
    return [await charging, await bare]


@shape
async def event(ctx: Ctx) -> Any:
    opened, log = asyncio.Event(), []

    async def waiter(n: int) -> None:
        await opened.wait()
        log.append(await ctx.run(echo, n))

    async def opener() -> None:
        await ctx.run(echo, "key")
        opened.set()

    await asyncio.gather(*(waiter(n) for n in range(3)), opener())
    return log


@shape
async def condition(ctx: Ctx) -> Any:
    full, box, taken = asyncio.Condition(), [], []

    async def taker(n: int) -> None:
        async with full:
            await full.wait_for(lambda: bool(box))
            thing = box.pop()
        taken.append([n, thing, await ctx.run(echo, f"{n} {thing}")])

    async def giver(n: int) -> None:
        thing = await ctx.run(echo, n)
        async with full:
            box.append(thing)
            full.notify(1)

    await asyncio.gather(*(taker(n) for n in range(3)), *(giver(n) for n in range(3)))
    return taken


@shape
async def queue(ctx: Ctx) -> Any:
    ready: asyncio.Queue[Any] = asyncio.Queue(maxsize=2)
    saved = []

    async def producer(n: int) -> None:
        for k in range(2):
            await ready.put(await ctx.run(echo, 10 * n + k))

    async def consumer() -> None:
        while True:
            thing = await ready.get()
            saved.append(await ctx.run(echo, thing, name="save"))
            ready.task_done()

    async with asyncio.TaskGroup() as group:
        eater = asyncio.create_task(consumer())
        for n in range(4):
            group.create_task(producer(n))
    await ready.join()
    eater.cancel()
    return saved


@shape
async def locks(ctx: Ctx) -> Any:
    lock, few, log = asyncio.Lock(), asyncio.Semaphore(2), []

    async def worker(n: int) -> None:
        async with few:
            await ctx.run(echo, n)
            async with lock:
                log.append(await ctx.run(echo, 10 * n))

    await asyncio.gather(*(worker(n) for n in range(5)))
    return log


@shape
async def barrier(ctx: Ctx) -> Any:
    together, log = asyncio.Barrier(3), []

    async def walker(n: int) -> None:
        await ctx.run(echo, n)
        place = await together.wait()
        log.append([n, place, await ctx.run(echo, 10 * n)])

    await asyncio.gather(*(walker(n) for n in range(3)))
    return log


@shape
async def threads(ctx: Ctx) -> Any:
    who.set("ada")
    loop = asyncio.get_running_loop()
    names = [asyncio.to_thread(my_name, prefix=f"{n} ") for n in range(3)]
    plain = loop.run_in_executor(None, echo, "plain")
    wrapped = loop.run_in_executor(None, partial(echo, "wrapped"))
    return [*await asyncio.gather(*names), await plain, await wrapped]


@shape
async def generator_consumed(ctx: Ctx) -> Any:
    async def pages() -> Any:
        try:
            for n in range(3):
                yield await ctx.run(echo, n)
                await asyncio.sleep(1)
        finally:
            await ctx.run(echo, "closed")

    seen = [await ctx.run(double, page) async for page in pages()]
    return [seen, [x async for x in pages()]]


@shape
async def generator_broken_off(ctx: Ctx) -> Any:
    async def pages() -> Any:
        try:
            for n in range(5):
                yield await ctx.run(echo, n)
        finally:
            ctx.note("closing")
            await ctx.run(echo, "closed")

    seen = []
    async for page in pages():
        seen.append(page)
        if page == 1:
            break
    return [seen, await ctx.run(echo, "next"), await ctx.run(echo, "last")]


@shape
async def generator_closed_by_hand(ctx: Ctx) -> Any:
    async def pages() -> Any:
        try:
            while True:
                yield await ctx.run(echo, "page")
        finally:
            await ctx.run(echo, "closed")

    source = pages()
    try:
        async with contextlib.aclosing(source), asyncio.timeout(9):
            first = await anext(source)
            await ctx.run(fail, "stop")
    except (StepFailed, TimeoutError) as error:
        return [type(error).__name__, await ctx.run(echo, "after")]
    return first


@shape
async def generators_left_open(ctx: Ctx) -> Any:
    async def pages(n: int) -> Any:
        try:
            while True:
                yield await ctx.run(echo, n)
        finally:
            ctx.note(f"closing {n}")
            await ctx.run(echo, f"closed {n}")
            await asyncio.sleep(1)

    sources = [pages(n) for n in range(4)]
    kept.extend(sources)
    return [await anext(source) for source in sources]


kept: list[Any] = []  # as an SDK might keep a stream in a module's cache: nothing but the end closes it


@shape
async def generator_in_a_task_left_behind(ctx: Ctx) -> Any:
    async def pages() -> Any:
        try:
            while True:
                yield await ctx.run(echo, "page")
        finally:
            await ctx.run(echo, "closed")
            await ctx.run(echo, "closed for good")

    async def reader() -> None:
        async for page in pages():
            ctx.note(page)
            await asyncio.sleep(1)

    asyncio.create_task(reader())
    await ctx.run(echo, "work")
    return await ctx.run(echo, "more work")


@shape
async def context_variables(ctx: Ctx) -> Any:
    who.set("root")

    async def person(name: str) -> Any:
        before = who.get()
        token = who.set(name)
        first = await asyncio.to_thread(my_name, "I am ")
        second = await ctx.run(my_name, "still ")
        who.reset(token)
        return [before, first, second, who.get()]

    people = await asyncio.gather(person("ada"), person("bob"))
    return [people, who.get()]


@shape
def written_as_a_generator(ctx: Ctx) -> Any:
    log: list[Any] = []
    try:
        first = yield ctx.run(echo, 1)
        both = yield asyncio.gather(ctx.run(echo, first + 1), ctx.run(echo, first + 2))
        log.append(both)
        try:
            yield ctx.run(fail, "bad")
        except StepFailed as error:
            log.append(error.message)
        try:
            yield "nothing to wait for"
        except BadHandler as error:
            log.append(type(error).__name__)
        yield asyncio.sleep(3)
        log.append((yield asyncio.wait_for(ctx.promise("ok"), 60)))
    except TimeoutError:
        log.append("late")
    finally:
        log.append((yield ctx.run(echo, "finally")))
    return log


@cancellable
def generator_cancelled(ctx: Ctx) -> Any:
    try:
        for n in range(4):
            yield ctx.run(echo, n)
            yield asyncio.sleep(1)
    except asyncio.CancelledError:
        yield ctx.run(echo, "undo")
        raise
    finally:
        yield ctx.run(echo, "finally")
    return "done"


@cancellable
async def cancelled_with_compensation(ctx: Ctx) -> Any:
    undo: list[str] = []

    async def book(what: str) -> None:
        await ctx.run(echo, what, name="book")
        undo.append(what)

    try:
        await book("flight")
        await asyncio.gather(book("hotel"), book("car"))
        await ctx.promise("approved")
    except asyncio.CancelledError:
        for what in reversed(undo):
            await ctx.run(echo, what, name="cancel")
        raise
    return undo


@cancellable
async def cancelled_but_goes_on(ctx: Ctx) -> Any:
    seen = []
    for n in range(4):
        try:
            seen.append(await ctx.run(echo, n))
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            seen.append("no")
    return seen


@cancellable
async def cancelled_in_a_group(ctx: Ctx) -> Any:
    async def child(n: int) -> None:
        try:
            await ctx.run(echo, n)
            await asyncio.sleep(n)
        except asyncio.CancelledError:
            await ctx.run(echo, f"undo {n}")
            raise

    async with asyncio.TaskGroup() as group:
        for n in range(5):
            group.create_task(child(n))
    return "done"


@cancellable
async def cancelled_in_a_timeout(ctx: Ctx) -> Any:
    try:
        async with asyncio.timeout(2):
            await ctx.run(echo, 1)
            await ctx.promise("never mind")
    except TimeoutError:
        return await ctx.run(echo, "late")
    return "settled"


@shape
async def tasks_left_behind(ctx: Ctx) -> Any:
    async def background(n: int) -> None:
        try:
            while True:
                await ctx.run(echo, n)
                await asyncio.sleep(10)
        finally:
            ctx.note(f"stops {n}")
            await ctx.run(echo, f"stopped {n}")

    for n in range(3):
        asyncio.create_task(background(n))
    await ctx.run(echo, "work")
    return await ctx.run(echo, "more work")


@shape
async def chance(ctx: Ctx) -> Any:
    before = [ctx.uuid(), ctx.random.random()]
    await ctx.run(echo, before)
    return [before, ctx.uuid(), await ctx.run(echo, ctx.random.randrange(1000))]


@shape
async def race(ctx: Ctx) -> Any:
    async def runner(n: int) -> Any:
        return [await ctx.run(echo, n), await ctx.run(echo, -n)]

    runners = [asyncio.create_task(runner(n)) for n in (1, 2)]
    done, pending = await asyncio.wait(runners, return_when=asyncio.FIRST_COMPLETED)
    for loser in pending:
        loser.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loser
    return [done.pop().result(), await ctx.run(echo, "prize")]


@shape
async def agent(ctx: Ctx) -> Any:
    """Turns of a model with parallel tools of two steps each."""

    async def tool(turn: int, n: int) -> Any:
        raw = await ctx.run(echo, f"{turn}.{n}", name="fetch")
        return await ctx.run(echo, f"<{raw}>", name="summarise")

    messages: list[Any] = ["hello"]
    for turn in range(2):
        messages.append(await ctx.run(echo, messages[-1], name="model"))
        messages.append(await asyncio.gather(*(tool(turn, n) for n in range(3))))
    return messages


@shape
async def swap(ctx: Ctx) -> Any:
    """Two chains of the same step side by side: neither may ever get the other's result."""

    async def two(n: int) -> Any:
        first = await ctx.run(echo, n)
        return [n, first, await ctx.run(echo, first * 10)]

    pair = await asyncio.gather(two(1), two(2))
    assert pair == [[1, 1, 10], [2, 2, 20]], pair
    return pair


@shape
async def promises(ctx: Ctx) -> Any:
    async def ask(n: int) -> Any:
        try:
            async with asyncio.timeout(100 * n):
                return await ctx.promise("ask")
        except TimeoutError:
            return f"no answer {n}"

    return await asyncio.gather(*(ask(n) for n in range(1, 4)))


@shape
async def callbacks(ctx: Ctx) -> Any:
    """Steps that bare callbacks ask for, outside every task."""
    loop = asyncio.get_running_loop()
    log: list[Any] = []
    finished = loop.create_future()

    def on_done(step: Any) -> None:
        log.append(step.result())
        if len(log) == 4:
            finished.set_result(None)
        elif len(log) == 2:
            loop.call_later(1, begin, "later")

    def begin(value: str) -> None:
        ctx.run(echo, value).add_done_callback(on_done)

    loop.call_soon(begin, "soon")
    loop.call_at(loop.time() + 2, begin, "at")
    loop.call_soon_threadsafe(begin, "safe")
    await finished
    return log


@shape
async def cancels_all_tasks(ctx: Ctx) -> Any:
    async def job(n: int) -> None:
        try:
            await ctx.run(echo, n)
            await ctx.promise("go")
        finally:
            ctx.note(f"out {n}")
            await ctx.run(echo, f"out {n}")

    tasks = [asyncio.create_task(job(n)) for n in range(12)]
    await ctx.run(echo, "enough")
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
    return [type(end).__name__ for end in await asyncio.gather(*tasks, return_exceptions=True)]


@shape
async def exit_stack(ctx: Ctx) -> Any:
    @contextlib.asynccontextmanager
    async def session(n: int) -> Any:
        token = who.set(f"session {n}")
        await ctx.run(echo, f"open {n}")
        try:
            yield n
        finally:
            await ctx.run(echo, f"close {n}")
            who.reset(token)

    async with contextlib.AsyncExitStack() as stack:
        names = [await stack.enter_async_context(session(n)) for n in range(3)]
        await ctx.run(my_name, "in ")
    return [names, who.get()]


@shape
async def tasks_in_tasks(ctx: Ctx) -> Any:
    async def grow(depth: int, n: int) -> Any:
        if not depth:
            return await ctx.run(echo, n)
        children = [asyncio.create_task(grow(depth - 1, 2 * n + k)) for k in range(2)]
        return [await child for child in children]

    return await grow(3, 0)


if sys.version_info >= (3, 12):

    @shape
    async def eager_tasks(ctx: Ctx) -> Any:
        loop = asyncio.get_running_loop()

        async def job(n: int) -> Any:
            ctx.note(f"job {n} begins")
            return [await ctx.run(echo, n), await ctx.run(echo, 10 * n)]

        tasks = []
        for n in range(3):
            tasks.append(asyncio.eager_task_factory(loop, job(n)))
            ctx.note(f"job {n} made")
        return await asyncio.gather(*tasks)


if sys.version_info >= (3, 13):

    @shape
    async def as_completed_for_async(ctx: Ctx) -> Any:
        async def work(n: int) -> Any:
            await ctx.run(echo, n, name="load")
            return await ctx.run(double, n)

        tasks = {asyncio.create_task(work(n)): n for n in range(5)}
        return [[tasks[task], await task] async for task in asyncio.as_completed(tasks)]

    @shape
    async def queue_shut_down(ctx: Ctx) -> Any:
        ready: asyncio.Queue[Any] = asyncio.Queue()
        log = []

        async def consumer() -> None:
            with contextlib.suppress(asyncio.QueueShutDown):
                while True:
                    log.append(await ctx.run(echo, await ready.get()))

        async with asyncio.TaskGroup() as group:
            group.create_task(consumer())
            for n in range(3):
                await ready.put(await ctx.run(echo, n, name="load"))
            ready.shutdown()
        return log
