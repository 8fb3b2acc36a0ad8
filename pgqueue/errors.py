"""Every error that pgqueue raises. asyncpg's own errors pass through where the caller owns the connection.

PgQueueError
├── ConfigurationError          the program is set up wrongly; raised before any I/O
│   ├── InvalidTaskError
│   ├── DuplicateTaskError
│   └── InvalidOptionError
├── InvalidArgumentsError       the arguments do not match the task's parameters
├── PayloadTooLargeError        ... or are too large
├── RedactedArgumentsError      ... or contain the placeholder of a redacted value
├── UnknownTaskError
├── UnknownQueueError
├── UnusableConnectionError     what was passed as connection= is closed, or has no transaction open
│   └── UnknownConnectionError  ... or is no connection that pgqueue takes
├── InvalidIdError              not an id: neither a UUID nor the string of one
├── JobNotFoundError
│   └── JobPurgedError          the job was removed after its retention
├── CodecError                  the stored data of a job cannot be decoded here
├── NotADeadLetterError         a redrive or a discard of a job that has not failed
├── JobNotScheduledError        a job was to be run now that is blocked or has ended
├── JobNotWaitingError          a change of a job that is running or has ended
├── InvalidWorkflowError        what cannot be a workflow: an empty chain, a cycle, too many members
├── ScheduleNotFoundError       there is no schedule of this name
├── InvalidFilterError          an invalid filter, cursor or limit
├── DuplicateJobError
│   └── DuplicateKeyError       another job holds the idempotency key
├── IdempotencyConflictError    another job holds the idempotency key, with other arguments
├── KeyInFlightError            an open transaction holds the idempotency key
├── SchemaError                 this version of pgqueue cannot work with the database's schema
│   └── SchemaLockedError       a migration waited too long for the lock of another session
├── DatabaseUnavailableError    the database did not answer in time
├── MissingPrivilegeError       the role may not do this in the database
├── NotOpenError                used outside `async with`
├── BackgroundError             a loop of the open PgQueue has ended or is stuck
├── WorkerLifespanError         what a worker prepares or cleans up has failed
├── LeaseLostError              the lease expired, and the outcome was dropped
├── HttpTargetError             a request of an HTTP task did not succeed
│   ├── HttpAnswerError         ... it was answered with a status that is not 2xx
│   ├── UnusableAnswerError     ... it was accepted, but its answer cannot be stored
│   ├── HttpTimeoutError        ... it was not answered in time
│   └── HttpUnreachableError    ... there was no whole answer
├── InvalidSignatureError       a webhook that was received is not signed as it should be
├── LimiterFullError            a limiter that a handler asked had no room in time
├── ContextError                a handler used its context incorrectly
│   ├── InvalidStepError
│   │   └── StepOrderError
│   └── InvalidProgressError
├── ResultTimeoutError          the job did not finish in time; it was not cancelled
└── JobDidNotSucceed
    ├── JobFailed
    │   └── WorkflowFailed      ... and with it the workflow that it is in
    ├── JobCancelled
    └── JobExpired

and, outside the tree because `except Exception` must not swallow it:

asyncio.CancelledError
└── SoftTimeLimitExceeded       raised in a handler that exceeded its soft limit
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import ValidationError

MAX_NAMED: Final = 100
"""Jobs that an error names."""


class PgQueueError(Exception):
    """Base of all errors that pgqueue raises."""


class ConfigurationError(PgQueueError):
    """The program is set up wrongly. Raised before any I/O."""


class InvalidTaskError(ConfigurationError):
    """A function cannot be a task, because its arguments could not be stored as JSON and restored."""


class DuplicateTaskError(ConfigurationError):
    """Two functions were declared under one task name."""


class InvalidOptionError(ConfigurationError):
    """An option has an invalid value."""


class UnusableConnectionError(PgQueueError):
    """What was passed as `connection=` cannot be used like this. Nothing was written.

    It is closed, belongs to another event loop, leads to another database than the PgQueue's, or has no
    transaction open. The message says which, and what to do.
    """


class UnknownConnectionError(UnusableConnectionError, TypeError):
    """What was passed as `connection=` is none that is taken here. Nothing was written.

    The message says what is taken.
    """


class InvalidArgumentsError(PgQueueError):
    """The arguments do not match the task's parameters. Nothing was written.

    `task` is the task's name. `argument` is the argument at fault, or None. `errors` is pydantic's list of
    errors; it is empty if pydantic did not find the fault, or found more than a hundred. What the code of an
    argument's type raised itself is the error's `__cause__`.
    """

    def __init__(
        self, task: str, problem: str, *, argument: str | None = None, cause: ValidationError | None = None
    ) -> None:
        self.task = task
        self.argument = argument
        self.errors = cause.errors(include_url=False) if cause is not None else []
        super().__init__(f"task {task!r}: {problem}")


class InvalidWorkflowError(PgQueueError):
    """What was composed cannot be a workflow: an empty chain, too many members. Nothing was written."""


class ScheduleNotFoundError(PgQueueError):
    """There is no schedule of this name. Nothing was changed."""

    def __init__(self, name: str, advice: str = "") -> None:
        self.name = name
        super().__init__(f"there is no schedule {name!r}{advice}")


class ScheduleExistsError(InvalidOptionError):
    """A schedule of this name exists already. Nothing was changed."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"schedule {name!r} exists already; edit it, or delete it first")


class LimitNotFoundError(PgQueueError):
    """There is no limit of this name: nobody has enqueued with it or set it. Nothing was changed."""

    def __init__(self, name: str, advice: str = "") -> None:
        self.name = name
        super().__init__(f"there is no limit {name!r}{advice}")


class HttpTargetError(PgQueueError):
    """A request of an HTTP task did not succeed. `url` is without its query."""

    def __init__(self, url: str, detail: str) -> None:
        self.url = url
        super().__init__(f"{url}: {detail}")


class HttpAnswerError(HttpTargetError):
    """The target of an HTTP task answered with a `status` that is not 2xx.

    It is retried after a status that may pass: any from 500 on, and 408, 421, 423, 425.
    """

    def __init__(
        self, url: str, status: int, detail: str, retry_after: float | datetime | None = None
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(url, f"answered {status}{': ' if detail else ''}{detail}")


class UnusableAnswerError(HttpTargetError):
    """The target of an HTTP task accepted the request, but its answer cannot be stored. Not retried.

    The target has done its work: if you redrive the job, it is asked to do it again.
    """

    def __init__(self, url: str, status: int, detail: str) -> None:
        self.status = status
        super().__init__(
            url,
            f"accepted the request ({status}), but its answer cannot be the result: {detail}; pass a larger "
            "max_answer=, another answer=, or none",
        )


class HttpTimeoutError(HttpTargetError):
    """The target of an HTTP task did not answer in time. It may have done its work. Retried."""


class HttpUnreachableError(HttpTargetError):
    """The target of an HTTP task could not be reached, or its answer broke off. Retried."""


class InvalidSignatureError(PgQueueError, ValueError):
    """A webhook that was received is not signed as it should be: do not act on it, and answer 401 or 400."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this webhook is not to be trusted: {why}")


class LimiterFullError(PgQueueError):
    """A limiter that a handler asked had no room in time. Nothing is held, and nothing was counted.

    `retry_after`: the seconds after which there may be room; None: that is not known.
    """

    def __init__(self, what: str, name: str, waited: float | None, retry_after: float | None) -> None:
        self.name = name
        self.retry_after = retry_after
        soon = "" if retry_after is None else f", and there may be room in {retry_after:.3g} s"
        super().__init__(
            f"{what} had no room{f' within {waited:g} s' if waited else ''}{soon}; pass a longer wait=, or "
            "try later, by `raise ctx.snooze(...)`"
        )


class WorkerLifespanError(PgQueueError):
    """The lifespan of a worker (`PgQueue.lifespan`, `Middleware.boot` and `shutdown`) has failed.

    At the start: nothing was claimed. While the worker was running: it has stopped, and the jobs of its
    attempts returned to the queue. At the end: all its jobs had ended or returned. `__cause__` is the error.
    """


class BatchReplyError(PgQueueError):
    """A batch handler returned what is no answer for its items: the attempts of these items have failed.

    `task` is the task's name.
    """

    def __init__(self, task: str, problem: str) -> None:
        self.task = task
        super().__init__(f"the batch handler of task {task!r}: {problem}")


class ContextError(PgQueueError):
    """A handler used its context incorrectly."""


class InvalidStepError(ContextError):
    """The name or the function of a step is invalid, or its result cannot be stored.

    If the result cannot be stored, the step has run, and the next attempt would run it again.
    """


class StepOrderError(InvalidStepError):
    """The handler came to another step or wait than earlier attempts of its job: its code has changed.

    The message names both. Nothing of the step was run, and the job is not retried. See "When the code
    changes" in how-to/durable-functions.md.
    """


class InvalidProgressError(ContextError):
    """The progress to report is invalid. Nothing was reported."""


class RedactedArgumentsError(InvalidArgumentsError):
    """The arguments were copied from a redacted view. Nothing was changed.

    `argument` is the path of an argument that is the placeholder instead of the value.
    """

    def __init__(self, task: str, path: str) -> None:
        super().__init__(
            task,
            f"argument {path!r} is the '[redacted]' placeholder: pass the real value, or redrive without "
            "arguments to keep the stored ones",
            argument=path,
        )


class PayloadTooLargeError(InvalidArgumentsError):
    """The arguments are larger, as JSON, than the limit. `size` and `limit` are in bytes."""

    def __init__(self, task: str, *, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            task,
            f"the arguments take {size:,} bytes as JSON and the limit is {limit:,}: "
            "store the data elsewhere and pass a reference to it",
        )


class UnknownTaskError(PgQueueError):
    """This process does not declare a task of this name."""


class UnknownQueueError(PgQueueError):
    """The queue is not declared, and this PgQueue was made with `strict_queues=True`."""


class QueueFullError(PgQueueError):
    """The queue has no room for another pending job (see `max_depth`). Nothing was written.

    `depth` and `limit` are numbers of jobs. `retry_after` is the estimated time until there is room, in
    seconds.
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
            else "a batch this large can never fit; enqueue fewer jobs at once"
        )
        super().__init__(
            f"queue {queue!r} has no room for {what} ({depth:,} pending, limit {limit:,}): {advice}"
        )


class QueueNotEmptyError(PgQueueError):
    """The queue has jobs that have not ended, so it was not removed. `jobs` is how many, up to 10,000."""

    def __init__(self, queue: str, *, jobs: int, limit: int) -> None:
        self.queue = queue
        self.jobs = jobs
        count = f"{jobs:,} or more" if jobs >= limit else f"{jobs:,}"
        super().__init__(
            f"queue {queue!r} has jobs that have not ended ({count}): cancel them, or wait for their end, "
            "then remove the queue"
        )


class InvalidIdError(PgQueueError, ValueError):
    """What was passed as an id is neither a UUID nor the string of one. Nothing was changed."""

    def __init__(self, given: object) -> None:
        self.given = given
        # Python refuses to spell a number of thousands of digits.
        what = repr(given[:100]) if isinstance(given, str) else f"a value of type {type(given).__name__}"
        super().__init__(f"an id must be a UUID or its string, got {what}")


class JobNotFoundError(PgQueueError):
    """There is no job with this id: it was never enqueued, or it was removed."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(f"there is no job {job_id}")


class WorkflowNotFoundError(JobNotFoundError):
    """There is no workflow with this id: it was never enqueued, or it was removed; or the id is a job's."""

    def __init__(self, workflow_id: UUID) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id
        self.args = (f"there is no workflow {workflow_id}",)


class JobPurgedError(JobNotFoundError):
    """The job no longer exists: all jobs from its day were removed after their retention.

    The day is read from the id, so an invented id of such a day raises this error as well.
    """

    def __init__(self, job_id: UUID) -> None:
        super().__init__(job_id)
        self.args = (f"job {job_id} no longer exists: all jobs from its day have been removed",)


class CodecError(PgQueueError):
    """The stored data of a job cannot be decoded here.

    Another codec or another program wrote it, or its annotation was another one then. A step whose stored
    result cannot be read raises it in the handler, and the attempt fails: its function has run already.
    """

    def __init__(
        self,
        job_id: UUID,
        what: str,
        why: str,
        *,
        now: str = "use the codec and the annotation that it was stored with",
    ) -> None:
        self.job_id = job_id
        super().__init__(f"the {what} of job {job_id} cannot be decoded ({why}); {now}")

    @classmethod
    def of_row(cls, job_id: UUID, error: Exception) -> CodecError:
        """Return the error for a job whose row holds what Python cannot represent (the year 20000)."""
        why = f"{type(error).__name__}: {error}"
        return cls(job_id, "row", why, now="correct it by SQL, or cancel the job")


PERMANENT_ERRORS: Final = (InvalidArgumentsError, ContextError, CodecError, ValidationError)
"""Errors that a retry cannot cure: they are not retried unless the options of the job name them."""


class NotADeadLetterError(PgQueueError):
    """The job has not failed, or it was discarded. Nothing was changed.

    `status` is the job's status.
    """

    def __init__(self, job_id: UUID, status: str) -> None:
        self.job_id = job_id
        self.status = status
        why = "it was discarded" if status == "failed" else f"its status is {status}, not failed"
        super().__init__(f"job {job_id} is not a dead letter: {why}")


class InvalidEventError(PgQueueError, ValueError):
    """The value of an event cannot be stored. Nothing was sent."""


class JobOverError(PgQueueError):
    """The job has ended, so it takes no events. Nothing was sent. `status` is the job's status."""

    def __init__(self, job_id: UUID, status: str) -> None:
        self.job_id = job_id
        self.status = status
        super().__init__(f"job {job_id} is {status}: it takes no events, and nothing was sent")


class JobNotWaitingError(PgQueueError):
    """The job is running or has ended, so it cannot be changed any more. Nothing was changed."""

    def __init__(self, job_id: UUID, status: str) -> None:
        self.job_id = job_id
        self.status = status
        super().__init__(f"job {job_id} is {status}: a job can only be changed while it is waiting")


class JobNotScheduledError(PgQueueError):
    """The job is blocked or has ended, so it cannot be run now. Nothing was changed."""

    def __init__(self, job_id: UUID, status: str) -> None:
        self.job_id = job_id
        self.status = status
        how = "what it waits for must happen first" if status == "blocked" else "requeue it to run it again"
        super().__init__(f"job {job_id} is {status}: only a scheduled job can be run now; {how}")


class InvalidFilterError(PgQueueError, ValueError):
    """A filter, a cursor or a limit is invalid. Nothing was changed."""


class DuplicateJobError(PgQueueError):
    """A job with this id already exists. Nothing was written."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} already exists")


class DuplicateKeyError(DuplicateJobError):
    """Another job holds this idempotency key, and the call has `on_conflict="raise"`. Nothing was written.

    `job_id` is the job that holds the key. `key` and `scope` identify the key.
    """

    def __init__(self, task: str, *, key: str, scope: str, job_id: UUID) -> None:
        super().__init__(job_id)
        self.task = task
        self.key = key
        self.scope = scope
        self.args = (f"task {task!r}: job {job_id} holds idempotency key {key!r} ({scope})",)


class IdempotencyConflictError(PgQueueError):
    """The job that holds this idempotency key was enqueued with other arguments. Nothing was written.

    Either the key is not specific enough, or two different calls were made where one was meant, or the call
    would have replaced the arguments of a job that has already started. `job_id` is the job that holds the
    key. `key` and `scope` identify the key. `fingerprint` and `held_fingerprint` are the digests of the two
    calls.
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
            "another key, or set idempotency_fingerprint=False to ignore the arguments"
        )


class KeyInFlightError(PgQueueError):
    """An open transaction holds the idempotency key, and this call did not wait any longer.

    Nothing was written. Try again: once that transaction has ended, its job has the key, or the key is free.
    """


class SchemaError(PgQueueError):
    """This version of pgqueue cannot work with the database's schema."""


class RefusedByDatabaseError(PgQueueError):
    """The database refused the call, for a reason that is not pgqueue's. Nothing was changed.

    A trigger, a constraint or an extension that was added to pgqueue's tables may be the reason. The message
    is the server's, and `__cause__` is the driver's error.
    """


class SchemaLockedError(SchemaError):
    """A migration waited too long for the lock of another session, and changed nothing."""


class DatabaseUnavailableError(PgQueueError):
    """The database did not answer in time.

    `may_have_happened`: the call was sent and its answer was lost, so what it asks for may be done. False: it
    was not done. A job that `enqueue` may have made exists once if you call again with the same id
    (`task.options(id=...)`). Of a call that only reads it says nothing.
    """

    def __init__(self, message: str, *, may_have_happened: bool = False) -> None:
        self.may_have_happened = may_have_happened
        super().__init__(message)


class MissingPrivilegeError(PgQueueError):
    """The role of the connection may not do this in the database. Nothing was changed.

    The message says what is missing. `pgqueue roles` prints the SQL that makes roles for enqueueing, for
    workers and for reading.
    """

    def __init__(
        self,
        problem: str,
        *,
        now: str = "`pgqueue roles` prints the SQL that grants what enqueueing, workers and readers need",
    ) -> None:
        super().__init__(f"{problem}; {now}")


class NotOpenError(PgQueueError):
    """The PgQueue is not open: use it inside `async with pgq:`."""


class WrongEventLoopError(PgQueueError):
    """The PgQueue was called in another event loop than the one that it was opened in. Nothing was done.

    From a plain handler call it by `anyio.from_thread.run(task.enqueue, ...)`, which runs in the worker's
    loop, and not by `asyncio.run`. From any other thread use `asyncio.run_coroutine_threadsafe`.
    """


class BackgroundError(PgQueueError):
    """A background loop of the open PgQueue has ended, or is stuck. The message names it.

    Close the PgQueue and open it again, or restart the process. A loop ends only when something cancels it:
    code that cancels every asyncio task of the process, for example.
    """


class LeaseLostError(PgQueueError):
    """The lease expired, and another worker may hold the job now.

    The outcome of the attempt was dropped, because writing it could overwrite the result of a newer attempt.
    """


class ReceiptLostError(PgQueueError):
    """A received job is not held any more: its time is over, or it was acknowledged or given back already.

    Nothing was changed. The job may be running elsewhere, or have ended. `job_id` is the job's id.
    """

    def __init__(self, verb: str, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(
            f"{verb}: job {job_id} is not held under this receipt: its time is over, or the job was ended "
            "under it; nothing was changed. Call `extend` in time, or receive with a longer lease"
        )


class ReceivedJobCancelled(PgQueueError):  # noqa: N818  # reads as what is raised, as JobCancelled does
    """Raised by `extend` for a job that somebody has cancelled: stop, and call `nack`, which ends it.

    The job is still held, for as long as before. `job_id` is the job's id.
    """

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} is to be cancelled: stop working on it, and give it back with nack")


class SoftTimeLimitExceeded(asyncio.CancelledError):
    """The handler exceeded its `soft_timeout`. Raised inside it, at its current await.

    Catch it to clean up or to return a partial result; an attempt that returns has succeeded. If you do not
    catch it, the attempt fails with reason `soft_timeout`. `except Exception` does not swallow it. Task
    groups of asyncio and anyio treat it as a cancellation: their children are cancelled and awaited first.
    """


class ResultTimeoutError(PgQueueError, TimeoutError):
    """The job did not finish in time. It was not cancelled: wait again, or cancel it."""


class JobDidNotSucceed(PgQueueError):  # noqa: N818  # reads as what is raised, as its children do
    """Raised by awaiting a result that will never come. `job_id` is the job's id.

    `is_stored`: `ctx.wait` or `ctx.run` has raised it, and raises it again in each attempt. So it is not
    retried, unless the options of the waiting job name its class.
    """

    is_stored = False

    def __init__(self, job_id: UUID, message: str) -> None:
        self.job_id = job_id
        super().__init__(message)


class JobFailed(JobDidNotSucceed):
    """The job failed and will not be retried automatically.

    `reason` is the code ("exception", "hard_timeout", "worker_lost", ...). `error_type` and `error_message`
    describe the error that the handler raised.
    """

    def __init__(self, job_id: UUID, task: str, *, reason: str, error_type: str, error_message: str) -> None:
        self.task = task
        self.reason = reason
        self.error_type = error_type
        self.error_message = error_message
        super().__init__(job_id, f"job {job_id} ({task}) failed ({reason}): {error_type}: {error_message}")


class WorkflowFailed(JobFailed):
    """A job of the workflow failed, and because of it what waits for it never ran.

    What is said of the job is said of the first one that failed; `failed` has the ids of all, up to 1,000.
    `workflow_id` is that of the whole.
    """

    def __init__(
        self,
        job_id: UUID,
        task: str,
        *,
        reason: str,
        error_type: str,
        error_message: str,
        workflow_id: UUID,
        failed: Sequence[UUID],
    ) -> None:
        super().__init__(job_id, task, reason=reason, error_type=error_type, error_message=error_message)
        self.workflow_id = workflow_id
        self.failed = failed
        if len(failed) > 1:
            others = ", ".join(map(str, failed[1:MAX_NAMED]))
            more = "" if len(failed) <= MAX_NAMED else f" and {len(failed) - MAX_NAMED} more"
            self.args = (f"{self.args[0]}; these jobs failed as well: {others}{more}",)


class JobCancelled(JobDidNotSucceed):
    """The job was cancelled."""


class JobExpired(JobDidNotSucceed):
    """The job did not start by its expiry, and never will."""
