"""Numbers, times and values in words, as the pages show them. Pure functions on values."""

from __future__ import annotations

import json
import math
import unicodedata
from datetime import UTC, datetime
from typing import Any, Final

from pgqueue.model.measures import Bucket, Count, Drain

SHOWN_CHARACTERS: Final = 20_000
"""Of one value, on a page."""
_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_SCALES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_LONG: Final = 3650 * 86_400.0
"""Seconds above which nobody waits."""


def count(number: Count | int) -> str:
    """Return how many there are: "1,234", or "~1.2 M" for an estimate."""
    if isinstance(number, int):
        return f"{number:,}"
    if number.is_exact:
        return f"{number.value:,}"
    return f"~{short(number.value)}"


def capped(number: int, cap: int) -> str:
    """Return how many there are where counting stopped at *cap*: "1,000+"."""
    return f"{cap:,}+" if number >= cap else f"{number:,}"


def short(number: float) -> str:
    """Return a number in three or four characters and a unit: "950", "12 k", "1.2 M"."""
    for size, unit in _SCALES:
        if number >= size * 0.9995:
            return f"{_three(number / size)} {unit}"
    return _three(number)


def _three(number: float) -> str:
    if number >= 99.95:
        return f"{number:.0f}"
    text = f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(number: float) -> str:
    """Return a number that somebody else chose, without needless digits."""
    return f"{number:,.0f}" if abs(number) >= 1000 or number == int(number) else f"{number:.4g}"


def duration(seconds: float | None) -> str:
    """Return a stretch of time in its two largest units: "850 ms", "4.2 s", "3 min 20 s", "2 d 4 h"."""
    if seconds is None:
        return "–"  # noqa: RUF001
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if not seconds < _LONG:
        return "years"
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return (
            "0 s"
            if seconds == 0
            else f"{max(milliseconds, 0.01):.2g} ms"
            if milliseconds < 10
            else f"{milliseconds:.0f} ms"
        )
    if seconds < 59.95:
        return f"{_three(round(seconds, 1))} s"
    whole = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        number, whole = divmod(whole, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def between(bucket: Bucket) -> str:
    """Return which durations are in *bucket*: "up to 1 ms", "2 s to 5 s", "more than 1 d"."""
    if not bucket.above:
        return f"up to {duration(bucket.upto)}"
    if math.isinf(bucket.upto):
        return f"more than {duration(bucket.above)}"
    return f"{duration(bucket.above)} to {duration(bucket.upto)}"


def rate(per_second: float) -> str:
    """Return how often: "120/s", "4.5/min", "2/h"."""
    if per_second <= 0:
        return "0/s"
    if per_second >= 0.995:
        return f"{short(per_second)}/s"
    if per_second * 60 >= 0.995:
        return f"{_three(per_second * 60)}/min"
    return f"{max(1, round(per_second * 3600))}/h"


def drain(estimate: Drain | None) -> str:
    """Return when a queue would be empty: "about 4 min (2 min to 9 min)"."""
    if estimate is None:
        return "–"  # noqa: RUF001
    if math.isinf(estimate.likely):
        return "not at this rate" if math.isinf(estimate.low) else f"{duration(estimate.low)} at best"
    high = "never" if math.isinf(estimate.high) else duration(estimate.high)
    return f"about {duration(estimate.likely)} ({duration(estimate.low)} to {high})"


def share(part: float, whole: float | None) -> str:
    """Return "45 %"; nothing if the whole is not known."""
    return "" if not whole else f"{min(100, 100 * part / whole):.0f} %"


def moment(at: datetime | None) -> str:
    """Return a time to the second, in UTC."""
    return "–" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"  # noqa: RUF001


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


def pretty(value: Any) -> str:
    r"""Return *value* as indented JSON, cut, with characters that reorder or hide text as \uXXXX."""
    return cut(editable(value))


def editable(value: Any) -> str:
    """Return all of *value* as such JSON."""
    return _visible(json.dumps(value, indent=2, ensure_ascii=False))


def cut(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Return the beginning of *text*, and how much was left out."""
    left_out = len(text) - limit
    return text if left_out <= 0 else f"{text[:limit]}\n… {left_out:,} more characters"


def visible(text: str) -> str:
    r"""Return *text* for eyes: cut, and characters that reorder or hide text as \uXXXX."""
    return cut(_visible(text))


def _visible(text: str) -> str:
    if text.isascii() and (text.isprintable() or not any(map(_is_hidden, set(text)))):
        return text
    hidden = {ord(each): _escape(each) for each in set(text) if _is_hidden(each)}
    return text.translate(hidden)


def _is_hidden(character: str) -> bool:
    # Controls, formats (bidi overrides, zero widths) and lone surrogates.
    return character not in "\n\t" and unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def is_dark(colour: str) -> bool:
    """Whether white text reads better on *colour* (`#rrggbb`) than black."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.179
