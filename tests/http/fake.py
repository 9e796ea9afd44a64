"""A stand-in for the client while the engine is being rewritten: invocations in memory, run as plain tasks."""

import asyncio
import dataclasses
import datetime as dt
import itertools
from typing import Any

import msgspec

from holdfast import errors
from holdfast.service import Handler
from holdfast.values import codec_for
from holdfast.views import AskView, CheckView, EventView, InfoView, PromiseView, ScheduleView


@dataclasses.dataclass
class View:
    id: str
    target: str
    key: str | None
    status: str
    created: Any
    began: Any
    updated: Any
    wake_at: Any
    reason: str | None
    parent: str | None
    call: str | None
    build: str
    origin: str | None
    input: Any = None
    output: Any = None


def now():
    return dt.datetime.now(dt.UTC)


class Ctx:
    def __init__(self, client, inv):
        self.client, self.inv = client, inv
        self.id, self.key, self.headers = inv.view.id, inv.view.key, inv.headers

    async def run(self, fn, *args):
        value = fn(*args)
        value = await value if asyncio.iscoroutine(value) else value
        self.inv.emit("step", {"id": f"{fn.__name__}#1", "output": value})
        return value

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)

    def promise(self, name=None, *, type=Any, question="", about=None):
        future = asyncio.get_running_loop().create_future()
        future.id = f"prm_{next(self.client.count):032x}"
        self.client.promises[future.id] = [
            PromiseView(future.id, self.id, question, {}, about, now(), None, "open", None), future, type,
        ]
        return future

    def ask(self, question, type=str, *, about=None):
        return self.promise(type=type, question=question, about=about)

    async def receive(self, name):
        return await self.inv.box(name).get()

    def emit(self, value):
        self.inv.emit("emit", {"value": value})

    def get(self, name, type=Any, default=None):
        return self.client.states.get((self.inv.handler.service, self.key), {}).get(name, default)

    def set(self, name, value):
        self.client.states.setdefault((self.inv.handler.service, self.key), {})[name] = value


class Invocation:
    def __init__(self, client, handler, id, key, text, headers):
        self.client, self.handler, self.text, self.headers = client, handler, text, headers
        self.view = View(id, handler.target, key, "ready", now(), now(), now(), None, None, None, None, "", None)
        self.view.input = msgspec.json.decode(text)
        self.events: list[EventView] = []
        self.changed = asyncio.Event()
        self.boxes: dict[str, asyncio.Queue] = {}
        self.error: Exception | None = None
        self.emit("status", {"status": "ready"})
        self.task = asyncio.ensure_future(self.go())

    def box(self, name):
        return self.boxes.setdefault(name, asyncio.Queue())

    def emit(self, kind, data):
        self.events.append(EventView(str(len(self.events) + 1), kind, data))
        self.changed.set()
        self.changed = asyncio.Event()

    async def go(self):
        args, kwargs = self.handler.arguments.decode(self.text)
        try:
            value = await self.handler.fn(Ctx(self.client, self), *args, **kwargs)
            self.output = self.handler.returns.encode(value)
            self.view.output = msgspec.json.decode(self.output)
            self.end("done")
        except errors.TerminalError as error:
            self.error = error
            self.end("failed")
        except asyncio.CancelledError:
            self.error = errors.InvocationCancelled(f"invocation {self.view.id!r} was cancelled: {self.view.reason}")
            self.end("cancelled")
        except Exception as error:
            self.error = errors.InvocationFailed(self.view.id, type(error).__name__, str(error), "Traceback")
            self.end("failed")

    def end(self, status):
        self.view.status, self.view.updated = status, now()
        self.emit("status", {"status": status})


class Handle:
    def __init__(self, client, inv):
        self.id, self.inv, self.client = inv.view.id, inv, client

    async def result_json(self, timeout=None):
        async with asyncio.timeout(timeout):
            while not self.inv.task.done():
                await asyncio.wait([self.inv.task])
        if self.inv.error:
            raise self.inv.error
        return self.inv.output

    async def status(self):
        return self.inv.view

    async def journal(self):
        return []

    async def inputs(self, step):
        raise errors.UnknownInvocation(f"no step {step!r}")

    async def cancel(self, reason):
        if self.inv.task.done():
            raise errors.WrongStatus(f"invocation {self.id!r} has ended already", fix="there is nothing to cancel")
        self.inv.view.reason = reason
        self.inv.task.cancel()
        await asyncio.wait([self.inv.task])

    kill = cancel

    async def pause(self, reason):
        raise errors.WrongStatus("no")

    async def resume(self):
        raise errors.WrongStatus(f"invocation {self.id!r} is not paused")

    retry = resume

    async def purge(self):
        if not self.inv.task.done():
            raise errors.WrongStatus("it runs")
        del self.client.table[self.id]

    async def restart(self, *, from_step=None, new_id=None):
        return await self.client.start_json(self.inv.handler.target, b"", id=new_id)


class FakeClient:
    def __init__(self, *services):
        self.services = services
        self.table: dict[str, Invocation] = {}
        self.by_key: dict[tuple[str, str], str] = {}
        self.promises: dict[str, list] = {}
        self.states: dict[tuple[str, str], dict] = {}
        self.count = itertools.count(1)
        self.store: Any = None

    def handlers(self) -> list[Handler]:
        return [handler for service in self.services for handler in service.handlers.values()]

    async def start_json(self, target, body, *, id=None, key=None, delay=None, idempotency_key=None, headers=None):
        handler = next(one for one in self.handlers() if one.target == target)
        handler.check_key(key)
        text = handler.arguments.encode_json(body)
        if idempotency_key and (target, idempotency_key) in self.by_key:
            return await self.attach(self.by_key[target, idempotency_key])
        id = id or f"inv_{next(self.count):024}"
        if id in self.table:
            if self.table[id].text != text:
                raise errors.IdConflict(f"the id {id!r} belongs to an invocation of another input", fix="use another")
            return await self.attach(id)
        await asyncio.sleep(0)
        self.table[id] = Invocation(self, handler, id, key, text, headers)
        if idempotency_key:
            self.by_key[target, idempotency_key] = id
        return Handle(self, self.table[id])

    async def attach(self, id):
        if id not in self.table:
            raise errors.UnknownInvocation(f"no invocation has the id {id!r}", fix="check the id")
        return Handle(self, self.table[id])

    async def signal_json(self, id, name, body):
        self.table[id].box(name).put_nowait(msgspec.json.decode(body))

    async def promise(self, id):
        return self._open(id)[0]

    async def resolve_json(self, id, body):
        self._settle(id, "resolved", body)

    async def reject(self, id, reason):
        self._settle(id, "rejected", reason)

    def _open(self, id):
        if id not in self.promises:
            raise errors.UnknownPromise(f"no promise has the id {id!r}", fix="check the id")
        return self.promises[id]

    def _settle(self, id, status, given):
        view, future, type = self._open(id)
        if future.done():
            raise errors.AlreadySettled(f"promise {id!r} cannot be settled", fix="nothing")
        if status == "resolved":
            try:
                future.set_result(codec_for(type).decode(given))
            except errors.Unreadable as error:
                raise errors.BadArguments(f"the value does not fit promise {id!r}", cause=error.what) from None
        else:
            future.set_exception(errors.TerminalError(given, status=409))
        self.promises[id][0] = dataclasses.replace(view, status=status)

    async def asks(self):
        return [
            AskView(view.id, view.invocation, view.question, view.schema, view.about, view.created, None)
            for view, _, _ in self.promises.values() if view.question and view.status == "open"
        ]

    async def list(self, *, status=None, target=None, key=None, parent=None, before=None, limit=100):
        found = [inv.view for inv in reversed(self.table.values()) if status in (None, inv.view.status)]
        if before is not None:
            found = found[[view.id for view in found].index(before) + 1 :]
        return found[:limit]

    async def purge_ended(self, older_than):
        ended = [id for id, inv in self.table.items() if inv.task.done()]
        for id in ended:
            del self.table[id]
        return len(ended)

    async def fork_json(self, id, step, body, *, new_id=None):
        return await (await self.attach(id))._fork(step, body)

    async def objects(self, service, *, after="", limit=100):
        return sorted(key for name, key in self.states if name == service and key > after)[:limit]

    async def state(self, service, key):
        return self.states.get((service, key), {})

    async def set_state(self, service, key, name, value):
        self.states.setdefault((service, key), {})[name] = value
        if value is None:
            del self.states[service, key][name]

    async def schedules(self):
        return [ScheduleView("daily", "Demo/echo", "0 9 * * *", now(), None, False)]

    async def pause_schedule(self, id):
        raise errors.UnknownSchedule(f"no schedule {id!r}")

    resume_schedule = trigger_schedule = pause_schedule

    async def watch(self, id, *, after=None):
        inv = self.table[id]
        if after is not None and not after.isdigit():
            raise errors.BadArguments(f"{after!r} is no event", fix="leave it out")
        index = int(after or 0)
        while True:
            while index < len(inv.events):
                yield inv.events[index]
                index += 1
            if inv.task.done():
                return
            await inv.changed.wait()

    async def check(self):
        return [CheckView("inv_1", "Demo/echo", True, None)]

    async def info(self):
        counts: dict[str, int] = {}
        for inv in self.table.values():
            counts[inv.view.status] = counts.get(inv.view.status, 0) + 1
        return InfoView("0.1.0", "b", "memory", 1.0, counts, 0, 0, ["Demo"])

    async def backup(self, path):
        path.write_bytes(b"copy")


class FakeProgram:
    """In place of a Holdfast."""

    def __init__(self, *services, store_path=None):
        self.client = FakeClient(*services)
        self.store_path = store_path
        self.failed = None

    async def __aenter__(self):
        self.over_event = asyncio.Event()
        return self.client

    async def __aexit__(self, *exc):
        for inv in self.client.table.values():
            inv.task.cancel()

    async def over(self):
        await self.over_event.wait()
        if self.failed:
            raise self.failed
