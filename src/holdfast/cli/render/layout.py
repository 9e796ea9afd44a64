"""Columns and lines, laid out here and not by the terminal library: an id is never cut, for people copy it.

Promises: one row is one line. When there is too little room, only the column that is named as elastic gives way; on a
pipe nothing does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.text import Text

from holdfast.cli.render.words import clean

Cell = str | Text

GAP = "  "
ELASTIC_CELLS_MIN = 12


class Columns:
    """Rows under column heads. `elastic` is the column that is cut, `right` those whose cells end at the right."""

    def __init__(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        *,
        elastic: int | None = None,
        right: Sequence[int] = (),
    ) -> None:
        cells = [[_safe(cell) for cell in row] for row in rows]
        # A column that is empty in every row says nothing.
        self._used = [index for index in range(len(heads)) if any(row[index].plain for row in cells)]
        head = [_safe(Text(text, "dim")) for text in heads]
        self._rows = ([head] if any(heads) and cells else []) + cells
        self._elastic = elastic
        self._right = right

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        widths = {index: max(cell_len(row[index].plain) for row in self._rows) for index in self._used}
        if self._elastic in widths:
            rest = sum(widths.values()) - widths[self._elastic] + len(GAP) * (len(widths) - 1)
            widths[self._elastic] = max(ELASTIC_CELLS_MIN, min(widths[self._elastic], options.max_width - rest))
        for row in self._rows:
            line = Text(GAP).join(self._cell(row[index], index, widths[index]) for index in self._used)
            line.rstrip()
            yield line

    def _cell(self, cell: Text, index: int, width: int) -> Text:
        missing = width - cell_len(cell.plain)
        if missing < 0:
            return cut(cell, width)
        fill = Text(" " * missing)
        return fill + cell if index in self._right else cell + fill


class Line:
    """One line that is cut at the edge of the terminal."""

    def __init__(self, text: Text) -> None:
        self._text = _safe(text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield cut(self._text, options.max_width)


def _safe(cell: Cell) -> Text:
    """The cell without control characters, whoever made it."""
    if isinstance(cell, str):
        return Text(clean(cell))
    return cell if cell.plain.isprintable() else Text(clean(cell.plain).replace("\n", " "), cell.style)


def cut(text: Text, width: int) -> Text:
    """At most `width` cells, with a mark where something is missing."""
    if cell_len(text.plain) <= width:
        return text
    kept = text.copy()
    kept.right_crop(len(text.plain) - len(set_cell_size(text.plain, width - 1).rstrip()))
    return kept + Text("…")
