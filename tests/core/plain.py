"""Runs a shape on asyncio's own loop, with nothing durable about it: what the handler's loop is measured against.

The clock jumps to the next timer instead of waiting for it; steps are tasks that take a random while.
"""

import asyncio
import json
import selectors
from collections import Counter
from random import Random
from typing import Any

from holdfast.errors import StepFailed, TerminalError
from tests.core import case


class JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing but threads; what would be waited for is added to the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


class PlainCtx:
    """As Ctx, on whatever loop runs."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.asked: Counter[str] = Counter()

    def run(self, fn: Any, *args: Any, name: str | None = None, **kwargs: Any) -> asyncio.Task[Any]:
        spec = case.plan(fn, args, kwargs, name)
        self.asked[f"run {spec.name} {spec.digest.hex()}"] += 1
        return asyncio.ensure_future(self._body(spec))

    def promise(self, name: str) -> asyncio.Task[Any]:
        self.asked[f"open {name}"] += 1
        return asyncio.ensure_future(self._settled(name))

    def note(self, text: object) -> None:
        self.asked[f"note {text}"] += 1

    async def _settled(self, name: str) -> str:
        await self._a_while()
        return f"settled {name}"

    async def _body(self, spec: Any) -> Any:
        await self._a_while()
        try:
            return spec.context.run(spec.fn, *spec.args, **spec.kwargs)
        except TerminalError:
            raise
        except Exception as error:  # noqa: BLE001  # as the engine would
            raise StepFailed(spec.name, type(error).__name__, str(error)) from None

    async def _a_while(self) -> None:
        await asyncio.sleep(self.random.choice((0, 0.001, 0.007, 0.04, 3, 50)))


async def handle(shape: case.Shape, ctx: PlainCtx) -> Any:
    return await shape(ctx)


def plain(shape: case.Shape, seed: int) -> tuple[str, Counter[str]]:
    """How the shape ends, and what it asks for, in any order."""
    ctx = PlainCtx(seed)
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        result = runner.run(handle(shape, ctx))
    return json.dumps(result), ctx.asked


def durable(shape: case.Shape, seed: int) -> tuple[str, Counter[str]]:
    """The same from the handler's own loop."""
    run = case.live(shape, seed)
    asked: Counter[str] = Counter()
    for line in run.trace:
        what, _, rest = line.partition(" ")
        if what == "run":
            path, _, digest = rest.rpartition(" ")
            asked[f"run {path.rpartition('#')[0].rpartition('/')[2]} {digest}"] += 1
        elif what == "open":
            asked[f"open {rest.rpartition('#')[0].rpartition('/')[2]}"] += 1
        elif what == "note":
            asked[line] += 1
    return run.snapshots[-1]["outcome"][1], asked
