"""One structured record for each transition of a job, and the job's id in what its handler logs.

The records go to the logger "pgqueue.jobs", after the transition was committed: INFO where all is well,
WARNING where a job is to run again, ERROR where it has failed. Each carries what RECORD names, for handlers
that write JSON; its text says the same for eyes. Arguments and results are in none of them.
"""

from __future__ import annotations

import logging
from typing import Final

from pgqueue.context import running_attempt
from pgqueue.events import (
    AttemptEnded,
    AttemptsEnded,
    Event,
    JobRescued,
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

HEARD: Final = (JobsStarted, AttemptsEnded, JobsRescued)
"""The kinds of events that log_transitions wants to hear of."""

_QUIET_ENDS: Final = {
    JobStatus.SUCCEEDED: "job.succeeded",
    JobStatus.PENDING: "job.released",
    JobStatus.CANCELLED: "job.cancelled",
    JobStatus.EXPIRED: "job.expired",
}


def log_transitions(event: Event) -> None:
    """Log what happened to each job of *event*: an observer. A success that is not logged costs nothing."""
    is_verbose = logger.isEnabledFor(logging.INFO)
    match event:
        case JobsStarted():
            for started in event.jobs if is_verbose else ():
                _log_start(started)
        case AttemptsEnded():
            for attempt in event.attempts if is_verbose or not event.is_success else ():
                _log_end(attempt)
        case JobsRescued():
            for rescued in event.jobs:
                _log_rescue(rescued, event.worker)
        case _:
            pass


def _log_start(job: JobStarted) -> None:
    _log(
        logging.INFO,
        "job.started",
        job,
        JobStatus.PENDING,
        JobStatus.RUNNING,
        wait=job.waited,
        worker=job.worker,
    )


def _log_end(ended: AttemptEnded) -> None:
    level, name = _level_of(ended)
    _log(
        level,
        name,
        ended,
        JobStatus.RUNNING,
        ended.status,
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
        job,
        JobStatus.RUNNING if job.was_running else JobStatus.PENDING,
        job.status,
        worker=worker,
        reason="worker_lost" if has_failed else "lost",
    )


def _log(
    level: int,
    name: str,
    job: JobStarted | AttemptEnded | JobRescued,
    before: JobStatus,
    after: JobStatus,
    *,
    worker: str | None,
    wait: float | None = None,
    duration: float | None = None,
    reason: str | None = None,
    error: JobError | None = None,
    next_in: float | None = None,
) -> None:
    if not logger.isEnabledFor(level):
        return
    values = (
        name,
        str(job.job_id),
        job.task,
        job.queue,
        before.value,
        after.value,
        job.attempt,
        wait,
        duration,
        worker,
        reason,
        None if error is None else error.type,
        next_in,
    )
    logger.log(
        level,
        "%s: job %s (%s), attempt %d%s",
        name,
        job.job_id,
        job.task,
        job.attempt,
        _details(duration, reason, error, next_in, with_traceback=level >= logging.ERROR),
        extra=dict(zip(RECORD, values, strict=True)),
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


class JobFilter(logging.Filter):
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
