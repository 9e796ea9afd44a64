"""One handler, run again and again over a store that dies at each of its commits in turn."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from holdfast import AsyncClient, Holdfast, StoreError
from holdfast.core import entries
from tests.crash.mortal import MortalStore

ID = "it"


class Dying:
    """`counts` are of all lives together: bodies count themselves in it by name."""

    def __init__(self, service: Any, start: Callable[[AsyncClient], Any], **options: Any) -> None:
        self.service, self.start, self.options = service, start, options
        self.store = MortalStore()
        self.answer_asks: Callable[[Any], Any] | None = None

    async def live(self) -> Any:
        async with Holdfast(self.store, services=[self.service], **self.options) as client:
            handle = await self.start(client)
            while True:
                try:
                    return await handle.result(0.02 if self.answer_asks else 10)
                except TimeoutError:
                    assert self.answer_asks, "the run takes too long"
                    for ask in await client.asks():
                        await client.answer(ask.id, self.answer_asks(ask))

    def finished(self) -> Counter[str]:
        """Steps with a recorded result, by name."""
        self.store.open()
        names: Counter[str] = Counter()
        for row in self.store.list(limit=1000):
            journal = [entries.decode_entry(body) for body in self.store.entries(row.n)]
            names.update(
                entry.step.rpartition("/")[2].split("#")[0]
                for entry in journal
                if isinstance(entry, entries.StepCompleted)
            )
        self.store.close()
        return names


def die_everywhere(make: Callable[[], Dying], bodies: Callable[[], Counter[str]], *, every: int = 1) -> tuple[Any, int]:
    """The answer, which is the same in all lives, and how many lives ended early. `bodies()`: how often each body ran
    since it was asked last."""
    world = make()
    answer = asyncio.run(world.live())
    all_bodies = bodies()
    died = 0
    for commit in range(1, world.store.commits + 1, every):
        for keeps_last in (False, True):
            world = make()
            world.store.die_at(commit, keeps_last=keeps_last)
            bodies()
            try:
                asyncio.run(world.live())
            except StoreError:
                died += 1
                finished = world.finished()
                bodies()
                assert asyncio.run(world.live()) == answer, f"another answer after a death at commit {commit}"
                again = bodies()
                for name, count in all_bodies.items():
                    assert again[name] + finished[name] == count, (
                        f"{name}: {finished[name]} were recorded, {again[name]} ran after the death at {commit}, "
                        f"{count} in a life without one"
                    )
    return answer, died
