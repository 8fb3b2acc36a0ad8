"""Fits the rows of a table into lines of a screen, one each: for `pgqueue top`. Values only.

Figures and ids are whole. Names are cut in the middle, and no two names of one column to the same letters;
where even that is too wide, columns are left out, the last ones first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from typing import Final

from rich.cells import cell_len

from pgqueue.cli.pieces import end, sized
from pgqueue.cli.tables import GAP

LEAST: Final = 24
"""Characters of a name that are shown before columns are left out."""
DIGEST: Final = 6
"""Letters by which names are told apart that look the same when they are cut."""


def fit(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    shown: slice,
    names: Collection[str],
    numbers: Collection[str],
) -> list[str]:
    """Return the head and a line for each row that is *shown*: it looks the same whichever others are.

    *names*: the columns that may be cut. All texts are plain.
    """
    wanted = [
        max(map(cell_len, (column, *(row[place] for row in rows))), default=0)
        for place, column in enumerate(columns)
    ]
    least = [
        min(size, LEAST) if column in names else size for column, size in zip(columns, wanted, strict=True)
    ]
    count = next((count for count in range(len(columns), 1, -1) if _width(least[:count]) <= width), 1)
    of_names = [place for place in range(count) if columns[place] in names]
    room = width - _width([0 if place in of_names else wanted[place] for place in range(count)])
    sizes = list(wanted[:count])
    for place, size in zip(of_names, share(room, [wanted[place] for place in of_names]), strict=True):
        sizes[place] = size
    cut = [shortened((row[place] for row in rows), sizes[place]) for place in of_names]
    lines = [_line(columns[:count], sizes, columns, numbers)]
    for row in rows[shown]:
        cells = list(row[:count])
        for place, short in zip(of_names, cut, strict=True):
            cells[place] = short[row[place]]
        lines.append(_line(cells, sizes, columns, numbers))
    return [line if cell_len(line) <= width else middle(line, width) for line in lines]


def share(lines: int, wanted: Sequence[int]) -> list[int]:
    """Share *lines* among parts by what each wants: small parts get all of it, large ones an equal share."""
    given = [0] * len(wanted)
    left = max(lines, 0)
    for served, part in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        given[part] = min(wanted[part], left // (len(wanted) - served))
        left -= given[part]
    return given


def shortened(texts: Iterable[str], width: int) -> dict[str, str]:
    """Return each text as it is shown in *width*: different ones do not look the same."""
    short = {text: middle(text, width) for text in texts}
    looks = Counter(short.values())
    return {text: shown if looks[shown] == 1 else _told_apart(text, width) for text, shown in short.items()}


def middle(text: str, width: int) -> str:
    """Return *text*, cut in the middle if it is wider than *width*: names often differ at their ends."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return sized(text, max(width, 0))
    before = (width - 1) // 2
    return f"{sized(text, before)}…{end(text, width - 1 - before)}"


def _told_apart(text: str, width: int) -> str:
    if width <= DIGEST:
        return middle(text, width)
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST // 2).hexdigest()
    return f"{sized(text, width - DIGEST - 1)}…{digest}"


def _line(
    cells: Sequence[str], sizes: Sequence[int], columns: Sequence[str], numbers: Collection[str]
) -> str:
    padded = [
        f"{' ' * (size - cell_len(text))}{text}" if column in numbers else sized(text, size)
        for column, text, size in zip(columns, cells, sizes, strict=False)
    ]
    return (" " * GAP).join(padded).rstrip()


def _width(sizes: Sequence[int]) -> int:
    return sum(sizes) + GAP * max(len(sizes) - 1, 0)
