"""Whether values can be what they are meant for: checks that every room shares.

Each takes what the value is called in errors, and the value; returns it as it is kept, and raises
InvalidOptionError for one that cannot be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pgqueue.errors import InvalidOptionError

MAX_SECONDS: Final = 1000 * 366 * 24 * 60 * 60
"""A thousand years: a time so far ahead still is one that Python's calendar holds."""

Duration = float | timedelta
"""Seconds, or a timedelta."""


MAX_KEY_LENGTH = 512

MAX_QUEUE_LENGTH = 200


def finite_seconds(what: str, value: object) -> float:
    """Return *value*, a finite number of seconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidOptionError(f"{what} is {value!r}: give seconds or a timedelta")
    if not math.isfinite(seconds):
        raise InvalidOptionError(f"{what} is {value!r}: give a finite number of seconds")
    if abs(seconds) > MAX_SECONDS:
        raise InvalidOptionError(f"{what} is {value!r}: give at most {MAX_SECONDS:,} seconds")
    return float(seconds)


def positive_seconds(what: str, value: object) -> float:
    """Return *value* as seconds, more than zero. Raises InvalidOptionError; *what* names it there."""
    seconds = finite_seconds(what, value)
    if seconds <= 0:
        raise InvalidOptionError(f"{what} is {value!r}: give more than zero")
    return seconds


def some_seconds(what: str, value: object) -> float:
    """Return *value*, zero or more seconds. Raises InvalidOptionError about *what*."""
    seconds = finite_seconds(what, value)
    if seconds < 0:
        raise InvalidOptionError(f"{what} is {value!r}: give zero or more")
    return seconds


def count(what: str, value: object) -> int:
    """Return *value*, a whole number, zero or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidOptionError(f"{what} is {value!r}: give a whole number, zero or more")
    return value


def text(what: str, value: object, *, longest: int) -> str:
    """Return *value*, a text that is not empty, of *longest* characters at most."""
    if not isinstance(value, str) or not value:
        raise InvalidOptionError(f"{what} is {value!r}: give a text that is not empty")
    if len(value) > longest:
        raise InvalidOptionError(f"{what} is {len(value)} characters long: give at most {longest}")
    if "\0" in value:
        raise InvalidOptionError(f"{what} contains a NUL character, which PostgreSQL cannot store")
    return value


def aware_time(what: str, value: object) -> datetime:
    """Return *value*, an aware datetime. Raises InvalidOptionError about *what*."""
    if not isinstance(value, datetime):
        raise InvalidOptionError(f"{what} is {value!r}: give an aware datetime")
    if value.utcoffset() is None:
        raise InvalidOptionError(f"{what} is {value!r}, a naive datetime: give it a time zone")
    return value


def storable(what: str, value: object) -> str:
    """Return *value*, a text that PostgreSQL can store."""
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
        raise InvalidOptionError(f"{what} is {value!r}: give one of {known} {other}".rstrip())
    return str(value)


def retry_limit(what: str, value: object) -> int | None:
    """Return *value*, a number of retries or None. Raises InvalidOptionError about *what*."""
    return None if value is None else count(what, value)


def flag(what: str, value: object) -> bool:
    """Return *value*, a bool."""
    if not isinstance(value, bool):
        raise InvalidOptionError(f"{what} is {value!r}: give True or False")
    return value
