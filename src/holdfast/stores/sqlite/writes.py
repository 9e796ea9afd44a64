"""Turns a batch into as few statements as possible.

apsw gives up the interpreter lock around every statement and, while another thread computes, gets it back only after a
switch interval (5 ms). So the number of statements, not of rows, decides how long a commit takes beside a busy loop:
200 rows took 77 ms as 200 statements, 21 ms in fixed chunks of 64, 8 and 1, 5.5 ms as one.

One statement must therefore take any number of rows, and each size costs a prepared statement. Hence a few sizes, and
padding: rows of NULLs that the statement's WHERE drops. Without other threads this costs nothing measurable.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from holdfast.stores.base import Batch, KeyRow, MoveRow, StateRow
from holdfast.stores.sqlite.queries import QUERIES

SIZES = (1, 4, 16, 64, 256, 1024)
PARAMETERS_MAX = 19 * 256  # a prepared statement keeps about 200 bytes for each


class Write(NamedTuple):
    """One statement to run. `changes`: how many rows it must change, None where a constraint watches."""

    sql: str
    values: Sequence[object]
    changes: int | None


class ManyRows:
    """A statement with {values} in it, in a few sizes."""

    def __init__(self, name: str, columns: int, *, counted: bool = False) -> None:
        row = f"({', '.join('?' * columns)})"
        self._columns = columns
        self._counted = counted
        self._sizes = [size for size in SIZES if size * columns <= PARAMETERS_MAX]
        self._statements = {
            size: QUERIES[name].replace("{values}", f"VALUES {', '.join([row] * size)}") for size in self._sizes
        }

    def writes(self, rows: Sequence[tuple[object, ...]]) -> Iterator[Write]:
        if len(rows) == 1:  # as most are: a step's entry
            yield Write(self._statements[1], rows[0], 1 if self._counted else None)
            return
        most = self._sizes[-1]
        for first in range(0, len(rows), most):
            part = rows[first : first + most]
            size = self._sizes[bisect_left(self._sizes, len(part))]
            values = list(chain.from_iterable(part))
            values += [None] * (size * self._columns - len(values))
            yield Write(self._statements[size], values, len(part) if self._counted else None)


_STARTS = ManyRows("add_starts", 19)
_ENTRIES = ManyRows("add_entries", 3)
_MOVES = ManyRows("move", 7, counted=True)
_BLOBS = ManyRows("add_blobs", 4)
_PROMISES = ManyRows("add_promises", 7, counted=True)
_SETTLES = ManyRows("settle", 4, counted=True)
_REWRITES = ManyRows("rewrite", 2)
_STATES = ManyRows("put_states", 4)
_NO_STATES = ManyRows("drop_states", 3)
_ITEMS = ManyRows("add_items", 5)
_TRIMS = ManyRows("trim", 4)
_WAITERS = ManyRows("add_waiters", 2)
_NO_WAITERS = ManyRows("drop_waiters", 1)
_FORGETS = [ManyRows(f"forget_{table}", 2) for table in ("promises", "states", "items")]
_PURGES = [ManyRows(f"purge_{table}", 1) for table in ("waiters", "invocations", "entries", "blobs", "promises")]


def last_moves(moves: list[MoveRow]) -> list[MoveRow]:
    """Of several moves of one invocation the last, which overwrites all that the others wrote, but for `began`."""
    last: dict[int, MoveRow] = {}
    for move in moves:
        earlier = last.get(move.n)
        last[move.n] = move._replace(began=earlier.began) if earlier and move.began is None else move
    return moves if len(last) == len(moves) else list(last.values())


def _moves(moves: list[MoveRow]) -> Iterator[Write]:
    return _MOVES.writes(last_moves(moves))


def _purges(numbers: list[int]) -> Iterator[Write]:
    yield Write(QUERIES["keep_last_number"], [], None)
    rows = [(n,) for n in numbers]
    for table in _PURGES:
        yield from table.writes(rows)


def _forgets(keys: list[KeyRow]) -> Iterator[Write]:
    for table in _FORGETS:
        yield from table.writes(keys)


def _states(states: list[StateRow]) -> Iterator[Write]:
    last = {row[:3]: row for row in states}
    yield from _STATES.writes([row for row in last.values() if row.body is not None])
    yield from _NO_STATES.writes([key for key, row in last.items() if row.body is None])


def _unwaits(subjects: list[str]) -> Iterator[Write]:
    return _NO_WAITERS.writes([(subject,) for subject in subjects])


# In the order of Batch.
_TABLES: dict[str, Callable[[Any], Iterable[Write]]] = {
    "purges": _purges,
    "forgets": _forgets,
    "rewrites": _REWRITES.writes,
    "starts": _STARTS.writes,
    "entries": _ENTRIES.writes,
    "moves": _moves,
    "blobs": _BLOBS.writes,
    "promises": _PROMISES.writes,
    "settles": _SETTLES.writes,
    "states": _states,
    "items": _ITEMS.writes,
    "trims": _TRIMS.writes,
    "waiters": _WAITERS.writes,
    "unwaits": _unwaits,
}
_rows_of = attrgetter(*_TABLES)


def plan(batch: Batch) -> list[Write]:
    """The statements of one commit, in the order of `Batch`."""
    tables = zip(_rows_of(batch), _TABLES.values(), strict=True)
    return [write for rows, writes in tables if rows for write in writes(rows)]
