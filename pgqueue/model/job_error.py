"""The part of an error that is stored."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class JobError:
    """The error of an attempt: the exception's type, its message and its traceback, as text."""

    type: str
    message: str
    traceback: str | None = field(default=None, repr=False)


MAX_MESSAGE = 10_000
"""Maximum number of stored characters of an error message."""

MAX_TRACEBACK = 50_000
"""Maximum number of stored characters of a traceback."""


def describe(error: BaseException) -> JobError:
    """Return what to store of an exception. Never raises."""
    try:
        message = str(error)
    except BaseException as broken:
        message = f"<the message could not be read: {type(broken).__name__}>"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:
        trace = ""
    return JobError(
        clean(type(error).__qualname__), clean(message)[:MAX_MESSAGE], clean(trace)[-MAX_TRACEBACK:]
    )


def clean(text: str) -> str:
    """Make *text* storable: PostgreSQL accepts no NUL characters, and UTF-8 no lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
