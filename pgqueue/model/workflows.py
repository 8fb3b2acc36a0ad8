"""A workflow as it is read. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pgqueue.model.jobs import JobStatus


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow: jobs that wait for each other, and were enqueued as one."""

    id: UUID
    root: UUID
    """The job, or the join of a group, whose end is the workflow's."""
    name: str | None
    status: JobStatus
    """That of its root: blocked while a group goes on."""
    created_at: datetime
    paused_at: datetime | None
    parent_job: UUID | None


@dataclass(frozen=True, slots=True)
class WorkflowJob:
    """A job of a workflow. See `Job` for all that is known about it."""

    id: UUID
    task: str
    status: JobStatus
    reason: str | None
    created_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkflowEdge:
    """The second one waits for the first. Each is a job, or a join: the end of a group."""

    upstream: UUID
    downstream: UUID
    position: int
    """Of the first one's result among what the second one takes; negative: it is only waited for."""
