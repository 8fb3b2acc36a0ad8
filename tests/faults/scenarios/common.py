"""What scenarios share."""

from __future__ import annotations

from collections import Counter

from faults.checker import check
from faults.evidence import Evidence
from faults.figures import Figure, Report
from faults.laboratory import Laboratory
from faults.losses import loss_causes
from faults.reruns import overlaps, rerun_causes, thrown_away

BEFORE = 4.0
"""Seconds over which the rate before is measured."""
STEP = 0.05
WINDOW = 0.5
"""Seconds over which the rate after is measured."""
RATE_BAR = 0.8


def report(scenario: str, lab: Laboratory, evidence: Evidence, *figures: Figure) -> Report:
    """Return what a scenario came to: its figures, and what the checker says."""
    exits = sum(len(worker.exits) for worker in lab.workers)
    refused = [call for call in evidence.calls if call.error not in {None, "RolledBackError"}]
    counts = {
        "acknowledged": sum(len(call.ids) for call in evidence.calls),
        "refused_calls": Counter(call.error for call in refused),
        "jobs": len(evidence.jobs),
        "statuses": Counter(job.status for job in evidence.jobs.values()),
        "runs": len(evidence.runs),
        "reruns": rerun_causes(evidence),
        "overlaps": overlaps(evidence),
        "fenced": len(evidence.fenced),
        "losses": loss_causes(evidence),
        "thrown_away": thrown_away(evidence),
        "exits": exits,
    }
    return Report(
        scenario,
        [*figures, Figure("violations", len(found := check(evidence)), bar=0)],
        violations=found,
        counts=counts,
    )


def lost(evidence: Evidence) -> Figure:
    """The acknowledged jobs that are not there."""
    missing = {job for call in evidence.calls for job in call.ids} - evidence.jobs.keys()
    return Figure("acknowledged enqueues lost", len(missing), bar=0)


def exits(lab: Laboratory) -> Figure:
    """The workers that ended by themselves."""
    return Figure("workers that ended by themselves", sum(len(each.exits) for each in lab.workers), bar=0)


def losses(evidence: Evidence) -> Figure:
    """The losses that jobs were charged."""
    charged = sum(each.reason == "lost" for job in evidence.jobs.values() for each in job.attempts)
    return Figure("losses charged", charged, bar=0)


def done_between(evidence: Evidence, began: float, ended: float) -> int:
    """Return how many runs came to their end in a time."""
    return sum(run.how == "ok" and began <= (run.ended or 0) < ended for run in evidence.runs)


def recovery(evidence: Evidence, began: float, up: float, within: float = 30.0) -> float:
    """Return the seconds from *up* until jobs end at four fifths of the rate that they had before *began*."""
    wanted = RATE_BAR * done_between(evidence, began - BEFORE, began) / BEFORE
    after = 0.0
    while after < within and done_between(evidence, up + after, up + after + WINDOW) / WINDOW < wanted:
        after += STEP
    return after
