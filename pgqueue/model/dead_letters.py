"""Dead letters as values: an entry, a filter, a page, a group, and the progress of a mass redrive."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pgqueue.errors import InvalidFilterError
from pgqueue.model.checks import shown
from pgqueue.model.filters import check_criteria, check_range, set_fields
from pgqueue.model.jobs import Action, Attempt, Job
from pgqueue.model.operation import OperationProgress

MAX_PAGE = 1000
"""Entries on one page."""
MIN_RATE, MAX_RATE = 0.0001, 5000.0
"""Jobs per second that one mass redrive may requeue, at least and at most."""
MAX_COUNT = 100_000
"""Counts of dead letters stop here."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed job that was neither redriven nor discarded."""

    job_id: UUID
    failed_at: datetime
    task: str
    queue: str
    reason: str
    """A code: "exception", "hard_timeout", "worker_lost", "undecodable", "unknown_task", ..."""
    fingerprint: str
    """Equal for errors of one task that only differ in numbers, ids and quoted parts."""
    error_type: str | None
    message: str | None
    """The first line of the error's message, cut at 200 characters."""
    attempt: int
    """Attempts that count."""
    worker: str | None
    version: str | None
    """The version of the code that ran the last attempt: its `PgQueue(version=...)`."""


@dataclass(frozen=True, slots=True)
class DeadLetterDetails:
    """Everything that is known about a dead letter. Reading it changes nothing."""

    letter: DeadLetter
    job: Job
    """The job, with the error's traceback. Arguments that cannot be decoded are as stored."""
    payload: str
    """The arguments exactly as stored."""
    attempts: Sequence[Attempt]
    """Every attempt that did not succeed, oldest first, including those before a redrive."""
    actions: Sequence[Action]
    """What operators did to the job, oldest first."""

    @property
    def trace_id(self) -> str | None:
        """The id of the trace that the job belongs to, from the W3C header `traceparent`."""
        return self.job.trace_id


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Selects the dead letters that match every field that is set. Raises InvalidFilterError."""

    task: str | None = None
    queue: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    error_type: str | None = None
    failed_after: datetime | None = None
    """Failed at or after this time zone-aware datetime."""
    failed_before: datetime | None = None
    """Failed before this time zone-aware datetime."""

    def __post_init__(self) -> None:
        """Raise InvalidFilterError for values that no dead letter can match."""
        check_criteria(set_fields(self))
        check_range("failed", self.failed_after, self.failed_before)

    @property
    def is_empty(self) -> bool:
        """Whether it matches every dead letter."""
        return not set_fields(self)

    def to_json(self) -> str:
        """Return it as statements take it: as JSON."""
        return json.dumps(
            {
                name: value.isoformat() if isinstance(value, datetime) else value
                for name, value in set_fields(self).items()
            }
        )


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Some dead letters, newest first, and the cursor of the next page."""

    letters: Sequence[DeadLetter]
    cursor: str | None
    """Pass it to get the next page; None: this is the last."""


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters with the same fingerprint."""

    latest: DeadLetter
    """The one that failed last, as an example."""
    first_at: datetime
    """When the first of them failed."""
    count: int
    """How many there are; the count stops at the cap."""

    @property
    def fingerprint(self) -> str:
        """Their fingerprint."""
        return self.latest.fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveProgress(OperationProgress):
    """The progress of a mass redrive, which makes jobs pending again."""

    total: int
    """Dead letters that matched when it began; the count stops at MAX_COUNT."""
    rate: float
    """Jobs per second."""
    queue: str | None


def encode_cursor(letter: DeadLetter) -> str:
    """Return the cursor of the page that begins after *letter*."""
    text = f"{(letter.failed_at - _EPOCH) // timedelta(microseconds=1)} {letter.job_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Return the time and the job that a page begins after. Raises InvalidFilterError."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        microseconds, job_id = base64.urlsafe_b64decode(padded.encode()).decode().split(" ")
        return _EPOCH + timedelta(microseconds=int(microseconds)), UUID(job_id)
    except (ValueError, OverflowError, AttributeError, TypeError) as error:
        raise InvalidFilterError(
            f"invalid cursor {shown(cursor)}: use one returned with a page, or omit it to start over"
        ) from error
