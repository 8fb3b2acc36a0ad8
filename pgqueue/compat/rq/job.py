"""`Job`: a job as RQ's users read it, and what they do with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, ClassVar, Final, NoReturn, Self
from uuid import UUID

import pgqueue
from pgqueue import Job as Record
from pgqueue import JobContext, JobNotWaitingError, ResultTimeoutError
from pgqueue.compat import Lacking, not_there
from pgqueue.compat.rq.connections import DEFAULT_TIMEOUT, Redis, connection_of
from pgqueue.compat.rq.exceptions import InvalidJobOperation, NoSuchJobError
from pgqueue.compat.rq.finding import find
from pgqueue.compat.rq.headers import DESCRIPTION, META
from pgqueue.compat.rq.results import Result, error_of, result_of, retried_of
from pgqueue.compat.rq.statuses import NAMES, HasStatus, JobStatus

HIGHEST: Final = 32767


class Job(Lacking, HasStatus):
    """A job. What RQ keeps in a hash is read from the database when it is asked for, and by `refresh`.

    Arguments that the worker's function has names for are in `kwargs`.
    """

    lacking = "read job.record, which is pgqueue's, or use queue.connection.blocking"
    ways: ClassVar[Mapping[str, str]] = {
        "dependency": "pass the ids of those jobs as arguments, and Job.fetch(id) them",
        "fetch_dependencies": "pass the ids of those jobs as arguments, and Job.fetch(id) them",
        "number_of_retries": "read job.record.attempt - 1",
        "save": "call save_meta()",
    }

    def __init__(
        self,
        id: str | None = None,  # noqa: A002  # RQ's name
        connection: Redis | None = None,
        *,
        record: Record | None = None,
        uuid: UUID | None = None,
    ) -> None:
        if id is None and record is None:
            raise not_there("Job()", "queue.enqueue(...) makes jobs, and Job.fetch(id, connection) reads one")
        self.connection = connection_of(connection, "Job")
        self._record = record
        self._uuid = uuid if record is None else record.id
        self._id = id
        self._meta: dict[str, Any] | None = None

    @classmethod
    def fetch(cls, id: str, connection: Redis | None = None, serializer: object = None) -> Self:  # noqa: A002  # RQ's name
        """Read a job. Raises NoSuchJobError."""
        del serializer
        record = find(id, connection_of(connection, "Job.fetch"))
        if record is None:
            raise NoSuchJobError(f"No such job: {id}")
        return cls(id, connection, record=record)

    @classmethod
    def fetch_many(
        cls, job_ids: Iterable[str], connection: Redis, serializer: object = None
    ) -> list[Job | None]:
        """Read jobs, in the order of their ids; None where there is none."""
        del serializer
        found = {each: find(each, connection) for each in dict.fromkeys(job_ids)}
        return [
            None if record is None else cls(each, connection, record=record) for each, record in found.items()
        ]

    @classmethod
    def exists(cls, job_id: str, connection: Redis) -> bool:
        """Whether there is such a job."""
        return find(job_id, connection) is not None

    @classmethod
    def create(cls, *_: object, **__: object) -> NoReturn:
        """Raise NotImplementedError: jobs are made where they are enqueued."""
        raise not_there("Job.create", "call queue.enqueue(...)")

    # What is known of it

    def refresh(self) -> None:
        """Read it again. Raises NoSuchJobError."""
        wanted = self._id if self._uuid is None else str(self._uuid)
        record = find(wanted or "", self.connection)
        if record is None:
            raise NoSuchJobError(f"No such job: {self.id}")
        self._record, self._uuid, self._meta = record, record.id, None

    @property
    def record(self) -> Record:
        """The job as pgqueue has it, as it was when it was last read."""
        if self._record is None:
            self.refresh()
        assert self._record is not None
        return self._record

    @property
    def id(self) -> str:
        """The `job_id` that it was enqueued with, or pgqueue's id."""
        if self._id is None:
            self._id = self.record.key or str(self.record.id)
        return self._id

    @property
    def uuid(self) -> UUID:
        """Pgqueue's id."""
        return self.record.id if self._uuid is None else self._uuid

    def get_id(self) -> str:
        """Return its id."""
        return self.id

    def get_status(self, refresh: bool = True) -> JobStatus:
        """Return its status, in RQ's words."""
        if refresh:
            self.refresh()
        return NAMES[self.record.status]

    @property
    def func_name(self) -> str:
        """The path of its function."""
        return self.record.task

    @property
    def origin(self) -> str:
        """The name of its queue."""
        return self.record.queue

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments whose names pgqueue does not know."""
        arguments = self.record.arguments
        return tuple(arguments.get("*", ()) if isinstance(arguments, Mapping) else arguments)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The other arguments, by name."""
        arguments = self.record.arguments
        return (
            {name: value for name, value in arguments.items() if name != "*"}
            if isinstance(arguments, Mapping)
            else {}
        )

    @property
    def description(self) -> str:
        """What it was described as, or its call."""
        return self.record.headers.get(DESCRIPTION) or self.get_call_string()

    def get_call_string(self) -> str:
        """Return its call as Python would write it."""
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.func_name}({', '.join(arguments)})"

    @property
    def timeout(self) -> float:
        """Its time limit in seconds; -1: it has none."""
        timeout: float | None = self.record.options.get("soft_timeout", DEFAULT_TIMEOUT)
        return -1 if timeout is None else timeout

    @property
    def created_at(self) -> datetime:
        """When it was enqueued. Times are time zone-aware, and by the database's clock."""
        return self.record.created_at

    enqueued_at = created_at

    @property
    def started_at(self) -> datetime | None:
        """When its first attempt started."""
        return self.record.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return self.record.completed_at

    @property
    def worker_name(self) -> str | None:
        """The worker that has run it last."""
        return self.record.worker

    @property
    def retries_left(self) -> int | None:
        """How often it may be retried yet; None: it was enqueued without a Retry."""
        most: int | None = self.record.options.get("max_retries")
        return None if most is None else max(0, most - max(0, self.record.attempt - 1))

    @property
    def retry_intervals(self) -> list[float] | None:
        """The seconds before its retries; None: it was enqueued without a Retry."""
        intervals: list[float] | None = self.record.options.get("retry_intervals")
        return intervals

    # What came of it

    def return_value(self, refresh: bool = False) -> Any:
        """Return the result of a job that has succeeded, or None."""
        if refresh or not self.record.is_terminal:
            self.refresh()
        return self.record.result

    @property
    def result(self) -> Any:
        """The result of a job that has succeeded, or None."""
        return self.return_value()

    @property
    def exc_info(self) -> str | None:
        """The traceback of its latest error."""
        if not self.record.is_terminal:
            self.refresh()
        return error_of(self.record)

    def latest_result(self, timeout: float = 0) -> Result | None:
        """Return what it came to, for which this waits at most *timeout* seconds."""
        if timeout and not self.record.is_terminal:
            with suppress(ResultTimeoutError, pgqueue.JobDidNotSucceed):
                self.connection.blocking.handle(self.record.id).result(timeout)
        self.refresh()
        return result_of(self.id, self.record)

    def results(self) -> list[Result]:
        """Return what it came to, and before that, the attempts that asked for another one."""
        self.refresh()
        last = result_of(self.id, self.record)
        # As in RQ: an attempt that has failed and is retried leaves none.
        asked = [each for each in self.connection.blocking.attempts(self.record.id) if each.reason == "retry"]
        return [*([last] if last else ()), *(retried_of(self.id, each) for each in reversed(asked))]

    # Its notes

    @property
    def meta(self) -> dict[str, Any]:
        """Notes of your own: those that it was enqueued with, or that the job has saved last."""
        if self._meta is None:
            record = self.record
            saved = None if record.progress is None else record.progress.meta
            self._meta = json.loads(record.headers.get(META, "{}")) if saved is None else dict(saved)
        return self._meta

    @meta.setter
    def meta(self, value: dict[str, Any]) -> None:
        self._meta = value

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """Return its notes."""
        if refresh:
            self.refresh()
        return self.meta

    def save_meta(self) -> None:
        """Store its notes, at most 8 KiB as JSON. Only the job itself can, while it runs."""
        ctx = _running(self)
        if ctx is None:
            raise not_there(
                "Job.save_meta() outside of the job",
                "pass meta= to enqueue, or save it in the job's function",
            )
        ctx.progress(0, meta=self.meta)

    # What can be done with it

    def cancel(self, pipeline: object = None, enqueue_dependents: bool = False, **_: object) -> None:
        """Cancel it. Raises InvalidJobOperation if it was cancelled before."""
        if pipeline is not None:
            raise not_there("Job.cancel(pipeline=)", "each call here is a transaction of its own")
        if enqueue_dependents:
            raise not_there(
                "Job.cancel(enqueue_dependents=)",
                "enqueue those with depends_on=Dependency(jobs, allow_failure=True)",
            )
        if self.is_canceled:
            raise InvalidJobOperation(f"Cannot cancel already canceled job: {self.id}")
        self.connection.blocking.cancel(self.record.id)
        self._record = None

    def requeue(self, at_front: bool = False) -> Job:
        """Make it pending again, under its id, if it has failed. Raises InvalidJobOperation."""
        if not self.is_failed or not self.connection.blocking.requeue(self.record.id):
            raise InvalidJobOperation(f"Cannot requeue job {self.id}: it has not failed")
        if at_front:
            # It may have started by now.
            with suppress(JobNotWaitingError):
                self.connection.blocking.reprioritise(self.record.id, HIGHEST)
        self._record = None
        return self

    def delete(
        self, pipeline: object = None, remove_from_queue: bool = True, delete_dependents: bool = False
    ) -> None:
        """Cancel it if it has not ended, discard it if it has failed. After its retention it is removed."""
        del remove_from_queue
        if pipeline is not None or delete_dependents:
            raise not_there(
                "Job.delete(pipeline=, delete_dependents=)", "jobs that depend on it are cancelled"
            )
        self.refresh()
        if self.record.status is pgqueue.JobStatus.FAILED:
            self.connection.blocking.discard(self.record.id)
        elif not self.record.is_terminal:
            self.connection.blocking.cancel(self.record.id, reason="deleted")
        self._record = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Job({self.id!r})"


def current(ctx: JobContext[Any], connection: object) -> Job:
    """Return the job that is running."""
    return Job(ctx.key or str(ctx.job_id), connection_of(connection, "Job"), uuid=ctx.job_id)


def _running(job: Job) -> JobContext[Any] | None:
    try:
        ctx = pgqueue.current_job()
    except RuntimeError:
        return None
    return ctx if job.uuid == ctx.job_id else None


class Dependency:
    """Jobs that have to succeed first, or to end, with *allow_failure*."""

    def __init__(
        self,
        jobs: Job | str | Iterable[Job | str],
        allow_failure: bool = False,
        enqueue_at_front: bool = False,
    ) -> None:
        self.dependencies = [jobs] if isinstance(jobs, Job | str) else list(jobs)
        self.allow_failure = allow_failure
        self.enqueue_at_front = enqueue_at_front
        if not self.dependencies:
            raise ValueError("Dependency: jobs must name a job")
