"""At which times a schedule ticks: by cron in a time zone, at an interval, or once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import FIRST_TIME, LAST_TIME, aware_time, finite_seconds, shown, text
from pgqueue.schedules.cron import check_cron, explain, fire_times

ORIGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Intervals are counted from here, or from the schedule's start, so that all workers agree."""
LEAST_EVERY: Final = 1.0
MOST_EVERY: Final = 100 * 366 * 24 * 3600.0
MAX_ZONE: Final = 100
_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def check_zone(what: str, name: object) -> str:
    """Return *name* if it is a time zone's. Raises InvalidOptionError."""
    checked = text(what, name, longest=MAX_ZONE)
    try:
        _zone(checked)
    except Exception:
        # Not only ZoneInfoNotFoundError: the name of a folder, or one that leads out of it, raises others.
        checked = "localtime"
    if checked.lower() == "localtime":
        raise InvalidOptionError(f"{what} must be a time zone such as 'Europe/Paris', got {shown(name)}")
    return checked


@dataclass(frozen=True, slots=True)
class Rule:
    """When a schedule ticks. One of `cron`, `every` (seconds) and `at` is set; times are aware."""

    cron: str | None = None
    every: float | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    @classmethod
    def read(cls, what: str, given: Any) -> Rule:
        """Check a mapping of these fields. Raises InvalidOptionError, ConfigurationError."""
        cron, every, at = (given.get(name) for name in ("cron", "every", "at"))
        if (cron is not None) + (every is not None) + (at is not None) != 1:
            raise InvalidOptionError(f"{what}: pass exactly one of cron, every and at")
        if every is not None:
            every = finite_seconds(f"{what}: every", every)
            if not LEAST_EVERY <= every <= MOST_EVERY:
                raise InvalidOptionError(
                    f"{what}: every must be from {LEAST_EVERY:g} to {MOST_EVERY:.0f} seconds, "
                    f"got {shown(given['every'])}"
                )
        times = {
            name: None
            if given.get(name) is None
            else aware_time(f"{what}: {name}", given[name]).astimezone(UTC)
            for name in ("at", "starts_at", "ends_at")
        }
        rule = cls(
            cron=None if cron is None else check_cron(f"{what}: cron", cron),
            every=every,
            timezone=check_zone(f"{what}: timezone", given.get("timezone", "UTC")),
            **times,
        )
        if rule.starts_at and rule.ends_at and rule.starts_at > rule.ends_at:
            raise InvalidOptionError(f"{what}: ends_at is before starts_at")
        return rule

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of `cron`."""
        return _zone(self.timezone)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield its ticks later than *moment*, in UTC, each later than the one before."""
        if self.starts_at is not None:
            moment = max(moment, self.starts_at - timedelta(microseconds=1))
        for tick in self._after(moment):
            if self.ends_at is not None and tick > self.ends_at:
                return
            yield tick

    def _after(self, moment: datetime) -> Iterator[datetime]:
        if self.at is not None:
            if self.at > moment:
                yield self.at
        elif self.every is not None:
            step, origin = timedelta(seconds=self.every), self.starts_at or ORIGIN
            tick = origin + step * ((max(moment, FIRST_TIME) - origin) // step)
            while tick <= LAST_TIME - step:
                tick += step
                if tick > moment:
                    yield tick
        elif self.cron is not None:
            yield from fire_times(self.cron, self.zone, moment)

    def next_after(self, moment: datetime) -> datetime | None:
        """Return its first tick later than *moment*; None: there is none."""
        return next(self.after(moment), None)

    def coming(self, moment: datetime, count: int) -> tuple[datetime, ...]:
        """Return its next *count* ticks, in its time zone."""
        return tuple(tick.astimezone(self.zone) for tick in islice(self.after(moment), count))

    @property
    def words(self) -> str:
        """What it says, in words."""
        if self.at is not None:
            return f"Once, at {self.at:%Y-%m-%d %H:%M:%S} UTC"
        if self.every is not None:
            return f"Every {_words(self.every)}"
        return f"{explain(self.cron or '')} ({self.timezone})"


def _words(seconds: float) -> str:
    """Return a time in words, exactly: "hour", "15 minutes", "1 day, 1.5 seconds"."""
    parts = []
    for unit, size in _UNITS:
        number, seconds = (seconds, 0.0) if size == 1 else divmod(seconds, size)
        if number:
            parts.append(f"{number:g} {unit}" + ("" if number == 1 else "s"))
    return parts[0].removeprefix("1 ") if len(parts) == 1 else ", ".join(parts)
