"""Reads queries.sql: one place for every statement, found by name. Knows nothing of what they mean."""

from __future__ import annotations

from importlib.resources import files

MARK = "-- name: "


def parse(source: str) -> dict[str, str]:
    """{name: statement}; comment lines are dropped, so that SQLite does not hash them at every call. {name} in a text
    becomes the earlier text of that name."""
    queries: dict[str, str] = {}
    for part in source.split(MARK)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line and not line.startswith("--")]
        text = "\n".join(lines).rstrip(";")
        for earlier, meaning in queries.items():
            text = text.replace(f"{{{earlier}}}", meaning)
        queries[name.strip()] = text
    return queries


QUERIES = parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
