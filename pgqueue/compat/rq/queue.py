"""`Queue`: where calls of functions are enqueued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn
from uuid import UUID

import pgqueue
from pgqueue import JobFilter, PgQueue, Signature
from pgqueue import JobStatus as Status
from pgqueue.blocking import BlockingPgQueue
from pgqueue.compat import Lacking, not_there
from pgqueue.compat.rq.calls import EnqueueData, Wanted, read, signature_of
from pgqueue.compat.rq.connections import DEFAULT_TIMEOUT, OF_ENVIRONMENT, Redis, connection_of
from pgqueue.compat.rq.exceptions import DuplicateJobError
from pgqueue.compat.rq.finding import find
from pgqueue.compat.rq.job import Job
from pgqueue.compat.rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
    records_of,
)
from pgqueue.compat.rq.running import prepare
from pgqueue.compat.rq.statuses import JobStatus
from pgqueue.compat.rq.times import seconds_of

Function = str | Callable[..., Any]

GROUP_TAG: Final = "rq-group:"
LOOK_EVERY: Final = 0.02
"""Seconds between two looks at a job that runs where it was enqueued."""


class Queue(Lacking):
    """A queue of calls.

        queue = Queue("mail", connection=Redis())
        job = queue.enqueue(send_email, "user@example.com", "Subject")

    The functions that `enqueue` takes, or their paths, are run by `pgqueue worker module:queue`. With
    *is_async* False a worker in this process runs the job before `enqueue` returns.
    """

    lacking = "use queue.connection.pgqueue, or queue.connection.blocking, which needs no await"

    DEFAULT_TIMEOUT = DEFAULT_TIMEOUT

    def __init__(
        self,
        name: str = "default",
        connection: Redis | None = None,
        default_timeout: float | str | None = None,
        is_async: bool = True,
        job_class: object = None,
        serializer: object = None,
        **options: object,
    ) -> None:
        if job_class not in (None, Job) or serializer is not None or options:
            raise not_there(
                "Queue(job_class=, serializer=, ...)",
                "jobs are pgqueue's, and arguments are JSON: PgQueue(codec=...) encrypts or compresses them",
            )
        self.connection = connection_of(connection, "Queue")
        self.name = name
        self._default_timeout = seconds_of("default_timeout", default_timeout)
        self._is_async = is_async
        pgq = prepare(self.connection)
        if name not in pgq.registry.queues:
            pgq.queue(name)

    def __pgqueue__(self) -> PgQueue:
        """Return what `pgqueue worker` runs."""
        return self.connection.__pgqueue__()

    @property
    def is_async(self) -> bool:
        """Whether jobs are run by workers."""
        return self._is_async

    @classmethod
    def all(cls, connection: Redis) -> list[Queue]:
        """Return the queues that there are."""
        return [cls(each.queue, connection) for each in connection.blocking.measure()]

    # Enqueueing

    def enqueue(self, f: Function, *args: Any, **kwargs: Any) -> Job:
        """Enqueue a call of *f*: with its arguments, and RQ's options among those that have names.

        Raises InvalidArgumentsError for a call that does not fit the function, NotImplementedError.
        """
        return self._enqueue(read(f, args, kwargs))

    def enqueue_call(
        self,
        func: Function,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | str | None = None,
        **options: Any,
    ) -> Job:
        """Enqueue a call whose arguments are apart from RQ's options."""
        return self._enqueue(
            Wanted(func, tuple(args or ()), dict(kwargs or {}), {"job_timeout": timeout, **options})
        )

    def enqueue_in(self, time_delta: timedelta, func: Function, *args: Any, **kwargs: Any) -> Job:
        """Enqueue a call that starts no earlier than after *time_delta*."""
        return self._enqueue(read(func, args, kwargs), delay=time_delta)

    def enqueue_at(self, datetime: datetime, f: Function, *args: Any, **kwargs: Any) -> Job:
        """Enqueue a call that starts no earlier than at *datetime*: of the local time zone if it has none."""
        return self._enqueue(read(f, args, kwargs), run_at=datetime.astimezone())

    prepare_data = staticmethod(EnqueueData)

    def enqueue_many(
        self, job_datas: Iterable[EnqueueData], pipeline: object = None, group_id: str | None = None
    ) -> list[Job]:
        """Enqueue what `Queue.prepare_data` made: all of it or nothing, unless one depends on another job."""
        if pipeline is not None:
            raise not_there("enqueue_many(pipeline=)", "all of it is one transaction here")
        tags: dict[str, Any] = {} if group_id is None else {"tags": [GROUP_TAG + group_id]}
        wanted = [each.wanted() for each in job_datas]
        if any(each.options.get("depends_on") for each in wanted):
            return [self._enqueue(each, **tags) for each in wanted]
        calls = [self._call(each, tags) for each in wanted]
        handles = self.connection.blocking.enqueue_many(calls)
        return [self._job(each, handle.id) for each, handle in zip(wanted, handles, strict=True)]

    def enqueue_job(self, job: Job, *_: object, **__: object) -> NoReturn:
        """Raise NotImplementedError: a job is there once it is made."""
        raise not_there("Queue.enqueue_job", f"job {job.id} is enqueued already; job.requeue() runs it again")

    def _call(self, wanted: Wanted, more: Mapping[str, Any]) -> Signature[Any]:
        return signature_of(wanted, self.connection, self.name, self._default_timeout, more)

    def _job(self, wanted: Wanted, job_id: UUID) -> Job:
        return Job(wanted.options.get("job_id") or str(job_id), self.connection, uuid=job_id)

    def _enqueue(self, wanted: Wanted, **more: Any) -> Job:
        call = self._call(wanted, more)
        if not self._is_async:
            call = call.set(at_front=True)
        try:
            handle = self.connection.blocking.enqueue(call)
        except pgqueue.DuplicateJobError as error:
            raise DuplicateJobError(f"a job with job_id {wanted.options.get('job_id')!r} exists") from error
        job = self._job(wanted, handle.id)
        if not self._is_async:
            self._run(job)
        return job

    def _run(self, job: Job) -> None:
        """Run *job* here, unless its start is later."""
        waits = {JobStatus.QUEUED, JobStatus.STARTED}
        pgq = self.connection.pgqueue
        with BlockingPgQueue(pgq) as queue, queue.worker(queues=[self.name], concurrency=1):
            while job.get_status() in waits:
                time.sleep(LOOK_EVERY)

    # What is in it

    @property
    def count(self) -> int:
        """The number of jobs that wait for a worker; of very many, an estimate."""
        found = [each for each in self.connection.blocking.measure() if each.queue == self.name]
        return found[0].pending if found else 0

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True

    def is_empty(self) -> bool:
        """Whether no job waits for a worker."""
        return not self.connection.blocking.jobs(status="pending", queue=self.name, limit=1).jobs

    def get_jobs(self, offset: int = 0, length: int = -1) -> list[Job]:
        """Return the jobs that wait for a worker, in the order in which they start."""
        records = sorted(
            records_of(self.connection, self.name, Status.PENDING), key=lambda each: (-each.priority, each.id)
        )
        return [
            Job(record=each, connection=self.connection)
            for each in records[offset : None if length < 0 else offset + length]
        ]

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Return the ids of the jobs that wait for a worker."""
        return [each.id for each in self.get_jobs(offset, length)]

    @property
    def jobs(self) -> list[Job]:
        """The jobs that wait for a worker."""
        return self.get_jobs()

    @property
    def job_ids(self) -> list[str]:
        """The ids of the jobs that wait for a worker."""
        return self.get_job_ids()

    def fetch_job(self, job_id: str) -> Job | None:
        """Return a job of this queue, or None."""
        record = find(job_id, self.connection)
        if record is None or record.queue != self.name:
            return None
        return Job(job_id, self.connection, record=record)

    def empty(self) -> int:
        """Cancel the jobs that wait for a worker; return their number."""
        chosen = JobFilter.of(status="pending", queue=self.name)
        return sum(self.connection.blocking.cancel_many(chosen, reason="emptied"))

    def remove(self, job_or_id: Job | str, pipeline: object = None) -> None:
        """Cancel a job."""
        del pipeline
        job = job_or_id if isinstance(job_or_id, Job) else Job.fetch(job_or_id, self.connection)
        self.connection.blocking.cancel(job.uuid, reason="removed")

    def delete(self, delete_jobs: bool = True) -> None:
        """Cancel the jobs that wait for a worker."""
        if not delete_jobs:
            raise not_there("Queue.delete(delete_jobs=False)", "a queue is there while jobs are in it")
        self.empty()

    @property
    def failed_job_registry(self) -> FailedJobRegistry:
        """The jobs that have failed for good."""
        return FailedJobRegistry(self.name, self.connection)

    @property
    def started_job_registry(self) -> StartedJobRegistry:
        """The jobs that are running."""
        return StartedJobRegistry(self.name, self.connection)

    @property
    def finished_job_registry(self) -> FinishedJobRegistry:
        """The jobs that have succeeded."""
        return FinishedJobRegistry(self.name, self.connection)

    @property
    def deferred_job_registry(self) -> DeferredJobRegistry:
        """The jobs that wait for other jobs."""
        return DeferredJobRegistry(self.name, self.connection)

    @property
    def scheduled_job_registry(self) -> ScheduledJobRegistry:
        """The jobs that start at a later time."""
        return ScheduledJobRegistry(self.name, self.connection)

    @property
    def canceled_job_registry(self) -> CanceledJobRegistry:
        """The jobs that were cancelled."""
        return CanceledJobRegistry(self.name, self.connection)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"


class App:
    """What `pgqueue worker pgqueue.compat.rq:app` runs: `--queues` of the database that PGQUEUE_DSN names."""

    def __pgqueue__(self) -> PgQueue:
        """Return it, with the queue `default`."""
        return Queue(connection=Redis(OF_ENVIRONMENT)).__pgqueue__()


app = App()
