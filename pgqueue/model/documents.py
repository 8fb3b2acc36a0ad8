"""How jobs, queues and workers look from outside, as JSON: the same over HTTP and on the command line.

Every key is always there, times are ISO 8601, and what does not apply is null. A traceback is shown only
where the caller says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pgqueue.model.dead_letters import DeadLetter, DeadLetterGroup, RedriveProgress
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import Action, Attempt, Job, JobStatus
from pgqueue.model.measures import Count, Percentiles, Period, QueueMeasure, RunningJob, WorkerMeasure
from pgqueue.model.progress import Progress
from pgqueue.model.setting import Setting


def job_document(job: Job) -> dict[str, Any]:
    """Return what a poll of *job* shows.

    `result` is null unless the job succeeded, `error` unless it failed; a traceback is never shown. What
    cannot be decoded is named in `undecodable`: a codec's reasons may tell what it hides.
    """
    has_result = job.status is JobStatus.SUCCEEDED and "result" not in job.undecodable
    return {
        "job_id": str(job.id),
        "status": job.status.value,
        "is_terminal": job.is_terminal,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "completed_at": _time(job.completed_at),
        "next_run_at": _time(job.next_run_at),
        "result": job.result if has_result else None,
        "error": _error(job.error) if job.status is JobStatus.FAILED else None,
        "progress": _progress(job.progress),
        "queue": job.queue,
        "task": job.task,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "undecodable": sorted(job.undecodable),
    }


def job_details_document(
    job: Job,
    *,
    arguments: Any,
    attempts: Sequence[Attempt],
    actions: Sequence[Action],
    show_tracebacks: bool = False,
) -> dict[str, Any]:
    """Return all that is known of *job*. *arguments*: as they may be shown."""
    return {
        **job_document(job),
        "error": _error(job.error, show_tracebacks) if job.status is JobStatus.FAILED else None,
        "priority": job.priority,
        "arguments": arguments,
        "tags": list(job.tags),
        "key": job.key,
        "headers": job.headers,
        "run_at": _time(job.run_at),
        "expires_at": _time(job.expires_at),
        "worker": job.worker,
        "losses": job.losses,
        "reason": job.reason,
        "last_reason": job.last_reason,
        "last_error": _error(job.last_error, show_tracebacks),
        "attempts": [attempt_document(attempt, show_tracebacks=show_tracebacks) for attempt in attempts],
        "actions": [action_document(action) for action in actions],
    }


def attempt_document(attempt: Attempt, *, show_tracebacks: bool = False) -> dict[str, Any]:
    """Return an attempt that did not succeed."""
    return {
        "attempt": attempt.attempt,
        "started_at": _time(attempt.started_at),
        "ended_at": _time(attempt.ended_at),
        "worker": attempt.worker,
        "version": attempt.version,
        "reason": attempt.reason,
        "error": _error(attempt.error, show_tracebacks),
    }


def action_document(action: Action) -> dict[str, Any]:
    """Return what an operator did to a job."""
    return {
        "at": _time(action.at),
        "action": action.action,
        "attempt": action.attempt,
        "reason": action.reason,
        "actor": action.actor,
    }


def dead_letter_document(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter."""
    return {
        "job_id": str(letter.job_id),
        "failed_at": _time(letter.failed_at),
        "task": letter.task,
        "queue": letter.queue,
        "reason": letter.reason,
        "fingerprint": letter.fingerprint,
        "error_type": letter.error_type,
        "message": letter.message,
        "attempt": letter.attempt,
        "worker": letter.worker,
        "version": letter.version,
    }


def dead_group_document(group: DeadLetterGroup) -> dict[str, Any]:
    """Return dead letters of one fingerprint, with the latest as the example."""
    return {
        "fingerprint": group.fingerprint,
        "count": group.count,
        "first_at": _time(group.first_at),
        "latest": dead_letter_document(group.latest),
    }


def redrive_document(redrive: RedriveProgress) -> dict[str, Any]:
    """Return how far a mass redrive has come."""
    return {
        "redrive_id": str(redrive.id),
        "state": redrive.state,
        "is_over": redrive.is_over,
        "done": redrive.done,
        "total": redrive.total,
        "rate": redrive.rate,
        "queue": redrive.queue,
        "reason": redrive.reason,
        "actor": redrive.actor,
        "created_at": _time(redrive.created_at),
        "ended_at": _time(redrive.ended_at),
    }


def task_document(name: str, queue: str | None, setting: Setting | None) -> dict[str, Any]:
    """Return a task; *queue*: its own, None where the task is not declared in this process."""
    return {
        "task": name,
        "is_declared": queue is not None,
        "queue": queue,
        **setting_document(setting),
        "options": {} if setting is None else dict(setting.options),
    }


def setting_document(setting: Setting | None) -> dict[str, Any]:
    """Return whether a queue or a task is paused, and who changed that or its options last, when and why."""
    return {
        "is_paused": setting is not None and setting.paused_at is not None,
        "paused_at": None if setting is None else _time(setting.paused_at),
        "changed_at": None if setting is None else _time(setting.changed_at),
        "changed_by": None if setting is None else setting.actor,
        "change_reason": None if setting is None else setting.reason,
    }


def queue_document(queue: QueueMeasure) -> dict[str, Any]:
    """Return what a queue holds and how fast it moves. In `drain`, null stands for never."""
    return {
        "queue": queue.queue,
        "is_paused": queue.is_paused,
        "pending": _count(queue.pending),
        "scheduled": _count(queue.scheduled),
        "retrying": _count(queue.retrying),
        "blocked": _count(queue.blocked),
        "running": _count(queue.running),
        "failed": _count(queue.failed),
        "oldest_age": queue.oldest_age,
        "enqueued_rate": queue.enqueued_rate,
        "finished_rate": queue.finished_rate,
        "wait": _percentiles(queue.wait),
        "run": _percentiles(queue.run),
        "drain": None
        if queue.drain is None
        else {name: _finite(value) for name, value in queue.drain._asdict().items()},
    }


def worker_document(worker: WorkerMeasure) -> dict[str, Any]:
    """Return a worker, and those of its jobs that have run longest."""
    return {
        "lease_id": str(worker.lease_id),
        "name": worker.name,
        "version": worker.version,
        "is_alive": worker.is_alive,
        "queues": list(worker.queues),
        "started_at": _time(worker.started_at),
        "lease_age": worker.lease_age,
        "lease_left": worker.lease_left,
        "loop_lag": worker.loop_lag,
        "running": worker.running,
        "prefetched": worker.prefetched,
        "jobs": [running_document(job) for job in worker.jobs],
    }


def running_document(job: RunningJob) -> dict[str, Any]:
    """Return a job that a worker runs now."""
    return {
        "job_id": str(job.job_id),
        "task": job.task,
        "queue": job.queue,
        "attempt": job.attempt,
        "started_at": _time(job.started_at),
        "seconds": job.seconds,
        "progress": _progress(job.progress),
    }


def period_document(period: Period) -> dict[str, Any]:
    """Return what was done in a stretch of time."""
    return {
        "at": _time(period.at),
        "seconds": period.seconds,
        "enqueued": period.enqueued,
        "claimed": period.claimed,
        "succeeded": period.succeeded,
        "failed": period.failed,
        "retried": period.retried,
        "wait": _percentiles(period.wait),
        "run": _percentiles(period.run),
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _progress(progress: Progress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    return {"current": progress.current, "total": progress.total, "meta": progress.meta}


def _error(error: JobError | None, show_traceback: bool = False) -> dict[str, Any] | None:
    if error is None:
        return None
    document = {"type": error.type, "message": error.message}
    return {**document, "traceback": error.traceback} if show_traceback else document


def _count(count: Count) -> dict[str, Any]:
    return {"value": count.value, "is_exact": count.is_exact}


def _percentiles(durations: Percentiles | None) -> dict[str, float] | None:
    return None if durations is None else durations._asdict()


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
