"""The primary is lost and its standby is promoted, under load.

Where commits wait for the standby, nothing that was acknowledged is lost. Where they do not, what the standby
had not received by then is: as if it had never been, whole transactions at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from kit.servers import PROGRAMS

from faults.checker import (
    all_end,
    effects_follow_the_outcome,
    never_sent_is_never_there,
    no_trouble,
    nothing_half,
    one_end,
    one_place,
    one_transaction,
    succeeded_means_done,
)
from faults.clusters import DEBIAN_15, Cluster, cluster, under_load
from faults.evidence import Evidence
from faults.figures import Figure, Report, Size
from faults.laboratory import Laboratory, laboratory
from faults.processes import WorkerProcess
from faults.scenarios.common import exits, lost, report

FOLLOWED_WITHIN = 10.0
BEHIND = 0.5
"""Seconds that the asynchronous standby is behind when its primary is lost."""
AS_ONE = (
    no_trouble, nothing_half, never_sent_is_never_there, one_transaction, one_place, all_end, one_end,
    succeeded_means_done, effects_follow_the_outcome,
)  # fmt: skip
"""What holds also where the end of the history is lost."""


async def run(size: Size) -> Report:
    """Lose the primary while commits wait for the standby."""
    versions = [PROGRAMS] if size == "short" else [PROGRAMS, DEBIAN_15]
    reports = []
    for programs in versions:
        async with (
            cluster(is_synchronous=True, programs=programs) as servers,
            laboratory(server=servers.primary, dsn=servers.dsn) as lab,
        ):
            promoted = await _lose_primary(size, lab, servers)
            left = []
            if size == "full":
                # Its data may have gone on where the standby's have not: they are copied anew.
                await servers.take_back(anew=True)
                within = await servers.until_left()
                left = [Figure("the old primary, made anew, was left after", within, "s", FOLLOWED_WITHIN)]
            evidence = await lab.finish()
            figures = [*followed(evidence, lab.workers, promoted), *left]
            reports.append(report("failover", lab, evidence, *figures, lost(evidence), exits(lab)))
    return merged(reports)


async def run_asynchronous(size: Size) -> Report:
    """Lose the primary while its standby is behind, and nothing waits for that."""
    async with (
        cluster(is_synchronous=False) as servers,
        laboratory(server=servers.primary, dsn=servers.dsn) as lab,
    ):
        promoted = await _lose_primary(size, lab, servers, behind=BEHIND)
        evidence = await lab.finish()
        made = Report("failover_asynchronous", followed(evidence, lab.workers, promoted))
        made.violations = half_done(evidence)
        made.figures += [*what_was_lost(evidence), exits(lab)]
        return made


async def _lose_primary(size: Size, lab: Laboratory, servers: Cluster, *, behind: float = 0.0) -> float:
    """Crash the primary under load and promote its standby; return when that took writes."""
    before, after = {"short": (1.0, 8.0), "full": (10.0, 20.0)}[size]
    await lab.crew(3, "--concurrency", "10")
    await lab.enqueuer(60, before + behind + after)
    await under_load(servers.primary)
    await asyncio.sleep(before)
    async with lab.disturbed("failover"):
        if behind:
            # What is under way to it would reach it, if it only stood still.
            await servers.standby.crash()
            await asyncio.sleep(behind)
        # All of its processes at once: nobody is told.
        servers.primary.kill()
        await servers.standby.ensure_started()
        await servers.standby.promote()
        promoted = time.monotonic()
        lab.server = servers.promoted
    return promoted


def followed(evidence: Evidence, workers: Sequence[WorkerProcess], promoted: float) -> list[Figure]:
    """How long after the promotion the first call was acknowledged, and each worker had started a job."""
    times = [call.acknowledged for call in evidence.calls if call.ids and call.acknowledged is not None]
    first = min((at - promoted for at in times if at > promoted), default=None)
    began = {
        worker.pid: min(
            (run.began for run in evidence.runs if run.worker == worker.pid and run.began > promoted),
            default=None,
        )
        for worker in workers
    }
    last = None if None in began.values() else max(each or 0 for each in began.values()) - promoted
    return [
        Figure("calls went on after", first, "s", FOLLOWED_WITHIN),
        Figure("all workers went on after", last, "s", FOLLOWED_WITHIN),
    ]


def half_done(evidence: Evidence) -> list[str]:
    """Return what was violated, although the end of the history may be lost."""
    return [each for rule in AS_ONE for each in list(rule(evidence))[:3]]


def what_was_lost(evidence: Evidence) -> list[Figure]:
    """What had been acknowledged, or accepted, and is not there."""
    missing = {job for call in evidence.calls for job in call.ids} - evidence.jobs.keys()
    undone = {each.job for each in evidence.accepted} - evidence.jobs.keys()
    again = [runs for runs in evidence.runs_by_job().values() if runs[0].task == "once" and len(runs) > 1]
    return [
        Figure("acknowledged enqueues lost", len(missing)),
        Figure("of these had run", len(undone)),
        Figure("jobs to run at most once that ran twice", len(again)),
    ]


def merged(reports: list[Report]) -> Report:
    """Return what several runs of one scenario came to: the worst of each figure."""
    first, *others = reports
    for other in others:
        first.violations += other.violations
        for place, (mine, its) in enumerate(zip(first.figures, other.figures, strict=True)):
            if mine.value is None or (its.value is not None and its.value <= mine.value):
                continue
            first.figures[place] = its
    return first
