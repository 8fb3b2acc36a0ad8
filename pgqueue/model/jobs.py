"""What a job is: its statuses, which may follow which, and the record that callers read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pgqueue.model.job_error import JobError
from pgqueue.model.progress import Progress


class JobStatus(StrEnum):
    """Where a job stands. The last four are terminal."""

    PENDING = "pending"
    """Can run now."""
    SCHEDULED = "scheduled"
    """Waits for a time: delayed, or waiting to retry (`attempt` >= 1)."""
    BLOCKED = "blocked"
    """Waits for other jobs or for a limit."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Will not run again by itself: a dead letter."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Was not started by its expiry."""

    @property
    def is_terminal(self) -> bool:
        """Whether the job stays as it is."""
        return self in TERMINAL


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset(
        {
            JobStatus.RUNNING,
            JobStatus.SCHEDULED,
            JobStatus.BLOCKED,
            JobStatus.CANCELLED,
            JobStatus.EXPIRED,
            JobStatus.FAILED,
        }
    ),
    JobStatus.SCHEDULED: frozenset(
        {JobStatus.PENDING, JobStatus.BLOCKED, JobStatus.CANCELLED, JobStatus.EXPIRED}
    ),
    JobStatus.BLOCKED: frozenset(
        {JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CANCELLED, JobStatus.EXPIRED, JobStatus.FAILED}
    ),
    JobStatus.RUNNING: frozenset(
        {
            JobStatus.PENDING,
            JobStatus.SCHEDULED,
            JobStatus.BLOCKED,
            JobStatus.SUCCEEDED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
        }
    ),
    **{status: frozenset[JobStatus]() for status in TERMINAL},
}
"""Which status may follow which. The database enforces the same table (`pgqueue.is_legal_transition`)."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the database knew it when it was read. All times are aware and by the database's clock."""

    id: UUID
    status: JobStatus
    queue: str
    priority: int
    task: str
    arguments: Any
    """An object by parameter name (positional arguments whose names were not known stand under "*"), or an
    array by position. What cannot be decoded is as it is stored: see `undecodable`."""
    attempt: int
    """Attempts spent or under way; 0 before the first."""
    losses: int
    """Attempts cut short because their worker was lost. They are not counted in `attempt`."""
    created_at: datetime
    started_at: datetime | None
    """Start of the first attempt."""
    completed_at: datetime | None
    next_run_at: datetime | None
    """When a scheduled job becomes pending."""
    run_at: datetime | None
    """The earliest start that was asked for."""
    expires_at: datetime | None
    worker: str | None
    result: Any
    """What the handler returned, as JSON gives it. See `has_result` for None."""
    has_result: bool
    """Whether a result was kept: a handler that returned None has one, an ignored result is none."""
    reason: str | None
    """Why the job did not succeed: a code."""
    error: JobError | None
    last_reason: str | None
    """Why the latest unsuccessful attempt ended."""
    last_error: JobError | None
    tags: tuple[str, ...]
    key: str | None
    headers: dict[str, str]
    progress: Progress | None
    """What the handler reported last, in whichever attempt."""
    options: dict[str, Any]
    """What the call itself set of how its attempts run."""
    read_at: datetime = field(compare=False)
    """When this was read."""
    max_attempts: int | None = None
    """How many attempts it may have. None: without limit, or this process does not know the task."""
    undecodable: Mapping[str, str] = field(default_factory=dict)
    """Which of its fields cannot be decoded here ("arguments", "result", ...), and why."""

    @property
    def is_terminal(self) -> bool:
        """Whether the job stays as it is."""
        return self.status.is_terminal


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that did not succeed."""

    attempt: int
    started_at: datetime | None
    ended_at: datetime
    worker: str | None
    version: str | None
    """Of the code that ran it, as `PgQueue(version=...)` names it."""
    reason: str
    error: JobError | None


@dataclass(frozen=True, slots=True)
class Action:
    """What an operator did to a job."""

    at: datetime
    action: str
    """"cancelled", "cancel_requested", "redriven", "requeued", "discarded" or "reprioritised"."""
    attempt: int
    """Attempts spent by then."""
    reason: str | None
    actor: str
    """Who: as the caller said, else the database's user."""
