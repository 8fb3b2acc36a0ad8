"""How an attempt can end. Values only: the executor returns one, the finisher writes it.

Which of them follows an error is decided in `pgqueue.retry.decision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never
from uuid import UUID

from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus


@dataclass(slots=True)
class Succeeded:
    """The handler returned. `result` is its JSON, or None if none is kept.

    Not frozen: every job makes one, and that would triple its cost.
    """

    job_id: UUID
    result: str | None


@dataclass(frozen=True, slots=True)
class Retried:
    """The job runs again after `delay` seconds; `spent` says whether the attempt counts."""

    job_id: UUID
    delay: float
    reason: str
    error: JobError | None
    spent: bool = True
    not_before: datetime | None = None
    """The job does not run again before this time either."""
    options: str | None = None
    """The options stored with it from now on, as JSON; None: unchanged."""
    arguments: str | None = None
    """The arguments stored with it from now on, as JSON; None: unchanged."""
    slows: bool = False
    """Whether the rates that it has passed let no job through until then."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The job has ended without success: failed, cancelled or expired."""

    job_id: UUID
    status: JobStatus
    reason: str
    error: JobError | None


@dataclass(frozen=True, slots=True)
class Released:
    """The job returns to the queue, and the attempt does not count: the worker stops, or lost its lease."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class PutAside:
    """The job returns to the queue, into a lane for its task alone: this worker does not run the task now.

    `reason`: the worker does not declare the task, or the task is paused.
    """

    job_id: UUID
    task: str
    queue: str
    priority: int
    reason: Literal["unknown_task", "paused"] = "unknown_task"


@dataclass(frozen=True, slots=True)
class Suspended:
    """The job waits, and its handler begins anew when the wait is over; the attempt does not count."""

    job_id: UUID
    wake_at: datetime | None
    """When the wait is over; None: no time ends it."""
    wakes_in: float | None
    """The seconds until then."""
    event: str | None
    """The name of the event that ends it."""
    nodes: tuple[UUID, ...] = ()
    """The jobs and joins whose ends end it."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The job begins anew with other arguments, and without what it has stored."""

    job_id: UUID
    arguments: str
    """As JSON."""


Outcome = Succeeded | Retried | Ended | Released | PutAside | Suspended | Restarted


def status_after(outcome: Outcome) -> tuple[JobStatus, str | None]:  # noqa: PLR0911  # a case for each kind
    """Return the status that an outcome gives to its job, and the reason that is stored with it."""
    match outcome:
        case Succeeded():
            return JobStatus.SUCCEEDED, None
        case Retried():
            return JobStatus.SCHEDULED, outcome.reason
        case Ended():
            return outcome.status, outcome.reason
        case Released():
            return JobStatus.PENDING, "released"
        case PutAside():
            return JobStatus.PENDING, outcome.reason
        case Suspended():
            return JobStatus.BLOCKED, "suspended"
        case Restarted():
            return JobStatus.PENDING, "restarted"
        case _:
            assert_never(outcome)


def next_in(outcome: Outcome) -> float | None:
    """Return the seconds until the next attempt; None: none comes, or one comes at a time."""
    if type(outcome) is Suspended:
        return outcome.wakes_in
    return outcome.delay if type(outcome) is Retried and outcome.not_before is None else None
