"""What a function says it returns."""

from __future__ import annotations

import functools
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from holdfast.errors import BadHandler
from holdfast.values import MISSING, codec_for, returns_of
from holdfast.values.hints import _returns
from tests.values.kinds import Hotel, Stop, shown

if TYPE_CHECKING:
    from nowhere import Ghost


async def async_str() -> str: ...
def sync_list() -> list[Stop]: ...
def unannotated(): ...
def nothing() -> None: ...
def noted() -> Annotated[int, "metres"]: ...
def awaits() -> Awaitable[Stop]: ...
def coroutine() -> Coroutine[Any, Any, int]: ...
def handler(ctx) -> Generator[Any, Any, Hotel]:
    yield


def bare_generator(ctx):
    yield


def iterator(ctx) -> Iterator[int]:
    yield 1


async def stream() -> AsyncGenerator[int]:
    yield 1


def ghost_argument(x: Ghost) -> Stop: ...
def ghost() -> Ghost: ...


class Client:
    def sync(self) -> Stop: ...
    async def ask(self) -> str: ...
    @classmethod
    def make(cls) -> Client: ...
    @staticmethod
    def fixed() -> int: ...


class Callee:
    def __call__(self) -> Stop: ...


class Heir(Callee):
    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("no")


def logged(fn):
    @functools.wraps(fn)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return inner


@pytest.mark.parametrize(
    "fn, hint",
    [
        (async_str, str),
        (sync_list, list[Stop]),
        (unannotated, MISSING),
        (nothing, None),
        (noted, Annotated[int, "metres"]),
        (awaits, Stop),
        (coroutine, int),
        (handler, Hotel),
        (bare_generator, MISSING),
        (iterator, MISSING),
        (stream, MISSING),
        (ghost_argument, Stop),
        (Client().sync, Stop),
        (Client().ask, str),
        (Client.make, Client),
        (Client.fixed, int),
        (Callee(), Stop),
        (Heir(), Stop),
        (functools.partial(sync_list), list[Stop]),
        (functools.partial(functools.partial(Client().ask)), str),
        (functools.partial(handler), Hotel),
        (logged(sync_list), list[Stop]),
        (functools.lru_cache(sync_list), list[Stop]),
        (Stop, Stop),
        (int, int),
        (len, MISSING),
        (lambda: 5, MISSING),
    ],
    ids=shown,
)
def test_the_return_hint_of_any_callable_is_found(fn, hint):
    assert returns_of(fn) == hint
    assert returns_of(fn) == hint  # and remembered


def test_a_name_that_cannot_be_resolved_is_named():
    with pytest.raises(BadHandler, match=r"return annotation 'Ghost' of ghost\(\) cannot be resolved") as caught:
        returns_of(ghost)
    assert "returns=..." in str(caught.value)


def test_a_class_of_the_enclosing_function_is_found_where_the_function_uses_it():
    class Local: ...

    def used() -> Local:
        return Local()

    def unused() -> Local: ...

    assert returns_of(used) is Local
    with pytest.raises(BadHandler, match="local to a function"):
        returns_of(unused)


def test_functions_made_in_a_loop_are_not_kept():
    gc.collect()
    before = len(_returns)
    for _ in range(50):
        returns_of(logged(sync_list))
        returns_of(Callee())
    gc.collect()
    assert len(_returns) <= before + 2


def test_none_is_an_annotation_and_missing_is_not():
    fn: Callable[..., Any] = nothing
    assert codec_for(returns_of(fn)).encode_checked(None) == (b"null", None)
    assert codec_for(returns_of(unannotated)).encode_checked(None) == (b"null", None)
    assert repr(MISSING) == "MISSING"
