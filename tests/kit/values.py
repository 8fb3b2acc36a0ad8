"""Values that tests of pure functions ask about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pgqueue.model.jobs import Job, JobStatus

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def a_job(status: JobStatus, **fields: Any) -> Job:
    """Return a job that was created 20 seconds before noon and is read at noon, but for *fields*."""
    job = Job(
        id=UUID(int=7),
        status=status,
        queue="default",
        priority=0,
        task="work",
        arguments={},
        attempt=0,
        losses=0,
        created_at=NOON - timedelta(seconds=20),
        started_at=None,
        completed_at=None,
        next_run_at=None,
        run_at=None,
        expires_at=None,
        worker=None,
        result=None,
        has_result=False,
        reason=None,
        error=None,
        last_reason=None,
        last_error=None,
        tags=(),
        key=None,
        headers={},
        progress=None,
        options={},
        read_at=NOON,
    )
    return replace(job, **fields)
