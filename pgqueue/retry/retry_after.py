"""When a service says to ask again, as a Retry-After header has it: seconds, or a date. Values only."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import Duration, shown

UNSAID: Final = 10.0
"""Seconds, where a service does not say."""
LONGEST: Final = 7 * 86_400.0
_WHAT: Final = "RateLimited: retry_after"


def seconds_of(given: Duration | datetime | str | None) -> float:
    """Return *given*, which is no date, in seconds. Raises InvalidOptionError."""
    if given is None:
        return UNSAID
    seconds: object = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, str):
        try:
            seconds = float(seconds)
        except ValueError:
            raise InvalidOptionError(
                f"{_WHAT} must be a number of seconds or an HTTP date, got {shown(given)}"
            ) from None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidOptionError(
            f"{_WHAT} must be seconds, a timedelta, a datetime, or a Retry-After header, got {shown(given)}"
        )
    # Compared as it is: an integer of a thousand digits is no float.
    if not 0 <= seconds < math.inf:
        raise InvalidOptionError(f"{_WHAT} must be a finite number, 0 or more, got {shown(given)}")
    return float(min(seconds, LONGEST))


def time_of(given: Duration | datetime | str | None) -> datetime | None:
    """Return *given* if it is a date, and otherwise None. Raises InvalidOptionError."""
    if isinstance(given, str):
        try:
            found = parsedate_to_datetime(given)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    elif isinstance(given, datetime):
        found = given
        if found.utcoffset() is None:
            raise InvalidOptionError(f"{_WHAT} must be a time zone-aware datetime, got {shown(given)}")
    else:
        return None
    longest = datetime.now(UTC) + timedelta(seconds=LONGEST)
    try:
        return min(found.astimezone(UTC), longest)
    except OverflowError:
        # At the ends of the calendar.
        return longest if found.year > 1 else datetime.fromtimestamp(0, UTC)
