"""How workflows look from outside, as JSON: the same over HTTP and on the command line. See `documents`."""

from __future__ import annotations

import sys
from datetime import datetime

from pgqueue.model.documents import ErrorDocument, Id, Time
from pgqueue.model.jobs import JobStatus
from pgqueue.model.workflows import WorkflowDetails, WorkflowMember

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    # pydantic, which describes these types, cannot read those of an older `typing`.
    from typing_extensions import TypedDict


class WorkflowDocument(TypedDict):
    """A workflow: jobs that wait for each other, and were enqueued as one."""

    workflow_id: Id
    name: str | None
    status: JobStatus
    """That of its last job; of one that ends with a group: blocked while the group goes on."""
    is_terminal: bool
    """Whether it has ended."""
    is_over: bool
    """Whether each of its jobs has ended too: some may be running that its end did not need."""
    is_paused: bool
    paused_at: Time | None
    stalled_at: Time | None
    """Since when nothing in it moves, and nothing will by itself. Noticed within seconds; null: it moves."""
    created_at: Time
    completed_at: Time | None
    last_job: Id | None
    """The job whose result is the workflow's. Null: it ends with a group."""
    parent_job: Id | None
    """The job that runs it as a part of itself."""
    total: int | None
    """Number of its jobs. Null, as `counts`: too many to be counted in a list."""
    counts: dict[str, int] | None
    """Number of its jobs by status, with every status."""


class MemberDocument(TypedDict):
    """A job of a workflow."""

    job_id: Id
    task: str
    status: JobStatus
    is_terminal: bool
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    attempt: int | None
    """Number of attempts. Null while the job goes on, and if it never started."""
    reason: str | None
    """Why it did not succeed: a code."""
    error: ErrorDocument | None
    has_result: bool


def workflow_document(workflow: WorkflowDetails) -> WorkflowDocument:
    """Return what a poll of *workflow* shows."""
    counts = workflow.counts
    return {
        "workflow_id": str(workflow.id),
        "name": workflow.name,
        "status": workflow.status,
        "is_terminal": workflow.is_terminal,
        "is_over": workflow.is_over,
        "is_paused": workflow.paused_at is not None,
        "paused_at": _time(workflow.paused_at),
        "stalled_at": _time(workflow.stalled_at),
        "created_at": workflow.created_at.isoformat(),
        "completed_at": _time(workflow.completed_at),
        "last_job": None if workflow.is_group else str(workflow.root),
        "parent_job": None if workflow.parent_job is None else str(workflow.parent_job),
        "total": None if counts is None else sum(counts.values()),
        "counts": None if counts is None else {each.value: counts.get(each, 0) for each in JobStatus},
    }


def member_document(job: WorkflowMember) -> MemberDocument:
    """Return what a list of a workflow's jobs shows. A traceback and a result are never in it."""
    return {
        "job_id": str(job.id),
        "task": job.task,
        "status": job.status,
        "is_terminal": job.status.is_terminal,
        "created_at": job.created_at.isoformat(),
        "started_at": _time(job.started_at),
        "completed_at": _time(job.completed_at),
        "attempt": job.attempt,
        "reason": job.reason,
        "error": None if job.error is None else {"type": job.error.type, "message": job.error.message},
        "has_result": job.has_result,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
