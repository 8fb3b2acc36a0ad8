"""Compares two executions of one job, for tests of idempotency. Values only: see `pgqueue.testing`."""

from __future__ import annotations

import json
from typing import Any, assert_never

from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import (
    Ended,
    Outcome,
    PutAside,
    Released,
    Restarted,
    Retried,
    Succeeded,
    Suspended,
)
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.redaction import NOTHING, Paths, redact_value

MAX_RESULT = 500
"""Characters of a result in the error that names it."""


def judge(first: Outcome, second: Outcome, codec: Codec | None, secrets: Paths = NOTHING) -> Outcome:
    """Return the outcome of a job that was executed twice: the *second*, if both ended alike.

    They ended alike if they lead to the same status and, in success, returned the same JSON. A *second*
    execution that was cancelled or released from outside says nothing about the job. *secrets*: where a
    result has values that the error does not tell.
    """
    if isinstance(second, Released) or (isinstance(second, Ended) and second.status is JobStatus.CANCELLED):
        return second
    before, after = _ending(first, codec), _ending(second, codec)
    if before == after:
        return second
    message = (
        f"executed twice, as after a lost outcome, it ended differently: first {_describe(before, secrets)}, "
        f"then {_describe(after, secrets)}"
    )
    return Ended(second.job_id, JobStatus.FAILED, "not_idempotent", JobError("NotIdempotent", message))


def _ending(outcome: Outcome, codec: Codec | None) -> tuple[JobStatus, Any]:
    match outcome:
        case Succeeded(result=stored):
            if stored is not None and codec is not None:
                # A codec may encode the same document differently each time.
                stored = codec.decode(stored)
            return JobStatus.SUCCEEDED, None if stored is None else json.loads(stored)
        case Retried():
            return JobStatus.SCHEDULED, None
        case Ended():
            return outcome.status, None
        case Released() | PutAside() | Restarted():
            return JobStatus.PENDING, None
        case Suspended():
            return JobStatus.BLOCKED, None
        case _:
            assert_never(outcome)


def _describe(ending: tuple[JobStatus, Any], secrets: Paths) -> str:
    status, result = ending
    if status is not JobStatus.SUCCEEDED:
        return status.value
    text = json.dumps(redact_value(result, secrets), ensure_ascii=False)
    return f"{status.value} with {text if len(text) <= MAX_RESULT else text[:MAX_RESULT] + '...'}"
