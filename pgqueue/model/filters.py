"""Which jobs a list or a bulk operation selects, and pages of them. Values only."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from pgqueue.errors import InvalidFilterError, InvalidOptionError
from pgqueue.model.checks import aware_time, shown, text
from pgqueue.model.jobs import TERMINAL, Job, JobStatus

MAX_PAGE = 1000
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)
SEARCHED = 10_000
"""Characters of a job's arguments that a search reads."""
SLACK = timedelta(days=1)
"""How far the time in a job's id may be from the time of its enqueue: clocks, long transactions."""


class JobCriteria(TypedDict, total=False):
    """The fields of a JobFilter as callers write them, for type checkers."""

    status: str | Iterable[str] | None
    task: str | None
    queue: str | None
    tag: str | None
    key: str | None
    created_after: datetime | None
    created_before: datetime | None
    finished_after: datetime | None
    finished_before: datetime | None
    search: str | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Selects the jobs that match every field that is set. Raises InvalidFilterError.

    The fields are in the order in which statements take them.
    """

    statuses: frozenset[JobStatus] | None = None
    task: str | None = None
    queue: str | None = None
    tag: str | None = None
    """One of the job's tags."""
    key: str | None = None
    created_after: datetime | None = None
    """Created at or after this time zone-aware datetime."""
    created_before: datetime | None = None
    """Created before this time zone-aware datetime."""
    finished_after: datetime | None = None
    """Ended at or after this time zone-aware datetime."""
    finished_before: datetime | None = None
    """Ended before this time zone-aware datetime."""
    search: str | None = None
    """Text in the arguments, as JSON and in whatever case; in their first 10,000 characters."""

    def __post_init__(self) -> None:
        """Raise InvalidFilterError for values that no job can match."""
        object.__setattr__(self, "statuses", read_statuses(self.statuses))
        check_criteria({name: value for name, value in set_fields(self).items() if name != "statuses"})
        check_range("created", self.created_after, self.created_before)
        check_range("finished", self.finished_after, self.finished_before)

    @classmethod
    def of(cls, *, status: str | Iterable[str] | None = None, **criteria: Any) -> JobFilter:
        """Return the filter with these JobCriteria. *status*: one, or several. Raises InvalidFilterError."""
        return cls(read_statuses(status), **criteria)

    @property
    def is_empty(self) -> bool:
        """Whether it matches every job."""
        return not set_fields(self)

    def as_arguments(self) -> list[object]:
        """Return its fields as statements take them."""
        statuses, *others = (getattr(self, each.name) for each in fields(self))
        return [None if statuses is None else sorted(statuses), *others]

    def to_json(self) -> str:
        """Return it as a JSON document."""
        return json.dumps(
            {
                name: value.isoformat()
                if isinstance(value, datetime)
                else sorted(value)
                if isinstance(value, frozenset)
                else value
                for name, value in set_fields(self).items()
            }
        )

    @classmethod
    def from_json(cls, document: str) -> JobFilter:
        """Return the filter that `to_json` wrote. Raises InvalidFilterError."""
        try:
            given = json.loads(document)
            for name in (each for each in given if each.endswith(("_after", "_before"))):
                given[name] = datetime.fromisoformat(given[name])
            return cls(**given)
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidFilterError(f"filter: {document[:200]!r} cannot be read: {error}") from None

    @property
    def has_tables(self) -> bool:
        """Whether jobs of each of its statuses have rows in a table of that status."""
        return self.statuses is not None and not self.statuses & TERMINAL - {JobStatus.FAILED}

    @property
    def is_ended(self) -> bool:
        """Whether it matches ended jobs only."""
        if self.finished_after is not None or self.finished_before is not None:
            return True
        return self.statuses is not None and self.statuses <= TERMINAL

    @property
    def window(self) -> tuple[UUID, UUID]:
        """The range of ids of jobs created in the filter's time range, if the ids are UUIDv7."""
        low, high = FIRST_ID, LAST_ID
        if self.created_after is not None:
            low = UUID(int=_milliseconds(self.created_after, -SLACK) << 80)
        # What has ended before a time was created before it, too.
        befores = [at for at in (self.created_before, self.finished_before) if at is not None]
        if befores:
            high = UUID(int=(_milliseconds(min(befores), SLACK) << 80) | (1 << 80) - 1)
        return low, high


class StatusCount(NamedTuple):
    """How many jobs have a status, counted up to a bound."""

    jobs: int
    is_more: bool
    """Whether the count stopped at its bound, and there may be more."""


@dataclass(frozen=True, slots=True)
class Found:
    """The ids of jobs that match a filter, newest first."""

    ids: Sequence[UUID]
    is_more: bool
    """Whether the search stopped before it had looked at all jobs, and there may be more."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first, and the cursor of the next page."""

    jobs: Sequence[Job]
    cursor: str | None
    """Pass it to get the next page; None: this is the last."""
    is_cut_short: bool = False
    """Whether the search of this page stopped before it had enough jobs; the next page goes on with it."""


def set_fields(chosen: Any) -> dict[str, Any]:
    """Return the fields of a filter that are set."""
    values = ((field.name, getattr(chosen, field.name)) for field in fields(chosen))
    return {name: value for name, value in values if value is not None}


def check_criteria(given: Mapping[str, object]) -> None:
    """Raise InvalidFilterError for values that nothing can match. Those named _after or _before are times."""
    for name, value in given.items():
        try:
            if name.endswith(("_after", "_before")):
                aware_time(f"filter: {name}", value)
            else:
                text(f"filter: {name}", value)
        except InvalidOptionError as error:
            raise InvalidFilterError(str(error)) from None


def check_filter(verb: str, chosen: object, kind: type) -> None:
    """Raise InvalidFilterError unless *chosen* is a filter of this *kind*."""
    if not isinstance(chosen, kind):
        raise InvalidFilterError(f"{verb}: the filter must be a {kind.__name__}, got {shown(chosen)}")


def check_range(verb: str, after: datetime | None, before: datetime | None) -> None:
    """Raise InvalidFilterError if no time is from *after* on and before *before*."""
    if after and before and after >= before:
        raise InvalidFilterError(
            f"filter: {verb}_after must be earlier than {verb}_before, got {after} and {before}"
        )


def read_statuses(given: str | Iterable[str] | None) -> frozenset[JobStatus] | None:
    """Return the statuses that were *given*, one or several. Raises InvalidFilterError."""
    if given is None:
        return None
    names = [given] if isinstance(given, str) else given
    try:
        statuses = frozenset(JobStatus(name) for name in names)
    except (TypeError, ValueError) as error:
        known = ", ".join(JobStatus)
        raise InvalidFilterError(f"filter: status must be some of {known}, got {shown(given)}") from error
    if not statuses:
        raise InvalidFilterError("filter: status must not be empty; pass at least one, or leave it out")
    return statuses


def check_limit(limit: int, most: int = MAX_PAGE) -> int:
    """Return the size of a page. Raises InvalidFilterError."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
        raise InvalidFilterError(f"limit must be a whole number from 1 to {most}, got {shown(limit)}")
    return limit


def encode_cursor(reached: UUID) -> str:
    """Return the cursor of the page that begins after the job *reached*."""
    return base64.urlsafe_b64encode(reached.bytes).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> UUID | None:
    """Return the highest id of the page that begins at *cursor*; None: there are no more pages.

    Raises InvalidFilterError.
    """
    if cursor is None:
        return LAST_ID
    try:
        reached = UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_"))
    except (ValueError, TypeError):
        reached = None
    if reached is None or encode_cursor(reached) != cursor:
        raise InvalidFilterError(
            f"invalid cursor {shown(cursor)}: use one returned with a page, or omit it to start over"
        )
    return UUID(int=reached.int - 1) if reached.int else None


def _milliseconds(moment: datetime, slack: timedelta) -> int:
    milliseconds = int(moment.timestamp() * 1000) + slack // timedelta(milliseconds=1)
    return min(max(milliseconds, 0), 2**48 - 1)
