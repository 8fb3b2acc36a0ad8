"""What becomes of a job that this version of the code cannot decode: it waits for a worker that can.

While a deploy rolls, workers of two versions run. A job whose arguments one of them does not take may be what
the other expects. It is scheduled again, without counting the attempt, with growing pauses: workers that
cannot decode it do not spin, and one that can finds it. Once it has waited for the grace, it has failed.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Outcome, Retried

UNDECODABLE: Final = "undecodable"
SHORTEST: Final = 1.0
LONGEST: Final = 900.0
"""Seconds between two tries."""
SHARE: Final = 0.25
"""... and what part of the time that a job has waited they are."""


def met_undecodable(job_id: UUID, error: JobError) -> Retried:
    """Return the outcome of an attempt whose job cannot be decoded, until its wait is known."""
    return Retried(job_id, SHORTEST, UNDECODABLE, error, spent=False)


def is_undecodable(outcome: Outcome | None) -> bool:
    """Whether *outcome* is one that `wait_or_fail` is to decide."""
    return type(outcome) is Retried and outcome.reason == UNDECODABLE


def wait_or_fail(met: Retried, waited: float, grace: float | None) -> Retried | Ended:
    """Decide what follows *met*, an outcome of `met_undecodable`.

    *waited*: seconds since the job was first met so; its retries and snoozes before that do not count.
    *grace*: seconds after which it fails; None: it waits for ever.
    """
    left = float("inf") if grace is None else grace - waited
    if left <= 0:
        return Ended(met.job_id, JobStatus.FAILED, UNDECODABLE, met.error)
    pause = min(max(SHORTEST, SHARE * waited), LONGEST, left)
    return Retried(met.job_id, pause, UNDECODABLE, met.error, spent=False)
