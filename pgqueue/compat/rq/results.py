"""What an attempt came to, as RQ's Result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from pgqueue import Attempt
from pgqueue import Job as Record
from pgqueue import JobStatus as Status


class ResultType(Enum):
    """How an attempt ended."""

    SUCCESSFUL = 1
    FAILED = 2
    STOPPED = 3
    RETRIED = 4


@dataclass(frozen=True)
class Result:
    """What one attempt came to."""

    job_id: str
    type: ResultType
    created_at: datetime
    return_value: Any = None
    exc_string: str | None = None

    Type = ResultType


def result_of(job_id: str, record: Record) -> Result | None:
    """Return what an ended job came to; None: it has not ended, or never ran."""
    if record.status is Status.SUCCEEDED and record.completed_at is not None:
        return Result(job_id, ResultType.SUCCESSFUL, record.completed_at, record.result)
    if record.status is Status.FAILED and record.completed_at is not None:
        return Result(job_id, ResultType.FAILED, record.completed_at, exc_string=error_of(record))
    return None


def retried_of(job_id: str, attempt: Attempt) -> Result:
    """Return what an attempt came to that was followed by another one."""
    error = attempt.error
    trace = None if error is None else error.traceback or f"{error.type}: {error.message}"
    return Result(job_id, ResultType.RETRIED, attempt.ended_at, exc_string=trace)


def error_of(record: Record) -> str | None:
    """Return the traceback of the latest error of a job that has not succeeded."""
    error = None if record.status is Status.SUCCEEDED else record.error or record.last_error
    if error is None:
        return record.reason
    return error.traceback or f"{error.type}: {error.message}"
