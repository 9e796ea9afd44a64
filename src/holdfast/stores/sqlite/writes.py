"""Turns a batch into as few statements as possible.

apsw gives up the interpreter lock around every statement and, while another thread computes, gets it back only after a
switch interval (5 ms). So the number of statements, not of rows, decides how long a commit takes beside a busy loop:
200 rows took 77 ms as 200 statements, 21 ms in fixed chunks of 64, 8 and 1, 5.5 ms as one.

One statement must therefore take any number of rows, and each size costs a prepared statement. Hence a few sizes, and
padding: rows of NULLs that the statement's WHERE drops. Without other threads this costs nothing measurable.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from holdfast.stores.base import Batch, MoveRow
from holdfast.stores.sqlite.queries import QUERIES

SIZES = (1, 4, 16, 64, 256, 1024)
PARAMETERS_MAX = 4096  # a prepared statement keeps about 200 bytes for each


class Write(NamedTuple):
    """One statement to run. `changes`: how many rows it must change, None where a constraint watches."""

    sql: str
    values: list[object]
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
        most = self._sizes[-1]
        for first in range(0, len(rows), most):
            part = rows[first : first + most]
            size = self._sizes[bisect_left(self._sizes, len(part))]
            values = list(chain.from_iterable(part))
            values += [None] * (size * self._columns - len(values))
            yield Write(self._statements[size], values, len(part) if self._counted else None)


_STARTS = ManyRows("add_starts", 10)
_ENTRIES = ManyRows("add_entries", 3)
_MOVES = ManyRows("move", 5, counted=True)
_BLOBS = ManyRows("add_blobs", 4)
_PROMISES = ManyRows("add_promises", 7)
_SETTLES = ManyRows("settle", 4, counted=True)


def plan(batch: Batch) -> list[Write]:
    """The statements of one commit, in the order of `Batch`."""
    return [
        *_STARTS.writes(batch.starts),
        *_ENTRIES.writes(batch.entries),
        *_MOVES.writes(last_moves(batch.moves)),
        *_BLOBS.writes(batch.blobs),
        *_PROMISES.writes(batch.promises),
        *_SETTLES.writes(batch.settles),
    ]


def last_moves(moves: list[MoveRow]) -> list[MoveRow]:
    """Of several moves of one invocation the last: it overwrites all that the others wrote."""
    last = {move.n: move for move in moves}
    return moves if len(last) == len(moves) else list(last.values())
