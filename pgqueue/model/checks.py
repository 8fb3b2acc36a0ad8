"""Checks of values that several rooms share: bounds of what the database, and Python, can keep.

Each takes the name of the value in errors, and the value. It returns the value as it is kept, or raises
InvalidOptionError. A value that passes comes back from the database as it went in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pgqueue.errors import InvalidOptionError

MAX_SECONDS: Final = 1000 * 366 * 24 * 60 * 60
"""A thousand years: a time that far ahead is still within Python's calendar."""

MIN_SECONDS: Final = 1e-6
"""The shortest time of PostgreSQL and of Python, in seconds."""

Duration = float | timedelta
"""Seconds, or a timedelta."""


MAX_KEY_LENGTH = 512

MAX_QUEUE_LENGTH = 200

MAX_TASK_LENGTH: Final = 255
"""The longest name of a task, in characters: with its queue it fits into an entry of an index."""

MAX_NOTE_LENGTH: Final = 1000
"""The longest reason, and the longest name of an actor, in characters."""
MAX_INTEGER: Final = 2**31 - 1
"""The largest integer of PostgreSQL's type of that name."""
FIRST_TIME: Final = datetime(1, 1, 2, tzinfo=UTC)
LAST_TIME: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""A day from the ends of Python's calendar, so that a time can be told in any time zone."""
MAX_SHOWN: Final = 200
"""How much of a value an error shows, in characters."""


def shown(value: object) -> str:
    """Return *value* as an error shows it. Never raises, and is never long."""
    try:
        text = repr(value)
    except Exception:
        # A number of thousands of digits, for example: Python refuses to spell it.
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def number(what: str, value: object, *, unit: str, least: float, most: float) -> float:
    """Return *value*, a number from *least* to *most*."""
    # Compared before it is converted: an integer of a thousand digits is no float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidOptionError(f"{what} must be from {least:g} to {most:g} {unit}, got {shown(value)}")
    return float(value)


def finite_seconds(what: str, value: object) -> float:
    """Return *value* as a finite number of seconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidOptionError(f"{what} must be a number of seconds or a timedelta, got {shown(value)}")
    if seconds != seconds or seconds in (math.inf, -math.inf):  # noqa: PLR0124  # NaN
        raise InvalidOptionError(f"{what} must be a finite number of seconds, got {shown(value)}")
    if abs(seconds) > MAX_SECONDS:
        raise InvalidOptionError(f"{what} must be at most {MAX_SECONDS:,} seconds, got {shown(value)}")
    return float(seconds)


def positive_seconds(what: str, value: object) -> float:
    """Return *value* as a number of seconds, a microsecond or more: PostgreSQL would round less to 0."""
    seconds = finite_seconds(what, value)
    if seconds <= 0:
        raise InvalidOptionError(f"{what} must be more than 0, got {shown(value)}")
    if seconds < MIN_SECONDS:
        raise InvalidOptionError(f"{what} must be at least {MIN_SECONDS:g} seconds, got {shown(value)}")
    return seconds


def some_seconds(what: str, value: object) -> float:
    """Return *value* as a number of seconds, 0 or more."""
    seconds = finite_seconds(what, value)
    if seconds < 0:
        raise InvalidOptionError(f"{what} must be 0 or more, got {shown(value)}")
    return seconds


def patience(what: str, value: object) -> float | None:
    """Return *value*, how many seconds a caller waits: 0 or more, or None or infinity for no limit."""
    if value is None or (isinstance(value, float) and value == math.inf):
        return None
    return some_seconds(what, value)


def count(what: str, value: object) -> int:
    """Return *value*, a whole number from 0 to MAX_INTEGER."""
    return integer(what, value, least=0)


def integer(what: str, value: object, *, least: int, most: int = MAX_INTEGER) -> int:
    """Return *value*, a whole number from *least* to *most*."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidOptionError(f"{what} must be a whole number, {least} or more, got {shown(value)}")
    if value > most:
        raise InvalidOptionError(f"{what} must be at most {most:,}, got {shown(value)}")
    return value


def storable(what: str, value: object, *, longest: int) -> str:
    """Return *value*, a string that PostgreSQL can store: the one check of every text that pgqueue stores."""
    if not isinstance(value, str):
        raise InvalidOptionError(f"{what} must be a string, got {shown(value)}")
    if len(value) > longest:
        raise InvalidOptionError(f"{what} must be at most {longest} characters long, got {len(value)}")
    if "\0" in value:
        raise InvalidOptionError(f"{what} contains a NUL character, which PostgreSQL cannot store")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidOptionError(
            f"{what} contains half a surrogate pair, which PostgreSQL cannot store: {shown(value)}"
        ) from None
    return value


def text(what: str, value: object, *, longest: int = MAX_KEY_LENGTH) -> str:
    """Return *value*, a non-empty string of at most *longest* characters that PostgreSQL can store."""
    if not isinstance(value, str) or not value:
        raise InvalidOptionError(f"{what} must be a non-empty string, got {shown(value)}")
    return storable(what, value, longest=longest)


def note(what: str, value: object) -> str | None:
    """Return *value*, a reason or an actor for the history, or None."""
    return None if value is None else storable(what, value, longest=MAX_NOTE_LENGTH)


def check_notes(verb: str, *, actor: object = None, reason: object = None) -> None:
    """Raise InvalidOptionError unless the history can keep *actor* and *reason*."""
    note(f"{verb}: actor", actor)
    note(f"{verb}: reason", reason)


def aware_time(what: str, value: object) -> datetime:
    """Return *value*, a time zone-aware datetime, from FIRST_TIME to LAST_TIME."""
    if not isinstance(value, datetime):
        raise InvalidOptionError(f"{what} must be a time zone-aware datetime, got {shown(value)}")
    try:
        offset = value.utcoffset()
        moment = value if offset is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        # In UTC it is outside of the calendar.
        moment = None
    if moment is not None and moment.tzinfo is None:
        raise InvalidOptionError(
            f"{what} must be a time zone-aware datetime, got {shown(value)}, which has no time zone"
        )
    if moment is None or not FIRST_TIME <= moment <= LAST_TIME:
        raise InvalidOptionError(
            f"{what} must be from {FIRST_TIME:%Y-%m-%d} to {LAST_TIME:%Y-%m-%d} (UTC), got {shown(value)}"
        )
    return value


def one_of(what: str, value: object, choices: Sequence[str], other: str = "") -> str:
    """Return *value*, one of *choices*."""
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(map(repr, choices))
        raise InvalidOptionError(f"{what} must be one of {known}{other}, got {shown(value)}")
    return str(value)


def retry_limit(what: str, value: object) -> int | None:
    """Return *value*, a number of retries, or None for no limit."""
    return None if value is None else count(what, value)


def flag(what: str, value: object) -> bool:
    """Return *value*, a bool."""
    if not isinstance(value, bool):
        raise InvalidOptionError(f"{what} must be True or False, got {shown(value)}")
    return value
