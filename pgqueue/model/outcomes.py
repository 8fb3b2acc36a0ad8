"""How an attempt can end. Values only: the executor returns one, the finisher writes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus


@dataclass(slots=True)
class Succeeded:
    """The handler returned. `result` is its JSON, or None where none is kept.

    Not frozen: every job makes one, and that would triple its cost.
    """

    job_id: UUID
    result: str | None


@dataclass(frozen=True, slots=True)
class Retry:
    """The job runs again after `delay` seconds; `spent` says whether the attempt counts."""

    job_id: UUID
    delay: float
    reason: str
    error: JobError | None
    spent: bool = True
    not_before: datetime | None = None
    """Nor before this time."""
    options: str | None = None
    """What its stored options are from now on, as JSON; None: as they were."""
    arguments: str | None = None
    """What its stored arguments are from now on, as JSON; None: as they were."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over without success: failed, cancelled or expired."""

    job_id: UUID
    status: JobStatus
    reason: str
    error: JobError | None


@dataclass(frozen=True, slots=True)
class Released:
    """The job goes back to where it was, its attempt unspent: the worker stops, or lost its lease."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class Unknown:
    """This worker does not run the job's task: it is put aside for workers that do.

    `reason`: it does not know the task, or the task is paused.
    """

    job_id: UUID
    task: str
    queue: str
    priority: int
    reason: Literal["unknown_task", "paused"] = "unknown_task"


Outcome = Succeeded | Retry | Ended | Released | Unknown
