"""Cron expressions, read by the library cronsim, with Debian's rules for clocks put forward or back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from heapq import heappop, heappush
from typing import Any, Final
from zoneinfo import ZoneInfo

from pgqueue.errors import ConfigurationError, InvalidOptionError
from pgqueue.model.checks import FIRST_TIME, LAST_TIME, shown, text
from pgqueue.package import pip_install

MAX_LENGTH: Final = 200
"""The longest expression, in characters."""
_NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MARGIN: Final = timedelta(days=2)
_BACK: Final = timedelta(hours=26)
"""By more no clock has been put back or forward."""
_WITHOUT_SECONDS: Final = 5
_SAMPLE: Final = datetime(2026, 1, 1, tzinfo=UTC)

Make = Callable[[str, datetime], Any]


@cache
def _library() -> Make | None:
    # An extra, which costs nothing until there is an expression to read.
    try:
        from cronsim import CronSim
    except ImportError:
        return None
    return CronSim


def has_cron() -> bool:
    """Return whether this process can read cron expressions."""
    return _library() is not None


def _maker() -> Make:
    make = _library()
    if make is None:
        raise ConfigurationError(
            "cron expressions need the library cronsim, which is not installed; "
            f"run {pip_install('schedules')}, or use every= or at="
        )
    return make


def check_cron(what: str, expression: object) -> str:
    """Return *expression* if it can ever fire. Raises InvalidOptionError, ConfigurationError."""
    checked = text(what, expression, longest=MAX_LENGTH)
    make = _maker()
    try:
        next(make(_NAMED.get(checked.strip().lower(), checked), _SAMPLE))
    except StopIteration:
        raise InvalidOptionError(f"{what} {shown(expression)} never fires") from None
    except Exception as error:
        # The library's own errors, and those of texts that it did not expect.
        raise InvalidOptionError(
            f"{what} must be a cron expression that fires, such as '0 9 * * 1-5', got {shown(expression)}: "
            f"{str(error) or type(error).__name__}"
        ) from None
    return checked


def explain(expression: str) -> str:
    """Return a cron expression in words, or as it is where that is not possible."""
    try:
        return str(_maker()(_NAMED.get(expression.strip().lower(), expression), _SAMPLE).explain())
    except Exception:
        # A row may hold anything, and a list shows it.
        return expression


def fire_times(expression: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield the times, in UTC, at which *expression* fires in *zone*, each later than *after* and the last.

    Where clocks are put forward, a time that is skipped comes at the first moment after the gap; where they
    are put back, a time that is repeated comes once, in the first pass. Where minutes or hours begin with a
    wildcard, or there are seconds, every time counts that a clock on the wall shows: none in a gap, both of
    a repeated hour.
    """
    expression = _NAMED.get(expression.strip().lower(), expression)
    fields = expression.split()
    is_fixed = len(fields) == _WITHOUT_SECONDS and not any(each.startswith("*") for each in fields[:2])
    last = max(after, FIRST_TIME + _MARGIN)
    # A second pass that has not come yet is made of wall times that have.
    offsets = {(last + by).astimezone(zone).utcoffset() for by in (-_BACK, timedelta(0), _BACK)}
    began = last if len(offsets) == 1 else last - _BACK
    second_passes: list[datetime] = []
    # The library steps wrongly over changes of half an hour, so it only sees wall times, as if of UTC.
    for wall in _walls(expression, began.astimezone(zone)):
        first, second = _moments(wall, zone)
        if is_fixed:
            second = None
            if not _is_shown(wall, first, zone):
                first = _end_of_gap(first, zone)
        elif not _is_shown(wall, first, zone):
            continue
        while second_passes and second_passes[0] < first:
            if (moment := heappop(second_passes)) > last:
                yield (last := moment)
        if first > last:
            yield (last := first)
        if second is not None:
            heappush(second_passes, second)


def _walls(expression: str, began: datetime) -> Iterator[datetime]:
    walls = _maker()(expression, began.replace(tzinfo=UTC))
    while True:
        try:
            wall: datetime = next(walls)
        except (StopIteration, OverflowError, ValueError):
            return
        if wall > LAST_TIME - _MARGIN:
            return
        yield wall.replace(tzinfo=None)


def _moments(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime | None]:
    """Return when a clock in *zone* shows *wall*: the first time, and the second if it is repeated."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first.replace(fold=0), second.replace(fold=0) if second > first else None


def _is_shown(wall: datetime, moment: datetime, zone: ZoneInfo) -> bool:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall


def _end_of_gap(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return when the gap ends behind which *moment* lies, to the second."""
    low, high = int((moment - _BACK).timestamp()), int(moment.timestamp())
    after = moment.astimezone(zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == after:
            high = middle
        else:
            low = middle
    return datetime.fromtimestamp(high, UTC)
