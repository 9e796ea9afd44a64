"""One store that outlives the engines over it, and what tests do to both: restart, wait, wind the clock, break."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Client, Holdfast, InvocationPaused, MemoryStore, Service, StoreFailed
from holdfast.stores.base import Batch, Store
from holdfast.stores.sqlite import SqliteStore

WAIT_SECONDS = 5.0  # for things that take milliseconds on a free machine


class World:
    """A store by kind and folder. Each `holdfast(...)` is a new process's view of it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.path = folder / "agent.db"
        self._memory = MemoryStore()

    def store(self) -> Store:
        return self._memory if self.kind == "memory" else SqliteStore(self.path)

    def holdfast(self, *handlers: Any, wrap: Callable[[Store], Store] | None = None, **options: Any) -> Holdfast:
        """An engine with these handlers and services over the one store, seen through `wrap` if given."""
        store = self.store() if wrap is None else wrap(self.store())
        services = [one for one in handlers if isinstance(one, Service)]
        hf = Holdfast(store, services=services, **options)
        for handler in handlers:
            if not isinstance(handler, Service):
                hf.handler(handler)
        return hf

    @contextlib.contextmanager
    def life(self, *handlers: Any, wrap: Callable[[Store], Store] | None = None, **options: Any) -> Iterator[Client]:
        """As `holdfast`, for a process that dies at the end of the block: nothing after it becomes durable, no body is
        waited for, nobody is told."""
        stores: list[BrokenStore] = []

        def mortal(inner: Store) -> Store:
            stores.append(BrokenStore(inner if wrap is None else wrap(inner)))
            return stores[0]

        with self.holdfast(*handlers, wrap=mortal, **options) as client:
            yield client
            stores[0].error = StoreFailed("the process is dead")
            in_engine(client, lambda: engine_of(client).fail(stores[0].error))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Store]:
        """The bare store, to look into while no engine has it."""
        store = self.store()
        store.open()
        try:
            yield store
        finally:
            store.close()

    def journal(self, id: str) -> list[bytes]:
        """The stored bytes of one invocation's journal; no engine may be running."""
        with self.opened() as store:
            return store.entries(store.find(id).n)

    def all_bytes(self) -> bytes:
        """Everything the store holds, whatever it means; no engine may be running."""
        if self.kind == "sqlite":
            return b"".join(path.read_bytes() for path in sorted(self.path.parent.iterdir()))
        return repr(vars(self._memory)).encode()


class Wrapped:
    """A store in front of another."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class SlowStore(Wrapped):
    """Commits take so long that all of them go to the writer thread."""

    SECONDS = 0.005

    def commit(self, batch: Batch) -> None:
        time.sleep(self.SECONDS)
        self.inner.commit(batch)


class BrokenStore(Wrapped):
    """Commits raise `error` while it is set; `refused` counts them."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.error: BaseException | None = None
        self.refused = 0

    def commit(self, batch: Batch) -> None:
        if self.error is not None:
            self.refused += 1
            raise self.error
        self.inner.commit(batch)


class FakeClock:
    """A wall clock that the test winds. It starts at a moment that is no whole second, as no real start is."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_123

    def now(self) -> int:
        return self.ms

    def wind(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def wait_for(holds: Callable[[], Any], what: str = "") -> Any:
    """Waits until `holds()` is true, and returns it."""
    until = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < until, f"never came: {what or holds}"
        time.sleep(0.002)
    return found


def paused(handle: Any) -> str:
    """Waits for the pause and returns its reason."""
    with pytest.raises(InvocationPaused) as caught:
        handle.result(WAIT_SECONDS)
    return caught.value.reason


def engine_of(client: Client) -> Any:
    return client._client._engine


def in_engine(client: Client, call: Callable[[], Any]) -> Any:
    """Runs a function on the engine's thread and returns what it returned."""

    async def work() -> Any:
        return call()

    return client._thread.call(work())


def tick(client: Client) -> None:
    """Lets the engine see a clock that was wound."""
    in_engine(client, engine_of(client)._timers._tick)


def open_promise(client: Client) -> str:
    """The id of the only open promise, once it is there."""
    (row,) = wait_for(lambda: engine_of(client).store.open_promises(9), "an open promise")
    return row.id


def one_ask(client: Client) -> Any:
    """The only open question, once it is there."""
    (ask,) = wait_for(client.asks, "a question in the inbox")
    return ask
