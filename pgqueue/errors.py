"""Every error that pgqueue raises. asyncpg's own errors pass through where the caller owns the connection.

PgQueueError
├── ConfigurationError          wired wrong; raised before any I/O
│   ├── InvalidTaskError
│   ├── DuplicateTaskError
│   └── InvalidOptionError
├── InvalidArgumentsError       the call does not fit the task
├── PayloadTooLargeError        ... or is too large
├── RedactedArgumentsError      ... or has the mark of a value that is not shown in the value's place
├── UnknownTaskError
├── UnknownQueueError
├── JobNotFoundError
│   └── JobPurgedError          ... any more: its time of being kept is over
├── CodecError                  what is stored of a job cannot be decoded here
├── NotADeadLetterError         a redrive, a discard or a look at a job that has not failed
├── JobNotWaitingError          another priority for a job that runs or is over
├── InvalidFilterError          a filter, a cursor or a limit that cannot be
├── DuplicateJobError
│   └── DuplicateKeyError       another job holds the idempotency key
├── IdempotencyConflictError    ... and its call had other arguments
├── KeyInFlightError            ... or will, if a transaction that is open is committed
├── SchemaError                 the database is not what this version needs
├── DatabaseUnavailableError    the database did not answer in time
├── NotOpenError                used outside `async with`
├── LeaseLostError              the lease ran out and the outcome was dropped
├── ContextError                a handler used its context in a way in which it does not work
│   ├── InvalidStepError
│   └── InvalidProgressError
├── ResultTimeoutError          the result did not come in time; the job goes on
└── JobDidNotSucceed
    ├── JobFailed
    ├── JobCancelled
    └── JobExpired

and, no child of it, because `except Exception` must not swallow it:

asyncio.CancelledError
└── SoftTimeLimitExceeded       raised in a handler that overran its soft limit
"""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from pydantic import ValidationError


class PgQueueError(Exception):
    """Base of all errors of pgqueue."""


class ConfigurationError(PgQueueError):
    """Something is wired wrong. Raised before any I/O."""


class InvalidTaskError(ConfigurationError):
    """A function cannot be a task: its signature cannot be stored as JSON and called back."""


class DuplicateTaskError(ConfigurationError):
    """Two functions claim one task name."""


class InvalidOptionError(ConfigurationError):
    """An option has a value that it cannot have."""


class InvalidArgumentsError(PgQueueError):
    """The call does not fit the task. Nothing was written.

    `task` is the task's name, `argument` the argument at fault where there is one, `errors`
    pydantic's error list where the fault is pydantic's finding.
    """

    def __init__(
        self, task: str, problem: str, *, argument: str | None = None, cause: ValidationError | None = None
    ) -> None:
        self.task = task
        self.argument = argument
        self.errors = cause.errors(include_url=False) if cause is not None else []
        super().__init__(f"task {task!r}: {problem}")


class ContextError(PgQueueError):
    """A handler used its context in a way in which it does not work."""


class InvalidStepError(ContextError):
    """A step cannot be what was given, or what it returned cannot be stored.

    In the latter case it has run, and nothing of it is stored: a rerun would run it again.
    """


class InvalidProgressError(ContextError):
    """A report of progress is none. Nothing was reported."""


PERMANENT_ERRORS: Final = (InvalidArgumentsError, ContextError, ValidationError)
"""What is as wrong the next time: a job that ends so is not retried unless its options name the error."""


class RedactedArgumentsError(InvalidArgumentsError):
    """The arguments were copied from where some of them are not shown. Nothing was changed.

    `argument` is the path of one that is the mark and not the value.
    """

    def __init__(self, task: str, path: str) -> None:
        super().__init__(
            task,
            f"argument {path!r} is the mark of a value that is not shown: give the value itself, or redrive "
            "without arguments to keep those that are stored",
            argument=path,
        )


class PayloadTooLargeError(InvalidArgumentsError):
    """The arguments are longer, as JSON, than the limit. `size` and `limit` are in bytes."""

    def __init__(self, task: str, *, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            task,
            f"the arguments take {size:,} bytes as JSON and the limit is {limit:,}: "
            "store the data elsewhere and pass where it is",
        )


class UnknownTaskError(PgQueueError):
    """No task of this name is registered in this process."""


class UnknownQueueError(PgQueueError):
    """The queue is not declared, and this PgQueue is strict about queues."""


class QueueFullError(PgQueueError):
    """The queue holds as many pending jobs as it may (`max_depth`). Nothing was written.

    `depth` and `limit` are in jobs, `retry_after`, when there may be room, in seconds.
    """

    def __init__(self, queue: str, *, depth: int, limit: int, count: int, retry_after: float) -> None:
        self.queue = queue
        self.depth = depth
        self.limit = limit
        self.retry_after = retry_after
        what = "another" if count == 1 else f"{count:,} more"
        advice = (
            f"try again in {retry_after:.0f} s, or give it more workers"
            if count <= limit
            else "that many never fit: enqueue fewer at once"
        )
        super().__init__(
            f"queue {queue!r} has {depth:,} pending jobs of {limit:,} at most, no room for {what}: {advice}"
        )


class JobNotFoundError(PgQueueError):
    """There is no job with this id: it never was enqueued, or was removed."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(f"there is no job {job_id}")


class JobPurgedError(JobNotFoundError):
    """There is no job with this id any more: those of its day have been removed, as their retention says.

    Only the id tells: one that somebody has made up, and that says such a day, looks alike.
    """

    def __init__(self, job_id: UUID) -> None:
        super().__init__(job_id)
        self.args = (f"there is no job {job_id} any more: those of its day have been removed",)


class CodecError(PgQueueError):
    """What is stored of a job cannot be decoded here: it was stored with another codec, or by others."""

    def __init__(self, job_id: UUID, what: str, why: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"the {what} of job {job_id} cannot be decoded ({why}); use the codec it was stored with"
        )


class NotADeadLetterError(PgQueueError):
    """The job has not failed, or was discarded. Nothing was changed.

    `status` is where it stands.
    """

    def __init__(self, job_id: UUID, status: str) -> None:
        self.job_id = job_id
        self.status = status
        fate = "it was discarded" if status == "failed" else f"it is {status}, and only a failed job is one"
        super().__init__(f"job {job_id} is no dead letter: {fate}")


class JobNotWaitingError(PgQueueError):
    """The job runs or is over, and its priority matters no more. Nothing was changed."""

    def __init__(self, job_id: UUID, status: str) -> None:
        self.job_id = job_id
        self.status = status
        super().__init__(f"job {job_id} is {status}: only a job that waits gets another priority")


class InvalidFilterError(PgQueueError, ValueError):
    """A filter, a cursor or a limit that cannot be. Nothing was changed."""


class DuplicateJobError(PgQueueError):
    """A job with this id exists already. Nothing was written."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} exists already")


class DuplicateKeyError(DuplicateJobError):
    """A job holds this idempotency key, and the call asked to be told. Nothing was written.

    `job_id` is the job that holds it; `key` and `scope` say which key.
    """

    def __init__(self, task: str, *, key: str, scope: str, job_id: UUID) -> None:
        super().__init__(job_id)
        self.task = task
        self.key = key
        self.scope = scope
        self.args = (f"task {task!r}: job {job_id} holds idempotency key {key!r} ({scope})",)


class IdempotencyConflictError(PgQueueError):
    """A job holds this idempotency key, and was enqueued with other arguments. Nothing was written.

    Either the key does not name what makes this call another one, or the caller made two different calls
    where it meant one, or the call would have replaced the job's arguments and came after its start.
    `job_id` is the job that holds the key; `key` and `scope` say which key; `fingerprint` and
    `held_fingerprint` are the digests of the two calls.
    """

    def __init__(
        self, task: str, *, key: str, scope: str, job_id: UUID, fingerprint: str, held_fingerprint: str
    ) -> None:
        self.task = task
        self.key = key
        self.scope = scope
        self.job_id = job_id
        self.fingerprint = fingerprint
        self.held_fingerprint = held_fingerprint
        super().__init__(
            f"task {task!r}: job {job_id} holds idempotency key {key!r} ({scope}) with other arguments; use "
            "another key, or say that the arguments do not matter: idempotency_fingerprint=False"
        )


class KeyInFlightError(PgQueueError):
    """A call with the same idempotency key is being written, and this one would not wait.

    Nothing was written. Ask again: by then that call's job has the key, or the key is free.
    """


class SchemaError(PgQueueError):
    """The database's schema is not the one that this version of pgqueue needs."""


class DatabaseUnavailableError(PgQueueError):
    """The database did not answer within the time allowed.

    Whether a job enqueued by this call exists is not known: call again with the same id
    (`task.options(id=...)`), and it exists once.
    """


class NotOpenError(PgQueueError):
    """The PgQueue is not open: use it inside `async with pgq:`."""


class LeaseLostError(PgQueueError):
    """The lease ran out and another worker may hold the job now.

    What the attempt returned has been dropped: writing it could overwrite the newer attempt's result.
    """


class SoftTimeLimitExceeded(asyncio.CancelledError):
    """The handler overran its `soft_timeout`. Raised inside it, at its current await.

    Catch it to clean up or to return what there is: returning is success. Uncaught, the attempt has failed
    with reason `soft_timeout`. `except Exception` does not swallow it, and groups of asyncio and anyio treat
    it as the cancellation that it is: children are cancelled, and awaited, before it goes on.
    """


class ResultTimeoutError(PgQueueError, TimeoutError):
    """The result did not come in time. The job is not cancelled: ask again, or cancel it."""


class JobDidNotSucceed(PgQueueError):  # noqa: N818  # reads as what is raised, as its children do
    """What awaiting a result raises when there will be none. `job_id` says of which job."""

    def __init__(self, job_id: UUID, message: str) -> None:
        self.job_id = job_id
        super().__init__(message)


class JobFailed(JobDidNotSucceed):
    """The job failed and will not run again by itself.

    `reason` is the code ("exception", "hard_timeout", "worker_lost", ...), `error_type` and
    `error_message` what the handler raised.
    """

    def __init__(self, job_id: UUID, task: str, *, reason: str, error_type: str, error_message: str) -> None:
        self.task = task
        self.reason = reason
        self.error_type = error_type
        self.error_message = error_message
        super().__init__(job_id, f"job {job_id} ({task}) failed ({reason}): {error_type}: {error_message}")


class JobCancelled(JobDidNotSucceed):
    """The job was cancelled."""


class JobExpired(JobDidNotSucceed):
    """The job was not started by its expiry and never will be."""
