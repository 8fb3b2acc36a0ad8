"""Which jobs a list or a bulk operation means, and pages of them. Values only."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from uuid import UUID

from pgqueue.errors import InvalidFilterError
from pgqueue.model.jobs import TERMINAL, Job, JobStatus

MAX_PAGE = 1000
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)
SLACK = timedelta(days=1)
"""By how much the time in a job's id and the time of its enqueue may differ: clocks, long transactions."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are meant: those that fit everything that is given. Raises InvalidFilterError."""

    statuses: frozenset[JobStatus] | None = None
    task: str | None = None
    queue: str | None = None
    tag: str | None = None
    """One of the job's tags."""
    key: str | None = None
    created_after: datetime | None = None
    """Created then or later. Aware."""
    created_before: datetime | None = None
    """Created earlier than then. Aware."""

    def __post_init__(self) -> None:
        """Raise InvalidFilterError for what no job can fit."""
        object.__setattr__(self, "statuses", read_statuses(self.statuses))
        for name in ("task", "queue", "tag", "key"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value or "\0" in value):
                raise InvalidFilterError(f"filter: {name} is {value!r}: give a text, or leave it out")
        for name in ("created_after", "created_before"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, datetime) or value.utcoffset() is None):
                raise InvalidFilterError(f"filter: {name} is {value!r}: give an aware datetime")
        if self.created_after and self.created_before and self.created_after >= self.created_before:
            raise InvalidFilterError(
                f"filter: nothing was created from {self.created_after} on and before {self.created_before}: "
                "created_after must be the earlier one"
            )

    @property
    def is_empty(self) -> bool:
        """Whether it takes in every job."""
        return all(getattr(self, each.name) is None for each in fields(self))

    @property
    def is_live(self) -> bool:
        """Whether it takes in live jobs alone."""
        return self.statuses is not None and not self.statuses & TERMINAL

    @property
    def window(self) -> tuple[UUID, UUID]:
        """The ids, if they are UUIDv7, of jobs created when the filter says."""
        low, high = FIRST_ID, LAST_ID
        if self.created_after is not None:
            low = UUID(int=_milliseconds(self.created_after, -SLACK) << 80)
        if self.created_before is not None:
            high = UUID(int=(_milliseconds(self.created_before, SLACK) << 80) | (1 << 80) - 1)
        return low, high


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first, and where the next ones begin."""

    jobs: Sequence[Job]
    cursor: str | None
    """Pass it to get what follows; None: there is no more."""


def read_statuses(given: str | Iterable[str] | None) -> frozenset[JobStatus] | None:
    """Return the statuses that were *given*, one or several. Raises InvalidFilterError."""
    if given is None:
        return None
    names = [given] if isinstance(given, str) else given
    try:
        statuses = frozenset(JobStatus(name) for name in names)
    except (TypeError, ValueError) as error:
        known = ", ".join(JobStatus)
        raise InvalidFilterError(f"filter: status is {given!r}: give some of {known}") from error
    if not statuses:
        raise InvalidFilterError("filter: status is empty: give one at least, or leave it out")
    return statuses


def check_limit(limit: int) -> int:
    """Return the size of a page. Raises InvalidFilterError."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise InvalidFilterError(f"limit is {limit!r}: give a whole number from 1 to {MAX_PAGE}")
    return limit


def encode_cursor(reached: UUID) -> str:
    """Return the cursor of the page that begins behind the job *reached*."""
    return base64.urlsafe_b64encode(reached.bytes).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> UUID | None:
    """Return the highest id of the page that begins at *cursor*; None: there is none any more.

    Raises InvalidFilterError.
    """
    if cursor is None:
        return LAST_ID
    try:
        reached = UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_"))
    except (ValueError, TypeError):
        reached = None
    if reached is None or encode_cursor(reached) != cursor:
        raise InvalidFilterError(f"cursor {cursor!r} is not one that a page gave; leave it out to begin anew")
    return UUID(int=reached.int - 1) if reached.int else None


def _milliseconds(moment: datetime, slack: timedelta) -> int:
    milliseconds = int(moment.timestamp() * 1000) + slack // timedelta(milliseconds=1)
    return min(max(milliseconds, 0), 2**48 - 1)
