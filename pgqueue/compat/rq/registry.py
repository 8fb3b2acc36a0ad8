"""RQ's registries: the jobs of a queue that have a status."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar

from pgqueue import Job as Record
from pgqueue import JobStatus as Status
from pgqueue.compat import Lacking, not_there
from pgqueue.compat.rq.connections import Redis, connection_of
from pgqueue.compat.rq.exceptions import InvalidJobOperation, NoSuchJobError
from pgqueue.compat.rq.job import Job

PAGE = 1000


def records_of(connection: Redis, queue: str, status: Status) -> Iterator[Record]:
    """Yield the jobs of a queue that have a status, the newest first."""
    cursor = None
    while True:
        page = connection.blocking.jobs(status=status, queue=queue, limit=PAGE, cursor=cursor)
        yield from page.jobs
        cursor = page.cursor
        if cursor is None:
            return


class BaseRegistry(Lacking):
    """The jobs of one queue that have one status, the oldest first."""

    lacking = "use queue.connection.blocking.jobs(status=..., queue=...)"

    status: ClassVar[Status]

    def __init__(
        self, name: str = "default", connection: Redis | None = None, queue: Any = None, **_: object
    ) -> None:
        self.name: str = name if queue is None else queue.name
        self.connection = connection_of(
            connection if queue is None else queue.connection, type(self).__name__
        )

    def get_job_ids(
        self, start: int = 0, end: int = -1, desc: bool = False, cleanup: bool = True
    ) -> list[str]:
        """Return the ids of the jobs from place *start* to place *end*, which is counted as well."""
        del cleanup
        found = [each.key or str(each.id) for each in records_of(self.connection, self.name, self.status)]
        ordered = found if desc else found[::-1]
        return ordered[start : None if end == -1 else end + 1]

    @property
    def count(self) -> int:
        """The number of the jobs."""
        return sum(1 for _ in records_of(self.connection, self.name, self.status))

    def get_job_count(self, cleanup: bool = True) -> int:
        """Return the number of the jobs."""
        del cleanup
        return self.count

    def __len__(self) -> int:
        return self.count

    def __contains__(self, item: object) -> bool:
        try:
            job = item if isinstance(item, Job) else Job.fetch(str(item), self.connection)
            job.refresh()
        except NoSuchJobError:
            return False
        return job.record.status is self.status and job.origin == self.name

    def cleanup(self, *_: object, **__: object) -> None:
        """Do nothing: workers remove ended jobs after their retention."""

    def remove(self, job: Job | str, pipeline: object = None, delete_job: bool = False) -> None:
        """Delete a job: see Job.delete. Raises NoSuchJobError."""
        del pipeline
        if not delete_job:
            raise not_there(
                f"{type(self).__name__}.remove", "a job is where its status says; delete_job=True deletes it"
            )
        (job if isinstance(job, Job) else Job.fetch(job, self.connection)).delete()


class FailedJobRegistry(BaseRegistry):
    """The jobs that have failed for good: pgqueue's dead letters."""

    status = Status.FAILED

    def requeue(self, job_or_id: Job | str, at_front: bool = False) -> Job:
        """Make a failed job pending again. Raises NoSuchJobError, InvalidJobOperation."""
        job = job_or_id if isinstance(job_or_id, Job) else Job.fetch(job_or_id, self.connection)
        if job not in self:
            raise InvalidJobOperation(f"Job {job.id} is not among the failed jobs of queue {self.name!r}")
        return job.requeue(at_front)


class StartedJobRegistry(BaseRegistry):
    """The jobs that are running."""

    status = Status.RUNNING


class FinishedJobRegistry(BaseRegistry):
    """The jobs that have succeeded."""

    status = Status.SUCCEEDED


class DeferredJobRegistry(BaseRegistry):
    """The jobs that wait for other jobs."""

    status = Status.BLOCKED


class ScheduledJobRegistry(BaseRegistry):
    """The jobs that start at a later time."""

    status = Status.SCHEDULED

    def get_scheduled_time(self, job_or_id: Job | str) -> datetime:
        """Return when a job starts. Raises NoSuchJobError."""
        job = job_or_id if isinstance(job_or_id, Job) else Job.fetch(job_or_id, self.connection)
        job.refresh()
        if job.record.next_run_at is None:
            raise NoSuchJobError(f"job {job.id} is not scheduled")
        return job.record.next_run_at


class CanceledJobRegistry(BaseRegistry):
    """The jobs that were cancelled."""

    status = Status.CANCELLED
