"""Checks of values that several rooms share.

Each takes the name of the value in errors, and the value. It returns the value as it is kept, or raises
InvalidOptionError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pgqueue.errors import InvalidOptionError

MAX_SECONDS: Final = 1000 * 366 * 24 * 60 * 60
"""A thousand years: a time that far ahead is still within Python's calendar."""

Duration = float | timedelta
"""Seconds, or a timedelta."""


MAX_KEY_LENGTH = 512

MAX_QUEUE_LENGTH = 200


def finite_seconds(what: str, value: object) -> float:
    """Return *value* as a finite number of seconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidOptionError(f"{what} must be a number of seconds or a timedelta, got {value!r}")
    if not math.isfinite(seconds):
        raise InvalidOptionError(f"{what} must be a finite number of seconds, got {value!r}")
    if abs(seconds) > MAX_SECONDS:
        raise InvalidOptionError(f"{what} must be at most {MAX_SECONDS:,} seconds, got {value!r}")
    return float(seconds)


def positive_seconds(what: str, value: object) -> float:
    """Return *value* as a number of seconds, more than 0."""
    seconds = finite_seconds(what, value)
    if seconds <= 0:
        raise InvalidOptionError(f"{what} must be more than 0, got {value!r}")
    return seconds


def some_seconds(what: str, value: object) -> float:
    """Return *value* as a number of seconds, 0 or more."""
    seconds = finite_seconds(what, value)
    if seconds < 0:
        raise InvalidOptionError(f"{what} must be 0 or more, got {value!r}")
    return seconds


def count(what: str, value: object) -> int:
    """Return *value*, a whole number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidOptionError(f"{what} must be a whole number, 0 or more, got {value!r}")
    return value


def text(what: str, value: object, *, longest: int) -> str:
    """Return *value*, a non-empty string of at most *longest* characters."""
    if not isinstance(value, str) or not value:
        raise InvalidOptionError(f"{what} must be a non-empty string, got {value!r}")
    if len(value) > longest:
        raise InvalidOptionError(f"{what} must be at most {longest} characters long, got {len(value)}")
    if "\0" in value:
        raise InvalidOptionError(f"{what} contains a NUL character, which PostgreSQL cannot store")
    return value


def aware_time(what: str, value: object) -> datetime:
    """Return *value*, a time zone-aware datetime."""
    if not isinstance(value, datetime):
        raise InvalidOptionError(f"{what} must be a time zone-aware datetime, got {value!r}")
    if value.utcoffset() is None:
        raise InvalidOptionError(
            f"{what} must be a time zone-aware datetime, got {value!r}, which has no time zone"
        )
    return value


def storable(what: str, value: object) -> str:
    """Return *value*, a string that PostgreSQL can store."""
    checked = text(what, value, longest=MAX_KEY_LENGTH)
    try:
        checked.encode()
    except UnicodeEncodeError as error:
        raise InvalidOptionError(f"{what} cannot be stored: {error}") from error
    return checked


def one_of(what: str, value: object, choices: Sequence[str], other: str = "") -> str:
    """Return *value*, one of *choices*."""
    if value not in choices:
        known = ", ".join(map(repr, choices))
        raise InvalidOptionError(f"{what} must be one of {known}{other}, got {value!r}")
    return str(value)


def retry_limit(what: str, value: object) -> int | None:
    """Return *value*, a number of retries, or None for no limit."""
    return None if value is None else count(what, value)


def flag(what: str, value: object) -> bool:
    """Return *value*, a bool."""
    if not isinstance(value, bool):
        raise InvalidOptionError(f"{what} must be True or False, got {value!r}")
    return value
