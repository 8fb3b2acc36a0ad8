"""Rates: how many jobs start in a time, over all workers. Values only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import Duration, integer, number, positive_seconds, shown

MAX_BURST: Final = 10_000
_MOST: Final = 1e6
_LEAST: Final = 1e-9
"""Jobs per second: one in 30 years."""
_BURST_SHARE: Final = 10


@dataclass(frozen=True, slots=True)
class Rate:
    """*count* jobs in each *per* seconds (or a timedelta), evenly spread: a token bucket.

    *burst*: how many may start at once after a rest, from 1 to 10,000. None: what the rate comes to in a
    tenth of a second, at least 1. In any T seconds at most `2 * burst + count / per * T` jobs start, also
    after workers were away: where a service counts in windows, let `2 * burst + count` be what it allows.
    The rate must be at most 1,000,000 per second, and at least one job in 30 years. Raises
    InvalidOptionError.
    """

    count: float
    per: Duration = 1.0
    burst: int | None = None

    def __post_init__(self) -> None:
        count = number("rate: count", self.count, unit="jobs", least=0, most=1e15)
        per = positive_seconds("rate: per", self.per)
        if not _LEAST <= count / per <= _MOST:
            raise InvalidOptionError(
                f"rate: must come to at most {_MOST:,.0f} jobs per second and at least one in 30 years, "
                f"got {shown(self.count)} in {per:g} s"
            )
        if self.burst is not None:
            integer("rate: burst", self.burst, least=1, most=MAX_BURST)
        object.__setattr__(self, "per", per)

    @property
    def per_second(self) -> float:
        """Jobs per second."""
        assert isinstance(self.per, int | float)
        return self.count / self.per

    @property
    def at_once(self) -> int:
        """How many jobs may start at once after a rest."""
        if self.burst is not None:
            return self.burst
        return min(MAX_BURST, max(1, math.ceil(self.per_second / _BURST_SHARE)))


def rate_of(where: str, value: object) -> Rate:
    """Return *value* if it is a rate. Raises InvalidOptionError."""
    if not isinstance(value, Rate):
        raise InvalidOptionError(f"{where}: rate must be made by Rate(count, per=...), got {shown(value)}")
    return value
