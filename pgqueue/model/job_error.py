"""The part of an error that is stored: what it is, what it says, and where it was raised.

An exception can be of any size and can run code of its own when it is looked at: a message of 60 MB, 3,000
causes, a group of 32,768, source lines of megabytes. The event loop stands still meanwhile, so what is looked
at is bounded, and not only what is kept of it.
"""

from __future__ import annotations

import asyncio
import reprlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from pgqueue.model.error_groups import is_group
from pgqueue.model.tracebacks import format_error

MAX_TYPE: Final = 500
"""Maximum number of stored characters of an error's type."""
MAX_MESSAGE: Final = 10_000
"""Maximum number of stored characters of an error message."""
MAX_TRACEBACK: Final = 50_000
"""Maximum number of stored characters of a traceback."""
MAX_SHOWN: Final = 100_000
"""Characters, bytes and elements of an error's arguments that are made into text."""
MAX_VALIDATION_ERRORS: Final = 500
"""Of more, pydantic's text is not made: it is of all of them."""

_CANCELLED: Final = (
    "the handler was cancelled from within, and not by the worker: something that it uses cancelled the "
    "asyncio task that runs it"
)


@dataclass(frozen=True, slots=True)
class JobError:
    """The error of an attempt: the exception's type, its message and its traceback, as text.

    Each has a bound, whoever makes it, and can be stored.
    """

    type: str
    message: str
    traceback: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # Frozen: not assigned in the usual way.
        object.__setattr__(self, "type", clean(self.type, MAX_TYPE))
        object.__setattr__(self, "message", clean(self.message, MAX_MESSAGE))
        if self.traceback is not None:
            object.__setattr__(self, "traceback", clean(self.traceback, -MAX_TRACEBACK))


def describe(error: BaseException) -> JobError:
    """Return what to store of an exception. Never raises."""
    try:
        trace = format_error(error, message_of)
    except BaseException as broken:
        trace = f"<the traceback could not be read: {name_of(type(broken))}>"
    message = message_of(error)
    if not message and type(error) is asyncio.CancelledError:
        message = _CANCELLED
    return JobError(name_of(type(error)), message, trace)


def name_of(kind: type) -> str:
    """Return the qualified name of a class, whatever its metaclass makes of that attribute."""
    name: str = type.__dict__["__qualname__"].__get__(kind)
    return name


def message_of(error: Any) -> str:
    """Return what *error* says, as text of a bounded length. Never raises."""
    kind = type(error)
    try:
        is_built_in = type(kind.__str__) is _SLOT
        if is_built_in and hasattr(kind, "error_count") and error.error_count() > MAX_VALIDATION_ERRORS:
            # pydantic's.
            return f"{error.error_count()} validation errors for {error.title}"
        if is_built_in and not is_group(error) and not _is_small(_shown_by(error)):
            # Python's own text of it would hold all of its arguments.
            return _short.repr(BaseException.args.__get__(error))  # type: ignore[attr-defined]
        return exact(str(error), MAX_MESSAGE)
    except BaseException as broken:
        return f"<the message could not be read: {name_of(type(broken))}>"


def exact(text: str, longest: int) -> str:
    """Return the first characters of *text*, or the last if *longest* is negative, as a plain string.

    A subclass of str could override what is done with it next.
    """
    return str.__getitem__(text, slice(0, longest) if longest >= 0 else slice(longest, None))


def clean(text: str, longest: int) -> str:
    """Make *text* storable: PostgreSQL accepts no NUL characters, and UTF-8 no lone surrogates."""
    short = exact(text, longest)
    return exact(short.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode(), longest)


_SLOT: Final[type] = type(BaseException.__str__)
"""The type of methods that are written in C: they make a text of all arguments."""


def _shown_by(error: BaseException) -> list[Any]:
    shown: list[Any] = [BaseException.args.__get__(error)]  # type: ignore[attr-defined]
    if issubclass(type(error), OSError):
        shown += [getattr(error, "filename", None), getattr(error, "filename2", None)]
    if len(shown[0]) == 1 and type(shown[0][0]) is str and not issubclass(type(error), KeyError):
        # Shown as it is.
        return shown[1:]
    return shown


def _is_small(values: list[Any]) -> bool:
    """Whether the text of *values* is of a bounded length, as far as Python's own types make it."""
    left, waiting, seen = MAX_SHOWN, values, set[int]()
    while waiting and left >= 0:
        value = waiting.pop()
        left -= 1
        kind = next((each for each in _SIZED if issubclass(type(value), each)), None)
        if kind is None:
            continue
        # As Python's own text of it: a class may override both.
        left -= value.bit_length() // 3 if kind is int else kind.__len__(value)
        if kind in _CONTAINERS and left >= 0 and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(kind.__iter__(value))
            if kind is dict:
                waiting.extend(dict.values(value))
    return left >= 0


_CONTAINERS: Final[tuple[Any, ...]] = (list, tuple, dict, set, frozenset, deque)
_SIZED: Final[tuple[Any, ...]] = (str, bytes, bytearray, int, *_CONTAINERS)


class _Short(reprlib.Repr):
    """Shows the beginning and the end of large values."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = 500

    def repr1(self, x: Any, level: int) -> str:
        """Cut a value before it is made into a text, and not after; a set is not sorted for it."""
        kind = next((each for each in _SIZED if issubclass(type(x), each)), None)
        if kind is None or _is_small([x]):
            return super().repr1(x, level)
        if kind in (str, bytes, bytearray):
            return repr(kind.__getitem__(x, slice(0, self.maxstring)))[:-1] + "..."
        if kind in (list, tuple):
            return super().repr1(kind(kind.__getitem__(x, slice(0, self.maxlist + 1))), level)
        return f"<a large {kind.__name__}>"


_short: Final = _Short()
