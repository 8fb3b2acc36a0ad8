"""Prints the results of commands: tables, lines and JSON, with no text that a terminal would obey."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from pgqueue.cli.tables import Table

T = TypeVar("T")

LONGEST = 10_000
"""Characters of one text that are shown. JSON has them all."""


def announce(text: str) -> None:
    """Print a line of a program that goes on whether anybody reads it or not."""
    try:
        typer.echo(text)
    except OSError:
        # What is left in the buffer would fail again at the end, and with it the exit code.
        with open(os.devnull, "w") as nothing:  # noqa: PTH123  # no path of the user's
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def plain(text: str, *, keep_lines: bool = False, longest: int | None = LONGEST) -> str:
    """Return *text* with everything escaped that a terminal would obey or cannot show.

    *keep_lines*: line ends are kept, and tabs become spaces. *longest*: characters that are kept.
    """
    is_whole = longest is None or len(text) <= longest
    cut = text if is_whole else f"{text[:longest]}... ({len(text):,} characters)"
    if not keep_lines:
        return _escaped(cut)
    return "\n".join(_escaped(line.expandtabs(4)) for line in cut.split("\n"))


def _escaped(text: str) -> str:
    # Characters that change the direction of writing are not printable either.
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def as_text(value: object) -> str:
    """Return a JSON value on one line, for a reader."""
    return plain(json.dumps(value, ensure_ascii=False))


def known(figure: Callable[[T], str], value: T | None) -> str:
    """Return *value* as *figure* shows it, or nothing if there is none."""
    return "" if value is None else figure(value)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    prose: str | None = None,
) -> Table:
    """Return a table. Its texts are shown as they are, without markup; the first column is never cut.

    *numbers*: columns that are aligned to the right. *prose*: the last column, if its texts may be long: on a
    terminal it is cut after some lines.
    """
    # What reads a pipe gets all.
    longest = None if terminal_width() is None else LONGEST
    return Table(columns, [[plain(cell, longest=longest) for cell in row] for row in rows], numbers, prose)


def print_table(shown: Table) -> None:
    """Print a table, as wide as the terminal. Elsewhere each row is one line, however long."""
    head, *rows = shown.lines(terminal_width())
    Console().print(Text(head, style="bold"), soft_wrap=True)
    print_lines(rows)


def terminal_width() -> int | None:
    """Return the characters of a line of the terminal; None: stdout is none."""
    return Console().width if sys.stdout.isatty() else None


def print_lines(lines: Iterable[str]) -> None:
    """Print lines. They must be plain already."""
    for line in lines:
        typer.echo(line)


def print_json(document: Any, *, on_one_line: bool = False) -> None:
    """Print a document as JSON, in ASCII."""
    typer.echo(json.dumps(document, default=_as_json, indent=None if on_one_line else 2))


def say(as_json: bool, document: Any, text: str) -> None:
    """Print *document* as JSON, or *text* for a reader."""
    if as_json:
        print_json(document)
    else:
        typer.echo(plain(text))


def _as_json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
