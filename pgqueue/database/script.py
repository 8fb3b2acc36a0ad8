"""Divides a script of SQL into its statements, so that an error can name the one that failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""--[^\n]*
      | '(?:[^']|'')*'
      | "[^"]*"
      | (?P<tag>\$\w*\$) .*? (?P=tag)
      | \b(?P<opens>case|begin\s+atomic)\b
      | \b(?P<closes>end)\b
      | (?P<stop>;)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_COMMENTS: Final = re.compile(r"(?:\s|--[^\n]*\n)*")


def statements_of(script: str) -> Iterator[tuple[int, str]]:
    """Yield each statement of *script*, without the comments before it, and the line that it begins in.

    A function's body is part of its statement, whether it is quoted or not (`begin atomic`).
    """
    begin = depth = 0
    for token in _TOKEN.finditer(script):
        if token["opens"]:
            depth += 1
        elif token["closes"]:
            depth -= 1
        elif token["stop"] and depth <= 0:
            yield from _statement(script, begin, token.end())
            begin, depth = token.end(), 0
    yield from _statement(script, begin, len(script))


def _statement(script: str, begin: int, end: int) -> Iterator[tuple[int, str]]:
    comments = _COMMENTS.match(script, begin, end)
    assert comments is not None
    if statement := script[comments.end() : end].strip():
        yield script.count("\n", 0, comments.end()) + 1, statement
