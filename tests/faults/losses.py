"""Why an attempt counts as lost: each loss has a cause, or is a violation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from faults.evidence import Attempt, Evidence
from faults.reruns import CUTS_OFF

LOST_WITHIN = 60.0
"""Seconds within which a lease that was disturbed is found lost."""
COSTS_LEASES = CUTS_OFF - {"backends", "login", "cut"}
"""What may cost a worker its lease although it lives."""
SLACK = 0.05
"""Seconds that two clocks of one machine, and rounding, may be apart."""


def explain_loss(evidence: Evidence, job: str, lost: Attempt) -> str | None:
    """Return why an attempt of a job was lost; None: nothing explains it.

    A worker that is killed has claimed jobs that it has not begun to run. They have lost an attempt, too, and
    what comes next is no rerun of theirs: so there are more losses than reruns.
    """
    worker = evidence.names.get(lost.worker or "")
    if worker is None:
        return "killed before it ran anything"
    cause = None
    if evidence.kills.get(worker, math.inf) <= lost.ended + SLACK:
        cause = "killed"
    for span in evidence.touched(lost.ended - LOST_WITHIN, lost.ended + SLACK, worker):
        if cause is None and span.fault in COSTS_LEASES:
            cause = f"cut off: {span.fault}"
    if cause is None:
        return None
    has_begun = any(run.job == job and run.worker == worker for run in evidence.runs)
    return cause if has_begun else f"{cause}, before it began"


def losses_have_a_cause(evidence: Evidence) -> Iterator[str]:
    """A loss is charged for a worker that was killed, or cut off for as long as its lease."""
    for job, lost in _losses(evidence):
        if explain_loss(evidence, job, lost) is None:
            yield f"attempt {lost.attempt} of job {job} counts as lost; its worker was not disturbed"


def loss_causes(evidence: Evidence) -> Counter[str]:
    """Return how many losses each cause had."""
    return Counter(explain_loss(evidence, job, lost) or "unexplained" for job, lost in _losses(evidence))


def _losses(evidence: Evidence) -> Iterator[tuple[str, Attempt]]:
    for job in evidence.jobs.values():
        for each in job.attempts:
            if each.reason == "lost":
                yield job.id, each
