"""The clients of the examples: what takes long when they are opened does not hold up the engine's loop."""

from __future__ import annotations

import ssl
import threading

import pytest

from examples.services import async_openai, dependencies
from holdfast import Context, Holdfast, MemoryStore


def test_certificates_are_read_once_and_not_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = ssl.create_default_context

    def reading(*args: object, **kwargs: object) -> ssl.SSLContext:
        read.append(threading.get_ident())
        return whole(*args, **kwargs)  # type: ignore[arg-type]

    model = async_openai()
    loops: list[int] = []

    async def ask() -> str:
        loops.append(threading.get_ident())
        said = await model.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hello"}])
        return str(said.choices[0].message.content)

    async def handler(ctx: Context) -> str:
        return await ctx.run(ask)

    deps = dependencies()
    hf = Holdfast(MemoryStore(), deps=deps)
    hf.handler(handler)
    monkeypatch.setattr(ssl, "create_default_context", reading)
    with hf as client:
        assert client.call(handler, timeout=20)
    deps["services"].close()
    assert len(read) == 1
    assert not set(read) & set(loops)
