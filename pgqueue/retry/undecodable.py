"""What becomes of a job that this version of the code cannot decode: it waits for a worker that can.

While a deploy rolls, workers of two versions run. A job whose arguments one of them does not take may be what
the other expects. It is scheduled again, without counting the attempt, with growing pauses: workers that
cannot decode it do not spin, and one that can finds it. Once it has waited for the grace, it has failed.
"""

from __future__ import annotations

from typing import Final

from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, Retried
from pgqueue.retry.decision import JobSoFar, failed

SHORTEST: Final = 1.0
LONGEST: Final = 900.0
"""Seconds between two tries."""
SHARE: Final = 0.25
"""... and what part of the time that a job has waited they are."""


def wait_or_fail(job: JobSoFar, error: JobError, grace: float | None) -> Retried | Ended:
    """Decide what follows *error*, because of which a job could not be decoded.

    *grace*: seconds from its first try until it fails; None: it waits for ever.
    """
    left = float("inf") if grace is None else grace - job.age
    if left <= 0:
        return failed(job, "undecodable", error)
    pause = min(max(SHORTEST, SHARE * job.age), LONGEST, left)
    return Retried(job.job_id, pause, "undecodable", error, spent=False)
