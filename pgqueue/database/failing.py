"""Which statement of `sql/` failed, for the log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from traceback import walk_tb
from typing import Final

from pgqueue.database.sql import ROOT

_HEADER: Final = re.compile(r"-- (\w+):")
_ROOM: Final = "pgqueue.store."


def statement_of(error: BaseException) -> str | None:
    """Return the file of the statement at which *error* was raised, such as "upkeep/promote"; None: at none.

    The server's errors bring the statement's text. Others, such as those of a value that cannot be decoded,
    have passed through the function of the store that has the statement's name.
    """
    cause: BaseException | None = error
    while cause is not None:
        query = getattr(cause, "query", None)
        if isinstance(query, str) and (header := _HEADER.match(query)) and (path := _paths().get(header[1])):
            return path
        for name in _called(cause):
            if path := _paths().get(name):
                return path
        cause = cause.__cause__
    return None


def log_fields(error: BaseException) -> dict[str, str | None]:
    """Return what a log record about *error* has besides its message: `statement`, see statement_of."""
    return {"statement": statement_of(error)}


def _called(error: BaseException) -> Iterator[str]:
    """Yield the functions of the store that *error* has passed through."""
    for frame, _ in walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith(_ROOM):
            yield frame.f_code.co_name


@cache
def _paths() -> dict[str, str]:
    """Return the statements' files, as FOLDER/NAME, by name."""
    return {
        name: f"{folder.name}/{name}"
        for folder in ROOT.iterdir()
        if folder.is_dir() and folder.name != "migrations"
        for file in folder.iterdir()
        if (name := file.name.removesuffix(".sql")) != file.name
    }
