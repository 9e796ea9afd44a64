"""Reads queries.sql: one place for every statement, found by name. Knows nothing of what they mean."""

from __future__ import annotations

from importlib.resources import files

MARK = "-- name: "


def parse(text: str) -> dict[str, str]:
    """{name: statement}; comment lines are dropped, so that SQLite does not hash them at every call."""
    queries: dict[str, str] = {}
    for part in text.split(MARK)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line and not line.startswith("--")]
        queries[name.strip()] = "\n".join(lines).rstrip(";")
    return queries


QUERIES = parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
