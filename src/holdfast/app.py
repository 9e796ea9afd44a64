"""Holdfast: the object a program makes, and where the parts are put together."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from holdfast.blocking import Client, LoopThread
from holdfast.builds import build_of
from holdfast.client import AsyncClient
from holdfast.core.ids import check_id
from holdfast.engine.engine import Engine
from holdfast.engine.limits import Limits
from holdfast.engine.ports import Clock, Entropy, SystemClock, SystemEntropy
from holdfast.engine.schedules import Missed, Plan, make_rule
from holdfast.errors import BadArguments
from holdfast.http.options import HttpOptions
from holdfast.service import Handler, Registry, Service, check_function
from holdfast.stores.base import Store
from holdfast.stores.coded import Codec, CodedStore
from holdfast.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from holdfast.http.server import Servers

F = TypeVar("F", bound=Callable[..., Any])


class Holdfast:
    """Durable handlers over one store.

    store: the path of a SQLite file, made if it is not there, or a Store.
    services: the groups of handlers this process runs.
    deps: what handlers and steps get by name (clients, keys); held in memory, never stored.
    limits: bounds on memory and concurrency.
    codec: encodes and decodes every stored body, to encrypt or compress it; the store must have begun with it.
    build: what this version of the program is called; recorded with every start. A digest of its handlers' source files
        if left out.
    retention: how long ended invocations are kept; for ever if left out. Their ids are free again after it.
    clock, entropy: the sources of time and chance; tests give their own.

    `with` gives the blocking client, `async with` the async one; `run` serves until a signal.
    """

    def __init__(
        self,
        store: str | Path | Store,
        *,
        services: Iterable[Service] = (),
        deps: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        codec: Codec | None = None,
        build: str | None = None,
        retention: timedelta | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        below: Store = SqliteStore(Path(store)) if isinstance(store, (str, Path)) else store
        self._path = below.path if isinstance(below, SqliteStore) else None
        self._store: Store = below if codec is None else CodedStore(below, codec)
        self._registry = Registry()
        for service in services:
            for handler in service.handlers.values():
                self._registry.add(handler)
        self._deps = dict(deps or {})
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._build = build
        self._retention = retention
        self._plans: list[Plan] = []
        self._engine: Engine | None = None
        self._thread: LoopThread | None = None

    def handler(self, fn: F) -> F:
        """Registers a function as a handler under its own name, without a service, and returns it unchanged.
        Raises BadHandler."""
        self._registry.add(Handler(check_function(fn), fn))
        return fn

    def schedule(
        self, handler: Callable[..., Any] | str, /, *args: Any, id: str, cron: str | None = None,
        every: float | timedelta | None = None, zone: str = "UTC", missed: Missed = "once", key: str | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Runs a handler by the clock, with these arguments, as the schedule `id`.

        cron: five fields, read in the time zone `zone`; or every: seconds between two beginnings, 1 or more.
        missed: what becomes of times that passed while nothing ran: "once" makes up for the last of them, "skip" for
            none, "all" for each, 1,000 at most.

        Raises BadArguments, UnknownHandler.
        """
        found = self._registry.find(handler)
        found.check_key(key)
        if any(plan.id == id for plan in self._plans):
            raise BadArguments(f"there is a schedule {id!r} already", fix="give another id")
        if missed not in get_args(Missed):
            raise BadArguments(f"{missed!r} is no policy for missed times", fix="once, skip or all")
        rule = make_rule(cron, every, zone)
        self._plans.append(Plan(check_id(id), found, rule, missed, found.arguments.encode(args, kwargs), key))

    @property
    def store_path(self) -> Path | None:
        """The file of a SQLite store."""
        return self._path

    @property
    def handlers(self) -> list[Handler]:
        """Every handler, in order of registration."""
        return self._registry.all()

    @asynccontextmanager
    async def resting(self, store: str | Path | None = None) -> AsyncIterator[AsyncClient]:
        """Opens the store and runs nothing: what is started, answered, resumed or cancelled here goes on with the next
        program that runs it. For tools, while no such program runs. `store` is another file than this program's own,
        such as a backup."""
        opened = self._store if store is None else SqliteStore(Path(store))
        engine = self._make_engine(opened, resting=True)
        await engine.start()
        try:
            yield AsyncClient(engine, _place(opened))
        finally:
            await engine.stop()

    def __enter__(self) -> Client:
        thread = LoopThread()
        try:
            client = thread.call(self.__aenter__())
        except BaseException:
            thread.stop()
            raise
        self._thread = thread
        return Client(thread, client)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            thread.call(self.__aexit__(kind, error, trace))
        finally:
            thread.stop()

    async def __aenter__(self) -> AsyncClient:
        if self._engine is not None:
            raise BadArguments("this Holdfast is running already", fix="end the first `with` block, or make another")
        engine = self._make_engine(self._store, resting=False)
        await engine.start()
        self._engine = engine
        return AsyncClient(engine, _place(self._store))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()

    def _make_engine(self, store: Store, *, resting: bool) -> Engine:
        return Engine(
            store, self._registry,
            deps=self._deps, limits=self._limits, clock=self._clock, entropy=self._entropy,
            build=self._build if self._build is not None else build_of(self._registry.all()),
            plans=self._plans, retention=self._retention, resting=resting,
        )  # fmt: skip

    def serve(self, options: HttpOptions | None = None) -> None:
        """Runs and answers HTTP until SIGINT or SIGTERM: calls on port 8080, control on 9070, both of this machine
        only unless `options` says otherwise. Says in one line where, on standard output. Needs
        `pip install holdfast[server]`.

        Raises BadArguments for a port in use, or an address beyond this machine without a token; StoreError.
        """
        from holdfast.http.server import serve

        asyncio.run(serve(self, options or HttpOptions(), _say_where))

    async def over(self) -> None:
        """Returns when the engine is told to end. Raises what made it fail."""
        engine = self._engine
        assert engine is not None  # for the type checker: it is asked inside `async with`
        await engine.over.wait()
        if engine.failure is not None:
            raise engine.failure

    def run(self) -> None:
        """Serves until SIGINT or SIGTERM: then bodies that run may finish, the rest is parked. A second signal ends
        at once; what was acknowledged goes on at the next start. Raises StoreError when the store fails: start again.
        """
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        async with self:
            engine = self._engine
            assert engine is not None  # for the type checker: `async with` made it

            def stop() -> None:
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.remove_signal_handler(number)
                    signal.signal(number, signal.SIG_DFL)
                engine.over.set()

            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop)
            await self.over()


def _say_where(servers: Servers) -> None:
    # Not logged: most programs set no logging up, and who starts a server wants to know.
    print(f"holdfast: calls on {servers.ingress_url}, control on {servers.admin_url}", flush=True)  # noqa: T201


def _place(store: Store) -> str:
    return str(store.path if isinstance(store, SqliteStore) else type(store).__name__)
