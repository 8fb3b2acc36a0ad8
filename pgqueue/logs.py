"""One structured record for each transition of a job, and the job's id in what its handler logs.

The records go to the logger "pgqueue.jobs", after the transition was committed: INFO where all is well,
WARNING where a job is to run again, ERROR where it has failed. Each carries what RECORD names, for handlers
that write JSON; its text says the same for eyes. Arguments and results are in none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from pgqueue.context import running_attempt
from pgqueue.dead_letters import DeadLetter
from pgqueue.events import (
    AttemptEnded,
    AttemptsEnded,
    DeadLettersEntered,
    Event,
    JobRescued,
    JobsCancelled,
    JobsExpired,
    JobsRescued,
    JobsStarted,
    JobStarted,
)
from pgqueue.jobs import JobError, JobStatus

logger = logging.getLogger("pgqueue.jobs")

RECORD: Final = (
    "event",
    "job_id",
    "task",
    "queue",
    "from_status",
    "to_status",
    "attempt",
    "wait",
    "duration",
    "worker",
    "reason",
    "error_type",
    "next_in",
)
"""The attributes of every record. `event` is one of a few constants ("job.failed"); `wait` (from ready to
claimed), `duration` (of the handler) and `next_in` (until the next attempt) are seconds; what a transition
has not is None."""

HEARD: Final = (JobsStarted, AttemptsEnded, JobsRescued, JobsCancelled, JobsExpired, DeadLettersEntered)
"""The kinds of events that log_transitions wants to hear of."""

_QUIET_ENDS: Final = {
    JobStatus.SUCCEEDED: "job.succeeded",
    JobStatus.PENDING: "job.released",
    JobStatus.CANCELLED: "job.cancelled",
    JobStatus.EXPIRED: "job.expired",
}


def log_transitions(event: Event) -> None:  # noqa: C901  # a case for each kind
    """Log what happened to each job of *event*: an observer. A success that is not logged costs nothing."""
    is_verbose = logger.isEnabledFor(logging.INFO)
    match event:
        case JobsStarted() if is_verbose:
            for started in event.jobs:
                _log_start(started)
        case AttemptsEnded() if is_verbose or not event.is_success:
            for attempt in event.attempts:
                _log_end(attempt)
        case JobsRescued():
            for rescued in event.jobs:
                _log_rescue(rescued, event.worker)
        case JobsCancelled():
            _log_waiting(event.job_ids, "job.cancelled", JobStatus.CANCELLED, event.reason)
        case JobsExpired():
            _log_waiting(event.job_ids, "job.expired", JobStatus.EXPIRED, "expired")
        case DeadLettersEntered():
            # The others failed in an attempt, which has its record, or with their worker.
            for letter in (each for each in event.letters if each.reason == "unknown_task"):
                _log_unknown(letter)
        case _:
            pass


def _log_waiting(job_ids: Iterable[UUID], event: str, status: JobStatus, reason: str | None) -> None:
    for job_id in job_ids:
        _log(logging.INFO, event, job_id, to_status=status, reason=reason)


def _log_unknown(letter: DeadLetter) -> None:
    _log(
        logging.ERROR,
        "job.failed",
        letter.job_id,
        task=letter.task,
        queue=letter.queue,
        attempt=letter.attempt,
        from_status=JobStatus.PENDING,
        to_status=JobStatus.FAILED,
        reason=letter.reason,
    )


def _log_start(job: JobStarted) -> None:
    _log(
        logging.INFO,
        "job.started",
        job.job_id,
        task=job.task,
        queue=job.queue,
        attempt=job.attempt,
        from_status=JobStatus.PENDING,
        to_status=JobStatus.RUNNING,
        wait=job.waited,
        worker=job.worker,
    )


def _log_end(ended: AttemptEnded) -> None:
    level, name = _level_of(ended)
    _log(
        level,
        name,
        ended.job_id,
        task=ended.task,
        queue=ended.queue,
        attempt=ended.attempt,
        from_status=JobStatus.RUNNING,
        to_status=ended.status,
        wait=ended.waited,
        duration=ended.seconds,
        worker=ended.worker,
        reason=ended.reason,
        error=ended.error,
        next_in=ended.next_in,
    )


def _level_of(ended: AttemptEnded) -> tuple[int, str]:
    match ended.status:
        case JobStatus.FAILED if ended.reason == "expected":
            return logging.INFO, "job.failed"
        case JobStatus.FAILED:
            return logging.ERROR, "job.failed"
        case JobStatus.SCHEDULED if ended.reason == "snoozed":
            return logging.INFO, "job.snoozed"
        case JobStatus.SCHEDULED:
            return logging.WARNING, "job.retrying"
        case _:
            return logging.INFO, _QUIET_ENDS[ended.status]


def _log_rescue(job: JobRescued, worker: str) -> None:
    has_failed = job.status is JobStatus.FAILED
    _log(
        logging.ERROR if has_failed else logging.WARNING,
        "job.failed" if has_failed else "job.lost",
        job.job_id,
        task=job.task,
        queue=job.queue,
        attempt=job.attempt,
        from_status=JobStatus.RUNNING if job.was_running else JobStatus.PENDING,
        to_status=job.status,
        worker=worker,
        reason="worker_lost" if has_failed else "lost",
    )


def _log(
    level: int,
    event: str,
    job_id: UUID,
    *,
    to_status: JobStatus,
    from_status: JobStatus | None = None,
    task: str | None = None,
    queue: str | None = None,
    attempt: int | None = None,
    worker: str | None = None,
    wait: float | None = None,
    duration: float | None = None,
    reason: str | None = None,
    error: JobError | None = None,
    next_in: float | None = None,
) -> None:
    if not logger.isEnabledFor(level):
        return
    values = (
        event,
        str(job_id),
        task,
        queue,
        None if from_status is None else from_status.value,
        to_status.value,
        attempt,
        wait,
        duration,
        worker,
        reason,
        None if error is None else error.type,
        next_in,
    )
    which = "" if task is None else f" ({task}), attempt {attempt}"
    details = _details(duration, reason, error, next_in, with_traceback=level >= logging.ERROR)
    logger.log(
        level, "%s: job %s%s%s", event, job_id, which, details, extra=dict(zip(RECORD, values, strict=True))
    )


def _details(
    duration: float | None,
    reason: str | None,
    error: JobError | None,
    next_in: float | None,
    *,
    with_traceback: bool,
) -> str:
    text = "" if duration is None else f", after {duration:.3f} s"
    text += "" if reason is None else f": {reason}"
    text += "" if error is None else f": {error.type}: {error.message}"
    text += "" if next_in is None else f"; runs again in {next_in:.1f} s"
    if with_traceback and error is not None and error.traceback:
        text += f"\n{error.traceback.rstrip()}"
    return text


class JobLogFilter(logging.Filter):
    """Gives every record that is made inside a handler the attributes `job_id`, `task` and `attempt`.

    Add it to a logging handler. Elsewhere they are None; a record that has them already keeps them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; let every record pass."""
        attempt = running_attempt.get()
        job = None if attempt is None else attempt.context
        found = {
            "job_id": None if job is None else str(job.job_id),
            "task": None if job is None else job.task,
            "attempt": None if job is None else job.attempt,
        }
        vars(record).update({name: value for name, value in found.items() if name not in vars(record)})
        return True
