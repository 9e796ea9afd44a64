"""What a user can import is written down, and nothing else is public by accident."""

import inspect
import re

import pytest

import holdfast
from holdfast import AsyncClient, AsyncHandle, Client, Handle, errors
from holdfast.http import refusals
from tests.tidy.tree import ROOT


def test_every_public_name_says_what_it_is() -> None:
    silent = [
        name
        for name in holdfast.__all__
        if (inspect.isclass(thing := getattr(holdfast, name)) or callable(thing)) and not (thing.__doc__ or "").strip()
    ]
    assert silent == []


def test_every_public_name_stands_in_the_reference() -> None:
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in holdfast.__all__ if not re.search(rf"`(holdfast\.)?{name}\b", reference)]
    assert missing == []


@pytest.mark.parametrize("blocking, other", [(Client, AsyncClient), (Handle, AsyncHandle)])
def test_the_blocking_classes_have_every_method_of_the_others(blocking: type, other: type) -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        found = {name: thing for name, thing in vars(kind).items() if callable(thing) and not name.startswith("_")}
        return {name: list(inspect.signature(thing).parameters) for name, thing in found.items()}

    passed_on = {name for name in methods(other) if name.endswith("_json")}  # for programs that have a loop
    assert methods(blocking) == {name: it for name, it in methods(other).items() if name not in passed_on}


def test_every_error_code_is_explained() -> None:
    pages = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    codes = [
        thing.code
        for thing in {**vars(errors), **vars(refusals)}.values()
        if isinstance(thing, type) and issubclass(thing, errors.HoldfastError | errors.HandlerFault)
    ]
    bases = [code for code in codes if code.endswith("00")]
    assert [code for code in codes if code not in pages and code not in bases] == []
    assert len(codes) == len(set(codes))
