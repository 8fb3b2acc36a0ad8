"""The options, as callers write them: one TypedDict a level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypedDict
from uuid import UUID

from pgqueue.model.checks import Duration
from pgqueue.options.checks import FromArguments, Log, OnConflict, Span
from pgqueue.retry.policy import Jitter, RetryWhen

ErrorTypes = type[BaseException] | Sequence[type[BaseException]]


class RetryOptions(TypedDict, total=False):
    """Options that concern how often and when a job is retried. Durations in seconds or as timedelta."""

    max_retries: int | None
    """Retries after a failed attempt: 3 means at most 4 executions. None: without limit."""
    max_retry_duration: Duration | None
    """No retry later than this after the first attempt's start. None: without limit."""
    retry_backoff: bool | float
    """Exponential backoff: the factor in seconds, True for 1. False: `default_retry_delay` each time."""
    retry_backoff_max: Duration
    """The longest delay that exponential backoff gives."""
    retry_jitter: Jitter | bool
    """Randomness of exponential backoff: "full" (True), "equal" or "none" (False)."""
    retry_delay_min: Duration
    """The shortest delay before a retry."""
    default_retry_delay: Duration
    """The delay before each retry without exponential backoff. A level that sets it turns the backoff and
    the intervals of wider levels off."""
    retry_intervals: Sequence[Duration] | None
    """The delay before each retry, instead of a backoff; the last one repeats."""


class AttemptOptions(RetryOptions, total=False):
    """Options that concern how an attempt runs and what follows it. Durations in seconds or as timedelta."""

    soft_timeout: Duration | None
    """Time from the handler's start after which SoftTimeLimitExceeded is raised in it. None: none."""
    timeout: Duration | None
    """Hard time limit of one attempt, from the handler's start. None: none."""
    retry_on_timeout: bool
    """False: an attempt that overran a limit fails its job at once, whatever retries are left."""
    max_losses: int
    """How often a job is given back after its worker was lost; once more and it has failed."""
    reject_on_worker_lost: bool
    """False: a job whose worker was lost has failed (as `max_losses=0`)."""
    acks_late: bool
    """False: at most once. A job whose attempt was cut short, by the loss or the stop of its worker, has
    failed (worker_lost) and never runs again for it."""
    ignore_result: bool
    """Keep no result."""


class JobOptions(AttemptOptions, total=False):
    """Options that can be set at every level."""

    queue: str
    priority: int
    """Higher runs first."""
    delay: Duration | None
    """Start no earlier than this after the enqueue."""
    expires: Duration | datetime | None
    """If not started by then (after the enqueue, or at an aware time), never start."""
    tags: Sequence[str]
    headers: Mapping[str, str]
    idempotency_key: str | FromArguments | None
    """While a job holds this key, another call with it makes no second job. FROM_ARGUMENTS: made from the
    arguments."""
    idempotency_window: Duration | None
    """How long from the enqueue the key is held (default 24 hours). None: for ever."""
    idempotency_scope: str
    """Among which calls the key is one key: "task" (default), "queue", "global" or "tenant:NAME"."""
    idempotency_while: Span
    """What ends the hold: the "window" (default) or nothing ("forever"), whatever becomes of the job; or the
    job: held while it waits ("pending"), until its first start ("started"), until it is over ("terminal"),
    until it has succeeded, was cancelled or has expired ("success")."""
    on_conflict: OnConflict
    """What a call with a held key does: "return" the holder (default), "raise", "replace" the arguments and
    options of a holder that has not started, "debounce" it (replace it and start it a delay after this call),
    or "coalesce": at most one job running and one waiting."""
    idempotency_fingerprint: bool
    """Whether a held key with other arguments is an IdempotencyConflictError (default) or of no interest."""


class TaskOptions(JobOptions, total=False):
    """Options that a task, a queue or a PgQueue can set for its jobs.

    Those that are not JobOptions are code, or about all jobs of a task: a call cannot set them.
    """

    autoretry_for: ErrorTypes
    """Errors after which a job is retried, with their subclasses; after others it has failed. Default: every
    Exception, and a cancellation that comes from within the handler."""
    dont_autoretry_for: ErrorTypes
    """Errors after which it has failed, whatever else is said of them. Besides: InvalidArgumentsError and
    pydantic's ValidationError, unless `autoretry_for` names them."""
    throws: ErrorTypes
    """Errors that are a way for the task to end: failed, not retried, and not logged as an error."""
    retry_when: RetryWhen | None
    """Asked after a failure whether and when to retry, for errors that neither `throws` nor
    `dont_autoretry_for` has settled; None leaves it to the other options. An error in it counts as None."""
    retry_policies: Mapping[type[BaseException], RetryOptions]
    """Other retry options after certain errors, which are retried even if `autoretry_for` does not name
    them. The nearest class counts. What the call itself sets holds all the same."""
    log: Log
    """Of which jobs the logger "pgqueue.jobs" says at INFO what goes well: "all" (default), "failures" (of
    none), or a share of them from 0 to 1. Of a job all of it or nothing; warnings and errors always."""
    redact: Sequence[str]
    """Arguments that the status app, the command line and logs show as "[redacted]": by name, or by a path of
    names joined by dots into an argument's objects ("card.number"); `*` is any one name, `**` any number of
    them ("**.password"). What any of the levels names is redacted."""


class CallOptions(JobOptions, total=False):
    """Options that a single call can set."""

    id: UUID | None
    """The job's id, chosen by the caller."""
    on_duplicate: Literal["return", "raise"]
    """What to do if a job with this id exists."""
    run_at: datetime | None
    """Start no earlier than this aware time."""
    key: str | None
