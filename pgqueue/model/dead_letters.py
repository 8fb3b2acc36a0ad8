"""Dead letters as values: an entry, a filter, a page, a group, and how far a mass redrive has come."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from pgqueue.errors import InvalidFilterError
from pgqueue.model.jobs import Action, Attempt, Job

MAX_PAGE = 1000
"""Entries on one page."""
MAX_RATE = 5000.0
"""Jobs a second that one mass redrive may requeue."""
MAX_COUNT = 100_000
"""What counts of dead letters stop at."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that has failed, and that nobody has redriven or discarded."""

    job_id: UUID
    failed_at: datetime
    task: str
    queue: str
    reason: str
    """A code: "exception", "hard_timeout", "worker_lost", "undecodable", "unknown_task", ..."""
    fingerprint: str
    """The same for errors of one task that differ in numbers, ids and quoted parts only."""
    error_type: str | None
    message: str | None
    """The first line of the error's message, cut at 200 characters."""
    attempt: int
    """Attempts spent."""
    worker: str | None
    version: str | None
    """Of the code that ran the last attempt, as `PgQueue(version=...)` names it."""


@dataclass(frozen=True, slots=True)
class DeadLetterDetails:
    """All that is known of a dead letter. Reading it changes nothing."""

    letter: DeadLetter
    job: Job
    """The record, with the error's traceback. Arguments that cannot be decoded are as they are stored."""
    payload: str
    """The arguments exactly as they are stored."""
    attempts: Sequence[Attempt]
    """Every attempt that did not succeed, oldest first, those before a redrive too."""
    actions: Sequence[Action]
    """What operators did to the job, oldest first."""

    @property
    def trace_id(self) -> str | None:
        """The id of the trace that the job belongs to, from the W3C header `traceparent`."""
        parts = self.job.headers.get("traceparent", "").split("-")
        return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: those that fit everything that is given. Raises InvalidFilterError."""

    task: str | None = None
    queue: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    error_type: str | None = None
    failed_after: datetime | None = None
    """Failed then or later. Aware."""
    failed_before: datetime | None = None
    """Failed earlier than then. Aware."""

    def __post_init__(self) -> None:
        """Raise InvalidFilterError for what no dead letter can fit."""
        for name, value in self._given().items():
            if isinstance(value, datetime):
                if value.tzinfo is None:
                    raise InvalidFilterError(
                        f"filter: {name} is {value}, without a time zone: give an aware time"
                    )
            elif name.startswith("failed_"):
                raise InvalidFilterError(f"filter: {name} is {value!r}: give an aware datetime")
            elif not isinstance(value, str) or not value or "\0" in value:
                raise InvalidFilterError(f"filter: {name} is {value!r}: give a text, or leave it out")
        if self.failed_after and self.failed_before and self.failed_after >= self.failed_before:
            raise InvalidFilterError(
                f"filter: nothing failed from {self.failed_after} on and before {self.failed_before}: "
                "failed_after must be the earlier one"
            )

    def _given(self) -> dict[str, object]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def is_empty(self) -> bool:
        """Whether it takes in every dead letter."""
        return not self._given()

    def to_json(self) -> str:
        """Return it as the database takes it."""
        return json.dumps(
            {
                name: value.isoformat() if isinstance(value, datetime) else value
                for name, value in self._given().items()
            }
        )


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Some dead letters, newest first, and where the next ones begin."""

    letters: Sequence[DeadLetter]
    cursor: str | None
    """Give it back for the next page; None: this is the last."""


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters of one fingerprint."""

    latest: DeadLetter
    """The one that failed last, as the example."""
    first_at: datetime
    """When the first of them failed."""
    count: int
    """How many there are; stops at the cap."""

    @property
    def fingerprint(self) -> str:
        """What they have in common."""
        return self.latest.fingerprint


@dataclass(frozen=True, slots=True)
class RedriveProgress:
    """How far a mass redrive has come."""

    id: UUID
    state: Literal["running", "done", "cancelled"]
    done: int
    """Jobs that are pending again."""
    total: int
    """Dead letters that there were at its start; stops at MAX_COUNT."""
    rate: float
    """Jobs a second."""
    queue: str | None
    reason: str | None
    actor: str
    created_at: datetime
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be redriven."""
        return self.state != "running"


def encode_cursor(letter: DeadLetter) -> str:
    """Return the cursor of the page that begins behind *letter*."""
    text = f"{(letter.failed_at - _EPOCH) // timedelta(microseconds=1)} {letter.job_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Return the time and the job that a page begins behind. Raises InvalidFilterError."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        microseconds, job_id = base64.urlsafe_b64decode(padded.encode()).decode().split(" ")
        return _EPOCH + timedelta(microseconds=int(microseconds)), UUID(job_id)
    except (ValueError, OverflowError, AttributeError, TypeError) as error:
        raise InvalidFilterError(
            f"cursor {cursor!r} is not one that a page gave; leave it out to begin anew"
        ) from error
