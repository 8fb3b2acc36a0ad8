"""Logs one structured record per transition of a job, and adds the job's id to records of its handler.

The records go to the logger "pgqueue.jobs" after the transition was committed: INFO for a normal transition,
WARNING if the job will run again, ERROR if it has failed. Each record has the attributes in RECORD, for
handlers that write JSON, and a text for people. No record has arguments or results; if arguments are
redacted, texts that may quote them are left out of errors as well. An enqueue in a caller's transaction is
logged before that transaction ends; its reason says so.

The record of a failure has the exception as `exc_info`, with the places it came through and without the
variables there. The option `log_tracebacks` has records of retries carry it too, or none. Its text is made
here, in bounds: a formatter uses `exc_text` if it is there.

The option `log` sets for which jobs normal transitions are logged. They are chosen by id, so either all of a
job's transitions are logged or none.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from pgqueue.events.attempts import AttemptEnded, AttemptsEnded, JobsStarted, JobStarted
from pgqueue.events.kinds import (
    CancelsRequested,
    DeadLettersEntered,
    Event,
    JobMoved,
    JobRescued,
    JobsCancelled,
    JobsEnqueued,
    JobsExpired,
    JobsPromoted,
    JobsReopened,
    JobsReplaced,
    JobsRescued,
    JobsUnblocked,
)
from pgqueue.model.dead_letters import DeadLetter
from pgqueue.model.job_error import JobError, message_of
from pgqueue.model.jobs import JobStatus
from pgqueue.model.raised import Raised
from pgqueue.model.tracebacks import format_error
from pgqueue.tasks.context import running_attempt
from pgqueue.tasks.shown_errors import lost_with, shown_exception, unknown_task, without_arguments

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
"""The attributes of every record. `event` is one of a few constants ("job.failed"). `wait` (from ready to
claimed), `duration` (of the handler) and `next_in` (until the next attempt) are in seconds. Attributes that
do not apply are None. `from_status` is None for a job that is new, redriven or requeued; it equals
`to_status` if the status did not change, as in `job.cancel_requested`."""

HEARD: Final = (AttemptsEnded, JobsRescued, DeadLettersEntered)
"""The kinds of events that may be logged above INFO."""
HEARD_IF_VERBOSE: Final = (
    JobsEnqueued,
    JobsPromoted,
    JobsUnblocked,
    JobsReopened,
    JobsReplaced,
    JobsStarted,
    CancelsRequested,
    JobsCancelled,
    JobsExpired,
)
"""The kinds of events that are only logged at INFO. They cost nothing if INFO is disabled."""

_SHARES: Final = 2**32

_QUIET_ENDS: Final = {
    JobStatus.SUCCEEDED: "job.succeeded",
    JobStatus.PENDING: "job.released",
    JobStatus.BLOCKED: "job.suspended",
    JobStatus.CANCELLED: "job.cancelled",
    JobStatus.EXPIRED: "job.expired",
}


_RESCUES: Final = {
    JobStatus.PENDING: (logging.WARNING, "job.lost", "lost"),
    JobStatus.FAILED: (logging.ERROR, "job.failed", "worker_lost"),
    JobStatus.CANCELLED: (logging.WARNING, "job.cancelled", "lost"),
}
"""The level, the event and the reason of a rescued job's record, by the job's new status."""


class TransitionLog:
    """Logs the transition of each job in an event.

    *log_share* returns for a task and a queue the share of jobs whose normal transitions are logged.
    *redacts* returns for them whether any arguments are redacted, *has_traceback* whether a record of a level
    has the exception.
    """

    def __init__(
        self,
        log_share: Callable[[str, str], float],
        redacts: Callable[[str, str], bool],
        has_traceback: Callable[[str, str, int], bool],
    ) -> None:
        self._log_share = log_share
        self._redacts = redacts
        self._has_traceback = has_traceback

    # Called with every event, so it is the method of the logger itself.
    is_verbose = staticmethod(partial(logger.isEnabledFor, logging.INFO))
    """Whether normal transitions are logged at all."""

    def observe(self, event: Event) -> None:
        """Log an event of a kind in HEARD, as an observer. Successes that are not logged cost nothing."""
        match event:
            case AttemptsEnded() if not event.is_success or self.is_verbose():
                for attempt in event.attempts:
                    self._log_end(attempt)
            case JobsRescued():
                for rescued in event.jobs:
                    self._log_rescue(rescued, event.worker)
            case DeadLettersEntered():
                # The other dead letters failed in an attempt or with their worker, and have a record already.
                for letter in (each for each in event.letters if each.reason == "unknown_task"):
                    self._log_unknown(letter)
            case _:
                pass

    def observe_if_verbose(self, event: Event) -> None:  # noqa: C901  # a case for each kind
        """Log an event of a kind in HEARD_IF_VERBOSE, as an observer while `is_verbose`."""
        match event:
            case JobsEnqueued():
                self._log_moved("job.enqueued", event.jobs, _openness(is_committed=event.is_committed))
            case JobsStarted():
                for started in event.jobs:
                    self._log_start(started)
            case JobsPromoted():
                self._log_moved("job.promoted", event.jobs)
            case JobsUnblocked():
                self._log_moved("job.unblocked", event.jobs)
            case JobsReopened():
                self._log_moved(f"job.{event.verb}", event.jobs, event.reason)
            case JobsReplaced():
                self._log_moved("job.replaced", event.jobs, _openness(is_committed=event.is_committed))
            case CancelsRequested():
                self._log_moved("job.cancel_requested", event.jobs, event.reason)
            case JobsCancelled():
                self._log_moved("job.cancelled", event.jobs, event.reason)
            case JobsExpired():
                self._log_moved("job.expired", event.jobs, "expired")
            case _:
                pass

    def _is_chosen(self, job_id: UUID, task: str, queue: str) -> bool:
        share = self._log_share(task, queue)
        # The last bits of an id are random, and the same in every process.
        return share == 1 or (job_id.int % _SHARES) < share * _SHARES

    def _log_moved(self, event: str, jobs: Iterable[JobMoved], reason: str | None = None) -> None:
        for job in jobs:
            if self._is_chosen(job.job_id, job.task, job.queue):
                _log(
                    logging.INFO,
                    event,
                    job.job_id,
                    task=job.task,
                    queue=job.queue,
                    attempt=job.attempt,
                    from_status=job.before,
                    to_status=job.status,
                    reason=reason,
                )

    def _log_start(self, job: JobStarted) -> None:
        if self._is_chosen(job.job_id, job.task, job.queue):
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

    def _log_end(self, ended: AttemptEnded) -> None:
        level, name = _level_of(ended)
        if level == logging.INFO and not self._is_chosen(ended.job_id, ended.task, ended.queue):
            return
        error, raised = ended.error, None
        if error is not None:
            redacts = self._redacts(ended.task, ended.queue)
            if self._has_traceback(ended.task, ended.queue, level):
                raised = shown_exception(ended, redacts=redacts)
            error = without_arguments(error) if redacts else error
        _log(
            level,
            name,
            ended.job_id,
            task=ended.task,
            queue=ended.queue,
            attempt=ended.attempt,
            from_status=JobStatus.RUNNING if ended.has_started else JobStatus.PENDING,
            to_status=ended.status,
            wait=ended.waited,
            duration=ended.seconds if ended.has_started else None,
            worker=ended.worker,
            reason=ended.reason,
            error=error,
            raised=raised,
            next_in=ended.next_in,
        )

    def _log_rescue(self, job: JobRescued, worker: str) -> None:
        level, event, reason = _RESCUES[job.status]
        has_failed = job.status is JobStatus.FAILED
        _log(
            level,
            event,
            job.job_id,
            task=job.task,
            queue=job.queue,
            attempt=job.attempt,
            from_status=JobStatus.RUNNING if job.was_running else JobStatus.PENDING,
            to_status=job.status,
            worker=worker,
            reason=reason,
            raised=lost_with(worker)
            if has_failed and self._has_traceback(job.task, job.queue, level)
            else None,
        )

    def _log_unknown(self, letter: DeadLetter) -> None:
        has_traceback = self._has_traceback(letter.task, letter.queue, logging.ERROR)
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
            raised=unknown_task(letter.task) if has_traceback else None,
        )


def _openness(*, is_committed: bool) -> str | None:
    return None if is_committed else "in_transaction"


def _level_of(ended: AttemptEnded) -> tuple[int, str]:
    match ended.status:
        case JobStatus.FAILED if ended.reason == "expected":
            return logging.INFO, "job.failed"
        case JobStatus.FAILED:
            return logging.ERROR, "job.failed"
        case JobStatus.SCHEDULED if ended.reason in ("snoozed", "rate_limited"):
            return logging.INFO, "job.snoozed"
        case JobStatus.SCHEDULED:
            return logging.WARNING, "job.retrying"
        case _:
            return logging.INFO, _QUIET_ENDS[ended.status]


def _log(
    level: int,
    event: str,
    job_id: UUID,
    *,
    from_status: JobStatus | None,
    to_status: JobStatus,
    task: str,
    queue: str,
    attempt: int,
    worker: str | None = None,
    wait: float | None = None,
    duration: float | None = None,
    reason: str | None = None,
    error: JobError | None = None,
    raised: Raised | None = None,
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
    record = logger.makeRecord(
        logger.name,
        level,
        __file__,
        0,
        "%s: job %s (%s), attempt %d%s",
        (event, job_id, task, attempt, _details(duration, reason, error, next_in)),
        raised,
        "_log",
        dict(zip(RECORD, values, strict=True)),
    )
    if raised is not None:
        text = None if error is None else error.traceback
        record.exc_text = (text or format_error(raised.error, message_of, raised.traceback)).rstrip()
    logger.handle(record)


def _details(
    duration: float | None,
    reason: str | None,
    error: JobError | None,
    next_in: float | None,
) -> str:
    text = "" if duration is None else f", after {duration:.3f} s"
    text += "" if reason is None else f": {reason}"
    text += "" if error is None else f": {error.type}: {error.message}"
    text += "" if next_in is None else f"; runs again in {next_in:.1f} s"
    return text


_JOB_FIELDS: Final = ("job_id", "task", "queue", "attempt")


def job_fields() -> dict[str, Any]:
    """Return what a log record says of the job whose handler is running; nothing outside of handlers."""
    attempt = running_attempt.get()
    if attempt is None:
        return {}
    job = attempt.context
    return dict(zip(_JOB_FIELDS, (str(job.job_id), job.task, job.queue, job.attempt), strict=True))


class JobLogFilter(logging.Filter):
    """Adds the attributes `job_id`, `task`, `queue` and `attempt` to records made inside a job's handler.

    Add it to a logging handler. The attributes of other records are None; a record that already has them
    keeps them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes, and let every record pass."""
        found = job_fields() or dict.fromkeys(_JOB_FIELDS)
        vars(record).update({name: value for name, value in found.items() if name not in vars(record)})
        return True


class JsonFormatter(logging.Formatter):
    """Writes each record as a JSON object on its own line.

    Its keys are `time` (UTC, ISO 8601), `level`, `logger`, `process` and `message`; the attributes in RECORD
    and those of JobLogFilter, if the record has them; `statement`, the file of a statement of pgqueue's that
    failed ("upkeep/promote"); and `exception` and `stack` as strings. The line is ASCII, so that no logged
    text can break the line or send control sequences to a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        values: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        attributes = vars(record)
        values |= {
            name: value for name in (*RECORD, "statement") if (value := attributes.get(name)) is not None
        }
        if record.exc_text or record.exc_info:
            values["exception"] = record.exc_text or (
                record.exc_info and self.formatException(record.exc_info)
            )
        if record.stack_info:
            values["stack"] = self.formatStack(record.stack_info)
        # JSON has no numbers for infinity and NaN.
        finite = {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        return json.dumps(finite, default=str)
