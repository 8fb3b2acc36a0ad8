"""The exception that a job's stored error was, and the state that a job's status is, by Celery's names."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from typing import Any, Final

from pgqueue import Job, JobError, JobStatus
from pgqueue.compat.celery import states
from pgqueue.compat.celery.exceptions import (
    MaxRetriesExceededError,
    Reject,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)

IGNORED: Final = "ignored"
"""The reason of a job that was cancelled because its task raised Ignore."""
STATE, META = "state", "meta"
"""What `update_state` puts into the progress of a job."""
_BY_REASON: Final[dict[str, type[BaseException]]] = {
    "hard_timeout": TimeLimitExceeded,
    "max_retries_exceeded": MaxRetriesExceededError,
    "process_died": WorkerLostError,
    "rejected": Reject,
    "soft_timeout": SoftTimeLimitExceeded,
    "worker_lost": WorkerLostError,
}


def state_of(job: Job | None, *, tracks_started: bool) -> str:  # noqa: PLR0911  # a case for each
    """Return Celery's name for how far a job is. None: there is no such job, as far as is known."""
    if job is None:
        return states.PENDING
    match job.status:
        case JobStatus.SUCCEEDED:
            return states.SUCCESS
        case JobStatus.FAILED:
            return states.REJECTED if job.reason == "rejected" else states.FAILURE
        case JobStatus.EXPIRED:
            return states.REVOKED
        case JobStatus.CANCELLED:
            if job.reason == IGNORED:
                return told_state(job) or states.IGNORED
            return states.FAILURE if is_orphan(job) else states.REVOKED
        case JobStatus.RUNNING if (told := told_state(job)) is not None:
            return told
        case JobStatus.RUNNING if tracks_started:
            return states.STARTED
        case JobStatus.SCHEDULED if job.attempt > 0:
            return states.RETRY
        case _:
            return states.RETRY if job.attempt > 1 else states.PENDING


def is_orphan(job: Job) -> bool:
    """Whether a job never ran because one that it waited for did not succeed."""
    return job.status is JobStatus.CANCELLED and job.error is not None


def told_state(job: Job) -> str | None:
    """Return the state that the task has told of itself by `update_state`; None: it has told none."""
    meta = None if job.progress is None else job.progress.meta
    return meta[STATE] if isinstance(meta, dict) and isinstance(meta.get(STATE), str) else None


def told_meta(job: Job) -> Any:
    """Return what it has told beside its state."""
    return None if told_state(job) is None else job.progress.meta.get(META)  # type: ignore[union-attr]


def exception_of(job: Job) -> BaseException:
    """Return the exception that a job ended with, or that its latest attempt did."""
    if job.status in (JobStatus.CANCELLED, JobStatus.EXPIRED) and not is_orphan(job):
        return TaskRevokedError("expired" if job.status is JobStatus.EXPIRED else job.reason or "revoked")
    error = job.error or job.last_error
    reason = job.reason or job.last_reason or "failed"
    if reason in _BY_REASON:
        return _made(_BY_REASON[reason], reason if error is None else error.message)
    if error is None:
        return Exception(reason)
    return _made(class_of(error), error.message)


def class_of(error: JobError) -> type[BaseException]:
    """Return the class of a stored error, as far as this process knows it, or else one of its name."""
    found = getattr(builtins, error.type, None)
    module = _module_of(error)
    if module is not None and module in sys.modules:
        found = sys.modules[module]
        for name in error.type.split("."):
            found = getattr(found, name, None)
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    return type(
        error.type.rpartition(".")[2] or "Exception", (Exception,), {"__module__": module or __name__}
    )


def _module_of(error: JobError) -> str | None:
    """Return the module that the traceback names before the error's type."""
    found = re.findall(
        rf"^\s*(?:\|\s*)?([\w.]+)\.{re.escape(error.type)}(?::|$)", error.traceback or "", re.MULTILINE
    )
    return found[-1] if found else None


def _made(kind: type[BaseException], message: str) -> BaseException:
    arguments = _arguments_in(kind, message)
    try:
        return kind(*arguments)
    except Exception:
        # It takes other arguments than a message.
        made = _bare(kind)
        made.args = tuple(arguments)
        return made


def _bare(kind: type[BaseException]) -> BaseException:
    try:
        return kind.__new__(kind)
    except Exception:
        # It cannot be made without what it was made of, such as the exceptions of a group.
        other: type[Exception] = type(kind.__name__, (Exception,), {"__module__": kind.__module__})
        return other()


def told_exception(told: Any) -> BaseException:
    """Return the exception that `update_state(state="FAILURE", meta=...)` has told: its type and message."""
    if not isinstance(told, dict) or not isinstance(told.get("exc_type"), str):
        return Exception(told)
    module = told.get("exc_module") or builtins.__name__
    known = getattr(sys.modules.get(module), told["exc_type"], None)
    found: type[BaseException] = type(told["exc_type"], (Exception,), {"__module__": module})
    if isinstance(known, type) and issubclass(known, BaseException):
        found = known
    message = told.get("exc_message", "")
    given = message if isinstance(message, list | tuple) else [message]
    try:
        return found(*given)
    except Exception:
        made = _bare(found)
        made.args = tuple(given)
        return made


def _arguments_in(kind: type[BaseException], message: str) -> list[Any]:
    """Return the arguments that an exception was made with, as far as its text tells them."""
    number = re.fullmatch(r"\[Errno (\d+)\] (.*)", message, re.DOTALL)
    if number is not None and issubclass(kind, OSError):
        return [int(number[1]), number[2]]
    if issubclass(kind, KeyError) or message.startswith("("):
        # The text is the form in code: of a KeyError's argument, and of several arguments.
        try:
            value = ast.literal_eval(message)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return [message]
        if isinstance(value, tuple) and len(value) > 1 and message.startswith("("):
            return list(value)
        return [value] if issubclass(kind, KeyError) else [message]
    return [message] if message else []
