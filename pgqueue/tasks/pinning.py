"""Tasks whose jobs stay with the version of the code that enqueued them.

The version is a part of the task's name. So everything that knows what to do with a task that a worker does
not declare (lanes, the grace, the log) holds for a version that it does not declare, and claims pay nothing.
"""

from __future__ import annotations

from typing import Final

from pgqueue.errors import InvalidTaskError
from pgqueue.model.checks import shown, text

MAX_VERSION_LENGTH: Final = 200


def pinned_name(name: str, version: str | None, around: str | None, *, pin: bool) -> str:
    """Return the name under which jobs of task *name* are stored. *around*: the version of the PgQueue.

    Raises InvalidTaskError, InvalidOptionError.
    """
    if not isinstance(pin, bool):
        raise InvalidTaskError(f"task {name!r}: pin must be True or False, got {shown(pin)}")
    if not pin:
        if version is not None:
            raise InvalidTaskError(f"task {name!r}: a version needs pin=True, which keeps its jobs with it")
        return name
    given = around if version is None else version
    if given is None:
        raise InvalidTaskError(
            f"task {name!r}: pin=True needs a version; pass version= here, or to the PgQueue"
        )
    what = f"task {name!r}: version"
    text(what, given, longest=MAX_VERSION_LENGTH)
    if not given.isprintable():
        raise InvalidTaskError(f"{what} must contain only printable characters, got {given!r}")
    return f"{name}@{given}"
