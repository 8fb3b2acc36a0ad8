"""Lays tables out as lines of text, in which no id and no name is cut. Values only.

What does not fit into a row stands below it, with the names of its columns. So every row keeps what tells it
from others, in windows of any width; what is written to a file or to a program has one line a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len

from pgqueue.cli.pieces import fitting, pieces, sized

GAP: Final = 2
"""Spaces between columns."""
INDENT: Final = 4
"""Spaces before what stands below a row."""
LEAST_PROSE: Final = 30
"""Characters that the last column is given beside the others, at least, if its texts are wrapped there."""
PROSE_LINES: Final = 4
"""Lines of one long text, at most."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns with their rows. All texts are plain: they have nothing that a terminal would obey."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[str] = ()
    """Columns that are aligned to the right."""
    prose: str | None = None
    """The last column, if it has texts of any length: they are wrapped, and cut after some lines."""

    def lines(self, width: int | None) -> list[str]:
        """Return the lines, the head first. *width*: in characters; None: each row is one line."""
        widths = [
            max(map(cell_len, (column, *(row[place] for row in self.rows))), default=0)
            for place, column in enumerate(self.columns)
        ]
        if width is None or _sum(widths) <= width:
            return [self._line(row, widths) for row in (self.columns, *self.rows)]
        width = max(width, INDENT + 2)
        fitting = self._fitting(widths, width)
        if self.prose is not None and fitting == len(widths) - 1:
            room = width - _sum(widths[:-1]) - GAP
            if room >= LEAST_PROSE:
                widths[-1] = room
                return [line for row in (self.columns, *self.rows) for line in self._with_prose(row, widths)]
        widths = [min(each, width) for each in widths[:fitting]]
        head = self._line(self.columns[:fitting], widths)
        return [
            *wrapped(head, width),
            *(line for row in self.rows for line in self._over_several_lines(row, widths, width)),
        ]

    @staticmethod
    def _fitting(widths: Sequence[int], width: int) -> int:
        """Return how many columns fit beside each other: the first always."""
        return next((count for count in range(len(widths), 1, -1) if _sum(widths[:count]) <= width), 1)

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = [
            f"{' ' * (size - cell_len(text))}{text}" if column in self.numbers else sized(text, size)
            for column, text, size in zip(self.columns, row, widths, strict=False)
        ]
        return (" " * GAP).join(cells).rstrip()

    def _with_prose(self, row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
        before = self._line(row[:-1], widths[:-1])
        first, *others = shortly(row[-1], widths[-1])
        at = _sum(widths[:-1]) + GAP
        yield f"{sized(before, at)}{first}".rstrip()
        yield from (f"{' ' * at}{each}" for each in others)

    def _over_several_lines(self, row: Sequence[str], widths: Sequence[int], width: int) -> Iterator[str]:
        if len(widths) == 1:
            yield from wrapped(row[0], width)
        else:
            yield self._line(row, widths)
        line, room = "", width - INDENT
        for column, text in list(zip(self.columns, row, strict=True))[len(widths) :]:
            if not text:
                continue
            part = f"{column} {text}"
            if line and cell_len(line) + GAP + cell_len(part) > room:
                yield f"{' ' * INDENT}{line}"
                line = ""
            line = f"{line}{' ' * GAP}{part}" if line else part
            if cell_len(line) > room:
                pieces = shortly(line, room) if column == self.prose else wrapped(line, room)
                yield from (f"{' ' * INDENT}{each}" for each in pieces[:-1])
                line = pieces[-1]
        if line:
            yield f"{' ' * INDENT}{line}"


def wrapped(text: str, width: int) -> list[str]:
    """Return *text* as lines of at most *width*: all of it, broken at spaces where there are some."""
    lines, text = [], text.strip(" ")
    while cell_len(text) > width:
        taken = _fitting_text(text, width)
        space = text.rfind(" ", 1, taken + 1)
        # A word is broken only if a line of its own would not hold it: an id is whole.
        is_short = space > 0 and cell_len(text[space + 1 :].partition(" ")[0]) <= width
        cut = space if is_short else taken
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip(" ")
    return [*lines, text]


def shortly(text: str, width: int) -> list[str]:
    """Return the first lines of a long text, which say whether there are more."""
    lines = wrapped(text, width)
    if len(lines) <= PROSE_LINES:
        return lines
    return [*lines[: PROSE_LINES - 1], f"{sized(lines[PROSE_LINES - 1], width - 1).rstrip()}…"]


def _fitting_text(text: str, width: int) -> int:
    """Return how many characters of *text* fit into *width*: those of one piece at least."""
    return fitting(text, width) or len(next(pieces(text)))


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(len(widths) - 1, 0)
