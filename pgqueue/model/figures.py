"""Numbers and times as people read them, the same in a terminal and on a page. Pure functions on values.

None of them takes None: how a missing value looks is for the table or the page around it to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from pgqueue.model.measures import Bucket, Count, Drain, QueueMeasure

_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_SCALES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_LONG: Final = 3650 * 86_400.0
"""Seconds above which the exact number of days is of no use to anyone."""
_RATE_UNITS: Final = (("s", 1), ("min", 60), ("h", 3600))


def count(number: int) -> str:
    """Return how many there are: "1,234", or "~1.2 M" for a Count that is an estimate."""
    if isinstance(number, Count) and not number.is_exact:
        return f"~{short(two_digits(number))}"
    return f"{number:,}"


def two_digits(number: float) -> float:
    """Return a number rounded to the two digits that an estimate is worth: 1234 is 1200."""
    return float(f"{number:.2g}")


def capped(number: int, cap: int) -> str:
    """Return how many there are where counting stopped at *cap*: "1,000+"."""
    return f"{cap:,}+" if number >= cap else f"{number:,}"


def short(number: float) -> str:
    """Return a number in three or four characters and a unit: "950", "12 k", "1.2 M"."""
    for size, unit in _SCALES:
        if number >= size * 0.9995:
            return f"{_three_digits(number / size)} {unit}"
    return _three_digits(number)


def _three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:.0f}"
    text = f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def size(number: int) -> str:
    """Return a number of bytes in three digits and a unit: "950 B", "48.2 MB", "1.5 GB"."""
    return f"{short(number)}B" if number >= 999.5 else f"{number} B"


def amount(number: float) -> str:
    """Return a number chosen by a user, without needless digits."""
    return f"{number:,.0f}" if abs(number) >= 1000 or number == int(number) else f"{number:.4g}"


def share(part: float, whole: float | None) -> str:
    """Return "45 %"; an empty string if the whole is unknown."""
    return "" if not whole else f"{min(100, 100 * part / whole):.0f} %"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: "0.4 ms", "850 ms", "4.2 s", "3 min 20 s", "2 d 4 h"."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 59.95:
        return _below_a_minute(seconds)
    if not seconds < _LONG:
        return "never" if math.isinf(seconds) else ">10 years"
    whole = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        number, whole = divmod(whole, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def _below_a_minute(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    if seconds >= 0.9995:
        return f"{_three_digits(round(seconds, 1))} s"
    milliseconds = seconds * 1000
    return f"{max(milliseconds, 0.01):.2g} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def between(bucket: Bucket) -> str:
    """Return which durations are in *bucket*: "up to 1 ms", "2 s to 5 s", "more than 1 d"."""
    if not bucket.above:
        return f"up to {duration(bucket.upto)}"
    if math.isinf(bucket.upto):
        return f"more than {duration(bucket.above)}"
    return f"{duration(bucket.above)} to {duration(bucket.upto)}"


def roughly(seconds: float) -> str:
    """Return an estimated duration in two digits of one unit: "850 ms", "4.2 s", "3.3 min", "15 h"."""
    if seconds < 59.5 or not seconds < _LONG:
        return duration(two_digits(seconds))
    # A little less than a unit is one: rounded, 59.7 minutes would be 60.
    unit, size = next((unit, size) for unit, size in _UNITS if seconds / size >= 0.99)
    return f"{max(1.0, two_digits(seconds / size)):,g} {unit}"


def rate_unit(rates: Iterable[float]) -> str:
    """Return the unit of a column of rates per second: that in which its highest is at least one."""
    return _rate_unit(max(rates, default=0.0))


def _rate_unit(per_second: float) -> str:
    return next((unit for unit, size in _RATE_UNITS if per_second * size >= 0.995 or not per_second > 0), "h")


def rate(per_second: float, unit: str | None = None) -> str:
    """Return how often: "120/s", "4.5/min", "2/h". *unit*: that of its column, by `rate_unit`."""
    unit = unit or _rate_unit(per_second)
    if per_second <= 0:
        return f"0/{unit}"
    number = per_second * dict(_RATE_UNITS)[unit]
    if number < 0.01:
        return f"<0.01/{unit}"
    return f"{short(number)}/{unit}"


def drain(estimate: Drain) -> str:
    """Return when a queue would be empty: "about 4 min (2 min to 9 min)"."""
    if math.isinf(estimate.likely):
        return "not at this rate" if math.isinf(estimate.low) else f"{roughly(estimate.low)} at best"
    least = roughly(estimate.low)
    spread = f"{least} to {roughly(estimate.high)}" if math.isfinite(estimate.high) else f"at least {least}"
    return f"about {roughly(estimate.likely)} ({spread})"


def to_empty(queue: QueueMeasure) -> str:
    """Return when a queue would be empty, in a few letters: "~4 min"; an empty string: not known.

    "never" is said only of a queue that grows: one that is served as fast as it is filled is "steady".
    """
    estimate = queue.drain
    if queue.pending and queue.is_paused:
        return "paused"
    if estimate is None:
        return ""
    if math.isfinite(estimate.likely):
        return f"~{roughly(estimate.likely)}"
    if math.isfinite(estimate.low):
        return f">{roughly(estimate.low)}"
    return "never" if queue.enqueued_rate > queue.finished_rate else "steady"


def moment(at: datetime) -> str:
    """Return a time to the second, in UTC: "2026-01-31 12:00:00Z"."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def clock(at: datetime) -> str:
    """Return the time of day, in UTC."""
    return f"{at.astimezone(UTC):%H:%M}"


def ago(at: datetime, now: datetime) -> str:
    """Return how long it is since *at*, or until then: "3 min ago", "in 2 h"."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{_coarse(seconds)} ago" if seconds > 0 else f"in {_coarse(-seconds)}"


def _coarse(seconds: float) -> str:
    whole = round(seconds)
    unit, size = next(((unit, size) for unit, size in _UNITS if whole >= size), ("s", 1))
    return f"{whole // size} {unit}"
