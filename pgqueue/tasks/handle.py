"""A handle of an enqueued job."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Generic, Protocol, cast
from uuid import UUID

import anyio

from pgqueue.errors import JobCancelled, JobExpired, JobFailed, ResultTimeoutError
from pgqueue.model.checks import patience
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.tasks.canvas import R_co
from pgqueue.tasks.definition import TaskDefinition


class Jobs(Protocol):
    """What a handle needs of a PgQueue."""

    async def get(self, job_id: UUID) -> Job:
        """Read a job."""

    async def wait(self, job_id: UUID) -> Job:
        """Wait for a job to end."""

    def watch(self, job_id: UUID) -> AsyncGenerator[Job]:
        """Yield a job now and whenever it changes, until it has ended."""

    async def cancel(self, job_id: UUID, *, reason: str | None = None) -> bool:
        """Cancel a job."""

    def decode_result(self, task: TaskDefinition | None, job: Job) -> Any:
        """Return a job's result as its task annotates it."""


class JobHandle(Generic[R_co]):
    """An enqueued job: its id, and ways to read, await and cancel it."""

    __slots__ = ("_definition", "_queue", "created", "id", "replaced")

    def __init__(
        self,
        queue: Jobs,
        job_id: UUID,
        definition: TaskDefinition | None,
        *,
        created: bool = True,
        replaced: bool = False,
    ) -> None:
        self._queue = queue
        self._definition = definition
        self.id = job_id
        self.created = created
        """False: a job with this id already existed, or already held the call's idempotency key."""
        self.replaced = replaced
        """True: the job existed, had not started, and was given this call's arguments and options."""

    async def refresh(self) -> Job:
        """Read the job as it is now. Raises JobNotFoundError."""
        return await self._queue.get(self.id)

    async def status(self) -> JobStatus:
        """Read the job's status. Raises JobNotFoundError."""
        return (await self.refresh()).status

    async def result(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109  # the field's word
        """Wait until the job has ended, and return its handler's result.

        *timeout* is in seconds. Raises ResultTimeoutError (the job is not cancelled), JobFailed,
        JobCancelled, JobExpired, JobNotFoundError, CodecError, InvalidOptionError.
        """
        timeout = patience("result: timeout", timeout)
        try:
            with anyio.fail_after(timeout):
                job = await self._queue.wait(self.id)
        except TimeoutError as error:
            raise ResultTimeoutError(
                f"job {self.id} did not finish within {timeout:g} s; it was not cancelled. "
                "Wait again, or cancel it"
            ) from error
        return cast(R_co, self._queue.decode_result(self._definition, job))

    def watch(self) -> AsyncGenerator[Job]:
        """Yield the job as it is now, and again whenever it changes, until it has ended.

        A slow consumer sees the latest state and misses those in between. Raises JobNotFoundError.
        """
        return self._queue.watch(self.id)

    async def cancel(self, *, reason: str | None = None) -> bool:
        """Cancel the job; False: it had already ended.

        A job that has not started never will. A running job is cancelled at its handler's next await; if the
        handler returns all the same, the job has succeeded.
        """
        return await self._queue.cancel(self.id, reason=reason)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"


def raise_unless_succeeded(job: Job) -> None:
    """Raise JobFailed, JobCancelled or JobExpired for a job that ended that way."""
    match job.status:
        case JobStatus.FAILED:
            raise JobFailed(
                job.id,
                job.task,
                reason=job.reason or "failed",
                error_type=job.error.type if job.error else "",
                error_message=job.error.message if job.error else "",
            )
        case JobStatus.CANCELLED:
            raise JobCancelled(
                job.id, f"job {job.id} ({job.task}) was cancelled: {job.reason or 'no reason given'}"
            )
        case JobStatus.EXPIRED:
            how = "without being started" if job.started_at is None else "while it waited to run again"
            raise JobExpired(job.id, f"job {job.id} ({job.task}) expired at {job.expires_at} {how}")
        case _:
            pass
