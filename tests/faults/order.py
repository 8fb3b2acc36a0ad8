"""The order of ordered jobs, and the limits of limited ones.

A run whose worker was cut off holds its place no longer than the database thinks; its handler may go on until
the worker notices. So a run is over when the database had the job's end, or when it was started again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from faults.evidence import Evidence, Run
from faults.load import SLOTS

SLACK = 0.005


def check_order(evidence: Evidence) -> Iterator[str]:
    """A job of a key starts once those that were enqueued before it have ended; one at a time runs."""
    runs = evidence.runs_by_job()
    enqueued = {
        job: (call.began, call.acknowledged, place)
        for call in evidence.calls
        if call.acknowledged is not None
        for place, job in enumerate(call.ids)
    }
    by_key: dict[str, list[str]] = defaultdict(list)
    for stored in evidence.jobs.values():
        is_known = stored.id in enqueued and stored.id in runs
        if stored.task == "ordered" and is_known and stored.key is not None:
            by_key[stored.key].append(stored.id)
    for key, ids in by_key.items():
        jobs = sorted(ids, key=lambda job: runs[job][0].began)
        # Of those that were started later, the one whose enqueueing was over first.
        first: str | None = None
        for job in reversed(jobs):
            began, acknowledged, place = enqueued[job]
            if first is not None:
                its_began, its_end, its_place = enqueued[first]
                if its_end < began or (its_began == began and its_place < place):
                    yield f"order of key {key}: job {job} was started before {first}, enqueued before it"
            if first is None or (acknowledged, place) < enqueued[first][1:]:
                first = job
        yield from _check_turns(evidence, runs, jobs, key)


def _check_turns(evidence: Evidence, runs: dict[str, list[Run]], jobs: list[str], key: str) -> Iterator[str]:
    """One job of a key at a time: the next starts when the one before it has ended, and not before."""
    for before, after in pairwise(jobs):
        ended = evidence.jobs[before].ends[-1][1] if evidence.jobs[before].ends else float("inf")
        if runs[after][0].began < ended - SLACK:
            yield f"order of key {key}: job {after} was started before {before} had ended"


def check_limits(evidence: Evidence) -> Iterator[str]:
    """No more jobs of a key run at once than have slots."""
    events: dict[str, list[tuple[float, int, str]]] = defaultdict(list)
    for job_id, runs in evidence.runs_by_job().items():
        job = evidence.jobs.get(job_id)
        if job is None or job.task != "limited" or job.key is None:
            continue
        ended = job.ends[-1][1] if job.ends else float("inf")
        for run, following in zip(runs, [*runs[1:], None], strict=True):
            over = min(evidence.end_of(run), ended, following.began if following else float("inf"))
            events[job.key] += [(run.began, 1, job_id), (over, -1, job_id)]
    for key, moments in events.items():
        count = 0
        for at, change, job_id in sorted(moments):
            count += change
            if count > SLOTS:
                yield f"limit of key {key}: job {job_id} was the {count}th to run at once, at {at:.3f}"
