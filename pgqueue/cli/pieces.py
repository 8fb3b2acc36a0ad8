"""Cuts text for a terminal without taking apart what a reader sees as one character. Values only.

An emoji can be several characters that a joiner holds together, a flag is two letters, and an accent may be a
character of its own. Whoever counts the columns of each alone counts too many, and cuts in their middle.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len

JOINER: Final = "\u200d"
FLAGS: Final = range(0x1F1E6, 0x1F200)
"""The letters that flags are made of, two each."""
SKINS: Final = range(0x1F3FB, 0x1F400)
"""Colours of the emoji before them."""


def pieces(text: str) -> Iterator[str]:
    """Yield the parts of *text* that are not to be cut: a character, and what belongs to it."""
    piece = ""
    for each in text:
        if piece and not _belongs(each, piece):
            yield piece
            piece = ""
        piece += each
    if piece:
        yield piece


def _belongs(each: str, piece: str) -> bool:
    """Whether a character goes on with the piece before it."""
    if each.isascii():
        return False
    if piece[-1] == JOINER and unicodedata.category(each) == "So":
        return True
    if ord(each) in FLAGS:
        return len(piece) == 1 and ord(piece) in FLAGS
    return ord(each) in SKINS or unicodedata.category(each)[0] == "M" or cell_len(each) == 0


def fitting(text: str, width: int) -> int:
    """Return how many characters of *text* fit into *width* columns."""
    count = size = 0
    for piece in pieces(text):
        size += cell_len(piece)
        if size > width:
            break
        count += len(piece)
    return count


def sized(text: str, width: int) -> str:
    """Return *text* in just *width* columns: cut behind a piece, or with spaces behind it."""
    if cell_len(text) > width:
        text = text[: fitting(text, width)]
    return f"{text}{' ' * (width - cell_len(text))}"


def end(text: str, width: int) -> str:
    """Return the end of *text* in just *width* columns, with spaces before it."""
    size, taken = 0, ""
    for piece in reversed(list(pieces(text))):
        size += cell_len(piece)
        if size > width:
            break
        taken = piece + taken
    return f"{' ' * (width - cell_len(taken))}{taken}"
