"""What failed attempts raised, as logs and error trackers may have it: redacted arguments are not in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pgqueue.events.attempts import AttemptEnded
from pgqueue.model.job_error import JobError, describe, message_of, name_of
from pgqueue.model.raised import Raised, stand_in, without_messages
from pgqueue.model.tracebacks import trace_of
from pgqueue.tasks.redaction import REDACTED

QUOTING: Final = frozenset(
    {
        "InvalidArgumentsError",
        "PayloadTooLargeError",
        "UndecodableError",
        "ValidationError",
        "InvalidArguments",
    }
)
"""The types of errors whose messages may quote arguments."""


def lost_with(worker: str) -> Raised:
    """Return an exception for a job that has failed because it was lost too often, at last with *worker*."""
    return stand_in(JobError("WorkerLost", f"worker {worker} was lost while it had the job"))


def unknown_task(task: str) -> Raised:
    """Return an exception for a job that has failed because no worker declares its task."""
    return stand_in(JobError("UnknownTask", f"no worker declares task {task!r}"))


def without_arguments(error: JobError) -> JobError:
    """Return *error* without texts that may quote arguments of its job.

    The traceback is removed as well, because it has the messages of the error's causes.
    """
    return JobError(error.type, REDACTED if error.type in QUOTING else error.message)


def shown_exception(ended: AttemptEnded, *, redacts: bool) -> Raised | None:
    """Return the exception of an attempt as logs and error trackers may have it; None: there was none.

    If arguments are redacted, so are the messages of what led to the error: they may quote arguments. Where
    it came through stays.
    """
    error = ended.error
    if error is None or not redacts:
        return ended.exc_info
    if ended.raised is None or ended.exc_info is not ended.raised:
        return stand_in(replace(error, message=without_arguments(error).message), has_messages=False)
    return without_messages(ended.raised, without_arguments(error).message, _redacted)


def described(error: BaseException, *, redacts: bool) -> JobError:
    """Return what to show of an exception that a handler raises, in the same way."""
    if not redacts:
        return describe(error)
    told = without_arguments(JobError(name_of(type(error)), message_of(error)))
    return describe(
        without_messages(Raised(type(error), error, trace_of(error)), told.message, _redacted).error
    )


def _redacted(_error: BaseException) -> str:
    return REDACTED
