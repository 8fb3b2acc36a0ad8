"""What RQ has as functions of a job's id, or of the job that is running."""

from __future__ import annotations

import pgqueue
from pgqueue.compat.rq.connections import Redis
from pgqueue.compat.rq.headers import here
from pgqueue.compat.rq.job import Job, current


def get_current_job(connection: Redis | None = None, job_class: object = None) -> Job | None:
    """Return the job that is running here; None: there is none."""
    del job_class
    try:
        ctx = pgqueue.current_job()
    except RuntimeError:
        return None
    return current(ctx, here.get() if connection is None else connection)


def cancel_job(
    job_id: str, connection: Redis, serializer: object = None, enqueue_dependents: bool = False
) -> None:
    """Cancel a job. Raises NoSuchJobError, InvalidJobOperation."""
    del serializer
    Job.fetch(job_id, connection).cancel(enqueue_dependents=enqueue_dependents)


def requeue_job(job_id: str, connection: Redis, serializer: object = None) -> Job:
    """Make a failed job pending again. Raises NoSuchJobError, InvalidJobOperation."""
    del serializer
    return Job.fetch(job_id, connection).requeue()
