"""What is kept of an error."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class JobError:
    """What went wrong in an attempt: the exception's type and message as text, and its traceback."""

    type: str
    message: str
    traceback: str | None = field(default=None, repr=False)


MAX_MESSAGE = 10_000

MAX_TRACEBACK = 50_000
"""Characters of an error that are kept."""


def describe(error: BaseException) -> JobError:
    """Turn an exception into what is stored of it. Never raises."""
    try:
        message = str(error)
    except BaseException as broken:
        message = f"<its message cannot be had: {type(broken).__name__}>"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:
        trace = ""
    return JobError(
        clean(type(error).__qualname__), clean(message)[:MAX_MESSAGE], clean(trace)[-MAX_TRACEBACK:]
    )


def clean(text: str) -> str:
    """Make *text* storable: PostgreSQL takes no NUL, UTF-8 no lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
