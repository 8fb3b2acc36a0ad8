"""Times as RQ takes them: seconds, or strings such as "90", "1h" and "23m"."""

from __future__ import annotations

from typing import Final

from pgqueue.compat.rq.exceptions import TimeoutFormatError

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(what: str, given: float | str | None) -> float | None:
    """Return a time in seconds; None: none was given. Raises TimeoutFormatError."""
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return given
    number, unit = (given, "s") if str(given).isdigit() else (str(given)[:-1], str(given)[-1:].lower())
    if unit not in UNITS or not str(number).isdigit():
        raise TimeoutFormatError(
            f"{what} must be a number of seconds or a string such as '1h', got {given!r}"
        )
    return int(number) * UNITS[unit]
