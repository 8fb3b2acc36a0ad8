"""What must never be, whatever was done to processes and servers: one rule for each promise.

Each rule reads the evidence, and returns a sentence for each violation that it finds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from faults.evidence import TERMINAL, Evidence, Run, StoredJob
from faults.losses import SLACK, losses_have_a_cause
from faults.order import check_limits, check_order
from faults.reruns import check_overlaps, check_reruns

Rule = Callable[[Evidence], Iterable[str]]

SHOWN = 3
"""Violations of a rule that are told one by one."""
MEANT_TO_FAIL = {("poison", "worker_lost"), ("block", "hard_timeout")}
"""Tasks, and the reasons for which they are there to fail."""


def check(evidence: Evidence) -> list[str]:
    """Return what was violated: nothing, if all is well."""
    found: list[str] = []
    for rule in RULES:
        if rule in TIMED and not evidence.is_clock_steady:
            continue
        violations = list(rule(evidence))
        found += violations[:SHOWN]
        if len(violations) > SHOWN:
            found.append(f"... and {len(violations) - SHOWN} more of {rule.__name__}")
    return found


def no_trouble(evidence: Evidence) -> Iterator[str]:
    """The experiment went on to its end."""
    yield from evidence.troubles


def nothing_lost(evidence: Evidence) -> Iterator[str]:
    """What was acknowledged is there, as it was enqueued."""
    for call in evidence.calls:
        for job in call.ids:
            if job not in evidence.jobs:
                yield f"lost: job {job}, acknowledged to a call of kind {call.kind}"


def nothing_half(evidence: Evidence) -> Iterator[str]:
    """Of several jobs enqueued in one call there are all or none."""
    numbers = {job.n for job in evidence.jobs.values()}
    for call in evidence.calls:
        if call.kind == "bulk" and 0 < sum(n in numbers for n in call.ns) < len(call.ns):
            yield f"half: of the call about {call.ns} there is only a part"


def never_sent_is_never_there(evidence: Evidence) -> Iterator[str]:
    """A call that says that it cannot have happened has not; nor is there a job that nobody enqueued."""
    by_number: dict[int | None, list[StoredJob]] = {}
    for job in evidence.jobs.values():
        if job.task not in {"link", "body"}:
            by_number.setdefault(job.n, []).append(job)
    for call in evidence.calls:
        if call.error is not None and not call.may_have_happened and call.key is None:
            for n in call.ns:
                if n in by_number:
                    yield f"there in spite of {call.error}: job {by_number[n][0].id} (n = {n})"
    for call in evidence.calls:
        for n in call.ns if call.key is None else ():
            if len(by_number.get(n, [])) > 1:
                yield f"two jobs of one call: {[job.id for job in by_number[n]]}"


def errors_are_typed(evidence: Evidence) -> Iterator[str]:
    """What a call raises is pgqueue's error; on a caller's own connection it is what the driver says."""
    for call in evidence.calls:
        if call.kind != "transaction" and call.error not in {None, "DatabaseUnavailableError"}:
            yield f"a call of kind {call.kind} raised {call.error}"


def one_transaction(evidence: Evidence) -> Iterator[str]:
    """A job enqueued in a caller's transaction is there if and only if what else it wrote is."""
    jobs = Counter(job.n for job in evidence.jobs.values())
    for call in evidence.calls:
        if call.kind == "transaction" and jobs[call.ns[0]] != evidence.orders[call.ns[0]]:
            yield (
                f"torn transaction: {jobs[call.ns[0]]} jobs and {evidence.orders[call.ns[0]]} rows "
                f"of number {call.ns[0]}"
            )


def one_job_for_a_key(evidence: Evidence) -> Iterator[str]:
    """An idempotency key has one job."""
    found: dict[tuple[str, int], set[str]] = {}
    for call in evidence.calls:
        if call.key is not None and call.ids:
            # Each enqueuer has keys of its own, far from those of others.
            found.setdefault((call.key, call.ns[0] // 3), set()).update(call.ids)
    for (key, _), jobs in found.items():
        if len(jobs) > 1:
            yield f"two jobs for the idempotency key {key}: {sorted(jobs)}"


def one_place(evidence: Evidence) -> Iterator[str]:
    """A live job stands in one table, one that has ended in none."""
    for job in evidence.jobs.values():
        if job.places != (job.status not in TERMINAL):
            yield f"job {job.id} is {job.status}, and stands in {job.places} tables"
    if evidence.strays:
        yield f"{evidence.strays} rows are about jobs that are not there"


def all_end(evidence: Evidence) -> Iterator[str]:
    """All jobs have ended once nothing is disturbed any more."""
    for job in evidence.jobs.values():
        if job.status not in TERMINAL:
            yield f"job {job.id} ({job.task}) is still {job.status}"


def one_end(evidence: Evidence) -> Iterator[str]:
    """A job ends once, and stays as it ended."""
    for job in evidence.jobs.values():
        ends = [status for status, _ in job.ends]
        if job.status in TERMINAL and ends != [job.status]:
            yield f"job {job.id} is {job.status}; the database saw it end as {ends}"


def outcomes_count_once(evidence: Evidence) -> Iterator[str]:
    """At most one outcome that ends a job is accepted, and it is the one that the database has."""
    for job_id, accepted in evidence.accepted_by_job().items():
        ends = [each for each in accepted if each.status in TERMINAL]
        if len(ends) > 1:
            yield f"two outcomes of job {job_id} were accepted: {[(e.status, e.worker) for e in ends]}"
        job = evidence.jobs.get(job_id)
        for each in ends:
            if job is not None and job.status != each.status:
                yield f"job {job_id} is {job.status}; its worker was told that it is {each.status}"


def no_zombie_is_heard(evidence: Evidence) -> Iterator[str]:
    """What a worker says of a job that has been given to another one does not count."""
    runs = evidence.runs_by_job()
    for job_id, accepted in evidence.accepted_by_job().items():
        for each in accepted:
            if each.status not in TERMINAL:
                # Whoever retries it may begin before this one has noted that it failed.
                continue
            mine = [run for run in runs.get(job_id, []) if run.worker == each.worker and run.began <= each.at]
            if mine and any(
                mine[-1].began < run.began < each.at for run in runs[job_id] if run.worker != each.worker
            ):
                yield (
                    f"zombie: worker {each.worker} ended job {job_id} as {each.status} after another one "
                    "had started it"
                )


def attempts_end_once(evidence: Evidence) -> Iterator[str]:
    """An attempt fails once; a lost one is not counted, and what runs again has its number."""
    for job in evidence.jobs.values():
        failed = Counter(each.attempt for each in job.attempts if each.reason == "exception")
        for attempt, count in failed.items():
            if count > 1:
                yield f"attempt {attempt} of job {job.id} failed {count} times"


def nothing_starts_after_its_end(evidence: Evidence) -> Iterator[str]:
    """A job that has ended is not started, unless by a process that could not know."""
    for job_id, runs in evidence.runs_by_job().items():
        job = evidence.jobs.get(job_id)
        if job is None or not job.ends:
            continue
        ended = job.ends[-1][1]
        for run in runs:
            if run.began > ended + SLACK and not evidence.touched(ended - 1, run.began, run.worker):
                yield f"job {job_id} ended as {job.status}, and was started {run.began - ended:.2f} s later"


def nothing_starts_early(evidence: Evidence) -> Iterator[str]:
    """A delayed job does not start before its time."""
    for run in evidence.runs:
        job = evidence.jobs.get(run.job)
        if job is not None and job.run_at is not None and run.began < job.run_at - SLACK:
            yield f"job {run.job} was started {job.run_at - run.began:.2f} s before its time"


def succeeded_means_done(evidence: Evidence) -> Iterator[str]:
    """A job that succeeded has run to its end, and its result is what that run returned."""
    runs = evidence.runs_by_job()
    for job in evidence.jobs.values():
        if job.status != "succeeded":
            continue
        done = [run for run in runs.get(job.id, []) if run.how == "ok"]
        if not done and not _ended_by_transaction(job, runs.get(job.id, [])):
            yield f"job {job.id} ({job.task}) succeeded, and no run of it came to its end"
        if any(run.n != job.result for run in done):
            yield f"job {job.id} ({job.task}) has the result {job.result}, and not {done[0].n}"


def _ended_by_transaction(job: StoredJob, runs: list[Run]) -> bool:
    """Whether it ended by a commit of its handler, which was stopped before it could note its end."""
    return job.task == "money" and bool(runs) and job.ledger == 1


def failures_are_explained(evidence: Evidence) -> Iterator[str]:
    """A job fails if it may not run again, and its worker was disturbed; and for nothing else here."""
    runs = evidence.runs_by_job()
    for job in evidence.jobs.values():
        if job.status not in {"failed", "expired"}:
            continue
        if (job.task, job.reason) in MEANT_TO_FAIL:
            continue
        is_lost = job.task in {"once", "fragile"} and job.reason == "worker_lost"
        # Without a start on record it was claimed, and its worker was killed before it could note more.
        if is_lost and all(_was_disturbed(evidence, run, job) for run in runs.get(job.id, [])):
            continue
        yield f"job {job.id} ({job.task}) failed: {job.reason}, {job.error}"


def _was_disturbed(evidence: Evidence, run: Run, job: StoredJob) -> bool:
    ended = job.ends[-1][1] if job.ends else math.inf
    return run.worker in evidence.kills or bool(evidence.touched(run.began - 1, ended, run.worker))


def at_most_once(evidence: Evidence) -> Iterator[str]:
    """A job that is acknowledged early starts once at most."""
    for job_id, runs in evidence.runs_by_job().items():
        if runs[0].task == "once" and len(runs) > 1:
            yield f"job {job_id} is to run at most once, and was started {len(runs)} times"


def effects_follow_the_outcome(evidence: Evidence) -> Iterator[str]:
    """What a job writes in its transaction is there once if it succeeded, and not at all otherwise."""
    for job in evidence.jobs.values():
        if job.task == "money" and job.ledger != (job.status == "succeeded"):
            yield f"job {job.id} is {job.status}, and has written {job.ledger} rows"


def steps_keep_their_results(evidence: Evidence) -> Iterator[str]:
    """A step that has returned returns the same whenever its job runs again."""
    for job, receipts in evidence.receipts.items():
        if len(receipts) > 1:
            yield f"a step of job {job} returned {sorted(receipts)}"


def cancelled_means_cancelled(evidence: Evidence) -> Iterator[str]:
    """A cancel that was heard ends its job, unless the job was about to end by itself."""
    for job_id, is_heard, _ in evidence.cancels:
        job = evidence.jobs.get(job_id)
        if job is None or job.status not in TERMINAL:
            continue
        runs = [run for run in evidence.runs if run.job == job_id]
        if is_heard and job.status != "cancelled" and not any(run.how == "ok" for run in runs):
            yield f"job {job_id} was cancelled, and is {job.status}"
        if not is_heard and job.status == "cancelled" and len(job.ends) != 1:
            yield f"job {job_id} was cancelled by a call that says it had ended"


def runs_of_one_worker_do_not_meet(evidence: Evidence) -> Iterator[str]:
    """A worker that lives does not start a job again that it is still running."""
    for job_id, runs in evidence.runs_by_job().items():
        for before, after in pairwise(runs):
            if before.worker == after.worker and evidence.end_of(before) > after.began + SLACK:
                yield f"worker {after.worker} started job {job_id} while it was running it"


RULES: tuple[Rule, ...] = (
    no_trouble,
    nothing_lost,
    nothing_half,
    never_sent_is_never_there,
    errors_are_typed,
    one_transaction,
    one_job_for_a_key,
    one_place,
    all_end,
    one_end,
    outcomes_count_once,
    no_zombie_is_heard,
    attempts_end_once,
    nothing_starts_after_its_end,
    nothing_starts_early,
    succeeded_means_done,
    failures_are_explained,
    at_most_once,
    effects_follow_the_outcome,
    steps_keep_their_results,
    cancelled_means_cancelled,
    losses_have_a_cause,
    runs_of_one_worker_do_not_meet,
    check_reruns,
    check_overlaps,
    check_order,
    check_limits,
)

TIMED = frozenset(
    {nothing_starts_after_its_end, nothing_starts_early, losses_have_a_cause, check_order, check_limits}
)
"""Those that compare times of the database with times of the records."""
