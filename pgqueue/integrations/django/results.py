"""Makes the results that Django knows of the jobs that the database has."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from django.utils.module_loading import import_string

from pgqueue.integrations.django.framework import (
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    Task,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
)
from pgqueue.integrations.django.known import tasks
from pgqueue.integrations.django.statements import ReadAttempt, ReadJob

_STATUSES: Final = {"running": "RUNNING", "succeeded": "SUCCESSFUL"}
_ENDED: Final = frozenset({"failed", "cancelled", "expired"})

_CLASSES: Final = {
    "hard_timeout": "builtins.TimeoutError",
    "soft_timeout": "pgqueue.errors.SoftTimeLimitExceeded",
    "cancelled": "pgqueue.errors.JobCancelled",
    "expired": "pgqueue.errors.JobExpired",
    "lost": "pgqueue.errors.LeaseLostError",
    "worker_lost": "pgqueue.errors.LeaseLostError",
    "unknown_task": "pgqueue.errors.UnknownTaskError",
}
"""By the reason of an attempt without an exception, or of which no more was kept than its name."""


def result_of(job_id: str, job: ReadJob, backend: Any) -> Any:
    """Return the TaskResult of a job. Raises TaskResultDoesNotExist for one that is not of Django's tasks."""
    arguments = job.arguments
    if not isinstance(arguments, Mapping) or set(arguments) != {"args", "kwargs"}:
        raise TaskResultDoesNotExist(f"{job_id}: this job of pgqueue is not one of Django's tasks")
    ran = [each for each in job.attempts if each.started_at is not None]
    last = job.runs_since or (job.started_at if _is_last(job) else None)
    started = [each for each in (*(attempt.started_at for attempt in ran), last) if each is not None]
    workers = [each.worker or "" for each in ran]
    if job.worker is not None and (job.status == "running" or _is_last(job)):
        workers.append(job.worker)
    result = TaskResult(
        task=task_of(job, backend),
        id=job_id,
        status=TaskResultStatus["FAILED" if job.status in _ENDED else _STATUSES.get(job.status, "READY")],
        enqueued_at=job.created_at,
        started_at=min(started, default=None),
        finished_at=job.completed_at,
        last_attempted_at=max(started, default=None),
        args=arguments["args"],
        kwargs=arguments["kwargs"],
        backend=backend.alias,
        errors=errors_of(job),
        worker_ids=workers,
    )
    if job.status == "succeeded":
        object.__setattr__(result, "_return_value", job.result)
    return result


def _is_last(job: ReadJob) -> bool:
    """Whether the job ended by an attempt that is not among those that did not succeed."""
    return job.status == "succeeded"


def task_of(job: ReadJob, backend: Any) -> Any:
    """Return the task of a job, with what it was enqueued with. Raises TaskResultDoesNotExist."""
    try:
        task = import_string(job.task)
    except ImportError as error:
        raise TaskResultDoesNotExist(f"its task {job.task!r} cannot be imported: {error}") from error
    if not isinstance(task, Task):
        # The module may have its task by another name than the function's.
        task = tasks.get(job.task)
    if task is None:
        raise TaskResultDoesNotExist(f"{job.task!r} is not one of Django's tasks")
    return as_enqueued(task, backend, queue=job.queue, priority=job.priority, run_after=job.run_at)


def as_enqueued(
    task: Any, backend: Any, *, queue: str, priority: int, run_after: datetime | None = None
) -> Any:
    """Return a task with what a job of it was enqueued with."""
    # An operator may have moved the job to a queue, or given it a priority, that Django does not take.
    if backend.queues and queue not in backend.queues:
        queue = min(backend.queues)
    changes = {
        "backend": backend.alias,
        "priority": min(max(priority, TASK_MIN_PRIORITY), TASK_MAX_PRIORITY),
        "queue_name": queue,
        "run_after": run_after,
    }
    if all(getattr(task, name) == value for name, value in changes.items()):
        return task
    return replace(task, **changes)


def errors_of(job: ReadJob) -> list[Any]:
    """Return the errors of a job's attempts, oldest first; then why it ended, if no attempt says so."""
    found = [each for each in job.attempts if each.error is not None or each.reason in _CLASSES]
    errors = [_error(each) for each in found]
    if job.status in _ENDED and (not found or (job.reason and found[-1].reason != job.reason)):
        reason = job.status if job.status != "failed" else job.reason or "failed"
        errors.append(_error(ReadAttempt(None, None, reason, job.error), said=job.reason))
    return errors


def _error(attempt: ReadAttempt, *, said: str | None = None) -> Any:
    error = attempt.error or {}
    kind, written = error.get("type"), error.get("traceback")
    traceback = written or error.get("message") or said or attempt.reason
    path: str | None
    if kind is not None and written:
        path = class_path(kind, written)
    else:
        # No exception, or one of which no more was kept.
        path = _CLASSES.get(attempt.reason) or (f"builtins.{kind}" if _is_builtin(kind) else None)
    return TaskError(exception_class_path=path or "pgqueue.errors.JobFailed", traceback=traceback)


def class_path(kind: str, traceback: str) -> str:
    """Return where the class of an error can be imported from: its traceback says in which module."""
    named: Sequence[str] = re.findall(
        rf"^(?:  \| )?((?:\w+\.)*{re.escape(kind)})(?=: |$)", traceback, re.MULTILINE
    )
    path = named[-1] if named else kind
    if path == kind and "." not in kind:
        return f"builtins.{kind}" if _is_builtin(kind) else f"__main__.{kind}"
    return path


def _is_builtin(kind: str | None) -> bool:
    """Whether an error that comes with Python is called so."""
    found = getattr(builtins, kind or "", None)
    return isinstance(found, type) and issubclass(found, BaseException)
