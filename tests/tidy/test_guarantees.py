"""The page of guarantees names tests; they must be there, and every promise must have some."""

import re

from tests.tidy.tree import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", PAGE)


def test_every_test_that_the_page_names_exists() -> None:
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert missing == []


def test_every_promise_is_shown_by_a_test() -> None:
    rows = re.findall(r"^\| (G\d+) \|.*$", PAGE, re.MULTILINE)
    assert rows == [f"G{number}" for number in range(1, 13)]
    assert all("`tests/" in line for line in PAGE.splitlines() if re.match(r"\| G\d+ \|", line))
