"""Why a job ran more than once: each rerun has a cause, or is a violation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from faults.evidence import Evidence, Run

RESCUED_WITHIN = 30.0
"""Seconds after a disturbance within which what it did to a lease shows."""
APART_AFTER = 2
"""Losses after which a job runs alone in its worker, as docs/how-to/retry.md says."""
CUTS_OFF = frozenset({
    "restart", "crash", "outage", "frozen", "frozen_server", "silence", "cut", "backends", "connections",
    "login", "disk", "clock", "failover", "pooler", "host", "block",
})  # fmt: skip
"""What may keep an outcome that a worker has from being written, or cost a worker its lease."""


def explain_rerun(evidence: Evidence, before: Run, after: Run) -> str | None:
    """Return why *after* followed *before*, runs of one job; None: nothing explains it."""
    retried = (
        [
            each
            for each in evidence.jobs[after.job].attempts
            if each.attempt == before.attempt and each.reason != "lost"
        ]
        if after.job in evidence.jobs
        else []
    )
    if before.how not in {None, "ok"} and any(each.reason == "exception" for each in retried):
        return "retried"
    died = evidence.deaths.get(before.worker)
    if died is not None and died <= after.began:
        if before.worker in evidence.kills:
            return "killed"
        if before.worker in evidence.terminated:
            return "stopped"
        return "ended"
    if before.worker in evidence.terminated and evidence.terminated[before.worker] <= after.began:
        return "stopped"
    # The lease may have been lost to something that was over before the run began.
    for span in reversed(evidence.touched(before.began - RESCUED_WITHIN, after.began, before.worker)):
        if span.fault in CUTS_OFF:
            return f"cut off: {span.fault}"
    return None


def check_reruns(evidence: Evidence) -> Iterator[str]:
    """Whatever ran again did so because of a retry, or because its worker was disturbed."""
    for job, runs in evidence.runs_by_job().items():
        for before, after in pairwise(runs):
            if explain_rerun(evidence, before, after) is None:
                yield (
                    f"unexplained rerun of job {job} ({after.task}): the run in {before.worker} "
                    f"({before.how}) was followed by one in {after.worker}"
                )


def check_overlaps(evidence: Evidence) -> Iterator[str]:
    """A job runs twice at once only where its first worker was cut off."""
    for job, runs in evidence.runs_by_job().items():
        for before, after in pairwise(runs):
            if evidence.end_of(before) <= after.began + 0.001:
                continue
            if not evidence.touched(before.began - RESCUED_WITHIN, after.began, before.worker):
                yield (
                    f"job {job} ({after.task}) ran twice at once, in {before.worker} and {after.worker}; "
                    "nothing was disturbed"
                )


def rerun_causes(evidence: Evidence) -> Counter[str]:
    """Return how many reruns each cause had."""
    return Counter(
        explain_rerun(evidence, before, after) or "unexplained"
        for runs in evidence.runs_by_job().values()
        for before, after in pairwise(runs)
    )


def overlaps(evidence: Evidence) -> int:
    """Return how many runs began while another run of the same job went on."""
    return sum(
        evidence.end_of(before) > after.began + 0.001
        for runs in evidence.runs_by_job().values()
        for before, after in pairwise(runs)
    )


def kill_to_rerun(evidence: Evidence, *, is_apart: bool | None = None) -> list[float]:
    """Return the seconds from a kill to the next start of each job that it interrupted, in order.

    *is_apart*: only of jobs that were lost so often that they run alone in their worker, or only of others.
    One that runs alone waits until its worker has ended the rest, whenever it was rescued.
    """
    found: list[float] = []
    for runs in evidence.runs_by_job().values():
        losses = 0
        for before, after in pairwise(runs):
            killed = evidence.kills.get(before.worker)
            if killed is not None and before.ended is None and before.began <= killed <= after.began:
                losses += 1
                if is_apart is None or is_apart == (losses >= APART_AFTER):
                    found.append(after.began - killed)
    return sorted(found)


def kill_to_rescue(evidence: Evidence) -> list[float]:
    """Return the seconds from each kill until all that its worker held is back in the queue, in order."""
    found = [
        at - evidence.kills[evidence.names[worker]]
        for worker, at in evidence.rescues.items()
        if evidence.names.get(worker) in evidence.kills
    ]
    return sorted(found)


def zombies(evidence: Evidence) -> list[Run]:
    """Return the runs that went on after another worker had been given their job."""
    return [
        before
        for runs in evidence.runs_by_job().values()
        for before, after in pairwise(runs)
        if before.worker != after.worker and before.ended is not None and before.ended > after.began
    ]


def thrown_away(evidence: Evidence) -> int:
    """Return how many runs succeeded in workers that lived on, and did not count."""
    found = 0
    for job_id, runs in evidence.runs_by_job().items():
        done = [run for run in runs if run.how == "ok" and run.worker not in evidence.kills]
        job = evidence.jobs.get(job_id)
        is_done = job is not None and job.status == "succeeded"
        found += max(0, len(done) - is_done)
    return found
