"""How long ended jobs are kept. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypedDict

from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import Duration, positive_seconds, shown

DAY = 24 * 60 * 60.0


class RetentionOptions(TypedDict, total=False):
    """How long jobs are kept after they end, by how they end: seconds, a timedelta, or None for forever."""

    succeeded: Duration | None
    """Default: 7 days."""
    failed: Duration | None
    """From the failure. Default: 30 days."""
    cancelled: Duration | None
    """Default: 7 days."""
    expired: Duration | None
    """Default: 7 days."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How many seconds a job is kept after it ends; None: forever."""

    succeeded: float | None = 7 * DAY
    failed: float | None = 30 * DAY
    cancelled: float | None = 7 * DAY
    expired: float | None = 7 * DAY

    @property
    def shortest(self) -> float | None:
        """The age below which nothing is removed. None: nothing is ever removed."""
        limited = [
            limit
            for limit in (self.succeeded, self.failed, self.cancelled, self.expired)
            if limit is not None
        ]
        return min(limited, default=None)


def read_retention(given: Mapping[str, object]) -> Retention:
    """Check *given* as RetentionOptions. Raises InvalidOptionError."""
    known = [each.name for each in fields(Retention)]
    if not isinstance(given, Mapping):
        raise InvalidOptionError(
            f"PgQueue: retention must be a mapping of {', '.join(known)}, got {shown(given)}"
        )
    for name in given:
        if name not in known:
            raise InvalidOptionError(
                f"PgQueue: retention must be a mapping of {', '.join(known)}, got {shown(name)}"
            )
    return Retention(
        **{
            name: None if value is None else positive_seconds(f"PgQueue: retention of {name} jobs", value)
            for name, value in given.items()
        }
    )
