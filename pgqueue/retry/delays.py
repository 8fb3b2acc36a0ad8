"""When an error asks for the next attempt: `retry_after`, and Retry-After in HTTP."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from pgqueue.model.checks import FIRST_TIME, LAST_TIME, MAX_SECONDS


def latest(times: Iterable[float | datetime | None]) -> tuple[float | None, datetime | None]:
    """Return the longest delay and the latest time of *times*; None: there is none."""
    known = [time for time in times if time is not None]
    return (
        max((time for time in known if not isinstance(time, datetime)), default=None),
        max((time for time in known if isinstance(time, datetime)), default=None),
    )


def asked_delay(error: BaseException) -> float | datetime | None:
    """Return when *error* asks for the next attempt, by its `retry_after` or an HTTP Retry-After header.

    Never raises.
    """
    try:
        asked = read_delay(getattr(error, "retry_after", None))
        return asked if asked is not None else read_delay(_header(error, "Retry-After"))
    except BaseException:
        # Attributes of an unknown exception may run code, and raise anything.
        return None


def read_delay(value: object) -> float | datetime | None:
    """Return *value* as seconds or a time zone-aware datetime.

    It may be a number, a timedelta, a datetime or a string as in HTTP. None for anything else: a naive
    datetime, a negative or infinite number.
    """
    if isinstance(value, str):
        value = _http_delay(value.strip())
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            return None
        # The last of all times is infinity in PostgreSQL: such a job would never run.
        return min(max(value, FIRST_TIME), LAST_TIME)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is made a float: an integer may be too large for one.
    return None if not value >= 0 or value == math.inf else float(min(value, MAX_SECONDS))


def _http_delay(text: str) -> float | datetime | None:
    if text.isascii() and text.isdigit():
        return float(text[:20])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.utcoffset() is not None else at.replace(tzinfo=UTC)


def _header(error: BaseException, name: str) -> object:
    for holder in (getattr(error, "response", None), error):
        headers = getattr(holder, "headers", None)
        if headers is not None and (value := headers.get(name) or headers.get(name.lower())) is not None:
            return value
    return None
