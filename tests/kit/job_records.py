"""A job with something in each of its fields."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.model.progress import Progress

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


ERROR = JobError("ValueError", "no", "Traceback: secret.py")


def a_job(status: JobStatus = JobStatus.FAILED) -> Job:
    return Job(
        id=UUID(int=7),
        status=status,
        queue="default",
        priority=0,
        task="work",
        arguments={"card": "1234"},
        attempt=1,
        losses=0,
        created_at=NOON,
        started_at=NOON,
        completed_at=NOON,
        next_run_at=None,
        run_at=None,
        expires_at=None,
        worker="worker-1",
        result=None,
        has_result=False,
        reason="exception",
        error=ERROR,
        last_reason="exception",
        last_error=ERROR,
        tags=("a",),
        key=None,
        headers={},
        progress=Progress(1, 2, None),
        options={},
        read_at=NOON,
        max_attempts=4,
    )
