"""Which ticks of a schedule get jobs now. A pure function, of the database's time alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Literal, get_args

from pgqueue.schedules.rule import Rule

Misfire = Literal["once", "skip", "all"]
"""What becomes of ticks that no worker saw in time."""
Overlap = Literal["allow", "skip", "queue", "replace"]
"""What becomes of a tick while the job of an earlier one has not ended."""
MISFIRES: Final[tuple[str, ...]] = get_args(Misfire)
OVERLAPS: Final[tuple[str, ...]] = get_args(Overlap)

MOST: Final = 1000
"""Ticks that are made up for, and counted, at most."""
LATE: Final = timedelta(seconds=60)
"""By so much a tick may be late with misfire="skip"."""
_WINDOWS: Final = (
    timedelta(minutes=2),
    timedelta(hours=2),
    timedelta(days=4),
    timedelta(days=200),
    timedelta(days=30 * 366),
)


@dataclass(frozen=True, slots=True)
class Due:
    """The ticks that get jobs now, how many have passed without, and the next tick (None: there is none)."""

    ticks: list[datetime]
    missed: int
    next_at: datetime | None


def due(rule: Rule, next_at: datetime, now: datetime, misfire: str, catch_up: timedelta) -> Due:
    """Return what is due of a schedule whose next tick was *next_at*."""
    passed = _passed(rule, next_at, now)
    following = rule.next_after(now)
    if misfire == "all":
        # A catch-up that is longer than the calendar has no beginning.
        since = now - min(catch_up, now - next_at)
        chosen = [tick for tick in passed if tick >= since or now - tick <= LATE]
    elif misfire == "skip":
        chosen = [tick for tick in passed[-1:] if now - tick <= LATE]
    else:
        chosen = passed[-1:]
    return Due(chosen, len(passed) - len(chosen), following)


def _passed(rule: Rule, next_at: datetime, now: datetime) -> list[datetime]:
    """Return the latest ticks from *next_at* to *now*, MOST at most; *next_at* is always one."""
    first = [next_at]
    for tick in islice(rule.after(next_at), MOST):
        if tick > now:
            return first
        first.append(tick)
    if len(first) <= MOST:
        return first
    # A long outage: not every tick of three years is walked through, but the last of them.
    latest: deque[datetime] = deque(maxlen=MOST)
    for window in _WINDOWS:
        latest.clear()
        for tick in rule.after(max(next_at, now - window)):
            if tick > now:
                break
            latest.append(tick)
        if len(latest) == MOST or now - next_at <= window:
            break
    return list(latest) or first[-1:]
