"""Finds jobs by pgqueue's ids, and by those that they were enqueued with."""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from uuid import UUID

from pgqueue import Job as Record
from pgqueue import JobNotFoundError
from pgqueue.compat.rq.connections import Redis

PAGES: Final = 10
"""Pages of jobs among which one with a `job_id` of its own is looked for, the newest first."""


def find(job_id: str, connection: Redis) -> Record | None:
    """Return the job with pgqueue's id, or else the newest one that was enqueued with this `job_id`."""
    queue = connection.blocking
    with suppress(ValueError, JobNotFoundError):
        return queue.get(UUID(job_id))
    cursor = None
    for _ in range(PAGES):
        page = queue.jobs(key=job_id, limit=1, cursor=cursor)
        cursor = page.cursor
        if page.jobs:
            return page.jobs[0]
        if cursor is None:
            break
    return None
