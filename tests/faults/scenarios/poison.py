"""A job that ends its process each time: its losses are counted, and others beside it are not harmed."""

from __future__ import annotations

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.scenarios.common import report

LOSSES = 3
BESIDE_OTHERS = 2
"""Losses after which a job runs alone: only what it loses then counts."""


async def run(size: Size) -> Report:
    """Run poisonous jobs beside harmless ones that take longer; workers that died are started again."""
    poisonous, harmless = {"short": (1, 12), "full": (3, 60)}[size]
    async with laboratory() as lab:
        await lab.crew(3, "--concurrency", "10", "--lease-ttl", "5")
        await lab.enqueue("plain", harmless, seconds=2, first=100, max_losses=LOSSES)
        await lab.enqueue("poison", poisonous, seconds=0.5, max_losses=LOSSES)
        evidence = await lab.finish()
        runs = evidence.runs_by_job()
        jobs = evidence.jobs.values()
        deaths = [len(runs[job.id]) for job in jobs if job.task == "poison"]
        harmed = sum(job.task == "plain" and job.status != "succeeded" for job in jobs)
        return report(
            "poison",
            lab,
            evidence,
            Figure("processes that a poisonous job ended", max(deaths), bar=LOSSES + BESIDE_OTHERS + 1),
            Figure("poisonous jobs that failed", sum(job.reason == "worker_lost" for job in jobs)),
            Figure("harmless jobs that failed", harmed, bar=0),
        )
