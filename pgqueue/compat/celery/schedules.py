"""Celery's schedules, and what they are for pgqueue: a cron expression, or an interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from pgqueue.compat.celery.exceptions import ImproperlyConfigured
from pgqueue.compat.missing import Lacking, not_there

_FIELDS: Final = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day_of_week": (0, 7),
    "day_of_month": (1, 31),
    "month_of_year": (1, 12),
}
_TIMES: Final = "run `pgqueue schedules`, which shows the next times; the database's clock is the only clock"
Field = str | int | Iterable[int]


class schedule(Lacking):  # noqa: N801  # Celery's name
    """A task every *run_every*, seconds or a timedelta, by the clock: all workers agree about the times."""

    lacking = _TIMES

    def __init__(
        self,
        run_every: float | timedelta,
        relative: bool = False,
        nowfun: Any = None,
        app: Any = None,
    ) -> None:
        del app
        if relative:
            raise not_there("schedule(relative=True)", "use crontab(...): intervals count from 1970 in UTC")
        _no_clock(nowfun)
        self.run_every = run_every if isinstance(run_every, timedelta) else timedelta(seconds=run_every)

    @property
    def timing(self) -> dict[str, Any]:
        """What `PgQueue.schedule` takes."""
        return {"every": self.run_every}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, schedule) and self.run_every == other.run_every

    def __hash__(self) -> int:
        return hash(self.run_every)

    def __repr__(self) -> str:
        return f"<freq: {self.run_every}>"


class crontab(Lacking):  # noqa: N801  # Celery's name
    """A task at the times that match all fields: numbers, `*`, `*/15`, `1-5`, `mon-fri`, lists of these."""

    lacking = _TIMES

    def __init__(
        self,
        minute: Field = "*",
        hour: Field = "*",
        day_of_week: Field = "*",
        day_of_month: Field = "*",
        month_of_year: Field = "*",
        *,
        nowfun: Any = None,
        app: Any = None,
    ) -> None:
        del app
        _no_clock(nowfun)
        self.minute, self.hour = _field("minute", minute), _field("hour", hour)
        self.day_of_week = _field("day_of_week", day_of_week)
        self.day_of_month = _field("day_of_month", day_of_month)
        self.month_of_year = _field("month_of_year", month_of_year)
        if self.day_of_week != "*" and self.day_of_month != "*":
            raise not_there(
                "a crontab of days of the week and days of the month, which have to match both,",
                "schedule the task on the days of the month, and have it return on other days of the week",
            )

    @property
    def expression(self) -> str:
        """The same as a line of cron."""
        return f"{self.minute} {self.hour} {self.day_of_month} {self.month_of_year} {self.day_of_week}"

    @property
    def timing(self) -> dict[str, Any]:
        """What `PgQueue.schedule` takes."""
        return {"cron": self.expression}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, crontab) and self.expression == other.expression

    def __hash__(self) -> int:
        return hash(self.expression)

    def __repr__(self) -> str:
        return f"<crontab: {self.expression} (m/h/dM/MY/d)>"


class solar:  # noqa: N801  # Celery's name
    """Not there."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise not_there("a solar schedule", "use crontab(...), or have a task schedule the next one by eta=")


def timing_of(given: Any) -> dict[str, Any]:
    """Return what `PgQueue.schedule` takes for a schedule of Celery's: one of these, seconds, a timedelta."""
    if isinstance(given, bool) or not isinstance(given, schedule | crontab | int | float | timedelta):
        raise ImproperlyConfigured(
            f"a schedule must be seconds, a timedelta, crontab(...) or schedule(...), got {given!r}"
        )
    return (schedule(given) if isinstance(given, int | float | timedelta) else given).timing


_KEYS: Final = {"args", "kwargs", "options", "relative", "schedule", "task"}


def check_entry(name: str, entry: Any) -> None:
    """Raise ImproperlyConfigured or NotImplementedError for what no entry of `beat_schedule` can be."""
    if not isinstance(entry, Mapping) or not {"task", "schedule"} <= entry.keys() <= _KEYS:
        raise ImproperlyConfigured(
            f"schedule {name!r} must be a mapping with task and schedule; it may have {sorted(_KEYS)}"
        )
    if entry.get("relative"):
        raise not_there(f"schedule {name!r}: relative", "use crontab(...): intervals count from 1970 in UTC")
    timing_of(entry["schedule"])


def _field(name: str, given: Field) -> str:
    if isinstance(given, str):
        return "".join(given.split()).lower()
    numbers = [given] if isinstance(given, int) else sorted(given)
    least, most = _FIELDS[name]
    if not numbers or any(isinstance(each, bool) or not least <= each <= most for each in numbers):
        raise ImproperlyConfigured(f"crontab: {name} must be from {least} to {most}, got {given!r}")
    return ",".join(map(str, numbers))


def _no_clock(nowfun: Any) -> None:
    if nowfun is not None:
        raise not_there("nowfun=", "leave it out: the database's clock is the only clock")
