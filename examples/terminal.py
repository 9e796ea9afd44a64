"""What the examples do at the command line: read an id and a text, wait for the answer, tell what it took.

Promises: the same line again goes on with the same run, for its id is the same. A person who is asked may leave:
the question stays in the store.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from holdfast import Client, Handle

MESSAGE = "a name for the message: the same words under another name are another message"
BEGAN = datetime.now(UTC)  # of this process: what finished before it was not done by it


def options(about: str | None, *, id: str, text: str, **more: str) -> argparse.Namespace:
    """`--id` and a text, with what they are when left out. `about` is the example's docstring; `more` are options, each
    with what it is for."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("text", nargs="?", default=text)
    parser.add_argument("--id", default=id, help=f"the same id goes on with the same run (default: {id})")
    for name, told in more.items():
        parser.add_argument(f"--{name}", help=told)
    return parser.parse_args()


def result(client: Client, run: Handle[Any]) -> Any:
    """What the run returns; what it asks on the way is put to the person at the keyboard."""
    while True:
        try:
            return run.result(timeout=0.1)
        except TimeoutError:
            for ask in client.asks():
                about = "" if ask.about is None else f"\n{json.dumps(ask.about, ensure_ascii=False)}"
                client.answer(ask.id, _read(f"\n{ask.invocation} asks: {ask.question}{about}\n> "))


def account(client: Client, run: Handle[Any], margin: str = "") -> None:
    """Every step of the run and of what it called, the time it took, and whether an earlier process had done it."""
    print(f"{margin}{run.id}:" if margin else f"\n{run.id}:")
    for line in run.journal():
        if line.kind not in {"step", "call", "promise"}:
            continue
        took = line.finished - line.started if line.finished and line.started else None
        told = "" if took is None else f"{took.total_seconds() * 1000:6.0f} ms"
        before = "  (recorded by an earlier process)" if line.finished and line.finished < BEGAN else ""
        print(f"{margin}  {line.id:30} {line.state:8} {told}{before}")
        if line.child:
            account(client, client.attach(line.child), margin + "    ")


def _read(prompt: str) -> Any:
    """An answer: JSON, or words."""
    try:
        words = input(prompt)
    except (EOFError, KeyboardInterrupt):
        print("\nIt waits. The same command goes on with it.")
        raise SystemExit(0) from None
    try:
        return json.loads(words)
    except ValueError:
        return words
