"""The options as callers write them: one TypedDict per level, for type checkers and editors.

What holds at run time is the table in `options.table`. The docstring below an option is the only sentence
about it: the reference page and the HTTP API's document read it from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypedDict
from uuid import UUID

from pgqueue.model.checks import Duration
from pgqueue.model.webhooks import Webhook
from pgqueue.options.checks import FromArguments, Log, LogTracebacks, OnConflict, Span
from pgqueue.retry.policy import Jitter, RetryWhen

ErrorTypes = type[BaseException] | Sequence[type[BaseException]]


class RetryOptions(TypedDict, total=False):
    """How often and when a job is retried. Durations are in seconds, or a timedelta."""

    max_retries: int | None
    """Retries after a failed attempt: 3 means at most 4 attempts. None: no limit."""
    max_retry_duration: Duration | None
    """No retry starts later than this after the first attempt started. None: no limit."""
    retry_backoff: bool | float
    """Exponential backoff: the factor in seconds, True for 1. False: wait `default_retry_delay` each time."""
    retry_backoff_max: Duration
    """The longest delay of exponential backoff."""
    retry_jitter: Jitter | bool
    """How exponential backoff is randomized: "full" (True), "equal" or "none" (False)."""
    retry_delay_min: Duration
    """The shortest delay before a retry."""
    default_retry_delay: Duration
    """The delay before each retry when there is no exponential backoff. A level that sets it turns off the
    backoff and the intervals of less specific levels."""
    retry_intervals: Sequence[Duration] | None
    """The delay before each retry, instead of a backoff; the last one repeats."""


class AttemptOptions(RetryOptions, total=False):
    """How an attempt runs and what follows it. Durations are in seconds, or a timedelta."""

    soft_timeout: Duration | None
    """Raise SoftTimeLimitExceeded in the handler after this time, so that it can clean up. None: no limit."""
    timeout: Duration | None
    """Hard time limit of one attempt, counted from the handler's start. None: no limit."""
    retry_on_timeout: bool
    """False: an attempt that exceeds a time limit fails its job at once, even if retries are left."""
    max_losses: int
    """How many times a job returns to the queue after its worker was lost; the next loss fails it."""
    reject_on_worker_lost: bool
    """False: a job fails when its worker is lost (the same as `max_losses=0`)."""
    acks_late: bool
    """False: at most once. A job whose attempt is cut short, by the loss or the stop of its worker, fails
    (worker_lost) and does not run again."""
    ignore_result: bool
    """True: do not store the result."""


class JobOptions(AttemptOptions, total=False):
    """Options that can be set at every level."""

    queue: str
    """The queue that the job waits in. Cannot be set on a queue."""
    priority: int
    """Higher priorities run first; from -32768 to 32767."""
    delay: Duration | None
    """Start no earlier than this after the enqueue."""
    expires: Duration | datetime | None
    """Never start after this time, nor again after a retry (from the enqueue, or an aware datetime); the job
    expires."""
    tags: Sequence[str]
    """Strings to find the job by."""
    headers: Mapping[str, str]
    """Strings that travel with the job, for the handler and for tracing. The most specific level replaces
    them all."""
    webhooks: Sequence[Webhook]
    """Requests that are sent when the job ends, made by `PgQueue.webhook`. The most specific level replaces
    them all; [] is none."""
    idempotency_key: str | FromArguments | None
    """While a job holds this key, another call with it creates no second job. FROM_ARGUMENTS: derive it from
    the arguments."""
    idempotency_window: Duration | None
    """How long the key is held, counted from the enqueue. None: forever."""
    idempotency_scope: str
    """Which calls share the key: those of the "task", of the "queue", all ("global"), or of "tenant:NAME"."""
    idempotency_while: Span
    """What ends the hold of the key. Independent of the job: the "window", or nothing ("forever"). Or the
    job: held while it waits ("pending"), until it first starts ("started"), until it ends ("terminal"), or
    until it succeeds, is cancelled or expires ("success")."""
    on_conflict: OnConflict
    """What a call with a held key does: "return" the holder, "raise" DuplicateKeyError, "replace" the
    arguments and options of a holder that has not started, "debounce" it (replace it, and start it a delay
    after this call), "throttle" it (replace it, and leave it its time, a delay after the first call), or
    "coalesce" (at most one job running and one waiting)."""
    idempotency_fingerprint: bool
    """Whether a call with a held key and other arguments is an IdempotencyConflictError."""


class TaskOptions(JobOptions, total=False):
    """Options that a task, a queue or a PgQueue can set for its jobs.

    Those that are not JobOptions are code, or concern all jobs of a task: a call cannot set them.
    """

    autoretry_for: ErrorTypes
    """Errors that are retried, with their subclasses; any other error fails the job. CancelledError means a
    cancellation that comes from within the handler."""
    dont_autoretry_for: ErrorTypes
    """Errors that fail the job, whatever the other options say. InvalidArgumentsError and pydantic's
    ValidationError are among them unless `autoretry_for` names them."""
    throws: ErrorTypes
    """Errors that are an expected end of the task: the job fails, is not retried, and no error is logged."""
    retry_when: RetryWhen | None
    """Called after a failure to decide whether and when to retry, for errors that neither `throws` nor
    `dont_autoretry_for` covers. None leaves it to the other options, and so does an error that it raises."""
    retry_policies: Mapping[type[BaseException], RetryOptions]
    """Other retry options after certain errors, which are retried even if `autoretry_for` does not name
    them. The nearest base class applies. Options that the call itself sets take precedence."""
    log: Log
    """Which jobs have their successful transitions logged (logger "pgqueue.jobs", level INFO): "all",
    "failures" (none), or a fraction of the jobs from 0 to 1. Warnings and errors are always logged."""
    log_tracebacks: LogTracebacks
    """Which records of the logger "pgqueue.jobs" carry the exception and its traceback (`exc_info`): those of
    jobs that have failed permanently ("failures"), those of attempts that are retried, too ("all"), or
    none ("none")."""
    redact: Sequence[str]
    """Arguments that the status app, the command line and logs show as "[redacted]": a name, or a dotted
    path into an argument's objects (`card.number`); `*` is any one name, `**` any number of names
    (`**.password`). The levels add up."""


class CallOptions(JobOptions, total=False):
    """Options that a single call can set."""

    id: UUID | str | None
    """The job's id, chosen by the caller."""
    on_duplicate: Literal["return", "raise"]
    """What to do if a job with this id exists: "return" its handle, or "raise" DuplicateJobError."""
    depends_on: Sequence[UUID | str]
    """Start when these jobs have succeeded; if one does not, or does not exist, be cancelled
    (upstream_failed)."""
    allow_failure: bool
    """True: start when the jobs in `depends_on` have ended, however."""
    at_front: bool
    """True: start before the jobs of the queue that wait now (the same as the highest priority)."""
    run_at: datetime | None
    """Start no earlier than this time zone-aware datetime."""
    key: str | None
    """A string to find the job by."""
