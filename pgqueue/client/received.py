"""A job that a consumer has received, and what the consumer does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self
from uuid import UUID

import anyio

from pgqueue.errors import PgQueueError
from pgqueue.model.job_info import JobInfo
from pgqueue.model.jobs import JobStatus
from pgqueue.retry.control import control_flow_of
from pgqueue.store import Received

if TYPE_CHECKING:
    from pgqueue.database.callers import CallersConnection
    from pgqueue.model.checks import Duration

RELEASE_WITHIN = 5.0
"""Seconds in which a job of a cancelled block is returned; otherwise it returns when its time is over."""


class Consumer(Protocol):
    """Writes what becomes of received jobs."""

    async def succeed(
        self, job: ReceivedJob, result: Any, connection: CallersConnection | None, *, autocommit: bool
    ) -> None:
        """Record that it has succeeded."""

    async def give_back(
        self, job: ReceivedJob, delay: Duration | None, error: BaseException | str | None
    ) -> JobStatus:
        """Record that the attempt has failed."""

    async def return_unspent(self, job: ReceivedJob) -> JobStatus:
        """Return it to its queue."""

    async def extend(self, job: ReceivedJob, lease: Duration | None) -> datetime:
        """Hold it for longer."""


class ReceivedJob:
    """A job that `PgQueue.receive` returned. It is running, and held for its consumer until its time is over.

    End it by `ack` or `nack` before that; otherwise it returns to its queue. A block does that for you:

        async with job:
            await work(*job.args, **job.kwargs)

    The block acknowledges the job at its end. An error gives it back as `nack(error=...)` does and is raised
    on; a cancellation returns it to its queue, and the attempt does not count. `Retry`, `Snooze` and `Reject`
    do in the block what they do in a handler.
    """

    __slots__ = (
        "_consumer",
        "_info",
        "args",
        "attempt",
        "enqueued_at",
        "held_until",
        "id",
        "is_ended",
        "kwargs",
        "lease",
        "queue",
        "receipt",
        "received",
        "received_at",
        "task",
    )

    def __init__(
        self,
        consumer: Consumer,
        received: Received,
        info: JobInfo,
        call: tuple[Sequence[Any], Mapping[str, Any]],
        *,
        lease: float,
        received_at: float,
    ) -> None:
        claimed = received.claimed
        self._consumer = consumer
        self._info = info
        self.received = received
        self.lease = lease
        """The seconds for which it was received."""
        self.received_at = received_at
        self.id: UUID = claimed.id
        self.receipt: UUID = received.receipt
        """What it is held by: another one each time that the job is received."""
        self.task: str = claimed.task
        self.queue: str = info.queue
        self.args: tuple[Any, ...] = tuple(call[0])
        """By the annotations of its task, if this process declares it, or else JSON's own values."""
        self.kwargs: dict[str, Any] = dict(call[1])
        self.attempt: int = claimed.attempt
        """1 for the first. Attempts lost because their time was over do not count."""
        self.enqueued_at: datetime = received.enqueued_at
        self.held_until: datetime = received.held_until
        """When it returns to its queue, by the database's clock, unless it has ended or was extended."""
        self.is_ended = False
        """Whether it was acknowledged or given back, or is known not to be held any more."""

    @property
    def receive_count(self) -> int:
        """How often the job was received or started, this time included."""
        return self._info.attempt + self._info.losses

    @property
    def priority(self) -> int:
        """Its priority."""
        return self._info.priority

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        return self._info.key

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the caller set."""
        return self._info.tags

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the caller set."""
        return self._info.headers

    @property
    def info(self) -> JobInfo:
        """What a handler would know about it."""
        return self._info

    async def ack(
        self, result: Any = None, *, connection: CallersConnection | None = None, autocommit: bool = False
    ) -> None:
        """Record that the job has succeeded, with *result* for those who await it.

        *connection*: yours, in whose transaction that is written: the job has succeeded if and only if you
        commit. Raises ReceiptLostError if the job is not held any more, InvalidArgumentsError if the result
        cannot be stored, DatabaseUnavailableError. Nothing was changed then.
        """
        await self._consumer.succeed(self, result, connection, autocommit=autocommit)

    async def nack(
        self, *, delay: Duration | None = None, error: BaseException | str | None = None
    ) -> JobStatus:
        """Give the job back: the attempt has failed. It runs again, or has failed if it may not be retried.

        What follows is decided as after an attempt of a worker, by the retry options of the job, its task and
        its queue, as far as this process declares them. *delay*: when it runs again, in seconds, instead of
        the backoff. *error*: why, for the job's history. Returns the job's status: scheduled, failed, or
        cancelled if somebody has cancelled it. Raises ReceiptLostError, InvalidOptionError,
        DatabaseUnavailableError.
        """
        return await self._consumer.give_back(self, delay, error)

    async def release(self) -> JobStatus:
        """Return the job to its place in the queue; the attempt does not count. Returns its status.

        For a consumer that stops. Raises ReceiptLostError, DatabaseUnavailableError.
        """
        return await self._consumer.return_unspent(self)

    async def extend(self, lease: Duration | None = None) -> datetime:
        """Hold the job for *lease* seconds from now on, by default as long as it was received for.

        Returns until when, by the database's clock. Raises ReceivedJobCancelled if somebody has cancelled the
        job, ReceiptLostError, InvalidOptionError, DatabaseUnavailableError.
        """
        return await self._consumer.extend(self, lease)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self.is_ended:
            return False
        if error is None:
            await self.ack()
            return False
        is_said = control_flow_of(error) is not None
        try:
            if is_said or isinstance(error, Exception):
                await self.nack(error=error)
            else:
                # A cancellation, or the end of the program: no fault of the job.
                with anyio.move_on_after(RELEASE_WITHIN, shield=True):
                    await self.release()
        except PgQueueError as second:
            error.add_note(f"job {self.id} could not be given back: {second}")
            return False
        return is_said

    def __repr__(self) -> str:
        return f"<ReceivedJob {self.id} ({self.task}), attempt {self.attempt}>"
