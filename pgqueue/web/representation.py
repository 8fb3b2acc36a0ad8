"""How a job looks from outside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pgqueue.jobs import Job, JobStatus
from pgqueue.progress import Progress


def job_document(job: Job) -> dict[str, Any]:
    """Return the JSON document of *job*.

    Every key is always there. `result` is null unless the job succeeded, `error` unless it failed; a
    traceback is never shown.
    """
    return {
        "job_id": str(job.id),
        "status": job.status.value,
        "is_terminal": job.is_terminal,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "completed_at": _time(job.completed_at),
        "next_run_at": _time(job.next_run_at),
        "result": job.result if job.status is JobStatus.SUCCEEDED else None,
        "error": _error(job),
        "progress": _progress(job.progress),
        "queue": job.queue,
        "task": job.task,
        "attempt": job.attempt,
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _progress(progress: Progress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    return {"current": progress.current, "total": progress.total, "meta": progress.meta}


def _error(job: Job) -> dict[str, str] | None:
    if job.status is not JobStatus.FAILED or job.error is None:
        return None
    return {"type": job.error.type, "message": job.error.message}
